"""What operators report, as it is read."""

import base64
from typing import Any

import pytest

from datalabd import stores
from datalabd.api.meta import (
    CLAIM_NAMESPACE,
    CLAIM_UID,
    RETAINED,
    ROTATED,
    ROTATING,
    SINCE,
    USERS_REVISION,
    Manifest,
)
from datalabd.lab import Lab
from datalabd.stores import (
    ACTIVE_ROLE,
    KINDS,
    OPERATORS,
    RESTORED,
    ROUTE,
    YOUNG_SECONDS,
    DatabaseFacts,
    DatabaseLogin,
    Job,
    Role,
    Size,
    StoreFacts,
    Turn,
    decoded,
    inputs,
    turn,
)
from tests.factories import LABELS, NOW, environment, lab, secret

ALL = frozenset(OPERATORS)
STORE = {"storage": "1Gi"}
DATABASE = {"names": ["dev"], "storage": "1Gi", "backupStorage": "3Gi"}
GATEWAY = {"parentName": "default", "parentNamespace": "gateways", "sectionName": "postgres"}
HERE = lab(databases={"pg0": DATABASE})
EXPOSED = lab(environment(database={"gateway": GATEWAY}), databases={"pg0": DATABASE})
ROLES = lab(environment(database={"superuser": False}), databases={"pg0": DATABASE})
DOCUMENTS = lab(documentStores={"a": STORE})
CACHES = lab(cacheStores={"a": STORE})
VECTORS = lab(vectorStores={"a": STORE})
MADE = "2026-02-01T00:00:00Z"


def test_every_kind_has_somebody_who_brings_it() -> None:
    assert set(OPERATORS) == {*KINDS, ROUTE}


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


def claim(storage: str, storage_class: str | None = None) -> Manifest:
    """Spec of a volume claim."""
    spec: Manifest = {"resources": {"requests": {"storage": storage}}}
    return spec | ({"storageClassName": storage_class} if storage_class else {})


READY: Manifest = {
    "observedGeneration": 2,
    "instances": [{"name": "primary", "readyReplicas": 1}],
    "pgbackrest": {"repoHost": {"ready": True}},
}


def cluster(status: Manifest | None = None, /, **annotations: str) -> Manifest:
    """A live PostgresCluster, made ten minutes ago."""
    return {
        "kind": "PostgresCluster",
        "metadata": {
            "name": "pg0",
            "generation": 2,
            "creationTimestamp": "2026-03-01T11:50:00Z",
            "annotations": annotations,
        },
        "spec": {
            "instances": [{"name": "primary", "dataVolumeClaimSpec": claim("1Gi", "fast")}],
            "backups": {"pgbackrest": {"repos": [{"name": "repo1", "volume": {"volumeClaimSpec": claim("3Gi")}}]}},
        },
        "status": READY if status is None else status,
    }


LOGIN = {"host": "pg0-primary.lab.svc", "port": "5433", "password": "pg-secret", "verifier": "SCRAM"}


def login(role: str = "postgres", annotations: dict[str, str] | None = None, **values: str) -> Manifest:
    """A live Secret of PGO's with the login of a role."""
    uri = f"postgresql://{role}:pg-secret@pg0-primary.lab.svc:5433/dev"
    made = secret(f"pg0-pguser-{role}", "lab", None, **LOGIN | {"user": role, "uri": uri} | values)
    made["metadata"] |= {
        "uid": f"{role}-uid",
        "resourceVersion": "5",
        "creationTimestamp": MADE,
        "annotations": annotations or {},
    }
    return made


def route(*parents: Manifest) -> Manifest:
    """A live TLSRoute of which gateways say this."""
    return {"kind": "TLSRoute", "metadata": {"name": "pg0"}, "status": {"parents": list(parents)}}


def parent(accepted: str | None = "True", resolved: str | None = "True", **said: str) -> Manifest:
    """What one gateway says of a route."""
    conditions = [
        {"type": kind, "status": status} | ({} if status == "True" else said)
        for kind, status in (("Accepted", accepted), ("ResolvedRefs", resolved))
        if status is not None
    ]
    return {"conditions": conditions}


