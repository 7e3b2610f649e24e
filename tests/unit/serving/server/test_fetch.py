"""No byte is loaded that is not what the digest says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.models.models_make import model
from upkeep.errors import InputError, IntegrityError
from upkeep.models.digest import folder_digest
from upkeep.serving.server.fetch import expected_digest, model_folder
from upkeep.store import MissingObject

OTHER = "0" * 64


def test_a_folder_is_used_where_it_is_when_its_bytes_are_right(tmp_path: Path) -> None:
    model(tmp_path / "m")
    digest = folder_digest(tmp_path / "m")
    for address in (str(tmp_path / "m"), (tmp_path / "m").as_uri()):
        for expected in (digest, ""):
            with model_folder(address, expected) as (folder, found):
                assert (folder, found) == (tmp_path / "m", digest)


def test_other_bytes_are_refused(tmp_path: Path) -> None:
    model(tmp_path / OTHER)
    for expected in (OTHER, ""):  # without a digest, the address says it
        with (
            pytest.raises(IntegrityError, match="not what was registered"),
            model_folder(str(tmp_path / OTHER), expected),
        ):
            pass


def test_no_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(MissingObject, match="there is no model folder"), model_folder(str(tmp_path / "m"), ""):
        pass


def test_the_address_and_the_digest_must_agree() -> None:
    assert expected_digest(f"s3://b/models/{OTHER}/", "") == expected_digest("/mnt/models", OTHER) == OTHER
    assert expected_digest("/mnt/models", "") == ""
    with pytest.raises(InputError, match="the address ends in"):
        expected_digest(f"s3://b/models/{OTHER}", "1" * 64)
    with pytest.raises(InputError, match="no digest"):
        expected_digest("/mnt/models", "latest")
