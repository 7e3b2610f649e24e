"""The registry over a store in memory, or a folder where bytes are damaged on disk."""

import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from upkeep import records
from upkeep.errors import ConflictError, InputError, IntegrityError, OutsideError
from upkeep.models.folder import folder_digest
from upkeep.registry.registry import Registry, Sweep
from upkeep.store import MissingObject, Store, open_store

from .registry_fakes import NOON, SPEC, FailingStore, card, dataset, model_folder, publish

LATER = datetime.now(UTC) + timedelta(days=30)
DAY = timedelta(days=1)


@pytest.fixture
def store() -> Store:
    return open_store("memory://")


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store, "m")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return model_folder(tmp_path / "model")


def keys(store: Store, part: str = "") -> list[str]:
    return sorted(entry.key for entry in store.list() if part in entry.key)


class TestModels:
    def test_there_and_back(self, registry: Registry, folder: Path, tmp_path: Path) -> None:
        digest = registry.put_model(folder)
        assert digest == folder_digest(folder)
        assert registry.get_model(digest, tmp_path / "back") == tmp_path / "back"
        assert folder_digest(tmp_path / "back") == digest
        assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
        assert registry.model_uri(digest) == f"memory:///m/models/{digest}"

    def test_twice_is_once(self, registry: Registry, store: Store, folder: Path, tmp_path: Path) -> None:
        assert registry.put_model(folder) == registry.put_model(folder)
        digest = folder_digest(folder)
        first = registry.get_model(digest, tmp_path / "back")
        assert registry.get_model(digest, tmp_path / "back") == first
        assert len(keys(store, "/models/")) == 3

    def test_something_else_in_the_way(self, registry: Registry, folder: Path, tmp_path: Path) -> None:
        digest = registry.put_model(folder)
        (tmp_path / "busy").mkdir()
        (tmp_path / "busy" / "mine").write_text("keep")
        with pytest.raises(InputError, match="something else"):
            registry.get_model(digest, tmp_path / "busy")
        assert (tmp_path / "busy" / "mine").read_text() == "keep"

    def test_no_such_model(self, registry: Registry, tmp_path: Path) -> None:
        with pytest.raises(MissingObject):
            registry.get_model("0" * 64, tmp_path / "x")
        assert not (tmp_path / "x").exists()

    def test_an_empty_folder_is_no_model(self, registry: Registry, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(InputError):
            registry.put_model(tmp_path / "empty")

    @pytest.mark.parametrize("name", ["manifest.json", "model.skops", "members/one/model.skops"])
    def test_a_flipped_byte_is_named(self, folder: Path, tmp_path: Path, name: str) -> None:
        registry = Registry(open_store(str(tmp_path / "store")), "m")
        version = publish(registry, folder)
        assert registry.verify("v1") == ()
        path = tmp_path / "store" / "m" / "models" / version.digest / name
        data = bytearray(path.read_bytes())
        data[0] ^= 1
        path.write_bytes(data)
        with pytest.raises(IntegrityError, match=name) as caught:
            registry.get_model(version.digest, tmp_path / "back")
        assert (caught.value.exit_code, caught.value.retry) == (3, False)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "store"]
        (problem,) = registry.verify("v1")
        assert problem.where.file.endswith(f"{version.digest}/{name}")

    def test_a_damaged_listing_is_named(self, registry: Registry, store: Store, folder: Path, tmp_path: Path) -> None:
        digest = registry.put_model(folder)
        key = f"m/files/{digest}.json"
        whole = store.get(key)
        for damaged in (b"", b"{", whole.replace(b"model.skops", b"../../etc/x"), whole.replace(b": 5", b": 6")):
            store.put(key, damaged)
            if damaged != whole.replace(b": 5", b": 6"):
                with pytest.raises(IntegrityError, match="m/files/"):
                    registry.get_model(digest, tmp_path / "back")
            else:  # a size is not part of the digest; it only makes the folder look cut short
                with pytest.raises(MissingObject, match="cut short"):
                    registry.register(card(digest))
            assert not (tmp_path / "back").exists()


