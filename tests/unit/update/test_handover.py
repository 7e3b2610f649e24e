"""What a step hands to its workers, over S3, which is where they meet on a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.conftest import KEY, SECRET, moto  # noqa: F401 - a fixture
from upkeep.errors import InputError, OutsideError
from upkeep.registry.server import ensure_bucket
from upkeep.spec.model import ObjectStore
from upkeep.store import open_store
from upkeep.update.failure import step_error
from upkeep.update.handover import Handover, Inputs, Told

INPUTS = Inputs(
    spec="s3://x", spec_digest="0", champion="", candidate="net", states={}, members={"a": "b"}, prepared=""
)


def test_both_sides_see_the_same(moto: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    for name, value in {
        "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_ENDPOINT_URL_S3": moto, "AWS_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    ensure_bucket("s3://handover", ObjectStore(endpoint=moto))
    store = open_store("s3://handover/workers/upkeep")  # as unlucky a name as there may be
    step = Handover(store, "workers/workers/net-1")
    worker = Handover.at(step.address)
    assert step.address == "s3://handover/workers/upkeep/workers/workers/net-1"
    with pytest.raises(InputError, match="no inputs of a training"):
        worker.inputs()
    assert (step.progress(), list(step.failures()), step.record()) == (None, [], "")

    rows = tmp_path / "rows/period=2024-01/part-00000.parquet"
    rows.parent.mkdir(parents=True)
    rows.write_bytes(b"rows")
    digest = step.give(tmp_path / "rows")
    step.begin(INPUTS)
    assert worker.inputs() == INPUTS
    assert (worker.rows(digest, tmp_path / "got") / "period=2024-01/part-00000.parquet").read_bytes() == b"rows"

    worker.tell(Told(text="half", share=0.5))
    worker.fail(1, step_error("train", OutsideError("lost")))
    worker.leave("abc")
    (failure,) = step.failures()
    assert (step.progress(), failure.problems[0].message, step.record()) == (
        Told(text="half", share=0.5),
        "lost",
        "abc",
    )
    worker.start(1)
    assert list(step.failures()) == []
    step.clear()
    assert list(store.list()) == []