def facts(of: Lab, *live: Manifest, served: frozenset[str] = ALL) -> DatabaseFacts:
    """What is seen of server `pg0`."""
    inside = {(obj["kind"], obj["metadata"]["name"]): obj for obj in live}
    return stores.databases(of, inside, served, NOW)["pg0"]


def role(name: str, uri: str, **changes: Any) -> Role:
    """A login as it is read."""
    known = DatabaseLogin("pg0-primary.lab.svc", "5433", name, "pg-secret", uri)
    defaults: dict[str, Any] = {
        "turn": Turn(since=MADE),
        "settled": True,
        "told_after": "",
        "uid": f"{name}-uid",
        "version": "5",
    }
    return Role(name, known, **defaults | changes)


def test_a_database_server_that_can_be_used() -> None:
    uri = "postgresql://postgres:pg-secret@pg0-primary.lab.svc:5433/dev"
    assert facts(HERE, cluster(), login()) == DatabaseFacts(
        roles={"postgres": role("postgres", uri)},
        active="postgres",
        data=Size("1Gi", "fast"),
        backup=Size("3Gi", None),
        age_seconds=600.0,
        has_backups=True,
    )


def test_a_database_server_that_does_not_exist_yet() -> None:
    assert facts(HERE, login()) == DatabaseFacts("it is not created yet")


def test_a_database_server_that_nobody_brings() -> None:
    assert facts(HERE, cluster(), login(), served=frozenset()) == DatabaseFacts(
        "the cluster does not know PostgresCluster; install PGO 6 (postgres-operator.crunchydata.com/v1)", stalled=True
    )


def test_a_bare_database_server() -> None:
    """Somebody wrote it without what we plan; nothing is made up for what is missing."""
    bare = {"kind": "PostgresCluster", "metadata": {"name": "pg0", "creationTimestamp": "2026-03-01T12:00:05Z"}}
    assert facts(HERE, bare) == DatabaseFacts(
        "its operator has not taken it up yet; is PGO running?", data=None, backup=None, age_seconds=0.0
    )


FALSE = {"type": "PGBackRestReady", "status": "False"}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param({}, "its operator has not taken it up yet; is PGO running?", id="no status"),
        pytest.param(
            READY | {"observedGeneration": 1}, "its operator has not taken the last change up yet", id="older status"
        ),
        pytest.param(
            {"conditions": []}, "its operator has not taken the last change up yet", id="status of no generation"
        ),
        pytest.param(READY | {"instances": None}, "its server is not ready yet", id="no instances"),
        pytest.param(
            READY | {"instances": [{"name": "other", "readyReplicas": 1}]}, "its server is not ready yet", id="another"
        ),
        pytest.param(READY | {"instances": [{"name": "primary"}]}, "its server is not ready yet", id="not ready"),
        pytest.param(
            READY
            | {
                "instances": [],
                "conditions": [
                    {"type": "A", "status": "True", "message": "fine"},
                    FALSE,
                    FALSE | {"message": "no volume"},
                ],
            },
            "no volume",
            id="not ready, in the operator's words",
        ),
        pytest.param(READY | {"pgbackrest": {}}, "its backups are not ready yet", id="no repository"),
        pytest.param(
            READY | {"pgbackrest": {"repoHost": {"ready": False}}, "conditions": [FALSE | {"message": "no room"}]},
            "no room",
            id="no repository, in the operator's words",
        ),
    ],
)
def test_a_database_server_that_is_not_ready(status: Manifest, expected: str) -> None:
    found = facts(HERE, cluster(status), login())
    assert (found.problem, found.stalled) == (expected, False)


def test_a_database_server_that_was_kept_without_running() -> None:
    kept = cluster()
    kept["spec"]["shutdown"] = True
    assert facts(HERE, kept, login()).problem == "it was kept without running, and is being started"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(None, None, id="absent"),
        pytest.param(login(password=""), None, id="without password"),
        pytest.param(login(host=""), None, id="without host"),
        pytest.param(login(user=""), None, id="without user"),
        pytest.param(
            login(port="", uri=""),
            DatabaseLogin("pg0-primary.lab.svc", "5432", "postgres", "pg-secret", ""),
            id="of a user without databases",
        ),
    ],
)
def test_login_of_a_database_server(found: Manifest | None, expected: DatabaseLogin | None) -> None:
    live = [found] if found else []
    assert facts(HERE, cluster(), *live).login == expected


