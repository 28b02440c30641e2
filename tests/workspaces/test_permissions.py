"""Roles give permissions; what keeps former members out counts at once, whatever tokens say (WS 6.6, 6.48 to 6.62)."""

import datetime
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given

from datalabd.api.workspace_bodies import WorkspaceEdit
from tests.odd import JSON, examples
from tests.workspaces.objects import BEFORE, NOW, TODAY, datalab, steps_of, storage
from workspaces.claims import Identity
from workspaces.claims import Role as TokenRole
from workspaces.permissions import (
    CAPS,
    CAPS_MAX,
    EVERYTHING,
    NOTHING,
    ROLE_PERMISSIONS,
    Permission,
    Role,
    SessionChanges,
    is_capped,
    may_start,
    needed,
    owns,
    permissions,
    with_cap,
)

ADMIN = Identity("platform", is_platform_admin=True)
VIEWS = {
    "VIEW_BUCKETS",
    "VIEW_BUCKET_CREDENTIALS",
    "VIEW_MEMBERS",
    "VIEW_RESOURCE_USAGE",
    "VIEW_SESSIONS",
    "VIEW_STORES",
}


def who(role: TokenRole = "ws_admin", name: str = "Bob") -> Identity:
    return Identity(name, roles={"ws-a": role}, issued_at=NOW.timestamp())


def key(user: str) -> str:
    return hashlib.sha256(user.lower().encode()).hexdigest()[:32]


def caps(**said: Any) -> dict[str, Any]:
    return datalab(annotations={CAPS: json.dumps({key(user): cap for user, cap in said.items()})})


def of(identity: Identity, lab: Any = None, changes: SessionChanges = SessionChanges.ADMINS) -> set[str]:
    return set(map(str, permissions(identity, "ws-a", storage(), lab, changes, NOW)))


def test_what_roles_may() -> None:
    """WS 6.6, 6.60: machines see keys alone, and only administrators issue tokens."""
    assert of(who("ws_api")) == {"VIEW_BUCKET_CREDENTIALS"}
    assert of(who("ws_access")) == VIEWS
    assert of(who("ws_admin")) - VIEWS == {
        "ISSUE_TOKENS",
        "MANAGE_BUCKETS",
        "MANAGE_MEMBERS",
        "MANAGE_SESSIONS",
        "MANAGE_STORES",
    }
    assert of(ADMIN) == set(Permission)


def test_a_role_elsewhere_gives_nothing_here() -> None:
    """WS 6.51, 6.62."""
    assert of(Identity("bob", roles={"ws-b": "ws_admin"}, issued_at=NOW.timestamp())) == set()


def test_sessions_can_be_left_to_operators() -> None:
    operators = SessionChanges.OPERATORS
    assert "MANAGE_SESSIONS" not in of(who(), changes=operators)
    assert "MANAGE_SESSIONS" in of(ADMIN, changes=operators)


@pytest.mark.parametrize(
    ("storage_made", "lab_made", "issued", "expected"),
    [
        pytest.param(TODAY, TODAY, 0.0, True, id="of the same second"),
        pytest.param(TODAY, TODAY, -0.1, False, id="older"),
        pytest.param(TODAY, BEFORE, -1.0, False, id="older than the Storage"),
        pytest.param(BEFORE, TODAY, -1.0, False, id="older than the Datalab"),
        pytest.param(BEFORE, BEFORE, None, False, id="of no time"),
        pytest.param(BEFORE, "", 0.0, False, id="a Datalab of no time"),
        pytest.param(TODAY, None, -1.0, False, id="older, no Datalab"),
        pytest.param(TODAY, None, 1.0, True, id="no Datalab"),
        pytest.param(None, None, -1.0, True, id="nothing that somebody else could have"),
    ],
)
@pytest.mark.parametrize("role", ["ws_admin", "ws_access", "ws_api"])
def test_a_token_from_before_a_workspace_gives_nothing_on_it(
    role: TokenRole, storage_made: str | None, lab_made: str | None, issued: float | None, expected: bool
) -> None:
    """It tells of an earlier workspace of that name, which was somebody else's."""
    store, lab = (
        None if made is None else obj | {"metadata": obj["metadata"] | {"creationTimestamp": made}}
        for obj, made in ((storage(), storage_made), (datalab(), lab_made))
    )
    at = None if issued is None else NOW.timestamp() + issued
    identity = Identity("bob", roles={"ws-a": role}, issued_at=at)
    found = permissions(identity, "ws-a", store, lab, SessionChanges.ADMINS, NOW)
    assert found == (ROLE_PERMISSIONS[Role(role)] if expected else NOTHING)
    assert permissions(ADMIN, "ws-a", store, lab, SessionChanges.ADMINS, NOW) == EVERYTHING


