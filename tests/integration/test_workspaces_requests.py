"""Odd requests to the Workspace API: each is answered with what is wrong about it, none with a defect."""

from collections.abc import Iterator

import pytest

from hack.cluster import Cluster
from hack.issuer import Issuer
from tests.integration.workspace_server import Server, new_namespace, serving, workspace

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def server(cluster: Cluster, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    namespace = new_namespace(cluster)
    workspace(cluster, namespace, "ws-a")
    log = tmp_path_factory.mktemp("workspaces") / "log"
    with serving(cluster, namespace, log, issuer) as server:
        yield server


DEEP = b'{"add_buckets":' + b"[" * 1000 + b"]" * 1000 + b"}"
LARGE = b'{"add_buckets":["' + b"x" * (10 * 1024 * 1024) + b'"]}'
MANY = b'{"add_memberships":[' + b",".join(b'{"member":"m%d"}' % number for number in range(10_000)) + b"]}"


@pytest.mark.parametrize(
    ("body", "codes"),
    [
        pytest.param(b"not JSON", {422}, id="not JSON"),
        pytest.param(b"[]", {422}, id="a list"),
        pytest.param(b'{"add_memberships":' + b"9" * 100 + b"}", {422}, id="a large number"),
        pytest.param(LARGE, {413}, id="10 MiB"),
        pytest.param(DEEP, {422}, id="deep"),
        pytest.param(b'{"add_memberships":NaN}', {422}, id="NaN"),
        pytest.param(b'{"add_memberships":[],"add_memberships":[]}', {202}, id="twice the same key"),
        pytest.param(b'{"add_memberships":[{"member":"a\\u0000b"}]}', {422}, id="NUL"),
        pytest.param(b'{"add_memberships":[{"member":"\\ud800"}]}', {422}, id="half a character"),
        pytest.param(b'{"add_memberships":[{"member":"%s"}]}' % (b"x" * 1000), {422}, id="a long name"),
        pytest.param(b'{"__proto__":{"role":"admin"},"constructor":1}', {202}, id="members that are not known"),
        pytest.param(MANY, {422}, id="10,000 members"),
        pytest.param(b"\xff\xfe", {422}, id="no UTF-8"),
    ],
)
def test_odd_bodies(server: Server, body: bytes, codes: set[int]) -> None:
    with server.as_("root") as client:
        answer = client.put("/workspaces/ws-a?dry_run=true", content=body)
        assert answer.status_code in codes, answer.text[:500]
        assert "detail" in answer.json() or answer.status_code == 202
        assert len(answer.content) < 100_000


@pytest.mark.parametrize("name", ["ws%2fa", "%2e%2e%2fdebug", "WS-A", "a%00b", "a" * 300, "%ff"])
def test_odd_paths(server: Server, name: str) -> None:
    with server.as_("root") as client:
        answer = client.get(f"/workspaces/{name}")
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["path", "workspace_name"])
