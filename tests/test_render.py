"""`datalabd render`, as people call it: files in, objects out, and everything else on the other channel."""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from datalabd.__main__ import main
from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import CLAIM_UID, ENVIRONMENT, RETAINED, STORAGE_CLAIM, V1BETA1, V1BETA2, Manifest
from datalabd.lab import resolve
from datalabd.observed import Observed
from datalabd.plan import plan
from datalabd.plan.realm import realm_state
from datalabd.render import CLAIMS_MAX, DEPTH_MAX, INPUT_MAX, VALUES_MAX, as_yaml
from hack.cluster import Cluster
from hack.deadlines import scaled
from hack.standins.crds import crds, store_crds
from tests.reference import SHARED, vector

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's, where it was built: ten times as fast."""
CROSSPLANE = "apiextensions.crossplane.io/v1beta1"
OURS = "pkg.internal/v1beta1"
CIDRS = {"apiServerCIDRs": ["10.0.0.1/32"]}
ACCESS, SECRET = "the-access-key", "the-secret-key"


class Call:
    """One call of the command line, with files of its own."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._directory = directory
        self._capsys = capsys

    def file(self, name: str, content: Any) -> str:
        """A file of these documents, or of this text; returns its path."""
        path = self._directory / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else yaml.safe_dump_all(content))
        return str(path)

    def __call__(self, claims: Any, environments: Any, live: Any = None, *options: str) -> tuple[int, str, list[str]]:
        """Exit code, stdout, and the lines of stderr."""
        arguments = ["render", "--claim", self.file("claims", claims)]
        arguments += ["--environment", self.file("environments", environments)]
        arguments += [] if live is None else ["--cluster", self.file("cluster", live)]
        code = main([*arguments, *options])
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err.splitlines()

    def objects(self, claims: Any, environments: Any, live: Any = None) -> list[Manifest]:
        """The Kubernetes objects that a call that succeeds prints."""
        code, out, err = self(claims, environments, live)
        assert code == 0, err
        return parsed(out)

    def mistakes(self, claims: Any, environments: Any, live: Any = None) -> list[str]:
        """What a call that fails says, without the name of the program; stdout is empty."""
        code, out, err = self(claims, environments, live)
        assert (code, out) == (1, "")
        return [line.removeprefix("datalabd: ") for line in err]


def parsed(out: str) -> list[Manifest]:
    """The Kubernetes objects of what was printed."""
    return [document for document in yaml.load_all(out, Loader=LOADER) if "apiVersion" in document]


@pytest.fixture
def call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    """The command line."""
    return Call(tmp_path, capsys)


def claim(name: str = "lab", version: str = V1BETA2, metadata: Manifest | None = None, **spec: Any) -> Manifest:
    return {
        "apiVersion": version,
        "kind": "Datalab",
        "metadata": {"name": name, "namespace": "team"} | (metadata or {}),
        "spec": {"users": ["ann"]} | spec,
    }


def environment(name: str = "datalab", version: str = OURS, **data: Any) -> Manifest:
    return {
        "apiVersion": version,
        "kind": "EnvironmentConfig",
        "metadata": {"name": name},
        "data": {"ingress": {"domain": f"{name}.example.org"}, "network": CIDRS} | data,
    }


def secret(namespace: str, name: str, metadata: Manifest | None = None, **values: str) -> Manifest:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace} | (metadata or {}),
        "data": data,
    }


STORAGE = secret("team", "lab", AWS_ACCESS_KEY_ID=ACCESS, AWS_SECRET_ACCESS_KEY=SECRET)


def one(objects: list[Manifest], kind: str, name: str) -> Manifest:
    (found,) = [obj for obj in objects if (obj["kind"], obj["metadata"]["name"]) == (kind, name)]
    return found


def value(secret: Manifest, key: str) -> str:
    return base64.b64decode(secret["data"][key]).decode()


def ids(objects: list[Manifest]) -> list[tuple[str, str, str]]:
    return [(obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]) for obj in objects]


# --- what is printed --------------------------------------------------------------------------------------------------


def test_order_is_that_of_apply_and_gates_are_ignored(call: Call) -> None:
    found = ids(call.objects([claim(sessions=[{"name": "main"}])], [environment()], [STORAGE]))
    closed = [at for at in found if at[0] != "NetworkPolicy"]
    assert closed == [
        ("Secret", "team", "lab-login"),
        ("Secret", "team", "lab-datalab"),
        ("Workshop", "", "lab"),
        ("WorkshopEnvironment", "", "lab"),
        ("PersistentVolumeClaim", "lab", "lab-datalab"),
        ("PersistentVolumeClaim", "lab", "lab-main-persistent"),
        ("WorkshopSession", "", "lab-main"),
    ]
    assert ("NetworkPolicy", "lab", "deny-egress") in found
    assert found.index(("NetworkPolicy", "lab-main", "deny-egress")) > found.index(closed[-1])


def test_is_the_plan_of_the_reconciler(call: Call) -> None:
    """Where nothing is random, and nothing seen, it is what `plan` says, but for the owner that does not exist."""
    written, within = claim(sessions=[{"name": "main", "state": "stopped"}]), environment(auth={"login": "storage"})
    stages = plan(
        resolve(written | {"spec": written["spec"] | {"secretName": "lab"}}, EnvironmentConfig.parse(within)),
        Observed(),
        lambda: "unused",
    ).stages
    assert call.objects([written], [within]) == [obj for stage in stages for obj in stage.objects]


def test_versions_say_the_same(call: Call) -> None:
    older = claim(version=V1BETA1, sessions=["main", {"name": "idle", "state": "paused"}])
    newer = claim(sessions=[{"name": "main"}, {"name": "idle", "state": "stopped"}])
    live = [STORAGE, *login("kept")]
    assert call.objects([older], [environment()], live) == call.objects([newer], [environment()], live)


def test_claims_come_one_after_the_other_in_the_namespace_they_name_or_default(call: Call) -> None:
    first, second = claim("first"), claim("second")
    del second["metadata"]["namespace"]
    objects = call.objects([first, None, second], [environment()])
    assert [obj["metadata"]["name"] for obj in objects if obj["kind"] == "Workshop"] == ["first", "second"]
    assert one(objects, "Secret", "first-login")["metadata"]["namespace"] == "team"
    assert one(objects, "Secret", "second-login")["metadata"]["namespace"] == "default"


def test_the_schema_fills_in_what_the_plan_copies(call: Call) -> None:
    """What the reconciler reads has passed the API server."""
    source = {"git": {"url": "https://example.org/x.git", "ref": "main", "secretRef": None}}
    (workshop,) = [o for o in call.objects([claim(files=[source])], [environment()]) if o["kind"] == "Workshop"]
    assert workshop["spec"]["workshop"]["files"] == [
        {"git": {"url": "https://example.org/x.git", "ref": "main"}, "path": "."}
    ]


def test_json_is_one_list_of_the_same(call: Call) -> None:
    live = [STORAGE, *login("kept")]
    code, out, _ = call([claim(sessions=[{"name": "main"}])], [environment()], live, "--output", "json")
    printed = json.loads(out)
    assert (code, printed["apiVersion"], printed["kind"]) == (0, "v1", "List")
    *objects, realm = printed["items"]
    assert objects == call.objects([claim(sessions=[{"name": "main"}])], [environment()], live)
    assert realm["kind"] == "KeycloakRealmState"


def test_what_keycloak_holds_comes_last(call: Call) -> None:
    claims, iam = [claim("one"), claim("two")], {"realm": "acme", "extraAudiences": "workspace-api"}
    _, out, _ = call(claims, [environment(iam=iam)])
    objects = list(yaml.load_all(out, Loader=LOADER))
    within = EnvironmentConfig.parse(environment(iam=iam))
    stored = [one | {"spec": one["spec"] | {"secretName": one["metadata"]["name"]}} for one in claims]
    assert objects[-2:] == [realm_state(resolve(one, within)).manifest() for one in stored]
    assert all("apiVersion" in obj for obj in objects[:-2])


def test_kubernetes_only_prints_what_has_an_api_version(call: Call) -> None:
    code, out, _ = call([claim()], [environment()], None, "--kubernetes-only")
    assert code == 0
    assert all("/" in obj["apiVersion"] or obj["apiVersion"] == "v1" for obj in yaml.load_all(out, Loader=LOADER))


def test_only_random_values_differ_between_calls(call: Call) -> None:
    claims = [claim(sessions=[{"name": "main"}], cacheStores={"prod": {"storage": "1Gi"}})]
    first, second = (call.objects(claims, [environment()], [STORAGE]) for _ in range(2))
    passwords = [value(one(objects, "Secret", "lab-login"), "password") for objects in (first, second)]
    assert passwords[0] != passwords[1]
    fixed = {"Secret", "WorkshopSession"}
    assert [o for o in first if o["kind"] not in fixed] == [o for o in second if o["kind"] not in fixed]
    assert ids(first) == ids(second)


def test_what_is_made_once_is_what_others_are_made_with(call: Call) -> None:
    objects = call.objects(
        [claim(sessions=[{"name": "main"}], cacheStores={"prod": {"storage": "1Gi"}})], [environment()], [STORAGE]
    )
    login = one(objects, "Secret", "lab-login")
    session = one(objects, "WorkshopSession", "lab-main")["spec"]["session"]
    assert (session["username"], session["password"]) == (value(login, "username"), value(login, "password"))
    password = value(one(objects, "Secret", "prod-redis-auth"), "password")
    assert value(one(objects, "Secret", "lab-datalab"), "REDIS_PROD_PASSWORD") == password
    assert f">{password} " in value(one(objects, "Secret", "prod-redis-acl"), "user.acl")


def test_what_is_made_of_what_is_made_once_is_there_too(call: Call) -> None:
    """The Secret for APISIX holds the client's secret, which is made first."""
    protected = environment(
        auth={"type": "delegated"},
        iam={"url": "https://id.example.org", "realm": "labs", "adminSecret": {"namespace": "iam", "name": "admin"}},
        ingress={"domain": "lab.example.org", "class": "apisix", "protection": {"type": "apisix"}},
    )
    objects = call.objects([claim(sessions=[{"name": "main"}])], [protected], [STORAGE])
    client, both = one(objects, "Secret", "lab-oauth-client"), one(objects, "Secret", "lab-apisix")
    plugins = one(objects, "ApisixPluginConfig", "workspace-oidc-lab")["spec"]["plugins"]
    assert {plugin["secretRef"] for plugin in plugins if "secretRef" in plugin} == {"lab-apisix"}
    assert value(both, "client_secret") == value(client, "clientSecret")


