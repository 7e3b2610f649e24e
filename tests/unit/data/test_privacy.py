import hashlib
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.data import make
from upkeep import records
from upkeep.data.collect import collect
from upkeep.data.prepare import prepare
from upkeep.data.privacy import Protect, hash_column, key_name, protect
from upkeep.errors import InputError, SpecError
from upkeep.spec.model import Features, Privacy

SECRET = {"UPKEEP_PRIVACY_KEY": "correct horse"}


def test_the_hash_is_keyed_blake2b_of_the_text():
    key = hashlib.blake2b(b"correct horse").digest()
    expected = hashlib.blake2b(b"7", digest_size=16, key=key).hexdigest()
    assert protect(Privacy(hash=("a",)), SECRET).key == key
    for values in (["7", None], [7, None], [7.0, None]):
        assert hash_column(pa.array(values), key).to_pylist() == [expected, None]


def test_other_keys_give_other_hashes():
    column = pa.array(["a"])
    assert hash_column(column, b"one") != hash_column(column, b"two")


def test_a_key_has_a_name_that_does_not_give_it_away():
    one, same, other = (
        key_name(Privacy(hash=("a",)), {"UPKEEP_PRIVACY_KEY": key})
        for key in ("correct horse", "correct horse", "other")
    )
    assert one == same != other
    assert len(one) == 32
    key = hashlib.blake2b(b"correct horse").digest()
    assert one not in (key.hex(), hashlib.blake2b(key).hexdigest()[:32])
    assert key_name(Privacy(), SECRET) == ""
    with pytest.raises(SpecError):
        key_name(Privacy(hash=("a",)), {})


def test_another_key_is_another_dataset_so_that_no_cached_step_meets_its_rows(tmp_path):
    make.months(tmp_path, 1)
    spec = make.spec(tmp_path, privacy=Privacy(hash=("id",)))
    one, two = (collect(spec, environ={"UPKEEP_PRIVACY_KEY": key}) for key in ("one", "two"))
    assert one.files == two.files
    assert one.digest != two.digest
    assert collect(make.spec(tmp_path), environ={}).digest == collect(make.spec(tmp_path), environ=SECRET).digest
    assert b"one" not in records.to_json(one)
    with pytest.raises(SpecError, match="holds no key"):
        collect(spec, environ={})


def test_a_changed_key_is_said_plainly(tmp_path):
    make.months(tmp_path, 1)
    spec = make.spec(tmp_path, privacy=Privacy(hash=("id", "colour")))
    one, two = {"UPKEEP_PRIVACY_KEY": "one"}, {"UPKEEP_PRIVACY_KEY": "two"}
    before = collect(spec, environ=one)
    assert collect(spec, environ=one, previous=[before]) == before
    with pytest.raises(InputError, match="not the one that earlier updates hashed id, colour with") as error:
        collect(spec, environ=two, previous=[before])
    assert "--accept-changed" in str(error.value)
    accepted = collect(spec, environ=two, previous=[before], accept_changed=True)
    assert collect(spec, environ=two, previous=[before, accepted]) == accepted
    plain = collect(make.spec(tmp_path), environ={})
    assert collect(spec, environ=two, previous=[plain]).privacy_key


def test_a_step_with_another_key_than_the_update_stops(tmp_path):
    make.months(tmp_path / "data", 1)
    spec = make.spec(tmp_path / "data", privacy=Privacy(hash=("id",)))
    dataset = collect(spec, environ={"UPKEEP_PRIVACY_KEY": "one"})
    with pytest.raises(SpecError, match="not the one that this update was started with"):
        prepare(spec, dataset, tmp_path / "out", environ={"UPKEEP_PRIVACY_KEY": "two"})
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("environ", [{}, {"UPKEEP_PRIVACY_KEY": ""}])
def test_no_key(environ):
    with pytest.raises(SpecError, match="UPKEEP_PRIVACY_KEY holds no key"):
        protect(Privacy(hash=("a",)), environ)


def test_nothing_to_hash_needs_no_key():
    batch = pa.RecordBatch.from_pydict({"a": [1]})
    assert protect(Privacy(), {})(batch).equals(batch)


def test_the_key_is_not_shown():
    assert "correct" not in repr(Protect(columns=("a",), key=b"correct"))
    assert pickle.loads(pickle.dumps(Protect(columns=("a",), key=b"k"))) == Protect(columns=("a",), key=b"k")


def written(folder):
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_no_byte_of_what_is_private_is_written(tmp_path, name):
    rows = make.table(200)
    rows = rows.set_column(4, "colour", pa.array(["secretive"] * 3 + ["hidden"] * 197))
    rows = rows.append_column("name", pa.array([f"person {n}" for n in range(200)]))
    rows = make.replace_value(make.replace_value(rows, "size", 1, float("inf")), "label", 2, None)
    path = make.write(rows, tmp_path / "data" / name)
    if name == "a.csv":
        with path.open("a") as file:
            file.write("r900,person 900,secretive\n")
    privacy = Privacy(drop=("name",), hash=("colour", "id"))
    model = make.spec(tmp_path / "data", privacy=privacy)
    out = make.prepared(tmp_path, model, environ=SECRET)
    everything = written(out.path)
    for private in (b"secretive", b"hidden", b"person", b"r150"):
        assert private not in everything
    refused = pq.read_table(out.path / "quarantine.parquet")
    assert "name" not in refused.column_names
    key = protect(privacy, SECRET).key
    assert hash_column(pa.array(["secretive"]), key)[0].as_py() in refused.column("colour").to_pylist()
    assert out.count(parts=("train", "held_out")) == 198


@pytest.mark.parametrize(
    ("privacy", "word"),
    [
        (Privacy(drop=("size",)), "dropped and used"),
        (Privacy(hash=("size",)), "hashed"),
        (Privacy(hash=("label",)), "hashed"),
    ],
)
def test_a_use_that_contradicts(tmp_path, privacy, word):
    make.write(make.table(20), tmp_path / "a.csv")
    with pytest.raises(SpecError, match=word):
        make.prepared(tmp_path, make.spec(tmp_path / "a.csv", privacy=privacy), environ=SECRET)


def test_hashed_columns_still_split_and_slice(tmp_path):
    make.months(tmp_path / "data", 1)
    model = make.spec(
        tmp_path / "data", privacy=Privacy(hash=("id",)), features=Features(numeric=("size",), categorical=("colour",))
    )
    ids = make.prepared(tmp_path, model, environ=SECRET).table(parts=("train",), columns=["id"]).column(0).to_pylist()
    assert len(set(ids)) == len(ids)
    assert all(len(value) == 32 for value in ids)
