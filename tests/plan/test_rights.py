from typing import Any

import pytest

from datalabd.api.meta import ACCOUNT, Manifest
from datalabd.errors import Denied
from datalabd.plan.rights import binding, missing, role_of

CLAIM: Manifest = {"metadata": {"name": "s-jane", "namespace": "team"}}


@pytest.mark.parametrize(
    ("account", "subject"),
    [
        pytest.param(ACCOUNT, {"kind": "ServiceAccount", "name": "datalabd", "namespace": "datalabd"}, id="a pod's"),
        pytest.param(
            "ann@example.org",
            {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ann@example.org"},
            id="a person's",
        ),
    ],
)
def test_binding(account: str, subject: dict[str, Any]) -> None:
    assert binding(account, "datalabd-lab", "s-jane") == {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "datalabd-lab", "namespace": "s-jane"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "datalabd-lab"},
        "subjects": [subject],
    }


def test_a_binding_is_listed_without_a_namespace() -> None:
    assert binding(ACCOUNT, "datalabd-lab")["metadata"] == {"name": "datalabd-lab"}


@pytest.mark.parametrize(
    ("namespace", "role"),
    [
        ("team", "datalabd-claims"),
        ("s-jane", "datalabd-lab"),
        ("s-jane-main", "datalabd-session"),
        ("s-jane-main-vc", "datalabd-session"),
        ("storage", "datalabd-storage"),
    ],
)
def test_role_of_a_namespace(namespace: str, role: str) -> None:
    assert role_of(CLAIM, namespace) == role


@pytest.mark.parametrize(
    ("account", "namespace", "message"),
    [
        pytest.param(
            ACCOUNT,
            "team",
            "datalabd may not list secrets in namespace team; where it should, say: "
            "kubectl create rolebinding datalabd-claims -n team --clusterrole=datalabd-claims "
            "--serviceaccount=datalabd:datalabd",
            id="a service account",
        ),
        pytest.param(
            "ann",
            "s-jane",
            "datalabd may not list secrets in namespace s-jane; where it should, say: "
            "kubectl create rolebinding datalabd-lab -n s-jane --clusterrole=datalabd-lab --user=ann",
            id="a person",
        ),
        pytest.param(
            ACCOUNT,
            "",
            "datalabd may not list secrets; apply the roles and bindings of this version again",
            id="everywhere",
        ),
    ],
)
def test_what_is_missing(account: str, namespace: str, message: str) -> None:
    assert missing(CLAIM, Denied("forbidden", account, "list secrets", namespace)) == message
