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
from tests.integration.objects import Answer, create, replace, unique
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


@pytest.mark.parametrize("user", ["admin", "system:serviceaccount:educates:session-manager"])
def test_we_and_the_runtime_may(cluster: Cluster, namespace: str, user: str) -> None:
    volume = marked("PersistentVolumeClaim", "home", namespace)
    cluster.api.create(volume)
    answer = delete(cluster, volume, f"--as={user}", "--as-group=system:masters")
    assert answer.returncode == 0, answer.stderr


GONE = {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "11111111-2222-3333-4444-555555555555"}
"""An owner that is not there: the garbage collector deletes what names it."""


@pytest.mark.parametrize("user", CLEANERS)
def test_the_cleaners_delete_nothing_that_has_no_owner_of_ours(cluster: Cluster, namespace: str, user: str) -> None:
    volume = marked("PersistentVolumeClaim", "home", namespace)
    cluster.api.create(volume)
    answer = delete(cluster, volume, f"--as={user}", "--as-group=system:masters")
    assert "it holds data of lab" in answer.stderr


def test_an_owner_from_before_takes_nothing_along(cluster: Cluster, namespace: str) -> None:
    # When the garbage collector has taken the last one, it is done with those before it.
    control: Manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "control", "namespace": namespace},
    }
    kept = (marked("PersistentVolumeClaim", "home", namespace), marked("Secret", "r-redis-auth", namespace))
    for manifest in (*kept, control):
        cluster.api.create(manifest | {"metadata": manifest["metadata"] | {"ownerReferences": [GONE]}})
    eventually(lambda: cluster.api.get("configmap", "control", namespace) is None)
    for kind, name in (("pvc", "home"), ("secret", "r-redis-auth")):
        live = cluster.api.get(kind, name, namespace)
        assert live is not None
        assert "deletionTimestamp" not in live["metadata"]
        # Anybody who may write it takes such an owner off again.
        cluster.api.patch(kind, name, {"metadata": {"ownerReferences": None}}, namespace)


@pytest.fixture
def editor(cluster: Cluster, namespace: str) -> str:
    """Somebody who may change everything in the namespace and delete nothing; a name to act as."""
    verbs = "create,get,list,patch,update,watch"
    kinds = "persistentvolumeclaims,persistentvolumeclaims/status,secrets,postgresclusters"
    resources = kinds + ".postgres-operator.crunchydata.com"
    cluster.kubectl("create", "role", "editor", "-n", namespace, f"--verb={verbs}", f"--resource={resources}")
    cluster.kubectl("create", "rolebinding", "editor", "-n", namespace, "--role=editor", "--user=erin")
    return "--as=erin"


def patched(cluster: Cluster, manifest: Manifest, metadata: Manifest, *options: str) -> Answer:
    """What a patch of the object's metadata answers."""
    have = manifest["metadata"]
    place = ["-n", have["namespace"]] if "namespace" in have else []
    body = json.dumps({"metadata": metadata})
    return cluster.kubectl(
        *("patch", manifest["kind"], have["name"], *place, "--type=merge", "-p", body, *options), check=False
    )


@pytest.mark.parametrize(("kind", "name"), DURABLE)
def test_nobody_gives_what_holds_data_an_owner(
    cluster: Cluster, namespace: str, editor: str, kind: str, name: str
) -> None:
    obj = marked(kind, name.format(ns=namespace), namespace)
    live = json.loads(create(cluster, obj, "-o", "json").stdout)
    owned = {"ownerReferences": [GONE]}
    said = f"it holds data of lab claims/{namespace}, and would go with such an owner"
    for user in ((editor,), ADMINISTRATOR):
        assert said in patched(cluster, obj, owned, *user).stderr
        assert said in replace(cluster, live | {"metadata": live["metadata"] | owned}, *user).stderr
        applied = {"apiVersion": live["apiVersion"], "kind": kind}
        applied |= {"metadata": {"name": live["metadata"]["name"], "namespace": namespace} | owned}
        apply = ("apply", "--server-side", "--field-manager=other", "-f", "-")
        assert said in cluster.kubectl(*apply, *user, stdin=json.dumps(applied), check=False).stderr
    if kind == "PersistentVolumeClaim":
        assert said in patched(cluster, obj, owned, editor, "--subresource=status").stderr
    # Who may delete it says so first, as for a deletion.
    assert patched(cluster, obj, {"annotations": {UNPROTECTED: "true"}}, *ADMINISTRATOR).returncode == 0
    assert said in patched(cluster, obj, owned, editor).stderr
    assert patched(cluster, obj, owned, *ADMINISTRATOR, "--dry-run=server").returncode == 0


