"""What is told of an edit: whole sentences, as kubectl prints them."""

from typing import Any

import pytest

from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import CLAIM_ANNOTATIONS, PREFIX, V1BETA1, Manifest
from datalabd.steps import run
from datalabd.submission import Submission
from tests.factories import IAM, claim, environment
from webhooks import warn
from webhooks.warn import COUNT_MAX, LENGTH_MAX, few

STORE = {"storage": "1Gi"}
HERE = environment()
DELETES = environment(retention="Delete")
NGINX = {"domain": "lab.example.org", "protection": {"type": "nginx"}}


def database(*names: str) -> Manifest:
    return {"names": list(names), "storage": "1Gi", "backupStorage": "3Gi"}


def sessions(*names: str, stopped: tuple[str, ...] = ()) -> list[Manifest]:
    return [{"name": name, "state": "stopped" if name in stopped else "started"} for name in names]


def creation(new: Manifest, environment: EnvironmentConfig, *, kept: bool = False) -> list[str]:
    """What is told of a new claim."""
    return run(warn.creation(Submission(new, environment), kept=kept))


def change(
    new: Manifest, old: Manifest, environment: EnvironmentConfig, old_environment: EnvironmentConfig | None
) -> list[str]:
    """What is told of an update."""
    return run(warn.change(Submission(new, environment), Submission(old, environment), old_environment))


# --- annotations and labels -------------------------------------------------------------------------------------------


def marked(annotations: dict[str, str] | None = None, labels: dict[str, str] | None = None) -> Manifest:
    """A claim with these annotations and labels."""
    made = claim()
    return made | {"metadata": made["metadata"] | {"annotations": annotations, "labels": labels}}


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        pytest.param("enviroment", "; did you mean datalabs.pkg.internal/environment?", id="a letter is missing"),
        pytest.param("Protect", "; did you mean datalabs.pkg.internal/protect?", id="capitals"),
        pytest.param("rotation", "; did you mean datalabs.pkg.internal/rotate?", id="another form of the word"),
        pytest.param("owner", "", id="like none"),
        pytest.param("", "", id="no name"),
    ],
)
def test_an_annotation_that_nothing_reads_is_told_with_the_nearest(key: str, expected: str) -> None:
    key = f"{PREFIX}/{key}"
    told = f"annotation {key} has no effect{expected}"
    assert warn.ignored(marked({key: "x"}), None) == [told]
    assert warn.ignored(marked({key: "x"}), marked()) == [told]
    assert warn.ignored(marked({key: "x"}), marked({key: "y"})) == [told]
    assert warn.ignored(marked({key: "x"}), marked({key: "x"})) == []
    assert warn.ignored(marked(), marked({key: "x"})) == []


def test_a_label_that_nothing_reads_is_told_with_the_nearest() -> None:
    new = marked(labels={"datalabs.pkg.internal/env": "x", "datalabs.pkg.internal/protect": "true"})
    assert warn.ignored(new, marked()) == [
        "label datalabs.pkg.internal/env has no effect",
        "label datalabs.pkg.internal/protect has no effect; did you mean annotation datalabs.pkg.internal/protect?",
    ]


def test_a_misspelt_prefix_is_ours() -> None:
    assert warn.ignored(marked({"datalab.pkg.internal/protect": "true"}), None) == [
        "annotation datalab.pkg.internal/protect has no effect; did you mean datalabs.pkg.internal/protect?"
    ]


def test_nothing_is_told_of_what_is_read_or_not_ours() -> None:
    foreign = {"storages.pkg.internal/enviroment": "x", "workspaces.pkg.internal/caps": "x", "enviroment": "x"}
    read = dict.fromkeys(CLAIM_ANNOTATIONS, "x")
    assert warn.ignored(marked(read | foreign, {f"{PREFIX}/environment": "x"} | foreign), None) == []


def test_of_many_that_nothing_reads_the_first_are_told_with_the_nearest() -> None:
    told = warn.ignored(marked({f"{PREFIX}/rotate{number}": "x" for number in range(12)}), None)
    assert [" did you mean " in sentence for sentence in told] == [True] * COUNT_MAX + [False] * 2


