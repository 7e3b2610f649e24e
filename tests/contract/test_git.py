"""One suite for every way to a repository: a path, file://, HTTP, and HTTP with a token. Real git, real servers."""

from __future__ import annotations

import base64
import http.server
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from upkeep.errors import AccessError, ConflictError, InputError, OutsideError, UpkeepError
from upkeep.rollout.git import TOKEN, GitRepository, Tree, create_bare

WHEN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SECRET = "s3cr3t-t0ken"
KINDS = ("path", "file", "http", "http with a token")


class Backend(http.server.BaseHTTPRequestHandler):
    """Hands each request to ``git http-backend``, as any CGI server does."""

    server: Any

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        self._serve(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _serve(self, body: bytes) -> None:
        if self.server.stalled:
            time.sleep(5)
            return
        if self.server.token:
            given = self.headers.get("Authorization", "").removeprefix("Basic ")
            if base64.b64decode(given).decode().partition(":")[2] != self.server.token:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="git"')
                self.end_headers()
                return
        path, _, query = self.path.partition("?")
        environ = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.server.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        done = subprocess.run(["git", "http-backend"], input=body, env=environ, capture_output=True, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        self.send_response(int(headers.pop("Status", "200 OK").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


@dataclass
class Remote:
    kind: str
    url: str
    bare: Path
    environ: dict[str, str]
    server: Any = None

    def open(self, **changes: str) -> GitRepository:
        return GitRepository(self.url, environ=self.environ | changes, timeout=30)

    def git(self, *arguments: str, check: bool = True) -> str:
        command = ["git", f"--git-dir={self.bare}", *arguments]
        done = subprocess.run(command, env=self.environ, capture_output=True, text=True, check=check)
        return done.stdout.strip()

    def hook(self, name: str, script: str) -> None:
        (self.bare / "hooks").mkdir(exist_ok=True)
        path = self.bare / "hooks" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment without the configuration of whoever runs the tests."""
    (tmp_path / "home").mkdir()
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "home"), "GIT_CONFIG_NOSYSTEM": "1"}


@pytest.fixture(params=KINDS)
def remote(request: pytest.FixtureRequest, tmp_path: Path, home: dict[str, str]) -> Iterator[Remote]:
    yield from make_remote(request.param, tmp_path, home)


@pytest.fixture
def local(tmp_path: Path, home: dict[str, str]) -> Iterator[Remote]:
    yield from make_remote("path", tmp_path, home)


@pytest.fixture
def guarded(tmp_path: Path, home: dict[str, str]) -> Iterator[Remote]:
    yield from make_remote("http with a token", tmp_path, home)


def make_remote(kind: str, folder: Path, environ: dict[str, str]) -> Iterator[Remote]:
    bare = folder / "remotes" / "models.git"
    create_bare(bare, "main", environ)
    if not kind.startswith("http"):
        yield Remote(kind, str(bare) if kind == "path" else bare.as_uri(), bare, environ)
        return
    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend)
    server.daemon_threads = True
    server.root, server.stalled, server.token = bare.parent, False, SECRET if "token" in kind else ""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    made = Remote(kind, f"http://127.0.0.1:{server.server_port}/models.git", bare, environ, server)
    made.git("config", "http.receivepack", "true")
    if server.token:
        made.environ = environ | {TOKEN: SECRET}
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def start(remote: Remote, **files: str) -> str:
    with remote.open() as repository:
        changes = {"models/m/a.yaml": b"a\n"} | {name: text.encode() for name, text in files.items()}
        return repository.commit_and_push("main", repository.read("main").commit, changes, "start\n", WHEN)


# --- every remote --------------------------------------------------------------------------------------------------


def test_an_empty_repository_takes_the_first_commit(remote: Remote) -> None:
    with remote.open() as repository:
        assert repository.read("main", "models/m") == Tree(None, {})
        commit = repository.commit_and_push("main", None, {"models/m/a.yaml": b"a\n"}, "first\n", WHEN)
        assert repository.read("main", "models/m") == Tree(commit, {"models/m/a.yaml": b"a\n"})
    assert remote.git("rev-parse", "HEAD") == commit


def test_a_commit_changes_what_it_says_and_nothing_else(remote: Remote) -> None:
    base = start(remote, **{"README.md": "mine\n", "models/m/b.yaml": "b\n", "models/mm/c.yaml": "c\n"})
    with remote.open() as repository:
        assert set(repository.read("main", "models/m").files) == {"models/m/a.yaml", "models/m/b.yaml"}
        content = b"line\r\n\x00binary\xff"
        changes = {"models/m/a.yaml": None, "models/m/new.yaml": content, "models/m/gone.yaml": None}
        commit = repository.commit_and_push("main", base, changes, "change\n", WHEN)
        assert repository.read("main", "models/m").files == {"models/m/b.yaml": b"b\n", "models/m/new.yaml": content}
    assert remote.git("rev-parse", f"{commit}^") == base
    named = remote.git("ls-tree", "-r", "--name-only", commit).split()
    assert named == ["README.md", "models/m/b.yaml", "models/m/new.yaml", "models/mm/c.yaml"]


def test_a_commit_says_who_when_and_why(remote: Remote) -> None:
    message = "m: propose v2 at 0 %\n\n- F1 0.42 → 0.59\n\nUpkeep-Model: m\nUpkeep-Verdict: pass\n"
    with remote.open(GIT_AUTHOR_NAME="Release", GIT_AUTHOR_EMAIL="release@models.test") as repository:
        commit = repository.commit_and_push("main", None, {"a": b""}, message, WHEN)
    shown = remote.git("show", "-s", "--format=%an <%ae>|%cn <%ce>|%at|%ct|%(trailers:only)", commit)
    seconds = int(WHEN.timestamp())
    assert shown == (
        f"Release <release@models.test>|upkeep <upkeep@localhost>|{seconds}|{seconds}|"
        "Upkeep-Model: m\nUpkeep-Verdict: pass"
    )
    assert remote.git("show", "-s", "--format=%B", commit) == message.strip()


def test_of_two_pushers_on_one_base_one_lands_and_the_other_is_told(remote: Remote) -> None:
    base = start(remote)
    with remote.open() as one, remote.open() as two:
        assert one.read("main").commit == two.read("main").commit == base
        first = one.commit_and_push("main", base, {"one": b"1"}, "one\n", WHEN)
        with pytest.raises(ConflictError):
            two.commit_and_push("main", base, {"two": b"2"}, "two\n", WHEN)
        assert remote.git("rev-parse", "main") == first
        second = two.commit_and_push("main", two.read("main").commit, {"two": b"2"}, "two\n", WHEN)
        assert remote.git("rev-parse", f"{second}^") == first


def test_of_two_first_commits_one_lands(remote: Remote) -> None:
    with remote.open() as one, remote.open() as two:
        assert one.read("main").commit is two.read("main").commit is None
        first = one.commit_and_push("main", None, {"one": b"1"}, "one\n", WHEN)
        with pytest.raises(ConflictError):
            two.commit_and_push("main", None, {"two": b"2"}, "two\n", WHEN)
    assert remote.git("rev-parse", "main") == first


def test_pushers_at_the_same_moment_lose_nothing(remote: Remote) -> None:
    start(remote)
    failed: list[BaseException] = []

    def push(name: str) -> None:
        try:
            with remote.open() as repository:
                for number in range(2):
                    for _ in range(50):
                        base = repository.read("main").commit
                        try:
                            changes = {f"{name}{number}": b"x"}
                            repository.commit_and_push("main", base, changes, f"{name}{number}\n", WHEN)
                            break
                        except ConflictError:
                            continue
                    else:
                        raise AssertionError("never landed")
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=push, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert sorted(remote.git("log", "--format=%s").split()) == ["one0", "one1", "start", "two0", "two1"]
    assert {"one0", "one1", "two0", "two1"} <= set(remote.git("ls-tree", "--name-only", "main").split())


def test_a_hook_that_refuses_is_quoted(remote: Remote) -> None:
    base = start(remote)
    remote.hook("pre-receive", "echo 'changes are frozen until Monday' >&2; exit 1")
    with remote.open() as repository, pytest.raises(AccessError, match="changes are frozen until Monday"):
        repository.commit_and_push("main", base, {"a": b""}, "a\n", WHEN)
    assert remote.git("rev-parse", "main") == base


def test_a_read_only_repository(remote: Remote) -> None:
    base = start(remote)
    if remote.kind.startswith("http"):
        remote.git("config", "http.receivepack", "false")
    elif os.geteuid() == 0:
        pytest.skip("root may write everywhere; the words for it are tested in unit/rollout")
    else:
        for folder in (remote.bare, remote.bare / "objects", remote.bare / "refs" / "heads"):
            folder.chmod(0o555)
    try:
        with remote.open() as repository:
            assert repository.read("main").commit == base
            with pytest.raises(AccessError):
                repository.commit_and_push("main", base, {"a": b""}, "a\n", WHEN)
    finally:
        for folder in (remote.bare, remote.bare / "objects", remote.bare / "refs" / "heads"):
            folder.chmod(0o755)


def test_a_remote_that_is_gone(remote: Remote) -> None:
    base = start(remote)
    shutil.rmtree(remote.bare)
    with remote.open() as repository:
        with pytest.raises(OutsideError, match="no such repository"):
            repository.read("main")
        with pytest.raises(OutsideError):
            repository.commit_and_push("main", None, {"a": b""}, f"{base}\n", WHEN)


def test_a_missing_branch_names_the_default_one(remote: Remote) -> None:
    with remote.open() as repository:
        repository.commit_and_push("master", None, {"a": b""}, "a\n", WHEN)
        remote.git("symbolic-ref", "HEAD", "refs/heads/master")
        with pytest.raises(InputError, match="no branch main; its default branch is master"):
            repository.read("main")
        assert repository.read("master").files == {"a": b""}


def test_history_that_was_taken_back_does_not_come_back(remote: Remote) -> None:
    first = start(remote)
    with remote.open() as repository:
        second = repository.commit_and_push("main", first, {"bad": b""}, "bad\n", WHEN)
        assert repository.read("main").commit == second
        remote.git("update-ref", "refs/heads/main", first)
        with pytest.raises(ConflictError):
            repository.commit_and_push("main", second, {"a": b""}, "a\n", WHEN)
        assert remote.git("rev-parse", "main") == first
        assert repository.read("main").commit == first


def test_history_that_was_written_anew_is_read_anew(remote: Remote) -> None:
    start(remote)
    with remote.open() as repository:
        before = repository.read("main", "models/m")
        tree = remote.git("rev-parse", "main^{tree}")
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        other = remote.git(*identity, "commit-tree", tree, "-m", "squashed")
        remote.git("update-ref", "refs/heads/main", other)
        assert repository.read("main", "models/m") == Tree(other, before.files)


def test_history_is_read_newest_first_with_its_files(remote: Remote) -> None:
    base = start(remote)
    with remote.open() as repository:
        repository.read("main")
        other = repository.commit_and_push("main", base, {"README.md": b"x"}, "unrelated\n", WHEN)
        message = "m: two\n\n- a line\n\nUpkeep-Model: m\nUpkeep-Version: v2\n"
        last = repository.commit_and_push("main", other, {"models/m/a.yaml": b"2\n"}, message, WHEN)
        found = list(repository.history("main", "models/m"))
    assert [each.id for each in found] == [last, base]
    assert found[0].trailers == {"Upkeep-Model": "m", "Upkeep-Version": "v2"}
    assert (found[0].subject, found[0].when, found[0].author) == ("m: two", WHEN, "upkeep <upkeep@localhost>")
    assert [each.files["models/m/a.yaml"] for each in found] == [b"2\n", b"a\n"]


# --- the token -----------------------------------------------------------------------------------------------------


def test_no_token_and_a_wrong_one_are_refused_with_the_way_out(guarded: Remote) -> None:
    for given in ("", "wr0ng-t0ken"):
        with guarded.open(**{TOKEN: given}) as repository, pytest.raises(AccessError, match=TOKEN) as caught:
            repository.read("main")
        assert "wr0ng-t0ken" not in str(caught.value)


def test_the_token_is_in_no_argument_and_no_file(guarded: Remote, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    wrapper = tmp_path / "bin" / "git"
    wrapper.parent.mkdir()
    real = shutil.which("git")
    wrapper.write_text(f'#!/bin/sh\necho "$@" >> {seen}\nexec {real} "$@"\n')
    wrapper.chmod(0o755)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with guarded.open(PATH=f"{wrapper.parent}:{os.environ['PATH']}") as repository:
        repository.commit_and_push("main", repository.read("main").commit, {"a": b""}, "a\n", WHEN)
        kept = [path for path in repository._temporary().rglob("*") if path.is_file()]
        assert not [path for path in kept if SECRET.encode() in path.read_bytes()]
    assert "push" in seen.read_text()
    assert SECRET not in seen.read_text()


def test_a_credential_helper_is_not_given_the_token(guarded: Remote, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    config = tmp_path / "gitconfig"
    config.write_text(f"[credential]\n  helper = store --file={kept}\n")
    with guarded.open(GIT_CONFIG_GLOBAL=str(config)) as repository:
        repository.read("main")
    assert not kept.exists()


def test_a_credential_helper_works_without_a_token(guarded: Remote, tmp_path: Path) -> None:
    config = tmp_path / "gitconfig"
    config.write_text(f'[credential]\n  helper = "!f() {{ echo username=u; echo password={SECRET}; }}; f"\n')
    with guarded.open(GIT_CONFIG_GLOBAL=str(config), **{TOKEN: ""}) as repository:
        assert repository.read("main").commit is None


def test_the_token_goes_to_its_own_host_only(guarded: Remote, tmp_path: Path) -> None:
    asked: list[str] = []

    class Thief(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers.get("Authorization", ""))
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    class Lure(Thief):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{thief.server_port}{self.path}")
            self.end_headers()

    thief = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Thief)
    lure = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Lure)
    threads = [threading.Thread(target=server.serve_forever, args=(0.02,)) for server in (thief, lure)]
    for thread in threads:
        thread.start()
    try:
        url = f"http://127.0.0.1:{lure.server_port}/models.git"
        with GitRepository(url, environ=guarded.environ, timeout=30) as repository, pytest.raises(AccessError):
            repository.read("main")
    finally:
        for server in (thief, lure):
            server.shutdown()
            server.server_close()
        for thread in threads:
            thread.join()
    assert asked
    assert not any(asked)


def test_secrets_in_an_address_are_refused_unseen(home: dict[str, str]) -> None:
    with pytest.raises(InputError, match="holds a password") as caught:
        GitRepository("https://bob:hunter2@git.test/models.git", environ=home)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(InputError, match="in the clear"):
        GitRepository("http://git.test/models.git", environ=home | {TOKEN: SECRET})


@pytest.mark.parametrize("url", ["", "--upload-pack=touch /tmp/x", "a\nb"])
def test_what_is_no_address_is_refused(url: str, home: dict[str, str]) -> None:
    with pytest.raises(InputError, match="no address"):
        GitRepository(url, environ=home)


def test_an_address_that_runs_a_command_is_refused(home: dict[str, str], tmp_path: Path) -> None:
    with GitRepository(f"ext::touch {tmp_path}/ran", environ=home) as repository, pytest.raises(UpkeepError):
        repository.read("main")
    assert not (tmp_path / "ran").exists()


# --- around git ----------------------------------------------------------------------------------------------------


def test_the_users_hooks_and_line_endings_do_not_count(local: Remote, tmp_path: Path) -> None:
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("pre-push", "pre-commit", "commit-msg"):
        (hooks / name).write_text("#!/bin/sh\nexit 1\n")
        (hooks / name).chmod(0o755)
    config = tmp_path / "gitconfig"
    config.write_text(f"[core]\n  hooksPath = {hooks}\n  autocrlf = true\n[commit]\n  template = {hooks}\n")
    changes = {"a": b"x\r\ny\n", ".gitattributes": b"* text eol=crlf\n"}
    with local.open(GIT_CONFIG_GLOBAL=str(config), GIT_DIR="/nowhere", GIT_INDEX_FILE="/nowhere") as repository:
        repository.commit_and_push("main", None, changes, "a\n", WHEN)
        assert repository.read("main").files == changes


def test_commits_are_signed_when_git_is_configured_to(local: Remote, tmp_path: Path) -> None:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen is not installed")
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    config = tmp_path / "gitconfig"
    config.write_text(f"[gpg]\n  format = ssh\n[user]\n  signingKey = {key}\n[commit]\n  gpgSign = true\n")
    with local.open(GIT_CONFIG_GLOBAL=str(config)) as repository:
        signed = repository.commit_and_push("main", None, {"a": b""}, "a\n", WHEN)
        assert "-----BEGIN SSH SIGNATURE-----" in local.git("cat-file", "commit", signed)
        key.unlink()
        key.with_suffix(".pub").unlink()
        with pytest.raises(AccessError, match="could not be signed"):
            repository.commit_and_push("main", signed, {"b": b""}, "b\n", WHEN)
    with local.open() as repository:
        plain = repository.commit_and_push("main", signed, {"b": b""}, "b\n", WHEN)
    assert "SIGNATURE" not in local.git("cat-file", "commit", plain)


def test_a_remote_that_stalls_is_given_up(home: dict[str, str], tmp_path: Path) -> None:
    for remote in make_remote("http", tmp_path, home):
        remote.server.stalled = True
        refused = pytest.raises(OutsideError, match=r"within 0\.5 seconds")
        with GitRepository(remote.url, environ=home, timeout=0.5) as repository, refused:
            repository.read("main")


def test_ctrl_c_ends_git_and_leaves_nothing(
    home: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    started = time.monotonic()

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for remote in make_remote("http", tmp_path, home):
            remote.server.stalled = True
            with GitRepository(remote.url, environ=home) as repository:
                folder = repository._temporary()
                signal.setitimer(signal.ITIMER_REAL, 0.5)
                with pytest.raises(KeyboardInterrupt):
                    repository.read("main")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not list((tmp_path / "tmp").iterdir())
    assert time.monotonic() - started < 60
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=False).stdout
    assert str(folder) not in running


def test_a_remote_that_does_not_listen(home: dict[str, str]) -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), Backend)
    url = f"http://127.0.0.1:{server.server_port}/models.git"
    server.server_close()
    with GitRepository(url, environ=home) as repository, pytest.raises(OutsideError) as caught:
        repository.read("main")
    assert caught.value.retry


def test_git_that_is_not_installed(local: Remote, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with local.open(PATH=str(tmp_path / "nothing")) as repository, pytest.raises(UpkeepError, match="not installed"):
        repository.read("main")


def test_a_persons_checkout_is_not_changed(home: dict[str, str], tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "-q", "-b", "main", str(checkout)], env=home, check=True)
    commit = ["git", "-C", str(checkout), *identity, "commit", "-q", "--allow-empty", "-m", "a"]
    subprocess.run(commit, env=home, check=True)
    with GitRepository(str(checkout), environ=home) as repository:
        base = repository.read("main").commit
        with pytest.raises(AccessError, match="checkout"):
            repository.commit_and_push("main", base, {"a": b""}, "a\n", WHEN)


def test_a_folder_that_is_a_file_or_outside(local: Remote) -> None:
    start(local)
    with local.open() as repository:
        with pytest.raises(InputError, match="not a folder"):
            repository.read("main", "models/m/a.yaml")
        for path in ("../x", "/x", "a/../../x", ".git/config"):
            with pytest.raises(InputError, match="no path inside"):
                repository.commit_and_push("main", None, {path: b""}, "a\n", WHEN)


def test_nothing_stays_behind(local: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    with local.open() as repository:
        repository.read("main")
        assert list((tmp_path / "tmp").iterdir())
    assert not list((tmp_path / "tmp").iterdir())


def test_a_bare_repository_is_made_once(home: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "a b" / "releases.git"
    create_bare(path, "trunk", home)
    with GitRepository(str(path), environ=home) as repository:
        commit = repository.commit_and_push("trunk", None, {"a": b""}, "a\n", WHEN)
        create_bare(path, "trunk", home)
        assert repository.read("trunk").commit == commit


def test_a_bare_repository_is_made_once_by_many(home: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "releases.git"
    failed: list[BaseException] = []

    def make() -> None:
        try:
            create_bare(path, "main", home)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert [each.name for each in tmp_path.iterdir() if "releases" in each.name] == ["releases.git"]
    with GitRepository(str(path), environ=home) as repository:
        assert repository.read("main").commit is None


def test_no_place_for_a_bare_repository(home: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutsideError, match="file"):
        create_bare(tmp_path / "file" / "releases.git", "main", home)


def test_a_push_can_be_tried_without_being_made(remote: Remote) -> None:
    with remote.open() as repository:
        repository.check_push("main", None, WHEN)
        assert repository.read("main").commit is None
        base = repository.commit_and_push("main", None, {"a": b"1"}, "one\n", WHEN)
        repository.check_push("main", base, WHEN)
        assert repository.read("main").commit == base


def test_a_push_that_would_be_refused_is_told_before(guarded: Remote) -> None:
    with guarded.open(UPKEEP_GIT_TOKEN="wrong") as repository, pytest.raises(AccessError):
        repository.check_push("main", None, WHEN)


# --- branches of Upkeep's own --------------------------------------------------------------------------------------

ASIDE = "upkeep/m/v2-20260301T120000Z-step-1"


def test_a_branch_of_its_own_leaves_the_other_as_it_is(remote: Remote) -> None:
    with remote.open() as repository:
        base = repository.commit_and_push("main", None, {"m/a": b"1", "other": b"x"}, "first\n", WHEN)
        made = repository.push_aside(ASIDE, base, {"m/a": b"2"}, "second\n\nUpkeep-Model: m\n", WHEN)
        assert repository.head("main") == base
        assert repository.head(ASIDE) == made
        assert repository.read(ASIDE, "m").files == {"m/a": b"2"}
        assert repository.push_aside(ASIDE, base, {"m/a": b"2"}, "second\n\nUpkeep-Model: m\n", WHEN) == made
        other = repository.push_aside(ASIDE, base, {"m/a": b"3"}, "third\n", WHEN)
        assert repository.head(ASIDE) == other, "it is Upkeep's own: it stands where it is put"
        repository.remove_branch(ASIDE)
        repository.remove_branch(ASIDE)
        assert repository.head(ASIDE) is None
        assert repository.head("main") == base


@pytest.mark.parametrize("how", ["--no-ff", "--squash", "--ff-only"])
def test_a_merged_branch_is_in_the_history_once_at_the_time_of_its_merge(
    local: Remote, tmp_path: Path, how: str
) -> None:
    with local.open() as repository:
        base = repository.commit_and_push("main", None, {"m/a": b"1"}, "first\n", WHEN)
        repository.push_aside(ASIDE, base, {"m/a": b"2"}, "second\n\nUpkeep-Model: m\n", WHEN)
        work = str(tmp_path / "work")
        later = "2026-03-05T09:00:00Z"
        person = {f"GIT_{role}_{part}": text for role in ("AUTHOR", "COMMITTER")
                  for part, text in (("NAME", "Ann"), ("EMAIL", "ann@example.com"), ("DATE", later))}  # fmt: skip

        def git(*words: str) -> None:
            subprocess.run(["git", "-C", work, *words], env=local.environ | person, check=True, capture_output=True)

        subprocess.run(["git", "clone", "-q", str(local.bare), work], env=local.environ, check=True)
        git("merge", how, *(["-m", "merge it"] if how == "--no-ff" else []), f"origin/{ASIDE}")
        if how == "--squash":
            git("commit", "-q", "-m", "merge it")
        git("push", "-q", "origin", "HEAD:main")
        newest, first = repository.history("main", "m")
    assert (newest.files, first.files) == ({"m/a": b"2"}, {"m/a": b"1"})
    if how == "--ff-only":
        assert newest.trailers == {"Upkeep-Model": "m"}
    else:
        assert newest.when == datetime(2026, 3, 5, 9, tzinfo=UTC)
        assert newest.author == "Ann <ann@example.com>"


def test_a_protected_branch_refuses_the_push_and_takes_one_aside(guarded: Remote) -> None:
    with guarded.open() as repository:
        base = repository.commit_and_push("main", None, {"m/a": b"1"}, "first\n", WHEN)
        guarded.hook("update", '[ "$1" != refs/heads/main ] || { echo "protected branch" >&2; exit 1; }')
        with pytest.raises(AccessError, match="rules refused"):
            repository.commit_and_push("main", base, {"m/a": b"2"}, "second\n", WHEN)
        made = repository.push_aside(ASIDE, base, {"m/a": b"2"}, "second\n", WHEN)
        assert repository.head(ASIDE) == made


def test_what_was_pushed_before_a_person_pulled_keeps_its_place_in_the_history(local: Remote, tmp_path: Path) -> None:
    """``git pull`` makes a merge whose first parent is the person's own commit, and the branch's line the second."""
    work = str(tmp_path / "work")
    person = {f"GIT_{role}_{part}": text for role in ("AUTHOR", "COMMITTER")
              for part, text in (("NAME", "Ann"), ("EMAIL", "ann@example.com"))}  # fmt: skip

    def git(*words: str) -> None:
        subprocess.run(["git", "-C", work, *words], env=local.environ | person, check=True, capture_output=True)

    with local.open() as repository:
        base = repository.commit_and_push("main", None, {"m/a": b"1"}, "first\n\nUpkeep-Model: m\n", WHEN)
        subprocess.run(["git", "clone", "-q", str(local.bare), work], env=local.environ, check=True)
        (tmp_path / "work" / "README").write_text("mine")
        git("add", ".")
        git("commit", "-q", "-m", "a readme")
        made = repository.commit_and_push("main", base, {"m/a": b"2"}, "second\n\nUpkeep-Model: m\n", WHEN)
        git("pull", "-q", "--no-rebase", "--no-edit")
        git("push", "-q", "origin", "HEAD:main")
        assert [each.id for each in repository.history("main", "m")] == [made, base]
        head = repository.head("main")
        last = repository.commit_and_push("main", head, {"m/a": b"3"}, "third\n\nUpkeep-Model: m\n", WHEN)
        assert [each.id for each in repository.history("main", "m")] == [last, made, base]


def test_the_history_of_a_shallow_repository_is_refused(local: Remote, tmp_path: Path) -> None:
    start(local)
    with local.open() as repository:
        repository.commit_and_push("main", repository.head("main"), {"m/a": b"2"}, "second\n", WHEN)
    shallow = tmp_path / "shallow.git"
    clone = ["git", "clone", "-q", "--bare", "--depth=1", f"file://{local.bare}", str(shallow)]
    subprocess.run(clone, env=local.environ, check=True)
    with (
        GitRepository(str(shallow), environ=local.environ) as repository,
        pytest.raises(InputError, match="shallow"),
    ):
        list(repository.history("main", "m"))
