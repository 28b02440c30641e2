"""What people see who create, change and delete claims with kubectl while datalabd runs."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from datalabd.api.meta import PROTECT, V1BETA1, V1BETA2, Manifest
from hack.cluster import Cluster
from hack.deadlines import scaled
from tests.integration.daemon import Daemon, eventually
from tests.integration.objects import Answer, claim, dry_run, environment, open_namespace, read, replace, unique

pytestmark = pytest.mark.cluster

PLATFORM = {
    "iam": {
        "realm": "lab",
        "url": "https://login.admission.example.org",
        "adminSecret": {"namespace": "iam-system", "name": "a"},
    },
    "storage": {"secretNamespace": "object-storage"},
    "storageClasses": {"allowed": ["fast", "slow"]},
    "network": {"blacklistIPs": ["198.51.100.0/24"]},
    "allowed": {"budgets": ["small", "medium"], "kubernetesRoles": ["view", "edit"], "vcluster": False},
}
ENVIRONMENT = "admission"
WIDE = "admission-wide"
"""Without limits: what is wrong by itself is told, and not that this environment forbids it."""
CLOSED = "admission-closed"


@pytest.fixture(scope="module", autouse=True)
def environments(cluster: Cluster, datalabd: Daemon) -> Iterator[None]:
    manifests = [
        environment(ENVIRONMENT, **PLATFORM),
        environment(WIDE),
        environment(CLOSED, allowed={"namespaces": ["elsewhere"]}),
    ]
    for manifest in manifests:
        cluster.api.create(manifest)
    eventually(lambda: datalabd.metrics().get(STORED, 0) == len(cluster.api.list("environmentconfigs.pkg.internal")))
    yield
    datalabd.clear()  # it would not let environments go that claims still use
    cluster.kubectl("delete", "dlenv", ENVIRONMENT, WIDE, CLOSED)


STORED = 'datalabd_store_objects{resource="environmentconfigs.pkg.internal"}'
CLAIMS = 'datalabd_store_objects{resource="datalabs.pkg.internal"}'


def known(cluster: Cluster, datalabd: Daemon, manifest: Manifest) -> Manifest:
    """The claim, created and arrived in the daemon's cache: the finalizer is the first thing it writes."""
    cluster.api.create(manifest)
    metadata = manifest["metadata"]

    def taken_up() -> Manifest | None:
        live = read(cluster, "datalab", metadata["name"], metadata["namespace"])
        return live if live["metadata"].get("finalizers") else None

    found = eventually(taken_up)
    assert found is not None
    return found


def refused(answer: Answer, *said: str) -> None:
    """The request was refused for a reason that a person can act upon."""
    assert answer.returncode != 0, answer.stdout
    for text in said:
        assert text in answer.stderr
    assert "Internal error" not in answer.stderr
    assert "failed calling webhook" not in answer.stderr


def database(*names: str, **more: Any) -> Manifest:
    return {"names": list(names), "storage": "1Gi", "backupStorage": "1Gi"} | more


STORE = {"storage": "1Gi"}
GIT = {"url": "https://example.org/a", "ref": "main"}


# --- bad claims -------------------------------------------------------------------------------------------------------

