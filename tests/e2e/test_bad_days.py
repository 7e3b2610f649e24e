"""What goes wrong around an update, as the person at the command line sees it: a clear error with its place and what
to do, the right exit code, no traceback; nothing lost, nothing half-written, and the next update works.

Bad data's rules are in tests/unit/data/test_bad_input.py, a store's in tests/contract/test_store.py, Git's in
tests/contract/test_git.py. Most updates here run the components in this process, one after the other, as kfp.local
does in theirs: ten times as fast.
"""

from __future__ import annotations

import contextlib
import gzip
import html
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from tests.contract.conftest import moto  # noqa: F401 - a fixture
from tests.e2e import test_update
from tests.e2e.test_update import month
from tests.somebody import somebody_else
from upkeep import records
from upkeep.cli.main import main
from upkeep.update.record import UpdateRecord

UPKEEP = Path(sys.executable).parent / "upkeep"
ONE = test_update.ONE + "  min_rows: 50\n"
STEPS = ("collect", "preprocess", "drift", "train", "evaluate", "deploy")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a spec, a good month, and a folder for temporary files of its own."""
    work = tmp_path / "work"
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o777)  # for somebody else, too
    work.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.chdir(work)
    (work / "upkeep.yaml").write_text(ONE)
    month(work, "2024-01", slope=1, seed=1, rows=400)
    return work


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Runs a command in this process: its exit code and what it said on standard error."""

    def run(*words: str) -> tuple[int, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main(list(words))
        said = capfd.readouterr().err
        assert "Traceback" not in said
        assert "a bug" not in said
        assert isinstance(stop.value.code, int)
        return stop.value.code, said

    return run


Call = Callable[..., tuple[int, str]]


def nothing_left(place: Path) -> None:
    """No temporary file, no version, no commit, no lock that is held."""
    assert [path.name for path in (place.parent / "tmp").iterdir()] == []
    assert list(place.glob("store/churn/versions/*")) == []
    releases = place / "store/churn/releases.git"
    if releases.exists():
        done = subprocess.run(["git", "--git-dir", releases, "rev-list", "--all"], capture_output=True, check=True)
        assert done.stdout == b""
    free(place)
    assert [path.name for path in place.rglob("*") if "partial" in path.name or "#" in path.name] == []


def free(place: Path) -> None:
    """The newest epoch is over: those before it are past, whether renewed or released."""
    locks = sorted(path.name for path in place.glob("store/churn/lock/update/*"))
    assert not locks or locks[-1] == f"{locks[-1].partition('.')[0]}.released.json", locks


# ---- data: `upkeep check` and `upkeep drift` ----

Change = Callable[[pd.DataFrame], pd.DataFrame]


def write(rows: pd.DataFrame, path: Path) -> None:
    if path.name.endswith(".parquet"):
        rows.to_parquet(path, index=False)
        return
    data = rows.to_csv(index=False).encode()
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)


def replaced(place: Path, name: str, change: Change = lambda rows: rows) -> Path:
    """The month's rows, changed, as a file of another name in its place."""
    old = place / "data/period=2024-01/rows.parquet"
    rows = change(pd.read_parquet(old))
    old.unlink()
    write(rows, old.with_name(name))
    return old.with_name(name)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cp1252(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"pro", "pré".encode("cp1252")))


def semicolons(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b",", b";"))


def twice(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"age,spend", b"age,age", 1))