def test_a_database_server_without_its_login_is_not_ready() -> None:
    assert facts(HERE, cluster()).problem == "Secret pg0-pguser-postgres with its login does not exist yet"


def test_an_address_with_the_password_before_is_not_used() -> None:
    """PGO has been given a new password and has not taken it up: its address still has the one before."""
    (found,) = facts(HERE, cluster(), login(verifier="")).roles.values()
    assert (found.settled, found.login.password, found.login.uri) == (False, "pg-secret", "")


@pytest.mark.parametrize(
    ("annotations", "status", "verifier", "expected"),
    [
        pytest.param({USERS_REVISION: "r0"}, {"usersRevision": "r1"}, "SCRAM", True, id="the server was told"),
        pytest.param({USERS_REVISION: ""}, {"usersRevision": "r1"}, "SCRAM", True, id="it was told for the first time"),
        pytest.param({USERS_REVISION: "r0"}, {"usersRevision": "r0"}, "SCRAM", False, id="the SQL has not run yet"),
        pytest.param({USERS_REVISION: "r0"}, {"usersRevision": "r1"}, "", False, id="other SQL has run"),
        pytest.param({USERS_REVISION: ""}, {}, "SCRAM", False, id="no SQL has ever run"),
        pytest.param({}, {"usersRevision": "r0"}, "SCRAM", True, id="the password is the operator's own"),
    ],
)
def test_a_new_password_is_known_once_the_operator_has_told_the_server(
    annotations: dict[str, str], status: Manifest, verifier: str, expected: bool
) -> None:
    (found,) = facts(HERE, cluster(READY | status), login(annotations=annotations, verifier=verifier)).roles.values()
    assert (found.settled, bool(found.login.uri)) == (expected, bool(verifier))


ADDRESS = "postgresql://postgres:pg-secret@pg0-primary.lab.svc:5433/dev"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param(ADDRESS, ADDRESS, id="as PGO says it"),
        pytest.param(
            "postgresql://u:p@[fd00::1]:5432/dev", "postgresql://u:p@[fd00::1]:5432/dev", id="an IPv6 address"
        ),
        pytest.param("postgresql://u:p@host/dev", "postgresql://u:p@host/dev", id="without a port"),
        pytest.param("postgresql://u:p@[fd00::1/dev", "", id="half an IPv6 address"),
        pytest.param("postgresql://u:p@host:port/dev", "", id="a port that is no number"),
        pytest.param("postgresql://u:p@host:99999/dev", "", id="a port that there is not"),
        pytest.param("postgresql:///dev", "", id="no host"),
        pytest.param("https://u:p@host:5432/dev", "", id="of something else"),
        pytest.param(ADDRESS + "\n", "", id="a line"),
    ],
)
def test_only_an_address_of_a_database_is_handed_on(said: str, expected: str) -> None:
    """Otherwise one is made of host, port, user and password."""
    found = facts(HERE, cluster(), login(uri=said)).login
    assert found is not None
    assert found.uri == expected


@pytest.mark.parametrize(
    "odd", [{"host": "a b"}, {"host": "[::1"}, {"host": "x" * 300}, {"port": "many"}, {"port": "70000"}], ids=str
)
def test_a_login_at_no_address_is_none(odd: Any) -> None:
    assert facts(HERE, cluster(), login(**odd)).roles == {}


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        pytest.param("1181116006400m", Size("1181116006400m", None), id="milli-bytes"),
        pytest.param(2147483648, Size("2147483648", None), id="a number"),
        pytest.param("large", None, id="no size"),
    ],
)
def test_size_of_a_store(size: Any, expected: Size | None) -> None:
    spec = {"resources": {"requests": {"storage": size}}}
    live = {"kind": "Redis", "metadata": {"name": "a"}, "spec": {"storage": {"volumeClaimTemplate": {"spec": spec}}}}
    assert stores.cache_stores(CACHES, {("Redis", "a"): live}, ALL)["a"].data == expected


def test_what_the_server_was_told_of_its_users_last() -> None:
    assert facts(HERE, cluster(READY | {"usersRevision": "r1"})).users_revision == "r1"