BOTH: list[tuple[str, dict[str, Any], str]] = [
    # What the schema says
    ("empty user", {"users": [""]}, "spec.users[0]"),
    ("user in white space", {"users": ["a\tb", "\u00a0"]}, "spec.users[1]"),
    ("users that are no list", {"users": "joe"}, "spec.users"),
    ("more users than a lab has", {"users": [f"u{n}" for n in range(501)]}, "spec.users"),
    ("unknown role", {"userOverrides": {"joe": {"role": "owner"}}}, "spec.userOverrides.joe.role"),
    ("day that is none", {"userOverrides": {"joe": {"grantedAt": "yesterday"}}}, "spec.userOverrides.joe.grantedAt"),
    ("flag as a string", {"vcluster": "yes"}, "spec.vcluster"),
    ("memory that is no quantity", {"quota": {"memory": "much"}}, "spec.quota.memory"),
    ("no memory", {"quota": {"memory": "0"}}, "spec.quota.memory"),
    ("negative storage", {"quota": {"storage": "-1Gi"}}, "spec.quota.storage"),
    ("number for a quantity", {"quota": {"memory": 2}}, "spec.quota.memory"),
    ("unknown budget", {"quota": {"budget": "huge"}}, "spec.quota.budget"),
    ("unknown policy", {"security": {"policy": "open"}}, "spec.security.policy"),
    ("unknown Kubernetes role", {"security": {"kubernetesRole": "cluster-admin"}}, "spec.security.kubernetesRole"),
    ("database server without names", {"databases": {"pg0": database()}}, "spec.databases.pg0.names"),
    ("database server without a size", {"databases": {"pg0": {"names": ["a"]}}}, "spec.databases.pg0.storage"),
    ("database twice", {"databases": {"pg0": database("a", "a")}}, "spec.databases[pg0].names[1]"),
    ("document store without a size", {"documentStores": {"x": {}}}, "spec.documentStores.x.storage"),
    ("cache store of no size", {"cacheStores": {"x": {"storage": "0Gi"}}}, "spec.cacheStores[x].storage"),
    ("vector store that is none", {"vectorStores": {"x": 5}}, "spec.vectorStores.x"),
    ("file from nowhere", {"files": [{"path": "a"}]}, "spec.files[0]"),
    ("file from two places", {"files": [{"git": GIT, "http": {"url": "https://example.org"}}]}, "spec.files[0]"),
    ("git without a ref", {"files": [{"git": {"url": "https://a.org/b"}}]}, "spec.files[0].git.ref"),
    (
        "digest too short",
        {"files": [{"http": {"url": "https://a.org/b", "sha256": "abc"}}]},
        "spec.files[0].http.sha256",
    ),
    ("file by another protocol", {"files": [{"http": {"url": "ftp://a.org/b"}}]}, "spec.files[0].http.url"),
    ("secret name too long", {"secretName": "x" * 254}, "spec.secretName"),
    (
        "storage class that is no name",
        {"persistence": {"storageClassName": "Fast!"}},
        "spec.persistence.storageClassName",
    ),
    ("spec that is a list", {"data": []}, "spec.data"),
    # What only we say
    ("user twice", {"users": ["joe", "Joe"]}, "spec.users[1]"),
    ("user whom nobody sees as he is written", {"users": ["joe\u202e"]}, "spec.users[0]"),
    ("user who rules the terminal", {"users": ["joe\x1b[2Jx"]}, 'spec.users[0]: Invalid value: "joe\\x1b[2Jx"'),
    ("user in 256 characters", {"users": ["é" * 256]}, "spec.users[0]"),
    ("override of a stranger", {"userOverrides": {"bob": {"role": "admin"}}}, "spec.userOverrides[bob]"),
    ("template database", {"databases": {"pg0": database("template1")}}, "spec.databases[pg0].names[0]"),
    ("server in capitals", {"databases": {"PG": database("a")}}, "spec.databases[PG]"),
    ("store in capitals", {"documentStores": {"X": STORE}}, "spec.documentStores[X]"),
    ("store that begins with a digit", {"cacheStores": {"1": STORE}}, "spec.cacheStores[1]"),
    ("variables of two servers", {"databases": {"a": database("b-c"), "a-b": database("c")}}, "spec.databases[a-b]"),
    ("variables of two stores", {"vectorStores": {"x": STORE, "x-grpc": STORE}}, "spec.vectorStores[x-grpc]"),
    (
        "services of two stores",
        {"cacheStores": {"qdrant-x": STORE}, "vectorStores": {"x": STORE}},
        "spec.vectorStores[x]",
    ),
    ("secret that is no name", {"secretName": "My Secret"}, "spec.secretName"),
    ("git over an unknown protocol", {"files": [{"git": GIT | {"url": "ext::sh -c id"}}]}, "spec.files[0].git.url"),
    ("file from the node", {"files": [{"http": {"url": "http://127.0.0.1/"}}]}, "spec.files[0].http.url"),
    ("file from the cloud", {"files": [{"git": GIT | {"url": "http://169.254.169.254/a"}}]}, "spec.files[0].git.url"),
    ("password in an address", {"files": [{"git": GIT | {"url": "https://a:b@c.org/"}}]}, "spec.files[0].git.url"),
    (
        "file from the node, once a variable is filled in",
        {"files": [{"http": {"url": "http://127.0.0$(training_portal).1/"}}]},
        "spec.files[0].http.url",
    ),
    (
        "file outside its root, once a variable is filled in",
        {"files": [{"git": GIT, "path": ".$(training_portal)./.$(training_portal)./etc"}]},
        "spec.files[0].path",
    ),
    ("file outside its root", {"files": [{"git": GIT, "path": "../../etc"}]}, "spec.files[0].path"),
    (
        "another namespace's Secret",
        {"files": [{"git": GIT | {"secretRef": {"name": "a", "namespace": "kube-system"}}}]},
        "spec.files[0].git.secretRef.namespace",
    ),
]
BY_VERSION: list[tuple[str, str, dict[str, Any], str]] = [
    ("session in capitals", V1BETA2, {"sessions": [{"name": "A"}]}, "spec.sessions[0].name"),
    ("session without a name", V1BETA2, {"sessions": [{"state": "started"}]}, "spec.sessions[0].name"),
    ("session that is a string", V1BETA2, {"sessions": ["a"]}, "spec.sessions[0]"),
    ("session twice", V1BETA2, {"sessions": [{"name": "a"}, {"name": "a"}]}, "spec.sessions[1]"),
    ("older word for a state", V1BETA2, {"sessions": [{"name": "a", "state": "running"}]}, "spec.sessions[0].state"),
    ("session too long", V1BETA2, {"sessions": [{"name": "a" * 50}]}, "spec.sessions[0].name"),
    ("too many sessions", V1BETA2, {"sessions": [{"name": f"s{n}"} for n in range(21)]}, "spec.sessions"),
    ("hosts of two", V1BETA2, {"sessions": [{"name": "x"}, {"name": "x-data"}]}, "spec.sessions[1].name"),
    ("string in capitals", V1BETA1, {"sessions": ["A"]}, "spec.sessions[0]:"),
    ("empty string", V1BETA1, {"sessions": ["a", ""]}, "spec.sessions[1]:"),
    ("number", V1BETA1, {"sessions": [3]}, "spec.sessions[0]:"),
    ("null", V1BETA1, {"sessions": [None]}, "spec.sessions[0]"),
    ("list", V1BETA1, {"sessions": [["a"]]}, "spec.sessions[0]:"),
    ("string twice", V1BETA1, {"sessions": ["a", "a"]}, "spec.sessions[1]:"),
    ("string and object", V1BETA1, {"sessions": ["a", {"name": "a"}]}, "spec.sessions[1].name"),
    ("object without a name", V1BETA1, {"sessions": [{"state": "paused"}]}, "spec.sessions[0].name"),
    ("unknown state", V1BETA1, {"sessions": [{"name": "a", "state": "asleep"}]}, "spec.sessions[0].state"),
    ("string too long", V1BETA1, {"sessions": ["a" * 50]}, "spec.sessions[0]:"),
    ("hosts of two strings", V1BETA1, {"sessions": ["x", "x-editor"]}, "spec.sessions[1]:"),
    (
        "class that is no name",
        V1BETA1,
        {"databases": {"pg0": database("a", storageClassName="Fast!")}},
        "spec.databases.pg0.storageClassName",
    ),
]