def test_owners_that_do_not_exist_are_left_out(call: Call) -> None:
    objects = call.objects([claim(sessions=[{"name": "main"}])], [environment()])
    assert all("ownerReferences" not in obj["metadata"] for obj in objects)


@pytest.mark.parametrize(
    "text", ["y", "N", "1e3", "12e34", "089", "0o17", "0x1F", "1_000", "on", "null", "2026-01-01", "~"]
)
def test_texts_are_quoted_that_kubectl_would_not_read_as_texts(text: str) -> None:
    assert as_yaml({"a": text}).splitlines()[1] in (f"a: '{text}'", f'a: "{text}"')


def test_yaml_has_plain_values_in_full() -> None:
    shared = {"text": "long " * 100, "number": 3, "half": 0.5, "flag": True}
    text = as_yaml({"first": shared, "second": shared})
    assert "&" not in text
    assert len(text.splitlines()) == 11
    assert list(yaml.load_all(text, Loader=LOADER)) == [{"first": shared, "second": shared}]


# --- environments -----------------------------------------------------------------------------------------------------


def domain(objects: list[Manifest], name: str = "lab") -> str:
    return str(one(objects, "WorkshopEnvironment", name)["spec"]["session"]["ingress"]["domain"])


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        pytest.param({}, "datalab", id="the default one"),
        pytest.param({"annotations": {ENVIRONMENT: "a"}}, "a", id="annotation"),
        pytest.param({"labels": {ENVIRONMENT: "b"}}, "b", id="label"),
        pytest.param({"annotations": {ENVIRONMENT: "a"}, "labels": {ENVIRONMENT: "b"}}, "a", id="annotation wins"),
    ],
)
def test_the_claim_chooses_its_environment(call: Call, metadata: Manifest, expected: str) -> None:
    environments = [environment("a"), environment("b", CROSSPLANE), environment()]
    assert domain(call.objects([claim(metadata=metadata)], environments)) == f"{expected}.example.org"


