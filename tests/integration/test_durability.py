"""What survives what, by really deleting it: claims, namespaces, environments, stores, and what a purge lets go."""

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from datalabd.api.meta import ABANDON, APPLIED, CLAIM_UID, RETAINED, UNPROTECTED, Manifest
from datalabd.kube.client import Client
from datalabd.status import stalled_step
from hack.cluster import Cluster
from hack.deadlines import scaled
from hack.postgresql import Servers, missing
from hack.standins import MongoDBOperator, PostgresOperator, QdrantOperator, RedisOperator
from tests.integration.daemon import IMPATIENT, ROOT, Daemon, eventually
from tests.integration.objects import claim, dry_run, let_go, open_namespace, read
from tests.integration.stage import Stage, standins
from tests.integration.test_databases import psql

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

SIZE = {"storage": "1Gi"}
CACHE = {"cacheStores": {"cache": SIZE}}
STORES: dict[str, Any] = CACHE | {
    "databases": {"pg0": {"names": ["dev"], "storage": "1Gi", "backupStorage": "1Gi"}},
    "documentStores": {"docs": SIZE},
    "vectorStores": {"vectors": SIZE},
}
PAIRS = {"documentStores": {"docs": SIZE, "notes": SIZE}, "vectorStores": {"vectors": SIZE, "images": SIZE}}
STORE_OBJECTS = {
    ("PostgresCluster", "pg0"),
    ("MongoDBCommunity", "mongodb-docs"),
    ("Redis", "cache"),
    ("QdrantCluster", "vectors"),
}
STORE_SECRETS = {
    ("Secret", name) for name in ("docs-mongodb-auth", "cache-redis-auth", "cache-redis-acl", "vectors-qdrant-auth")
}
STORE_KINDS = ("postgresclusters", "mongodbcommunity", "redis", "qdrantclusters")
INSIDE = ",".join((*STORE_KINDS, "pvc,secrets,configmaps,serviceaccounts,roles,rolebindings,networkpolicies"))
RUNTIME = "workshops,workshopenvironments,workshopsessions"
PGO = "postgres-operator.crunchydata.com"
DELETED_WITHIN_SECONDS = 60.0
"""From asking for the deletion of a claim to its end, where nothing stands in the way."""
ADMINISTRATOR = ("--as=carol", "--as-group=system:masters")
SESSION_MANAGER = ("--as=system:serviceaccount:educates:session-manager", "--as-group=system:masters")

Key = tuple[str, str]
"""Kind and name."""
away = threading.Event()
"""While set the operator of vector stores is not there."""


class UnsteadyOperator(QdrantOperator):
    """An operator that is away at times."""

    def __init__(self, client: Client) -> None:
        super().__init__(client, resync_seconds=2.0)

    async def sync(self, live: Manifest) -> None:
        if not away.is_set():
            await super().sync(live)


@pytest.fixture(scope="module")
def playing(cluster: Cluster, datalabd: Daemon) -> Iterator[None]:
    """All operators; behind PostgreSQL's are real servers where they are installed."""
    with contextlib.ExitStack() as stack:
        servers = None if missing() else stack.enter_context(Servers())

        def postgres(client: Client) -> PostgresOperator:
            return PostgresOperator(client, servers)

        stores = (postgres, MongoDBOperator, RedisOperator, UnsteadyOperator)
        stack.enter_context(standins(cluster, installed=False, stores=stores))
        yield


