"""What a store does before it touches anything, and how obstore's failures are told."""

import pickle
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upkeep.errors import AccessError, InputError, OutsideError, UpkeepError
from upkeep.spec.model import ObjectStore
from upkeep.store import MissingBucket, MissingObject, endpoint_of, open_store, region_of


@given(st.lists(st.sampled_from(["a", "..", ".", "", "b.c", "#1", "x#1", "ü ", "\\", "\n"]), min_size=1, max_size=4))
def test_keys_are_relative_or_refused(parts: list[str]) -> None:
    key = "/".join(parts)
    store = open_store("memory://")
    bad = any(part in ("", ".", "..", "\\", "\n") for part in parts) or re.search(r"#\d$", key)
    if bad:
        with pytest.raises(InputError):
            store.put(key, b"1")
        assert list(store.list()) == []
    else:
        store.put(key, b"1")
        assert [entry.key for entry in store.list()] == [key]


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "AccessDenied", AccessError),
        (403, "InvalidAccessKeyId", AccessError),
        (401, "Unauthorized", AccessError),
        (404, "NoSuchKey", MissingObject),
        (404, "NoSuchBucket", MissingBucket),
        (404, "XAdminUserNotFound", AccessError),
        (404, "SomethingElse", OutsideError),
        (301, "PermanentRedirect", InputError),
        (400, "InvalidBucketName", InputError),
        (400, "MalformedXML", OutsideError),
    ],
)
def test_what_a_server_says(status: int, code: str, kind: type[UpkeepError], monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(status, code) as endpoint:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
        with pytest.raises(kind) as caught:
            open_store("s3://bucket/x", ObjectStore(endpoint=endpoint)).get("k")
        assert type(caught.value) is kind
        assert "Debug source" not in str(caught.value)
        assert caught.value.problems[0].fix


def answering(status: int, code: str):  # type: ignore[no-untyped-def]
    """A server that always gives one answer."""
    import contextlib
    import http.server
    import threading

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"<Error><Code>{code}</Code><Message>said so</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None: ...

    @contextlib.contextmanager
    def serve():  # type: ignore[no-untyped-def]
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_port}"
            finally:
                server.shutdown()
                thread.join()

    return serve()


def test_the_spec_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    assert (endpoint_of(ObjectStore()), region_of(ObjectStore())) == (None, "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://one:1/")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-1")
    assert (endpoint_of(ObjectStore()), region_of(ObjectStore())) == ("http://one:1", "eu-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://two:2")
    monkeypatch.setenv("AWS_REGION", "eu-2")
    assert (endpoint_of(ObjectStore()), region_of(ObjectStore())) == ("http://two:2", "eu-2")
    settings = ObjectStore(endpoint="https://three", region="eu-3")
    assert (endpoint_of(settings), region_of(settings)) == ("https://three", "eu-3")


def test_errors_travel_between_processes() -> None:
    for kind in (MissingObject, MissingBucket):
        error = pickle.loads(pickle.dumps(kind("gone", fix="look")))
        assert (type(error), error.problems[0].fix) == (kind, "look")


def test_obstore_is_loaded_when_a_store_is_opened() -> None:
    script = "import sys, upkeep.store; sys.exit('obstore' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
