from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.rollout_make import Rollouts
from upkeep.errors import OutsideError
from upkeep.registry.registry import Registry
from upkeep.rollout.analysis.sources import PrometheusSource
from upkeep.rollout.connect import Registered, connect
from upkeep.store import open_store


@pytest.fixture
def rollouts(tmp_path: Path) -> Rollouts:
    made = Rollouts(tmp_path)
    made.release(1, None)
    return made


def test_what_the_registry_knows_of_a_version(rollouts: Rollouts) -> None:
    store = open_store(rollouts.spec.store)
    registered = Registered(Registry(store, "tiny"))
    champion = rollouts.serving.champion
    assert champion is not None
    digest = champion.digest
    assert registered.missing("v1", digest) == ()
    assert registered.missing("v2", digest) == ["the card of v2"]
    assert registered.missing("v1", "0" * 64) == ["a card of v1 with the digest 000000000000"]
    served = registered.served("v1")
    assert (served.version, served.digest, served.update, served.format) == ("v1", digest, "u1", "sklearn")
    assert registered.rows("v1") == [{"a": 0.0, "b": 0.0}, {"a": 1.0, "b": 1.0}]
    store.delete(f"tiny/models/{digest}/model.skops")
    (missing,) = registered.missing("v1", digest)
    assert missing.endswith("model.skops")
    store.delete("tiny/versions/v1.json")
    assert registered.missing("v1", digest) == ["the card of v1"]


def test_the_outside_is_as_spec_and_environment_name_it(rollouts: Rollouts, tmp_path: Path) -> None:
    spec = rollouts.spec
    with connect(spec, {"UPKEEP_CLUSTER": str(tmp_path / "elsewhere")}) as model:
        assert model.labels is None
        with pytest.raises(OutsideError, match="elsewhere"):
            model.cluster.live(spec)
    text = rollouts.cluster.spec_file.read_text()
    rollouts.cluster.spec_file.write_text(text + "monitoring: {prometheus: http://127.0.0.1:9090, labels: labels}\n")
    spec = rollouts.cluster.spec
    with connect(spec, {}) as model:
        assert isinstance(model.counters, PrometheusSource)
        assert model.labels is not None