# --- creation ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param({"data": {"enabled": False}}, "", id="no volume"),
        pytest.param({"sessions": sessions("a")}, "1 volume: 1 home of 1Gi", id="home"),
        pytest.param(
            {"sessions": sessions("a", "b", stopped=("b",)), "quota": {"storage": "5Gi"}},
            "2 volumes: 2 homes of 5Gi",
            id="a stopped session has its home too",
        ),
        pytest.param(
            {
                "sessions": sessions("a"),
                "databases": {"pg0": database("x", "y")},
                "documentStores": {"d": STORE},
                "cacheStores": {"c": {"storage": "2Gi"}},
                "vectorStores": {"v": STORE},
            },
            "6 volumes: 1 home of 1Gi, 1 database of 1Gi, 1 backup of 3Gi, 2 stores of 1Gi, 1 store of 2Gi",
            id="everything that lasts, by size",
        ),
        pytest.param(
            {"cacheStores": {f"c{number}": {"storage": f"{number}Gi"} for number in range(1, 11)}},
            "10 volumes of 55Gi in all",
            id="too many sizes for one sentence",
        ),
    ],
)
def test_creation_tells_volumes(spec: dict[str, Any], expected: str) -> None:
    (told,) = creation(claim(**spec), HERE)
    assert told.startswith("creates ")
    assert told.partition(" objects, ")[2] == (expected or "0 volumes")


def test_creation_counts_what_the_plan_makes() -> None:
    def objects(**spec: Any) -> int:
        (told,) = creation(claim(data={"enabled": False}, **spec), HERE)
        return int(told.split()[1])

    # A document store is its credentials, itself and its policy, beside the accounts and rights that all of them share.
    assert objects(documentStores={"a": STORE, "b": STORE}) - objects(documentStores={"a": STORE}) == 3
    assert objects(documentStores={"a": STORE}) - objects() == 3 + 5
    # A server is what it runs first, itself and its policy.
    assert objects(databases={"pg0": database("x")}) - objects() == 3


def test_creation_over_what_was_kept() -> None:
    assert creation(claim(), HERE, kept=True)[0] == (
        "what an earlier claim of this name and namespace left behind is found again"
    )


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(claim(users=5), id="that passed no schema"),
        pytest.param(claim() | {"metadata": {"generateName": "lab-"}}, id="without a name yet"),
        pytest.param(claim(security={"policy": "privileged"}), id="that asks for too much"),
    ],
)
def test_nothing_is_told_of_a_claim(broken: Manifest) -> None:
    assert creation(broken, HERE) == []


def source(name: str) -> dict[str, Any]:
    """An item of files whose download needs this Secret."""
    return {"git": {"url": "https://example.org", "ref": "main", "secretRef": {"name": name}}}


WITHHELD = ": downloads find no Secret but the lab's own, and fail"


def test_creation_with_files_whose_secrets_no_download_finds() -> None:
    warnings = creation(claim(files=[source("lab-datalab"), source("mine")]), HERE)
    assert (warnings[0], len(warnings)) == (f"spec.files[1].git.secretRef{WITHHELD}", 2)


def test_new_files_whose_secrets_no_download_finds() -> None:
    """Those that the claim had are told of in its status."""
    old, new = claim(files=[source("known")]), claim(files=[source("mine"), source("known")])
    assert change(new, old, HERE, None) == [f"spec.files[0].git.secretRef{WITHHELD}"]


# --- change -----------------------------------------------------------------------------------------------------------

FULL: dict[str, Any] = {
    "sessions": sessions("a", "b", stopped=("b",)),
    "databases": {"pg0": database("x", "y")},
    "documentStores": {"d": STORE},
    "cacheStores": {"c": STORE},
    "vectorStores": {"v": STORE},
    "vcluster": True,
}
RESTART = "only when stopped and started again"


def changed(environment: EnvironmentConfig = HERE, **spec: Any) -> list[str]:
    """What is told when these fields of a full claim change."""
    return change(claim(**FULL | spec), claim(**FULL), environment, environment)