@pytest.mark.parametrize(
    ("identity", "changes", "expected"),
    [
        (who("ws_access"), SessionChanges.ADMINS, True),
        (who("ws_api"), SessionChanges.ADMINS, False),
        (who("ws_admin"), SessionChanges.OPERATORS, False),
        (ADMIN, SessionChanges.OPERATORS, True),
    ],
)
def test_who_starts_a_session_by_opening_it(identity: Identity, changes: SessionChanges, expected: bool) -> None:
    found = permissions(identity, "ws-a", storage(), None, changes, NOW)
    assert may_start(found, identity, changes) is expected


@pytest.mark.parametrize(
    ("users", "expected"), [(["alice"], False), ([" BOB ", "alice"], True), ([], False), ([5, "bob"], True)]
)
def test_who_owns_a_workspace(users: list[Any], expected: bool) -> None:
    assert owns(who(), "ws-a", datalab(users=users)) is expected


def test_nobody_owns_what_their_token_does_not_name() -> None:
    assert not owns(Identity("bob"), "ws-a", datalab(users=["bob"]))
    assert not owns(who(), "ws-a", None)


def test_a_former_member_may_nothing() -> None:
    lab = caps(bob={"role": "none", "since": TODAY})
    assert of(who(), lab) == set()
    assert of(who(name="alice"), lab) == set(Permission)
    assert of(ADMIN, lab) == set(Permission)


def test_a_former_administrator_may_what_members_may() -> None:
    lab = caps(BOB={"role": "ws_access", "since": TODAY})
    assert of(who(), lab) == VIEWS
    assert of(who("ws_api"), lab) == {"VIEW_BUCKET_CREDENTIALS"}


def test_after_a_day_the_token_decides() -> None:
    day, little = datetime.timedelta(days=1), datetime.timedelta(seconds=1)
    assert of(who(), caps(bob={"role": "none", "since": (NOW - day + little).isoformat()})) == set()
    assert of(who(), caps(bob={"role": "none", "since": (NOW - day).isoformat()})) == set(Permission)


BOBS = key("bob")


@pytest.mark.parametrize(
    "said",
    [
        "{",
        "[]",
        json.dumps({BOBS: "none"}),
        json.dumps({BOBS: {"role": "ws_admin", "since": TODAY}}),
        json.dumps({BOBS: {"role": "claimed", "since": TODAY}}),
        json.dumps({BOBS: {"role": "none"}}),
        json.dumps({"bob": {"role": "none", "since": TODAY}}),
        json.dumps({"*": {"role": "none", "since": TODAY}}),
        json.dumps({BOBS: {"role": "none", "since": TODAY}}) + " " * CAPS_MAX,
        5,
        [],
    ],
)
def test_where_caps_cannot_be_read_nobody_has_more_than_the_claim_says(said: Any) -> None:
    overrides = {"bob": {"role": "user"}, "Carol": {"role": "admin"}}
    lab = datalab(users=["Alice ", "bob", "Carol"], userOverrides=overrides)
    lab["metadata"]["annotations"] = {CAPS: said}
    assert of(ADMIN, lab) == of(who(name="alice"), lab) == of(who(name="carol"), lab) == set(Permission)
    assert of(who(name="bob"), lab) == VIEWS
    assert of(who("ws_access", "alice"), lab) == VIEWS
    assert of(who(name="mallory"), lab) == of(who("ws_api", "service-account-ws-a"), lab) == set()
    assert with_cap(lab, "zoe", None, NOW) == with_cap(lab, "zoe", Role.NONE, NOW) == ALL


ALL = json.dumps({"*": {"role": "claimed", "since": TODAY}}, separators=(",", ":"))


@pytest.mark.parametrize("said", ["", "{}"])
def test_caps_that_say_nothing_cap_nobody(said: str) -> None:
    assert of(who(), datalab(annotations={CAPS: said})) == set(Permission)


