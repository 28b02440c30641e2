"""Members: the first is the owner, roles are overrides, and who goes is kept out at once."""

import datetime
import json
from typing import Any

import pytest

from datalabd.api.meta import Manifest
from datalabd.api.v1beta2 import Role
from datalabd.api.workspace_bodies import NewMembership
from tests.workspaces.objects import BEFORE, NOW, TODAY, changes, datalab, steps_of, storage
from workspaces import members
from workspaces.patches import ITEMS_MAX, Draft
from workspaces.permissions import CAPS
from workspaces.problems import Problem

CREATED = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
BOBS = "81b637d8fcd2c6da6359e6963113a117"  # of SHA-256, half
NONE = json.dumps({BOBS: {"role": "none", "since": TODAY}}, separators=(",", ":"))
ACCESS = json.dumps({BOBS: {"role": "ws_access", "since": TODAY}}, separators=(",", ":"))


def draft(annotations: dict[str, str] | None = None, **spec: Any) -> Draft:
    return Draft(storage(), datalab(annotations=annotations, **spec))


def lab(found: Draft) -> Manifest:
    assert found.datalab is not None
    return found.datalab


def new(member: str, role: Any = "user", at: Any = None) -> NewMembership:
    return NewMembership(member=member, role=role, creation_timestamp=at)


def caps(found: Draft) -> str:
    return str(lab(found)["metadata"].get("annotations", {}).get(CAPS, ""))


def test_members_are_told_in_order_with_what_keycloak_says_of_them() -> None:
    live = datalab(
        users=["alice", 5, " ", "bob", "carol", "bob"],
        userOverrides={"alice": {"role": "user"}, "bob": {"role": "admin", "grantedAt": "2026-05-05T22:00:00+02:00"}},
    ) | {"status": {"users": {"carol": {"message": "no such user"}}}}
    assert members.rows(live, None) == [
        {"member": "alice", "role": "owner", "creation_timestamp": BEFORE},
        {"member": "bob", "role": "admin", "creation_timestamp": TODAY},
        {"member": "carol", "role": "user", "creation_timestamp": BEFORE, "problem": "no such user"},
    ]


def test_a_time_that_nobody_knows_is_left_out() -> None:
    assert members.rows({"spec": {"users": ["alice"]}}, None) == [{"member": "alice", "role": "owner"}]
    assert members.rows({"spec": {"users": ["alice"]}}, CREATED) == [
        {"member": "alice", "role": "owner", "creation_timestamp": BEFORE}
    ]
    assert members.rows(None, CREATED) == []


def test_another_spelling_is_the_same_member() -> None:
    """Else whoever adds and removes `ALICE` keeps alice, the owner, out for a day."""
    found = draft(users=["alice", "Bob"])
    members.add(found, [new("ALICE", "admin"), new("bob", "admin")], NOW)
    assert [(row["member"], row["role"]) for row in members.rows(found.datalab, None)] == [
        ("alice", "owner"),
        ("Bob", "admin"),
    ]
    with pytest.raises(Problem) as caught:
        members.remove(found, "ALICE", NOW)
    assert caught.value.detail == {"error": "owner_cannot_be_removed"}
    members.change(found, "BOB", Role.USER, NOW)
    assert members.role(found.datalab, "bob") == "user"
    members.hand_over(found, "bob", NOW)
    assert members.names(found.datalab) == ["Bob", "alice"]
    members.remove(found, "Alice", NOW)
    assert members.names(found.datalab) == ["Bob"]


def test_a_second_spelling_that_is_there_already_caps_nobody_when_it_goes() -> None:
    found = draft(users=["alice", "ALICE"], userOverrides={"ALICE": {"role": "admin"}})
    members.change(found, "ALICE", Role.USER, NOW)
    members.remove(found, "ALICE", NOW)
    assert (members.names(found.datalab), caps(found)) == (["alice"], "")


def test_who_is_to_be_a_second_owner_is_told_where_that_is_done() -> None:
    found = draft(users=["alice"])
    members.add(found, [new("alice", "owner"), new("bob", "owner")], NOW)
    assert found.warnings == ["add_memberships.1.role: bob is user; PUT /workspaces/ws-a/owner hands over"]
    assert members.role(found.datalab, "bob") == "user"
    first = draft(users=[])
    members.add(first, [new("carol", "owner")], NOW)
    assert (first.warnings, members.role(first.datalab, "carol")) == ([], "owner")


def test_members_are_bounded() -> None:
    found = draft(users=[f"user-{number}" for number in range(ITEMS_MAX)])
    with pytest.raises(Problem) as caught:
        members.add(found, [new("user-7", "admin"), new("more")], NOW)
    assert caught.value.detail == {"error": "limit_exceeded", "what": "members", "max": ITEMS_MAX}


def test_telling_ten_times_as_many_members_costs_ten_times_as_much() -> None:
    def cost(count: int) -> int:
        live = datalab(users=[f"user-{number}" for number in range(count)])
        return steps_of(lambda: members.rows(live, None))

    assert cost(300) < 11 * cost(30)