@pytest.mark.parametrize(
    ("spec", "retained", "deleted"),
    [
        pytest.param(
            {"sessions": sessions("a")},
            "spec.sessions: the files of session b are kept, for when declared again",
            "spec.sessions: the files of session b are deleted for good",
            id="session",
        ),
        pytest.param(
            {"sessions": []},
            "spec.sessions: the files of sessions a, b are kept, for when declared again",
            "spec.sessions: the files of sessions a, b are deleted for good",
            id="sessions",
        ),
        pytest.param(
            {"documentStores": {}},
            "spec.documentStores: the contents of store d are kept, for when declared again",
            "spec.documentStores: the contents of store d are deleted for good",
            id="document store",
        ),
        pytest.param(
            {"cacheStores": {}},
            "spec.cacheStores: the contents of store c are kept, for when declared again",
            "spec.cacheStores: the contents of store c are deleted for good",
            id="cache store",
        ),
        pytest.param(
            {"vectorStores": {}},
            "spec.vectorStores: the contents of store v are kept, for when declared again",
            "spec.vectorStores: the contents of store v are deleted for good",
            id="vector store",
        ),
        pytest.param(
            {"databases": {}},
            "spec.databases: the databases and backups of server pg0 are kept, for when declared again",
            "spec.databases: the databases and backups of server pg0 are deleted for good",
            id="database server",
        ),
    ],
)
def test_removal(spec: dict[str, Any], retained: str, deleted: str) -> None:
    assert changed(HERE, **spec)[0] == retained
    assert changed(DELETES, **spec)[0] == deleted


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param({}, [], id="nothing"),
        pytest.param({"users": ["ann", "bob"]}, [], id="nothing that matters"),
        pytest.param({"sessions": sessions("a", "b", "z", stopped=("b",))}, [], id="more"),
        pytest.param(
            {"sessions": sessions("a", "b", stopped=("a", "b"))},
            ["stopping a keeps the files, and deletes what runs in the sessions' own namespaces"],
            id="stop",
        ),
        pytest.param({"sessions": sessions("a", "b")}, [], id="start"),
        pytest.param(
            {"vcluster": False},
            [
                "spec.vcluster: the virtual clusters of a are deleted when they stop",
                f"session a takes over spec.vcluster {RESTART}",
            ],
            id="virtual clusters off",
        ),
        pytest.param(
            {"vcluster": False, "sessions": sessions("b", stopped=("b",))},
            ["spec.sessions: the files of session a are kept, for when declared again"],
            id="virtual clusters off while none runs on",
        ),
        pytest.param(
            {"quota": {"memory": "8Gi"}, "security": {"kubernetesRole": "view"}, "users": ["ann", "bob"]},
            [f"session a takes over spec.quota, spec.security {RESTART}"],
            id="what running sessions do not take over",
        ),
        pytest.param({"quota": {"storage": "8Gi"}}, [], id="what they do"),
        pytest.param({"security": {"externalEgress": False}}, [], id="network policies are kept current"),
        pytest.param(
            {"quota": {"memory": "8Gi"}, "sessions": sessions("b", stopped=("b",))},
            ["spec.sessions: the files of session a are kept, for when declared again"],
            id="restart of none",
        ),
        pytest.param(
            {"sessions": sessions("a", "z", stopped=("z",))},
            [
                "spec.sessions: the files of session b are kept, for when declared again",
                "spec.sessions: nothing is renamed: the data of b will not be in z",
            ],
            id="rename of a session",
        ),
        pytest.param(
            {"databases": {"pg0": database("y", "z")}},
            [
                "spec.databases[pg0].names: x kept, but no longer announced",
                f"session a takes over spec.databases {RESTART}",
            ],
            id="database",
        ),
        pytest.param(
            {"databases": {"pg0": database("z"), "pg1": database("x")}},
            [
                "spec.databases[pg0].names: x, y kept, but no longer announced",
                f"session a takes over spec.databases {RESTART}",
            ],
            id="databases, and a server more",
        ),
    ],
)
def test_change(spec: dict[str, Any], expected: list[str]) -> None:
    assert changed(**spec) == expected


def test_change_of_the_environment() -> None:
    elsewhere = environment(ingress={"domain": "other.example.org"}, retention="Delete")
    after = claim(**FULL | {"sessions": sessions("a")})
    assert change(after, claim(**FULL), elsewhere, HERE) == [
        "spec.sessions: the files of session b are deleted for good",
        f"session a takes over the environment {RESTART}",
    ]


def test_an_old_environment_that_is_gone_is_taken_for_the_new_one() -> None:
    assert change(claim(), claim(), HERE, None) == []


