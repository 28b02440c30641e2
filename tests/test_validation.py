from copy import deepcopy
from typing import Any

import pytest

from datalabd.api.conversion import to_v1beta2
from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import V1BETA1, V1BETA2, Manifest, NamespacedName, Problem
from datalabd.submission import Names, Submission, VolumeClasses
from datalabd.validation import Rival, answered_elsewhere, clashes, names_lost, names_of, occupied, validate, warnings

LABEL = "must be lower-case letters, digits and '-', beginning and ending with a letter or digit"
LETTER = "must be lower-case letters, digits and '-', beginning with a letter, ending with a letter or digit"
BYTES = "must be a quantity of bytes such as 512Mi, 1.5Gi or 10G"


def claim(version: str = V1BETA2, name: str = "lab", namespace: str = "team", **spec: Any) -> Manifest:
    return {
        "apiVersion": version,
        "kind": "Datalab",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"users": ["joe"]} | spec,
    }


def environment(**data: Any) -> EnvironmentConfig:
    ingress = {"domain": "lab.example.org"}
    return EnvironmentConfig.parse({"metadata": {"name": "courses"}, "data": {"ingress": ingress} | data})


def said(
    written: Manifest,
    old: Manifest | None = None,
    environment: EnvironmentConfig | None = None,
    volumes: VolumeClasses = VolumeClasses(),  # noqa: B008  # immutable
) -> list[str]:
    before = None if old is None else Submission(old, environment)
    return [str(error) for error in validate(Submission(written, environment, volumes), before)]


def database(*names: str, storage: str = "1Gi", backup: str = "1Gi", **more: Any) -> Manifest:
    return {"names": list(names), "storage": storage, "backupStorage": backup} | more


def sessions(*names: str) -> list[Manifest]:
    return [{"name": name} for name in names]