def test_ours_comes_before_crossplanes_of_the_same_name(call: Call) -> None:
    ours, theirs = environment(), environment(version=CROSSPLANE, ingress={"domain": "theirs.example.org"})
    assert domain(call.objects([claim()], [theirs, ours])) == "datalab.example.org"
    assert domain(call.objects([claim()], [theirs])) == "theirs.example.org"


def test_an_environment_that_nobody_chooses_may_be_invalid(call: Call) -> None:
    assert call.objects([claim()], [environment(), environment("other", auth={"type": "guess"})])


def test_environments_that_cannot_be_used_are_told_once(call: Call) -> None:
    bad = environment("bad", auth={"type": "guess"}, retention="Forget")
    metadata = {"annotations": {ENVIRONMENT: "bad"}}
    first, second = claim("first", metadata=metadata), claim("second", metadata=metadata)
    lost = claim("third", metadata={"annotations": {ENVIRONMENT: "lost"}})
    (bad_told, lost_told) = call.mistakes([first, second, lost], [bad])
    assert bad_told.startswith("EnvironmentConfig bad: ")
    assert "data.auth.type: Unsupported value" in bad_told
    assert 'data.retention: Unsupported value: "Forget"' in bad_told
    assert lost_told == "EnvironmentConfig lost: does not exist; --environment has none of that name"


def test_unknown_keys_of_our_environment_are_refused_as_the_api_server_does(call: Call) -> None:
    written = environment(ingress={"domain": "x.example.org", "protecton": {"type": "off"}})
    assert call.mistakes([claim()], [written]) == [
        "EnvironmentConfig datalab: data.ingress.protecton: Forbidden: unknown field"
    ]
    assert call.objects([claim()], [written | {"apiVersion": CROSSPLANE}])


def test_what_is_there_and_not_the_labs_is_told_and_given_no_new_password(call: Call) -> None:
    earlier = {
        "app.kubernetes.io/managed-by": "datalabd",
        "datalabs.pkg.internal/name": "lab",
        "datalabs.pkg.internal/namespace": "team",
        "datalabs.pkg.internal/uid": "uid-of-an-earlier-claim",
    }
    live = [
        claim(metadata={"uid": "uid"}),
        STORAGE,
        secret("team", "lab-login", username="theirs", password="theirs"),
        secret("lab", "cache-redis-auth", {"labels": earlier}, password="earlier"),
        secret("elsewhere", "cache-redis-auth", password="unrelated"),
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "lab", "uid": "ns"}},
    ]
    code, out, err = call([claim(cacheStores={"cache": {"storage": "1Gi"}})], [environment()], live)
    printed = ids(parsed(out))
    assert code == 0
    assert err == [
        "datalabd: Datalab team/lab: Secret team/lab-login left out: it exists, and belongs to something other than "
        "datalabd",
        "datalabd: Datalab team/lab: Secret lab/cache-redis-auth left out: it exists, and belongs to an earlier lab of "
        "this name",
        "datalabd: Datalab team/lab: Namespace lab exists, and is not this lab's: nothing can be made in there",
    ]
    assert {("Secret", "team", "lab-login"), ("Secret", "lab", "cache-redis-auth")}.isdisjoint(printed)
    assert "REDIS_CACHE_PASSWORD" not in one(parsed(out), "Secret", "lab-datalab")["data"]