@pytest.mark.parametrize("kind", ["WorkshopEnvironment", "Namespace"])
def test_an_environment_and_its_namespace_keep_their_owners(cluster: Cluster, kind: str) -> None:
    name = unique()
    environment = marked("WorkshopEnvironment", name)
    uid = json.loads(create(cluster, environment, "-o", "json").stdout)["metadata"]["uid"]
    cluster.api.create(owned(name, "WorkshopEnvironment", uid))
    said = f"it holds data of lab claims/{name}, and would go with such an owner"
    owners: list[Manifest] = [{"ownerReferences": [GONE]}]
    if kind == "Namespace":
        own = json.loads(cluster.kubectl("get", "namespace", name, "-o", "json").stdout)["metadata"]["ownerReferences"]
        owners += [{"ownerReferences": None}, {"ownerReferences": [own[0] | {"uid": GONE["uid"]}]}]
    for change in owners:
        assert said in patched(cluster, marked(kind, name), change, *ADMINISTRATOR).stderr
    assert delete(cluster, environment).returncode == 0
    eventually(lambda: cluster.api.get("namespace", name) is None, 90)


@pytest.mark.parametrize(
    "marks",
    [
        pytest.param({"annotations": {UNPROTECTED: "true"}}, id="let go"),
        pytest.param({"annotations": {APPLIED: None}}, id="not as planned"),
        pytest.param({"labels": {"app.kubernetes.io/managed-by": None}}, id="nobody's"),
        pytest.param({"labels": {CLAIM_NAME: "other"}}, id="another lab's"),
    ],
)
def test_who_may_not_delete_it_does_not_let_it_be_deleted(
    cluster: Cluster, namespace: str, editor: str, marks: Manifest
) -> None:
    volume = marked("PersistentVolumeClaim", "home", namespace)
    cluster.api.create(volume)
    said = "who changes them has to have the right to delete it"
    assert said in patched(cluster, volume, marks, editor).stderr
    assert said in patched(cluster, volume, marks, editor, "--subresource=status").stderr
    assert patched(cluster, volume, marks, *ADMINISTRATOR).returncode == 0


def test_what_destroys_nothing_is_everybodys(cluster: Cluster, namespace: str, editor: str) -> None:
    volume = marked("PersistentVolumeClaim", "home", namespace)
    cluster.api.create(volume)
    for change in (
        {"finalizers": ["kubernetes.io/pvc-protection", "example.org/hold"]},
        {"finalizers": ["kubernetes.io/pvc-protection"]},
        {"labels": {"example.org/team": "a"}, "annotations": {"example.org/seen": "yes"}},
    ):
        answer = patched(cluster, volume, change, editor)
        assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("cascade", ["background", "foreground", "orphan"])
def test_no_way_of_deletion_passes(cluster: Cluster, namespace: str, cascade: str) -> None:
    volume = marked("PersistentVolumeClaim", "home", namespace)
    cluster.api.create(volume)
    assert "it holds data of lab" in delete(cluster, volume, *ADMINISTRATOR, f"--cascade={cascade}").stderr
    live = cluster.api.get("pvc", "home", namespace)
    assert live is not None
    assert "deletionTimestamp" not in live["metadata"]


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
