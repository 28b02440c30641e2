"""The document says what the table does, and refers to nothing that is not in it."""

import json
import re

from workspaces import openapi
from workspaces.handlers import HANDLERS
from workspaces.operations import OPERATIONS, Needs


def test_every_operation_is_in_it_and_has_a_handler() -> None:
    found = {operation["operationId"] for path in openapi.document()["paths"].values() for operation in path.values()}
    assert found == {operation.name for operation in OPERATIONS} == HANDLERS.keys()


def test_every_reference_leads_somewhere() -> None:
    schemas = openapi.document()["components"]["schemas"]
    referred = set(re.findall(r'"#/components/schemas/([^"]+)"', openapi.text()))
    assert referred
    assert referred <= schemas.keys()
    assert "#/$defs/" not in openapi.text()


def test_what_needs_a_token_says_so() -> None:
    paths = openapi.document()["paths"]
    for operation in OPERATIONS:
        said = paths[operation.path][operation.method.lower()]
        assert ("security" in said) == (operation.needs is not Needs.NOTHING), operation.name


def test_it_is_json_of_openapi_3_1() -> None:
    assert json.loads(openapi.text())["openapi"] == "3.1.0"
