from typing import Any

import pytest
from pydantic import ValidationError

from datalabd.api.conversion import to_v1beta2
from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import ENVIRONMENT, V1BETA1, Manifest, NamespacedName
from datalabd.api.v1beta2 import Budget, Datalab, KubernetesRole, Policy
from datalabd.errors import ClaimInvalid
from datalabd.lab import (
    DatabaseServer,
    Lab,
    Store,
    environment_name,
    last_domain,
    last_environment,
    resolve,
    storage_secret,
)
from tests.factories import claim, environment, lab

GIT = {"git": {"url": "https://example.org/a.git", "ref": "main"}, "includePaths": ["/docs/**"]}


def test_resolved_by_defaults() -> None:
    written = claim(files=[GIT])
    within = environment()
    assert resolve(written, within) == Lab(
        name="lab",
        namespace="team",
        uid="claim-uid",
        generation=3,
        claim=Datalab.parse(written),
        files=(GIT,),
        environment=within,
        memory="2Gi",
        storage="1Gi",
        budget=Budget.MEDIUM,
        policy=Policy.BASELINE,
        kubernetes_access=True,
        kubernetes_role=KubernetesRole.EDIT,
        external_egress=True,
        storage_class=None,
        registry_storage=None,
        storage_secret=NamespacedName("team", "lab"),
        databases=(),
        document_stores=(),
        cache_stores=(),
        vector_stores=(),
    )


DEFAULTS = {
    "quota": {"memory": "8Gi", "storage": "3Gi", "budget": "large"},
    "security": {
        "policy": "restricted",
        "kubernetesAccess": False,
        "kubernetesRole": "view",
        "externalEgress": False,
    },
}


@pytest.mark.parametrize(
    ("field", "spec", "expected"),
    [
        pytest.param("memory", {}, "8Gi", id="memory of the environment"),
        pytest.param("memory", {"quota": {"memory": "1Gi"}}, "1Gi", id="memory of the claim"),
        pytest.param("storage", {}, "3Gi", id="storage of the environment"),
        pytest.param("storage", {"quota": {"storage": "1Gi"}}, "1Gi", id="storage of the claim"),
        pytest.param("budget", {}, Budget.LARGE, id="budget of the environment"),
        pytest.param("budget", {"quota": {"budget": "small"}}, Budget.SMALL, id="budget of the claim"),
        pytest.param("policy", {}, Policy.RESTRICTED, id="policy of the environment"),
        pytest.param("policy", {"security": {"policy": "baseline"}}, Policy.BASELINE, id="policy of the claim"),
        pytest.param("kubernetes_access", {}, False, id="access of the environment"),
        pytest.param("kubernetes_access", {"security": {"kubernetesAccess": True}}, True, id="access of the claim"),
        pytest.param("kubernetes_role", {}, KubernetesRole.VIEW, id="role of the environment"),
        pytest.param(
            "kubernetes_role", {"security": {"kubernetesRole": "admin"}}, KubernetesRole.ADMIN, id="role of the claim"
        ),
        pytest.param("external_egress", {}, False, id="egress of the environment"),
        pytest.param("external_egress", {"security": {"externalEgress": True}}, True, id="egress of the claim"),
        pytest.param("registry_storage", {}, None, id="no registry"),
        pytest.param("registry_storage", {"registry": {"enabled": True}}, "5Gi", id="registry of usual size"),
        pytest.param(
            "registry_storage", {"registry": {"enabled": True, "storage": "9Gi"}}, "9Gi", id="registry of chosen size"
        ),
        pytest.param("registry_storage", {"registry": {"storage": "9Gi"}}, None, id="size without registry"),
        pytest.param("files", {}, (), id="no files"),
    ],
)
def test_the_claim_before_the_environment(field: str, spec: dict[str, Any], expected: Any) -> None:
    assert getattr(resolve(claim(**spec), environment(defaults=DEFAULTS)), field) == expected


def test_false_of_the_claim_wins_over_true_of_the_environment() -> None:
    here = lab(security={"kubernetesAccess": False, "externalEgress": False})
    assert (here.kubernetes_access, here.external_egress) == (False, False)


@pytest.mark.parametrize(
    ("allowed", "wish", "expected"),
    [
        pytest.param([], None, None, id="nothing listed, nothing asked for"),
        pytest.param([], "fast", "fast", id="nothing listed"),
        pytest.param(["slow", "fast"], None, "slow", id="nothing asked for"),
        pytest.param(["slow", "fast"], "fast", "fast", id="one of those listed"),
    ],
)
def test_storage_class(allowed: list[str], wish: str | None, expected: str | None) -> None:
    here = lab(environment(storageClasses={"allowed": allowed}), persistence={"storageClassName": wish})
    assert here.storage_class == expected