class TestVersions:
    def test_numbers_rise(self, registry: Registry, folder: Path) -> None:
        digest = registry.put_model(folder)
        for number in range(1, 13):
            assert registry.register(card(digest, update=f"u{number}")).version == f"v{number}"
        assert registry.versions() == tuple(f"v{number}" for number in range(1, 13))
        assert [c.update for c in registry.cards()] == [f"u{number}" for number in range(1, 13)]
        assert registry.card("v10") == card(digest, update="u10", version="v10")

    def test_the_same_update_again_is_the_same_version(self, registry: Registry, folder: Path) -> None:
        digest = registry.put_model(folder)
        first = registry.register(card(digest))
        registry.register(card(digest, update="other"))
        assert registry.register(card(digest, created="2026-03-02T00:00:00+00:00")) == first
        assert registry.versions() == ("v1", "v2")

    def test_sixteen_writers_lose_nothing(self, registry: Registry, folder: Path) -> None:
        digest = registry.put_model(folder)
        with ThreadPoolExecutor(16) as pool:
            made = list(pool.map(lambda n: registry.register(card(digest, update=f"u{n}")), range(16)))
        assert sorted(c.version for c in made) == sorted(f"v{n}" for n in range(1, 17))
        assert {c.version: c.update for c in registry.cards()} == {c.version: c.update for c in made}

    def test_one_update_racing_itself_gets_one_version(self, registry: Registry, folder: Path) -> None:
        digest = registry.put_model(folder)
        with ThreadPoolExecutor(16) as pool:
            made = list(pool.map(lambda n: registry.register(card(digest, update=f"u{n % 2}")), range(16)))
        assert registry.versions() == ("v1", "v2")
        assert {c.version for c in made} == {"v1", "v2"}

    def test_bytes_must_be_there(self, registry: Registry, store: Store, folder: Path) -> None:
        with pytest.raises(MissingObject):
            registry.register(card("0" * 64))
        digest = registry.put_model(folder)
        store.delete(f"m/models/{digest}/members/one/model.skops")
        with pytest.raises(MissingObject, match="members/one"):
            registry.register(card(digest))
        assert registry.versions() == ()

    def test_another_models_card(self, registry: Registry, folder: Path) -> None:
        with pytest.raises(InputError):
            registry.register(card(registry.put_model(folder), model="other"))

    def test_no_such_version(self, registry: Registry, folder: Path) -> None:
        with pytest.raises(InputError, match="has no version 'v1'"):
            registry.card("v1")
        publish(registry, folder)
        with pytest.raises(InputError, match="name one of v1"):
            registry.card("v2")
        for name in ("1", "v01", "v0", "../v1", "", "latest"):
            with pytest.raises(InputError):
                registry.card(name)

    def test_a_damaged_card(self, registry: Registry, store: Store, folder: Path) -> None:
        publish(registry, folder)
        data = store.get("m/versions/v1.json")
        for damaged in (data[:-20], b"{}", data.replace(b'"v1"', b'"v2"'), data.replace(b'"m"', b'"n"')):
            store.put("m/versions/v1.json", damaged)
            with pytest.raises(IntegrityError, match=r"versions/v1\.json"):
                registry.card("v1")
            (problem,) = registry.verify("v1")
            assert problem.where.file.endswith("v1.json")

    def test_other_files_beside_the_cards(self, registry: Registry, store: Store, folder: Path) -> None:
        publish(registry, folder)
        for name in ("v1.json.sig", "v2", "notes.txt", "v3.json/x"):
            store.put(f"m/versions/{name}", b"")
        assert registry.versions() == ("v1",)

    def test_writers_in_many_processes(self, folder: Path, tmp_path: Path) -> None:
        root = str(tmp_path / "store")
        registry = Registry(open_store(root), "m")
        digest = registry.put_model(folder)
        script = textwrap.dedent(f"""
            import sys
            from concurrent.futures import ThreadPoolExecutor
            sys.path.insert(0, {str(Path(__file__).parent)!r})
            from registry_fakes import card
            from upkeep.registry.registry import Registry
            from upkeep.store import open_store
            registry = Registry(open_store({root!r}), "m")
            sys.stdin.read(1)
            with ThreadPoolExecutor(4) as pool:
                for made in pool.map(lambda n: registry.register(card({digest!r}, update=sys.argv[1] + n)), "abcd"):
                    print(made.version, made.update)
        """)
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", script, str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for n in range(4)
        ]
        said = {line for writer in writers for line in _finish(writer)}
        assert len(said) == 16
        assert said == {f"{c.version} {c.update}" for c in registry.cards()}
        assert registry.versions() == tuple(f"v{n}" for n in range(1, 17))


