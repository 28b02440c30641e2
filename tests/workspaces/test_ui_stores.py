"""The screen of stores: what may be done with each, and what that would do."""

from typing import Any

import pytest

from datalabd.api.workspace import StoreType
from tests.workspaces.screens import inputs
from workspaces.permissions import Permission, Permissions
from workspaces.ui import actions, stores
from workspaces.ui.forms import Outcome

VIEWER = Permissions({Permission.VIEW_STORES})
ADMIN = Permissions({Permission.VIEW_STORES, Permission.MANAGE_STORES})
DEV, PROD = ({"name": name, "type": "database", "server": "pg0"} for name in ("dev", "prod"))
CACHE = {"name": "c", "type": "cache"}


def view(*rows: dict[str, Any], available: bool = True) -> dict[str, Any]:
    return {"datalab": {"stores": list(rows), "available": available, "available_store_types": ["database", "cache"]}}


def test_databases_name_those_beside_them() -> None:
    found = stores.context(inputs(view(DEV, PROD, CACHE), {}, VIEWER))
    assert [row["databases"] for row in found["rows"]] == [["dev", "prod"], ["dev", "prod"], []]
    assert (found["types"], found["checked"], found["effects"]) == (["database", "cache"], None, [])


@pytest.mark.parametrize(
    ("allowed", "available", "expected"), [(ADMIN, True, True), (VIEWER, True, False), (ADMIN, False, False)]
)
def test_who_may_change_them(allowed: Permissions, available: bool, expected: bool) -> None:
    assert stores.context(inputs(view(DEV, available=available), {}, allowed))["may_manage"] is expected


def test_what_was_checked_is_shown_with_its_effects() -> None:
    asked = {"type": "database", "name": "dev", "time": "2026-01-01T10:00"}
    outcome = Outcome("check_restore", {"name": "dev", "nonce": "1", "warnings": ["restores pg0"]}, asked)
    found = stores.context(inputs(view(DEV), {}, ADMIN, outcome=outcome))
    assert (found["checked"].name, found["asked"], found["effects"]) == ("restore", asked, ["restores pg0"])
    assert stores.context(inputs(view(DEV), {}, ADMIN, outcome=Outcome("check_backup", {}, {})))["effects"] == []


def test_deeds_are_actions_and_checks_of_the_same_operation() -> None:
    for deed in stores.DEEDS.values():
        doing, checking = actions.BY_NAME[deed.name], actions.BY_NAME[stores.CHECK + deed.name]
        assert checking.operation_name == doing.operation_name
        assert (checking.shows, doing.shows) == (True, False)
        assert "dry_run" in doing.operation.query
    assert {name: set(deed.effects) for name, deed in stores.DEEDS.items()} == {
        "rotate": set(StoreType),
        "backup": {StoreType.DATABASE},
        "restore": {StoreType.DATABASE},
        "remove_store": set(StoreType),
    }


def test_one_store_is_added() -> None:
    fields = [("type", "cache"), ("name", "c"), ("storage", ""), ("backup_storage", "")]
    body, words = stores.added(fields)
    assert body == {"add_stores": [{"type": "cache", "name": "c"}]}
    assert words == {
        ("add_stores", 0): "name",
        ("add_stores", 0, "type"): "type",
        ("add_stores", 0, "name"): "name",
        ("add_stores", 0, "storage"): "storage",
        ("add_stores", 0, "backup_storage"): "backup_storage",
    }