STORE = {"storage": "1Gi"}


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({}, id="the least"),
        pytest.param({"users": []}, id="no users"),
        pytest.param({"sessions": []}, id="no sessions"),
        pytest.param(
            {"users": ["joe@example.org", "jane doe"], "databases": {"pg0": database("a")}},
            id="any user name, even where it cannot be a role",
        ),
        *(
            pytest.param({"users": [user]}, id=f"user {what}")
            for user, what in (
                ("jane+lab@example.org", "with a plus sign"),
                ("Jané", "in capitals, of whom a warning speaks"),
                ("日本語", "of another alphabet"),
                ("x" * 255, "as long as Keycloak takes"),
                ("é" * 255, "as long in more bytes"),
                ("O'Brien; DROP ROLE postgres --", "who would be SQL"),
                ("{{a}} $(a) ${a}", "who would be a template"),
                ('a": b\\', "who would be YAML"),
            )
        ),
        pytest.param({"databases": {"pg0": database("a", "A-b")}}, id="databases"),
        pytest.param({"sessions": sessions("a", "b-c", "1")}, id="sessions"),
        pytest.param(
            {"documentStores": {"x": STORE}, "cacheStores": {"x": STORE}, "vectorStores": {"x": STORE}},
            id="stores of several kinds may share a name",
        ),
        pytest.param({"files": [{"git": {"url": "https://example.org/a", "ref": "main"}}]}, id="files"),
        pytest.param({"userOverrides": {"joe": {"role": "admin"}}}, id="override of a member"),
    ],
)
def test_is_accepted(spec: dict[str, Any]) -> None:
    assert said(claim(**spec), None, environment()) == []


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        # Members
        pytest.param({"users": ["joe", ""]}, ['spec.users[1]: Invalid value: "": must not be empty'], id="empty user"),
        pytest.param(
            {"users": [" "]},
            ['spec.users[0]: Invalid value: " ": must not begin or end with white space'],
            id="blank user",
        ),
        pytest.param(
            {"users": ["x" * 256]},
            [f'spec.users[0]: Too long: "{"x" * 99}…": may not be more than 255 characters'],
            id="over-long user, cut in the message",
        ),
        *(
            pytest.param(
                {"users": [user]},
                [f'spec.users[0]: Invalid value: "{shown}": must not contain control or invisible characters'],
                id=f"user with {what}",
            )
            for user, shown, what in (
                ("joe\x1b[2J", "joe\\x1b[2J", "an escape sequence"),
                ("a\tb", "a\\tb", "a tab"),
                ("joe\u200b", "joe\\u200b", "a space of no width"),
                ("\u202eeoj", "\\u202eeoj", "letters from right to left"),
                ("jane\u00addoe", "jane\\xaddoe", "a hyphen that is not there"),
            )
        ),
        pytest.param({"users": ["joe", "joe"]}, ['spec.users[1]: Duplicate value: "joe"'], id="repeated user"),
        pytest.param({"users": ["joe", "Joe"]}, ['spec.users[1]: Duplicate value: "joe"'], id="repeated in capitals"),
        pytest.param(
            {"users": [str(n) for n in range(501)]}, ["spec.users: Too many: must have at most 500 items"], id="crowd"
        ),
        pytest.param({"users": None}, ["spec.users: Invalid value: must be a valid list"], id="null users"),
        pytest.param(
            {"userOverrides": {"bob": {"role": "admin"}}},
            ["spec.userOverrides[bob]: Invalid value: must be one of spec.users"],
            id="override of a stranger",
        ),
        pytest.param(
            {"userOverrides": {"joe": {"role": "owner"}}},
            ['spec.userOverrides[joe].role: Unsupported value: "owner": supported values: admin, user'],
            id="unknown role",
        ),
        # Sessions
        pytest.param(
            {"sessions": sessions("A b")}, [f'spec.sessions[0].name: Invalid value: "A b": {LABEL}'], id="no DNS label"
        ),
        pytest.param(
            {"sessions": sessions("-a")}, [f'spec.sessions[0].name: Invalid value: "-a": {LABEL}'], id="dash first"
        ),
        pytest.param(
            {"sessions": sessions("")}, ['spec.sessions[0].name: Invalid value: "": must not be empty'], id="blank"
        ),
        pytest.param({"sessions": [{}]}, ["spec.sessions[0].name: Required value:"], id="session without a name"),
        pytest.param(
            {"sessions": [{"name": "a", "state": "running"}]},
            ['spec.sessions[0].state: Unsupported value: "running": supported values: started, stopped'],
            id="v1beta1's word in v1beta2",
        ),
        pytest.param(
            {"sessions": sessions("a", "b", "a")},
            ['spec.sessions[2].name: Duplicate value: "a"'],
            id="repeated session",
        ),
        pytest.param(
            {"sessions": sessions("a" * 49)},
            [
                f'spec.sessions[0].name: Too long: "{"a" * 49}": "lab-{"a" * 49}-persistent", which is made of it, '
                "may not be more than 63 characters"
            ],
            id="names made of the session too long",
        ),
        pytest.param({"sessions": sessions("a" * 48)}, [], id="names made of the session just fit"),
        pytest.param(
            {"sessions": sessions("default", "default-data")},
            [
                'spec.sessions[1].name: Invalid value: the host "lab-default-data" is already made of '
                "spec.sessions[0].name"
            ],
            id="host of the data browser",
        ),
        pytest.param(
            {"sessions": sessions("x", "x-editor")},
            ['spec.sessions[1].name: Invalid value: the host "lab-x-editor" is already made of spec.sessions[0].name'],
            id="host of the editor",
        ),
        pytest.param(
            {"sessions": sessions("x-vc", "x")},
            ['spec.sessions[1].name: Invalid value: the namespace "lab-x-vc" is already made of spec.sessions[0].name'],
            id="namespace of the virtual cluster",
        ),
        pytest.param(
            {"sessions": sessions("x", "x-registry")},
            [
                'spec.sessions[1].name: Invalid value: the Service "lab-x-registry" is already made of '
                "spec.sessions[0].name"
            ],
            id="Service of the registry",
        ),
        pytest.param(
            {"sessions": [{"name": str(n)} for n in range(101)]},
            ["spec.sessions: Too many: must have at most 100 items"],
            id="many",
        ),
        # Databases and stores
        pytest.param(
            {"databases": {"pg0": database()}},
            ["spec.databases[pg0].names: Invalid value: must have at least 1 item"],
            id="none",
        ),
        pytest.param(
            {"databases": {"pg0": database("a", "a")}},
            ['spec.databases[pg0].names[1]: Duplicate value: "a"'],
            id="repeated database",
        ),
        pytest.param(
            {"databases": {"pg0": database("Dev", "dev")}},
            [
                'spec.databases[pg0].names[1]: Invalid value: the variable "POSTGRES_PG0_DEV_URL" is already made of '
                "spec.databases[pg0].names[0]"
            ],
            id="databases that differ in case only",
        ),
        pytest.param(
            {"databases": {"a": database("b-c"), "a-b": database("c")}},
            [
                'spec.databases[a-b].names[0]: Invalid value: the variable "POSTGRES_A_B_C_URL" is already made of '
                "spec.databases[a].names[0]"
            ],
            id="variables of two servers",
        ),
        pytest.param(
            {"databases": {"pg0": database("template1")}},
            ['spec.databases[pg0].names[0]: Invalid value: "template1": is PostgreSQL\'s own'],
            id="template database",
        ),
        pytest.param(
            {"databases": {"pg0": database("a b")}},
            [
                "spec.databases[pg0].names[0]: Invalid value: \"a b\": must be letters, digits, '_', '-' and '.', "
                "beginning with a letter, a digit or '_'"
            ],
            id="database name with a blank",
        ),
        pytest.param(
            {"databases": {"pg0": database("x" * 64)}},
            [f'spec.databases[pg0].names[0]: Too long: "{"x" * 64}": may not be more than 63 characters'],
            id="over-long database name",
        ),
        pytest.param(
            {"databases": {"0pg": database("a")}},
            [f'spec.databases[0pg]: Invalid value: "0pg": {LETTER}'],
            id="server name",
        ),
        pytest.param(
            {"databases": {"p" * 39: database("a")}},
            [f'spec.databases[{"p" * 39}]: Too long: "{"p" * 39}": may not be more than 38 characters'],
            id="over-long server name",
        ),
        pytest.param(
            {"databases": {"pg0": {"names": ["a"]}}},
            ["spec.databases[pg0].storage: Required value:", "spec.databases[pg0].backupStorage: Required value:"],
            id="server without sizes",
        ),
        pytest.param(
            {"databases": {"pg0": 3}}, ['spec.databases[pg0]: Invalid value: "3": must be an object'], id="no object"
        ),
        pytest.param(
            {"documentStores": {"A": STORE}},
            [f'spec.documentStores[A]: Invalid value: "A": {LABEL}'],
            id="document store",
        ),
        pytest.param(
            {"cacheStores": {"1": STORE}}, [f'spec.cacheStores[1]: Invalid value: "1": {LETTER}'], id="cache store"
        ),
        pytest.param(
            {"vectorStores": {"a_b": STORE}},
            [f'spec.vectorStores[a_b]: Invalid value: "a_b": {LABEL}'],
            id="vector store",
        ),
        pytest.param(
            {"cacheStores": {"qdrant-x": STORE}, "vectorStores": {"x": STORE}},
            [
                'spec.vectorStores[x]: Invalid value: the Service "qdrant-x" is already made of '
                "spec.cacheStores[qdrant-x]"
            ],
            id="stores with the same pods",
        ),
        pytest.param(
            {"vectorStores": {"a": STORE, "a-read": STORE}},
            [
                'spec.vectorStores[a-read]: Invalid value: the variable "QDRANT_A_READ_API_KEY" is already made of '
                "spec.vectorStores[a]"
            ],
            id="variables of two stores",
        ),
        pytest.param(
            {"cacheStores": {"pg0-primary": STORE}, "databases": {"pg0": database("a")}},
            [
                'spec.cacheStores[pg0-primary]: Invalid value: the Service "pg0-primary" is already made of '
                "spec.databases[pg0]"
            ],
            id="Service of store and server",
        ),
        # Quantities
        pytest.param(
            {"quota": {"memory": "0"}}, ['spec.quota.memory: Invalid value: "0": must be greater than zero'], id="0"
        ),
        pytest.param(
            {"quota": {"memory": "-1Gi"}}, [f'spec.quota.memory: Invalid value: "-1Gi": {BYTES}'], id="negative"
        ),
        pytest.param(
            {"quota": {"storage": "1 GB"}}, [f'spec.quota.storage: Invalid value: "1 GB": {BYTES}'], id="malformed"
        ),
        pytest.param(
            {"quota": {"memory": 5}}, ['spec.quota.memory: Invalid value: "5": must be a valid string'], id="number"
        ),
        pytest.param(
            {"registry": {"storage": "x"}},
            [f'spec.registry.storage: Invalid value: "x": {BYTES}'],
            id="size of the registry",
        ),
        pytest.param(
            {"cacheStores": {"a": {"storage": "1Zi"}}},
            [f'spec.cacheStores[a].storage: Invalid value: "1Zi": {BYTES}'],
            id="zebi",
        ),
        pytest.param(
            {"vectorStores": {"a": {}}}, ["spec.vectorStores[a].storage: Required value:"], id="store without size"
        ),
        # Enumerations
        pytest.param(
            {"quota": {"budget": "huge"}},
            [
                'spec.quota.budget: Unsupported value: "huge": supported values: small, medium, large, x-large, '
                "xx-large, "
                "xxx-large"
            ],
            id="unknown budget",
        ),
        pytest.param(
            {"security": {"policy": "lax"}},
            ['spec.security.policy: Unsupported value: "lax": supported values: restricted, baseline, privileged'],
            id="unknown policy",
        ),
        pytest.param(
            {"security": {"kubernetesRole": "root"}},
            ['spec.security.kubernetesRole: Unsupported value: "root": supported values: admin, edit, view'],
            id="unknown Kubernetes role",
        ),
        pytest.param(
            {"vcluster": "yes"}, ['spec.vcluster: Invalid value: "yes": must be a valid boolean'], id="boolish"
        ),
        # Files
        pytest.param(
            {"files": [{"path": "a"}]},
            ["spec.files[0]: Invalid value: must have exactly one of image, git and http"],
            id="no source",
        ),
        pytest.param(
            {"files": [{"image": {"url": "a"}, "http": {"url": "https://a"}}]},
            ["spec.files[0]: Invalid value: must have exactly one of image, git and http"],
            id="two sources",
        ),
        pytest.param(
            {"files": [{"git": {"url": "https://a"}}]}, ["spec.files[0].git.ref: Required value:"], id="no ref"
        ),
        pytest.param(
            {"files": [{"git": {"url": "https://a/b", "ref": "--upload-pack=x"}}]},
            [
                'spec.files[0].git.ref: Invalid value: "--upload-pack=x": must not contain white space nor begin '
                "with '-'"
            ],
            id="ref that is an option",
        ),
        pytest.param(
            {"files": [{"git": {"url": "-x", "ref": "main"}}]},
            ["spec.files[0].git.url: Invalid value: \"-x\": must not contain white space nor begin with '-'"],
            id="address that is an option",
        ),
        pytest.param(
            {"files": [{"http": {"url": "ftp://a/b"}}]},
            ['spec.files[0].http.url: Invalid value: "ftp://a/b": must be an http or https address'],
            id="unknown scheme",
        ),
        pytest.param(
            {"files": [{"http": {"url": "https://a/b", "sha256": "0" * 63}}]},
            ['spec.files[0].http.sha256: Invalid value: "' + "0" * 63 + '": must be 64 hexadecimal digits'],
            id="short digest",
        ),
        pytest.param(
            {"files": [{"http": {"url": "https://0xA9FEA9FE/"}}]},
            [
                'spec.files[0].http.url: Invalid value: "https://0xA9FEA9FE/": must not point at a loopback, '
                "link-local, metadata or blocked address"
            ],
            id="metadata service",
        ),
        pytest.param(
            {"files": [{"image": {"url": "a"}, "includePaths": ["x" * 1024] * 100}] * 3},
            ["spec.files: Too long: may not be more than 256 KiB of JSON in all"],
            id="sources without end",
        ),
        # References
        pytest.param(
            {"secretName": "a/b"},
            [
                "spec.secretName: Invalid value: \"a/b\": must be lower-case letters, digits, '-' and '.', each part "
                "beginning and ending with a letter or digit"
            ],
            id="Secret of another namespace",
        ),
        *(
            pytest.param(
                {"secretName": f"lab-{suffix}"},
                [
                    f'spec.secretName: Invalid value: "lab-{suffix}": is made for the lab itself, and has no '
                    "credentials of object storage to begin with"
                ],
                id=f"the lab's own {suffix}",
            )
            for suffix in ("datalab", "login")
        ),
    ],
)
def test_is_refused(spec: dict[str, Any], expected: list[str]) -> None:
    assert said(claim(**spec)) == expected


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        pytest.param(
            ["a", {"name": "b", "state": "paused"}, {"name": "c", "state": " Running"}], [], id="words of v1beta1"
        ),
        pytest.param(["a", "A b"], [f'spec.sessions[1]: Invalid value: "A b": {LABEL}'], id="text"),
        pytest.param([{"name": "A b"}], [f'spec.sessions[0].name: Invalid value: "A b": {LABEL}'], id="object"),
        pytest.param(
            ["a", 3, None],
            [
                'spec.sessions[1]: Invalid value: "3": must be a string, or an object with name and state',
                "spec.sessions[2]: Invalid value: must be a string, or an object with name and state",
            ],
            id="neither",
        ),
        pytest.param(
            [{"name": "a", "state": "asleep"}],
            ['spec.sessions[0].state: Unsupported value: "asleep": supported values: started, stopped'],
            id="unknown state",
        ),
        pytest.param(["a", {"name": "a"}], ['spec.sessions[1].name: Duplicate value: "a"'], id="repeated as an object"),
        pytest.param(["a", "a"], ['spec.sessions[1]: Duplicate value: "a"'], id="repeated as text"),
        pytest.param(
            ["a", "a-data"],
            ['spec.sessions[1]: Invalid value: the host "lab-a-data" is already made of spec.sessions[0]'],
            id="both fields are v1beta1's",
        ),
    ],
)
def test_sessions_of_v1beta1(items: list[Any], expected: list[str]) -> None:
    assert said(claim(V1BETA1, sessions=items)) == expected


