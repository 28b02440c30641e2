"""What screens show, of what the API tells."""

from typing import Any

import pytest

from tests.workspaces.screens import inputs
from workspaces.permissions import ROLE_PERMISSIONS, Role
from workspaces.ui import home, listing, members, paging
from workspaces.ui.sizes import quantity

ASKED = {"workspace": "ws-b", "bucket": "ws-a", "permission": "ReadOnly", "request_timestamp": "2026-05-01T00:00:00Z"}
SHOWN = {"state": "waits", "reason": ""}
GRANTED = ASKED | {"grant_timestamp": "2026-05-02T00:00:00Z"}
VIEWER = ROLE_PERMISSIONS[Role.ACCESS]


def view(**more: Any) -> dict[str, Any]:
    lab = {"memberships": [], "sessions": [], "stores": [], "available": True}
    return {"name": "ws-a", "storage": {"bucket_access_requests": []}, "datalab": lab} | more


def access(*rows: dict[str, str]) -> dict[str, Any]:
    return view(storage={"bucket_access_requests": list(rows)})


def test_an_overview_without_anything() -> None:
    more = {"may_start": False, "may_delete": False}
    assert home.context(inputs(view(), more)) == {
        "waits": [],
        "usage": None,
        "filled": None,
        "pending": [],
        "more_pending": 0,
        "rotated": [],
        "ending": [],
        "sessions": [],
        "may_start": False,
        "may_delete": False,
    }


@pytest.mark.parametrize(
    ("written", "shown"),
    [("30265701Ki", "28.9 GiB"), ("0", "0 B"), ("1500M", "1.4 GiB"), ("500Gi", "500 GiB"), ("lots", "lots")],
)
def test_sizes_are_easy_to_read(written: str, shown: str) -> None:
    assert quantity(written, ".", str) == shown


@pytest.mark.parametrize(
    ("usage", "filled"),
    [
        ({"requested": "1Ki", "quota": "2Ki"}, (1024, 2048)),
        ({"requested": "1Ki"}, None),
        ({"requested": "1Ki", "quota": "0"}, None),
        ({"requested": "much", "quota": "2Ki"}, None),
    ],
)
def test_how_much_of_its_quota_a_workspace_has_taken(usage: dict[str, str], filled: tuple[int, int] | None) -> None:
    more = {"may_start": False, "may_delete": False}
    found = home.context(inputs(view(resource_usage={"storage": usage}), more))
    assert (found["usage"], found["filled"]) == (usage, filled)


def test_requests_of_others_wait_for_whoever_decides() -> None:
    own = ASKED | {"workspace": "ws-a", "bucket": "ws-b"}
    rows = access(ASKED, GRANTED, ASKED | {"denied_timestamp": "2026-05-02T00:00:00Z"}, own, {"workspace": "ws-c"})
    more = {"may_start": True, "may_delete": True}
    assert home.context(inputs(rows, more))["pending"] == [ASKED | SHOWN]
    assert home.context(inputs(rows, more, VIEWER))["pending"] == []


def test_of_many_requests_some_are_named() -> None:
    rows = [ASKED | {"workspace": f"ws-{number}"} for number in range(home.WAITING_MAX + 2)]
    found = home.context(inputs(access(*rows), {"may_start": True, "may_delete": True}))
    assert ([row["workspace"] for row in found["pending"]], found["more_pending"]) == (
        [row["workspace"] for row in rows[: home.WAITING_MAX]],
        2,
    )


@pytest.mark.parametrize(
    ("state", "is_listed"),
    [
        ({"rotating": True}, True),
        ({"rotated": True, "credentials_since": "2026-05-30T00:00:00Z"}, True),
        ({"rotated": True, "credentials_since": "2026-05-20T00:00:00Z"}, False),
        ({"rotated": True}, False),
        ({"credentials_since": "2026-05-30T00:00:00Z"}, False),
    ],
)
def test_credentials_that_were_replaced_lately_are_listed(state: dict[str, Any], is_listed: bool) -> None:
    lab = view()["datalab"] | {"stores": [{"name": "c", "type": "cache"} | state]}
    found = home.context(inputs(view(datalab=lab), {"may_start": True, "may_delete": True}, VIEWER))
    assert [row["name"] for row in found["rotated"]] == (["c"] if is_listed else [])


@pytest.mark.parametrize(
    ("row", "is_listed"),
    [
        (GRANTED | {"expires": "2026-06-10T00:00:00Z"}, True),
        (GRANTED | {"expires": "2026-08-10T00:00:00Z"}, False),
        (GRANTED | {"expires": "2026-05-10T00:00:00Z"}, False),
        (GRANTED | {"expires": "2026-06-10T00:00:00Z", "denied_timestamp": "2026-05-02T00:00:00Z"}, False),
        (GRANTED, False),
        (ASKED | {"expires": "2026-06-10T00:00:00Z"}, False),
    ],
)
def test_grants_that_end_soon_are_listed(row: dict[str, str], is_listed: bool) -> None:
    more = {"may_start": True, "may_delete": True}
    assert home.context(inputs(access(row), more, VIEWER))["ending"] == (
        [row | {"state": "granted", "reason": ""}] if is_listed else []
    )


def test_members_and_what_may_be_done_with_them() -> None:
    rows = [{"member": "alice", "role": "owner"}, {"member": "joe", "role": "user", "problem": "unknown"}]
    found = view(datalab={"memberships": rows, "available": True})
    page = paging.Part(rows, 2, 0, None, None)
    expected = {
        "rows": rows,
        "list": page,
        "filter": "",
        "is_long": False,
        "may_manage": True,
        "may_hand_over": False,
        "unknown": 1,
    }
    assert members.context(inputs(found, {"owns": False})) == expected
    assert members.context(inputs(found, {"owns": True}, VIEWER)) == expected | {
        "may_manage": False,
        "may_hand_over": True,
    }


def test_many_members_are_shown_page_by_page_and_by_name() -> None:
    rows = [{"member": f"User-{number:02}", "role": "user"} for number in range(60)]
    found = view(datalab={"memberships": rows, "available": True})
    shown = members.context(inputs(found, {"owns": False}, query={"from": "50"}))
    assert (shown["rows"], shown["is_long"]) == (rows[50:], True)
    shown = members.context(inputs(found, {"owns": False}, query={"name": " uSER-0"}))
    assert (shown["rows"], shown["list"].total) == (rows[:10], 10)


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


def test_of_too_many_members_one_more_than_fit_is_read() -> None:
    body, words = members.added([("names", ",".join(["a"] * 100_000)), ("role", "user")])
    assert body == {"add_memberships": [{"member": "a", "role": "user"}] * 501}
    assert len(words) == 1 + 2 * 501


def test_the_list() -> None:
    more = {"rows": [], "total": 0, "following": "", "may_create": False}
    expected = {"name": "", "status": "", "is_filtered": False, "is_later": False}
    assert listing.context(inputs({}, more)) == more | expected
    query = {"name": "a", "continue": "x"}
    assert listing.context(inputs({}, more, query=query)) == more | {
        "name": "a",
        "status": "",
        "is_filtered": True,
        "is_later": True,
    }