@pytest.mark.parametrize(
    ("version", "spec", "field"),
    [
        *(
            pytest.param(version, spec, field, id=f"{version.rpartition('/')[2]}, {what}")
            for what, spec, field in BOTH
            for version in (V1BETA1, V1BETA2)
        ),
        *(
            pytest.param(version, spec, field, id=f"{version.rpartition('/')[2]}, {what}")
            for what, version, spec, field in BY_VERSION
        ),
    ],
)
def test_bad_claim_is_refused(cluster: Cluster, version: str, spec: dict[str, Any], field: str) -> None:
    refused(dry_run(cluster, claim("default", WIDE, version, **spec)), field)


@pytest.mark.parametrize("version", [V1BETA1, V1BETA2])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("kube-public", "reserved name", id="a namespace of Kubernetes"),
        *(
            pytest.param(name, "reserved name", id=f"Keycloak's client {name}")
            for name in ("account", "account-console", "admin-cli", "broker", "realm-management")
        ),
        pytest.param("security-admin-console", "reserved name", id="Keycloak's console"),
        pytest.param("educates", "reserved name", id="a namespace of Educates"),
        pytest.param("1st", "beginning with a letter", id="no name of a Service"),
        pytest.param("a.b", "metadata.name", id="a dot"),
        pytest.param("x" * 64, "metadata.name", id="too long"),
        pytest.param("object-storage", "a namespace of the platform", id="where the storage Secrets are"),
        pytest.param("iam-system", "a namespace of the platform", id="where Keycloak's Secret is"),
        pytest.param("login", "a host of the platform", id="Keycloak's own host"),
        pytest.param("auth", "a host of the platform", id="the login page's host"),
        pytest.param("default", "metadata.name", id="the claim's own namespace"),
    ],
)
def test_bad_name_is_refused(cluster: Cluster, version: str, name: str, said: str) -> None:
    refused(dry_run(cluster, claim("default", ENVIRONMENT, version, name=name)), "metadata.name", said)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        pytest.param({"persistence": {"storageClassName": "huge"}}, "spec.persistence.storageClassName", id="class"),
        pytest.param({"security": {"policy": "privileged"}}, "spec.security.policy", id="policy"),
        pytest.param({"security": {"kubernetesRole": "admin"}}, "spec.security.kubernetesRole", id="role"),
        pytest.param({"quota": {"budget": "x-large"}}, "spec.quota.budget", id="budget"),
        pytest.param({"vcluster": True}, "spec.vcluster", id="virtual cluster"),
        pytest.param(
            {"files": [{"http": {"url": "https://198.51.100.7/a"}}]}, "spec.files[0].http.url", id="blocked address"
        ),
    ],
)
def test_what_the_environment_does_not_allow(cluster: Cluster, spec: dict[str, Any], field: str) -> None:
    refused(dry_run(cluster, claim("default", ENVIRONMENT, **spec)), field)