def test_what_is_there_of_the_lab_keeps_its_password(call: Call) -> None:
    written, within = claim(cacheStores={"cache": {"storage": "1Gi"}}), environment()
    before = call.objects([written], [within], [STORAGE])
    labelled = [obj | {"metadata": obj["metadata"] | {"uid": f"uid-{n}"}} for n, obj in enumerate(before)]
    assert call.objects([written], [within], [STORAGE, *labelled]) == before


# --- mistakes ---------------------------------------------------------------------------------------------------------


def test_every_mistake_of_every_claim_is_told_by_its_field(call: Call) -> None:
    bad = claim(
        "bad",
        users=["jim", "jim"],
        quota={"budget": "huge"},
    )
    worse = claim("worse", version=V1BETA1, sessions=["a", "A"], security={"policy": "privileged"})
    typo = claim(
        "typo", sesions=[], databases={"pg0": {"names": ["a"], "storage": "1Gi", "backupStorage": "1Gi", "x": 1}}
    )
    assert call.mistakes([claim(), bad, worse, typo], [environment()]) == [
        'Datalab team/bad: spec.quota.budget: Unsupported value: "huge": supported values: '
        "small, medium, large, x-large, xx-large, xxx-large",
        "Datalab team/worse: spec.sessions[1]: Invalid value: \"A\": must be lower-case letters, digits and '-', "
        "beginning and ending with a letter or digit",
        "Datalab team/typo: spec.databases[pg0].x: Forbidden: unknown field",
        "Datalab team/typo: spec.sesions: Forbidden: unknown field",
    ]


def test_mistakes_that_no_schema_knows(call: Call) -> None:
    source = {"http": {"url": "http://169.254.169.254/latest"}}
    assert call.mistakes([claim(users=["jim", "jim"], files=[source])], [environment()]) == [
        'Datalab team/lab: spec.users[1]: Duplicate value: "jim"',
        'Datalab team/lab: spec.files[0].http.url: Invalid value: "http://169.254.169.254/latest": '
        "must not point at a loopback, link-local, metadata or blocked address",
    ]


def test_limits_of_the_environment_apply_to_its_own_defaults(call: Call) -> None:
    closed = environment(allowed={"budgets": ["small"]})
    (told,) = call.mistakes([claim()], [closed])
    assert told == "Datalab team/lab: spec.quota.budget: environment datalab allows small, not medium"


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        pytest.param(None, "Datalab, document 1: metadata: Invalid value: must be an object", id="none"),
        pytest.param({}, "Datalab, document 1: metadata.name: Required value:", id="no name"),
        pytest.param(
            {"name": "lab", "namespace": "T"},
            "Datalab T/lab: metadata.namespace: Invalid value: \"T\": must be lower-case letters, digits and '-', "
            "beginning and ending with a letter or digit",
            id="namespace",
        ),
        pytest.param(
            {"name": "lab", "labels": {"a": 1}},
            'Datalab default/lab: metadata.labels.a: Invalid value: "1": must be a valid string',
            id="label",
        ),
    ],
)
def test_metadata(call: Call, metadata: Any, expected: str) -> None:
    written = claim() | {"metadata": "text" if metadata is None else metadata}
    (told, *_) = call.mistakes([written], [environment()])
    assert told.replace(' "text":', "") == expected


def test_names_that_two_claims_derive(call: Call) -> None:
    taken = claim("taken", sessions=[{"name": "main"}])
    clash = claim("taken-main")
    assert call.mistakes([taken, clash, taken], [environment()]) == [
        'Datalab team/taken-main: metadata.name: Invalid value: the namespace "taken-main" belongs to lab taken',
        'Datalab team/taken: metadata.name: Duplicate value: "taken"',
        'Datalab team/taken: spec.sessions[0].name: Invalid value: the namespace "taken-main" belongs to '
        "lab taken-main",
    ]


def test_names_that_a_live_claim_or_a_retained_lab_derives(call: Call) -> None:
    elsewhere = claim(metadata={"namespace": "elsewhere", "uid": "u"})
    assert call.mistakes([claim()], [environment()], [elsewhere]) == [
        'Datalab team/lab: metadata.name: Invalid value: the namespace "lab" belongs to another lab'
    ]
    (kept,) = [o for o in call.objects([elsewhere], [environment()]) if o["kind"] == "WorkshopEnvironment"]
    assert call.mistakes([claim()], [environment()], [kept]) == [
        'Datalab team/lab: metadata.name: Invalid value: the namespace "lab" belongs to another lab'
    ]
    assert call.objects([elsewhere], [environment()], [kept])


