"""What operators see who write environments, and what everybody is told that an edit will do."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from datalabd.api.meta import V1BETA1, V1BETA2, Manifest
from hack.cluster import Cluster
from hack.deadlines import scaled
from tests.integration.daemon import Daemon, eventually
from tests.integration.objects import Answer, claim, dry_run, environment, read, replace, unique

pytestmark = pytest.mark.cluster

RETAINS, DELETES = unique("retains"), unique("deletes")
KNOWN = 'datalabd_store_objects{resource="environmentconfigs.pkg.internal"}'
STORE = {"storage": "1Gi"}


@pytest.fixture(scope="module", autouse=True)
def environments(cluster: Cluster, datalabd: Daemon) -> Iterator[None]:
    cluster.api.create(environment(RETAINS))
    cluster.api.create(environment(DELETES, retention="Delete"))
    eventually(lambda: datalabd.metrics().get(KNOWN, 0) == len(cluster.api.list("environmentconfigs.pkg.internal")))
    yield
    datalabd.clear()
    cluster.kubectl("delete", "dlenv", RETAINS, DELETES)


def database(*names: str, **more: Any) -> Manifest:
    return {"names": list(names), "storage": "1Gi", "backupStorage": "1Gi"} | more


def refused(answer: Answer, *said: str) -> None:
    """The request was refused for a reason that a person can act upon."""
    assert answer.returncode != 0, answer.stdout
    for text in said:
        assert text in answer.stderr
    assert "Internal error" not in answer.stderr
    assert "failed calling webhook" not in answer.stderr


def warned(answer: Answer) -> list[str]:
    """The warnings that kubectl printed with an answer that is no refusal."""
    assert answer.returncode == 0, answer.stderr
    return [line.removeprefix("Warning: ") for line in answer.stderr.splitlines() if line.startswith("Warning: ")]


def known(cluster: Cluster, manifest: Manifest) -> Manifest:
    """The claim, created and arrived in the daemon's cache: the finalizer is the first thing it writes."""
    cluster.api.create(manifest)
    metadata = manifest["metadata"]

    def taken_up() -> Manifest | None:
        live = read(cluster, "datalab", metadata["name"], metadata["namespace"])
        return live if live["metadata"].get("finalizers") else None

    return eventually(taken_up)