def test_a_field_and_the_environment_may_each_be_the_cause() -> None:
    elsewhere = environment(defaults={"quota": {"memory": "9Gi"}})
    after, before = claim(sessions=sessions("a"), quota={"memory": "9Gi"}), claim(sessions=sessions("a"))
    assert change(after, before, elsewhere, HERE) == [f"session a takes over spec.quota, the environment {RESTART}"]


def test_a_field_and_the_environment_may_only_together_be_the_cause() -> None:
    elsewhere = environment(defaults={"quota": {"memory": "9Gi"}})
    after, before = claim(sessions=sessions("a")), claim(sessions=sessions("a"), quota={"memory": "2Gi"})
    assert change(after, before, elsewhere, HERE) == [f"session a takes over the change {RESTART}"]


def test_a_field_that_is_left_out_again() -> None:
    before = claim(sessions=sessions("a"), quota={"memory": "8Gi"})
    assert change(claim(sessions=sessions("a")), before, HERE, HERE) == [f"session a takes over spec.quota {RESTART}"]


def test_what_is_not_allowed_any_more_hides_no_removal() -> None:
    closed = environment(allowed={"vcluster": False}, storageClasses={"allowed": ["fast"]})
    before = claim(sessions=sessions("b", stopped=("b",)), vcluster=True, persistence={"storageClassName": "slow"})
    assert change(claim(), before, closed, closed) == [
        "spec.sessions: the files of session b are kept, for when declared again"
    ]


def test_an_old_claim_that_cannot_be_read() -> None:
    assert change(claim(), claim(users=None, sessions=sessions("a")), HERE, HERE) == []


def test_a_change_in_the_older_version() -> None:
    before = claim(sessions=["a", {"name": "b", "state": "paused"}]) | {"apiVersion": V1BETA1}
    after = claim(sessions=["b"]) | {"apiVersion": V1BETA1}
    assert change(after, before, HERE, HERE) == [
        "spec.sessions: the files of session a are kept, for when declared again"
    ]


LONG = [f"{number}-{'x' * 49}" for number in range(20)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({"sessions": sessions(*LONG)}, {"sessions": sessions("z")}, id="removal"),
        pytest.param({"sessions": sessions(*LONG)}, {"sessions": sessions(*LONG, stopped=tuple(LONG))}, id="stop"),
        pytest.param(
            {"sessions": sessions(*LONG), "vcluster": True},
            {
                "sessions": sessions(*LONG),
                "quota": {"memory": "9Gi"},
                "files": [{"http": {"url": "https://example.org"}}],
                "registry": {"enabled": True},
                "security": {"kubernetesRole": "view"},
            },
            id="restart",
        ),
        pytest.param(
            {"databases": {"p" * 38: database(*(f"{name}-{'y' * 8}" for name in LONG))}},
            {"databases": {"p" * 38: database("a")}},
            id="databases",
        ),
        pytest.param(
            {"sessions": sessions(*LONG[:10])},
            {"sessions": sessions(*LONG[10:])},
            id="renames",
        ),
        pytest.param(
            {"documentStores": {f"s{number}{'x' * 35}": STORE for number in range(20)}},
            {"documentStores": {}},
            id="removal of stores",
        ),
    ],
)
@pytest.mark.parametrize("within", [HERE, DELETES], ids=["Retain", "Delete"])
def test_sentences_are_short(before: dict[str, Any], after: dict[str, Any], within: EnvironmentConfig) -> None:
    told = change(claim(**after), claim(**before), within, within)
    assert told
    assert [text for text in told if len(text) > LENGTH_MAX] == []


def test_few() -> None:
    assert few(["x" * 500]) == ["x" * (LENGTH_MAX - 1) + "…"]
    assert few([str(number) for number in range(COUNT_MAX + 2)]) == [*map(str, range(COUNT_MAX)), "and 2 more"]