def test_how_far_the_rotation_of_a_login_is() -> None:
    said = {ROTATED: "2", ROTATING: "3", SINCE: "2026-02-02T00:00:00Z"}
    (found,) = facts(HERE, cluster(), login(annotations=said)).roles.values()
    assert found.turn == Turn("2", "3", "2026-02-02T00:00:00Z")


@pytest.mark.parametrize(
    ("of", "annotations", "expected"),
    [
        pytest.param(HERE, {}, "postgres", id="the superuser"),
        pytest.param(HERE, {ACTIVE_ROLE: "datalab-b"}, "postgres", id="the superuser, since the environment says so"),
        pytest.param(ROLES, {}, "datalab-a", id="the first"),
        pytest.param(ROLES, {ACTIVE_ROLE: "datalab-b"}, "datalab-b", id="the one it has"),
        pytest.param(ROLES, {ACTIVE_ROLE: "somebody"}, "datalab-a", id="nobody's"),
    ],
)
def test_role_that_a_lab_has(of: Lab, annotations: dict[str, str], expected: str) -> None:
    live = [login(name) for name in ("postgres", "datalab-a", "datalab-b")]
    found = facts(of, cluster(**annotations), *live)
    assert found.active == expected
    assert found.login is not None
    assert found.login.user == expected


NOT_SERVED = "the cluster does not know TLSRoute; install the Gateway API, 1.5 or later (gateway.networking.k8s.io/v1)"
NO_GATEWAY = "no gateway has taken its route up; check database.gateway of the environment"


@pytest.mark.parametrize(
    ("found", "served", "expected"),
    [
        pytest.param(route(parent()), ALL, ("", False), id="accepted"),
        pytest.param(
            route(parent("False", reason="NotAllowed"), parent()), ALL, ("", False), id="accepted by one of two"
        ),
        pytest.param(None, ALL, ("its route from outside is not created yet", False), id="absent"),
        pytest.param(route(), ALL, (NO_GATEWAY, False), id="nobody's"),
        pytest.param({"kind": "TLSRoute", "metadata": {"name": "pg0"}}, ALL, (NO_GATEWAY, False), id="nothing said"),
        pytest.param(
            route(parent("False", message="no such listener", reason="NoMatchingParent")),
            ALL,
            ("its route from outside is not Accepted: no such listener", False),
            id="refused, in the gateway's words",
        ),
        pytest.param(
            route(parent("True", "False", reason="BackendNotFound")),
            ALL,
            ("its route from outside is not ResolvedRefs: BackendNotFound", False),
            id="without what it leads to, in a word",
        ),
        pytest.param(
            route(parent(None, None)), ALL, ("its route from outside is not Accepted", False), id="not judged yet"
        ),
        pytest.param(
            route({"conditions": None}), ALL, ("its route from outside is not Accepted", False), id="no conditions"
        ),
        pytest.param(route(parent()), ALL - {ROUTE}, (NOT_SERVED, True), id="nobody brings routes"),
    ],
)
def test_route(found: Manifest | None, served: frozenset[str], expected: tuple[str, bool]) -> None:
    live = [found] if found else []
    seen = facts(EXPOSED, cluster(), login(), *live, served=served)
    assert (seen.problem, seen.stalled) == expected


def test_a_route_is_not_looked_for_before_the_server_is_ready() -> None:
    assert facts(EXPOSED, cluster({}), login()).problem == "its operator has not taken it up yet; is PGO running?"


def test_no_route_where_no_gateway_is_named() -> None:
    assert facts(HERE, cluster(), login(), served=ALL - {ROUTE}).problem == ""