def test_environment_that_is_not_open_to_the_namespace(cluster: Cluster) -> None:
    refused(dry_run(cluster, claim("default", CLOSED)), "metadata.namespace", "is not open to namespace default")


@pytest.mark.parametrize("version", [V1BETA1, V1BETA2])
def test_no_spec(cluster: Cluster, version: str) -> None:
    refused(
        dry_run(cluster, {key: value for key, value in claim("default", WIDE, version).items() if key != "spec"}),
        "spec",
    )


# --- how it is told ---------------------------------------------------------------------------------------------------


def test_all_mistakes_of_the_schema_at_once(cluster: Cluster) -> None:
    spec: dict[str, Any] = {"quota": {"memory": "much", "budget": "huge"}, "users": [""], "sessions": [{"name": "A"}]}
    answer = dry_run(cluster, claim("default", WIDE, **spec))
    refused(answer, "spec.quota.memory", "spec.quota.budget", "spec.users[0]", "spec.sessions[0].name")


def test_all_our_mistakes_at_once(cluster: Cluster) -> None:
    spec: dict[str, Any] = {
        "users": ["joe", "joe"],
        "userOverrides": {"bob": {}},
        "secretName": "My Secret",
        "files": [{"http": {"url": "http://localhost/"}}],
    }
    answer = dry_run(cluster, claim("default", WIDE, name="kube-public", **spec))
    refused(
        answer, "metadata.name", "spec.users[1]", "spec.userOverrides[bob]", "spec.secretName", "spec.files[0].http.url"
    )