# --- environments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "said"),
    [
        # What the schema says, also while nobody of ours runs
        pytest.param({"ingress": {"domain": "A.org"}}, "data.ingress.domain", id="domain"),
        pytest.param({"ingress": {"class": "A b"}}, "data.ingress.class", id="class"),
        pytest.param({"storageClasses": {"allowed": ["A b"]}}, "data.storageClasses.allowed[0]", id="storage class"),
        pytest.param({"defaults": {"quota": {"memory": "much"}}}, "data.defaults.quota.memory", id="quantity"),
        pytest.param({"defaults": {"quota": {"storage": "0"}}}, "data.defaults.quota.storage", id="nothing"),
        pytest.param({"auth": {"type": "credential"}}, "data.auth.type: Unsupported value", id="a slip in auth.type"),
        pytest.param({"retention": "Keep"}, "data.retention: Unsupported value", id="retention"),
        pytest.param({"storage": {"region": "a b"}}, "data.storage.region", id="region"),
        pytest.param(
            {"iam": {"url": "https://id.org"}},
            "data.iam.adminSecret: Required value: where url is set",
            id="Keycloak without credentials",
        ),
        pytest.param(
            {"ingress": {"protection": {"type": "traefik"}}},
            "data.ingress.protection.middleware: Required value: where type is traefik",
            id="traefik",
        ),
        pytest.param(
            {"ingress": {"protection": {"type": "annotations"}}},
            "data.ingress.protection.annotations: Required value: where type is annotations",
            id="annotations",
        ),
        pytest.param(
            {"ingress": {"protection": {"type": "apisix"}}},
            "data.ingress.protection.discoveryURL: Required value: where type is apisix and iam.url is not set",
            id="apisix",
        ),
        pytest.param(
            {"ingress": {"protection": {"type": "nginx", "authURL": "https://a.org/{user}"}}},
            "data.ingress.protection.authURL: Invalid value",
            id="word that nobody fills in",
        ),
        pytest.param(
            {"ingress": {"protection": {"type": "annotations", "annotations": {"a": "{user}"}}}},
            "data.ingress.protection.annotations[a]: Invalid value",
            id="word that nobody fills in, in an annotation",
        ),
        pytest.param(
            {"database": {"gateway": {"parentName": "a", "sectionName": "b"}}},
            "parentName, parentNamespace and sectionName must be set together",
            id="half a gateway",
        ),
        pytest.param({"packages": [{"files": []}]}, "data.packages[0].name: Required value", id="package"),
        pytest.param(
            {"allowed": {"policies": ["restricted"]}},
            "data.defaults.security.policy: Invalid value: must be among allowed.policies",
            id="default policy",
        ),
        pytest.param(
            {"defaults": {"security": {"kubernetesRole": "admin"}}, "allowed": {"kubernetesRoles": ["view"]}},
            "data.defaults.security.kubernetesRole: Invalid value: must be among allowed.kubernetesRoles",
            id="default role",
        ),
        pytest.param(
            {"allowed": {"budgets": ["small"]}},
            "data.defaults.quota.budget: Invalid value: must be among allowed.budgets",
            id="default budget",
        ),
        pytest.param(
            {"components": {"data": {"resources": {"requests": {"cpu": 2}, "limits": {"cpu": "1500m"}}}}},
            "data.components.data.resources.requests: Invalid value: no request may be more than its limit",
            id="request beyond the limit",
        ),
        pytest.param(
            {"components": {"redis": {"resources": {"limits": {"memory": "x"}}}}},
            "data.components.redis.resources.limits.memory",
            id="resource that is no quantity",
        ),
        # What only we say
        pytest.param(
            {"network": {"blacklistIPs": ["10.0.0.0/99"]}}, "data.network.blacklistIPs[0]: Invalid value", id="network"
        ),
        pytest.param(
            {"ingress": {"protection": {"type": "annotations", "annotations": {"a b": "c"}}}},
            "must be the name of an annotation",
            id="annotation",
        ),
        pytest.param(
            {"components": {"qdrant": {"image": "qdrant/qdrant"}}},
            "data.components.qdrant.image: Invalid value",
            id="image without a tag",
        ),
    ],
)
def test_bad_environment_is_refused(cluster: Cluster, data: dict[str, Any], said: str) -> None:
    refused(dry_run(cluster, environment(unique("env"), **data)), said)


def test_all_mistakes_of_an_environment_at_once(cluster: Cluster) -> None:
    answer = dry_run(
        cluster,
        environment(
            unique("env"),
            network={"blacklistIPs": ["here", "10.0.0.0/8", "there"]},
            ingress={"protection": {"type": "annotations", "annotations": {"a b": "c"}}},
        ),
    )
    refused(answer, "data.network.blacklistIPs[0]", "data.network.blacklistIPs[2]", "name of an annotation")


def test_refusal_reads_like_the_api_servers_own(cluster: Cluster) -> None:
    name = unique("env")
    answer = dry_run(cluster, environment(name, components={"qdrant": {"image": "qdrant"}}))
    assert answer.stderr == (
        f'The EnvironmentConfig "{name}" is invalid: data.components.qdrant.image: Invalid value: "qdrant": '
        "must end in a tag\n"
    )


