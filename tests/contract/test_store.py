"""One suite for every store: a folder and S3 servers do the same, and fail the same."""

import gzip
import io
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from upkeep.errors import AccessError, InputError, OutsideError
from upkeep.registry.server import ensure_bucket
from upkeep.spec.model import ObjectStore
from upkeep.store import MissingBucket, MissingObject, Store, open_store

Place = tuple[str, ObjectStore]
NAMES = [
    "a",
    "a b/c",
    "period=2013-04/part-0.parquet",
    "größe/日本",
    "x+y&z=1%20",
    "deep/er/and/deeper.json",
    ".hidden",
]


def names(store: Store, prefix: str = "") -> list[str]:
    return sorted(entry.key for entry in store.list(prefix))


class TestReadAndWrite:
    @pytest.mark.parametrize("key", NAMES)
    def test_what_is_put_comes_back(self, store: Store, key: str) -> None:
        store.put(key, b"one")
        assert (store.get(key), store.exists(key), names(store)) == (b"one", True, [key])
        store.put(key, b"two")
        assert store.get(key) == b"two"

    def test_empty_objects_are_objects(self, store: Store) -> None:
        store.put("empty", b"")
        assert store.get("empty") == b""
        assert [entry.size for entry in store.list()] == [0]
        assert not store.create("empty", b"more")

    def test_files_go_in_and_out(self, store: Store, tmp_path: Path) -> None:
        source = tmp_path / "in.bin"
        source.write_bytes(os.urandom(6 << 20))  # more than one part
        store.put("put", source)
        assert store.create("created", source)
        for key in ("put", "created"):
            store.get_to(key, tmp_path / "new" / key)
            assert (tmp_path / "new" / key).read_bytes() == source.read_bytes()
        assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["created", "put"]

    def test_create_is_once(self, store: Store) -> None:
        assert store.create("once", b"first")
        assert not store.create("once", b"second")
        assert store.get("once") == b"first"

    def test_of_sixteen_creators_one_wins(self, store: Store) -> None:
        with ThreadPoolExecutor(16) as pool:
            for key in ("race/1", "race/2", "race/3"):
                won = list(pool.map(lambda who, key=key: store.create(key, str(who).encode()), range(16)))
                assert won.count(True) == 1
                assert store.get(key) == str(won.index(True)).encode()

    def test_list_keeps_to_the_folder(self, store: Store) -> None:
        for key in ("a/1", "a/2", "ab/1", "a/b/1"):
            store.put(key, key.encode())
        assert names(store, "a") == names(store, "a/") == ["a/1", "a/2", "a/b/1"]
        assert names(store, "nothing") == []

    def test_list_sees_all_of_many(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "50")  # a page of moto's answer
        wanted = sorted(f"many/{number:04d}" for number in range(120))
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda key: store.put(key, b"x"), wanted))
        assert names(store, "many") == wanted

    def test_entries_say_size_and_time(self, store: Store) -> None:
        store.put("k", b"12345")
        (entry,) = store.list()
        assert (entry.key, entry.size) == ("k", 5)
        assert abs(datetime.now(UTC) - entry.modified) < timedelta(minutes=1)

    def test_delete(self, store: Store) -> None:
        store.put("k", b"1")
        store.delete("k")
        store.delete("k")
        assert not store.exists("k")
        assert names(store) == []

    def test_what_was_deleted_can_be_created(self, store: Store, place: Place, request: pytest.FixtureRequest) -> None:
        store.put("k", b"1")
        store.delete("k")
        created = store.create("k", b"2")
        if not created and request.node.callspec.params["place"] == "versitygw":
            pytest.xfail("versitygw takes the mark of a deletion in a versioned bucket for an object")
        assert created

    def test_the_uri_opens_the_same_store(self, store: Store, place: Place) -> None:
        store.put("k", b"1")
        assert not store.uri.endswith("/")
        assert open_store(store.uri, place[1]).get("k") == b"1"
        assert open_store(f"{store.uri}/", place[1]).get("k") == b"1"

    def test_nothing_half_written_is_listed(self, store: Store) -> None:
        store.put("k", b"1")
        assert store.delete_partials(datetime.now(UTC) + timedelta(days=1)) == ()
        assert names(store) == ["k"]