def test_members_are_added_at_the_end() -> None:
    found = draft()
    members.add(found, [new("bob"), new("carol", "admin", NOW), new("dan", "owner")], NOW)
    assert lab(found)["spec"] == {
        "users": ["alice", "bob", "carol", "dan"],
        "userOverrides": {
            "bob": {"role": "user"},
            "carol": {"role": "admin", "grantedAt": "2026-05-05T20:00:00+00:00"},
        },
    }
    assert found.words[("spec", "users", 3)] == ("add_memberships", 2, "member")
    assert caps(found) == ""


def test_the_first_member_added_is_the_owner_whatever_the_role() -> None:
    found = draft(users=[])
    members.add(found, [new("bob", "user")], NOW)
    assert lab(found)["spec"] == {"users": ["bob"]}


def test_the_role_of_the_owner_is_ignored() -> None:
    found = draft()
    members.add(found, [new("alice", "user")], NOW)
    assert found.datalab_patch == []


def test_another_role_changes_and_what_else_is_said_of_a_member_stays() -> None:
    found = draft(users=["alice", "bob"], userOverrides={"bob": {"role": "user", "note": "x", "grantedAt": BEFORE}})
    members.add(found, [new("bob", "admin")], NOW)
    assert changes(found.datalab_patch) == [{"op": "replace", "path": "/spec/userOverrides/bob/role", "value": "admin"}]


@pytest.mark.parametrize(
    ("users", "role", "before", "to", "after"),
    [
        pytest.param(["alice", "bob"], "admin", "", "user", ACCESS, id="demoted"),
        pytest.param(["alice", "bob"], "user", "", "user", "", id="as before"),
        pytest.param(["alice", "bob"], "user", ACCESS, "user", ACCESS, id="demoted a while ago"),
        pytest.param(["alice", "bob"], "user", ACCESS, "admin", "", id="promoted again"),
        pytest.param(["alice", "bob"], "admin", "", "admin", "", id="an administrator as before"),
        pytest.param(["alice"], "", NONE, "user", ACCESS, id="removed and added again"),
        pytest.param(["alice"], "", NONE, "admin", "", id="removed and added again as administrator"),
        pytest.param([], "", NONE, "user", "", id="removed and added again as owner"),
    ],
)
def test_what_old_tokens_give_once_a_role_is_given(
    users: list[str], role: str, before: str, to: str, after: str
) -> None:
    overrides = {"bob": {"role": role}} if role else {}
    found = draft({CAPS: before} if before else None, users=users, userOverrides=overrides)
    members.add(found, [new("bob", to)], NOW)
    assert caps(found) == after


def test_a_member_gets_another_role() -> None:
    found = draft(users=["alice", "bob"], userOverrides={"bob": {"role": "admin"}})
    members.change(found, "bob", Role.USER, NOW)
    assert lab(found)["spec"]["userOverrides"] == {"bob": {"role": "user", "grantedAt": "2026-05-05T20:00:00+00:00"}}
    assert caps(found) == ACCESS


def test_the_same_role_changes_nothing() -> None:
    found = draft(users=["alice", "bob"])
    members.change(found, "bob", Role.USER, NOW)
    assert found.datalab_patch == []


def test_a_removed_member_is_kept_out_at_once() -> None:
    found = draft(users=["alice", "bob", 7, " bob "], userOverrides={"bob": {"role": "admin"}})
    members.remove(found, "bob", NOW)
    assert lab(found)["spec"] == {"users": ["alice", 7], "userOverrides": {}}
    assert caps(found) == NONE


def test_a_member_without_overrides_is_removed() -> None:
    found = draft(users=["alice", "bob"])
    members.remove(found, "bob", NOW)
    assert lab(found)["spec"] == {"users": ["alice"]}


def test_a_workspace_is_handed_over() -> None:
    found = draft({CAPS: ACCESS}, users=["alice", "bob", "carol"])
    members.hand_over(found, "bob", NOW)
    assert lab(found)["spec"] == {
        "users": ["bob", "alice", "carol"],
        "userOverrides": {"alice": {"role": "admin", "grantedAt": "2026-05-05T20:00:00+00:00"}},
    }
    assert caps(found) == ""


def test_handing_over_to_the_owner_changes_nothing() -> None:
    found = draft()
    members.hand_over(found, "alice", NOW)
    assert found.datalab_patch == []


@pytest.mark.parametrize(
    ("act", "member", "status", "error"),
    [
        (lambda found, name: members.change(found, name, Role.ADMIN, NOW), "zoe", 404, "member_not_found"),
        (lambda found, name: members.remove(found, name, NOW), "zoe", 404, "member_not_found"),
        (lambda found, name: members.hand_over(found, name, NOW), "zoe", 404, "member_not_found"),
        (lambda found, name: members.change(found, name, Role.USER, NOW), "alice", 409, "owner_has_no_role"),
        (lambda found, name: members.remove(found, name, NOW), "alice", 409, "owner_cannot_be_removed"),
    ],
)
def test_what_cannot_be(act: Any, member: str, status: int, error: str) -> None:
    with pytest.raises(Problem) as caught:
        act(draft(), member)
    assert isinstance(caught.value.detail, dict)
    assert (caught.value.status, caught.value.detail["error"]) == (status, error)


def test_nobody_is_a_member_without_a_datalab() -> None:
    with pytest.raises(Problem) as caught:
        members.remove(Draft(storage(), None), "alice", NOW)
    assert (caught.value.status, caught.value.detail) == (404, "Not Found")
