"""No secret of the Workspace API leaves it where nobody asked for it: everything is done once, then looked for."""

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from datalabd.kube.client import Client
from hack import issuer as provider
from hack.cluster import Cluster
from hack.deadlines import scaled
from hack.standins import install_store_crds
from tests.integration.workspace_server import USERS, Server, new_namespace, secret, serving, workspace
from tests.reference import SHARED
from workspaces.operations import OPERATIONS

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

STORE, REGISTRY, CLIENT = "canary-of-a-store", "canary-of-the-registry", "canary-of-the-client"
STORAGE = "very-secret"
"""Of the storage Secrets that `workspace` makes."""


@pytest.fixture(scope="module")
def issuer() -> Iterator[provider.Issuer]:
    with provider.Issuer(USERS | {"service-account-ws-a": {"ws-a": ["ws_api"]}}, {"ws-a": CLIENT}) as issuer:
        yield issuer


@pytest.fixture(scope="module")
def server(cluster: Cluster, issuer: provider.Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    namespace = new_namespace(cluster)
    asyncio.run(_install_stores(cluster))
    databases = {"pg0": {"names": ["dev"], "storage": "1Gi", "backupStorage": "1Gi"}}
    workspace(cluster, namespace, "ws-a", databases=databases, sessions=[{"name": "default", "state": "stopped"}])
    workspace(cluster, namespace, "ws-b", users=["bob"])
    keys = {"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": STORAGE, "AWS_ENDPOINT_URL": "https://s3.example"}
    stores = {"POSTGRES_PG0_HOST": "pg0", "POSTGRES_PG0_USER": "u", "POSTGRES_PG0_PASSWORD": STORE}
    registry = {"CONTAINER_REGISTRY_USERNAME": "u", "CONTAINER_REGISTRY_PASSWORD": REGISTRY}
    cluster.api.create(secret(namespace, "ws-a-datalab", **keys, **stores, **registry))
    cluster.api.create(secret(namespace, "ws-a-oauth-client", client_id="ws-a", client_secret=CLIENT))
    directory = tmp_path_factory.mktemp("workspaces")
    environ = {"LOG_LEVEL": "debug", "TOKEN_BROKER_TOKEN_ENDPOINT": f"{issuer.url}/token"}
    with serving(cluster, namespace, directory / "log", issuer, **environ) as server:
        yield server


async def _install_stores(cluster: Cluster) -> None:
    client = await Client.connect(str(cluster.kubeconfig))
    try:
        await install_store_crds(client, SHARED / "crds" if SHARED.exists() else None)
    finally:
        await client.close()


class Listener(threading.Thread):
    """Reads a stream until it ends."""

    def __init__(self, server: Server, path: str) -> None:
        super().__init__(daemon=True)
        self._server, self._path = server, path
        self.began = threading.Event()
        self.received = b""

    def run(self) -> None:
        with self._server.as_("alice") as client, client.stream("GET", self._path, timeout=None) as answer:
            try:
                for chunk in answer.iter_raw():
                    self.received += chunk
                    self.began.set()
            except httpx.TransportError:
                return  # the server was stopped


REQUESTS: tuple[tuple[str, str, str, Any], ...] = (
    ("root", "POST", "/workspaces", {"preferred_name": "third", "default_owner": "ann"}),
    ("alice", "GET", "/workspaces", None),
    ("alice", "PUT", "/workspaces/ws-a", {"add_memberships": [{"member": "carol", "role": "user"}]}),
    ("alice", "PATCH", "/workspaces/ws-a/members/carol", {"role": "admin"}),
    ("alice", "DELETE", "/workspaces/ws-a/members/carol", None),
    ("bob", "PUT", "/workspaces/ws-b/requests/ws-a", {"permission": "ReadOnly", "reason": "to look"}),
    ("alice", "PUT", "/workspaces/ws-a/grants/ws-a/ws-b", {"permission": "ReadOnly"}),
    ("alice", "POST", "/workspaces/ws-a/stores/database/dev/rotate", {}),
    ("alice", "POST", "/workspaces/ws-a/sessions", {"name": "second"}),
    ("alice", "GET", "/workspaces/ws-a/sessions/default", None),
    ("alice", "GET", "/workspaces/ws-a/activity", None),
    ("stranger", "DELETE", "/workspaces/ws-a", None),
    ("alice", "PUT", "/workspaces/ws-a", {"add_buckets": [{"name": "Bad_Name"}]}),
    ("alice", "GET", "/debug", None),
    ("root", "DELETE", "/workspaces/third", None),
)
"""Whatever of these answers, holds no credential."""
SHOWN: tuple[tuple[str, str, str], ...] = (
    ("alice", "/workspaces/ws-a", STORAGE),
    ("alice", "/workspaces/ws-a", STORE),
    ("alice", "/workspaces/ws-a/credentials", REGISTRY),
    ("alice", "/workspaces/ws-a/token", "access_token"),
)
"""Where somebody asked for one, it is."""


def test_secrets_are_only_where_somebody_asked_for_them(
    cluster: Cluster, server: Server, issuer: provider.Issuer
) -> None:
    listeners = [Listener(server, path) for path in ("/workspaces/ws-a/events", "/events")]
    for listener in listeners:
        listener.start()
        assert listener.began.wait(scaled(20))
    said, tokens = [], []
    for user, path, value in SHOWN:
        with server.as_(user) as client:
            answer = client.get(path)
            assert value in answer.text, (path, answer.text[:300])
            if value == "access_token":
                tokens.append(answer.json()["access_token"])
    for user, method, path, body in REQUESTS:
        token = issuer.access_token(user)
        tokens.append(token)
        with server.as_() as client:
            answer = client.request(method, path, json=body, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code < 500, answer.text
        said.append(f"{answer.headers}{answer.text}")
    with server.as_() as client:
        said += [client.get(path).text for path in ("/metrics", "/openapi.json", "/docs", "/readyz", "/probe")]
    for kind in ("events.events.k8s.io", "datalabs", "storages"):
        said.append(json.dumps(cluster.api.list(kind, server.namespace)))
    server.stop()
    for listener in listeners:
        listener.join(scaled(20))
        assert listener.received
        said.append(listener.received.decode())
    log = server.log.read_text()
    assert {line["outcome"] for line in server.lines("audit")} == {"allowed", "refused"}
    private = {STORE, REGISTRY, CLIENT, STORAGE, *(token[-40:] for token in tokens)}
    assert sorted(value for value in private if value in log) == []
    assert sorted(value for value in private if any(value in text for text in said)) == []


def test_no_address_takes_a_secret() -> None:
    assert {
        name for operation in OPERATIONS for name in operation.query if "token" in name or "secret" in name
    } == set()