def test_refusal_reads_like_the_api_servers_own(cluster: Cluster) -> None:
    manifest = claim("default", WIDE, users=["joe", "joe"])
    answer = dry_run(cluster, manifest)
    refused(answer)
    said = f'The Datalab "{manifest["metadata"]["name"]}" is invalid: spec.users[1]: Duplicate value: "joe"\n'
    assert answer.stderr == said


@pytest.mark.parametrize("version", [V1BETA1, V1BETA2])
@pytest.mark.parametrize(
    ("spec", "field"),
    [
        pytest.param({"colour": "blue"}, "spec.colour", id="at the top"),
        pytest.param({"quota": {"disk": "1Gi"}}, "spec.quota.disk", id="inside"),
        pytest.param({"cacheStores": {"x": STORE | {"replicas": 3}}}, "spec.cacheStores.x.replicas", id="in a map"),
    ],
)
def test_unknown_field_is_refused(cluster: Cluster, version: str, spec: dict[str, Any], field: str) -> None:
    answer = dry_run(cluster, claim("default", WIDE, version, **spec))
    refused(answer, f'unknown field "{field}"')


def test_classes_of_database_servers_are_unknown_to_v1beta2(cluster: Cluster) -> None:
    spec: dict[str, Any] = {"databases": {"pg0": database("a", storageClassName="fast")}}
    refused(dry_run(cluster, claim("default", WIDE, **spec)), 'unknown field "spec.databases.pg0.storageClassName"')


def test_warnings_are_shown(cluster: Cluster) -> None:
    new = claim("default", WIDE, users=["Joe"], files=[{"http": {"url": "http://a.org/b"}}])
    new["metadata"]["annotations"]["datalabs.pkg.internal/protct"] = "true"
    answer = dry_run(cluster, new)
    assert answer.returncode == 0
    made, *told = [line for line in answer.stderr.splitlines() if line.startswith("Warning: ")]
    assert made.startswith("Warning: creates ")
    assert told.pop(0).endswith("/protct has no effect; did you mean datalabs.pkg.internal/protect?")
    assert [line.partition(":")[2].split(":")[0].strip() for line in told] == [
        "spec.users[0]",
        "spec.files[0].http.url",
    ]


def test_legal_users_however_odd(cluster: Cluster) -> None:
    users = ["jane+lab@example.org", "日本語", "é" * 255, 'a": b\\', "{{a}} $(a) ${a}", "'; DROP ROLE postgres --"]
    answer = dry_run(cluster, claim("default", WIDE, users=users, databases={"pg0": database("a")}))
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["spec"]["users"] == users


def test_a_missing_environment_is_a_warning(cluster: Cluster) -> None:
    answer = dry_run(cluster, claim("default", "nowhere"))
    assert answer.returncode == 0
    assert "Warning: the environment this claim chooses does not exist" in answer.stderr


# --- good claims ------------------------------------------------------------------------------------------------------


def test_defaults_are_written(cluster: Cluster) -> None:
    answer = dry_run(
        cluster, claim("default", WIDE, name="defaults", sessions=[{"name": "a"}], registry={"enabled": True})
    )
    assert answer.returncode == 0, answer.stderr
    spec = json.loads(answer.stdout)["spec"]
    assert spec == {
        "users": ["joe"],
        "userOverrides": {},
        "sessions": [{"name": "a", "state": "started"}],
        "databases": {},
        "documentStores": {},
        "cacheStores": {},
        "vectorStores": {},
        "vcluster": False,
        "data": {"enabled": True, "readOnlyMount": False},
        "registry": {"enabled": True, "storage": "5Gi"},
        "persistence": {},
        "files": [],
        "secretName": "defaults",
    }


def test_blanks_are_tidied(cluster: Cluster) -> None:
    answer = dry_run(cluster, claim("default", WIDE, V1BETA1, name="tidy", secretName=" ", sessions=[" a "]))
    assert answer.returncode == 0, answer.stderr
    spec = json.loads(answer.stdout)["spec"]
    assert (spec["secretName"], spec["sessions"]) == ("tidy", ["a"])


