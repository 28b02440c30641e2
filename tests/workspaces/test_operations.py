"""Every operation stands in the table once, with what it needs."""

import re

import pytest

from workspaces.operations import BY_NAME, OPERATIONS, PARAMETERS, Needs, Operation
from workspaces.permissions import Permission


def test_no_operation_stands_there_twice() -> None:
    assert len(BY_NAME) == len(OPERATIONS) == len({(one.method, one.path) for one in OPERATIONS})


@pytest.mark.parametrize("one", OPERATIONS, ids=lambda one: one.name)
def test_what_is_said_of_an_operation_holds_together(one: Operation) -> None:
    assert not isinstance(one.needs, Permission) or one.on_workspace
    assert (one.body is not None) <= (one.method in ("POST", "PUT", "PATCH"))
    assert (one.status == 204) <= (one.answer is None)
    assert set(one.query) <= PARAMETERS.keys()
    assert ("dry_run" in one.query) == one.is_write
    assert re.fullmatch(r"[A-Z].*[^.]", one.summary)


def test_what_is_not_about_a_workspace_needs_no_permission_on_one() -> None:
    elsewhere = {one.needs for one in OPERATIONS if not one.on_workspace}
    assert elsewhere == {Needs.NOTHING, Needs.TOKEN, Needs.PLATFORM_ADMIN}


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("create_workspace", Needs.PLATFORM_ADMIN),
        ("delete_workspace", Needs.PLATFORM_ADMIN),
        ("edit_workspace", Needs.EDIT),
        ("hand_over", Needs.OWNER),
        ("issue_token", Permission.ISSUE_TOKENS),
        ("get_credentials", Permission.VIEW_BUCKET_CREDENTIALS),
        ("list_objects", Permission.VIEW_BUCKET_CREDENTIALS),
        ("measure_bucket", Permission.VIEW_BUCKET_CREDENTIALS),
        ("download_object", Permission.VIEW_BUCKET_CREDENTIALS),
        ("request_access", Permission.VIEW_BUCKETS),
        ("grant_access", Permission.MANAGE_BUCKETS),
        ("open_session", Permission.VIEW_SESSIONS),
        ("change_session", Permission.MANAGE_SESSIONS),
    ],
)
def test_what_operations_need(name: str, needs: Needs | Permission) -> None:
    assert BY_NAME[name].needs is needs
