"""Names of new buckets are unique though replicas know nothing of one another, and caches are behind."""

import asyncio
import contextlib
import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from datalabd.api.storage import BUCKET_CLAIM
from hack.account import workspaces_kubeconfig
from hack.bench.passes import requests
from hack.cluster import Cluster
from hack.issuer import Issuer
from tests.integration.daemon import eventually
from tests.integration.workspace_server import USERS, Server, new_namespace, workspace

pytestmark = pytest.mark.cluster

BLIND = """
from datalabd.kube import resources
from datalabd.kube.store import Store
heard = Store.update

def update(self, scope, kind, obj):
    if self.resource != resources.STORAGES:
        heard(self, scope, kind, obj)

Store.update = update
"""
"""A replica that hears of no Storage after its start, but of those that it writes."""
SHORT, LONG = "ws-a", "ws-a-b"
"""Two workspaces either of which may call a bucket `ws-a-b-…`."""
Replicas = tuple[Server, Server]


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> str:
    name = new_namespace(cluster)
    for each in (SHORT, LONG):
        workspace(cluster, name, each)
    return name


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with Issuer(USERS) as issuer:
        yield issuer


@contextlib.contextmanager
def running(cluster: Cluster, namespace: str, directory: Path, issuer: Issuer, before: str = "") -> Iterator[Replicas]:
    """Two replicas."""
    kubeconfig = workspaces_kubeconfig(cluster, namespace)
    one, other = (Server(kubeconfig, namespace, directory / str(number), issuer) for number in range(2))
    try:
        for server in (one, other):
            server.start(before=before)
        yield one, other
    finally:
        for server in (one, other):
            server.kill()


@pytest.fixture(scope="module")
def replicas(
    cluster: Cluster, namespace: str, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replicas]:
    """Replicas that do not hear of each other's Storages."""
    with running(cluster, namespace, tmp_path_factory.mktemp("blind"), issuer, BLIND) as started:
        yield started


@pytest.fixture(scope="module")
def usual(
    cluster: Cluster, namespace: str, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replicas]:
    """Replicas as they are."""
    with running(cluster, namespace, tmp_path_factory.mktemp("usual"), issuer) as started:
        yield started


def ask(server: Server, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    with server.as_("root") as client:
        answer = client.request(method, path, json=body)
        return answer.status_code, answer.json() if answer.content else None


def adding(bucket: str) -> dict[str, Any]:
    return {"add_buckets": [{"name": bucket}]}


def owners(cluster: Cluster, namespace: str, bucket: str) -> list[str]:
    return sorted(
        storage["metadata"]["name"]
        for storage in cluster.api.list("storages", namespace)
        if any(known["bucketName"] == bucket for known in storage["spec"]["buckets"])
    )


def claims(cluster: Cluster, namespace: str) -> list[str]:
    found = (storage["metadata"].get("annotations") or {} for storage in cluster.api.list("storages", namespace))
    return [annotations[BUCKET_CLAIM] for annotations in found if BUCKET_CLAIM in annotations]


def claimed(cluster: Cluster, namespace: str, bucket: str, age_seconds: float) -> None:
    """Leave what a replica leaves that dies before it makes a bucket of the longer workspace."""
    at = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=age_seconds)
    claim = f'{BUCKET_CLAIM}={{"{bucket}": "{at.isoformat()}"}}'
    cluster.kubectl("annotate", "--overwrite", "storage", LONG, "-n", namespace, claim)


def test_a_bucket_of_which_the_cache_has_not_heard_is_taken(
    cluster: Cluster, namespace: str, replicas: Replicas
) -> None:
    one, other = replicas
    assert ask(one, "PUT", f"/workspaces/{SHORT}", adding("ws-a-b-one"))[0] == 202
    code, found = ask(other, "PUT", f"/workspaces/{LONG}", adding("ws-a-b-one"))
    assert (code, found) == (409, {"detail": {"error": "bucket_exists", "bucket": "ws-a-b-one"}})
    assert owners(cluster, namespace, "ws-a-b-one") == [SHORT]
    assert claims(cluster, namespace) == []