class Lab:
    """A lab, and what there is of it."""

    def __init__(self, stage: Stage, *sessions: str, **spec: Any) -> None:
        self.stage = stage
        self.sessions = sessions
        self.spec = spec
        self.name = self.stage.lab(*sessions, **spec)

    def make_again(self) -> None:
        """Create the same claim anew."""
        self.stage.lab(*self.sessions, name=self.name, **self.spec)

    def until_ready(self) -> None:
        """Return when it is Ready."""
        self.stage.until_ready(self.name, 120)

    def delete(self) -> None:
        """Return when its claim is gone, which takes no longer than it should."""
        began = time.monotonic()
        self.stage.delete(self.name)
        assert time.monotonic() - began < DELETED_WITHIN_SECONDS

    @property
    def uid(self) -> str:
        """uid of its claim."""
        return uid(self.stage.get("datalab", self.name))

    @property
    def claim(self) -> Manifest:
        """The claim, which must be there."""
        return read(self.stage.cluster, "datalab", self.name, self.stage.namespace)

    @property
    def home(self) -> Key:
        """The home directory of session `main`."""
        return "PersistentVolumeClaim", f"{self.name}-main-persistent"

    @property
    def waits(self) -> str:
        """What its status says."""
        return str(self.stage.condition(self.name, "Ready").get("message"))

    @property
    def known(self) -> dict[str, str]:
        """What its sessions are told."""
        return self.stage.values(f"{self.name}-datalab")

    @property
    def inside(self) -> dict[Key, Manifest]:
        """What datalabd made in its namespace."""
        return self._planned(INSIDE, self.name)

    @property
    def runtime(self) -> dict[Key, Manifest]:
        """What datalabd made outside of namespaces."""
        return self._planned(RUNTIME)

    @property
    def retained(self) -> set[Key]:
        """What of that is marked as retained."""
        return {key for key, obj in (self.inside | self.runtime).items() if RETAINED in obj["metadata"]["labels"]}

    def _planned(self, kinds: str, namespace: str = "") -> dict[Key, Manifest]:
        found = self.stage.list(kinds, f"datalabs.pkg.internal/name={self.name}", namespace)
        return {
            (obj["kind"], obj["metadata"]["name"]): obj
            for obj in found
            if APPLIED in (obj["metadata"].get("annotations") or {})
        }

    @property
    def volumes(self) -> set[str]:
        """The PersistentVolumes behind the claims of its namespace, those of operators included."""
        return {claim["spec"]["volumeName"] for claim in self.stage.list("pvc", "", self.name)}

    @property
    def deletions(self) -> list[str]:
        """What datalabd had deleted in its namespace, as `<plural>/<name>` in order."""
        return [
            "/".join(entry["requestURI"].partition("?")[0].split("/")[-2:])
            for entry in self.stage.requests(f"/namespaces/{self.name}/")
            if (entry["verb"], entry["userAgent"], entry["responseStatus"]["code"]) == ("delete", "datalabd", 200)
        ]

    def purge(self) -> str:
        """The output of a purge that is agreed to and succeeds."""
        lab = f"{self.stage.namespace}/{self.name}"
        command = [sys.executable, "-m", "datalabd", "purge", lab, "--yes"]
        config = ["--kubeconfig", str(self.stage.cluster.kubeconfig)]
        done = subprocess.run([*command, *config], cwd=ROOT, capture_output=True, text=True, timeout=scaled(240))
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def until_nothing_is_left(self, volumes: Iterable[str] = ()) -> None:
        """Return when its namespaces are gone, these volumes, and whatever says of itself that it is the lab's."""
        for namespace in (self.name, *(f"{self.name}-{session}" for session in self.sessions)):
            self.stage.gone("namespace", namespace)
        for volume in volumes:
            self.stage.gone("pv", volume)
        eventually(lambda: not self.stage.list(f"{RUNTIME},{INSIDE}", f"datalabs.pkg.internal/name={self.name}"), 30)


def uid(obj: Manifest | None) -> str:
    """The uid of an object that must be there."""
    assert obj is not None
    return str(obj["metadata"]["uid"])


def uids(objects: dict[Key, Manifest]) -> dict[Key, str]:
    """Their uids."""
    return {key: uid(obj) for key, obj in objects.items()}


