"""The registry on every store: what must not be decided twice is decided once."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from upkeep import records
from upkeep.errors import ConflictError, IntegrityError
from upkeep.evaluation.result import Scores
from upkeep.registry.card import Card, Trained
from upkeep.registry.registry import Registry
from upkeep.spec.model import ObjectStore
from upkeep.store import open_store

SPEC = records.to_json({"metadata": {"name": "m"}})
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    (path / "members" / "one").mkdir(parents=True)
    (path / "manifest.json").write_text("{}")
    (path / "members" / "one" / "model.skops").write_bytes(bytes(range(256)) * 100)
    return path


def card(digest: str, update: str) -> Card:
    trained = Trained(candidate="c", strategy="retrain", params={}, seed=0, rows=1, periods=(), until=None, seconds=0.0)
    scores: dict[str, Scores] = {}
    return Card(
        model="m",
        version="",
        digest=digest,
        size_bytes=1,
        created="2026-03-01T12:00:00+00:00",
        update=update,
        dataset=None,
        rows={},
        spec=records.digest(SPEC),
        code={},
        trained=trained,
        scores=scores,
        verdict=None,
        champion=None,
        parents=(),
        profile=None,
        drift=None,
    )


def test_sixteen_writers_lose_nothing(place: tuple[str, ObjectStore], folder: Path) -> None:
    registries = [Registry(open_store(*place), "m") for _ in range(16)]
    registries[0].put_spec(SPEC)

    def write(who: int) -> Card:
        digest = registries[who].put_model(folder)  # all of them the same bytes, too
        return registries[who].register(card(digest, f"u{who}"))

    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(write, range(16)))
    assert sorted(int(c.version[1:]) for c in made) == list(range(1, 17))
    assert list(registries[0].cards()) == sorted(made, key=lambda c: int(c.version[1:]))
    assert registries[0].verify("v16") == ()


def test_sixteen_want_the_lock(place: tuple[str, ObjectStore]) -> None:
    registries = [Registry(open_store(*place), "m") for _ in range(16)]
    inside: list[int] = []

    def work(who: int) -> bool:
        try:
            with registries[who].lock(f"u{who}", now=lambda: NOON, seconds=60):
                inside.append(who)
                assert inside == [who]
                inside.remove(who)
                return True
        except ConflictError as error:
            assert "is at work" in str(error) or "in a row" in str(error)
            return False

    with ThreadPoolExecutor(16) as pool:
        assert any(pool.map(work, range(16)))
    with registries[0].lock("last", now=lambda: NOON, seconds=60):
        pass


def test_a_flipped_byte_is_named(place: tuple[str, ObjectStore], folder: Path, tmp_path: Path) -> None:
    store = open_store(*place)
    registry = Registry(store, "m")
    registry.put_spec(SPEC)
    digest = registry.put_model(folder)
    registry.register(card(digest, "u"))
    assert registry.verify("v1") == ()
    key = f"m/models/{digest}/members/one/model.skops"
    data = bytearray(store.get(key))
    data[1000] ^= 4
    store.put(key, bytes(data))
    with pytest.raises(IntegrityError, match=r"members/one/model\.skops"):
        registry.get_model(digest, tmp_path / "back")
    assert not (tmp_path / "back").exists()
    (problem,) = registry.verify("v1")
    assert problem.where.file == f"{store.uri}/{key}"


def test_swept_and_stored_again(place: tuple[str, ObjectStore], folder: Path, tmp_path: Path) -> None:
    registry = Registry(open_store(*place), "m")
    digest = registry.put_model(folder)
    assert len(registry.sweep(datetime.now(UTC) + timedelta(days=2), timedelta(days=1))) == 3
    assert list(registry.store.list("m/models")) == []
    assert registry.put_model(folder) == digest
    registry.get_model(digest, tmp_path / "back")
    assert registry.register(card(digest, "u")).version == "v1"


def test_states_go_on(place: tuple[str, ObjectStore], folder: Path, tmp_path: Path) -> None:
    registry = Registry(open_store(*place), "m")
    one = registry.put_state("online", folder)
    (folder / "more").write_text("more")
    two = registry.put_state("online", folder)
    assert registry.latest_state("online") == two != one
    assert (registry.get_state("online", two, tmp_path / "two") / "more").exists()
