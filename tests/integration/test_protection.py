"""What holds a lab's data is kept by the API server itself: no process of ours runs here."""

import asyncio
import json
from collections.abc import Iterator

import pytest

from datalabd.api.meta import ACCOUNT, APPLIED, CLAIM_NAME, CLAIM_NAMESPACE, UNPROTECTED, Manifest
from datalabd.kube.client import Client
from datalabd.plan import rights
from hack.cluster import Cluster
from hack.deadlines import scaled
from hack.standins import install_crds, install_store_crds
from tests.integration.daemon import eventually
from tests.integration.objects import Answer, create, unique
from tests.reference import SHARED
from webhooks.registration import CLEANERS, PROTECTED_DATA, PROTECTED_RIGHTS, data_protection, rights_protection

pytestmark = pytest.mark.cluster

ADMINISTRATOR = ("--as=carol", "--as-group=system:masters")
"""Somebody who may do everything, and is not who runs datalabd."""


@pytest.fixture(scope="module", autouse=True)
def in_force(cluster: Cluster) -> Iterator[None]:
    """The policies of a datalabd that `admin` runs, once the API server goes by them."""

    async def install() -> None:
        client = await Client.connect(str(cluster.kubeconfig))
        try:
            directory = SHARED / "crds" if SHARED.exists() else None
            await install_crds(client, directory)
            await install_store_crds(client, directory, "PostgresCluster")
        finally:
            await client.close()

    asyncio.run(install())
    for manifest in rights_protection() + data_protection("admin"):
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(manifest))
    probe = marked("Secret", f"{unique('probe')}-redis-auth", "default")
    cluster.api.create(probe)
    eventually(lambda: delete(cluster, probe, *ADMINISTRATOR, "--dry-run=server").returncode != 0)
    assert delete(cluster, probe).returncode == 0
    yield
    for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
        cluster.kubectl("delete", kind, PROTECTED_DATA, PROTECTED_RIGHTS)


def marked(kind: str, name: str, namespace: str = "", lab: str = "") -> Manifest:
    """An object as datalabd makes it, of a lab called like its namespace or itself."""
    metadata: Manifest = {
        "name": name,
        "labels": {
            "app.kubernetes.io/managed-by": "datalabd",
            CLAIM_NAME: lab or namespace or name,
            CLAIM_NAMESPACE: "claims",
        },
        "annotations": {APPLIED: "0123456789abcdef"},
    }
    if namespace:
        metadata["namespace"] = namespace
    bodies: dict[str, Manifest] = {
        "PersistentVolumeClaim": {
            "apiVersion": "v1",
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}},
                "storageClassName": "none",
            },
        },
        "WorkshopEnvironment": {
            "apiVersion": "training.educates.dev/v1beta1",
            "spec": {"workshop": {"name": name}},
        },
        "PostgresCluster": {
            "apiVersion": "postgres-operator.crunchydata.com/v1",
            "spec": {
                "postgresVersion": 17,
                "instances": [
                    {
                        "dataVolumeClaimSpec": {
                            "accessModes": ["ReadWriteOnce"],
                            "resources": {"requests": {"storage": "1Gi"}},
                        }
                    }
                ],
            },
        },
    }
    return {"kind": kind, "metadata": metadata} | bodies.get(kind, {"apiVersion": "v1"})


def delete(cluster: Cluster, manifest: Manifest, *options: str) -> Answer:
    """What `kubectl delete` answers."""
    metadata = manifest["metadata"]
    place = ["-n", metadata["namespace"]] if "namespace" in metadata else []
    return cluster.kubectl("delete", manifest["kind"], metadata["name"], *place, "--wait=false", *options, check=False)


DURABLE = [
    pytest.param("PersistentVolumeClaim", "{ns}-main-persistent", id="home"),
    pytest.param("PostgresCluster", "pg0", id="database"),
    pytest.param("Secret", "m-mongodb-auth", id="mongodb"),
    pytest.param("Secret", "r-redis-auth", id="redis"),
    pytest.param("Secret", "r-redis-acl", id="redis access list"),
    pytest.param("Secret", "q-qdrant-auth", id="qdrant"),
]


