import pytest

from datalabd.reserved import is_reserved
from datalabd.submission import Submission
from datalabd.validation import validate
from tests.factories import claim, environment


def said(name: str, *sessions: str, databases: tuple[str, ...] = (), reserved: tuple[str, ...] = ()) -> list[str]:
    made = claim(
        sessions=[{"name": session} for session in sessions],
        databases={host: {"names": ["a"], "storage": "1Gi", "backupStorage": "1Gi"} for host in databases},
    )
    made["metadata"]["name"] = name
    found = validate(Submission(made, environment(reservedNames=list(reserved))))
    return [f"{error.path}={error.value}" for error in found]


@pytest.mark.parametrize("name", ["argocd", "monitoring", "istio-system", "admin", "www", "kube-x", "login", "default"])
def test_a_name_of_the_platform_is_no_labs(name: str) -> None:
    assert said(name) == [f"metadata.name={name}"]


@pytest.mark.parametrize(
    ("name", "sessions", "databases", "expected"),
    [
        pytest.param("istio", ("system",), (), ["spec.sessions[0].name=istio-system"], id="namespace of a session"),
        pytest.param("argo", (), (), ["metadata.name=argo"], id="lab"),
        pytest.param("proxy", (), ("oauth2",), ["spec.databases[oauth2]=oauth2-proxy"], id="host of a database"),
        pytest.param("linkerd", (), (), ["metadata.name=linkerd"], id="another"),
        pytest.param("jeff", ("main",), ("pg",), [], id="none"),
        pytest.param("istio", ("main",), (), [], id="what only begins so"),
    ],
)
def test_every_derived_name_is_compared(
    name: str, sessions: tuple[str, ...], databases: tuple[str, ...], expected: list[str]
) -> None:
    assert said(name, *sessions, databases=databases) == expected


def test_an_environment_reserves_more() -> None:
    assert said("erp", "x", reserved=("erp",)) == ["metadata.name=erp"]
    assert said("erp", "x", reserved=("erp-*",)) == ["spec.sessions[0].name=erp-x"]
    assert said("erp", "x", reserved=("erpx", "er")) == []


def test_a_star_stands_at_the_end_only_for_what_it_is() -> None:
    assert is_reserved("kube-anything")
    assert is_reserved("cilium")
    assert not is_reserved("my-kube-system")
    assert not is_reserved("kubelab")


def test_a_session_that_is_removed_does_not_make_those_after_it_new() -> None:
    def submitted(*sessions: str) -> Submission:
        made = claim(sessions=[{"name": session} for session in sessions])
        made["metadata"]["name"] = "istio"
        return Submission(made, environment())

    before = submitted("a", "system", "b")
    assert validate(submitted("system", "b"), before) == []
    assert [error.path for error in validate(submitted("a", "system", "b", "operator"), before)] == [
        "spec.sessions[3].name"
    ]