def test_classes_of_v1beta1_databases_are_names() -> None:
    databases = {"pg0": database("a", storageClassName="A b", backupStorageClassName="slow")}
    assert [error.path for error in validate(Submission(claim(V1BETA1, databases=databases), None))] == [
        "spec.databases[pg0].storageClassName"
    ]


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"metadata": {"name": "lab"}}, id="no spec"),
        pytest.param({"metadata": {"name": "lab"}, "spec": None}, id="null spec"),
        pytest.param({"metadata": {"name": "lab"}, "spec": []}, id="list for a spec"),
        pytest.param({"spec": {"sessions": 3}}, id="number for sessions"),
    ],
)
@pytest.mark.parametrize("version", [V1BETA1, V1BETA2])
def test_what_is_no_claim_is_refused(version: str, broken: Manifest) -> None:
    assert validate(Submission({"apiVersion": version} | broken, None)) != []


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("default", "kube", "kube-system", "kube-public", "kube-node-lease", "kube-anything"),
        *("educates", "educates-x", "datalabd", "datalabd-x", "pkg-internal"),
        *("keycloak", "cert-manager", "crossplane-system", "ingress-nginx", "ingress-apisix", "projectcontour"),
        *("account", "account-console", "admin-cli", "broker", "realm-management", "security-admin-console"),
    ],
)
def test_reserved_name(name: str) -> None:
    assert said(claim(name=name)) == [
        f'metadata.name: Invalid value: "{name}": is a reserved name; choose another name'
    ]