def test_v1beta1_keeps_the_spelling_of_its_sessions(cluster: Cluster) -> None:
    sessions = ["a", {"name": "b", "state": "paused"}, {"name": "c", "state": "Running"}]
    answer = dry_run(cluster, claim("default", WIDE, V1BETA1, sessions=sessions))
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["spec"]["sessions"] == sessions


def test_a_generated_name_is_accepted(cluster: Cluster) -> None:
    manifest = claim("default", WIDE)
    manifest["metadata"] = {key: value for key, value in manifest["metadata"].items() if key != "name"}
    manifest["metadata"]["generateName"] = "course-"
    answer = dry_run(cluster, manifest)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["metadata"]["name"].startswith("course-")


def test_a_dry_run_has_no_effect(cluster: Cluster, datalabd: Daemon, namespace: str) -> None:
    manifest = claim(namespace, WIDE)
    assert dry_run(cluster, manifest).returncode == 0
    assert cluster.kubectl("get", "dl", "-n", namespace, "-o", "name").stdout == ""
    # It knows of no claim that the API server does not hold; those of other tests may be on their way out.
    eventually(lambda: datalabd.metrics()[CLAIMS] == len(cluster.api.list("datalabs")))
    # The name is still free.
    assert dry_run(cluster, manifest).returncode == 0


# --- names that are taken ---------------------------------------------------------------------------------------------


def test_name_of_a_foreign_namespace(cluster: Cluster, datalabd: Daemon, namespace: str) -> None:
    foreign = unique("foreign")
    cluster.api.create_namespace(foreign)

    def refusal() -> Answer | None:
        answer = dry_run(cluster, claim(namespace, WIDE, name=foreign))
        return answer if answer.returncode else None

    refused(eventually(refusal), "metadata.name", "a namespace of that name exists and is not a lab's")
    cluster.api.delete("namespace", foreign)


def test_name_of_another_claim(cluster: Cluster, datalabd: Daemon, namespace: str) -> None:
    first = known(cluster, datalabd, claim(namespace, WIDE))
    second = claim("default", WIDE, name=first["metadata"]["name"])
    refused(dry_run(cluster, second), "metadata.name", "belongs to another lab")


def test_a_lab_of_the_same_namespace_is_named(cluster: Cluster, datalabd: Daemon, namespace: str) -> None:
    first = known(cluster, datalabd, claim(namespace, WIDE))["metadata"]["name"]
    said = f'the group "{first}-admin" belongs to lab {first}'
    refused(dry_run(cluster, claim(namespace, WIDE, name=f"{first}-admin")), "metadata.name", said)


def test_session_whose_namespace_is_somebody_elses(cluster: Cluster, datalabd: Daemon, namespace: str) -> None:
    lab = known(cluster, datalabd, claim(namespace, WIDE))
    for session, taken in (("a", "a"), ("b", "b-vc")):
        foreign = f"{lab['metadata']['name']}-{taken}"
        cluster.kubectl("create", "namespace", foreign)
        added = lab | {"spec": lab["spec"] | {"sessions": [{"name": session}]}}

        def refusal(added: Manifest = added) -> Answer | None:
            answer = replace(cluster, added, "--dry-run=server")
            return answer if answer.returncode else None

        refused(eventually(refusal), "spec.sessions[0].name", f'"{foreign}": a namespace of that name exists')
        cluster.kubectl("delete", "namespace", foreign, "--wait=false")


def test_namespace_that_another_claims_session_has(cluster: Cluster, datalabd: Daemon, namespace: str) -> None:
    first = known(cluster, datalabd, claim(namespace, WIDE, sessions=[{"name": "a"}]))
    second = claim("default", WIDE, name=f"{first['metadata']['name']}-a")
    refused(dry_run(cluster, second), "metadata.name", "belongs to another lab")


def test_session_whose_namespace_another_claim_has(cluster: Cluster, datalabd: Daemon, namespace: str) -> None:
    first = known(cluster, datalabd, claim(namespace, WIDE))
    outer, _, inner = first["metadata"]["name"].rpartition("-")
    second = claim("default", WIDE, V1BETA1, name=outer, sessions=[inner])
    refused(dry_run(cluster, second), "spec.sessions[0]:", "belongs to another lab")