def _finish(writer: "subprocess.Popen[str]") -> list[str]:
    output, _ = writer.communicate("x")
    assert writer.returncode == 0
    return output.splitlines()


class TestCrashes:
    @pytest.mark.parametrize("after", [False, True], ids=["not done", "reply lost"])
    @pytest.mark.parametrize(
        "error", [OutsideError("the network is gone"), KeyboardInterrupt()], ids=["error", "Ctrl-C"]
    )
    def test_at_every_call(self, folder: Path, tmp_path: Path, error: BaseException, after: bool) -> None:
        counting = FailingStore(open_store("memory://"), error)
        publish(Registry(counting, "m"), folder)
        assert len(counting.calls) > 8
        for number in range(1, len(counting.calls) + 1):
            inner = open_store("memory://")
            sound = Registry(inner, "m")
            with pytest.raises(type(error)):
                publish(Registry(FailingStore(inner, error, number, after), "m"), folder)
            for version in sound.versions():  # what is there is whole
                assert sound.verify(version) == ()
            done = publish(sound, folder)
            assert sound.versions() == (done.version,) == ("v1",)
            assert sound.verify("v1") == ()
            assert sound.sweep(LATER, DAY, dry_run=True) == ()

    def test_bytes_without_a_version_are_swept(self, folder: Path) -> None:
        error = OutsideError("gone")
        calls = FailingStore(open_store("memory://"), error)
        publish(Registry(calls, "m"), folder)
        for number in range(1, len(calls.calls) + 1):
            inner = open_store("memory://")
            sound = Registry(inner, "m")
            with pytest.raises(OutsideError):
                publish(Registry(FailingStore(inner, error, number), "m"), folder)
            if not sound.versions():
                sound.sweep(LATER, DAY)
                assert keys(inner, "/models/") == keys(inner, "/files/") == []
                assert publish(sound, folder).version == "v1"


class TestVerify:
    def test_what_is_wrong_is_listed(self, registry: Registry, store: Store, folder: Path) -> None:
        version = publish(registry, folder)
        assert registry.verify("v1") == ()
        root = f"m/models/{version.digest}"
        store.delete(f"{root}/manifest.json")
        store.put(f"{root}/model.skops", b"other")
        store.put(f"{root}/extra.pkl", b"?")
        store.delete(f"m/specs/{version.spec}.json")
        store.put(f"m/datasets/{version.dataset}.json", records.to_json(dataset("b.csv")))
        places = [problem.where.file.removeprefix("memory:///m/") for problem in registry.verify("v1")]
        assert sorted(places) == sorted(
            [
                f"models/{version.digest}/manifest.json",
                f"models/{version.digest}/model.skops",
                f"models/{version.digest}/extra.pkl",
                f"specs/{version.spec}.json",
                f"datasets/{version.dataset}.json",
            ]
        )

    def test_no_such_version(self, registry: Registry) -> None:
        with pytest.raises(InputError):
            registry.verify("v9")


class TestDiff:
    def test_fields_that_differ(self, registry: Registry, tmp_path: Path) -> None:
        other_spec = records.to_json({"metadata": {"name": "m"}, "gate": {"better": {"by": 0.01}}, "seed": 1})
        one, two = dataset("a.csv", "b.csv"), dataset("b.csv", "c.csv")
        for spec in (SPEC, other_spec):
            registry.put_spec(spec)
        for data in (one, two):
            registry.put_dataset(data)
        first = card(registry.put_model(model_folder(tmp_path / "1")), dataset=one.digest)
        registry.register(first)
        trained = replace(first.trained, params={"max_iter": 200, "l2": 0.1}, periods=("2026-02",))
        scores = {"all": replace(first.scores["all"], metrics={"f1": 0.6, "roc_auc": None})}
        digest = registry.put_model(model_folder(tmp_path / "2", "other"))
        registry.register(
            card(
                digest,
                update="u2",
                dataset=two.digest,
                spec=records.digest(other_spec),
                trained=trained,
                scores=scores,
                rows={"train": 600, "held_out": 100},
            )
        )
        found = {d.field: (d.a, d.b) for d in registry.diff("v1", "v2")}
        assert found == {
            "digest": (first.digest, digest),
            "dataset": (one.digest, two.digest),
            "rows.train": (500, 600),
            "spec": (records.digest(SPEC), records.digest(other_spec)),
            "trained.params.max_iter": (100, 200),
            "trained.params.l2": (None, 0.1),
            "trained.periods": ("2026-01, 2026-02", "2026-02"),
            "scores.all.f1": (0.5, 0.6),
            "spec.gate.better.by": (0.005, 0.01),
            "spec.seed": (None, 1),
            "data.a.csv": ("da.csv", None),
            "data.c.csv": (None, "dc.csv"),
        }
        assert registry.diff("v1", "v1") == ()

    def test_lost_records_do_not_stop_it(self, registry: Registry, folder: Path) -> None:
        digest = registry.put_model(folder)
        registry.register(card(digest, dataset="x" * 64))
        registry.register(card(digest, update="u2", dataset=None))
        assert [d.field for d in registry.diff("v1", "v2")] == ["dataset"]