@pytest.mark.parametrize("name", ["team", "objects", "gateways", "minio"])
def test_namespaces_that_are_in_use(name: str) -> None:
    data = {
        "storage": {"secretNamespace": "objects"},
        "database": {"gateway": {"parentNamespace": "gateways"}},
        "network": {"internalEgress": [{"namespace": "minio"}]},
    }
    (error,) = said(claim(name=name), None, environment(**data))
    assert error.startswith(f'metadata.name: Invalid value: "{name}": is ')


def test_namespace_of_keycloaks_secret() -> None:
    iam = {"url": "https://id.example.org", "adminSecret": {"namespace": "identity", "name": "admin"}}
    (error,) = said(claim(name="identity"), None, environment(iam=iam))
    assert error.endswith("is a namespace of the platform; choose another name")


def test_audience_of_the_platform() -> None:
    (error,) = said(claim(name="workspace-api"), None, environment(iam={"extraAudiences": ["workspace-api"]}))
    assert error.endswith("is an audience of the platform; choose another name")


def test_session_namespace_that_is_reserved() -> None:
    assert said(claim(name="cert", sessions=sessions("manager"))) == [
        'spec.sessions[0].name: Invalid value: "cert-manager": is a reserved name; choose another name'
    ]


@pytest.mark.parametrize(
    ("name", "session"), [pytest.param("auth", None, id="login"), pytest.param("object", "store", id="object storage")]
)
def test_hosts_of_the_platform(name: str, session: str | None) -> None:
    written = claim(name=name, sessions=sessions(session) if session else [])
    (error,) = said(written, None, environment(storage={"endpoint": "https://object-store.lab.example.org"}))
    assert error.endswith("is a host of the platform; choose another name")


@pytest.mark.parametrize("name", ["Lab", "1lab", "a.b", "x" * 64])
def test_name_that_cannot_be_a_service(name: str) -> None:
    assert validate(Submission(claim(name=name), None))[0].path == "metadata.name"


def test_a_name_still_to_be_generated_is_not_judged() -> None:
    written = claim()
    written["metadata"] = {"generateName": "lab-"}
    assert said(written) == []


def test_host_of_a_database_has_to_fit() -> None:
    (error,) = said(claim(name="x" * 26, databases={"p" * 37: database("a")}))
    assert error.startswith("spec.databases[" + "p" * 37 + "]: Too long:")


def test_clash_within_the_claim_between_server_and_session() -> None:
    (error,) = said(claim(name="a", sessions=sessions("a"), databases={"a": database("x")}))
    assert error == 'spec.databases[a]: Invalid value: the host "a-a" is already made of spec.sessions[0].name'