@pytest.fixture(scope="module")
def labs(cluster: Cluster, playing: None) -> Iterator[dict[str, Lab]]:
    """One lab for each purpose below, on their way side by side."""
    namespace, leaving = open_namespace(cluster, "team"), open_namespace(cluster, "team")
    keeping = Stage(cluster, namespace)
    deleting = Stage(cluster, namespace, retention="Delete")
    yield {
        "adopted": Lab(keeping, "main", **STORES),
        "not kept": Lab(deleting, "main", **STORES),
        "purged": Lab(keeping, **STORES),
        "abandoned": Lab(deleting, vectorStores={"vectors": SIZE}),
        "unserved": Lab(keeping, vectorStores={"vectors": SIZE}),
        "switched": Lab(Stage(cluster, namespace), "main", "old", cacheStores={"cache": SIZE, "other": SIZE}),
        "leaving": Lab(Stage(cluster, leaving), "main", **CACHE),
        "without environment": Lab(keeping, "main", **CACHE),
        "without namespace": Lab(keeping, "main", **CACHE),
        "keeping one of two": Lab(keeping, "main", **PAIRS),
        "deleting one of two": Lab(deleting, "main", **PAIRS),
    }
    let_go(cluster, namespace)


@pytest.fixture
def operator() -> Iterator[threading.Event]:
    """Set by a test for as long as the operator of vector stores is to be away."""
    yield away
    away.clear()


def test_what_a_claim_leaves_is_taken_up_again(labs: dict[str, Lab]) -> None:
    lab = labs["adopted"]
    stage, name, real = lab.stage, lab.name, missing() is None
    lab.until_ready()
    known, first = lab.known, lab.uid
    url = known["POSTGRES_PG0_DEV_URL"]
    if real:
        assert psql(url, "CREATE TABLE notes (line text); INSERT INTO notes VALUES ('saved')") == ""
    before = lab.inside
    assert {lab.home, *STORE_OBJECTS, *STORE_SECRETS} <= before.keys()

    lab.delete()
    for kind, gone in (("workshopsession", f"{name}-main"), ("namespace", f"{name}-main")):
        assert stage.get(kind, gone, "") is None
    for namespace in (stage.namespace, name):
        assert stage.get("secret", f"{name}-datalab", namespace) is None
    stage.gone("secret", f"{name}-login", stage.namespace)
    kept = lab.inside
    assert uids(kept) == uids(before)
    assert lab.retained == {*kept, ("WorkshopEnvironment", name), ("Workshop", name)}
    assert kept["PostgresCluster", "pg0"]["spec"]["shutdown"] is True
    assert kept["QdrantCluster", "vectors"]["spec"]["replicas"] == 0
    for label in (f"{PGO}/cluster=pg0,{PGO}/instance-set", "app=qdrant-vectors"):
        eventually(lambda label=label: not stage.list("pods", label, name), 30)  # type: ignore[misc]
    if real:
        eventually(lambda: psql(url).startswith("refused"), 30)
    assert "belongs to another lab" in dry_run(stage.cluster, claim("default", stage.environment, name=name)).stderr

    lab.make_again()
    lab.until_ready()
    assert lab.uid != first
    assert lab.known == known
    if real:
        assert psql(url, "SELECT line FROM notes") == "saved"
    adopted = lab.inside
    assert uids(adopted) == uids(before)
    assert {obj["metadata"]["labels"][CLAIM_UID] for obj in (adopted | lab.runtime).values()} == {lab.uid}
    assert lab.retained == set()


def test_a_lab_that_is_not_kept_goes_wholly_and_in_order(labs: dict[str, Lab], operator: threading.Event) -> None:
    lab = labs["not kept"]
    lab.until_ready()
    volumes = lab.volumes
    operator.set()
    lab.stage.delete(lab.name, wait=False)
    eventually(lambda: lab.waits == f"deleting storage: waits for QdrantCluster {lab.name}/vectors", 60)
    eventually(lambda: lab.inside.keys() & STORE_OBJECTS == {("QdrantCluster", "vectors")}, 60)
    assert {lab.home, *STORE_SECRETS} <= lab.inside.keys()
    assert ("WorkshopEnvironment", lab.name) in lab.runtime
    operator.clear()
    lab.stage.gone("datalab", lab.name, lab.stage.namespace)
    lab.until_nothing_is_left(volumes)
    asked = [path.partition("/")[0] for path in lab.deletions]
    stores = [index for index, kind in enumerate(asked) if kind in STORE_KINDS]
    rest = [index for index, kind in enumerate(asked) if kind in ("secrets", "persistentvolumeclaims")]
    assert len(stores) == len(STORE_KINDS)
    assert max(stores) < min(rest)