@pytest.mark.parametrize(("kind", "name"), DURABLE)
def test_an_administrator_cannot_delete_what_holds_data(cluster: Cluster, namespace: str, kind: str, name: str) -> None:
    obj = marked(kind, name.format(ns=namespace), namespace)
    cluster.api.create(obj)
    answer = delete(cluster, obj, *ADMINISTRATOR)
    assert answer.returncode == 1
    assert "(Forbidden)" in answer.stderr
    assert f"use datalabd purge claims/{namespace}, or annotate it {UNPROTECTED}=true first" in answer.stderr
    cluster.kubectl("annotate", kind, obj["metadata"]["name"], "-n", namespace, f"{UNPROTECTED}=true", *ADMINISTRATOR)
    assert delete(cluster, obj, *ADMINISTRATOR).returncode == 0


def test_an_administrator_cannot_delete_an_environment(cluster: Cluster) -> None:
    environment = marked("WorkshopEnvironment", unique())
    cluster.api.create(environment)
    answer = delete(cluster, environment, *ADMINISTRATOR)
    assert f"it holds data of lab claims/{environment['metadata']['name']}" in answer.stderr
    assert delete(cluster, environment).returncode == 0


@pytest.mark.parametrize("user", ["admin", "system:serviceaccount:educates:session-manager", *CLEANERS])
def test_we_and_the_cleaners_may(cluster: Cluster, namespace: str, user: str) -> None:
    volume = marked("PersistentVolumeClaim", "home", namespace)
    cluster.api.create(volume)
    answer = delete(cluster, volume, f"--as={user}", "--as-group=system:masters")
    assert answer.returncode == 0, answer.stderr


def test_an_account_that_is_called_like_the_runtimes_may_not(cluster: Cluster, namespace: str) -> None:
    volume = marked("PersistentVolumeClaim", "home", namespace)
    cluster.api.create(volume)
    account = f"{namespace}:session-manager"
    cluster.kubectl(
        "create", "rolebinding", "own", "-n", namespace, "--clusterrole=admin", f"--serviceaccount={account}"
    )
    answer = delete(cluster, volume, f"--as=system:serviceaccount:{account}")
    assert "it holds data of lab" in answer.stderr


def test_nobody_deletes_all_at_once(cluster: Cluster, namespace: str) -> None:
    cluster.api.create(marked("PersistentVolumeClaim", "home", namespace))
    cluster.api.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "other", "namespace": namespace}})
    path = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims"
    answer = cluster.kubectl("delete", "--raw", path, *ADMINISTRATOR, check=False)
    assert "it holds data of lab" in answer.stderr
    assert cluster.kubectl("get", "pvc", "home", "-n", namespace, "-o", "name").stdout
    answer = cluster.kubectl("delete", "--raw", f"/api/v1/namespaces/{namespace}/secrets", *ADMINISTRATOR, check=False)
    assert answer.returncode == 0, answer.stderr


def without(manifest: Manifest, part: str) -> Manifest:
    """The manifest without its labels, or annotations."""
    return manifest | {"metadata": {key: value for key, value in manifest["metadata"].items() if key != part}}


@pytest.mark.parametrize(
    ("kind", "name", "lacks"),
    [
        pytest.param("PersistentVolumeClaim", "{ns}-datalab", "", id="data mount"),
        pytest.param("PersistentVolumeClaim", "home", "labels", id="somebody else's"),
        pytest.param("PersistentVolumeClaim", "home", "annotations", id="labels inherited"),
        pytest.param("Secret", "{ns}-login", "", id="login, made anew"),
    ],
)
def test_the_rest_is_nobodys_business(cluster: Cluster, namespace: str, kind: str, name: str, lacks: str) -> None:
    obj = without(marked(kind, name.format(ns=namespace), namespace), lacks)
    cluster.api.create(obj)
    answer = delete(cluster, obj, *ADMINISTRATOR)
    assert answer.returncode == 0, answer.stderr


def test_a_secret_of_that_name_beside_the_claim_is_not_a_stores(cluster: Cluster, namespace: str) -> None:
    secret = marked("Secret", "r-redis-auth", namespace, "elsewhere")
    cluster.api.create(secret)
    assert delete(cluster, secret, *ADMINISTRATOR).returncode == 0


def owned(name: str, owner: str, uid: str) -> Manifest:
    """A namespace as Educates makes it, with the labels of what owns it."""
    namespace = without(marked("Namespace", name), "annotations")
    reference = {"apiVersion": "training.educates.dev/v1beta1", "kind": owner, "name": name, "uid": uid}
    return namespace | {"metadata": namespace["metadata"] | {"ownerReferences": [reference]}}