class TestOpen:
    def test_seek_and_read(self, store: Store) -> None:
        data = os.urandom(3 << 20)
        store.put("k", data)
        with store.open("k") as file:
            assert file.read(10) == data[:10]
            assert file.seek(-5, io.SEEK_END) == len(data) - 5
            assert file.read() == data[-5:]
            assert file.read(1) == b""
            file.seek(1 << 20)
            file.seek(7, io.SEEK_CUR)
            assert file.read(3) == data[(1 << 20) + 7 : (1 << 20) + 10]
            file.seek(0)
            assert file.read() == data

    def test_parquet_and_gzip_read_from_it(self, store: Store) -> None:
        table = pa.table({"a": list(range(5000)), "b": [str(i) for i in range(5000)]})
        sink = io.BytesIO()
        pq.write_table(table, sink, row_group_size=1000)
        store.put("t.parquet", sink.getvalue())
        with store.open("t.parquet") as file:
            assert pq.ParquetFile(file).read_row_group(3, ["a"]).column("a").to_pylist() == list(range(3000, 4000))
        store.put("t.csv.gz", gzip.compress(b"a,b\n1,2\n"))
        with store.open("t.csv.gz") as file, gzip.open(file) as text:
            assert text.read() == b"a,b\n1,2\n"


class TestErrors:
    def test_missing_objects(self, store: Store, tmp_path: Path) -> None:
        for read in (store.get, store.open, lambda key: store.get_to(key, tmp_path / "out")):
            with pytest.raises(MissingObject, match="not/there") as caught:
                read("not/there")
            assert (caught.value.exit_code, caught.value.retry) == (3, False)
        assert not store.exists("not/there")
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        "key", ["", "/abs", "../up", "a/../b", "a//b", "a/", ".", "./a", "a/.", "a\\b", "a\nb", "nul\0", "part#1"]
    )
    def test_bad_keys(self, store: Store, tmp_path: Path, key: str) -> None:
        uses = [
            store.get,
            store.open,
            store.exists,
            store.delete,
            lambda k: store.put(k, b""),
            lambda k: store.create(k, b""),
        ]
        for use in [*uses, lambda k: store.get_to(k, tmp_path / "out")]:
            with pytest.raises(InputError):
                use(key)
        assert names(store) == []
        assert list(tmp_path.rglob("up")) == []