# --- updates ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "field"),
    [
        pytest.param({"quota": {"storage": "2Gi"}}, {"quota": {"storage": "1Gi"}}, "spec.quota.storage", id="home"),
        pytest.param(
            {"databases": {"pg0": database("a", storage="2Gi")}},
            {"databases": {"pg0": database("a")}},
            "spec.databases[pg0].storage",
            id="database",
        ),
        pytest.param(
            {"vectorStores": {"x": {"storage": "2Gi"}}},
            {"vectorStores": {"x": {"storage": "1.5Gi"}}},
            "spec.vectorStores[x].storage",
            id="store",
        ),
    ],
)
def test_what_volumes_cannot_follow(
    cluster: Cluster,
    datalabd: Daemon,
    namespace: str,
    before: dict[str, Any],
    after: dict[str, Any],
    field: str,
) -> None:
    live = known(cluster, datalabd, claim(namespace, WIDE, sessions=[{"name": "a"}], **before))
    changed = live | {"spec": live["spec"] | after}
    refused(replace(cluster, changed, "--dry-run=server"), field, "Forbidden")


def test_a_volume_may_grow(cluster: Cluster, datalabd: Daemon, namespace: str) -> None:
    live = known(cluster, datalabd, claim(namespace, WIDE, sessions=[{"name": "a"}], quota={"storage": "1Gi"}))
    grown = live | {"spec": live["spec"] | {"quota": {"storage": "2Gi"}}}
    assert replace(cluster, grown, "--dry-run=server").returncode == 0


def test_removal_is_warned_of(cluster: Cluster, datalabd: Daemon, namespace: str) -> None:
    live = known(cluster, datalabd, claim(namespace, WIDE, sessions=[{"name": "a"}]))
    answer = replace(cluster, live | {"spec": live["spec"] | {"sessions": []}}, "--dry-run=server")
    assert answer.returncode == 0
    assert "Warning: spec.sessions: the files of session a are kept" in answer.stderr


def test_an_update_in_the_other_version_is_judged_too(cluster: Cluster, datalabd: Daemon, namespace: str) -> None:
    live = known(cluster, datalabd, claim(namespace, WIDE, sessions=[{"name": "a"}], quota={"storage": "2Gi"}))
    old = read(cluster, "datalabs.v1beta1.pkg.internal", live["metadata"]["name"], namespace)
    shrunk = old | {"spec": old["spec"] | {"quota": {"storage": "1Gi"}}}
    refused(replace(cluster, shrunk, "--dry-run=server"), "spec.quota.storage")


# --- claims that were stored while nobody checked ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def invalid(cluster: Cluster, datalabd: Daemon) -> Manifest:
    """A claim that would be refused today, in a namespace of its own; datalabd has been started after it."""
    datalabd.stop()
    namespace = open_namespace(cluster, "invalid")
    manifest = claim(
        namespace, WIDE, users=["joe", "joe"], secretName="My Secret", sessions=[{"name": "x"}, {"name": "x-data"}]
    )
    cluster.api.create(manifest)
    datalabd.start()
    metadata: Manifest = manifest["metadata"]
    return metadata


