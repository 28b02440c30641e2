import base64
from typing import Any

import pytest

from datalabd.api.meta import ROTATED, SINCE, Manifest
from datalabd.lab import Lab, Store
from datalabd.plan.metadata import ours
from datalabd.plan.mongodb import auth, mongodb, prerequisites
from datalabd.plan.volumes import claim_spec
from datalabd.stores import Size, Turn
from tests.factories import environment, lab

STORE = Store("prod", "1Gi", "fast")
ASKED = Size("1Gi", "fast")
ACCOUNT = "mongodb-kubernetes-appdb"


def planned(of: Lab, api_version: str, kind: str, name: str, **content: Any) -> Manifest:
    """An object of ours in the workshop namespace."""
    metadata = {"name": name, "namespace": "lab"}
    return ours(of, {"apiVersion": api_version, "kind": kind, "metadata": metadata} | content)


def test_prerequisites() -> None:
    rbac = "rbac.authorization.k8s.io"
    assert prerequisites(lab()) == [
        planned(lab(), "v1", "ServiceAccount", ACCOUNT),
        planned(lab(), "v1", "ServiceAccount", "mongodb-kubernetes-database-pods"),
        planned(lab(), "v1", "ServiceAccount", "mongodb-kubernetes-ops-manager"),
        planned(
            lab(),
            f"{rbac}/v1",
            "Role",
            ACCOUNT,
            rules=[
                {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
                {"apiGroups": [""], "resources": ["pods"], "verbs": ["patch", "delete", "get"]},
            ],
        ),
        planned(
            lab(),
            f"{rbac}/v1",
            "RoleBinding",
            ACCOUNT,
            roleRef={"apiGroup": rbac, "kind": "Role", "name": ACCOUNT},
            subjects=[{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": "lab"}],
        ),
    ]


@pytest.mark.parametrize(
    ("turn", "annotations"),
    [
        pytest.param(Turn(since="2026-02-01T00:00:00Z"), {}, id="the first"),
        pytest.param(
            Turn("2", "", "2026-03-01T12:00:00Z"),
            {"annotations": {ROTATED: "2", SINCE: "2026-03-01T12:00:00Z"}},
            id="that replaces another",
        ),
    ],
)
def test_auth(turn: Turn, annotations: Manifest) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {"name": "prod-mongodb-auth", "namespace": "lab"} | annotations,
        "data": {"password": base64.b64encode(b"chosen").decode()},
    }
    assert auth(lab(), STORE, "chosen", turn) == ours(lab(), secret)


def resource(of: Lab, members: int = 1, size: Size = ASKED, container: Manifest | None = None) -> Manifest:
    """A MongoDBCommunity of ours."""
    claims = (("data-volume", size.storage), ("logs-volume", "2G"))
    pods = {
        "volumeClaimTemplates": [
            {"metadata": {"name": name}, "spec": claim_spec(storage, size.storage_class)} for name, storage in claims
        ]
    }
    template = {"template": {"spec": {"containers": [{"name": "mongod"} | container]}}} if container else {}
    return planned(
        of,
        "mongodbcommunity.mongodb.com/v1",
        "MongoDBCommunity",
        "mongodb-prod",
        spec={
            "members": members,
            "type": "ReplicaSet",
            "version": "8.0.12",
            "security": {"authentication": {"modes": ["SCRAM"], "ignoreUnknownUsers": True}},
            "users": [
                {
                    "name": "prod-app",
                    "db": "admin",
                    "passwordSecretRef": {"name": "prod-mongodb-auth", "key": "password"},
                    "roles": [{"name": "readWrite", "db": "prod"}, {"name": "dbAdmin", "db": "prod"}],
                    "scramCredentialsSecretName": "prod-app-scram",
                }
            ],
            "statefulSet": {"spec": pods | template},
        },
    )


def test_mongodb() -> None:
    assert mongodb(lab(), STORE, ()) == resource(lab())


def test_the_clusters_default_class() -> None:
    store = Store("prod", "1Gi", None)
    assert mongodb(lab(), store, ()) == resource(lab(), size=Size("1Gi", None))


def test_one_that_exists_keeps_its_volumes() -> None:
    """Its operator would be refused the change, and go on with nothing else either."""
    live = {"metadata": {"name": "data-volume"}, "spec": {"resources": {"requests": {"storage": "2Gi"}}}}
    assert mongodb(lab(), STORE, (live,))["spec"]["statefulSet"]["spec"]["volumeClaimTemplates"] == [live]


RESOURCES = {"limits": {"memory": "1Gi"}}


@pytest.mark.parametrize(
    ("component", "members", "container"),
    [
        pytest.param({"replicas": 3}, 3, {}, id="several members"),
        pytest.param({"image": "registry/mongo:8"}, 1, {"image": "registry/mongo:8"}, id="image"),
        pytest.param({"resources": RESOURCES}, 1, {"resources": RESOURCES}, id="resources"),
        pytest.param(
            {"image": "registry/mongo:8", "resources": RESOURCES},
            1,
            {"image": "registry/mongo:8", "resources": RESOURCES},
            id="both",
        ),
    ],
)
def test_as_the_environment_says(component: Manifest, members: int, container: Manifest) -> None:
    here = lab(environment(components={"mongodb": component}))
    assert mongodb(here, STORE, ()) == resource(here, members, container=container)