DONE = {"id": "2", "finished": True, "succeeded": 1}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param({}, Job(), id="none"),
        pytest.param({"id": ""}, Job(), id="none, said so"),
        pytest.param({"id": "2", "active": 1}, Job("2", "Running"), id="running"),
        pytest.param(DONE, Job("2", "Succeeded"), id="succeeded"),
        pytest.param({"id": "2", "finished": True, "failed": 2}, Job("2", "Failed"), id="failed"),
    ],
)
def test_jobs(said: Manifest, expected: Job) -> None:
    status = READY | {"pgbackrest": READY["pgbackrest"] | {"manualBackup": said, "restore": said}}
    found = facts(HERE, cluster(status), login())
    assert (found.backed_up, found.restoring) == (expected, expected)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param({"id": "2", "active": 1}, "restore 2 is under way", id="under way"),
        pytest.param(
            {"id": "2", "finished": True, "failed": 1},
            "restore 2 failed, and left it without data; ask for another with a new nonce",
            id="failed",
        ),
        pytest.param(DONE, "its server is not ready yet", id="over"),
    ],
)
def test_a_restore_explains_why_a_server_is_not_ready(said: Manifest, expected: str) -> None:
    status = READY | {"instances": [], "pgbackrest": READY["pgbackrest"] | {"restore": said}}
    assert facts(HERE, cluster(status), login()).problem == expected


@pytest.mark.parametrize(
    ("said", "annotations", "expected"),
    [
        pytest.param({}, {}, (), id="never"),
        pytest.param({}, {RESTORED: "1,2"}, ("1", "2"), id="remembered"),
        pytest.param(DONE, {RESTORED: "1"}, ("1", "2"), id="just now"),
        pytest.param(DONE, {RESTORED: "2,1"}, ("2", "1"), id="already noted"),
        pytest.param(DONE | {"succeeded": 0, "failed": 1}, {RESTORED: "1"}, ("1",), id="the last one failed"),
    ],
)
def test_restored(said: Manifest, annotations: dict[str, str], expected: tuple[str, ...]) -> None:
    status = READY | {"pgbackrest": READY["pgbackrest"] | {"restore": said}}
    assert facts(HERE, cluster(status, **annotations), login()).restored == expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(DatabaseFacts(), True, id="not there yet"),
        pytest.param(DatabaseFacts(age_seconds=YOUNG_SECONDS - 1), True, id="young"),
        pytest.param(DatabaseFacts(age_seconds=YOUNG_SECONDS), False, id="not young any more"),
        pytest.param(DatabaseFacts(stalled=True), False, id="it waits for a person"),
        pytest.param(DatabaseFacts(roles={"postgres": role("postgres", "")}), False, id="its login is there"),
    ],
)
def test_settling(found: DatabaseFacts, expected: bool) -> None:
    assert found.settling is expected


# --- stores -----------------------------------------------------------------------------------------------------------


def auth(name: str, labels: dict[str, str] | None = None, /, **values: str) -> Manifest:
    """A live auth Secret, of ours unless said otherwise."""
    made = secret(name, "lab", labels=LABELS if labels is None else labels, **values)
    made["metadata"]["creationTimestamp"] = MADE
    return made


def pods(name: str, ready: int = 1, **changes: Any) -> Manifest:
    """A live StatefulSet of one pod."""
    return {
        "kind": "StatefulSet",
        "metadata": {"name": name, "generation": 1},
        "spec": {"replicas": 1},
        "status": {
            "observedGeneration": 1,
            "replicas": ready,
            "readyReplicas": ready,
            "currentRevision": "1",
            "updateRevision": "1",
        },
    } | changes


def mongodb(**status: Any) -> Manifest:
    """A live MongoDBCommunity that runs, but for this."""
    ready = {"phase": "Running", "currentMongoDBMembers": 1, "currentStatefulSetReplicas": 1}
    return {
        "kind": "MongoDBCommunity",
        "metadata": {"name": "mongodb-a"},
        "spec": {"statefulSet": {"spec": {"volumeClaimTemplates": [{"spec": claim("1Gi", "fast")}]}}},
        "status": ready | status,
    }


REDIS: Manifest = {
    "kind": "Redis",
    "metadata": {"name": "a"},
    "spec": {"storage": {"volumeClaimTemplate": {"spec": claim("2Gi")}}},
}
QDRANT: Manifest = {
    "kind": "QdrantCluster",
    "metadata": {"name": "a"},
    "spec": {"persistence": {"size": "3Gi", "storageClassName": "fast"}, "image": {"repository": "a", "tag": "v1"}},
}
KEYS = {"apiKey": "write", "readApiKey": "read"}