def test_status_of_an_invalid_claim_can_be_written(cluster: Cluster, invalid: Manifest) -> None:
    patch = json.dumps({"status": {"started": "0/2"}})
    answer = cluster.kubectl(
        "patch",
        "dl",
        invalid["name"],
        "-n",
        invalid["namespace"],
        "--subresource=status",
        "--type=merge",
        "-p",
        patch,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr


def test_an_invalid_claim_can_be_labelled(cluster: Cluster, invalid: Manifest) -> None:
    answer = cluster.kubectl("label", "dl", invalid["name"], "-n", invalid["namespace"], "a=b", check=False)
    assert answer.returncode == 0, answer.stderr


def test_an_invalid_claim_cannot_become_worse(cluster: Cluster, invalid: Manifest) -> None:
    live = read(cluster, "datalab", invalid["name"], invalid["namespace"])
    worse = live | {"spec": live["spec"] | {"userOverrides": {"bob": {}}}}
    answer = replace(cluster, worse, "--dry-run=server")
    refused(answer, "spec.userOverrides[bob]")
    assert "spec.users[1]" not in answer.stderr


def test_an_invalid_claim_can_be_deleted_and_loses_its_finalizer(
    cluster: Cluster, datalabd: Daemon, namespace: str
) -> None:
    datalabd.stop()
    manifest = claim(namespace, WIDE, users=["joe", "joe"])
    manifest["metadata"]["finalizers"] = ["example.org/hold"]
    cluster.api.create(manifest)
    datalabd.start()
    name = manifest["metadata"]["name"]
    cluster.api.delete("dl", name, namespace)
    assert read(cluster, "datalab", name, namespace)["metadata"]["deletionTimestamp"]
    patch = json.dumps([{"op": "replace", "path": "/metadata/finalizers", "value": []}])
    answer = cluster.kubectl("patch", "dl", name, "-n", namespace, "--type=json", "-p", patch, check=False)
    assert answer.returncode == 0, answer.stderr
    eventually(lambda: cluster.api.get("datalab", name, namespace) is None)


def test_deletion_of_a_valid_claim(cluster: Cluster, datalabd: Daemon, namespace: str) -> None:
    live = known(cluster, datalabd, claim(namespace, WIDE, sessions=[{"name": "a"}]))
    answer = cluster.kubectl(
        "delete", "dl", live["metadata"]["name"], "-n", namespace, f"--timeout={scaled(30):.0f}s", check=False
    )
    assert answer.returncode == 0, answer.stderr


# --- nobody there -----------------------------------------------------------------------------------------------------


def test_a_killed_daemon_lets_no_claim_through(cluster: Cluster, datalabd: Daemon) -> None:
    datalabd.kill()
    try:
        answer = dry_run(cluster, claim("default", WIDE))
        assert answer.returncode != 0
        assert "failed calling webhook" in answer.stderr
    finally:
        datalabd.start()


def test_a_start_after_a_kill_mends_the_registration(cluster: Cluster, datalabd: Daemon) -> None:
    datalabd.kill()
    datalabd.start()
    answer = dry_run(cluster, claim("default", WIDE))
    assert answer.returncode == 0, answer.stderr


def test_a_stopped_daemon_stands_in_nobodys_way(cluster: Cluster, datalabd: Daemon) -> None:
    assert datalabd.stop() == 0
    try:
        answer = dry_run(cluster, claim("default", WIDE))
        assert answer.returncode == 0, answer.stderr
    finally:
        datalabd.start()


@pytest.mark.denied("list secrets")  # the environment names namespaces that datalabd was not let into
class TestProtection:
    def protected(self, cluster: Cluster, namespace: str) -> str:
        lab = claim(namespace, ENVIRONMENT)
        lab["metadata"]["annotations"] |= {PROTECT: "true"}
        cluster.api.create(lab)
        return str(lab["metadata"]["name"])

    def test_a_protected_claim_cannot_be_deleted_until_it_is_not(
        self, cluster: Cluster, datalabd: Daemon, namespace: str
    ) -> None:
        name = self.protected(cluster, namespace)
        place = ["-n", namespace, "--wait=false"]

        def refused() -> str:
            return cluster.kubectl("delete", "datalab", name, *place, "--dry-run=server", check=False).stderr

        assert f"remove its annotation {PROTECT} first" in eventually(refused)
        cluster.kubectl("annotate", "datalab", name, "-n", namespace, f"{PROTECT}-")
        cluster.kubectl("delete", "datalab", name, *place)

    def test_it_goes_with_its_namespace(self, cluster: Cluster, datalabd: Daemon, namespace: str) -> None:
        own = open_namespace(cluster)
        self.protected(cluster, own)
        cluster.api.delete("namespace", own)
        eventually(lambda: cluster.api.get("namespace", own) is None, 60)