def test_a_store_whose_operator_never_comes_back_can_be_abandoned(
    labs: dict[str, Lab], operator: threading.Event, datalabd: Daemon
) -> None:
    lab = labs["abandoned"]
    lab.until_ready()
    operator.set()
    lab.stage.delete(lab.name, wait=False)
    eventually(lambda: lab.waits.startswith("deleting storage"), 30)
    datalabd.restart(before=IMPATIENT)
    try:
        eventually(lambda: stalled_step(lab.claim) == "storage", 30)
        lab.stage.annotate(lab.name, ABANDON, "storage")
        eventually(lambda: stalled_step(lab.claim) == "runtime", 30)
        lab.stage.annotate(lab.name, ABANDON, "storage, runtime")
        lab.stage.gone("datalab", lab.name, lab.stage.namespace)
    finally:
        datalabd.restart()
    assert lab.runtime == {}
    operator.clear()
    lab.until_nothing_is_left()


def test_a_store_of_a_kind_that_is_not_served_for_a_moment_is_not_forgotten(labs: dict[str, Lab]) -> None:
    lab = labs["unserved"]
    lab.until_ready()

    def serve(served: bool) -> None:
        patch = [{"op": "replace", "path": "/spec/versions/0/served", "value": served}]
        where = ["crd", "qdrantclusters.qdrant.io", "--type=json", "-p", json.dumps(patch)]
        lab.stage.cluster.kubectl("patch", *where)

    serve(False)
    try:
        lab.stage.until(lab.name, "StoresReady", "False")
        lab.stage.delete(lab.name, wait=False)
        waits = "deleting runtime: waits for the API server to serve qdrantclusters.qdrant.io"
        eventually(lambda: lab.waits == waits, 30)
        assert "deletionTimestamp" not in lab.runtime["WorkshopEnvironment", lab.name]["metadata"]
    finally:
        serve(True)
    lab.stage.gone("datalab", lab.name, lab.stage.namespace)
    assert {("QdrantCluster", "vectors"), ("Secret", "vectors-qdrant-auth")} <= lab.retained


def test_what_was_kept_once_stays_whatever_the_environment_says_later(labs: dict[str, Lab]) -> None:
    lab = labs["switched"]
    stage = lab.stage
    lab.until_ready()
    removed = ("/spec/cacheStores/other", "/spec/sessions/1")
    stage.patch(lab.name, *({"op": "remove", "path": path} for path in removed))
    kept = {("Redis", "other"), ("PersistentVolumeClaim", f"{lab.name}-old-persistent")}
    kept |= {("Secret", f"other-redis-{part}") for part in ("auth", "acl")}
    eventually(lambda: lab.retained == kept, 30)
    stage.edit_environment({"retention": "Delete"})
    # A value that comes from the environment: once it is there, so is the rest of what was changed.
    eventually(lambda: not lab.inside["Redis", "cache"]["spec"]["storage"].get("keepAfterDelete"), 30)
    assert lab.retained == kept
    declared = {lab.home, ("Redis", "cache"), ("Secret", "cache-redis-auth"), ("Secret", "cache-redis-acl")}
    assert declared <= lab.inside.keys()
    lab.delete()
    assert not declared & lab.inside.keys()
    assert kept | {("WorkshopEnvironment", lab.name), ("Workshop", lab.name)} <= lab.retained


def test_a_purge_takes_every_kind_of_store_along(labs: dict[str, Lab]) -> None:
    lab = labs["purged"]
    lab.until_ready()
    volumes = lab.volumes
    lab.delete()
    output = lab.purge()
    for kind, name in STORE_OBJECTS | STORE_SECRETS:
        assert f"deleted {kind} {lab.name}/{name}" in output
    lab.until_nothing_is_left(volumes)


