"""Document stores: a MongoDBCommunity and its password each, and what the operator's pods need once per lab."""

from datalabd import names
from datalabd.api.meta import Manifest
from datalabd.lab import Lab, Store
from datalabd.plan.metadata import inside, opaque, ours
from datalabd.plan.volumes import claim_spec
from datalabd.stores import Turn

VERSION = "8.0.12"
LOGS_STORAGE = "2G"
ACCOUNT = "mongodb-kubernetes-appdb"
"""Account that the operator's pods run as; the other two are of kinds it may also make."""
ACCOUNTS = (ACCOUNT, "mongodb-kubernetes-database-pods", "mongodb-kubernetes-ops-manager")


def prerequisites(lab: Lab) -> list[Manifest]:
    """ServiceAccounts, and the Role by which a member reads its password and replaces its pod."""
    role: Manifest = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": inside(lab, ACCOUNT),
        "rules": [
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["patch", "delete", "get"]},
        ],
    }
    binding: Manifest = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": inside(lab, ACCOUNT),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": ACCOUNT},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": names.workshop_namespace(lab.name)}],
    }
    accounts: list[Manifest] = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": inside(lab, name)} for name in ACCOUNTS
    ]
    return [ours(lab, manifest) for manifest in (*accounts, role, binding)]


def auth(lab: Lab, store: Store, password: str, turn: Turn) -> Manifest:
    """Secret `K-mongodb-auth`."""
    metadata = inside(lab, names.document_store_auth(store.key), turn.annotations())
    return opaque(lab, metadata, {"password": password})


def mongodb(lab: Lab, store: Store, live: tuple[Manifest, ...]) -> Manifest:
    """MongoDBCommunity `mongodb-K`. Its operator cannot change volumes: one that exists keeps its templates, `live`."""
    component = lab.environment.data.components.mongodb
    pods: Manifest = {
        "volumeClaimTemplates": list(live)
        or [
            {"metadata": {"name": "data-volume"}, "spec": claim_spec(store.storage, store.storage_class)},
            # Its operator makes this one too; without a class of its own it hangs where the cluster has no default.
            {"metadata": {"name": "logs-volume"}, "spec": claim_spec(LOGS_STORAGE, store.storage_class)},
        ]
    }
    container = ({"image": component.image} if component.image else {}) | (
        {"resources": component.resources} if component.resources else {}
    )
    if container:
        pods["template"] = {"spec": {"containers": [{"name": "mongod"} | container]}}
    return ours(
        lab,
        {
            "apiVersion": "mongodbcommunity.mongodb.com/v1",
            "kind": "MongoDBCommunity",
            "metadata": inside(lab, names.document_store(store.key)),
            "spec": {
                "members": component.replicas or 1,
                "type": "ReplicaSet",
                "version": VERSION,
                "security": {"authentication": {"modes": ["SCRAM"], "ignoreUnknownUsers": True}},
                "users": [
                    {
                        "name": f"{store.key}-app",
                        "db": "admin",
                        "passwordSecretRef": {"name": names.document_store_auth(store.key), "key": "password"},
                        "roles": [{"name": "readWrite", "db": store.key}, {"name": "dbAdmin", "db": store.key}],
                        "scramCredentialsSecretName": f"{store.key}-app-scram",
                    }
                ],
                "statefulSet": {"spec": pods},
            },
        },
    )
