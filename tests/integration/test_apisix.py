"""A lab that APISIX protects, on a control plane of its own: from one that knows no APISIX to a session behind it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from datalabd.api.meta import Manifest
from hack.cluster import Cluster
from tests.integration.daemon import Daemon, eventually, running
from tests.integration.objects import open_namespace
from tests.integration.routes import install_route_kinds
from tests.integration.stage import Stage, standins
from tests.reference import SHARED

pytestmark = pytest.mark.cluster

CRD = SHARED / "crds" / "apisixpluginconfigs.apisix.apache.org.yaml"
DISCOVERY = "https://id.example.org/.well-known/openid-configuration"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane that knows no APISIX yet."""
    with Cluster.start(tmp_path_factory.mktemp("own-control-plane")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def daemon(own: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running(own, tmp_path_factory) as daemon:
        yield daemon


def client(lab: str, secret: str) -> Manifest:
    """What identity, or an operator by hand, puts into the namespace of a lab."""
    metadata = {"name": f"{lab}-oauth2-client", "namespace": lab}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata} | {
        "stringData": {"client_id": lab, "client_secret": secret}
    }


def test_a_session_behind_apisix(own: Cluster, daemon: Daemon) -> None:
    namespace = open_namespace(own)
    with standins(own, installed=False):
        stage = Stage(own, namespace, auth={"type": "delegated"})
        protection = {"type": "apisix", "discoveryURL": DISCOVERY, "authURL": None, "signinURL": None}

        def protect(**changes: str) -> None:
            patch = json.dumps({"data": {"ingress": {"protection": protection | changes}}})
            own.kubectl("patch", "environmentconfig", stage.environment, "--type=merge", "-p", patch)

        protect()
        lab = stage.lab("main")

        def unprotected(said: str) -> None:
            eventually(lambda: said in stage.until(lab, "SessionsReady", "False", "Unprotected", 120)["message"], 60)
            assert stage.get("workshopsession", f"{lab}-main", "") is None

        def plugins() -> Manifest:
            return stage.get("apisixpluginconfig", f"workspace-oidc-{lab}", lab) or {}

        unprotected("install the APISIX ingress controller")
        if CRD.exists():
            own.kubectl("create", "-f", str(CRD))
        else:
            install_route_kinds(own, "ApisixPluginConfig")
        unprotected(f"Secret {lab}-oauth2-client of namespace {lab} does not exist: set iam.url")

        stage.create(client(lab, "one"))
        stage.until_ready(lab, 120)
        (login,) = plugins()["spec"]["plugins"]
        assert login["secretRef"] == f"{lab}-apisix"
        assert login["config"]["discovery"] == DISCOVERY
        first = stage.values(f"{lab}-apisix", lab)
        assert {key: first[key] for key in ("client_id", "client_secret")} == {"client_id": lab, "client_secret": "one"}
        assert len(first["session.secret"]) >= 32
        ingress = stage.get("ingress", f"{lab}-main", lab)
        assert ingress is not None
        assert ingress["metadata"]["annotations"]["k8s.apisix.apache.org/plugin-config-name"] == f"workspace-oidc-{lab}"
        told = json.dumps([stage.get("datalab", lab), plugins()]) + daemon.log.read_text()
        assert first["session.secret"] not in told

        stage.create(client(lab, "two"))
        eventually(lambda: stage.values(f"{lab}-apisix", lab) == first | {"client_secret": "two"}, 60)

        own.kubectl("delete", "secret", f"{lab}-oauth2-client", "-n", lab)
        daemon.restart()
        stage.patch(lab, {"op": "add", "path": "/spec/quota", "value": {"memory": "3Gi"}})
        eventually(lambda: observed(stage, lab), 60)
        assert stage.values(f"{lab}-apisix", lab) == first | {"client_secret": "two"}
        assert plugins()

        protect(discoveryURL=f"{DISCOVERY}?changed")
        eventually(lambda: f"{DISCOVERY}?changed" in json.dumps(plugins()), 60)
        protect(type="external")
        stage.set_state(lab, 0, "stopped")
        # Not before the last Ingress that names them is gone.
        stage.gone("apisixpluginconfig", f"workspace-oidc-{lab}", lab, 120)
        assert stage.get("workshopsession", f"{lab}-main", "") is None
        stage.gone("secret", f"{lab}-apisix", lab)


def observed(stage: Stage, lab: str) -> Any:
    live = stage.get("datalab", lab) or {}
    return live["status"].get("observedGeneration") == live["metadata"]["generation"]