class TestSweep:
    def test_never_what_is_named(self, registry: Registry, store: Store, tmp_path: Path) -> None:
        parent = registry.put_model(model_folder(tmp_path / "parent", "parent"))
        digest = registry.put_model(model_folder(tmp_path / "named", "named"))
        registry.put_spec(SPEC)
        registry.register(card(digest, parents=(parent,)))
        loser = registry.put_model(model_folder(tmp_path / "loser", "loser"))
        gone = registry.sweep(LATER, DAY, dry_run=True)
        assert {key.split("/")[2].removesuffix(".json") for key in gone} == {loser}
        assert registry.sweep(LATER, DAY) == gone
        assert keys(store, loser) == []
        assert registry.verify("v1") == ()
        assert len(keys(store, parent)) == 4

    def test_what_a_young_training_names_stays_and_an_old_one_goes_with_its_record(self, tmp_path: Path) -> None:
        """Bytes may be older than the training that made the same again."""
        store = open_store(str(tmp_path / "store"))
        registry = Registry(store, "m")
        names, digests = {}, {}
        for name in ("young", "old"):
            digests[name] = registry.put_model(model_folder(tmp_path / name, name))
            names[name] = registry.put_trained(records.to_json({"model": digests[name], "parents": [], "more": 1}))
        long_ago = (datetime.now(UTC) - 3 * DAY).timestamp()
        for path in (tmp_path / "store").rglob("*"):
            if path.is_file() and names["young"] not in path.name:
                os.utime(path, (long_ago, long_ago))
        assert registry.last_sweep() == ""
        planned = registry.sweep(datetime.now(UTC), DAY, dry_run=True)
        assert registry.last_sweep() == ""
        assert registry.sweep(datetime.now(UTC), DAY) == planned
        assert registry.missing(digests["young"]) == ()
        assert registry.get_trained(names["young"])
        assert registry.missing(digests["old"])
        with pytest.raises(MissingObject):
            registry.get_trained(names["old"])
        assert registry.last_sweep() == "000001"
        assert records.from_json(Sweep, store.get("m/sweeps/000001.json")).trained == (names["old"],)
        assert registry.sweep(datetime.now(UTC), DAY) == ()
        assert registry.last_sweep() == "000001", "a sweep that takes no training leaves the cache as it is"
        registry.sweep(datetime.now(UTC) + 3 * DAY, DAY)
        assert registry.last_sweep() == "000002"

    def test_never_what_is_young(self, registry: Registry, store: Store, folder: Path) -> None:
        registry.put_model(folder)
        there = keys(store)
        assert registry.sweep(datetime.now(UTC), DAY) == ()
        assert set(there) <= set(keys(store))

    def test_nothing_when_a_card_cannot_be_read(self, registry: Registry, store: Store, folder: Path) -> None:
        publish(registry, folder)
        store.put("m/versions/v1.json", b"{}")
        with pytest.raises(IntegrityError):
            registry.sweep(LATER, DAY)
        assert len(keys(store, "/models/")) == 3

    def test_not_while_an_update_runs(self, registry: Registry, folder: Path) -> None:
        registry.put_model(folder)
        with registry.lock("u1", now=lambda: LATER, seconds=60):
            with pytest.raises(ConflictError, match="u1"):
                registry.sweep(LATER, DAY)
            assert registry.sweep(LATER, DAY, dry_run=True)
        assert registry.sweep(LATER, DAY)

    def test_states(self, registry: Registry, store: Store, tmp_path: Path) -> None:
        old = registry.put_state("online", model_folder(tmp_path / "1", "one"))
        new = registry.put_state("online", model_folder(tmp_path / "2", "two"))
        assert registry.latest_state("online") == new
        gone = registry.sweep(LATER, DAY)
        assert all(old in key or "latest/000001" in key for key in gone)
        assert len(gone) == 5
        assert registry.latest_state("online") == new
        registry.get_state("online", new, tmp_path / "back")
        again = registry.put_state("online", model_folder(tmp_path / "3", "three"))
        assert registry.latest_state("online") == again

    def test_crashed_writers_and_past_locks(self, tmp_path: Path) -> None:
        store = open_store(str(tmp_path))
        registry = Registry(store, "m")
        for holder in ("a", "b"):
            with registry.lock(holder, now=lambda: NOON, seconds=60):
                pass
        (tmp_path / "m" / "versions").mkdir()
        (tmp_path / "m" / "versions" / "v1.json#3").write_bytes(b"half")
        assert registry.versions() == ()
        assert registry.sweep(LATER, DAY) == (
            "m/lock/update/000001.json",
            "m/lock/update/000001.released.json",
            "m/lock/update/000002.json",
            "m/lock/update/000002.released.json",
            "m/versions/v1.json#3",
        )
        assert registry.sweep(NOON - DAY, DAY) == ()

    def test_what_a_killed_step_had_handed_to_workers_goes(self) -> None:
        store = open_store("memory://")
        left = "m/workers/net-3f9c2ab4/prepared/abc/rows/period=2024-01/part-00000.parquet"
        store.put(left, b"rows")
        registry = Registry(store, "m")
        assert registry.sweep(datetime.now(UTC), DAY, dry_run=True) == ()
        assert registry.sweep(datetime.now(UTC) + 2 * DAY, DAY, dry_run=True) == (left,)

    def test_crash_in_a_sweep(self, folder: Path) -> None:
        error = OutsideError("gone")
        counting = FailingStore(open_store("memory://"), error)
        Registry(counting.inner, "m").put_model(folder)
        Registry(counting, "m").sweep(LATER, DAY)
        for number in range(1, len(counting.calls)):
            inner = open_store("memory://")
            sound = Registry(inner, "m")
            publish(sound, folder)
            sound.put_model(model_folder(folder.parent / str(number), "loser"))
            with pytest.raises(OutsideError):
                Registry(FailingStore(inner, error, number), "m").sweep(LATER, DAY)
            assert sound.verify("v1") == ()
            sound.sweep(LATER + DAY, DAY)
            assert len(keys(inner, "/models/")) == 3


