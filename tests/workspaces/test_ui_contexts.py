"""What screens show, of what the API tells."""

import datetime
from typing import Any

import pytest

from workspaces.permissions import EVERYTHING, ROLE_PERMISSIONS, Role
from workspaces.ui import home, listing, members, screens, sizes
from workspaces.ui.screens import Inputs

NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)
ASKED = {"workspace": "ws-b", "bucket": "ws-a", "permission": "ReadOnly", "request_timestamp": "2026-05-01T00:00:00Z"}
GRANTED = ASKED | {"grant_timestamp": "2026-05-02T00:00:00Z"}
VIEWER = ROLE_PERMISSIONS[Role.ACCESS]


def view(**more: Any) -> dict[str, Any]:
    lab = {"memberships": [], "sessions": [], "available": True}
    return {"name": "ws-a", "storage": {"bucket_access_requests": []}, "datalab": lab} | more


def access(*rows: dict[str, str]) -> dict[str, Any]:
    return view(storage={"bucket_access_requests": list(rows)})


def test_an_overview_without_anything() -> None:
    more = {"may_start": False, "may_delete": False}
    assert home.context(view(), more, EVERYTHING, NOW) == {
        "waits": [],
        "usage": None,
        "readable": sizes.readable,
        "pending": [],
        "ending": [],
        "sessions": [],
        "may_start": False,
        "may_delete": False,
    }


@pytest.mark.parametrize(
    ("quantity", "shown"),
    [("30265701Ki", "28.9 GiB"), ("0", "0 B"), ("1500M", "1.4 GiB"), ("500Gi", "500 GiB"), ("lots", "lots")],
)
def test_sizes_are_easy_to_read(quantity: str, shown: str) -> None:
    assert sizes.readable(quantity) == shown


def test_requests_of_others_wait_for_whoever_decides() -> None:
    own = ASKED | {"workspace": "ws-a", "bucket": "ws-b"}
    rows = access(ASKED, GRANTED, ASKED | {"denied_timestamp": "2026-05-02T00:00:00Z"}, own, {"workspace": "ws-c"})
    more = {"may_start": True, "may_delete": True}
    assert home.context(rows, more, EVERYTHING, NOW)["pending"] == [ASKED]
    assert home.context(rows, more, VIEWER, NOW)["pending"] == []


@pytest.mark.parametrize(
    ("row", "is_told"),
    [
        (GRANTED | {"expires": "2026-06-10T00:00:00Z"}, True),
        (GRANTED | {"expires": "2026-08-10T00:00:00Z"}, False),
        (GRANTED | {"expires": "2026-05-10T00:00:00Z"}, False),
        (GRANTED | {"expires": "2026-06-10T00:00:00Z", "denied_timestamp": "2026-05-02T00:00:00Z"}, False),
        (GRANTED, False),
        (ASKED | {"expires": "2026-06-10T00:00:00Z"}, False),
    ],
)
def test_grants_that_end_soon_are_told(row: dict[str, str], is_told: bool) -> None:
    more = {"may_start": True, "may_delete": True}
    assert home.context(access(row), more, VIEWER, NOW)["ending"] == ([row] if is_told else [])


def test_members_and_what_may_be_done_with_them() -> None:
    rows = [{"member": "alice", "role": "owner"}, {"member": "joe", "role": "user", "problem": "unknown"}]
    found = view(datalab={"memberships": rows, "available": True})
    expected = {"rows": rows, "may_manage": True, "may_hand_over": False, "unknown": 1}
    assert members.context(found, {"owns": False}, EVERYTHING) == expected
    assert members.context(found, {"owns": True}, VIEWER) == expected | {"may_manage": False, "may_hand_over": True}


@pytest.mark.parametrize(
    ("names", "role", "added"),
    [
        ("joe", "admin", [{"member": "joe", "role": "admin"}]),
        ("joe, jane;\r\nmax\n", "", [{"member": "joe"}, {"member": "jane"}, {"member": "max"}]),
        (" \n", "user", [{"member": "", "role": "user"}]),
    ],
)
def test_members_are_added_several_at_once(names: str, role: str, added: list[dict[str, str]]) -> None:
    body, words = members.added([("names", names), ("role", role)])
    assert body == {"add_memberships": added}
    assert words["add_memberships",] == "names"


def test_the_list() -> None:
    more = {"rows": [], "total": 0, "following": "", "may_create": False}
    expected = {"name": "", "status": "", "is_filtered": False, "is_later": False}
    assert listing.context(more, {}) == more | expected
    query = {"name": "a", "continue": "x"}
    assert listing.context(more, query) == more | {
        "name": "a",
        "status": "",
        "is_filtered": True,
        "is_later": True,
    }


def test_screens_have_these_contexts() -> None:
    more = {"rows": [], "total": 0, "following": "", "may_create": False, "owns": False, "may_start": False}
    inputs = Inputs(view(), more | {"may_delete": False}, EVERYTHING, {}, {"w": "ws-a"}, NOW)
    found = {name: screens.BY_NAME[name].context(inputs) for name in ("workspaces", "home", "members")}
    assert [sorted(context)[0] for context in found.values()] == ["following", "ending", "may_hand_over"]