DATABASE = {"names": ["prod", "dev"], "storage": "1Gi", "backupStorage": "3Gi"}
CLASSES = {"storageClassName": "fast", "backupStorageClassName": "slow"}


@pytest.mark.parametrize(
    ("settings", "own", "expected"),
    [
        pytest.param({}, {}, (None, None), id="the cluster's defaults"),
        pytest.param(CLASSES, {}, ("fast", "slow"), id="of the environment"),
        pytest.param(
            CLASSES,
            {"storageClassName": "own", "backupStorageClassName": "other"},
            ("own", "other"),
            id="its own",
        ),
        pytest.param(CLASSES, {"storageClassName": "own"}, ("own", "slow"), id="its own for one of two"),
    ],
)
def test_storage_classes_of_a_database_server(
    settings: dict[str, str], own: dict[str, str], expected: tuple[str | None, str | None]
) -> None:
    """A class of its own is what v1beta1 can say and the stored version cannot."""
    written = to_v1beta2(claim(databases={"pg0": DATABASE | own}) | {"apiVersion": V1BETA1})
    assert resolve(written, environment(database=settings)).databases == (
        DatabaseServer("pg0", ("prod", "dev"), "1Gi", "3Gi", *expected),
    )


@pytest.mark.parametrize(
    ("kind", "field", "settings"),
    [
        pytest.param("documentStores", "document_stores", "mongodb", id="document stores"),
        pytest.param("cacheStores", "cache_stores", "redis", id="cache stores"),
        pytest.param("vectorStores", "vector_stores", "qdrant", id="vector stores"),
    ],
)
def test_stores(kind: str, field: str, settings: str) -> None:
    stores = {"b": {"storage": "2Gi"}, "a": {"storage": "1Gi"}}
    here = lab(environment(**{settings: {"storageClassName": "fast"}}), **{kind: stores})
    assert getattr(here, field) == (Store("a", "1Gi", "fast"), Store("b", "2Gi", "fast"))


def test_database_servers_are_sorted() -> None:
    here = lab(databases={"pg1": DATABASE, "pg0": DATABASE})
    assert [server.host for server in here.databases] == ["pg0", "pg1"]


@pytest.mark.parametrize(
    ("data", "spec", "expected"),
    [
        pytest.param(
            {"allowed": {"namespaces": ["others"]}},
            {},
            "metadata.namespace: environment courses is not open to namespace team",
            id="namespace",
        ),
        pytest.param(
            {"allowed": {"namespaces": []}},
            {},
            "metadata.namespace: environment courses is not open to namespace team",
            id="no namespace at all",
        ),
        pytest.param(
            {},
            {"security": {"policy": "privileged"}},
            "spec.security.policy: environment courses allows restricted, baseline, not privileged",
            id="policy",
        ),
        pytest.param(
            {"allowed": {"kubernetesRoles": ["view"]}},
            {},
            "spec.security.kubernetesRole: environment courses allows view, not edit",
            id="role, although it is the environment's own default",
        ),
        pytest.param(
            {"allowed": {"budgets": ["small", "medium"]}},
            {"quota": {"budget": "large"}},
            "spec.quota.budget: environment courses allows small, medium, not large",
            id="budget",
        ),
        pytest.param(
            {"allowed": {"vcluster": False}},
            {"vcluster": True},
            "spec.vcluster: environment courses allows no virtual clusters",
            id="virtual clusters",
        ),
    ],
)
def test_the_environment_does_not_allow(data: dict[str, Any], spec: dict[str, Any], expected: str) -> None:
    with pytest.raises(ClaimInvalid) as caught:
        resolve(claim(**spec), environment(**data))
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("data", "spec"),
    [
        pytest.param({"allowed": {"namespaces": ["team"]}}, {}, id="namespace"),
        pytest.param({"allowed": {"policies": ["privileged"]}}, {"security": {"policy": "privileged"}}, id="policy"),
        pytest.param({}, {"vcluster": True}, id="virtual clusters"),
    ],
)
def test_the_environment_allows(data: dict[str, Any], spec: dict[str, Any]) -> None:
    assert resolve(claim(**spec), environment(**data)).name == "lab"