def test_the_end_of_the_claims_namespace_keeps_the_lab(labs: dict[str, Lab]) -> None:
    lab = labs["leaving"]
    stage = lab.stage
    lab.until_ready()
    stage.cluster.api.delete("namespace", stage.namespace)
    stage.gone("namespace", stage.namespace)
    assert {lab.home, ("Redis", "cache"), ("Secret", "cache-redis-auth")} <= lab.retained
    assert stage.get("workshopsession", f"{lab.name}-main", "") is None
    assert stage.get("secret", f"{lab.name}-datalab", lab.name) is None


def test_a_lab_whose_environment_or_namespace_went_is_made_anew(labs: dict[str, Lab]) -> None:
    pair = [labs["without environment"], labs["without namespace"]]
    kubectl = pair[0].stage.cluster.kubectl
    homes = []
    for lab in pair:
        lab.until_ready()
        homes.append(lab.inside[lab.home])
        for kind in ("workshopenvironment", "namespace"):
            refused = kubectl("delete", kind, lab.name, "--wait=false", *ADMINISTRATOR, check=False).stderr
            assert f"use datalabd purge {lab.stage.namespace}/{lab.name}" in refused
    kubectl("delete", "workshopenvironment", pair[0].name, "--wait=false", *SESSION_MANAGER)
    kubectl("annotate", "namespace", pair[1].name, f"{UNPROTECTED}=true", *ADMINISTRATOR)
    kubectl("delete", "namespace", pair[1].name, "--wait=false", *ADMINISTRATOR)
    for lab, home in zip(pair, homes, strict=True):

        def made_anew(lab: Lab = lab, home: Manifest = home) -> bool:
            return uid(lab.inside.get(lab.home, home)) != uid(home)

        eventually(made_anew, 90)
        lab.until_ready()
        assert lab.known["REDIS_CACHE_PASSWORD"] == lab.stage.values("cache-redis-auth", lab.name)["password"]
        volume = lab.stage.get("pv", home["spec"]["volumeName"], "")
        assert volume is not None
        assert volume["status"]["phase"] == "Released"


@pytest.mark.parametrize("which", ["keeping one of two", "deleting one of two"])
def test_a_store_that_is_taken_out_takes_nothing_else_along(labs: dict[str, Lab], which: str) -> None:
    lab = labs[which]
    lab.until_ready()
    before, known = lab.inside, lab.known
    session = uid(lab.runtime["WorkshopSession", f"{lab.name}-main"])
    gone = {("MongoDBCommunity", "mongodb-notes"), ("QdrantCluster", "images")}
    gone |= {("Secret", "notes-mongodb-auth"), ("Secret", "images-qdrant-auth")}
    removed = ("/spec/documentStores/notes", "/spec/vectorStores/images")
    lab.stage.patch(lab.name, *({"op": "remove", "path": path} for path in removed))
    lost = {key for key in known if "_NOTES_" in key or "_IMAGES_" in key}
    assert {key.partition("_")[0] for key in lost} == {"MONGO", "QDRANT"}
    eventually(lambda: lab.known == {key: value for key, value in known.items() if key not in lost}, 30)
    if which.startswith("keeping"):
        eventually(lambda: lab.retained == gone, 30)
        assert uids(lab.inside) == uids(before)
    else:
        eventually(lambda: not lab.inside.keys() & gone, 60)
        asked = lab.deletions
        for store in ("mongodbcommunity/mongodb-notes", "qdrantclusters/images"):
            for secret in ("secrets/notes-mongodb-auth", "secrets/images-qdrant-auth"):
                assert asked.index(store) < asked.index(secret)
        left = lab.inside
        assert {key for key in before if key not in left and key[0] != "NetworkPolicy"} == gone
        assert uids(left).items() <= uids(before).items()
    lab.stage.until(lab.name, "SessionsReady", "True", "RestartNeeded")
    assert uid(lab.runtime["WorkshopSession", f"{lab.name}-main"]) == session