async def at_once(servers: Replicas, *calls: tuple[str, str, Any]) -> list[int]:
    """The status of each call, of which all are made at once, one by each server."""
    token = servers[0].issuer.access_token("root")
    async with httpx.AsyncClient(trust_env=False, timeout=60, headers={"Authorization": f"Bearer {token}"}) as client:
        asked = zip(servers, calls, strict=True)
        answers = await asyncio.gather(
            *(client.request(method, f"{server.url}{path}", json=body) for server, (method, path, body) in asked)
        )
    return [answer.status_code for answer in answers]


@pytest.mark.parametrize("second", [pytest.param(0, id="one replica"), pytest.param(1, id="two replicas")])
@pytest.mark.parametrize("kind", ["replicas", "usual"])
async def test_of_two_that_add_a_bucket_at_once_one_gets_it(
    cluster: Cluster, namespace: str, kind: str, second: int, request: pytest.FixtureRequest
) -> None:
    started: Replicas = request.getfixturevalue(kind)
    for number in range(3):
        bucket = f"ws-a-b-race-{kind}-{second}-{number}"
        calls = [("PUT", f"/workspaces/{name}", adding(bucket)) for name in (SHORT, LONG)]
        codes = await at_once((started[0], started[second]), *calls)
        assert sorted(codes) in ([202, 409], [409, 409])
        assert len(owners(cluster, namespace, bucket)) == codes.count(202)
    assert claims(cluster, namespace) == []


def test_who_hears_of_the_claim_reads_no_storages(cluster: Cluster, namespace: str, usual: Replicas) -> None:
    account = f"system:serviceaccount:{namespace}:datalabd-workspaces"
    offset = cluster.audit_log.stat().st_size
    assert ask(usual[0], "PUT", f"/workspaces/{SHORT}", adding("ws-a-heard"))[0] == 202

    def asked() -> list[tuple[str, str]]:
        return [one for one in requests(cluster.audit_log, offset, account) if one[1] in ("storages", "datalabs")]

    writes = [("dry run", "storages"), ("patch", "storages"), ("patch", "storages")]
    eventually(lambda: asked() == [("get", "datalabs"), *writes])


@pytest.mark.parametrize("second", [pytest.param(0, id="one replica"), pytest.param(1, id="two replicas")])
async def test_of_a_bucket_and_a_workspace_of_one_name_at_once_one_is_made(
    cluster: Cluster, namespace: str, replicas: Replicas, second: int
) -> None:
    for number in range(3):
        name = f"ws-a-made-{second}-{number}"
        codes = await at_once(
            (replicas[0], replicas[second]),
            ("PUT", f"/workspaces/{SHORT}", adding(name)),
            ("POST", "/workspaces", {"preferred_name": name, "default_owner": "vic"}),
        )
        assert codes in ([202, 409], [409, 201], [409, 409])
        assert owners(cluster, namespace, name) == {202: [SHORT], 201: [name]}.get(min(codes), [])
    assert claims(cluster, namespace) == []


def test_a_workspace_is_not_made_over_a_bucket_of_which_the_cache_has_not_heard(
    cluster: Cluster, namespace: str, replicas: Replicas
) -> None:
    one, other = replicas
    assert ask(one, "PUT", f"/workspaces/{SHORT}", adding("ws-a-c"))[0] == 202
    code, found = ask(other, "POST", "/workspaces", {"preferred_name": "ws-a-c", "default_owner": "jane"})
    assert (code, found) == (409, {"detail": {"error": "bucket_exists", "bucket": "ws-a-c"}})
    assert cluster.api.get("storages", "ws-a-c", namespace) is None
    assert cluster.api.get("datalabs.pkg.internal", "ws-a-c", namespace) is None


def test_who_is_about_to_have_a_bucket_is_waited_for(cluster: Cluster, namespace: str, replicas: Replicas) -> None:
    claimed(cluster, namespace, "ws-a-b-two", 0)
    code, found = ask(replicas[0], "PUT", f"/workspaces/{SHORT}", adding("ws-a-b-two"))
    assert (code, found["detail"]["error"]) == (409, "conflict")
    assert owners(cluster, namespace, "ws-a-b-two") == []
    assert len(claims(cluster, namespace)) == 1
    claimed(cluster, namespace, "ws-a-b-two", 3600)  # whoever that was has died
    assert ask(replicas[0], "PUT", f"/workspaces/{SHORT}", adding("ws-a-b-two"))[0] == 202
    assert owners(cluster, namespace, "ws-a-b-two") == [SHORT]
    assert claims(cluster, namespace) == []