# --- environment ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "data", "expected"),
    [
        pytest.param(
            {"persistence": {"storageClassName": "fast"}},
            {"storageClasses": {"allowed": ["slow", "slower"]}},
            ['spec.persistence.storageClassName: Unsupported value: "fast": supported values: slow, slower'],
            id="class that is not allowed",
        ),
        pytest.param(
            {"persistence": {"storageClassName": "slower"}},
            {"storageClasses": {"allowed": ["slow", "slower"]}},
            [],
            id="class",
        ),
        pytest.param({"persistence": {"storageClassName": "fast"}}, {}, [], id="any class"),
        pytest.param(
            {"security": {"policy": "privileged"}},
            {},
            [
                'spec.security.policy: Forbidden: "privileged" is not among what environment courses allows: '
                "restricted, "
                "baseline"
            ],
            id="privileged has to be allowed",
        ),
        pytest.param(
            {"security": {"policy": "privileged"}}, {"allowed": {"policies": ["privileged"]}}, [], id="allowed"
        ),
        pytest.param(
            {"security": {"kubernetesRole": "admin"}},
            {"allowed": {"kubernetesRoles": ["view"]}},
            ['spec.security.kubernetesRole: Forbidden: "admin" is not among what environment courses allows: view'],
            id="Kubernetes role",
        ),
        pytest.param(
            {"quota": {"budget": "large"}},
            {"allowed": {"budgets": ["small", "medium"]}},
            ['spec.quota.budget: Forbidden: "large" is not among what environment courses allows: small, medium'],
            id="budget",
        ),
        pytest.param(
            {"vcluster": True},
            {"allowed": {"vcluster": False}},
            ["spec.vcluster: Forbidden: environment courses allows no virtual clusters"],
            id="virtual cluster",
        ),
        pytest.param(
            {},
            {"allowed": {"namespaces": ["others"]}},
            ["metadata.namespace: Forbidden: environment courses is not open to namespace team"],
            id="namespace",
        ),
        pytest.param({}, {"allowed": {"namespaces": ["team"]}}, [], id="namespace that is allowed"),
        pytest.param(
            {"files": [{"http": {"url": "https://10.9.8.7/"}}]},
            {"network": {"blacklistIPs": ["10.9.0.0/16"]}},
            [
                'spec.files[0].http.url: Invalid value: "https://10.9.8.7/": must not point at a loopback, '
                "link-local, metadata or blocked address"
            ],
            id="address the operator blocks",
        ),
    ],
)
def test_what_the_environment_allows(spec: dict[str, Any], data: dict[str, Any], expected: list[str]) -> None:
    assert said(claim(**spec), None, environment(**data)) == expected


# --- updates ----------------------------------------------------------------------------------------------------------


def test_a_claim_being_deleted_is_left_in_peace() -> None:
    written = claim(users=["", ""])
    written["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert said(written, claim()) == []


def test_an_invalid_claim_can_be_labelled() -> None:
    old = claim(users=["joe", "joe"], sessions=sessions("A"))
    new = deepcopy(old)
    new["metadata"]["labels"] = {"a": "b"}
    assert said(new, old) == []


def test_an_invalid_claim_can_be_mended() -> None:
    assert said(claim(), claim(users=5)) == []


def test_an_update_is_blamed_for_its_own_mistakes_only() -> None:
    old = claim(users=["joe", "joe"])
    new = claim(users=["joe", "joe"], sessions=sessions("a", "a"))
    assert said(new, old) == ['spec.sessions[1].name: Duplicate value: "a"']


def test_another_environment_is_a_new_judgement() -> None:
    old = claim(security={"policy": "privileged"})
    new = deepcopy(old)
    new["metadata"]["annotations"] = {"datalabs.pkg.internal/environment": "courses"}
    assert len(said(new, old, environment())) == 1


def test_the_same_environment_by_label_is_not() -> None:
    old = claim(security={"policy": "privileged"})
    old["metadata"]["annotations"] = {"datalabs.pkg.internal/environment": "courses"}
    new = claim(security={"policy": "privileged"})
    new["metadata"]["labels"] = {"datalabs.pkg.internal/environment": " courses "}
    assert said(new, old, environment()) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param(
            {"sessions": sessions("a"), "quota": {"storage": "2Gi"}},
            {"sessions": sessions("a"), "quota": {"storage": "1Gi"}},
            ["spec.quota.storage: Forbidden: may not be less than before, 2Gi: volumes cannot shrink"],
            id="home directory shrinks",
        ),
        pytest.param(
            {"sessions": sessions("a"), "quota": {"storage": "2Gi"}},
            {"sessions": sessions("a")},
            ["spec.quota.storage: Forbidden: may not be less than before, 2Gi: volumes cannot shrink"],
            id="home directory shrinks to the environment's default",
        ),
        pytest.param(
            {"sessions": sessions("a"), "quota": {"storage": "1Gi"}},
            {"sessions": sessions("a"), "quota": {"storage": "1024Mi"}},
            [],
            id="the same in other words",
        ),
        pytest.param(
            {"quota": {"storage": "2Gi"}},
            {"quota": {"storage": "1Gi"}, "sessions": sessions("a")},
            [],
            id="no volume yet",
        ),
        pytest.param(
            {"sessions": sessions("a"), "quota": {"storage": "1Gi"}},
            {"sessions": sessions("a"), "quota": {"storage": "2Gi"}},
            [],
            id="home directory grows",
        ),
        pytest.param(
            {"databases": {"pg0": database("a", storage="2Gi", backup="2Gi")}},
            {"databases": {"pg0": database("a", storage="1Gi", backup="1G")}},
            [
                "spec.databases[pg0].storage: Forbidden: may not be less than before, 2Gi: volumes cannot shrink",
                "spec.databases[pg0].backupStorage: Forbidden: may not be less than before, 2Gi: volumes cannot shrink",
            ],
            id="database shrinks",
        ),
        pytest.param(
            {"documentStores": {"a": {"storage": "2Gi"}}},
            {"documentStores": {"a": {"storage": "1Gi"}, "b": STORE}},
            ["spec.documentStores[a].storage: Forbidden: may not be less than before, 2Gi: volumes cannot shrink"],
            id="document store shrinks",
        ),
        pytest.param(
            {"documentStores": {"a": STORE}},
            {"documentStores": {"a": {"storage": "2Gi"}}},
            [
                "spec.documentStores[a].storage: Forbidden: may not be more than before, 1Gi: its operator does not "
                "resize volumes; add a larger store under another name"
            ],
            id="document store grows",
        ),
        pytest.param(
            {"vectorStores": {"a": STORE}}, {"vectorStores": {"a": {"storage": "2Gi"}}}, [], id="vector store grows"
        ),
        pytest.param(
            {"cacheStores": {"a": STORE}}, {"cacheStores": {"a": {"storage": "2Gi"}}}, [], id="cache store grows"
        ),
        pytest.param(
            {"cacheStores": {"a": {"storage": "2Gi"}}},
            {"cacheStores": {"a": STORE}},
            ["spec.cacheStores[a].storage: Forbidden: may not be less than before, 2Gi: volumes cannot shrink"],
            id="cache store shrinks",
        ),
        pytest.param(
            {"vectorStores": {"a": {"storage": "2Gi"}}},
            {"vectorStores": {"a": STORE}},
            ["spec.vectorStores[a].storage: Forbidden: may not be less than before, 2Gi: volumes cannot shrink"],
            id="vector store shrinks",
        ),
        pytest.param(
            {"sessions": sessions("a"), "persistence": {"storageClassName": "slow"}},
            {"sessions": sessions("a"), "persistence": {"storageClassName": "fast"}},
            [
                'spec.persistence.storageClassName: Forbidden: must stay "slow": the volume of session a exists, and a '
                "volume cannot change its class"
            ],
            id="class changes",
        ),
        pytest.param(
            {"sessions": sessions("a")},
            {"sessions": sessions("a"), "persistence": {"storageClassName": "slow"}},
            [],
            id="the environment's default, now by name",
        ),
        pytest.param(
            {"persistence": {"storageClassName": "slow"}, "sessions": sessions("a")},
            {"persistence": {"storageClassName": "fast"}, "sessions": sessions("b")},
            [],
            id="no session keeps its volume",
        ),
    ],
)
def test_updates(old: dict[str, Any], new: dict[str, Any], expected: list[str]) -> None:
    allowed = environment(storageClasses={"allowed": ["slow", "fast"]})
    assert said(claim(**new), claim(**old), allowed) == expected


