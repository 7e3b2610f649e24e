"""What git says when it fails, in the words of real versions and hosts, and what becomes of it."""

from __future__ import annotations

import pytest

from upkeep.errors import AccessError, ConflictError, InputError, OutsideError, UpkeepError
from upkeep.rollout.git import failure

URL = "https://git.test/models.git"
SAID: list[tuple[str, type[UpkeepError], str]] = [
    ("fatal: Authentication failed for 'https://git.test/models.git/'", AccessError, "UPKEEP_GIT_TOKEN"),
    ("fatal: could not read Username for 'https://git.test': terminal prompts disabled", AccessError, "refused access"),
    ("git@git.test: Permission denied (publickey).\nfatal: Could not read from remote repository.", AccessError, "ssh"),
    ("Host key verification failed.\nfatal: Could not read from remote repository.", AccessError, "refused access"),
    ("fatal: unable to access 'https://git.test/': The requested URL returned error: 403", AccessError, "403"),
    ("remote: Repository not found.\nfatal: repository 'https://git.test/m/' not found", AccessError, "no such"),
    ("fatal: unable to access 'https://git.test/': Could not resolve host: git.test", OutsideError, "resolve host"),
    ("fatal: unable to access 'https://git.test/': The requested URL returned error: 503", OutsideError, "503"),
    ("fatal: the remote end hung up unexpectedly", OutsideError, "hung up"),
    ("error: file write error: No space left on device\nfatal: unable to write loose object", OutsideError, "is full"),
    ("remote: fatal: write error: No space left on device\n! [remote rejected] (unpacker error)", OutsideError, "full"),
    ("fatal: Unable to create '/r/refs/heads/main.lock': Permission denied", AccessError, "read-only"),
    ("remote: error: insufficient permission for adding an object to repository", AccessError, "read-only"),
    ("error: unable to create temporary file: Read-only file system", AccessError, "read-only"),
    ("!\tx:refs/heads/main\t[rejected] (stale info)\nDone", ConflictError, "pushed first"),
    ("!\tx:refs/heads/main\t[rejected] (fetch first)", ConflictError, "pushed first"),
    ("remote: error: cannot lock ref 'refs/heads/main': is at a but expected b\n! [x]", ConflictError, ""),
    ("!\tx:refs/heads/main\t[remote rejected] (failed to update ref)", ConflictError, ""),
    ("remote: error: GH006: Protected\n!\t[remote rejected] (protected branch hook declined)", AccessError, "GH006"),
    ("fatal: detected dubious ownership in repository at '/r'", AccessError, "safe.directory"),
    ("error: gpg failed to sign the data\nfatal: failed to write commit object", AccessError, "signed"),
    ("fatal: invalid refspec '+refs/heads/a b:x'", InputError, "branch"),
    ("", OutsideError, "no reason"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "kind", "words"), SAID)
def test_each_failure_has_its_class_and_a_way_out(said: str, kind: type[UpkeepError], words: str) -> None:
    error = failure(said, URL)
    assert type(error) is kind
    assert words in str(error)


def test_an_address_in_gits_words_loses_its_password() -> None:
    error = failure("fatal: unable to access 'https://bob:hunter2@git.test/m.git/': x", URL)
    assert "hunter2" not in str(error)
