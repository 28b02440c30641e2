"""The Workspace API while the API server answers with errors, or its watches with nothing."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp import web

from hack.account import workspaces_kubeconfig
from hack.cluster import Cluster
from hack.issuer import Issuer
from tests.integration.daemon import eventually
from tests.integration.faulty import Asked, FaultyWay, faulty_way, leading_over, refusal
from tests.integration.workspace_server import USERS, Server, new_namespace, workspace

pytestmark = pytest.mark.cluster

IMPATIENT = """
import aiohttp
from datalabd.kube import client
client.WATCH_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=10, sock_connect=10, sock_read=3)
"""
"""A watch that says nothing for three seconds is taken for dead, rather than one that does for ninety."""
CAROL = {"add_memberships": [{"member": "carol"}]}


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> str:
    name = new_namespace(cluster)
    workspace(cluster, name, "ws-a")
    return name


@pytest.fixture(scope="module")
def shared_way(cluster: Cluster) -> Iterator[FaultyWay]:
    with faulty_way(cluster) as way:
        yield way


@pytest.fixture
def way(shared_way: FaultyWay) -> Iterator[FaultyWay]:
    """A way on which nothing is wrong yet."""
    yield shared_way
    shared_way.fault, shared_way.silent = (lambda _: None), frozenset()


@pytest.fixture(scope="module")
def server(
    cluster: Cluster, namespace: str, shared_way: FaultyWay, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("workspaces")
    kubeconfig = leading_over(shared_way, workspaces_kubeconfig(cluster, namespace), directory)
    with Issuer(USERS) as issuer:
        server = Server(kubeconfig, namespace, directory / "log", issuer)
        server.start(before=IMPATIENT)
        try:
            yield server
        finally:
            server.kill()


def members(server: Server) -> list[str]:
    with server.as_("root") as client:
        rows = client.get("/workspaces/ws-a").json()["datalab"]["memberships"]
    return [row["member"] for row in rows]


def joins(cluster: Cluster, namespace: str, *users: str) -> None:
    """Change the Datalab behind the process's back."""
    said = json.dumps({"spec": {"users": ["alice", *users]}})
    cluster.kubectl("patch", "datalab", "ws-a", "-n", namespace, "--type=merge", "-p", said)


def once(wanted: Callable[[Asked], bool], answer: Callable[[], web.Response]) -> Callable[[Asked], web.Response | None]:
    """A fault of the first request that is wanted."""
    left = [answer]
    return lambda asked: left.pop()() if left and wanted(asked) else None


@pytest.mark.parametrize(
    ("said", "told"),
    [
        pytest.param((429, "TooManyRequests", 7), "7", id="429"),
        pytest.param((500, "InternalError"), "5", id="500"),
        pytest.param((503, "ServiceUnavailable", 2), "2", id="503"),
    ],
)
def test_a_write_that_is_put_off_says_when_to_come_again(
    cluster: Cluster, namespace: str, server: Server, way: FaultyWay, said: tuple[Any, ...], told: str
) -> None:
    joins(cluster, namespace)
    eventually(lambda: members(server) == ["alice"])
    way.fault = lambda asked: refusal(*said) if asked.method == "PATCH" else None
    with server.as_("root") as client:
        answer = client.put("/workspaces/ws-a", json=CAROL)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, told)
        assert answer.json() == {"detail": "Temporarily unavailable"}
        way.fault = lambda _: None
        eventually(lambda: client.put("/workspaces/ws-a", json=CAROL).status_code == 202)
    assert members(server) == ["alice", "carol"]


def test_a_version_that_is_gone_is_listed_anew(
    cluster: Cluster, namespace: str, server: Server, way: FaultyWay
) -> None:
    joins(cluster, namespace)
    eventually(lambda: members(server) == ["alice"])
    before = len(way.times("GET", "datalabs"))
    way.fault = once(lambda asked: asked.is_watch and asked.plural == "datalabs", lambda: refusal(410, "Expired"))
    way.end_watches("datalabs")
    joins(cluster, namespace, "dan")
    eventually(lambda: members(server) == ["alice", "dan"])
    eventually(lambda: len(way.times("GET", "datalabs")) == before + 1)


def test_reads_go_on_while_a_kind_cannot_be_watched(
    cluster: Cluster, namespace: str, server: Server, way: FaultyWay
) -> None:
    joins(cluster, namespace)
    eventually(lambda: members(server) == ["alice"])
    way.fault = lambda asked: refusal(500, "InternalError") if asked.plural == "datalabs" else None
    way.end_watches("datalabs")
    joins(cluster, namespace, "erin")
    tried = len(way.times("GET", "datalabs", watch=True))
    eventually(lambda: len(way.times("GET", "datalabs", watch=True)) > tried)
    assert members(server) == ["alice"]
    way.fault = lambda _: None
    eventually(lambda: members(server) == ["alice", "erin"])


def test_a_watch_that_is_put_off_waits_as_long_as_it_is_told(
    cluster: Cluster, namespace: str, server: Server, way: FaultyWay
) -> None:
    way.fault = once(
        lambda asked: asked.is_watch and asked.plural == "storages", lambda: refusal(429, "TooManyRequests", 4)
    )
    began = len(way.times("GET", "storages", watch=True))
    way.end_watches("storages")
    eventually(lambda: len(way.times("GET", "storages", watch=True)) >= began + 2, 30)
    first, second = way.times("GET", "storages", watch=True)[began:][:2]
    assert second - first >= 4


def test_a_watch_that_falls_silent_is_given_up(
    cluster: Cluster, namespace: str, server: Server, way: FaultyWay
) -> None:
    joins(cluster, namespace)
    eventually(lambda: members(server) == ["alice"])
    swallowed = way.swallowed
    way.silent = frozenset({"datalabs"})
    joins(cluster, namespace, "frank")
    eventually(lambda: way.swallowed > swallowed)
    assert members(server) == ["alice"]
    way.silent = frozenset()  # that watch stays silent, those after it do not
    eventually(lambda: members(server) == ["alice", "frank"], 30)