def test_the_namespace_of_a_lab_stays_until_its_environment_goes(cluster: Cluster) -> None:
    name = unique()
    environment = marked("WorkshopEnvironment", name)
    uid = json.loads(create(cluster, environment, "-o", "json").stdout)["metadata"]["uid"]
    namespace = owned(name, "WorkshopEnvironment", uid)
    cluster.api.create(namespace)
    cluster.api.create(marked("PersistentVolumeClaim", "home", name))
    assert "it holds data of lab" in delete(cluster, namespace, *ADMINISTRATOR).stderr
    assert delete(cluster, environment).returncode == 0
    eventually(lambda: cluster.api.get("namespace", name) is None, 90)


def test_the_namespace_of_a_session_may_go(cluster: Cluster) -> None:
    name = unique()
    session = {
        "apiVersion": "training.educates.dev/v1beta1",
        "kind": "WorkshopSession",
        "metadata": {"name": name},
        "spec": {"environment": {"name": name}, "session": {"id": "main"}},
    }
    uid = json.loads(create(cluster, session, "-o", "json").stdout)["metadata"]["uid"]
    namespace = owned(name, "WorkshopSession", uid)
    cluster.api.create(namespace)
    answer = delete(cluster, namespace, *ADMINISTRATOR)
    assert answer.returncode == 0, answer.stderr
    assert delete(cluster, session).returncode == 0


def test_what_is_in_a_namespace_that_ends_anyway_may_go(cluster: Cluster) -> None:
    name = unique()
    cluster.api.create_namespace(name)
    volume = marked("PersistentVolumeClaim", "home", name)
    volume["metadata"]["finalizers"] = ["test.example.org/held"]
    cluster.api.create(volume)
    cluster.api.delete("namespace", name)
    answer = delete(cluster, volume, *ADMINISTRATOR)
    assert answer.returncode == 0, answer.stderr
    cluster.api.patch("pvc", "home", {"metadata": {"finalizers": None}}, name)


@pytest.fixture
def member(cluster: Cluster, namespace: str) -> str:
    """Somebody who may do with RoleBindings of the namespace what Educates' role `admin` allows; a name to act as."""
    verbs = "create,delete,deletecollection,get,list,patch,update,watch"
    cluster.kubectl("create", "role", "member", "-n", namespace, f"--verb={verbs}", "--resource=rolebindings")
    cluster.kubectl("create", "rolebinding", "member", "-n", namespace, "--role=member", "--user=dave")
    return "--as=dave"


@pytest.mark.parametrize("role", [rights.LAB, rights.SESSION])
def test_a_member_cannot_take_our_rights_away(cluster: Cluster, namespace: str, member: str, role: str) -> None:
    binding = rights.binding(ACCOUNT, role, namespace)
    cluster.api.create(binding)
    # RBAC itself refuses a change of whom it binds, but not one that has the garbage collector take it away.
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "none", "uid": "none"}
    body = json.dumps({"metadata": {"ownerReferences": [owner]}})
    patch = ["patch", "rolebinding", role, "-n", namespace, "--type=merge", "-p", body]
    all_of_them = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings"

    def refused(*command: str) -> bool:
        return "it goes with its namespace" in cluster.kubectl(*command, member, check=False).stderr

    eventually(lambda: refused("delete", "rolebinding", role, "-n", namespace, "--dry-run=server"))
    assert refused(*patch)
    assert refused("delete", "--raw", all_of_them)
    assert delete(cluster, binding, *ADMINISTRATOR).returncode == 0


def test_a_member_does_as_he_likes_with_other_bindings(cluster: Cluster, namespace: str, member: str) -> None:
    answer = delete(
        cluster,
        rights.binding(ACCOUNT, "view", namespace) | {"metadata": {"name": "member", "namespace": namespace}},
        member,
    )
    assert answer.returncode == 0, answer.stderr


def test_our_rights_go_with_their_namespace(cluster: Cluster) -> None:
    name = unique()
    cluster.kubectl("create", "namespace", name)
    cluster.api.create(rights.binding(ACCOUNT, rights.SESSION, name))
    cluster.kubectl("delete", "namespace", name, f"--timeout={scaled(60):.0f}s")


@pytest.mark.parametrize("policy", [PROTECTED_DATA, PROTECTED_RIGHTS])
def test_the_api_server_has_nothing_to_say_against_the_policy(cluster: Cluster, policy: str) -> None:
    def checked() -> Manifest | None:
        live: Manifest = json.loads(cluster.kubectl("get", "validatingadmissionpolicy", policy, "-o", "json").stdout)
        status: Manifest = live.get("status") or {}
        return status if status.get("observedGeneration") == live["metadata"]["generation"] else None

    assert eventually(checked)["typeChecking"] == {}