def test_a_claim_that_no_admission_has_seen() -> None:
    with pytest.raises(ValidationError):
        resolve(claim(sessions=[{"name": "Not a label"}]), environment())


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        pytest.param({}, "datalab", id="the usual one"),
        pytest.param({"annotations": {ENVIRONMENT: "a"}, "labels": {ENVIRONMENT: "b"}}, "a", id="annotation first"),
        pytest.param({"annotations": {}, "labels": {ENVIRONMENT: "b"}}, "b", id="label"),
        pytest.param({"annotations": None, "labels": None}, "datalab", id="nulls"),
        pytest.param({"annotations": {ENVIRONMENT: " a "}}, "a", id="trimmed"),
        pytest.param(
            {"annotations": {ENVIRONMENT: " "}, "labels": {ENVIRONMENT: "b"}},
            "b",
            id="a blank annotation hides no label",
        ),
        pytest.param(
            {"annotations": {ENVIRONMENT: ""}, "labels": {ENVIRONMENT: " "}},
            "datalab",
            id="blank ones mean the usual one",
        ),
    ],
)
def test_environment_name(metadata: Manifest, expected: str) -> None:
    assert environment_name({"metadata": metadata}) == expected


@pytest.mark.parametrize(
    ("data", "written", "expected"),
    [
        pytest.param({}, claim(secretName="keys"), "team/keys", id="beside the claim"),
        pytest.param({}, claim(secretName=""), "team/lab", id="named like the lab"),
        pytest.param({}, {"metadata": {"name": "lab"}}, "default/lab", id="a claim that says nothing"),
        pytest.param({"storage": {"secretNamespace": "vault"}}, claim(secretName="keys"), "vault/keys", id="shared"),
    ],
)
def test_storage_secret(data: dict[str, Any], written: Manifest, expected: str) -> None:
    assert str(storage_secret(written, environment(**data))) == expected


def test_key() -> None:
    assert lab().key == NamespacedName("team", "lab")


SESSIONS = [{"name": "b"}, {"name": "a", "state": "stopped"}, {"name": "c", "state": "started"}]


def test_sessions_in_their_order() -> None:
    assert lab(sessions=SESSIONS).sessions == ["b", "a", "c"]


def test_started_sessions_in_their_order() -> None:
    assert lab(sessions=SESSIONS).started == ["b", "c"]


def protected(auth: dict[str, str], **protection: Any) -> EnvironmentConfig:
    """An environment with this login and this protection."""
    return environment(auth=auth, ingress={"domain": "lab.example.org", "protection": protection})


@pytest.mark.parametrize(
    ("within", "expected"),
    [
        pytest.param(environment(), (True, True, True), id="credentials"),
        pytest.param(protected({"login": "storage"}), (True, False, True), id="storage keys"),
        pytest.param(protected({"type": "delegated"}), (False, False, False), id="delegated to nobody"),
        pytest.param(protected({"type": "none"}), (False, False, False), id="none"),
        pytest.param(protected({"type": "delegated"}, type="nginx"), (False, False, True), id="nginx"),
        pytest.param(protected({"type": "delegated"}, type="external"), (False, False, True), id="something else"),
        pytest.param(protected({"type": "delegated"}, type="apisix"), (False, False, True), id="apisix asks"),
    ],
)
def test_who_asks_who_comes(within: EnvironmentConfig, expected: tuple[bool, bool, bool]) -> None:
    here = lab(within)
    assert (here.asks_for_login, here.generates_login, here.is_protected) == expected


@pytest.mark.parametrize(("retention", "expected"), [("Retain", True), ("Delete", False)])
def test_retains(retention: str, expected: bool) -> None:
    assert lab(environment(retention=retention)).retains is expected


def test_effective() -> None:
    assert lab().effective() == {
        "environment": "courses",
        "domain": "lab.example.org",
        "quota": {"memory": "2Gi", "storage": "1Gi", "budget": "medium"},
        "security": {
            "policy": "baseline",
            "kubernetesAccess": True,
            "kubernetesRole": "edit",
            "externalEgress": True,
        },
        "auth": "credentials",
        "protection": "off",
        "retention": "Retain",
    }


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param({}, ("", ""), id="never"),
        pytest.param({"environment": "courses"}, ("courses", ""), id="by an earlier version"),
        pytest.param(
            {"environment": "courses", "effective": lab().effective()}, ("courses", "lab.example.org"), id="known"
        ),
    ],
)
def test_the_last_good_environment(status: dict[str, Any], expected: tuple[str, str]) -> None:
    found = claim() | {"status": status}
    assert (last_environment(found), last_domain(found)) == expected


def test_effective_names_the_storage_class_where_there_is_one() -> None:
    here = lab(environment(storageClasses={"allowed": ["slow"]}))
    assert here.effective()["persistence"] == {"storageClassName": "slow"}