def test_a_good_environment_is_accepted_in_silence(cluster: Cluster) -> None:
    resources = {"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"cpu": 1, "memory": "1Gi"}}
    good = environment(
        unique("env"),
        ingress={
            "protection": {
                "type": "nginx",
                "authURL": "https://a.org/{name}/{namespace}/{realm}/{group}",
                "signinURL": "https://a.org/?rd=https://$host${escaped_request_uri}",
            }
        },
        database={"gateway": {"parentName": "a", "parentNamespace": "b", "sectionName": "c"}},
        packages=[{"name": "a", "files": [{"git": {"url": "https://a.org", "ref": "main"}}]}],
        components={"data": {"resources": resources}},
    )
    answer = dry_run(cluster, good)
    assert warned(answer) == []
    stored = json.loads(answer.stdout)["data"]
    assert stored["packages"] == good["data"]["packages"]
    assert stored["components"]["data"]["resources"] == resources


def test_an_environment_in_which_no_session_starts(cluster: Cluster) -> None:
    assert warned(dry_run(cluster, environment(unique("env"), auth={"type": "delegated"}))) == [
        "data.ingress.protection.type: off where auth.type is delegated: no session will start",
        "data.network.ingressPeers: any pod outside the labs reaches sessions, which ask for no login",
    ]


def test_an_environment_that_was_stored_unchecked_can_be_labelled_and_mended(
    cluster: Cluster, datalabd: Daemon
) -> None:
    datalabd.stop()
    name = unique("env")
    try:
        cluster.api.create(environment(name, network={"blacklistIPs": ["here"]}))
    finally:
        datalabd.start()
    live = read(cluster, "dlenv", name)
    assert cluster.kubectl("label", "dlenv", name, "a=b", check=False).returncode == 0
    worse = live | {"data": live["data"] | {"network": {"blacklistIPs": ["here", "there"]}}}
    answer = replace(cluster, worse)
    refused(answer, "data.network.blacklistIPs[1]")
    assert "blacklistIPs[0]" not in answer.stderr
    mended = live | {"data": live["data"] | {"network": {"blacklistIPs": []}}}
    assert replace(cluster, mended).returncode == 0
    cluster.kubectl("delete", "dlenv", name)


def test_an_environment_in_use(cluster: Cluster, datalabd: Daemon, namespace: str) -> None:
    name = unique("env")
    cluster.api.create(environment(name))
    lab = known(cluster, claim(namespace, name))
    live = read(cluster, "dlenv", name)
    moved = live | {"data": live["data"] | {"ingress": {"domain": "other.example.org"}, "retention": "Delete"}}
    assert warned(replace(cluster, moved, "--dry-run=server")) == [
        "data.ingress.domain: 1 lab uses it, and all addresses change; the runtime's domain has to follow",
        "data.retention: 1 lab uses it; from now on what is no longer declared is deleted",
    ]
    refused(cluster.kubectl("delete", "dlenv", name, check=False), "Forbidden", "1 lab uses this environment")
    assert read(cluster, "dlenv", name)["metadata"].get("deletionTimestamp") is None
    cluster.kubectl("delete", "datalab", lab["metadata"]["name"], "-n", namespace, f"--timeout={scaled(30):.0f}s")
    eventually(lambda: cluster.kubectl("delete", "dlenv", name, check=False).returncode == 0)


# --- what an edit of a claim will do ----------------------------------------------------------------------------------

FULL: dict[str, Any] = {
    "databases": {"pg0": database("a", backupStorage="3Gi")},
    "documentStores": {"d": STORE},
    "cacheStores": {"c": STORE},
    "vectorStores": {"v": STORE},
}
RESTART = "only when stopped and started again"
OFF = [
    "spec.vcluster: the virtual clusters of a are deleted when they stop",
    f"session a takes over spec.vcluster {RESTART}",
]
QUOTA = [f"session a takes over spec.quota {RESTART}"]


@pytest.mark.parametrize(
    ("version", "sessions"),
    [
        pytest.param(V1BETA1, ["a", {"name": "b", "state": "paused"}], id="v1beta1"),
        pytest.param(V1BETA2, [{"name": "a"}, {"name": "b", "state": "stopped"}], id="v1beta2"),
    ],
)
def test_creation_tells_what_it_makes(cluster: Cluster, version: str, sessions: list[Any]) -> None:
    (told,) = warned(dry_run(cluster, claim("default", RETAINS, version, sessions=sessions, **FULL)))
    assert told.startswith("creates ")
    assert told.endswith(" objects, 7 volumes: 2 homes of 1Gi, 1 database of 1Gi, 1 backup of 3Gi, 3 stores of 1Gi")


def test_creation_names_users_without_a_role(cluster: Cluster) -> None:
    answer = dry_run(cluster, claim("default", RETAINS, users=["joe", "jane.doe@x"], databases=FULL["databases"]))
    assert warned(answer)[1:] == ["spec.users: no PostgreSQL role for jane.doe@x: PGO does not take such names"]


CHANGES: list[tuple[str, dict[str, Any], dict[str, Any], list[str], list[str]]] = [
    (
        "session",
        {"sessions": [{"name": "a", "state": "stopped"}]},
        {"sessions": []},
        ["spec.sessions: the files of session a are kept, for when declared again"],
        ["spec.sessions: the files of session a are deleted for good"],
    ),
    (
        "database server",
        FULL,
        {"databases": {}},
        ["spec.databases: the databases and backups of server pg0 are kept, for when declared again"],
        ["spec.databases: the databases and backups of server pg0 are deleted for good"],
    ),
    (
        "stores",
        FULL,
        {"documentStores": {}, "cacheStores": {}, "vectorStores": {}},
        [
            f"spec.{kind}Stores: the contents of store {key} are kept, for when declared again"
            for kind, key in (("document", "d"), ("cache", "c"), ("vector", "v"))
        ],
        [
            f"spec.{kind}Stores: the contents of store {key} are deleted for good"
            for kind, key in (("document", "d"), ("cache", "c"), ("vector", "v"))
        ],
    ),
    (
        "session under another name",
        {"sessions": [{"name": "a", "state": "stopped"}]},
        {"sessions": [{"name": "e", "state": "stopped"}]},
        [
            "spec.sessions: the files of session a are kept, for when declared again",
            "spec.sessions: nothing is renamed: the data of a will not be in e",
        ],
        [
            "spec.sessions: the files of session a are deleted for good",
            "spec.sessions: nothing is renamed: the data of a will not be in e",
        ],
    ),
    (
        "virtual clusters",
        {"sessions": [{"name": "a"}], "vcluster": True},
        {"vcluster": False},
        OFF,
        OFF,
    ),
    ("quota", {"sessions": [{"name": "a"}]}, {"quota": {"memory": "8Gi"}}, QUOTA, QUOTA),
    ("users", {"sessions": [{"name": "a"}]}, {"users": ["joe", "ann"]}, [], []),
]


@pytest.mark.parametrize(
    ("before", "after", "retained", "deleted"),
    [pytest.param(*row, id=what) for what, *row in CHANGES],
)
def test_change_tells_what_it_destroys(
    cluster: Cluster,
    datalabd: Daemon,
    namespace: str,
    before: dict[str, Any],
    after: dict[str, Any],
    retained: list[str],
    deleted: list[str],
) -> None:
    for chosen, expected in ((RETAINS, retained), (DELETES, deleted)):
        live = known(cluster, claim(namespace, chosen, **before))
        changed = live | {"spec": live["spec"] | after}
        assert warned(replace(cluster, changed, "--dry-run=server")) == expected


@pytest.mark.parametrize(
    ("chosen", "fate"),
    [
        pytest.param(RETAINS, "kept for a new claim of this name and namespace", id="Retain"),
        pytest.param(DELETES, "deleted for good, with backups", id="Delete"),
    ],
)
def test_deletion_tells_what_it_destroys(
    cluster: Cluster, datalabd: Daemon, namespace: str, chosen: str, fate: str
) -> None:
    live = known(cluster, claim(namespace, chosen, sessions=[{"name": "a"}], **FULL))
    delete = ["delete", "datalab", live["metadata"]["name"], "-n", namespace]
    assert warned(cluster.kubectl(*delete, "--dry-run=server")) == [
        f"{fate}: 1 home, 1 database server, 3 stores",
        "1 member loses access, session a ends",
    ]


def test_what_volumes_cannot_follow(cluster: Cluster, datalabd: Daemon, namespace: str) -> None:
    spec: dict[str, Any] = {
        "sessions": [{"name": "a"}],
        "quota": {"storage": "2Gi"},
        "databases": {"pg0": database("a", storage="2Gi", backupStorage="2Gi")},
        **{field: {"x": {"storage": "2Gi"}} for field in ("documentStores", "cacheStores", "vectorStores")},
    }
    live = known(cluster, claim(namespace, RETAINS, **spec))

    def resized(size: str) -> Answer:
        sized = {
            "quota": {"storage": size},
            "databases": {"pg0": database("a", storage=size, backupStorage=size)},
            **{field: {"x": {"storage": size}} for field in ("documentStores", "cacheStores", "vectorStores")},
        }
        return replace(cluster, live | {"spec": live["spec"] | sized}, "--dry-run=server")

    volumes = ["spec.databases[pg0].storage", "spec.databases[pg0].backupStorage"]
    volumes += ["spec.cacheStores[x].storage", "spec.vectorStores[x].storage"]
    fixed = ["spec.documentStores[x].storage"]
    shrunk, grown = resized("1Gi"), resized("3Gi")
    refused(shrunk, *(f"{field}: Forbidden: may not be less" for field in ("spec.quota.storage", *volumes, *fixed)))
    refused(grown, *(f"{field}: Forbidden: may not be more" for field in fixed), "does not resize volumes")
    assert not [field for field in volumes if field in grown.stderr]


@pytest.mark.parametrize("version", [V1BETA1, V1BETA2])
def test_nothing_is_renamed(cluster: Cluster, datalabd: Daemon, namespace: str, version: str) -> None:
    fields: dict[str, Any] = {
        "databases": database("a"),
        "documentStores": STORE,
        "cacheStores": STORE,
        "vectorStores": STORE,
    }
    spec: dict[str, Any] = {field: {"x": item} for field, item in fields.items()}
    declared = known(cluster, claim(namespace, RETAINS, **spec))
    live = read(cluster, f"datalabs.{version.rpartition('/')[2]}.pkg.internal", declared["metadata"]["name"], namespace)

    def edited(**keys: tuple[str, ...]) -> Answer:
        spec = {field: dict.fromkeys(declared, fields[field]) for field, declared in keys.items()}
        return replace(cluster, live | {"spec": live["spec"] | spec}, "--dry-run=server")

    renamed = edited(**dict.fromkeys(fields, ("y",)))
    refused(renamed, *(f"spec.{field}[y]: Forbidden: may not come in the edit that takes x away" for field in fields))
    for one_at_a_time in (("x", "y"), ()):
        answer = edited(**dict.fromkeys(fields, one_at_a_time))
        assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        pytest.param(
            {"cacheStores": {"mongodb-x": STORE}, "documentStores": {"x": STORE}},
            'the StatefulSet "mongodb-x" is already made of spec.documentStores[x]',
            id="pods",
        ),
        pytest.param(
            {"databases": {"a": database("b-c"), "a-b": database("c")}},
            'the variable "POSTGRES_A_B_C_URL" is already made of spec.databases[a].names[0]',
            id="variables",
        ),
    ],
)
def test_what_would_be_called_the_same(cluster: Cluster, spec: dict[str, Any], said: str) -> None:
    refused(dry_run(cluster, claim("default", RETAINS, **spec)), said)


# --- nobody there -----------------------------------------------------------------------------------------------------


def test_without_us_environments_wait_and_deletions_do_not(cluster: Cluster, datalabd: Daemon, namespace: str) -> None:
    live = known(cluster, claim(namespace, RETAINS))
    datalabd.kill()
    try:
        delete = ["delete", "datalab", live["metadata"]["name"], "-n", namespace, "--dry-run=server"]
        assert warned(cluster.kubectl(*delete)) == []
        answer = cluster.kubectl("delete", "dlenv", RETAINS, "--dry-run=server", check=False)
        assert answer.returncode != 0
        assert "failed calling webhook" in answer.stderr
    finally:
        datalabd.start()
