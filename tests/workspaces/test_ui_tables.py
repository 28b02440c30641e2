"""The tables of screens and of forms hold together, and with those of the API."""

import re
import string
from pathlib import Path
from typing import Any

import pytest

from tests.workspaces.screens import inputs
from workspaces.operations import BY_NAME as OPERATIONS
from workspaces.operations import Needs
from workspaces.permissions import EVERYTHING, NOTHING, ROLE_PERMISSIONS, Permission, Role
from workspaces.problems import Problem
from workspaces.ui import actions, failures, screens
from workspaces.ui.actions import ACTIONS, Action, Versions
from workspaces.ui.screens import SCREENS, Screen

TEMPLATES = Path(screens.__file__).parent / "templates"
SPRITE = (Path(screens.__file__).parent / "static" / "sprite.svg").read_text()


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: screen.name)
def test_a_screen_holds_together(screen: Screen) -> None:
    assert (TEMPLATES / f"{screen.name}.html").is_file()
    assert not isinstance(screen.needs, Permission) or screen.on_workspace
    assert not screen.symbol or f'id="{screen.symbol}"' in SPRITE
    assert screen.operation.path == screen.path
    assert screen.label[0] in string.ascii_uppercase


def test_no_screen_stands_there_twice() -> None:
    assert len(screens.BY_NAME) == len(SCREENS) == len({screen.path for screen in SCREENS})


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name)
def test_a_form_holds_together(action: Action) -> None:
    assert action.operation.is_write or action.shows
    assert {action.screen, action.next} <= screens.BY_NAME.keys()
    assert action.shows or action.done[-1] == "."
    assert not action.confirms or f"{{{action.confirms}}}" in action.operation.path


def test_no_form_stands_there_twice() -> None:
    assert len(actions.BY_NAME) == len(ACTIONS)


def test_every_form_of_a_template_is_one_of_the_table() -> None:
    asked = {
        (template.stem, piece.split("'")[0])
        for template in TEMPLATES.glob("*.html")
        for piece in template.read_text().split("form('")[1:]
        if template.stem != "parts"
    }
    whole = {(screen, name) for screen, name in asked if name[-1] != "_"}  # others are put together
    assert whole <= {(action.screen, action.name) for action in ACTIONS}


def test_the_navigation_is_what_somebody_may_look_at() -> None:
    machine = [screen.name for screen in screens.navigation(ROLE_PERMISSIONS[Role.API])]
    assert machine[0] == "home"
    assert "members" not in machine
    assert "members" in [screen.name for screen in screens.navigation(EVERYTHING)]
    assert screens.navigation(NOTHING) == []


def test_an_address_has_its_parts_escaped() -> None:
    assert screens.BY_NAME["members"].address({"w": "a/b"}) == "/workspaces/a%2Fb/members"
    assert Screen("x", "/x", Needs.TOKEN, "X").context(inputs({})) == {}


def test_what_a_form_asks_of_an_operation() -> None:
    fields = (
        ("action", "change_role"),
        ("form", "form-change_role-joe"),
        ("version", '"1"'),
        ("m", "joe"),
        ("role", "admin"),
        ("dry_run", "true"),
    )
    found = actions.filled(actions.BY_NAME["change_role"], fields, {"w": "ws-a"})
    assert (found.parts, found.query, found.version) == ({"w": "ws-a", "m": "joe"}, {"dry_run": "true"}, '"1"')
    assert (found.body, found.typed) == (b'{"role":"admin"}', {"m": "joe", "role": "admin", "dry_run": "true"})


def test_the_path_of_the_page_goes_before_a_field() -> None:
    fields = (("w", "ws-b"), ("m", "joe"))
    found = actions.filled(actions.BY_NAME["remove_member"], fields, {"w": "ws-a"})
    assert (found.parts, found.body) == ({"w": "ws-a", "m": "joe"}, b"{}")


@pytest.mark.parametrize(
    ("action", "parts", "others"),
    [
        ("change_rules", {"b": "ws-a"}, {"b": "ws-a-x"}),
        ("grant", {"workspace": "ws-b", "b": "ws-a"}, {"workspace": "ws-c", "b": "ws-a"}),
    ],
)
def test_the_version_of_what_a_form_is_about(action: str, parts: dict[str, str], others: dict[str, str]) -> None:
    def view(rules: list[str], reason: str) -> dict[str, Any]:
        buckets = [{"name": "ws-a", "lifecycle_rules": rules}, {"name": "ws-a-x", "lifecycle_rules": []}]
        rows = [{"workspace": name, "bucket": "ws-a", "reason": reason * (name == "ws-b")} for name in ("ws-b", "ws-c")]
        return {"storage": {"buckets": buckets, "bucket_access_requests": rows}}

    about = actions.BY_NAME[action]
    before, same, changed = (Versions(seen) for seen in (view([], ""), view([], ""), view(["a"], "b")))
    assert before.of(about, parts) == same.of(about, parts) != changed.of(about, parts)
    assert before.of(about, others) == changed.of(about, others)
    assert before.of(about, parts | {"b": "gone"}) == changed.of(about, parts | {"b": "gone"}) != ""
    assert before.of(actions.BY_NAME["change_role"], {}) == ""


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name)
def test_a_form_without_what_it_is_about_is_refused(action: Action) -> None:
    path = {"w": "ws-a", "b": "ws-a", "s": "default"}
    of_page = {name: value for name, value in path.items() if f"{{{name}}}" in screens.BY_NAME[action.screen].path}
    missing = [name for name in re.findall(r"{(\w+)}", action.operation.path) if name not in of_page]
    if not missing:
        rules = (("lifecycle_rules.0.target", ""),)
        assert actions.filled(action, rules, of_page).parts == of_page
        return
    with pytest.raises(Problem) as refused:
        actions.filled(action, (), of_page)
    assert refused.value.status == 422
    assert refused.value.sentence == f"body.{min(missing)}: Field required"


def test_a_name_has_to_be_typed_once_more() -> None:
    delete = actions.BY_NAME["delete"]
    right = actions.filled(delete, (("confirm", " ws-a "),), {"w": "ws-a"})
    actions.require_confirmation(delete, right)
    with pytest.raises(Problem, match="must be ws-a"):
        actions.require_confirmation(delete, actions.filled(delete, (), {"w": "ws-a"}))
    other = actions.BY_NAME["remove_member"]
    actions.require_confirmation(other, actions.filled(other, (("m", "joe"),), {"w": "ws-a"}))


def test_an_error_says_what_to_do_whatever_it_is() -> None:
    assert failures.failure(404).title == "There is nothing here"
    assert failures.failure(418) == failures.OTHER
    assert [status for status, one in failures.FAILURES.items() if one.offers_login] == [401]


def test_operations_that_forms_call_are_the_apis() -> None:
    assert {action.operation_name for action in ACTIONS} <= OPERATIONS.keys()