def test_without_an_environment_an_unstated_size_is_not_compared() -> None:
    assert said(claim(sessions=sessions("a")), claim(sessions=sessions("a"), quota={"storage": "9Gi"})) == []


def test_class_of_a_v1beta1_database_stays() -> None:
    old = claim(V1BETA1, databases={"pg0": database("a", storageClassName="slow")})
    new = claim(V1BETA1, databases={"pg0": database("a", storageClassName="fast")})
    assert said(new, old) == [
        'spec.databases[pg0].storageClassName: Forbidden: must stay "slow": a volume cannot change its class'
    ]


@pytest.mark.parametrize(
    ("live", "stays"),
    [
        pytest.param(None, ["slow"], id="unknown: that of the claim"),
        pytest.param({}, [], id="no server yet"),
        pytest.param({"pg0": ("fast", None)}, [], id="what the volume has"),
        pytest.param({"pg0": (None, "fast")}, [""], id="another than the volume has"),
    ],
)
def test_class_of_a_database_is_compared_with_its_volume(live: Any, stays: list[str]) -> None:
    old = claim(V1BETA1, databases={"pg0": database("a", storageClassName="slow")})
    new = claim(V1BETA1, databases={"pg0": database("a", storageClassName="fast")})
    assert said(new, old, volumes=VolumeClasses(servers=live)) == [
        f'spec.databases[pg0].storageClassName: Forbidden: must stay "{class_}": a volume cannot change its class'
        for class_ in stays
    ]


@pytest.mark.parametrize(
    ("live", "stays"),
    [
        pytest.param(None, ['"slow": the volume of session a'], id="unknown: that of the claim"),
        pytest.param({}, [], id="no volume yet"),
        pytest.param({"a": "fast"}, [], id="what the volume has"),
        pytest.param({"a": "fast", "b": None}, ['"": the volume of session b'], id="another than a volume has"),
    ],
)
def test_class_of_homes_is_compared_with_their_volumes(live: Any, stays: list[str]) -> None:
    old = claim(sessions=sessions("a", "b"), persistence={"storageClassName": "slow"})
    new = claim(sessions=sessions("a", "b"), persistence={"storageClassName": "fast"})
    assert said(new, old, volumes=VolumeClasses(homes=live)) == [
        f"spec.persistence.storageClassName: Forbidden: must stay {of} exists, and a volume cannot change its class"
        for of in stays
    ]


def test_class_of_a_v1beta1_database_may_be_the_environments_by_name() -> None:
    old = claim(V1BETA1, databases={"pg0": database("a")})
    new = claim(V1BETA1, databases={"pg0": database("a", storageClassName="slow", backupStorageClassName="slower")})
    settings = {"storageClassName": "slow", "backupStorageClassName": "slower"}
    assert said(new, old, environment(database=settings)) == []


def test_a_v1beta2_update_cannot_change_what_it_cannot_say() -> None:
    old = claim(V1BETA1, databases={"pg0": database("a", storageClassName="slow")})
    assert said(claim(databases={"pg0": database("a")}), to_v1beta2(old)) == []