def test_warnings_do_not_stop_it(call: Call) -> None:
    code, out, err = call([claim(users=["Ann"])], [environment()], [STORAGE])
    assert (code, bool(out)) == (0, True)
    assert err == [
        "datalabd: Datalab team/lab: warning: "
        "spec.users[0]: Keycloak knows user names in lower case only; ann is looked for"
    ]


# --- what is missing --------------------------------------------------------------------------------------------------


def test_what_cannot_be_made_is_told_with_the_reason(call: Call) -> None:
    code, out, err = call([claim()], [environment(network={})])
    assert code == 0
    assert "lab-datalab" not in [
        o["metadata"]["name"] for o in yaml.load_all(out, Loader=LOADER) if o["kind"] == "Secret"
    ]
    assert err == [
        "datalabd: Datalab team/lab: credentials left out: Secret team/lab does not exist; create it with "
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        "datalabd: Datalab team/lab: NetworkPolicy allow-api-server-egress left out: where the API server is, is not "
        "known; give the EndpointSlices of Service default/kubernetes, or set network.apiServerCIDRs in the "
        "environment",
    ]


def test_a_policy_that_the_environment_excludes_is_not_missed(call: Call) -> None:
    _, _, err = call([claim()], [environment(network={"excludePolicies": ["allow-api-server-egress"]})], [STORAGE])
    assert err == []


def test_a_database_whose_login_is_not_known(call: Call) -> None:
    database = {"names": ["dev"], "storage": "1Gi", "backupStorage": "1Gi"}
    claims = [claim(databases={"pg0": database})]
    _, _, err = call(claims, [environment()], [STORAGE])
    assert err == [
        "datalabd: Datalab team/lab: credentials without the login of database pg0: its operator has not made it"
    ]
    made = secret("lab", "pg0-pguser-postgres", host="pg0-primary.lab.svc", user="postgres", password="of-pgo")
    code, out, err = call(claims, [environment()], [STORAGE, made])
    assert (code, err) == (0, [])
    assert value(one(parsed(out), "Secret", "lab-datalab"), "POSTGRES_PG0_PASSWORD") == "of-pgo"


def test_no_secret_stands_on_the_other_channel(call: Call) -> None:
    broken = secret("team", "lab", AWS_ACCESS_KEY_ID=ACCESS) | {"data": {"AWS_SECRET_ACCESS_KEY": {"x": SECRET}}}
    code, out, err = call([claim()], [environment()], [broken])
    assert (code, out) == (1, "")
    assert err[0].endswith("document 1, Secret: data.AWS_SECRET_ACCESS_KEY: Invalid value: must be a valid string")
    text = f"apiVersion: v1\nkind: Secret\ndata:\n  AWS_SECRET_ACCESS_KEY: *{SECRET}\n"
    code, out, err2 = call([claim()], [environment()], text)
    assert (code, out) == (1, "")
    assert err2[0].endswith("is not valid YAML")
    _, _, err3 = call([claim()], [environment()], [secret("team", "lab", AWS_ACCESS_KEY_ID=ACCESS + "\n")])
    assert SECRET not in "".join(err + err2 + err3)
    assert ACCESS not in "".join(err + err2 + err3)


# --- live objects -----------------------------------------------------------------------------------------------------


def login(password: str, uid: str = "") -> list[Manifest]:
    """The login of `claim()` as the reconciler left it."""
    labels = {
        "app.kubernetes.io/managed-by": "datalabd",
        "datalabs.pkg.internal/name": "lab",
        "datalabs.pkg.internal/namespace": "team",
        CLAIM_UID: uid,
    }
    metadata = {
        "labels": labels,
        "annotations": {"datalabs.pkg.internal/applied": "x", "kubectl.kubernetes.io/last-applied-configuration": "{}"},
        "resourceVersion": "12",
        "uid": "login-uid",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "managedFields": [{"manager": "datalabd"}],
    }
    return [secret("team", "lab-login", metadata, username="lab", password=password)]


@pytest.mark.parametrize("known", ["claim", "live claim", "labels"])
def test_a_login_that_exists_is_kept(call: Call, known: str) -> None:
    written = claim(sessions=[{"name": "main"}], metadata={"uid": "u-1"} if known == "claim" else {})
    live = login("kept", "u-1") + ([claim(metadata={"uid": "u-1"})] if known == "live claim" else [])
    objects = call.objects([written], [environment()], live)
    kept = one(objects, "Secret", "lab-login")
    assert value(kept, "password") == "kept"
    assert set(kept["metadata"]) == {"name", "namespace", "labels", "annotations"}
    assert set(kept["metadata"]["annotations"]) == {"datalabs.pkg.internal/applied"}
    assert one(objects, "WorkshopSession", "lab-main")["spec"]["session"]["password"] == "kept"


def test_a_login_of_another_claim_is_not_taken(call: Call) -> None:
    (foreign,) = login("foreign", "u-2")
    _, out, err = call([claim(metadata={"uid": "u-1"})], [environment()], [foreign])
    assert ("Secret", "team", "lab-login") not in ids(parsed(out))
    assert "Secret team/lab-login left out: it exists, and belongs to an earlier lab of this name" in err[0]


