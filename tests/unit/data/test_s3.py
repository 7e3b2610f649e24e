"""The same data from S3 as from a folder, against a server on this machine."""

import threading

import pytest

from tests.unit.data import make
from upkeep.data.collect import collect
from upkeep.data.prepare import prepare
from upkeep.data.prepared import Prepared
from upkeep.data.read import open_table_batches
from upkeep.errors import UpkeepError
from upkeep.spec.model import ObjectStore


@pytest.fixture(scope="module")
def server():
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    made = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield ObjectStore(endpoint=f"http://127.0.0.1:{made.server_port}", region="us-east-1")
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def bucket(server, monkeypatch, tmp_path):
    import urllib.request

    from upkeep.store import open_store

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    urllib.request.urlopen(urllib.request.Request(f"{server.endpoint}/flights", method="PUT")).close()
    make.months(tmp_path / "data", 2)
    make.write(make.table(50, first=5000), tmp_path / "data" / "period=2024-03" / "part-0.csv.gz")
    store = open_store("s3://flights/training", server)
    for path in (tmp_path / "data").rglob("*.*"):
        store.put(path.relative_to(tmp_path / "data").as_posix(), path)
    return "s3://flights/training"


def model(source, server):
    import dataclasses

    return dataclasses.replace(make.spec(source), object_store=server)


def test_s3_is_as_good_as_a_folder(server, bucket, tmp_path):
    remote = collect(model(bucket, server))
    local = collect(make.spec(tmp_path / "data"))
    assert remote.digest == local.digest
    assert remote.files[0].uri == "s3://flights/training/period=2024-01/part-0.parquet"
    prepare(model(bucket, server), remote, tmp_path / "remote", environ={})
    prepare(make.spec(tmp_path / "data"), local, tmp_path / "local", environ={})
    parts = ("train", "held_out")
    assert Prepared(tmp_path / "remote").table(parts=parts).equals(Prepared(tmp_path / "local").table(parts=parts))


def test_one_object(server, bucket):
    uri = f"{bucket}/period=2024-02/part-0.parquet"
    (file,) = collect(model(uri, server)).files
    assert (file.uri, file.name, file.period, file.rows) == (uri, "part-0.parquet", "part-0", 400)
    assert sum(batch.num_rows for batch in open_table_batches(uri, object_store=server)) == 400


def test_an_object_that_is_not_there(server, bucket):
    with pytest.raises(UpkeepError):
        collect(model(f"{bucket}/period=2024-02/other.parquet", server))
    with pytest.raises(UpkeepError):
        collect(model("s3://no-such-bucket/training", server))
