from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalabd.api.meta import V1BETA1, V1BETA2, Manifest
from datalabd.defaults import default


def claim(version: str = V1BETA2, **spec: Any) -> Manifest:
    return {"apiVersion": version, "kind": "Datalab", "metadata": {"name": "lab"}, "spec": {"secretName": "s"} | spec}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        pytest.param({"secretName": None}, {"secretName": "lab"}, id="null secret"),
        pytest.param({"secretName": " "}, {"secretName": "lab"}, id="blank secret"),
        pytest.param({"secretName": " x "}, {"secretName": "x"}, id="secret is trimmed"),
        pytest.param({"secretName": 3}, {"secretName": 3}, id="secret of another type"),
        pytest.param({"users": [" joe ", 3]}, {"users": ["joe", 3]}, id="users are trimmed"),
        pytest.param({"users": "joe"}, {"users": "joe"}, id="users of another type"),
        pytest.param({"sessions": [{"name": " a "}]}, {"sessions": [{"name": "a"}]}, id="session names are trimmed"),
        pytest.param({"sessions": [" a ", {}, None]}, {"sessions": ["a", {}, None]}, id="sessions of v1beta1"),
        pytest.param(
            {"databases": {"pg": {"names": [" a ", "b"]}}}, {"databases": {"pg": {"names": ["a", "b"]}}}, id="databases"
        ),
        pytest.param({"databases": {"pg": {}, "x": 1}}, {"databases": {"pg": {}, "x": 1}}, id="odd databases"),
        pytest.param(
            {"registry": {"enabled": True}}, {"registry": {"enabled": True, "storage": "5Gi"}}, id="registry has a size"
        ),
        pytest.param({"registry": {"enabled": False}}, {"registry": {"enabled": False}}, id="no registry, no size"),
        pytest.param(
            {"registry": {"enabled": True, "storage": "1Gi"}},
            {"registry": {"enabled": True, "storage": "1Gi"}},
            id="given size of the registry",
        ),
        pytest.param(
            {"quota": {"memory": " ", "storage": " 1Gi"}}, {"quota": {"storage": "1Gi"}}, id="blank means left out"
        ),
        pytest.param({"quota": []}, {"quota": []}, id="quota of another type"),
        pytest.param({"persistence": {"storageClassName": ""}}, {"persistence": {}}, id="blank class"),
    ],
)
def test_default(written: dict[str, Any], expected: dict[str, Any]) -> None:
    assert default(claim(**written)) == claim(**expected)


def test_secret_is_named_like_the_claim() -> None:
    assert default({"metadata": {"name": "lab"}, "spec": {}})["spec"] == {"secretName": "lab"}


def test_a_claim_whose_name_is_still_to_be_generated_gets_no_secret_name() -> None:
    assert default({"metadata": {"generateName": "lab-"}, "spec": {}})["spec"] == {}


@pytest.mark.parametrize("spec", [None, [], "x"])
def test_what_is_no_spec_is_passed_on(spec: Any) -> None:
    assert default({"metadata": None, "spec": spec}) == {"metadata": None, "spec": spec}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(" ab", max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "names", "enabled", "storage"]), inner)
    ),
    max_leaves=8,
)
FIELDS = ["secretName", "users", "sessions", "databases", "registry", "quota", "persistence", "security"]


@given(st.dictionaries(st.sampled_from(FIELDS), VALUES), st.sampled_from([V1BETA1, V1BETA2]))
def test_pure_and_idempotent_whatever_is_written(spec: dict[str, Any], version: str) -> None:
    written = claim(version, **spec)
    before = deepcopy(written)
    once = default(written)
    assert written == before
    assert default(once) == once