def test_uids_of_several_claims_of_that_name_say_nothing(call: Call) -> None:
    (older,) = login("older", "u-1")
    (newer,) = login("newer", "u-2")
    newer["metadata"]["name"] = "lab-datalab"
    _, out, err = call([claim()], [environment()], [STORAGE, older, newer])
    assert [at for at in ids(parsed(out)) if at[0] == "Secret"] == []
    told = [line.partition("Secret ")[2].partition(" left out")[0] for line in err]
    assert told == ["team/lab-login", "team/lab-datalab"]


def home(size: str, **labels: str) -> Manifest:
    (like,) = login("")
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": like["metadata"]
        | {"name": "lab-main-persistent", "namespace": "lab", "labels": like["metadata"]["labels"] | labels},
        "spec": {"resources": {"requests": {"storage": size}}, "storageClassName": "old"},
    }


@pytest.mark.parametrize(
    ("live", "expected"), [("5Gi", "5Gi"), ("1Mi", "2Gi"), ("3221225472500m", "3221225472500m"), ("900m", "2Gi")]
)
def test_homes_keep_their_class_and_never_shrink(call: Call, live: str, expected: str) -> None:
    written = claim(sessions=[{"name": "main"}], quota={"storage": "2Gi"})
    objects = call.objects([written], [environment()], [home(live, **{RETAINED: "true"})])
    spec = one(objects, "PersistentVolumeClaim", "lab-main-persistent")["spec"]
    assert (spec["resources"]["requests"]["storage"], spec["storageClassName"]) == (expected, "old")


def test_sessions_belong_to_the_live_environment(call: Call) -> None:
    runtime = {
        "apiVersion": "training.educates.dev/v1beta1",
        "kind": "WorkshopEnvironment",
        "metadata": {"name": "lab", "uid": "e-1"},
        "status": {"educates": {"phase": "Running", "workshop": None}},
    }
    objects = call.objects([claim(sessions=[{"name": "main"}])], [environment()], [runtime])
    assert one(objects, "WorkshopSession", "lab-main")["metadata"]["ownerReferences"][0]["uid"] == "e-1"


def test_a_running_session_keeps_what_it_started_with(call: Call) -> None:
    mark = "datalabs.pkg.internal/started-with"
    written = claim(sessions=[{"name": "main"}])
    session = one(call.objects([written], [environment()]), "WorkshopSession", "lab-main")
    session["metadata"]["annotations"][mark] = "before"
    objects = call.objects([written], [environment()], [session])
    assert one(objects, "WorkshopSession", "lab-main")["metadata"]["annotations"][mark] == "before"


def test_the_api_server_is_where_its_endpoints_are(call: Call) -> None:
    def piece(name: str, service: str, address: str) -> Manifest:
        return {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": service}},
            "endpoints": [{"addresses": [address]}],
            "ports": [{"port": 6443}],
        }

    live = [STORAGE, piece("kubernetes", "kubernetes", "10.9.8.7"), piece("other", "other", "10.1.1.1")]
    code, out, err = call([claim()], [environment(network={})], live)
    assert (code, err) == (0, [])
    policy = one(parsed(out), "NetworkPolicy", "allow-api-server-egress")
    assert [rule["to"][0]["ipBlock"]["cidr"] for rule in policy["spec"]["egress"]] == ["10.9.8.7/32"]


def test_a_shared_storage_secret_needs_its_grant(call: Call) -> None:
    shared = environment(storage={"secretNamespace": "keys"})
    ungranted = STORAGE | {"metadata": {"name": "lab", "namespace": "keys"}}
    _, _, err = call([claim()], [shared], [ungranted])
    assert "Secret keys/lab does not exist, or is not granted to this lab" in err[0]
    granted = ungranted | {"metadata": ungranted["metadata"] | {"annotations": {STORAGE_CLAIM: "team/lab"}}}
    objects = call.objects([claim()], [shared], [granted])
    assert value(one(objects, "Secret", "lab-datalab"), "AWS_SECRET_ACCESS_KEY") == SECRET


def test_credentials_are_kept_as_they_were_while_their_source_is_away(call: Call) -> None:
    made = one(call.objects([claim()], [environment()], [STORAGE]), "Secret", "lab-datalab")
    code, out, err = call([claim()], [environment()], [made])
    assert (code, err) == (0, [])
    assert one(parsed(out), "Secret", "lab-datalab") == made


