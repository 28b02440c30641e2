"""What datalabd may do, and what a claim says where that is too little. All tests run it with no more rights."""

import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from datalabd.api.meta import ACCOUNT, ROTATE, is_planned
from datalabd.plan import rights
from hack.account import open_to_claims
from hack.cluster import Cluster
from hack.standins import STORES
from tests.integration.daemon import Daemon, eventually
from tests.integration.objects import unique
from tests.integration.stage import Stage, standins

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

SIZE = {"storage": "1Gi"}
EVERYTHING: dict[str, Any] = {
    "databases": {"pg0": {"names": ["dev"], "storage": "1Gi", "backupStorage": "1Gi"}},
    "documentStores": {"docs": SIZE},
    "cacheStores": {"cache": SIZE},
    "vectorStores": {"vectors": SIZE},
}


@pytest.fixture(scope="module", autouse=True)
def played(cluster: Cluster, datalabd: Daemon) -> Iterator[None]:
    """Educates, kubelet and the operators of stores beside the daemon."""
    with standins(cluster, installed=False, stores=STORES):
        yield


@pytest.fixture
def stage(cluster: Cluster, played: None, namespace: str) -> Stage:
    """An environment in a namespace of its own."""
    return Stage(cluster, namespace)


@pytest.fixture
def closed(cluster: Cluster) -> Iterator[str]:
    """A namespace that is not open to claims."""
    name = unique("closed")
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def told(stage: Stage, lab: str) -> str:
    """What a lab says that lacks rights."""
    message = str(stage.until(lab, "Synced", "False", "RightsMissing")["message"])
    assert stage.condition(lab, "Stalled")["reason"] == "RightsMissing"
    return message


def do_as_told(stage: Stage, message: str) -> None:
    """Run the command that a condition names."""
    command = shlex.split(message.partition("say: ")[2])
    assert command[0] == "kubectl"
    stage.cluster.kubectl(*command[1:])


@pytest.mark.denied("list secrets")
def test_a_namespace_that_is_not_open_to_claims(cluster: Cluster, played: None, closed: str) -> None:
    stage = Stage(cluster, closed)
    lab = stage.lab()
    message = told(stage, lab)
    assert message.startswith(
        f"datalabd may not list secrets in namespace {closed}; where it should, say: kubectl create"
    )
    do_as_told(stage, message)
    stage.until_ready(lab)
    stage.delete(lab)


@pytest.mark.denied("list secrets", "create secrets")  # the latter, while the watch of the lab before is still open
def test_a_claim_in_a_closed_namespace_says_why_it_does_not_go(cluster: Cluster, played: None, closed: str) -> None:
    stage = Stage(cluster, closed)
    open_to_claims(cluster, closed)
    lab = stage.lab()
    stage.until_ready(lab)
    stage.delete(lab)
    other = unique()
    cluster.kubectl("delete", "rolebinding", rights.CLAIMS, "-n", closed)
    stage.lab(name=other)
    told(stage, other)
    cluster.kubectl("delete", "datalab", other, "-n", closed, "--wait=false")
    stage.gone("datalab", other, closed)  # nothing was made, so nothing is left to be taken down


@pytest.mark.denied("create networkpolicies", "list secrets")  # the latter, where the lab's watch ends meanwhile
def test_a_lab_of_before_is_admitted_by_a_command(stage: Stage) -> None:
    """As one is whose environment somebody else made, or for another account."""
    lab = stage.lab("main")
    stage.until_ready(lab)
    stage.cluster.kubectl("delete", "rolebinding", rights.LAB, "-n", lab)
    stage.patch(lab, {"op": "add", "path": "/spec/sessions/-", "value": {"name": "more", "state": "stopped"}})
    message = told(stage, lab)
    assert f"may not create networkpolicies in namespace {lab};" in message
    do_as_told(stage, message)
    # Rights are not watched: whoever gave them can touch the claim, or wait for a minute.
    stage.annotate(lab, "team.example.org/looked-at", "true")
    stage.until_ready(lab)
    assert stage.get("pvc", f"{lab}-more-persistent", lab)
    stage.delete(lab)


