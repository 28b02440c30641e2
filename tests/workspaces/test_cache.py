"""Which fields a Datalab's schema has."""

from typing import Any

import pytest

from workspaces.cache import spec_fields


def version(name: str, *fields: str, served: bool = True) -> dict[str, Any]:
    properties = {"spec": {"type": "object", "properties": {field: {} for field in fields}}}
    schema = {"openAPIV3Schema": {"type": "object", "properties": properties}}
    return {"name": name, "served": served, "schema": schema}


@pytest.mark.parametrize(
    ("versions", "fields"),
    [
        pytest.param([version("v1beta1", "a"), version("v1beta2", "b", "c")], {"b", "c"}, id="of our version"),
        pytest.param([version("v1beta1", "a"), version("v1beta2", "b", served=False)], {"a"}, id="else of the first"),
        pytest.param([version("v1beta2")], set(), id="none"),
        pytest.param([{"name": "v1beta2", "served": True}], set(), id="no schema"),
        pytest.param([version("v1beta2", "a", served=False)], set(), id="nothing served"),
    ],
)
def test_fields_of_a_schema(versions: list[dict[str, Any]], fields: set[str]) -> None:
    assert spec_fields({"spec": {"versions": versions}}) == fields