def test_lists_and_kinds_that_do_not_matter(call: Call) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}}
    other = STORAGE | {"apiVersion": "example.org/v1"}
    listed = {"apiVersion": "v1", "kind": "List", "items": [pod, STORAGE]}
    assert one(call.objects([claim()], [environment()], [listed]), "Secret", "lab-datalab")
    assert one(call.objects([claim()], [environment()], json.dumps(listed)), "Secret", "lab-datalab")
    _, _, err = call([claim()], [environment()], [pod, other])
    assert "Secret team/lab does not exist" in err[0]


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        pytest.param(home("much"), "PersistentVolumeClaim: spec.resources.requests.storage: Invalid value", id="size"),
        pytest.param(
            {"apiVersion": "v1", "kind": "Namespace"}, "Namespace: metadata: Required value", id="no metadata"
        ),
        pytest.param(
            {
                "apiVersion": "training.educates.dev/v1beta1",
                "kind": "WorkshopEnvironment",
                "metadata": {"name": "lab"},
                "status": "Running",
            },
            "WorkshopEnvironment: status: Invalid value: must be",
            id="status",
        ),
    ],
)
def test_objects_that_are_not_as_the_api_server_has_them(call: Call, obj: Manifest, expected: str) -> None:
    (told,) = call.mistakes([claim()], [environment()], [STORAGE, obj])
    assert f"document 2, {expected}" in told


# --- files ------------------------------------------------------------------------------------------------------------


def deep(levels: int) -> str:
    return "[" * levels + "]" * levels


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", f"holds no document: give a Datalab of {V1BETA1} or {V1BETA2}", id="empty"),
        pytest.param("- a\n", "document 1: must be an object", id="no object"),
        pytest.param("a: [\n", "line 2, column 1: is not valid YAML", id="broken"),
        pytest.param("{", "line 2, column 1: is not valid YAML", id="broken JSON"),
        pytest.param("a: b\n", f"document 1: is not a Datalab of {V1BETA1} or {V1BETA2}", id="other kind"),
        pytest.param(b"a: \xff", "is not UTF-8", id="bytes"),
        pytest.param("a: \x00", "is not valid YAML", id="control character"),
        pytest.param("a: .nan", "holds a number that JSON does not know", id="no number"),
        pytest.param(f"a: {2**63}", "holds an integer of more than 64 bits", id="large integer"),
        pytest.param(f"a: {-(2**63) - 1}", "holds an integer of more than 64 bits", id="small integer"),
        pytest.param(f"{2**63}: a", "holds an integer of more than 64 bits", id="large key"),
        pytest.param('{"a": "\\ud800"}', "holds a text that is not Unicode", id="half a character"),
        pytest.param('{"\\udc00": "a"}', "holds a text that is not Unicode", id="half a character in a key"),
        pytest.param("a: 0b_", "holds a number that cannot be read", id="number"),
        pytest.param("a: !!set {b}", "holds a value that JSON does not know", id="set"),
        pytest.param("null: b", "holds a key that is no text", id="key"),
        pytest.param("&a [*a]", f"is nested deeper than {DEPTH_MAX} levels", id="endless"),
        pytest.param(deep(20_000), f"is nested deeper than {DEPTH_MAX} levels", id="deep"),
        pytest.param('{"a": ' + deep(200_000) + "}", f"is nested deeper than {DEPTH_MAX} levels", id="deep JSON"),
        pytest.param(
            "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
            + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdef", "bcdefg", strict=True)),
            f"holds more than {VALUES_MAX} values",
            id="repeated",
        ),
        pytest.param("#" * (INPUT_MAX + 1), "is larger than 16 MiB", id="large"),
        pytest.param("{a: b}\n---\n" * (CLAIMS_MAX + 1), f"holds more than {CLAIMS_MAX} claims", id="many"),
    ],
)
def test_files_that_hold_no_claims(call: Call, tmp_path: Path, text: str | bytes, expected: str) -> None:
    assert call.mistakes(text, [environment()]) == [f"{tmp_path / 'claims'}: {expected}"]


def test_files_that_hold_no_environments(call: Call, tmp_path: Path) -> None:
    file = str(tmp_path / "environments")
    groups = "pkg.internal/v1beta1 or apiextensions.crossplane.io/v1beta1"
    assert call.mistakes([claim()], [claim()]) == [f"{file}: document 1: is not an EnvironmentConfig of {groups}"]
    nameless = environment() | {"metadata": {}}
    assert call.mistakes([claim()], [environment(), nameless, environment()]) == [
        f"{file}: document 2: metadata.name: Required value:",
        f'{file}: document 3: metadata.name: Duplicate value: "datalab"',
    ]


def test_keys_and_dates_are_read_as_kubectl_reads_them(call: Call) -> None:
    text = yaml.safe_dump(claim()) + "  userOverrides: {ann: {role: admin, grantedAt: 2025-01-10T19:00:00Z}}\n"
    package = environment(packages=[{"name": "x", "files": []}])
    within = yaml.safe_dump(package).replace("name: x", "name: x\n    built: 2025-01-10\n    2: two\n    true: yes")
    (workshop,) = [obj for obj in call.objects(text, within) if obj["kind"] == "Workshop"]
    assert workshop["spec"]["workshop"]["packages"] == [
        {"files": [], "name": "x", "built": "2025-01-10", "2": "two", "true": True}
    ]