# --- other claims -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mine", "other", "expected"),
    [
        pytest.param(claim(), Names("other"), [], id="nothing in common"),
        pytest.param(
            claim(),
            Names("lab"),
            ['metadata.name: Invalid value: the namespace "lab" belongs to another lab'],
            id="same name",
        ),
        pytest.param(
            claim(name="a", sessions=sessions("x", "b")),
            Names("a-b"),
            ['spec.sessions[1].name: Invalid value: the namespace "a-b" belongs to another lab'],
            id="session like a lab",
        ),
        pytest.param(
            claim(name="a-b"),
            Names("a", ("b",)),
            ['metadata.name: Invalid value: the namespace "a-b" belongs to another lab'],
            id="lab like a session",
        ),
        pytest.param(
            claim(name="a", sessions=sessions("b-c")),
            Names("a-b", ("c",)),
            ['spec.sessions[0].name: Invalid value: the namespace "a-b-c" belongs to another lab'],
            id="sessions alike",
        ),
        pytest.param(
            claim(V1BETA1, name="s", sessions=["a"]),
            Names("data-s", ("a",)),
            ['spec.sessions[0]: Invalid value: the host "data-s-a" belongs to another lab'],
            id="host of the data browser; in v1beta1's words",
        ),
        pytest.param(
            claim(name="x-admin"),
            Names("x"),
            ['metadata.name: Invalid value: the group "x-admin" belongs to another lab'],
            id="group of administrators",
        ),
        pytest.param(
            claim(name="s-jeff", databases={"pg0": database("a")}),
            Names("pg0-s", ("jeff",)),
            ['spec.databases[pg0]: Invalid value: the host "pg0-s-jeff" belongs to another lab'],
            id="host of a database",
        ),
    ],
)
def test_clashes(mine: Manifest, other: Names, expected: list[str]) -> None:
    others = [(NamespacedName("far", "unrelated"), Names("unrelated", ("z",))), (NamespacedName("far", "b"), other)]
    assert [str(error) for error in clashes(mine, others)] == expected


def test_a_lab_of_the_same_namespace_is_named() -> None:
    others = [(NamespacedName("team", "a-b"), Names("a-b"))]
    assert [str(error) for error in clashes(claim(name="a", sessions=sessions("b")), others)] == [
        'spec.sessions[0].name: Invalid value: the namespace "a-b" belongs to lab a-b'
    ]


A_B = Rival(NamespacedName("far", "a-b"), Names("a-b"), None, comes_first=False)


@pytest.mark.parametrize(
    ("held", "rival", "expected"),
    [
        pytest.param(None, A_B, set(), id="whoever comes first has what nobody has yet"),
        pytest.param(None, A_B._replace(comes_first=True), {"a-b"}, id="which may be the other"),
        pytest.param(Names("a"), A_B._replace(held=Names("a-b")), {"a-b"}, id="who has it keeps it"),
        pytest.param(Names("a", ("b",)), A_B._replace(comes_first=True), set(), id="which may be this one"),
        pytest.param(
            Names("a"), A_B._replace(comes_first=True), {"a-b"}, id="something else of this one's counts for nothing"
        ),
        pytest.param(
            Names("a", ("b",)),
            A_B._replace(held=Names("a-b"), comes_first=True),
            {"a-b"},
            id="of two who have it, the first",
        ),
        pytest.param(Names("a", ("b",)), A_B._replace(held=Names("a-b")), set(), id="and not the second"),
        pytest.param(
            None,
            Rival(NamespacedName("far", "x"), Names("x", ("y",)), Names("x"), comes_first=True),
            set(),
            id="nothing in common",
        ),
    ],
)
def test_names_lost(held: Names | None, rival: Rival, expected: set[str]) -> None:
    found = names_lost(claim(name="a", sessions=sessions("c", "b")), held, [rival])
    assert {name for _, name in found} == expected
    assert set(found.values()) <= {rival.key}


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        pytest.param(
            None,
            [
                'metadata.name: Invalid value: "a": a namespace of that name exists',
                'spec.sessions[0].name: Invalid value: "a-b": a namespace of that name exists',
                'spec.sessions[1].name: Invalid value: "a-c-vc": a namespace of that name exists',
            ],
            id="of a new claim",
        ),
        pytest.param(
            claim(name="a", sessions=sessions("b")),
            ['spec.sessions[1].name: Invalid value: "a-c-vc": a namespace of that name exists'],
            id="of a new session",
        ),
    ],
)
def test_occupied(before: Manifest | None, expected: list[str]) -> None:
    found = occupied(claim(name="a", sessions=sessions("b", "c", "d")), before, {"a", "a-b", "a-b-vc", "a-c-vc", "z"})
    assert [
        str(error).removesuffix(" and is not a lab's; the lab would need it for itself") for error in found
    ] == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        pytest.param(
            claim(V1BETA1, sessions=["a", {"name": "b"}, 3], databases={"pg0": {}}),
            Names("lab", ("a", "b"), ("pg0",)),
            id="v1beta1",
        ),
        pytest.param(claim(sessions=sessions("a")), Names("lab", ("a",)), id="v1beta2"),
        pytest.param({"apiVersion": V1BETA2, "spec": {"sessions": 3}}, Names(""), id="hardly anything"),
    ],
)
def test_names_of(written: Manifest, expected: Names) -> None:
    assert names_of(written) == expected