def seen_of(of: Lab, *live: Manifest, served: frozenset[str] = ALL) -> StoreFacts:
    """What is seen of the one store of a lab."""
    inside = {(obj["kind"], obj["metadata"]["name"]): obj for obj in live}
    (found,) = [
        *stores.document_stores(of, inside, served).values(),
        *stores.cache_stores(of, inside, served).values(),
        *stores.vector_stores(of, inside, served).values(),
    ]
    return found


@pytest.mark.parametrize(
    ("of", "live", "expected"),
    [
        pytest.param(
            DOCUMENTS,
            [mongodb(), auth("a-mongodb-auth", password="p")],
            StoreFacts(
                auth={"password": "p"},
                auth_exists=True,
                auth_adopted=True,
                turn=Turn(since=MADE),
                volumes=({"spec": claim("1Gi", "fast")},),
            ),
            id="MongoDB",
        ),
        pytest.param(
            CACHES,
            [REDIS, pods("a"), auth("a-redis-auth", password="p", next="q")],
            StoreFacts(
                auth={"password": "p", "next": "q"},
                auth_exists=True,
                auth_adopted=True,
                turn=Turn(since=MADE),
                data=Size("2Gi", None),
            ),
            id="Redis",
        ),
        pytest.param(
            VECTORS,
            [QDRANT, pods("qdrant-a"), auth("a-qdrant-auth", **KEYS)],
            StoreFacts(
                auth=KEYS,
                auth_exists=True,
                auth_adopted=True,
                turn=Turn(since=MADE),
                data=Size("3Gi", "fast"),
                image=("a", "v1"),
                pods=1,
            ),
            id="Qdrant",
        ),
    ],
)
def test_a_store_that_can_be_used(of: Lab, live: list[Manifest], expected: StoreFacts) -> None:
    assert seen_of(of, *live) == expected


@pytest.mark.parametrize("of", [DOCUMENTS, CACHES, VECTORS], ids=["MongoDB", "Redis", "Qdrant"])
def test_a_store_that_does_not_exist_yet(of: Lab) -> None:
    assert seen_of(of) == StoreFacts("it is not created yet")


@pytest.mark.parametrize(
    ("of", "kind", "operator"),
    [
        pytest.param(
            DOCUMENTS, "MongoDBCommunity", "the MongoDB operator (mongodbcommunity.mongodb.com/v1)", id="MongoDB"
        ),
        pytest.param(CACHES, "Redis", "the Redis operator (redis.redis.opstreelabs.in/v1beta2)", id="Redis"),
        pytest.param(VECTORS, "QdrantCluster", "the Qdrant operator (qdrant.io/v1alpha1)", id="Qdrant"),
    ],
)
def test_a_store_that_nobody_brings(of: Lab, kind: str, operator: str) -> None:
    problem = f"the cluster does not know {kind}; install {operator}"
    assert seen_of(of, served=frozenset()) == StoreFacts(problem, stalled=True)


@pytest.mark.parametrize(
    ("live", "expected"),
    [
        pytest.param(
            mongodb(phase=None), "its operator has not taken it up yet; is the MongoDB operator running?", id="no phase"
        ),
        pytest.param(
            {"kind": "MongoDBCommunity", "metadata": {"name": "mongodb-a"}},
            "its operator has not taken it up yet; is the MongoDB operator running?",
            id="no status",
        ),
        pytest.param(mongodb(phase="Pending"), "phase Pending: without a message", id="on its way"),
        pytest.param(
            mongodb(phase="Failed", message="no password"), "phase Failed: no password", id="in the operator's words"
        ),
        pytest.param(mongodb(currentMongoDBMembers=0), "none of its members is running yet", id="no member"),
        pytest.param(mongodb(currentStatefulSetReplicas=0), "none of its members is running yet", id="no pod"),
    ],
)
def test_a_document_store_that_is_not_ready(live: Manifest, expected: str) -> None:
    assert seen_of(DOCUMENTS, live).problem == expected