FILES: dict[str, tuple[str, Change, Callable[[Path], Any] | None, str]] = {
    "empty csv": ("r.csv", lambda rows: rows, lambda path: path.write_bytes(b""), "the file is empty"),
    "empty parquet": ("r.parquet", lambda rows: rows, lambda path: path.write_bytes(b""), "the file is empty"),
    "header only": ("r.csv", lambda rows: rows[:0], None, "no rows"),
    "wrong delimiter": ("r.csv", lambda rows: rows, semicolons, "data.delimiter: ';'"),
    "wrong encoding": ("r.csv", lambda rows: rows, cp1252, "data.encoding"),
    "truncated gzip": ("r.csv.gz", lambda rows: rows, cut, "cut off"),
    "truncated parquet": ("r.parquet", lambda rows: rows, cut, "cut off"),
    "duplicate columns": ("r.csv", lambda rows: rows, twice, "more than one column named age"),
    "missing target": ("r.parquet", lambda rows: rows.drop(columns="left"), None, "left"),
    "columns that are not": ("r.parquet", lambda rows: rows.rename(columns={"age": "Age"}), None, "did you mean Age?"),
    "one class only": ("r.parquet", lambda rows: rows.assign(left=True), None, "the same label"),
    "a column all null": ("r.parquet", lambda rows: rows.assign(age=None), None, "no value in any training row"),
    "infinite values": ("r.parquet", lambda rows: rows.assign(age=float("inf")), None, "age is infinite"),
    "mixed types": (
        "r.csv",
        lambda rows: rows.assign(age=[*(["old"] * 99), *rows["age"].astype(str)[99:]]),
        None,
        "99 × age is not a number",
    ),
    "ids twice": (
        "r.parquet",
        lambda rows: rows.assign(id=[f"{n % 200}" for n in range(len(rows))]),
        None,
        "id comes twice with different content",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_check_names_the_file_what_is_wrong_and_what_to_do(name: str, place: Path, call: Call) -> None:
    file, change, damage, words = FILES[name]
    path = replaced(place, file, change)
    if damage:
        damage(path)
    before = sorted(place.rglob("*"))
    code, said = call("check")
    assert code == 2
    assert words in said
    assert "→" in said
    assert "data" in said
    assert "/tmp/upkeep-check" not in said
    assert str(place.parent / "tmp") not in said, "it names a file that is already gone"
    assert sorted(place.rglob("*")) == before
    nothing_left(place)


def test_check_tells_of_too_few_held_out_rows_before_an_update_does(place: Path, call: Call) -> None:
    replaced(place, "r.csv", lambda rows: rows.head(100))
    code, said = call("check")
    assert code == 0
    assert "rows are held out, and the gate asks for 50: so far no verdict can be a pass" in " ".join(said.split())


@pytest.mark.parametrize(
    "name", ["empty csv", "empty parquet", "wrong encoding", "truncated gzip", "truncated parquet", "duplicate columns"]
)
def test_drift_of_two_files_names_the_bad_one(name: str, place: Path, call: Call) -> None:
    file, _change, damage, _ = FILES[name]
    good = replaced(place, "good.csv")
    path = good.with_name(file)
    write(pd.read_csv(good), path)
    if damage:
        damage(path)
    for words in (("--reference", path, "--current", good), ("--reference", good, "--current", path)):
        code, said = call("drift", *map(str, words))
        assert code == 2
        assert file in said
        assert "→" in said
    nothing_left(place)


def test_dates_that_are_none_are_counted_and_past_the_limit_refused(place: Path, call: Call) -> None:
    (place / "upkeep.yaml").write_text(ONE.replace("  id: id", "  id: id\n  time: day"))
    path = place / "data/rows.csv"
    replaced(place, "r.csv", lambda rows: rows.assign(day=["2024-02-31", *(["2024-02-03"] * (len(rows) - 1))])).rename(
        path
    )
    path.with_name("period=2024-01").rmdir()
    code, said = call("check")
    assert code == 0, said
    path.write_text(path.read_text().replace("2024-02-03", "soon", 50))
    code, said = call("check")
    assert code == 2
    assert "51 × day is not a date" in said


def test_few_bad_rows_a_new_label_and_many_categories_go_on(
    place: Path, call: Call, capfd: pytest.CaptureFixture[str]
) -> None:
    (place / "upkeep.yaml").write_text(
        ONE.replace(
            "target: {column: left, positive: true}", "target: {column: left, positive: yes, classes: [no, yes]}"
        ).replace("positive: yes, classes: [no, yes]", 'positive: "yes", classes: ["no", "yes"]')
    )

    def change(rows: pd.DataFrame) -> pd.DataFrame:
        rows = pd.concat([rows] * 50, ignore_index=True)
        count = range(len(rows))
        labels = ["maybe", *(["no", "yes"] * len(rows))]
        return rows.assign(id=count, plan=[f"p{n % 10_000}" for n in count], left=labels[: len(rows)]).assign(
            age=[float("inf") if n == 7 else n % 90 + n / 1e6 for n in count]
        )

    replaced(place, "r.parquet", change)
    with pytest.raises(SystemExit) as stop:
        main(["check"])
    out, error = capfd.readouterr()
    assert stop.value.code == 0, error
    assert "20,000 rows: 2 refused" in out


def test_a_source_that_is_not_there_and_a_spec_that_is_none(place: Path, call: Call) -> None:
    (place / "upkeep.yaml").write_text(ONE.replace("source: data", "source: elsewhere"))
    code, said = call("check")
    assert (code, "elsewhere" in said, "→" in said) == (2, True, True)
    (place / "upkeep.yaml").write_bytes(b"\xff\xfe: [")
    for command in ("check", "run", "drift", "compile"):
        code, said = call(command)
        assert (code, "upkeep.yaml" in said, "→" in said) == (2, True, True)
    nothing_left(place)


# ---- this machine: permissions, a full disk ----


def test_no_permission_to_read_the_data(place: Path, call: Call) -> None:
    path = place / "data/period=2024-01/rows.parquet"
    assert call("check")[0] == 0  # everything is imported by now
    for closed in (path, path.parent):
        mode = closed.stat().st_mode
        closed.chmod(0)
        with somebody_else(place.parent):
            code, said = call("check")
        closed.chmod(mode)
        assert (code, "permission" in said or "may not" in said, "→" in said) == (3, True, True), said
        assert "retry" not in said
    nothing_left(place)


def test_no_permission_to_write_the_store(place: Path, call: Call) -> None:
    (place / "store").mkdir(mode=0o555)
    assert call("check")[0] == 0
    with somebody_else(place.parent):
        code, said = call("run")
    assert (code, "no permission" in said, str(place / "store") in said, "→" in said) == (3, True, True, True), said
    assert list((place / "store").iterdir()) == []
    nothing_left(place)


@contextlib.contextmanager
def small_disk(size: int) -> Iterator[None]:
    """No file may grow past ``size``: what a full disk does, but for the error's number."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_while_checking(place: Path, call: Call) -> None:
    assert call("check")[0] == 0
    with small_disk(2_000):
        code, said = call("check")
    assert (code, "disk is full" in said, "→" in said) == (3, True, True), said
    nothing_left(place)


# ---- updates: refused, interrupted, killed ----


class Artifact(SimpleNamespace):
    """As much of a KFP artifact as the steps use."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        super().__init__(path=str(path), metadata={}, log_confusion_matrix=self._log, log_roc_curve=self._log)

    def _log(self, *_: object) -> None: ...


def in_this_process(
    _: Any, arguments: dict[str, Any], root: Path, environment: dict[str, str], __: Any, told: Any
) -> None:
    """The update's steps, called one after the other; in place of kfp.local."""
    from upkeep.components.collect import collect
    from upkeep.components.deploy import deploy
    from upkeep.components.drift import drift
    from upkeep.components.evaluate import evaluate
    from upkeep.components.preprocess import preprocess
    from upkeep.components.train import train
    from upkeep.pipelines import run

    def artifacts(step: str, *names: str) -> dict[str, Any]:
        return {name: Artifact(root / step / name) for name in names}

    known = {name: arguments[name] for name in ("spec", "spec_digest")}
    with (
        (root / run.LOG).open("w") as log,
        contextlib.redirect_stdout(run._Lines(log, told)),
        run._set(environment),
    ):
        try:
            found = artifacts("collect", "dataset")
            collected = collect.python_func(
                **known, until=arguments["until"], accept_changed=arguments["accept_changed"], **found
            )
            dataset = {"dataset_digest": collected.dataset_digest}
            pinned = {**known, **dataset, "seen": collected.seen}
            rows = artifacts("preprocess", "prepared")
            preprocess.python_func(**pinned, **found, **rows, **artifacts("preprocess", "quarantine", "metrics"))
            champion = {"champion": collected.champion}
            report = artifacts("drift", "report")
            drift.python_func(**pinned, **champion, **rows, **report, **artifacts("drift", "page", "metrics"))
            trained = train.python_func(
                **pinned, **champion, candidate="logistic", states=collected.states, swept=collected.swept, members={},
                **rows,
                **artifacts("train", "model", "metrics"),
            )  # fmt: skip
            candidates = {"candidates": {"logistic": trained}}
            judged = artifacts("evaluate", "evaluation")
            verdict = evaluate.python_func(
                **pinned, **champion, **candidates, rounds=collected.rounds, **rows, **judged,
                **artifacts("evaluate", "metrics", "confusion", "by_slice"),
            )  # fmt: skip
            deploy.python_func(
                **known, **dataset, **champion, **candidates, verdict=verdict,
                supersede=arguments["supersede"], **found, **rows, drift=report["report"], **judged,
                **artifacts("deploy", "page", "summary"),
            )  # fmt: skip
        except Exception as error:
            raise RuntimeError("a task failed") from error


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """``upkeep run`` without a process a step, and without measuring how long an answer takes."""
    monkeypatch.setattr("upkeep.pipelines.run._run_local", in_this_process)
    monkeypatch.setattr("upkeep.update.deploy._verify", lambda *_: "")


def test_an_update_that_refuses_rows_keeps_them_where_it_says(place: Path, call: Call, quick: None) -> None:
    replaced(place, "r.parquet", FILES["infinite values"][1])
    code, said = call("run")
    assert (code, "400 × age is infinite" in said, "→" in said) == (2, True, True), said
    (kept,) = place.glob("store/churn/updates/*/quarantine.parquet")
    assert str(kept) in said
    assert len(pd.read_parquet(kept)) == 400
    nothing_left(place)


@pytest.mark.parametrize("bad", ["one class only", "truncated parquet", "columns that are not"])
def test_an_update_tells_bad_data_as_check_does(bad: str, place: Path, call: Call, quick: None) -> None:
    file, change, damage, words = FILES[bad]
    path = replaced(place, file, change)
    if damage:
        damage(path)
    code, said = call("run")
    assert (code, words in said, "→" in said) == (2, True, True), said
    nothing_left(place)
    record, page = broken_off(place)
    assert record.failed is not None
    assert record.failed.step == ("collect" if bad == "truncated parquet" else "preprocess")
    assert (record.failed.error, record.verdict.verdict, record.version) == ("DataError", "insufficient", None)
    assert words in record.verdict.summary + record.message
    assert record.failed.problems[0].fix in record.message
    assert str(page) in said
    assert f"in the step {record.failed.step}" in told(page)
    assert words in told(page)
    assert "Not finished" in told(page)
    assert "goes on serving; what to do: " in told(page)


def broken_off(place: Path) -> tuple[UpdateRecord, Path]:
    """The record and the page of the newest update."""
    folder = max(place.glob("store/churn/updates/*"))
    record = records.read(UpdateRecord, folder / "record.json")
    assert record.outcome == "failed"
    assert Path(record.page) == folder / "page.html"
    return record, folder / "page.html"


def told(page: Path) -> str:
    return " ".join(html.unescape(page.read_text()).split())


def test_a_period_that_came_back_with_other_bytes(place: Path, call: Call, quick: None) -> None:
    code, said = call("run")
    assert code == 0, said
    path = month(place, "2024-01", slope=1, seed=9, rows=400)
    code, said = call("run")
    assert (code, str(path) in said, "--accept-changed" in said) == (2, True, True), said
    assert [card.name for card in place.glob("store/churn/versions/*")] == ["v1.json"]
    free(place)
    assert list((place.parent / "tmp").iterdir()) == []


@pytest.mark.parametrize("what", ["models/*/*.skops", "versions/v1.json"])
def test_a_flipped_byte_in_the_registry(what: str, place: Path, call: Call, quick: None) -> None:
    code, said = call("run")
    assert code == 0, said
    assert call("versions", "verify", "v1")[0] == 0
    (victim,) = place.glob(f"store/churn/{what}")
    data = bytearray(victim.read_bytes())
    data[len(data) // 2 if what.startswith("models") else 0] ^= 1
    victim.unlink()
    victim.write_bytes(bytes(data))
    code, said = call("versions", "verify", "v1")
    assert (code, victim.name in said, "→" in said) == (1, True, True), said
    month(place, "2024-02", slope=1, seed=2, rows=400)
    code, said = call("run")
    if what.startswith("models"):
        assert code == 0, said  # a champion that cannot be loaded has its own outcome
    else:
        assert (code, victim.name in said, "→" in said) == (3, True, True), said
    free(place)
    assert list((place.parent / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("at", "word", "number"),
    [
        *((step, "", signal.SIGINT) for step in STEPS),
        ("deploy", "registered", signal.SIGINT),
        ("train", "", signal.SIGTERM),
    ],
)
def test_stopped_in_each_step(
    at: str, word: str, number: signal.Signals, place: Path, call: Call, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the step, nothing is left; the next update works, also from what deploy had done."""
    from upkeep.update import context

    real = context.Context.progress
    stopped = []

    def progress(self: Any, text: str, share: float | None = None) -> None:
        real(self, text, share)
        if self.step == at and word in text:
            stopped.append(at)
            os.kill(os.getpid(), number)

    monkeypatch.setattr(context.Context, "progress", progress)
    code, said = call("run")
    assert stopped == [at]
    assert (code, "stopped" in said) == (128 + number, True), said
    free(place)
    record, page = broken_off(place)
    assert record.failed is not None
    assert record.failed.step == at
    assert f"broke off in the step {at}: it was stopped" in told(page)
    assert (record.version, "v1 is registered and not proposed" in told(page)) == (
        ("v1", True) if word == "registered" else (None, False)
    )
    assert list((place.parent / "tmp").iterdir()) == []
    releases = place / "store/churn/releases.git"
    if releases.exists():
        done = subprocess.run(["git", "--git-dir", releases, "rev-list", "--all"], capture_output=True, check=True)
        assert done.stdout == b""
    monkeypatch.setattr(context.Context, "progress", real)
    versions = [path.name for path in place.glob("store/churn/versions/*")]
    assert versions == (["v1.json"] if word == "registered" else [])
    if at == "deploy":
        code, said = call("run")
        assert code == 0, said
        newest = f"v{len(versions) + 1}"
        code, said = call("versions", "verify", newest)
        assert code == 0, said
        log = subprocess.run(
            ["git", "--git-dir", releases, "log", "--all", "--format=%B"], capture_output=True, check=True
        )
        assert log.stdout.decode().count("Upkeep-Version") == 1
        assert f"Upkeep-Version: {newest}" in log.stdout.decode()


def test_a_second_ctrl_c_does_not_cut_the_cleaning_short(
    place: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    from upkeep.pipelines import run

    clear = run._clear

    def stop(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    def impatient(root: Path, *, but: tuple[str, ...]) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        clear(root, but=but)

    monkeypatch.setattr(run, "_run_local", stop)
    monkeypatch.setattr(run, "_clear", impatient)
    code, said = call("run")
    assert (code, "cleaning up" in said) == (130, True), said
    nothing_left(place)


def test_a_lock_that_is_ended_by_hand_stops_its_update_before_the_next_step(
    place: Path, call: Call, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from upkeep.pipelines import run

    from upkeep.registry import lock

    monkeypatch.setattr(lock, "LEASE_SECONDS", 120)
    monkeypatch.setattr(lock, "BEATS", 12_000)
    heard: list[str] = []

    def steps(*words: Any) -> None:
        told = words[-1]
        told.before_step()
        with pytest.raises(SystemExit):
            main(["store", "unlock", "--reason", "wrong data"])
        heard.append(capfd.readouterr().out)
        for _ in range(2000):
            time.sleep(0.005)
            told.before_step()
        raise AssertionError("it went on")

    monkeypatch.setattr(run, "_run_local", steps)
    code, said = call("run")
    assert (code, "ended by hand: wrong data" in said, "retry" in said) == (3, True, True), said
    (update,) = [path.name for path in place.glob("store/churn/updates/*")]
    assert f"ended: {update} held it since" in heard[0]
    nothing_left(place)
    with pytest.raises(SystemExit) as stop:
        main(["store", "unlock", "--reason", "again"])
    assert (stop.value.code, "nobody held it" in capfd.readouterr().out) == (0, True)


def test_ctrl_c_while_checking(place: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upkeep.data.prepare._meet", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    code, said = call("check")
    assert (code, "stopped" in said) == (130, True)
    nothing_left(place)


def processes_of(folder: Path) -> list[str]:
    """Running processes that work in ``folder``, or were told of it: the run's steps."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and int(entry.name) != os.getpid() and (entry / "cwd").readlink() == folder:
                found.append((entry / "cmdline").read_text().replace("\\0", " ")[:200])
    return found


def start(place: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [UPKEEP, "run"], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def until(process: subprocess.Popen[str], step: str) -> str:
    """What it said until it named the step."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if step in line:
            break
    assert step in said, said
    return said


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_real_updates_stopped_killed_and_run_again(place: Path) -> None:
    """Ctrl-C goes to the whole group, a service manager's signal to the parent only: no process goes on."""
    temporary = place.parent / "tmp"
    for step, number, everyone in (("collect", signal.SIGINT, True), ("preprocess", signal.SIGTERM, False)):
        process = start(place)
        until(process, step)
        if everyone:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        out, said = process.communicate(timeout=30)
        assert (process.returncode, out) == (128 + number, ""), said
        assert "stopped" in said
        assert "Traceback" not in said
        assert processes_of(place) == []
        nothing_left(place)

    # a step that the kernel kills, out of memory say
    process = start(place)
    until(process, "collect")
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if b"executor_main" in (entry / "cmdline").read_bytes() and (entry / "cwd").readlink() == place:
                os.kill(int(entry.name), signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, "killed, or out of memory" in said, "retry" in said) == (3, True, True), said
    (log,) = [path for path in temporary.rglob("*") if path.is_file()]
    assert str(log) in said
    log.unlink()
    log.parent.rmdir()
    nothing_left(place)

    # a disk that is full while the steps write
    full = subprocess.run(
        ["sh", "-c", f"ulimit -f 20; exec {UPKEEP} run"], cwd=place, capture_output=True, text=True, check=False
    )
    assert (full.returncode, "disk is full" in full.stderr) == (3, True), full.stderr
    assert "Traceback" not in full.stderr
    nothing_left(place)

    done = subprocess.run([UPKEEP, "run"], cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "v1" in done.stdout
    assert list(temporary.iterdir()) == []
    assert subprocess.run([UPKEEP, "versions", "verify", "v1"], cwd=place, check=False).returncode == 0


# ---- S3 ----


@pytest.fixture
def s3(moto: str, monkeypatch: pytest.MonkeyPatch) -> str:  # noqa: F811
    """The address of an S3 server, and who may use it."""
    for name in ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing-secret")
    # somebody's own setting: the spec's endpoint goes before it, in the steps too
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    return moto


def on_s3(place: Path, endpoint: str, bucket: str) -> None:
    (place / "upkeep.yaml").write_text(
        ONE.replace("store: store", f"store: s3://{bucket}/upkeep\nobject_store: {{endpoint: '{endpoint}'}}").replace(
            "source: data", f"source: s3://{bucket}/data"
        )
        + "rollout: {repository: releases.git}\n"
    )


def deliver(place: Path, endpoint: str, bucket: str) -> None:
    from upkeep.spec.model import ObjectStore
    from upkeep.store import open_store

    store = open_store(f"s3://{bucket}/data", ObjectStore(endpoint=endpoint))
    store.put("period=2024-01/rows.parquet", place / "data/period=2024-01/rows.parquet")


@pytest.mark.slow
def test_an_update_whole_on_s3(place: Path, s3: str, call: Call) -> None:
    on_s3(place, s3, "whole")
    code, said = call("run")
    assert (code, "upkeep store init" in said) == (2, True), said
    assert call("store", "init")[0] == 0
    deliver(place, s3, "whole")
    subprocess.run(["git", "init", "--quiet", "--bare", place / "releases.git"], check=True)
    assert call("check")[0] == 0
    done = subprocess.run([UPKEEP, "run"], cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "s3://whole/upkeep/churn/updates/" in done.stdout.replace("\n", "")
    for words in (("versions", "list"), ("versions", "verify", "v1"), ("versions", "show", "v1")):
        code, said = call(*words)
        assert code == 0, said
    log = subprocess.run(
        ["git", "--git-dir", place / "releases.git", "log", "--all", "--format=%B"], capture_output=True, check=True
    )
    assert b"Upkeep-Version: v1" in log.stdout
    assert list((place.parent / "tmp").iterdir()) == []


def test_an_endpoint_that_cannot_be_reached(place: Path, s3: str, call: Call) -> None:
    on_s3(place, "http://127.0.0.1:9", "gone")
    for words in (("check",), ("run",), ("store", "init")):
        started = time.monotonic()
        code, said = call(*words)
        assert (code, "http://127.0.0.1:9 cannot be reached" in said, "retry" in said) == (3, True, True), said
        assert "object_store.endpoint" in said
        assert time.monotonic() - started < 40
    nothing_left(place)


def test_wrong_credentials(place: Path, s3: str, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    from moto import settings
    from moto.core.responses import ActionAuthenticatorMixin

    on_s3(place, s3, "closed")
    assert call("store", "init")[0] == 0
    monkeypatch.setattr(settings, "INITIAL_NO_AUTH_ACTION_COUNT", 0.0)
    monkeypatch.setattr(ActionAuthenticatorMixin, "request_count", 0)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    for words in (("check",), ("run",), ("versions", "verify", "v1"), ("store", "init")):
        code, said = call(*words)
        assert (code, "refused the credentials" in said, "AWS_ACCESS_KEY_ID" in said) == (3, True, True), said
        assert "retry" not in said
    nothing_left(place)