def test_a_file_that_is_not_there(call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "--claim", str(tmp_path / "none"), "--environment", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"datalabd: {tmp_path / 'none'}: No such file or directory\n"


# --- the program ------------------------------------------------------------------------------------------------------


def program(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "datalabd", "render", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)


def test_standard_input_stands_for_one_file(call: Call) -> None:
    file = call.file("environments", [environment()])
    answer = program("--claim", "-", "--environment", file, stdin=yaml.safe_dump(claim()))
    assert answer.returncode == 0
    assert "Workshop" in [obj["kind"] for obj in yaml.load_all(answer.stdout, Loader=LOADER)]
    answer = program("--claim", "-", "--environment", file, stdin="a: b")
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr.startswith("datalabd: standard input: document 1: is not a Datalab")


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--claim", "-", "--environment", "-"], id="stdin twice"),
        pytest.param(["--claim", "x"], id="no environment"),
        pytest.param(["--claim", "x", "--environment", "x", "--output", "xml"], id="unknown output"),
    ],
)
def test_wrong_usage(arguments: list[str]) -> None:
    answer = program(*arguments)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr


def test_a_reader_that_has_seen_enough(call: Call) -> None:
    claims = call.file("claims", [claim(f"lab{number}") for number in range(20)])
    command = [sys.executable, "-m", "datalabd", "render", "--claim", claims]
    command += ["--environment", call.file("environments", [environment()])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "---\n"
        process.stdout.close()
        assert "Broken" not in process.stderr.read()
    assert process.returncode == 1


def test_it_starts_without_what_only_the_process_needs() -> None:
    check = "import sys, datalabd.render, datalabd.__main__; print({'kr8s', 'aiohttp'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True).stdout == "set()\n"


@pytest.mark.parametrize("name", ["001-lab", "002-lab", "004-lab"])
def test_reference_claims(call: Call, name: str) -> None:
    claims = vector(f"claims/{name}.yaml").read_text()
    code, out, err = call(claims, vector("environmentconfig.yaml").read_text())
    assert code == 0
    assert all("left out" in line for line in err)
    assert "Workshop" in [obj["kind"] for obj in yaml.load_all(out, Loader=LOADER)]


# --- kubectl ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def operators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane that knows the kinds of all operators, which that of other tests must not."""
    with Cluster.start(tmp_path_factory.mktemp("operators")) as cluster:
        if SHARED.exists():
            cluster.kubectl("apply", "--server-side", "-f", str(SHARED / "crds"))
        else:
            definitions = yaml.safe_dump_all(crds() + store_crds())
            cluster.kubectl("apply", "--server-side", "-f", "-", stdin=definitions)
        cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", f"--timeout={scaled(170):.0f}s")
        yield cluster


@pytest.mark.cluster
@pytest.mark.parametrize("output", ["yaml", "json"])
def test_kubectl_takes_what_is_printed(call: Call, operators: Cluster, output: str) -> None:
    """The API server checks every object against its schema, in namespaces that Educates would have made."""
    name = f"lab-{output}"
    written = claim(
        name,
        metadata={"namespace": "default"},
        sessions=[{"name": "y"}, {"name": "1e3", "state": "stopped"}],
        vcluster=True,
        files=[{"http": {"url": "https://example.org/x.tar.gz"}}],
        databases={"pg0": {"names": ["dev"], "storage": "1Gi", "backupStorage": "1Gi"}},
        documentStores={"prod": {"storage": "1Gi"}},
        cacheStores={"prod": {"storage": "1Gi"}},
        vectorStores={"prod": {"storage": "1Gi"}},
    )
    gateway = {"parentName": "gateway", "parentNamespace": "gateways", "sectionName": "postgres"}
    storage = secret("default", name, AWS_ACCESS_KEY_ID=ACCESS, AWS_SECRET_ACCESS_KEY=SECRET)
    code, out, _ = call(
        [written],
        [environment(database={"gateway": gateway})],
        [storage],
        "--output",
        output,
        "--kubernetes-only",
    )
    assert code == 0
    objects = json.loads(out)["items"] if output == "json" else parsed(out)
    namespaces = sorted({obj["metadata"].get("namespace", "default") for obj in objects} - {"default"})
    assert namespaces == [name, f"{name}-y", f"{name}-y-vc"]
    for namespace in namespaces:
        operators.kubectl("create", "namespace", namespace)
    answer = operators.kubectl("apply", "--dry-run=server", "-f", "-", "-o", "json", stdin=out)
    taken = json.loads(answer.stdout)["items"]
    assert ids(taken) == ids(objects)
    (session,) = [obj for obj in taken if obj["kind"] == "WorkshopSession"]
    assert session["spec"]["session"]["id"] == "y"


def test_a_client_has_one_secret_wherever_it_is_written(call: Call) -> None:
    iam = {"url": "https://id.example.org", "realm": "labs", "adminSecret": {"namespace": "iam", "name": "admin"}}
    objects = call.objects([claim()], [environment(iam=iam)], [STORAGE])
    secrets = {obj["metadata"]["name"]: obj["data"] for obj in objects if obj["kind"] == "Secret"}
    own, copy = secrets["lab-oauth-client"], secrets["lab-oauth2-client"]
    assert own == {"clientID": copy["client_id"], "clientSecret": copy["client_secret"]}
    assert base64.b64decode(own["clientID"]) == b"lab"
    assert len(base64.b64decode(own["clientSecret"])) >= 32