@pytest.mark.parametrize(
    ("live", "expected"),
    [
        pytest.param(pods("a"), "", id="ready"),
        pytest.param(pods("a", spec={}), "", id="of one pod, as nothing is said"),
        pytest.param(pods("a", ready=0), "0 of 1 pods are ready", id="not ready"),
        pytest.param(pods("a", spec={"replicas": 3}), "1 of 3 pods are ready", id="one of several"),
        pytest.param(
            pods("a", metadata={"name": "a", "generation": 2}), "its pods are about to change", id="older status"
        ),
        pytest.param(pods("a", status={}), "its pods are about to change", id="no status"),
    ],
)
def test_pods_of_a_store(live: Manifest, expected: str) -> None:
    assert seen_of(CACHES, REDIS, live).problem == expected


@pytest.mark.parametrize(("of", "live"), [(CACHES, REDIS), (VECTORS, QDRANT)], ids=["Redis", "Qdrant"])
def test_a_store_without_pods(of: Lab, live: Manifest) -> None:
    assert seen_of(of, live).problem == "its operator has not taken it up yet; is that running?"


@pytest.mark.parametrize(
    ("of", "live"),
    [
        (DOCUMENTS, {"kind": "MongoDBCommunity", "metadata": {"name": "mongodb-a"}}),
        (DOCUMENTS, {"kind": "MongoDBCommunity", "metadata": {"name": "mongodb-a"}, "spec": {"statefulSet": 1}}),
        (CACHES, {"kind": "Redis", "metadata": {"name": "a"}, "spec": {}}),
        (VECTORS, {"kind": "QdrantCluster", "metadata": {"name": "a"}, "spec": {}}),
    ],
    ids=["MongoDB", "MongoDB, malformed", "Redis", "Qdrant"],
)
def test_a_store_without_a_size(of: Lab, live: Manifest) -> None:
    assert seen_of(of, live).data is None


@pytest.mark.parametrize(
    ("live", "expected"),
    [
        pytest.param([], None, id="it is not known"),
        pytest.param([pods("qdrant-a", ready=0)], None, id="it is not as it should be"),
        pytest.param([pods("qdrant-a", ready=0, spec={"replicas": 0})], 0, id="none"),
        pytest.param([pods("qdrant-a", ready=3, spec={"replicas": 3})], 3, id="several"),
        pytest.param(
            [pods("qdrant-a", spec={"replicas": 0}, status={"observedGeneration": 1, "replicas": 1})], 1, id="one to go"
        ),
    ],
)
def test_how_many_pods_a_vector_store_has(live: list[Manifest], expected: int | None) -> None:
    assert seen_of(VECTORS, QDRANT, *live).pods == expected


def test_a_vector_store_without_pods_is_not_ready() -> None:
    """It has none, as was wanted, while its keys are being replaced."""
    stopped = pods("qdrant-a", ready=0, spec={"replicas": 0})
    assert seen_of(VECTORS, QDRANT, stopped).problem == "it is stopped while its keys are replaced"


RETAINED_EARLIER = LABELS | {CLAIM_UID: "earlier", RETAINED: "true"}


@pytest.mark.parametrize(
    ("labels", "values", "expected"),
    [
        pytest.param(LABELS, KEYS, (KEYS, True, True), id="ours"),
        pytest.param(LABELS | {RETAINED: "true"}, KEYS, (KEYS, True, False), id="ours, retained"),
        pytest.param(RETAINED_EARLIER, KEYS, (KEYS, True, False), id="retained from an earlier claim"),
        pytest.param(LABELS | {CLAIM_UID: "earlier"}, KEYS, ({}, True, False), id="of an earlier claim"),
        pytest.param(
            RETAINED_EARLIER | {CLAIM_NAMESPACE: "others"}, KEYS, ({}, True, False), id="retained from one elsewhere"
        ),
        pytest.param({}, KEYS, ({}, True, False), id="somebody else's"),
        pytest.param(LABELS, {"apiKey": "write"}, ({}, True, True), id="a key is missing"),
        pytest.param(LABELS, KEYS | {"readApiKey": ""}, ({}, True, True), id="a key is empty"),
    ],
)
def test_what_a_store_is_opened_with(
    labels: dict[str, str], values: dict[str, str], expected: tuple[dict[str, str], bool, bool]
) -> None:
    """Only what this claim, or the one before it, made is believed."""
    found = seen_of(VECTORS, QDRANT, auth("a-qdrant-auth", labels, **values))
    assert (found.auth, found.auth_exists, found.auth_adopted) == expected