def test_made_up_members_cannot_use_up_the_room_for_caps() -> None:
    """Whoever is removed is out, however many were before, whatever their names; who is claimed stays in."""
    lab = datalab(users=["alice", "carol"], userOverrides={"carol": {"role": "admin"}})
    removed = 0
    while (said := with_cap(lab, f"{removed:0255}", Role.NONE, NOW)) != ALL:
        lab["metadata"]["annotations"] = {CAPS: said}
        removed += 1
        assert removed < 1000
    assert removed > 300
    assert len(lab["metadata"]["annotations"][CAPS]) <= CAPS_MAX
    lab["metadata"]["annotations"] = {CAPS: with_cap(lab, "bob", Role.NONE, NOW)}
    assert lab["metadata"]["annotations"] == {CAPS: ALL}
    assert of(who(), lab) == of(who(name="0" * 255), lab) == set()
    assert of(who(name="carol"), lab) == set(Permission)


def test_caps_are_parsed_once_for_all_requests() -> None:
    many = {f"user-{number}": {"role": "none", "since": TODAY} for number in range(300)}
    lab = caps(**many, bob={"role": "none", "since": TODAY})
    first, again = (steps_of(lambda: of(who(), lab)) for _ in range(2))
    assert again * 5 < first
    assert of(who(), lab) == set()
    lab["metadata"]["annotations"] = caps(**many)["metadata"]["annotations"]
    assert of(who(), lab) == set(Permission)


def test_caps_of_everybody_hold_for_a_day_from_the_last_removal() -> None:
    hour, day = datetime.timedelta(hours=1), datetime.timedelta(days=1)
    lab = datalab(annotations={CAPS: ALL})
    assert with_cap(lab, "bob", None, NOW + hour) == ALL
    later = with_cap(lab, "bob", Role.ACCESS, NOW + hour)
    assert json.loads(later) == {"*": {"role": "claimed", "since": "2026-05-05T21:00:00Z"}}
    assert not is_capped(lab, "bob", NOW)
    assert with_cap(lab, "bob", None, NOW + day) == ""
    since = (NOW - day).isoformat()
    assert of(who(), datalab(annotations={CAPS: json.dumps({"*": {"role": "claimed", "since": since}})})) == EVERYTHING


@examples
@given(odd=JSON)
def test_nothing_that_is_odd_raises(odd: Any) -> None:
    of(who(), {"metadata": {"annotations": {CAPS: odd}}, "spec": odd})
    of(who(), {"metadata": {"annotations": {CAPS: json.dumps(odd)}}, "spec": odd})
    owns(who(), "ws-a", {"spec": odd})


def test_caps_are_kept_while_they_hold() -> None:
    old = (NOW - datetime.timedelta(days=2)).isoformat()
    lab = caps(carol={"role": "none", "since": TODAY}, dan={"role": "none", "since": old})
    said = with_cap(lab, "Bob", Role.ACCESS, NOW)
    assert json.loads(said) == {
        key("carol"): {"role": "none", "since": TODAY},
        key("bob"): {"role": "ws_access", "since": TODAY},
    }
    capped = datalab(annotations={CAPS: said})
    assert (is_capped(capped, "BOB", NOW), is_capped(capped, "dan", NOW)) == (True, False)
    assert with_cap(datalab(annotations={CAPS: said}), "bob", None, NOW) == with_cap(lab, "zoe", None, NOW)
    assert with_cap(caps(bob={"role": "none", "since": TODAY}), "bob", None, NOW) == ""


ENTRY = {"bucket": "b", "request_timestamp": TODAY}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, set()),
        ({"add_memberships": []}, set()),
        ({"add_memberships": [{"member": "bob"}]}, {"MANAGE_MEMBERS"}),
        ({"add_stores": [{"name": "s", "type": "cache"}]}, {"MANAGE_STORES"}),
        ({"add_buckets": [{"name": "ws-a"}]}, {"MANAGE_BUCKETS"}),
        ({"patch_bucket_access_requests": [ENTRY | {"workspace": "ws-a"}]}, {"VIEW_BUCKETS"}),
        ({"patch_bucket_access_requests": [ENTRY | {"workspace": "ws-b"}]}, {"MANAGE_BUCKETS"}),
        (
            {"patch_bucket_access_requests": [ENTRY | {"workspace": "ws-a"}, ENTRY | {"workspace": "ws-b"}]},
            {"VIEW_BUCKETS", "MANAGE_BUCKETS"},
        ),
    ],
)
def test_what_an_edit_needs(said: dict[str, Any], expected: set[str]) -> None:
    assert set(map(str, needed(WorkspaceEdit.model_validate(said), "ws-a"))) == expected


def test_nothing_and_everything() -> None:
    assert (ROLE_PERMISSIONS[Role.NONE], ROLE_PERMISSIONS[Role.ADMIN]) == (NOTHING, EVERYTHING)