class TestRecords:
    def test_datasets_and_specs(self, registry: Registry, store: Store) -> None:
        one, two = dataset("a.csv"), dataset("a.csv", "b.csv")
        for data in (one, two, one):
            assert registry.put_dataset(data) == data.digest
        assert sorted(d.digest for d in registry.datasets()) == sorted([one.digest, two.digest])
        assert registry.get_dataset(two.digest) == two
        digest = registry.put_spec(SPEC)
        assert registry.get_spec(digest) == SPEC
        store.put(f"m/specs/{digest}.json", SPEC + b" ")
        with pytest.raises(IntegrityError):
            registry.get_spec(digest)
        with pytest.raises(MissingObject):
            registry.get_spec("0" * 64)

    def test_profiles(self, registry: Registry, store: Store) -> None:
        from upkeep.data.kinds import Column
        from upkeep.drift.profile import make_baseline

        rows = pa.table({"x": [1.0, 2.0, None], "c": ["a", "b", "a"]})
        columns = [Column(name="x", kind="numeric"), Column(name="c", kind="categorical")]
        baseline = make_baseline(rows.to_batches, columns)
        digest = registry.put_profile(baseline)
        assert digest == baseline.digest
        assert registry.get_profile(digest) == baseline
        store.put(f"m/profiles/{digest}.json", b"{}")
        with pytest.raises(IntegrityError):
            registry.get_profile(digest)

    def test_states(self, registry: Registry, store: Store, tmp_path: Path) -> None:
        assert registry.latest_state("online") == ""
        one = registry.put_state("online", model_folder(tmp_path / "1", "one"))
        assert registry.put_state("online", tmp_path / "1") == one
        assert len(keys(store, "/latest/")) == 1
        two = registry.put_state("online", model_folder(tmp_path / "2", "two"))
        assert registry.latest_state("online") == two
        assert registry.latest_state("other") == ""
        back = registry.get_state("online", one, tmp_path / "back")
        assert (back / "model.skops").read_text() == "one"
        assert registry.put_state("online", tmp_path / "1") == one  # back to an older one is a step like any other
        assert registry.latest_state("online") == one

    def test_checkpoints(self, registry: Registry, store: Store) -> None:
        assert registry.get_checkpoint("net") is None
        registry.put_checkpoint("net", b"half way")
        registry.put_checkpoint("net", b"further")
        assert registry.get_checkpoint("net") == b"further"
        assert registry.get_checkpoint("other") is None
        assert registry.sweep(datetime.now(UTC), DAY) == ()
        assert "m/checkpoints/net.npz" in registry.sweep(LATER, DAY)
        assert registry.get_checkpoint("net") is None
        registry.put_checkpoint("net", b"again")
        registry.drop_checkpoint("net")
        registry.drop_checkpoint("net")
        assert registry.get_checkpoint("net") is None

    def test_a_state_is_there_whole_or_not(self, tmp_path: Path) -> None:
        one, two = model_folder(tmp_path / "1", "one"), model_folder(tmp_path / "2", "two")
        error = OutsideError("gone")
        for number in range(1, 12):
            inner = open_store("memory://")
            sound = Registry(inner, "m")
            before = sound.put_state("online", one)
            failing = FailingStore(inner, error, number)
            try:
                Registry(failing, "m").put_state("online", two)
            except OutsideError:
                created = any(call.startswith("create") and "/latest/" in call for call in failing.calls[:-1])
                assert (sound.latest_state("online") == before) != created
            else:
                assert number > len(failing.calls)
            sound.get_state("online", sound.latest_state("online"), tmp_path / f"back{number}")

    def test_held_out(self, registry: Registry, tmp_path: Path) -> None:
        assert (registry.held_out_name(), registry.held_out_before()) == ("", None)
        names = []
        for number, rows in enumerate(([1, 2], [2, 3], [2, 3])):
            path = tmp_path / f"{number}.parquet"
            table = pa.table({"_row": pa.array(rows, pa.uint64()), "_content": pa.array([9] * 2, pa.uint64())})
            pq.write_table(table, path)
            registry.put_held_out("d" * 64, path)
            names.append(registry.held_out_name())
        assert names[0] != names[1] == names[2]
        before = registry.held_out_before()
        assert before is not None
        assert sorted(before.column("_row").to_pylist()) == [1, 2, 3]
        assert before.schema.types == [pa.uint64(), pa.uint64()]

    def test_damaged_fingerprints(self, registry: Registry, store: Store) -> None:
        store.put("m/heldout/x.parquet", b"PAR1 no more")
        with pytest.raises(IntegrityError, match=r"heldout/x\.parquet"):
            registry.held_out_before()

    def test_fingerprints_that_are_not_those_that_were_kept(
        self, registry: Registry, store: Store, tmp_path: Path
    ) -> None:
        """They are readable, and would let rows into training that were held out."""
        for name, rows in (("kept", [1, 2]), ("other", [3])):
            table = pa.table({"_row": pa.array(rows, pa.uint64()), "_content": pa.array(rows, pa.uint64())})
            pq.write_table(table, tmp_path / name)
        registry.put_held_out("d" * 64, tmp_path / "kept")
        ((key, *_),) = store.list("m/heldout")
        store.put(key, tmp_path / "other")
        with pytest.raises(IntegrityError, match="heldout/"):
            registry.held_out_before()

    def test_updates(self, registry: Registry) -> None:
        uri = registry.put_update("20260301T120000Z-aaaaaa", "record.json", b"1")
        registry.put_update("20260301T120000Z-aaaaaa", "record.json", b"2")
        registry.put_update("20260201T120000Z-bbbbbb", "errors/train.json", b"3")
        assert uri == "memory:///m/updates/20260301T120000Z-aaaaaa/record.json"
        assert registry.ended_updates().keys() == {"20260301T120000Z-aaaaaa"}
        assert registry.get_update("20260301T120000Z-aaaaaa", "record.json") == b"2"

    def test_models_are_apart(self, registry: Registry, store: Store, folder: Path) -> None:
        publish(registry, folder)
        other = Registry(store, "m2")
        assert (other.versions(), other.datasets(), other.ended_updates()) == ((), (), {})
        assert other.sweep(LATER, DAY) == ()
        assert registry.verify("v1") == ()