# --- deletion ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "within", "expected"),
    [
        pytest.param(
            FULL,
            HERE,
            [
                "kept for a new claim of this name and namespace: 2 homes, 1 database server, 3 stores",
                "1 member loses access, session a ends",
            ],
            id="Retain",
        ),
        pytest.param(
            FULL | {"users": ["ann", "bob"], "sessions": sessions("a", "b")},
            DELETES,
            [
                "deleted for good, with backups: 2 homes, 1 database server, 3 stores",
                "2 members lose access, sessions a, b end",
            ],
            id="Delete",
        ),
        pytest.param(
            {"sessions": sessions("a")},
            None,
            ["kept for a new claim of this name and namespace: 1 home", "1 member loses access, session a ends"],
            id="without an environment nothing durable goes",
        ),
        pytest.param({}, DELETES, ["1 member loses access"], id="nothing durable"),
        pytest.param({"users": []}, HERE, [], id="nothing at all"),
        pytest.param({"users": 5}, HERE, [], id="what cannot be read"),
    ],
)
def test_deletion(spec: dict[str, Any], within: EnvironmentConfig | None, expected: list[str]) -> None:
    assert warn.deletion(Submission(claim(**spec), within)) == expected


# --- environments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("new", "labs", "expected"),
    [
        pytest.param({}, 3, [], id="nothing changes"),
        pytest.param(
            {"ingress": NGINX | {"domain": "new.example.org"}},
            1,
            ["data.ingress.domain: 1 lab uses it, and all addresses change; the runtime's domain has to follow"],
            id="domain",
        ),
        pytest.param({"ingress": NGINX | {"domain": "new.example.org"}}, 0, [], id="domain that nobody uses"),
        pytest.param(
            {"retention": "Delete"},
            12,
            ["data.retention: 12 labs use it; from now on what is no longer declared is deleted"],
            id="retention",
        ),
        pytest.param(
            {"iam": IAM | {"realm": "other"}},
            2,
            ["data.iam: 2 labs use it; clients and groups in realm labs stay there, for you to remove"],
            id="realm",
        ),
        pytest.param(
            {"iam": {}},
            1,
            [
                "data.iam: 1 lab uses it; clients and groups in realm labs stay there, for you to remove",
                "data.iam: what was set there is taken away; 1 lab uses it",
            ],
            id="no Keycloak any more",
        ),
        pytest.param({"iam": IAM | {"localhostRedirects": True}}, 1, [], id="the same realm"),
        pytest.param(
            {"components": {"qdrant": {"image": "mirror.example.org:5000/qdrant:v2"}}},
            3,
            ["data.components.qdrant.image: 3 labs use it; vector stores that exist keep qdrant/qdrant:v1.13.4"],
            id="tag of vector stores",
        ),
        pytest.param(
            {"components": {"qdrant": {"image": "mirror.example.org:5000/qdrant:v1.13.4"}}},
            3,
            [],
            id="repository of vector stores",
        ),
    ],
)
def test_environment_and_the_labs_that_use_it(new: dict[str, Any], labs: int, expected: list[str]) -> None:
    old = environment(ingress=NGINX, iam=IAM)
    assert warn.environment(environment(**{"ingress": NGINX, "iam": IAM} | new), old, labs) == expected


STORAGE = {"endpoint": "https://s3.example.org", "region": "eu"}
TAKEN = ": what was set there is taken away; 4 labs use it"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param({"storage": STORAGE}, {"storage": STORAGE}, [], id="nothing"),
        pytest.param({}, {"storage": STORAGE}, [], id="what is new"),
        pytest.param({"storage": STORAGE}, {"storage": STORAGE | {"region": "us"}}, [], id="what is another"),
        pytest.param({"storage": STORAGE}, {}, [f"data.storage{TAKEN}"], id="a whole part"),
        pytest.param(
            {"storage": STORAGE}, {"storage": {"region": "eu"}}, [f"data.storage.endpoint{TAKEN}"], id="one of a part"
        ),
        pytest.param(
            {"storage": STORAGE, "defaults": {"quota": {"memory": "6Gi"}}, "allowed": {"namespaces": ["a"]}},
            {},
            [f"data.storage, data.defaults, data.allowed{TAKEN}"],
            id="several",
        ),
        pytest.param(
            {"network": {"externalEgressCIDRs": ["10.0.0.0/8", "10.1.0.0/16"]}},
            {"network": {"externalEgressCIDRs": ["10.1.0.0/16", "10.2.0.0/16"]}},
            [f"data.network.externalEgressCIDRs{TAKEN}"],
            id="one of a list",
        ),
        pytest.param(
            {"network": {"externalEgressCIDRs": ["10.0.0.0/8"]}},
            {"network": {"externalEgressCIDRs": ["10.2.0.0/16", "10.0.0.0/8"]}},
            [],
            id="a longer list",
        ),
    ],
)
def test_an_environment_tells_what_it_takes_away(old: Any, new: Any, expected: list[str]) -> None:
    before, after = environment(**old), environment(**new)
    assert warn.environment(after, before, 4) == expected
    assert warn.environment(after, before, 0) == []


