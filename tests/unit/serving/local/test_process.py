"""Processes: known by id and start, watched, ended."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from upkeep.serving.local.process import Identity, Process, last_words, started, trim

SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
STUBBORN = [
    sys.executable, "-S", "-u", "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on'); time.sleep(60)",
]  # fmt: skip


def spawn(folder: Path, command: list[str]) -> Process:
    return Process.spawn(command, log=folder / "log", environ=os.environ, cwd=folder)


def test_a_child_is_seen_to_end_and_how(tmp_path: Path) -> None:
    async def run() -> tuple[str, str]:
        killed, failed = spawn(tmp_path, SLEEP), spawn(tmp_path, [sys.executable, "-S", "-c", "raise SystemExit(3)"])
        waiting = asyncio.create_task(killed.wait())
        await asyncio.sleep(0)
        killed.signal(signal.SIGKILL)
        result = await waiting, await failed.wait()
        assert (killed.alive, failed.code, killed.code) == (False, 3, None)
        return result

    assert asyncio.run(run()) == ("was ended by SIGKILL", "ended with exit code 3")


def test_an_adopted_process_is_watched_and_ended_though_it_is_no_child(tmp_path: Path) -> None:
    script = f"import subprocess as s; print(s.Popen({SLEEP!r}, stdout=-3, stderr=-3, start_new_session=True).pid)"
    pid = int(subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, text=True, check=True).stdout)
    process = Process.adopt({"pid": pid, "started": started(pid)})
    assert process is not None

    async def run() -> str:
        waiting = asyncio.create_task(process.wait())
        await process.stop(10)
        return await waiting

    assert asyncio.run(run()) == "ended"
    assert not process.alive


def test_an_id_that_was_given_away_again_is_another_process() -> None:
    pid = os.getpid()
    assert Process.adopt({"pid": pid, "started": started(pid)}) is not None
    assert Process.adopt({"pid": pid, "started": "1"}) is None
    for record in (None, {}, {"pid": "x", "started": "1"}, {"pid": 2**22 + 1, "started": "1"}):
        assert Process.adopt(record) is None


def test_a_signal_to_another_process_with_the_id_is_not_sent(tmp_path: Path) -> None:
    child = spawn(tmp_path, SLEEP)
    Process(Identity(pid=child.identity.pid, started="1")).signal(signal.SIGKILL)
    assert child.alive
    asyncio.run(child.stop(10))


def test_what_does_not_listen_is_killed(tmp_path: Path) -> None:
    process = spawn(tmp_path, STUBBORN)

    async def run() -> str:
        while not (tmp_path / "log").read_bytes():
            await asyncio.sleep(0.01)
        await process.stop(0.1)
        return await process.wait()

    assert asyncio.run(run()) == "was ended by SIGKILL"


@pytest.mark.parametrize(
    ("text", "words"),
    [("", ""), ("one\ntwo\n\n", "two"), ("error: no model\n    fix it\n", "error: no model"), ("\xff", "\ufffd"),
     ("it broke\n2026-03-01 12:00:00,123 INFO Started server process [7]\n", "it broke")],
)  # fmt: skip
def test_last_words(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "log").write_bytes(text.encode("latin-1"))
    assert last_words(tmp_path / "log") == words
    assert last_words(tmp_path / "none") == ""


def test_a_log_stays_bounded_while_its_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"x" * 100)
        trim(log, most=40)
        writer.write(b"y")
    assert log.read_bytes() == b"y"
    assert (tmp_path / "log.1").read_bytes() == b"x" * 40
    trim(log, most=40)
    assert log.read_bytes() == b"y"
    trim(tmp_path / "none")
