"""The Workspace API killed between two writes: the same request, or another replica, brings it to the same end."""

import datetime
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from hack.account import workspaces_kubeconfig
from hack.cluster import Cluster
from hack.issuer import Issuer
from tests.integration.daemon import eventually
from tests.integration.workspace_server import USERS, Server, new_namespace, storage, workspace

pytestmark = pytest.mark.cluster

DIES = """
import os, signal
from datalabd.kube.client import Client
written = getattr(Client, {method!r})

async def last(self, *given, **options):
    answer = await written(self, *given, **options)
    if {condition}:
        os.kill(os.getpid(), signal.SIGKILL)
    return answer

Client.{method} = last
"""
AFTER_STORAGE = DIES.format(method="create", condition="given[0].kind == 'Storage' and not options.get('dry_run')")
AFTER_DATALAB = DIES.format(method="patch", condition="given[0].kind == 'Datalab'")
AFTER_DELETION = DIES.format(
    method="request",
    condition="given[0] == 'DELETE' and '/datalabs/' in given[1] and 'dryRun' not in options['body']",
)
AFTER_END = DIES.format(method="patch", condition="given[0].kind == 'Storage'")


@pytest.fixture
def server(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that does not run yet, for a namespace of its own."""
    namespace = new_namespace(cluster)
    kubeconfig = workspaces_kubeconfig(cluster, namespace)
    with Issuer(USERS) as issuer:
        server = Server(kubeconfig, namespace, tmp_path_factory.mktemp("workspaces") / "log", issuer)
        yield server
        server.kill()


def ask(server: Server, method: str, path: str, body: Any = None) -> int:
    """The status of an answer; 0 where the server died."""
    with server.as_("root") as client:
        try:
            return client.request(method, path, json=body).status_code
        except httpx.TransportError:
            return 0


def twice(server: Server, before: str, method: str, path: str, body: Any = None) -> tuple[int, int]:
    """Answers of a server that dies at the request, and of the one after it."""
    server.start(before=before)
    first = ask(server, method, path, body)
    server.ended()
    server.start()
    return first, ask(server, method, path, body)


def test_creation(cluster: Cluster, server: Server) -> None:
    body = {"preferred_name": "ws-a", "default_owner": "jane"}
    assert twice(server, AFTER_STORAGE, "POST", "/workspaces", body) == (0, 201)
    datalab = cluster.api.get("datalabs.pkg.internal", "ws-a", server.namespace)
    assert datalab is not None
    assert datalab["spec"]["users"] == ["jane"]


def test_an_edit_of_both_objects(cluster: Cluster, server: Server) -> None:
    workspace(cluster, server.namespace, "ws-a")
    body = {"add_memberships": [{"member": "carol"}], "add_buckets": [{"name": "ws-a-data"}]}
    assert twice(server, AFTER_DATALAB, "PUT", "/workspaces/ws-a", body) == (0, 202)
    storage_of, datalab = (
        cluster.api.get(kind, "ws-a", server.namespace) for kind in ("storages", "datalabs.pkg.internal")
    )
    assert storage_of is not None
    assert datalab is not None
    assert datalab["spec"]["users"] == ["alice", "carol"]
    assert [bucket["bucketName"] for bucket in storage_of["spec"]["buckets"]] == ["ws-a", "ws-a-data"]


def test_deletion(cluster: Cluster, server: Server) -> None:
    workspace(cluster, server.namespace, "ws-a")
    assert twice(server, AFTER_DELETION, "DELETE", "/workspaces/ws-a") == (0, 204)
    assert cluster.api.get("storages", "ws-a", server.namespace) is None
    assert cluster.api.get("datalabs.pkg.internal", "ws-a", server.namespace) is None


def test_a_grant_that_ends(cluster: Cluster, server: Server) -> None:
    at = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=1)).isoformat()
    grants = [
        {"bucketName": "ws-a", "grantee": f"ws-{number}", "permission": "ReadOnly", "grantedAt": at}
        for number in range(2)
    ]
    for name in ("ws-a", "ws-c"):
        made = storage(server.namespace, name, bucketAccessGrants=[grant | {"bucketName": name} for grant in grants])
        times = ",".join(f'"{name}/ws-{number}": "{at}"' for number in range(2))
        made["metadata"]["annotations"] = {"storages.pkg.internal/grant-expiry": f"{{{times}}}"}
        cluster.api.create(made)
    server.start(before=AFTER_END, ready=False)
    server.ended()
    server.start()

    def permissions() -> set[str]:
        found = [cluster.api.get("storages", name, server.namespace) for name in ("ws-a", "ws-c")]
        return {grant["permission"] for obj in found if obj for grant in obj["spec"]["bucketAccessGrants"]}

    eventually(lambda: permissions() == {"None"}, 40)  # the killed holder's lease has to run out
