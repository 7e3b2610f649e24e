"""What the fake that the project ships says of itself; the rest is tests/cluster, which asks a real cluster as well."""

from __future__ import annotations

import pytest

from upkeep.errors import OutsideError, RefusedError
from upkeep.serving.kubernetes.api import Api, GoneError
from upkeep.serving.kubernetes.fake import FakeKubernetes
from upkeep.serving.kubernetes.paths import LEASES, path

ALL = path(LEASES, "here")


def leases(count: int) -> tuple[FakeKubernetes, Api]:
    server = FakeKubernetes()
    api = Api(server.client())
    for number in range(count):
        api.create(ALL, {"kind": "Lease", "metadata": {"name": f"l{number}"}})
    return server, api


def test_a_page_that_is_too_old_is_gone_and_the_list_is_read_anew() -> None:
    server, api = leases(3)
    page = api.get(ALL, limit="2")["metadata"]["continue"]
    server.expire_pages()
    with pytest.raises(GoneError):
        api.get(ALL, **{"continue": page})
    reads = 0

    def before(method: str, path: str) -> None:
        nonlocal reads
        reads += 1
        if reads == 2:
            server.expire_pages()

    server.before = before
    assert len(api.items(ALL, limit="2")) == 3
    assert reads == 4


def test_it_refuses_what_it_does_not_know() -> None:
    server, api = leases(1)
    with pytest.raises(RefusedError, match="fieldSelector"):
        api.get(ALL, fieldSelector="a=b")
    with pytest.raises(OutsideError):
        api.get(f"{ALL}/l0/status")
    assert server.asked[-1] == ("GET", f"{ALL}/l0/status")


def test_an_apply_may_create_and_keeps_what_it_does_not_name() -> None:
    _, api = leases(0)
    where = f"{ALL}/l"
    api.apply(where, {"kind": "Lease", "spec": {"a": 1}}, "me")
    api.apply(where, {"kind": "Lease", "spec": {"b": 2}}, "you")
    found = api.get(where)
    assert found["spec"] == {"a": 1, "b": 2}
    found["spec"]["a"] = 9
    assert api.get(where)["spec"]["a"] == 1, "an answer is a copy"
