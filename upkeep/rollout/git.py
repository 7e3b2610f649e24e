"""Reads and writes one folder of a Git repository, through git's own command line.

No checkout is touched and nothing is ever forced: a temporary bare repository fetches the branch's newest commit,
the new commit is put together with plumbing commands, and it is pushed on the condition that the branch has not
moved since. When it has, :class:`~upkeep.errors.ConflictError` asks the caller to read, decide and try again.

The user's git configuration counts where it leads to the remote (SSH, credential helpers, proxies, certificates,
signing), and does not where it would change what is written (hooks, line endings, templates).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Protocol
from urllib.parse import urlsplit

from upkeep.errors import AccessError, ConflictError, InputError, OutsideError, UpkeepError, Where

TOKEN = "UPKEEP_GIT_TOKEN"
"""The environment variable that holds the token for an ``https://`` remote."""
USERNAME = "UPKEEP_GIT_USERNAME"
"""The user name that goes with the token, for hosts that care."""
_ANY_USERNAME = "x-access-token"


@dataclass(frozen=True)
class Tree:
    """A folder of a branch at one commit."""

    commit: str | None
    """None: the repository is empty."""
    files: Mapping[str, bytes]
    """Path within the repository → content."""


@dataclass(frozen=True)
class Commit:
    """One entry of a branch's history, with the folder as it stood there."""

    id: str
    when: datetime
    author: str
    subject: str
    trailers: Mapping[str, str]
    files: Mapping[str, bytes]


class Repository(Protocol):
    """One remote repository. Every method raises an :class:`~upkeep.errors.UpkeepError` that says what to do."""

    @property
    def url(self) -> str:
        """Its address, without secrets."""
        ...

    def read(self, branch: str, folder: str = "") -> Tree:
        """The newest state of ``folder``. A repository without any commit gives an empty tree."""
        ...

    def commit_and_push(
        self,
        branch: str,
        base: str | None,
        changes: Mapping[str, bytes | None],
        message: str,
        when: datetime,
    ) -> str:
        """Put a commit with ``changes`` (None removes a file) on top of ``base``; its id.

        Raises :class:`~upkeep.errors.ConflictError` when the branch does not stand at ``base`` any more (None: when
        it exists); the remote is then as it was.
        """
        ...

    def push_aside(
        self, branch: str, base: str, changes: Mapping[str, bytes | None], message: str, when: datetime
    ) -> str:
        """Put a commit with ``changes`` on top of ``base``, and let ``branch``, which is Upkeep's own, stand there,
        wherever it stood; the commit's id."""
        ...

    def remove_branch(self, branch: str) -> None:
        """Remove a branch of Upkeep's own; one that is not there is no error."""
        ...

    def check_push(self, branch: str, base: str | None, when: datetime) -> None:
        """Whether a commit on top of ``base`` would be let in, without sending it. A hook of the host's may still
        refuse the real one."""
        ...

    def history(self, branch: str, folder: str) -> Iterator[Commit]:
        """The commits that touched ``folder``, newest first."""
        ...


def create_bare(path: Path, branch: str, environ: Mapping[str, str] | None = None) -> None:
    """Make an empty bare repository at ``path``, whole or not at all; one that is there already stays as it is."""
    if (path / "HEAD").exists():
        return
    partial = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        partial.chmod(0o755)
        with GitRepository(str(path), environ=environ) as repository:
            repository.run("init", "--quiet", "--bare", "--template=", f"--initial-branch={branch}", str(partial))
        partial.rename(path)
    except OSError as error:
        # Somebody else may have made it in the meantime.
        if not (path / "HEAD").exists():
            raise _os_error(error, str(path)) from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


