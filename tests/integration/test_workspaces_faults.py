"""The Workspace API while parts of the cluster are away, or hold odd objects."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from datalabd.api.meta import Manifest
from hack.account import workspaces_kubeconfig
from hack.cluster import Cluster
from hack.issuer import Issuer
from tests.integration.daemon import eventually
from tests.integration.objects import unique
from tests.integration.workspace_server import (
    MANIFESTS,
    STORAGE_CRD,
    Server,
    datalab,
    install_kinds,
    secret,
    serving,
    storage,
    workspace,
)

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

NAMESPACE = "workspace"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane of this module's own, for kinds go and the API server is restarted."""
    with Cluster.start(tmp_path_factory.mktemp("cluster")) as cluster:
        cluster.api.create_namespace(NAMESPACE)
        install_kinds(cluster)
        yield cluster


@pytest.fixture(scope="module")
def server(own: Cluster, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    workspace(own, NAMESPACE, "ws-a", sessions=[{"name": "default", "state": "started"}])
    with serving(own, NAMESPACE, tmp_path_factory.mktemp("workspaces") / "log", issuer) as server:
        yield server


def ask(server: Server, method: str, path: str, body: Any = None, user: str = "root") -> tuple[int, Any]:
    with server.as_(user) as client:
        answer = client.request(method, path, json=body)
        return answer.status_code, answer.json() if answer.content else None


def test_odd_objects_spoil_nobodys_read(own: Cluster, server: Server) -> None:
    nobody = storage(NAMESPACE, "no-principal", principal="")
    odd = storage(NAMESPACE, "odd-bucket", buckets=[{"bucketName": "Bad_Name", "discoverable": True}])
    twin = storage(NAMESPACE, "twin", principal="ws-a")
    broken: Manifest = secret(NAMESPACE, "twin-datalab", AWS_ACCESS_KEY_ID="x")
    broken["data"]["AWS_SECRET_ACCESS_KEY"] = "/w=="
    made = [nobody, odd, twin, broken, storage(NAMESPACE, "no-lab"), datalab(NAMESPACE, "twin", users=["bob"])]
    for manifest in made:
        own.api.create(manifest)
    eventually(lambda: len(ask(server, "GET", "/workspaces")[1]) == 5, 10)
    for name in ("ws-a", "no-principal", "odd-bucket", "twin", "no-lab"):
        assert ask(server, "GET", f"/workspaces/{name}")[0] == 200, name
    for manifest in reversed(made):
        own.api.delete(manifest["kind"].lower() + "s", manifest["metadata"]["name"], NAMESPACE)
    eventually(lambda: len(ask(server, "GET", "/workspaces")[1]) == 1, 10)


def test_a_protected_claim_keeps_the_whole_workspace(own: Cluster, server: Server) -> None:
    workspace(own, NAMESPACE, "ws-kept")
    own.kubectl("annotate", "datalab", "ws-kept", "-n", NAMESPACE, "datalabs.pkg.internal/protect=true")
    own.kubectl("apply", "--server-side", "-f", str(MANIFESTS / "webhook" / "protection.yaml"))
    try:
        eventually(lambda: ask(server, "DELETE", "/workspaces/ws-kept?dry_run=true")[0] == 409, 60)
        code, found = ask(server, "DELETE", "/workspaces/ws-kept")
        assert (code, found["detail"]["error"]) == (409, "refused_by_policy")
        assert "protect" in found["detail"]["message"]
        assert ask(server, "GET", "/workspaces/ws-kept")[0] == 200
    finally:
        own.kubectl("delete", "-f", str(MANIFESTS / "webhook" / "protection.yaml"))
    own.kubectl("annotate", "datalab", "ws-kept", "-n", NAMESPACE, "datalabs.pkg.internal/protect-")
    eventually(lambda: ask(server, "DELETE", "/workspaces/ws-kept")[0] == 204, 60)
    own.api.delete("secrets", "ws-kept", NAMESPACE)


def test_datalabs_go_and_come_back(own: Cluster, server: Server) -> None:
    own.kubectl("delete", "crd", "datalabs.pkg.internal", "--wait=false")
    warning = "Optional CRD datalabs.pkg.internal not found; memberships will be empty."
    eventually(lambda: ask(server, "GET", "/status")[1].get("warnings") == [warning])
    assert ask(server, "GET", "/workspaces")[1][0]["sessions"] == []
    code, found = ask(server, "GET", "/workspaces/ws-a")
    assert (code, found["datalab"]["available"], found["datalab"]["memberships"]) == (200, False, [])
    code, found = ask(server, "GET", "/workspaces/ws-a/sessions")
    assert (code, found["detail"]["error"]) == (503, "provider_datalab_not_installed")
    code, found = ask(server, "PUT", "/workspaces/ws-a", {"add_memberships": [{"member": "carol"}]})
    assert (code, found["detail"]["error"]) == (503, "provider_datalab_not_installed")
    own.kubectl("apply", "--server-side", "-f", str(MANIFESTS / "crd" / "datalabs.pkg.internal.yaml"))
    eventually(lambda: ask(server, "GET", "/status")[1].get("warnings") is None, 60)

    def made() -> bool:
        try:
            own.api.create(datalab(NAMESPACE, "ws-a"))
        except Exception:  # the API server serves the new kind a moment later
            return False
        return True

    eventually(made)
    eventually(lambda: ask(server, "GET", "/workspaces/ws-a")[1]["datalab"]["memberships"], 60)


def test_storages_go_and_come_back(own: Cluster, server: Server) -> None:
    own.kubectl("delete", "crd", "storages.pkg.internal", "--wait=false")
    eventually(lambda: ask(server, "GET", "/status")[0] == 503)
    error = "Required CRD for kind Storage (pkg.internal/v1beta1) not available"
    for path in ("/workspaces", "/workspaces/ws-a"):
        assert ask(server, "GET", path) == (503, {"detail": {"error": error}})
    with server.as_() as client:
        assert client.get("/probe").status_code == 200
        assert "storages.pkg.internal is not installed" in client.get("/readyz").text
    own.kubectl("apply", "--server-side", "-f", str(STORAGE_CRD))
    own.kubectl("wait", "--for=condition=Established", "crd/storages.pkg.internal", "--timeout=30s")
    eventually(lambda: ask(server, "GET", "/status")[0] == 200, 60)
    eventually(lambda: _created(own, storage(NAMESPACE, "ws-a")))
    eventually(lambda: ask(server, "GET", "/workspaces/ws-a")[0] == 200, 60)


def _created(cluster: Cluster, manifest: Manifest) -> bool:
    try:
        cluster.api.create(manifest)
    except Exception:  # the API server serves the new kind a moment later
        return False
    return True


@pytest.mark.denied("watch")
@pytest.mark.denied("list")
@pytest.mark.denied("get")
def test_reads_go_on_while_the_api_server_is_away(own: Cluster, server: Server) -> None:
    """An API server that starts knows nobody's rights for a moment."""
    own.stop_apiserver()
    try:
        assert ask(server, "GET", "/workspaces/ws-a")[0] == 200
        with server.as_("root") as client:
            answer = client.put("/workspaces/ws-a", json={"add_memberships": [{"member": "carol"}]})
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert "Kube" not in answer.text
        assert "127.0.0.1" not in answer.text
    finally:
        own.start_apiserver()
    body = {"add_memberships": [{"member": "carol"}]}
    eventually(lambda: ask(server, "PUT", "/workspaces/ws-a", body)[0] == 202, 60)
    users = json.dumps({"spec": {"users": ["alice", "dan"]}})
    own.kubectl("patch", "datalab", "ws-a", "-n", NAMESPACE, "--type=merge", "-p", users)
    eventually(lambda: "dan" in str(ask(server, "GET", "/workspaces/ws-a")[1]), 60)  # watches stand again


@pytest.mark.denied("list resourcequotas")
@pytest.mark.denied("list persistentvolumeclaims")
@pytest.mark.denied("watch resourcequotas")
@pytest.mark.denied("watch persistentvolumeclaims")
def test_without_the_right_usage_is_left_out(own: Cluster, server: Server, issuer: Issuer, tmp_path: Path) -> None:
    assert "resource_usage" in ask(server, "GET", "/workspaces/ws-a")[1]
    own.kubectl("delete", "clusterrolebinding", f"datalabd-workspaces-usage-{NAMESPACE}")
    with serving(own, NAMESPACE, tmp_path / "log", issuer) as other:
        code, found = ask(other, "GET", "/workspaces/ws-a")
        assert (code, found["name"], "resource_usage" in found) == (200, "ws-a", False)


# ---- Rights that are missing


@pytest.fixture
def apart(own: Cluster) -> str:
    """A namespace of its own with one workspace, whose account a test takes rights from."""
    namespace = unique("narrow")
    own.api.create_namespace(namespace)
    workspaces_kubeconfig(own, namespace)
    workspace(own, namespace, "ws-a", sessions=[{"name": "default", "state": "started"}])
    return namespace


@pytest.mark.denied("list secrets")
def test_without_secrets_the_rest_is_served(own: Cluster, apart: str, issuer: Issuer, tmp_path: Path) -> None:
    role = json.loads(own.kubectl("get", "role", "datalabd-workspaces", "-n", apart, "-o", "json").stdout)
    rules = [rule for rule in role["rules"] if rule["resources"] != ["secrets"]]
    assert len(rules) == len(role["rules"]) - 1
    own.kubectl("replace", "-f", "-", stdin=json.dumps(role | {"rules": rules}))
    with serving(own, apart, tmp_path / "log", issuer) as server:
        (row,) = ask(server, "GET", "/workspaces")[1]
        code, found = ask(server, "GET", "/workspaces/ws-a")
        assert (code, found["status"], row["status"]) == (200, "provisioning", "provisioning")
        assert found["problem"] == row["problem"]
        assert found["problem"].startswith("Credentials cannot be read")
        assert "credentials" not in found["storage"]
        assert [member["member"] for member in found["datalab"]["memberships"]] == ["alice"]
        assert ask(server, "PUT", "/workspaces/ws-a", {"add_memberships": [{"member": "carol"}]})[0] == 202
        refused = {"error": "backend_error", "status": 403, "reason": "Forbidden"}
        assert ask(server, "GET", "/workspaces/ws-a/credentials") == (502, {"detail": refused})
        (line,) = server.lines("cannot be read")
        assert (line["level"], line["resource"]) == ("warning", "secrets")
        assert 'cannot list resource "secrets"' in line["error"]
        with server.as_() as client:
            assert 'datalabd_kind_unreadable{resource="secrets"} 1.0' in client.get("/metrics").text
        current = json.loads(own.kubectl("get", "role", "datalabd-workspaces", "-n", apart, "-o", "json").stdout)
        own.kubectl("replace", "-f", "-", stdin=json.dumps(current | {"rules": role["rules"]}))
        eventually(lambda: ask(server, "GET", "/workspaces/ws-a")[1]["status"] == "ready", 30)
        found = ask(server, "GET", "/workspaces/ws-a")[1]
        assert (found["storage"]["credentials"]["secret"], "problem" in found) == ("very-secret", False)


@pytest.mark.denied("list customresourcedefinitions")
def test_without_definitions_no_store_is_offered(own: Cluster, apart: str, issuer: Issuer, tmp_path: Path) -> None:
    own.kubectl("delete", "clusterrolebinding", f"datalabd-workspaces-{apart}")
    with serving(own, apart, tmp_path / "log", issuer) as server:
        code, found = ask(server, "GET", "/workspaces/ws-a")
        assert (code, found["status"], found["datalab"]["available"]) == (200, "ready", True)
        assert found["datalab"]["available_store_types"] == []
        code, found = ask(server, "PUT", "/workspaces/ws-a", {"add_stores": [{"name": "a", "type": "cache"}]})
        assert (code, found["detail"]["error"]) == (422, "store_type_unavailable")
        assert ask(server, "PUT", "/workspaces/ws-a", {"add_memberships": [{"member": "carol"}]})[0] == 202
        assert [line["resource"] for line in server.lines("may not be read")] == [
            "customresourcedefinitions.apiextensions.k8s.io"
        ]