def restarted(*variables: Manifest, **status: Any) -> Manifest:
    """Pods that run with these variables."""
    live = pods("a", spec={"replicas": 1, "template": {"spec": {"containers": [{"env": list(variables)}]}}})
    return live | {"status": live["status"] | status}


ROTATION = {"name": "DATALABD_ROTATION", "value": "2"}


@pytest.mark.parametrize(
    ("live", "expected"),
    [
        pytest.param(restarted({"name": "OTHER", "value": "1"}, ROTATION), "2", id="all of them"),
        pytest.param(restarted(), "", id="never"),
        pytest.param(restarted({"name": "DATALABD_ROTATION"}), "", id="without a value"),
        pytest.param(pods("a", spec={"template": {"spec": {"containers": [{}]}}}), "", id="without variables"),
        pytest.param(pods("a"), "", id="without containers"),
        pytest.param(restarted(ROTATION, readyReplicas=0), "", id="not ready"),
        pytest.param(restarted(ROTATION, updateRevision="2"), "", id="an older pod lives"),
        pytest.param(restarted(ROTATION, observedGeneration=0), "", id="older status"),
    ],
)
def test_restarted_for(live: Manifest, expected: str) -> None:
    assert seen_of(CACHES, REDIS, live).restarted_for == expected


# --- what is read -----------------------------------------------------------------------------------------------------


def test_inputs() -> None:
    spec = {"documentStores": {"a": STORE}, "cacheStores": {"b": STORE}, "vectorStores": {"c": STORE}}
    here = lab(environment(database={"superuser": False}), databases={"pg0": DATABASE}, **spec)
    assert list(inputs(here)) == [
        ("PostgresCluster", "pg0"),
        ("TLSRoute", "pg0"),
        ("Secret", "pg0-pguser-datalab-a"),
        ("Secret", "pg0-pguser-datalab-b"),
        ("MongoDBCommunity", "mongodb-a"),
        ("Secret", "a-mongodb-auth"),
        ("Redis", "b"),
        ("StatefulSet", "b"),
        ("Secret", "b-redis-auth"),
        ("QdrantCluster", "c"),
        ("StatefulSet", "qdrant-c"),
        ("Secret", "c-qdrant-auth"),
    ]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param({"k": "YQ=="}, "a", id="text"),
        pytest.param({"k": ""}, "", id="empty"),
        pytest.param({}, None, id="absent"),
        pytest.param(None, None, id="no data"),
        pytest.param({"k": "YQ"}, None, id="no base64"),
        pytest.param({"k": "/w=="}, None, id="no UTF-8"),
    ],
)
def test_decoded(data: dict[str, str] | None, expected: str | None) -> None:
    assert decoded({"data": data}, "k") == expected


def test_nothing_is_decoded_of_no_secret() -> None:
    assert decoded(None, "k") is None


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        pytest.param({}, Turn(since=MADE), id="as old as the Secret"),
        pytest.param({ROTATED: "2", SINCE: "2026-02-02T00:00:00Z"}, Turn("2", "", "2026-02-02T00:00:00Z"), id="done"),
        pytest.param({ROTATING: "2"}, Turn("", "2", MADE), id="under way"),
    ],
)
def test_turn(annotations: dict[str, str], expected: Turn) -> None:
    assert turn({"metadata": {"creationTimestamp": MADE, "annotations": annotations}}) == expected


def test_turn_of_nothing() -> None:
    assert turn(None) == Turn()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param(Turn(), {}, id="nothing"),
        pytest.param(Turn(since=MADE), {}, id="the Secret's own age is not repeated"),
        pytest.param(Turn("2", "3", MADE), {ROTATED: "2", ROTATING: "3", SINCE: MADE}, id="everything"),
    ],
)
def test_annotations_of_a_turn(said: Turn, expected: dict[str, str]) -> None:
    assert said.annotations() == expected


@pytest.mark.parametrize("value", ["pg-secret", "store-password"])
def test_secrets_do_not_show(value: str) -> None:
    encoded = base64.b64encode(value.encode()).decode()
    shown = repr([facts(HERE, cluster(), login()), seen_of(CACHES, REDIS, auth("a-redis-auth", password=value))])
    assert value not in shown
    assert encoded not in shown