def test_storage_secrets_elsewhere_are_only_read(cluster: Cluster, stage: Stage, closed: str) -> None:
    open_to_claims(cluster, closed, rights.STORAGE)
    shared = Stage(
        cluster,
        stage.namespace,
    )
    environment = stage.get("environmentconfig", shared.environment, "")
    assert environment is not None
    environment["data"]["storage"]["secretNamespace"] = closed
    environment["metadata"] = {"name": shared.environment}
    shared.create(environment)
    lab = unique()
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": lab,
            "namespace": closed,
            "annotations": {"datalabs.pkg.internal/claim": f"{stage.namespace}/{lab}"},
        },
        "stringData": {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "not-a-secret"},
    }
    shared.create(secret)
    shared.lab(name=lab, storage=False)
    shared.until_ready(lab)
    can = cluster.kubectl("auth", "can-i", "create", "secrets", "-n", closed, "--as", ACCOUNT, check=False)
    assert can.stdout.strip() == "no"
    shared.delete(lab)


@pytest.mark.parametrize(
    ("verb", "what"),
    [
        ("list", "secrets"),
        ("create", "networkpolicies"),
        ("create", "persistentvolumeclaims"),
        ("create", "rolebindings"),
        ("create", "roles"),
        ("delete", "pods"),
        ("patch", "ingresses"),
    ],
)
def test_a_confined_process_may_not(cluster: Cluster, closed: str, verb: str, what: str) -> None:
    done = cluster.kubectl("auth", "can-i", verb, what, "-n", closed, "--as", ACCOUNT, check=False)
    assert done.stdout.strip() == "no"


def change(stage: Stage, **data: Any) -> None:
    """Change the environment."""
    stage.cluster.api.patch("environmentconfig", stage.environment, {"data": data})


def opened(stage: Stage, namespace: str) -> str:
    """The namespace that pods of this one may reach beside the lab's own; empty for none."""
    policy = stage.get("networkpolicy", "allow-internal-egress", namespace)
    if policy is None:
        return ""
    (peer,) = policy["spec"]["egress"][0]["to"]
    return str(peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"])


def test_everything_is_made_kept_taken_up_changed_and_let_go(stage: Stage) -> None:
    """Each kind in each way there is: a rule that none of this needs is none that anything needs."""
    gateway = {"parentName": "sql", "parentNamespace": "gateways", "sectionName": "postgres"}
    change(stage, database={"gateway": gateway})
    lab = stage.lab("main", **EVERYTHING)
    stage.until(lab, "StoresReady", "True", seconds=120)
    stage.until(lab, "SessionsReady", "True", seconds=60)
    for minio in ("minio", "store", ""):
        network = {"internalEgress": [{"namespace": minio}] if minio else None}
        change(stage, network=network)
        for namespace in (lab, f"{lab}-main"):
            eventually(lambda namespace=namespace, minio=minio: opened(stage, namespace) == minio, 60)  # type: ignore[misc]
    stage.delete(lab)
    assert stage.get("workshopenvironment", lab, "")

    stage.lab("main", name=lab, **EVERYTHING)
    stage.until(lab, "StoresReady", "True", seconds=120)
    adopted = stage.get("role", "mongodb-kubernetes-appdb", lab)
    assert adopted is not None
    assert "datalabs.pkg.internal/retained" not in adopted["metadata"]["labels"]

    session = eventually(lambda: stage.get("workshopsession", f"{lab}-main", ""), 60)
    stage.annotate(lab, ROTATE, f"login/{lab}/one")

    def has_another_login() -> bool:
        live = stage.get("workshopsession", f"{lab}-main", "")
        return live is not None and live["spec"]["session"]["password"] != session["spec"]["session"]["password"]

    eventually(has_another_login)
    change(stage, retention="Delete")
    stage.patch(lab, *({"op": "remove", "path": f"/spec/{part}"} for part in EVERYTHING))
    kinds = (
        "postgresclusters,mongodbcommunity,redis,qdrantclusters,tlsroutes,configmaps,serviceaccounts,roles,rolebindings"
    )

    def left() -> list[str]:
        found = stage.list(kinds, f"datalabs.pkg.internal/name={lab}", lab)
        return [obj["metadata"]["name"] for obj in found if is_planned(obj)]

    eventually(lambda: left() == [], 60)
    stage.delete(lab)
    stage.gone("namespace", lab, "")