# --- warnings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param({}, [], id="nothing to say"),
        pytest.param(
            {"userOverrides": {"joe": {"role": "user"}}},
            ["spec.userOverrides[joe].role: has no effect, the first of spec.users is always an administrator"],
            id="demoted first user",
        ),
        pytest.param(
            {"users": ["Joe"]},
            ["spec.users[0]: Keycloak knows user names in lower case only; joe is looked for"],
            id="capitals",
        ),
        pytest.param({"users": []}, [], id="nobody"),
        pytest.param(
            {"crossplane": {"compositionRef": {"name": "datalab"}}},
            ["spec.crossplane: is ignored: no composition makes this lab"],
            id="written for the composition",
        ),
        pytest.param({"secretName": " a "}, ["spec.secretName: white space around it is dropped"], id="white space"),
        pytest.param(
            {"files": [{"http": {"url": "HTTP://example.org"}}]},
            ["spec.files[0].http.url: http can be read and changed on its way; use https"],
            id="http",
        ),
        pytest.param(
            {"files": [{"image": {"url": "example.org/a", "dangerousSkipTLSVerify": True}}]},
            ["spec.files[0].image.dangerousSkipTLSVerify: anybody on the way can replace the files"],
            id="unverified registry",
        ),
        pytest.param(
            {"security": {"externalEgress": False}, "files": [{"git": {"url": "https://example.org", "ref": "main"}}]},
            ["spec.files: can only come from inside the cluster, because externalEgress is false"],
            id="files out of reach",
        ),
        pytest.param(
            {"security": {"policy": "privileged"}},
            ["spec.security.policy: privileged lets session users take over the node their session runs on"],
            id="privileged",
        ),
        pytest.param(
            {"users": ["joe", "jane.doe@x"], "databases": {"pg0": database("a")}},
            ["spec.users: no PostgreSQL role for jane.doe@x: PGO does not take such names"],
            id="user that PGO refuses",
        ),
        pytest.param(
            {"users": ["postgres", *(f"u{n}" for n in range(64))], "databases": {"pg0": database("a")}},
            ["spec.users: no PostgreSQL role for u63: a server has 63 at most"],
            id="more users than PGO takes",
        ),
        pytest.param({"quota": {"memory": "0"}}, [], id="what is refused needs no warning"),
    ],
)
def test_warnings(spec: dict[str, Any], expected: list[str]) -> None:
    assert warnings(Submission(claim(**spec), None)) == expected


def test_warning_about_members_called_as_the_roles_of_a_lab() -> None:
    written = claim(users=["joe", "datalab-a"], databases={"pg0": database("a")})
    theirs = environment(database={"superuser": False})
    assert warnings(Submission(written, environment())) == []
    assert warnings(Submission(written, theirs)) == [
        "spec.users: no PostgreSQL role for datalab-a: the lab's own roles are called so"
    ]


def test_warning_about_egress_that_the_environment_closes() -> None:
    closed = environment(defaults={"security": {"externalEgress": False}})
    written = claim(files=[{"http": {"url": "https://example.org"}}])
    assert len(warnings(Submission(written, closed))) == 1


def test_an_update_is_warned_of_what_is_new() -> None:
    old = claim(security={"policy": "privileged"})
    new = claim(users=["Joe"], security={"policy": "privileged"})
    assert warnings(Submission(new, None), Submission(old, None)) == [
        "spec.users[0]: Keycloak knows user names in lower case only; joe is looked for"
    ]


def test_a_claim_being_deleted_is_not_warned() -> None:
    written = claim(users=["Joe"])
    written["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert warnings(Submission(written, None)) == []


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        pytest.param({}, [], id="nothing"),
        pytest.param({"a-c.lab.org": "Ingress n/r"}, ["spec.sessions[1].name"], id="main host"),
        pytest.param({"editor-a-b.lab.org": "Ingress n/r"}, ["spec.sessions[0].name"], id="editor"),
        pytest.param(
            {"a-b.lab.org": "Ingress n/r", "a-b-data.lab.org": "Ingress n/s"}, ["spec.sessions[0].name"], id="twice"
        ),
        pytest.param({"a-c.other.org": "Ingress n/r", "x.lab.org": "Ingress n/r"}, [], id="no host of a session"),
    ],
)
def test_sessions_whose_hosts_others_answer_for(taken: dict[str, str], expected: list[str]) -> None:
    found = answered_elsewhere(claim(name="a", sessions=sessions("b", "c")), "lab.org", taken)
    assert [(error.path, error.problem) for error in found] == [(path, Problem.FORBIDDEN) for path in expected]


FAR = "a route of another namespace"
ASK = "have those who run the platform remove it: `datalabd hosts` lists it"
REMOVE = "have that route removed"


@pytest.mark.parametrize(
    ("namespace", "named", "removal"),
    [
        pytest.param("n", "Ingress n/r", REMOVE, id="its own namespace"),
        pytest.param("team", FAR, ASK, id="another"),
        pytest.param("r", FAR, ASK, id="another, called like the route"),
        pytest.param("", FAR, ASK, id="none"),
    ],
)
def test_a_route_is_named_within_its_namespace_alone(namespace: str, named: str, removal: str) -> None:
    def details(host: str) -> list[str]:
        new = claim(name="a", namespace=namespace, sessions=sessions("b", "c"))
        return [error.detail for error in answered_elsewhere(new, "lab.org", {host: "Ingress n/r"})]

    assert details("a-b.lab.org") == [f"{named} answers for its host a-b.lab.org: choose another name, or {removal}"]
    assert details("") == [f"{named} leads into namespace a, past what protects sessions: {removal}"] * 2


CLASSED = {"names": ["a"], "storage": "1Gi", "backupStorage": "1Gi"}


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        pytest.param({"storageClassName": "fast"}, ["spec.databases[pg].storageClassName"], id="of data"),
        pytest.param(
            {"backupStorageClassName": "fast"}, ["spec.databases[pg].backupStorageClassName"], id="of backups"
        ),
        pytest.param({"storageClassName": "slow"}, [], id="allowed"),
        pytest.param({"backupStorageClassName": "tape"}, [], id="the environment's own for it"),
        pytest.param({"storageClassName": "tape"}, ["spec.databases[pg].storageClassName"], id="its own for another"),
        pytest.param({}, [], id="none"),
    ],
)
def test_databases_are_of_classes_that_are_allowed(classes: dict[str, str], expected: list[str]) -> None:
    within = environment(storageClasses={"allowed": ["slow"]}, database={"backupStorageClassName": "tape"})
    made = claim(databases={"pg": CLASSED | classes}) | {"apiVersion": V1BETA1}
    assert [error.path for error in validate(Submission(made, within))] == expected
    assert validate(Submission(made, None)) == []
    # What exists is left alone.
    assert (
        validate(Submission(made | {"spec": made["spec"] | {"users": ["bob"]}}, within), Submission(made, within)) == []
    )