class TestS3Errors:
    def test_missing_bucket(self, endpoint: str, tmp_path: Path) -> None:
        store = open_store("s3://never-made/x", ObjectStore(endpoint=endpoint))
        uses = [store.get, store.open, store.exists, lambda k: store.put(k, b""), lambda k: store.create(k, b"")]
        for use in [*uses[:1], *uses[2:], lambda _: names(store), lambda k: store.get_to(k, tmp_path / "o")]:
            with pytest.raises(MissingBucket, match="upkeep store init") as caught:
                use("k")
            assert caught.value.exit_code == 2

    def test_bucket_names_that_cannot_be(self, endpoint: str) -> None:
        with pytest.raises(InputError):
            open_store("s3:///x", ObjectStore(endpoint=endpoint))
        with pytest.raises(InputError):
            open_store("s3://Wrong_Name/x", ObjectStore(endpoint=endpoint)).put("k", b"")

    def test_unreachable_endpoint(self, credentials: None) -> None:
        store = open_store("s3://contract/x", ObjectStore(endpoint="http://127.0.0.1:9"))
        for use in (
            lambda: store.get("k"),
            lambda: store.create("k", b""),
            lambda: names(store),
            lambda: store.exists("k"),
        ):
            start = time.monotonic()
            with pytest.raises(OutsideError, match=r"http://127\.0\.0\.1:9 cannot be reached") as caught:
                use()
            assert caught.value.retry
            assert time.monotonic() - start < 60  # by its own default the client tries for three minutes
        with pytest.raises(OutsideError, match=r"127\.0\.0\.1:9"):
            ensure_bucket("s3://contract", ObjectStore(endpoint="http://127.0.0.1:9"))

    def test_wrong_credentials_at_moto(self, moto: str, demanding_moto: None, monkeypatch: pytest.MonkeyPatch) -> None:
        self.refused(moto, monkeypatch)

    def test_wrong_credentials_at_versitygw(
        self, versitygw: str, credentials: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.refused(versitygw, monkeypatch)

    def refused(self, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        settings = ObjectStore(endpoint=endpoint)
        store = open_store("s3://contract/x", settings)
        for use in (
            lambda: store.get("k"),
            lambda: store.create("k", b""),
            lambda: names(store),
            lambda: store.exists("k"),
        ):
            with pytest.raises(AccessError, match="AWS_ACCESS_KEY_ID") as caught:
                use()
            assert (caught.value.exit_code, caught.value.retry) == (3, False)
        with pytest.raises(AccessError):
            ensure_bucket("s3://contract", settings)

    @pytest.fixture
    def demanding_moto(self, moto: str, credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:
        """moto asks nobody who he is, unless told to."""
        from moto import settings
        from moto.core.responses import ActionAuthenticatorMixin

        ensure_bucket("s3://contract", ObjectStore(endpoint=moto))
        monkeypatch.setattr(settings, "INITIAL_NO_AUTH_ACTION_COUNT", 0.0)
        monkeypatch.setattr(ActionAuthenticatorMixin, "request_count", 0)

    def test_no_credentials_to_make_a_bucket(
        self, moto: str, credentials: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        with pytest.raises(AccessError, match="AWS_ACCESS_KEY_ID"):
            ensure_bucket("s3://contract", ObjectStore(endpoint=moto))

    def test_the_environment_names_the_endpoint(self, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        ensure_bucket("s3://from-environment")
        store = open_store("s3://from-environment")
        store.put("k", b"1")
        assert open_store("s3://from-environment", ObjectStore(endpoint=endpoint)).get("k") == b"1"


class TestEnsureBucket:
    def test_twice_is_once(self, endpoint: str) -> None:
        settings = ObjectStore(endpoint=endpoint)
        first = ensure_bucket("s3://twice/pre", settings)
        second = ensure_bucket("s3://twice/pre", settings)
        assert first[0] == "made the bucket twice"
        assert second[0] == "the bucket twice was there already"
        assert first[2:] == second[2:]

    def test_versions_are_kept(self, endpoint: str) -> None:
        from minio import Minio

        ensure_bucket("s3://kept", ObjectStore(endpoint=endpoint))
        client = Minio(
            endpoint.removeprefix("http://"),
            os.environ["AWS_ACCESS_KEY_ID"],
            os.environ["AWS_SECRET_ACCESS_KEY"],
            secure=False,
        )
        assert client.get_bucket_versioning("kept").status == "Enabled"

    def test_other_rules_stay(self, moto: str, credentials: None) -> None:
        from minio import Minio
        from minio.commonconfig import ENABLED, Filter
        from minio.lifecycleconfig import Expiration, LifecycleConfig, Rule

        client = Minio(moto.removeprefix("http://"), "a", "b", secure=False)
        client.make_bucket("ruled")
        theirs = Rule(ENABLED, rule_filter=Filter(prefix="logs/"), rule_id="theirs", expiration=Expiration(days=3))
        client.set_bucket_lifecycle("ruled", LifecycleConfig([theirs]))
        settings = ObjectStore(endpoint=moto)
        for place in ("s3://ruled/pre", "s3://ruled/pre", "s3://ruled/other"):
            ensure_bucket(place, settings)
        config = client.get_bucket_lifecycle("ruled")
        assert config is not None
        assert [rule.rule_id for rule in config.rules] == ["theirs", "upkeep-old-pre", "upkeep-old-other"]

    def test_what_a_server_does_not_know_is_said(self, versitygw: str, credentials: None) -> None:
        done = ensure_bucket("s3://no-lifecycle", ObjectStore(endpoint=versitygw))
        assert "made the bucket" in done[0]
        if "127.0.0.1" in versitygw:
            assert "removes nothing by age" in done[-1]

    def test_bad_names(self, endpoint: str) -> None:
        with pytest.raises(InputError, match="lower-case"):
            ensure_bucket("s3://Wrong_Name", ObjectStore(endpoint=endpoint))
        with pytest.raises(InputError, match="has a path"):
            ensure_bucket("s3://fine", ObjectStore(endpoint=f"{endpoint}/path"))

    def test_a_folder_is_made(self, tmp_path: Path) -> None:
        assert ensure_bucket(str(tmp_path / "new")) == (f"the folder {tmp_path}/new is ready",)
        assert (tmp_path / "new").is_dir()


class TestFolderErrors:
    @pytest.fixture
    def read_only(self, tmp_path: Path) -> Iterator[Path]:
        """A folder this process may not write to, also when root runs the tests."""
        folder = tmp_path / "read-only"
        folder.mkdir()
        (folder / "there").write_bytes(b"1")
        folder.chmod(0o555)
        root = os.geteuid() == 0
        opened = [
            p for p in (tmp_path, *tmp_path.parents) if root and p.stat().st_uid == 0 and not p.stat().st_mode & 1
        ]
        modes = [(p, p.stat().st_mode) for p in opened]
        for path in opened:
            path.chmod(0o755)
        if root:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            if root:
                os.seteuid(0)
            folder.chmod(0o755)
            for path, mode in modes:
                path.chmod(mode)

    def test_no_permission(self, read_only: Path) -> None:
        store = open_store(str(read_only))
        assert store.get("there") == b"1"
        for use in (
            lambda: store.put("k", b"1"),
            lambda: store.create("k", b"1"),
            lambda: store.create("sub/k", b"1"),
            lambda: store.delete("there"),
            lambda: open_store(str(read_only / "new")),
        ):
            with pytest.raises(AccessError, match="no permission") as caught:
                use()
            assert not caught.value.retry
        assert names(store) == ["there"]

    def test_a_file_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        for uri in (tmp_path / "file", tmp_path / "file" / "sub"):
            with pytest.raises(UpkeepInputOrOutside):
                open_store(str(uri))
        store = open_store(str(tmp_path))
        with pytest.raises(InputError, match="file stands where a folder is needed"):
            store.put("file/k", b"1")

    def test_folders_to_read_are_not_made(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="not there"):
            open_store(str(tmp_path / "no"), make=False)
        assert not (tmp_path / "no").exists()

    def test_full_disk(self, tmp_path: Path) -> None:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], capture_output=True, check=False
        )
        if mounted.returncode:
            pytest.skip("only root can mount a small disk: a full one is tested by a file size limit")
        try:
            store = open_store(str(tmp_path / "store"))
            store.put("small", b"1")
            for write in (store.put, store.create):
                with pytest.raises(OutsideError, match="disk is full") as caught:
                    write("large", b"x" * 100_000)
                assert caught.value.retry
            assert names(store) == ["small"]
            self.leave_nothing(tmp_path)
            (tmp_path / "rest").write_bytes(b"x" * 40_000)
            store.delete("small")
        finally:
            subprocess.run(["umount", str(tmp_path)], check=True)

    def test_full_disk_by_a_limit(self, tmp_path: Path) -> None:
        script = f"""
            import resource, signal
            from pathlib import Path
            from upkeep.errors import OutsideError
            from upkeep.store import open_store
            store = open_store({str(tmp_path / "store")!r})
            store.put("small", b"1")
            other = open_store("memory://")
            other.put("large", b"x" * 100_000)
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
            for write in (
                lambda: store.put("large", b"x" * 100_000),
                lambda: store.create("large", b"x" * 100_000),
                lambda: other.get_to("large", Path({str(tmp_path / "store/out")!r})),
            ):
                try:
                    write()
                except OutsideError as error:
                    assert "the disk is full" in str(error), error
                else:
                    raise AssertionError("the write was not refused")
            assert [entry.key for entry in store.list()] == ["small"]
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        self.leave_nothing(tmp_path)

    def leave_nothing(self, path: Path) -> None:
        assert [p.name for p in path.rglob("*") if p.is_file()] == ["small"]

    def test_a_killed_writer_leaves_what_a_sweep_finds(self, tmp_path: Path) -> None:
        store = open_store(str(tmp_path))
        store.put("d/k", b"1")
        litter = tmp_path / "d" / "other#17"  # as obstore calls a file that it is still writing
        litter.write_bytes(b"half")
        assert names(store) == ["d/k"]
        assert store.delete_partials(datetime.now(UTC) - timedelta(hours=1)) == ()
        soon = datetime.now(UTC) + timedelta(hours=1)
        assert store.delete_partials(soon, dry_run=True) == ("d/other#17",)
        assert litter.exists()
        assert store.delete_partials(soon, prefix="d") == ("d/other#17",)
        assert not litter.exists()
        assert store.get("d/k") == b"1"

    def test_readers_never_see_half_an_object(self, tmp_path: Path) -> None:
        store = open_store(str(tmp_path))
        versions = [bytes([value]) * 300_000 for value in (1, 2)]
        store.put("k", versions[0])
        with ThreadPoolExecutor(2) as pool:
            writing = pool.submit(lambda: [store.put("k", versions[turn % 2]) for turn in range(60)])
            while not writing.done():
                assert store.get("k") in versions
            writing.result()


UpkeepInputOrOutside = (InputError, OutsideError)


class TestUris:
    def test_relative_folders_become_absolute(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert open_store(".upkeep").uri == str(tmp_path / ".upkeep")
        assert open_store(f"file://{tmp_path}/with%20space").uri == str(tmp_path / "with space")

    @pytest.mark.parametrize("uri", ["gs://bucket/x", "file://host/x", "s3://", "http://x"])
    def test_others_are_refused(self, uri: str) -> None:
        with pytest.raises(InputError):
            open_store(uri)

    def test_endpoints_are_addresses(self) -> None:
        with pytest.raises(InputError, match="http"):
            open_store("s3://b", ObjectStore(endpoint="127.0.0.1:9000"))

    def test_memory_stores_are_apart(self) -> None:
        one, other = open_store("memory://"), open_store("memory://")
        one.put("k", b"1")
        assert not other.exists("k")
        assert one.open("k").read() == b"1"