class GitRepository:
    """:class:`Repository` over git: a local path, ``file://``, SSH, or HTTPS with a token from the environment.

    ``environ`` is the process environment (tests give their own); ``timeout`` is the longest that one git command
    may take, in seconds. Close it, or use it as a context manager: it keeps a temporary folder.
    """

    def __init__(self, url: str, *, environ: Mapping[str, str] | None = None, timeout: float = 120.0) -> None:
        self._environ = dict(os.environ if environ is None else environ)
        self._timeout = timeout
        self._token = self._environ.pop(TOKEN, "").strip()
        self._remote = _checked(url, has_token=bool(self._token))
        self._folder: Path | None = None
        self._index = 0

    @property
    def url(self) -> str:
        return self._remote

    def __enter__(self) -> GitRepository:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the temporary folder."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    # --- reading ---------------------------------------------------------------------------------------------------

    def head(self, branch: str) -> str | None:
        """The branch's newest commit, without fetching anything; None: there is no such branch."""
        out = self._git("ls-remote", "--", self._remote, f"refs/heads/{branch}", remote=True).decode()
        return out.split()[0] if out else None

    def read(self, branch: str, folder: str = "") -> Tree:
        commit = self._fetch(branch, "--depth=1")
        return Tree(commit, self._files(commit, folder) if commit else {})

    def history(self, branch: str, folder: str) -> Iterator[Commit]:
        shallow = (self._temporary() / "repository" / "shallow").exists()
        if self._fetch(branch, *(["--unshallow"] if shallow else [])) is None:
            return
        start = _here(branch)
        while start:
            joint, on, off = self._joint(branch, start, folder)
            for commit in self._line(start, folder, off):
                if commit.id != joint or self._tree(commit.id, folder) != self._tree(on, folder):
                    yield commit
            start = on

    def _line(self, start: str, folder: str, off: str) -> Iterator[Commit]:
        """The commits that touched ``folder``, newest first, of the first parents of ``start``; none that ``off``
        has."""
        form = "%H%x00%ct%x00%an <%ae>%x00%s%x00%(trailers:only,unfold)%x00"
        # of a merged pull request the merge counts, and its time: until then nothing of it served
        log = ("log", "--first-parent", "-z", "--no-show-signature", "--no-color", f"--format=tformat:{form}", start)
        out = self._git(*log, *([f"^{off}"] if off else []), "--", *([folder] if folder else []))
        fields = out.decode(errors="replace").split("\0")
        # -z ends each entry with a NUL of its own, after the five that end its fields.
        for at in range(0, len(fields) - 5, 6):
            commit, seconds, author, subject, trailers = fields[at : at + 5]
            pairs = (line.partition(": ") for line in trailers.splitlines())
            yield Commit(
                id=commit,
                when=datetime.fromtimestamp(int(seconds), tz=UTC),
                author=author,
                subject=subject,
                trailers={key: value for key, _, value in pairs},
                files=self._files(commit, folder),
            )

    def _joint(self, branch: str, start: str, folder: str) -> tuple[str, str, str]:
        """The newest merge by a ``git pull`` on the way of first parents from ``start``; the parent where the branch
        stood before, and the first one, which was the person's own. All empty: there is none.

        Known by Upkeep's commits (it pushes to the branch itself) on the other parent's side: several, since a branch
        of its own has one, or the words that git gives such a merge.
        """
        log = ("log", "--first-parent", "--merges", "-z", "--no-color", "--format=tformat:%H %P %s", start, "--")
        paths = [folder] if folder else []
        pulled = re.compile(
            rf"Merge (branch '{re.escape(branch)}' of |remote-tracking branch '[^']*/{re.escape(branch)}')"
        )
        for entry in self._git(*log, *paths).decode(errors="replace").split("\0")[:-1]:
            merge, first, other, subject = entry.split(" ", 3)
            brought = self._proposals(first, other, paths)
            if (brought > 1 or (brought and pulled.match(subject))) and not self._proposals(other, first, paths):
                return merge, other, first
        return "", "", ""

    def _proposals(self, without: str, of: str, paths: Sequence[str]) -> int:
        """How many commits of Upkeep's ``of`` has that ``without`` has not."""
        log = ("log", "--no-color", "--format=tformat:%(trailers:key=Upkeep-Model,valueonly,separator=%x2C)")
        return len(self._git(*log, of, f"^{without}", "--", *paths).split())

    def _tree(self, commit: str, folder: str) -> bytes:
        return self._git("ls-tree", "-r", "--full-tree", commit, *(["--", folder] if folder else []))

    def _fetch(self, branch: str, *options: str) -> str | None:
        reference = f"+refs/heads/{branch}:{_here(branch)}"
        fetch = ("fetch", "--quiet", "--no-tags", "--no-recurse-submodules", *options, "--", self._remote, reference)
        try:
            self._git(*fetch, remote=True)
        except _NoSuchBranchError:
            self._no_branch(branch)
            return None
        if not self._has(_here(branch)):
            # git says nothing, and leaves the branch out
            raise InputError(
                "the repository is a shallow clone: it does not hold its whole history",
                where=Where(self.url),
                fix="name the repository that it was cloned from, or run `git fetch --unshallow` in it",
            )
        return self._git("rev-parse", "--verify", f"{_here(branch)}^{{commit}}").decode().strip()

    def _no_branch(self, branch: str) -> None:
        """Return when the repository is empty; otherwise the branch's name is likely wrong."""
        out = self._git("ls-remote", "--symref", "--", self._remote, remote=True).decode(errors="replace")
        names = re.findall(r"^[0-9a-f]+\trefs/heads/(.+)$", out, re.MULTILINE)
        if not names:
            return
        if branch in names:
            raise ConflictError("the branch appeared while it was read", where=Where(self.url), fix="try again")
        head = re.search(r"^ref: refs/heads/(\S+)\tHEAD$", out, re.MULTILINE)
        default = head[1] if head and head[1] in names else names[0]
        raise InputError(
            f"the repository has no branch {branch}; its default branch is {default}",
            where=Where(self.url, field="rollout.branch"),
            fix=f"set `rollout.branch: {default}`, or make the branch {branch} there",
        )

    def _files(self, commit: str, folder: str) -> dict[str, bytes]:
        path = _safe_path(folder) if folder else ""
        listed = self._git("ls-tree", "-r", "-z", "--full-tree", commit, *(["--", path] if path else []))
        objects: dict[str, str] = {}
        for entry in listed.decode(errors="surrogateescape").split("\0"):
            if entry:
                about, _, name = entry.partition("\t")
                mode, kind, identity = about.split()
                if name == path:
                    raise InputError(f"{path} is not a folder there", where=Where(self.url, field="rollout.path"))
                if kind == "blob" and mode != "120000":
                    objects[name] = identity
        return dict(zip(objects, self._contents(list(objects.values())), strict=True))

    def _contents(self, identities: Sequence[str]) -> list[bytes]:
        if not identities:
            return []
        out = self._git("cat-file", "--batch", stdin="".join(f"{each}\n" for each in identities).encode())
        contents, at = [], 0
        for _ in identities:
            end = out.index(b"\n", at)
            size = int(out[at:end].split()[-1])
            contents.append(out[end + 1 : end + 1 + size])
            at = end + size + 2
        return contents

    # --- writing ---------------------------------------------------------------------------------------------------

    def commit_and_push(
        self,
        branch: str,
        base: str | None,
        changes: Mapping[str, bytes | None],
        message: str,
        when: datetime,
    ) -> str:
        if base is not None and not self._has(base):
            self._fetch(branch, "--depth=1")
            if not self._has(base):
                raise ConflictError(f"the branch left {base[:12]}", where=Where(self.url), fix="try again")
        commit = self._commit(base, changes, message, when)
        self._push(branch, base, commit)
        return commit

    def push_aside(
        self, branch: str, base: str, changes: Mapping[str, bytes | None], message: str, when: datetime
    ) -> str:
        commit = self._commit(base, changes, message, when)
        stands = self.head(branch)
        if stands != commit:
            self._push(branch, stands, commit)
        return commit

    def remove_branch(self, branch: str) -> None:
        stands = self.head(branch)
        if stands is not None:
            self._push(branch, stands, "")

    def check_push(self, branch: str, base: str | None, when: datetime) -> None:
        self._push(branch, base, self._commit(base, {}, "a push that is not carried out\n", when), "--dry-run")

    def _push(self, branch: str, base: str | None, commit: str, *options: str) -> None:
        # A lease of exactly the parent lets nothing through but a fast-forward from it: unlike a plain push it also
        # refuses to bring back commits that somebody took out of the branch in the meantime.
        lease = f"--force-with-lease=refs/heads/{branch}:{base or ''}"
        push = ("push", *options, "--porcelain", "--no-verify", "--no-recurse-submodules", lease, "--", self._remote)
        self._git(*push, f"{commit}:refs/heads/{branch}", remote=True)

    def _has(self, commit: str) -> bool:
        try:
            self._git("cat-file", "-e", f"{commit}^{{commit}}")
        except UpkeepError:
            return False
        return True

    def _commit(self, base: str | None, changes: Mapping[str, bytes | None], message: str, when: datetime) -> str:
        self._index += 1
        index = {"GIT_INDEX_FILE": str(self._temporary() / f"index-{self._index}")}
        if base is not None:
            self._git("read-tree", base, extra=index)
        lines = []
        for path, content in changes.items():
            name = _safe_path(path)
            if content is None:
                lines.append(f"0 {'0' * 40}\t{name}\0")
            else:
                blob = self._git("hash-object", "-w", "--no-filters", "--stdin", stdin=content).decode().strip()
                lines.append(f"100644 {blob}\t{name}\0")
        self._git("update-index", "-z", "--index-info", stdin="".join(lines).encode(), extra=index)
        tree = self._git("write-tree", extra=index).decode().strip()
        date = f"{int(when.timestamp())} +0000"
        extra = {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
        for role in ("AUTHOR", "COMMITTER"):
            for part, default in (("NAME", "upkeep"), ("EMAIL", "upkeep@localhost")):
                name = f"GIT_{role}_{part}"
                extra[name] = self._environ.get(name) or default
        # Plumbing does not look at commit.gpgSign by itself.
        sign = ["-S"] if self._setting("commit.gpgSign", "--type=bool") == "true" else []
        parents = [] if base is None else ["-p", base]
        return (
            self._git("commit-tree", *sign, *parents, "-F", "-", tree, stdin=message.encode(), extra=extra)
            .decode()
            .strip()
        )

    # --- git -------------------------------------------------------------------------------------------------------

    def _temporary(self) -> Path:
        if self._folder is None:
            try:
                folder = Path(tempfile.mkdtemp(prefix="upkeep-git-"))
            except OSError as error:
                raise _os_error(error, tempfile.gettempdir()) from error
            self._folder = folder
            self.run("init", "--quiet", "--bare", "--template=", str(folder / "repository"))
        return self._folder

    def _setting(self, name: str, *options: str) -> str:
        try:
            return self._git("config", *options, "--get", name).decode().strip()
        except UpkeepError:
            return ""

    def _git(
        self, *arguments: str, stdin: bytes = b"", remote: bool = False, extra: Mapping[str, str] | None = None
    ) -> bytes:
        repository = self._temporary() / "repository"
        return self.run(f"--git-dir={repository}", *arguments, stdin=stdin, remote=remote, extra=extra)

    def run(
        self, *arguments: str, stdin: bytes = b"", remote: bool = False, extra: Mapping[str, str] | None = None
    ) -> bytes:
        """One git command; its standard output. ``remote``: it speaks to the remote, and may need the token."""
        settings: tuple[str, ...] = _SETTINGS
        environ = _isolated(self._environ)
        if remote and self._token:
            # A helper of the user's would answer first, and be given the token to keep.
            settings = (*settings, "credential.helper=")
            environ |= self._askpass()
        command = ["git", *(part for setting in settings for part in ("-c", setting)), *arguments]
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environ | dict(extra or {}),
                cwd=self._folder or "/",
                # A session of its own: no terminal to ask a person on, and one group to end.
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise UpkeepError(
                "git is not installed, or not on the PATH", fix="install git 2.30 or newer, and try again"
            ) from error
        except OSError as error:
            raise _os_error(error, "git") from error
        with process:
            try:
                out, err = process.communicate(stdin, timeout=self._timeout)
            except subprocess.TimeoutExpired as error:
                _end(process)
                raise OutsideError(
                    f"git did not finish within {self._timeout:g} seconds",
                    where=Where(self.url),
                    fix="see whether the remote answers (`git ls-remote`), and try again",
                ) from error
            except BaseException:
                _end(process)
                raise
        if process.returncode != 0:
            said = "\n".join(part.decode(errors="replace") for part in (err, out if "push" in arguments else b""))
            raise failure(said.replace(self._token, "***") if self._token else said, self.url)
        return out

    def _askpass(self) -> dict[str, str]:
        script = self._temporary() / "askpass"
        if not script.exists():
            script.write_text(_ASKPASS)
            script.chmod(0o700)
        parts = urlsplit(self._remote)
        place = parts.netloc.rpartition("@")[2]
        user = parts.username or self._environ.get(USERNAME) or _ANY_USERNAME
        return {
            "GIT_ASKPASS": str(script),
            TOKEN: self._token,
            USERNAME: user,
            "UPKEEP_GIT_SCHEME": parts.scheme,
            "UPKEEP_GIT_HOST": place,
        }


_ASKPASS = """#!/bin/sh
# Answers git's questions about the one host that the token is for; a redirect to another host gets nothing.
case "$1" in
  "Username for '$UPKEEP_GIT_SCHEME://$UPKEEP_GIT_HOST"[\\'/]*) printf '%s\\n' "$UPKEEP_GIT_USERNAME" ;;
  "Password for '$UPKEEP_GIT_SCHEME://$UPKEEP_GIT_USERNAME@$UPKEEP_GIT_HOST"[\\'/]*)
    printf '%s\\n' "$UPKEEP_GIT_TOKEN" ;;
  *) exit 1 ;;
esac
"""

_SETTINGS = (
    f"core.hooksPath={os.devnull}",
    "core.autocrlf=false",
    "core.fsmonitor=false",
    "core.askPass=",
    "gc.auto=0",
    "maintenance.auto=false",
    "fetch.writeCommitGraph=false",
    "fetch.recurseSubmodules=false",
    "push.followTags=false",
    "log.showSignature=false",
    "i18n.commitEncoding=utf-8",
    "i18n.logOutputEncoding=utf-8",
    "http.lowSpeedLimit=100",
    "http.lowSpeedTime=60",
)

_KEPT = ("GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSH_VARIANT", "GIT_ASKPASS", "GIT_PROXY_COMMAND", "GIT_EXEC_PATH")
_KEPT_PREFIXES = ("GIT_CONFIG", "GIT_SSL_", "GIT_HTTP_", "GIT_PROXY_SSL_")


def _isolated(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without what ties git to another repository (set inside hooks) or makes it talk."""
    kept = {
        name: value
        for name, value in environ.items()
        if not name.startswith("GIT_") or name in _KEPT or name.startswith(_KEPT_PREFIXES)
    }
    kept.pop("GIT_CONFIG", None)
    kept.pop("SSH_ASKPASS", None)
    kept.pop("LANGUAGE", None)
    return kept | {
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GCM_INTERACTIVE": "never",
        "SSH_ASKPASS_REQUIRE": "never",
        "GIT_ALLOW_PROTOCOL": "file:http:https:ssh",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
    }


def _end(process: subprocess.Popen[bytes]) -> None:
    """End git and what it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def _here(branch: str) -> str:
    return f"refs/upkeep/{branch}"


def _safe_path(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or any(part in ("..", ".", ".git") for part in parts) or "\0" in path:
        raise InputError(
            f"{path!r} is no path inside a repository",
            where=Where(field="rollout.path"),
            fix="write a relative path such as models/flight-delays",
        )
    return "/".join(parts)


_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def _checked(url: str, *, has_token: bool) -> str:
    if not url or url.startswith("-") or "\0" in url or "\n" in url:
        raise InputError(
            "this is no address of a Git repository",
            where=Where(field="rollout.repository"),
            fix="write a path, or an https://, ssh:// or file:// URL",
        )
    parts = urlsplit(url)
    if parts.password:
        raise InputError(
            f"the address of the Git repository on {parts.hostname} holds a password",
            where=Where(field="rollout.repository"),
            fix=f"take it out of the address, and put it into the environment variable {TOKEN}",
        )
    if has_token and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise InputError(
            "a token would travel in the clear over http://",
            where=Where(url, field="rollout.repository"),
            fix=f"use https://, or unset {TOKEN}",
        )
    return url


# --- what git said, in plain words ---------------------------------------------------------------------------------


class _NoSuchBranchError(OutsideError):
    pass


_FULL = re.compile(r"No space left on device|Disk quota exceeded|file write error|disk is full", re.IGNORECASE)
_MOVED = re.compile(
    r"\[rejected\]|cannot lock ref|reference already exists|failed to update ref|incorrect old value|"
    r"\.lock': File exists"
)
_READ_ONLY = re.compile(
    r"Read-only file system|insufficient permission|unable to create temporary (file|object directory)|"
    r"Unable to create '.*\.lock': Permission denied|cannot open '?.*'?: Permission denied"
)
_DENIED = re.compile(
    r"Authentication failed|could not read (Username|Password)|Permission denied|terminal prompts disabled|"
    r"returned error: 40[13]|Host key verification failed|access denied|not authorized|unable to get password",
    re.IGNORECASE,
)
_GONE = re.compile(
    r"does not appear to be a git repository|not a git repository|repository '?.*'? ?not found|does not exist|"
    r"project you were looking for could not be found|No such file or directory",
    re.IGNORECASE,
)
_SIGNING = re.compile(
    r"failed to sign|gpg failed|signing failed|Couldn't load public key|user\.signingkey", re.IGNORECASE
)
_TRY_AGAIN = "see that the remote answers (`git ls-remote`), and try again"


def failure(said: str, url: str) -> UpkeepError:
    """The error for what git said on failing; ``said`` holds no secret."""
    said = re.sub(r"(\w+://)[^/@\s']*:[^/@\s']*@", r"\1***@", said)
    where = Where(url)
    short = _gist(said)
    if "couldn't find remote ref" in said or "Couldn't find remote ref" in said:
        return _NoSuchBranchError("the branch is not there", where=where)
    if "dubious ownership" in said:
        return AccessError(
            "the repository belongs to another user, and git will not use it",
            where=where,
            fix=f"run `git config --global --add safe.directory {url}`, or change its owner",
        )
    if _SIGNING.search(said):
        return AccessError(
            f"the commit could not be signed: {short}",
            fix="see `user.signingkey` and `gpg.format` in git's configuration, or set commit.gpgSign to false",
        )
    if _FULL.search(said):
        return OutsideError(f"a disk is full: {short}", where=where, fix="make room, and try again")
    if "refusing to update checked out branch" in said:
        return AccessError(
            "the repository is a person's checkout of this very branch, and git will not change it under them",
            where=where,
            fix="use a bare repository (`git clone --bare`), or another branch",
        )
    if "hook declined" in said or "protected branch" in said:
        return AccessError(
            f"the remote's rules refused the commit: {_remote_words(said) or short}",
            where=where,
            fix="let Upkeep's account push to this branch, or set `rollout.branch` to one where it may",
        )
    if _READ_ONLY.search(said):
        return AccessError(f"the repository is read-only: {short}", where=where, fix="give write access to it")
    if _MOVED.search(said):
        return ConflictError("somebody else pushed first", where=where, fix="try again")
    if _DENIED.search(said):
        return AccessError(
            f"the repository refused access: {short}",
            where=where,
            fix=f"for https set {TOKEN} (and {USERNAME}) or a credential helper; for ssh see that `ssh HOST` gets in "
            "without a question; the account must be allowed to push",
        )
    if "invalid refspec" in said or "not a valid ref" in said:
        return InputError("the branch has no name that git allows", where=Where(field="rollout.branch"))
    if _GONE.search(said):
        kind = AccessError if "://" in url and not url.startswith("file:") else OutsideError
        return kind(
            f"there is no such repository, or it may not be seen: {short}",
            where=where,
            fix="see `rollout.repository`; a new one is made with `git init --bare`",
        )
    return OutsideError(f"git failed: {short}", where=where, fix=_TRY_AGAIN)


def _gist(said: str) -> str:
    """The line that says most."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    for mark in ("remote: error:", "remote: fatal:", "fatal:", "error:", "!", "ssh:"):
        for line in lines:
            if line.startswith(mark):
                return " ".join(line.removeprefix(mark).split())[:300]
    return lines[-1][:300] if lines else "it gave no reason"


def _remote_words(said: str) -> str:
    """What the remote's hook printed."""
    lines = [line.removeprefix("remote:").strip() for line in said.splitlines() if line.startswith("remote:")]
    return " ".join(line for line in lines if line)[:300]


def _os_error(error: OSError, place: str) -> UpkeepError:
    if isinstance(error, PermissionError):
        return AccessError(f"no permission: {error.strerror}", where=Where(place), fix="give write access to it")
    return OutsideError(
        f"{error.strerror or error}", where=Where(place), fix="see the disk and its space, and try again"
    )