def test_a_new_environment_changes_nothing() -> None:
    assert warn.environment(environment(retention="Delete"), None, 3) == []


@pytest.mark.parametrize("auth", ["delegated", "none"])
def test_nobody_asks_who_comes(auth: str) -> None:
    ingress = {"domain": "lab.example.org", "protection": {"type": "off"}}
    network = {"ingressPeers": [{"cidr": "10.0.0.0/8"}]}
    here = environment(auth={"type": auth}, ingress=ingress, network=network)
    assert warn.environment(here, None, 0) == [
        f"data.ingress.protection.type: off where auth.type is {auth}: no session will start"
    ]


def test_who_manages_the_realm_is_told_to_everybody_on_the_way() -> None:
    here = environment(iam=IAM | {"url": "http://id.example.org"})
    assert warn.environment(here, None, 0) == ["data.iam.url: who manages the realm logs in unencrypted"]


@pytest.mark.parametrize("closed", [True, False])
def test_one_sign_in_for_all_labs(closed: bool) -> None:
    protection = {"type": "nginx"} | ({"authURL": "https://a.org/auth?allowed_groups={group}"} if closed else {})
    here = environment(
        auth={"type": "delegated"},
        ingress={"domain": "lab.example.org", "protection": protection},
        network={"ingressPeers": [{"cidr": "10.0.0.0/8"}]},
    )
    said = "data.ingress.protection.authURL: names no lab, as {group} would: who may sign in enters every lab"
    assert warn.environment(here, None, 0) == ([] if closed else [said])


@pytest.mark.parametrize(
    ("protection", "expected"),
    [
        pytest.param(
            {"type": "nginx", "responseHeaders": ["X-User", "Authorization"]},
            [
                "data.ingress.protection.responseHeaders: Authorization: not handed to sessions, "
                "which could open other labs with it"
            ],
            id="nginx",
        ),
        pytest.param({"type": "nginx"}, [], id="nginx, by default"),
        pytest.param(
            {"type": "apisix", "opaURL": "http://opa.opa:8181", "opaPolicy": "labs"},
            [
                "data.ingress.protection.opaURL: sessions receive their visitors' access tokens; "
                "have the policy admit only tokens whose audience is the lab's own client"
            ],
            id="apisix with Open Policy Agent",
        ),
    ],
)
def test_credentials_of_visitors_that_sessions_could_receive(protection: dict[str, Any], expected: list[str]) -> None:
    ingress = {"domain": "lab.example.org", "protection": protection}
    assert warn.environment(environment(ingress=ingress, iam=IAM), None, 0) == expected


def test_sessions_that_ask_for_nothing_and_everybody_reaches() -> None:
    protection = {"type": "external"}
    here = environment(auth={"type": "delegated"}, ingress={"domain": "lab.example.org", "protection": protection})
    assert warn.environment(here, None, 0) == [
        "data.network.ingressPeers: any pod outside the labs reaches sessions, which ask for no login"
    ]


@pytest.mark.parametrize(
    ("protection", "expected"),
    [
        pytest.param({"type": "nginx", "authURL": "https://a.org"}, [], id="read"),
        pytest.param(
            {"type": "off", "responseHeaders": environment().data.ingress.protection.response_headers},
            [],
            id="defaults that the API server filled in",
        ),
        pytest.param(
            {"type": "external", "authURL": "https://a.org", "middleware": "a@b"},
            ["data.ingress.protection: authURL, middleware: no effect where type is external"],
            id="read by other types",
        ),
    ],
)
def test_fields_without_effect(protection: dict[str, Any], expected: list[str]) -> None:
    ingress = {"domain": "lab.example.org", "protection": protection}
    assert warn.environment(environment(ingress=ingress), None, 0) == expected
