"""Members of a workspace: who they are, and how they come, change and go. Pure."""

import datetime
from collections.abc import Sequence
from typing import Any

from datalabd.api.meta import Manifest
from datalabd.api.v1beta2 import Role
from datalabd.api.workspace import stamp
from datalabd.api.workspace_bodies import NewMembership
from datalabd.live import dig, text, texts
from datalabd.text import moment
from workspaces.patches import Draft, annotate, listed, mapped, require_room
from workspaces.permissions import CAPS, is_capped, with_cap
from workspaces.permissions import Role as TokenRole
from workspaces.problems import not_found, problem


def names(datalab: Manifest | None) -> list[str]:
    """User names of all members in order, the owner's first; what is blank or no text is nobody's."""
    return list(dict.fromkeys(name for user in texts(datalab, "spec", "users") if (name := user.strip())))


def spelled(datalab: Manifest | None, member: str) -> str:
    """A member's name as the claim has it, whatever its case: to Keycloak they are one. Empty for who is none."""
    known = names(datalab)
    return member if member in known else next((name for name in known if name.lower() == member.lower()), "")


def role(datalab: Manifest | None, member: str) -> str:
    """`owner`, `admin` or `user`; empty for who is no member."""
    known = names(datalab)
    return _role(datalab, known, found) if (found := spelled(datalab, member)) else ""


def _role(datalab: Manifest | None, known: Sequence[str], member: str) -> str:
    """The same of one of the `known` members."""
    if member == known[0]:
        return "owner"
    return "admin" if text(datalab, "spec", "userOverrides", member, "role") == Role.ADMIN else "user"


def rows(datalab: Manifest | None, created: datetime.datetime | None) -> list[dict[str, Any]]:
    """The members as `Membership`s; `created` is when the workspace was made."""
    since = moment(dig(datalab, "metadata").get("creationTimestamp")) or created
    found = []
    known = names(datalab)
    for member in known:
        at = moment(dig(datalab, "spec", "userOverrides", member).get("grantedAt")) or since
        row: dict[str, Any] = {"member": member, "role": _role(datalab, known, member)}
        if at is not None:
            row["creation_timestamp"] = stamp(at)
        if problem_of := text(datalab, "status", "users", member, "message"):
            row["problem"] = problem_of
        found.append(row)
    return found


def add(draft: Draft, members: Sequence[NewMembership], now: datetime.datetime) -> None:
    """Add members, and give those who are there the role that is said of them. A Datalab is there."""
    assert draft.datalab is not None
    for index, new in enumerate(members):
        member = spelled(draft.datalab, new.member) or new.member
        before = role(draft.datalab, member)
        if not before:
            users = listed(draft.datalab, "users")
            require_room(users, "members")
            draft.words[("spec", "users", len(users))] = ("add_memberships", index, "member")
            users.append(member)
        draft.words[("spec", "userOverrides", member)] = ("add_memberships", index)
        if names(draft.datalab)[0] == member or new.role == "owner":
            is_now = role(draft.datalab, member)
            if new.role == "owner" != is_now:
                where = f"add_memberships.{index}.role"
                draft.warnings.append(f"{where}: {member} is {is_now}; PUT /workspaces/{draft.name}/owner hands over")
            _cap(draft.datalab, member, before, is_now, now)
            continue
        _override(draft.datalab, member, Role(new.role), new.creation_timestamp)
        _cap(draft.datalab, member, before, new.role, now)


def change(draft: Draft, member: str, to: Role, now: datetime.datetime) -> None:
    """Give a member another role."""
    before = _known(draft.datalab, member)
    if before == "owner":
        raise problem(409, "owner_has_no_role")
    member = spelled(draft.datalab, member)
    assert draft.datalab is not None
    draft.words[("spec", "userOverrides", member)] = ("role",)
    if before != to:
        _override(draft.datalab, member, to, now)
        _cap(draft.datalab, member, before, to, now)


def remove(draft: Draft, member: str, now: datetime.datetime) -> None:
    """Take a member out; tokens of theirs give nothing here from now on."""
    if _known(draft.datalab, member) == "owner":
        raise problem(409, "owner_cannot_be_removed")
    member = spelled(draft.datalab, member)
    assert draft.datalab is not None
    spec = draft.datalab["spec"]
    spec["users"] = [user for user in spec["users"] if not (isinstance(user, str) and user.strip() == member)]
    if member in dig(spec, "userOverrides"):
        del spec["userOverrides"][member]
    if not spelled(draft.datalab, member):
        annotate(draft.datalab, CAPS, with_cap(draft.datalab, member, TokenRole.NONE, now))


def hand_over(draft: Draft, member: str, now: datetime.datetime) -> None:
    """Make a member the owner; the one before becomes an administrator."""
    before = _known(draft.datalab, member)
    if before == "owner":
        return
    member = spelled(draft.datalab, member)
    assert draft.datalab is not None
    draft.words[("spec", "users")] = ("member",)
    owner = names(draft.datalab)[0]
    spec = draft.datalab["spec"]
    others = [user for user in spec["users"] if not (isinstance(user, str) and user.strip() == member)]
    spec["users"] = [member, *others]
    _override(draft.datalab, owner, Role.ADMIN, now)
    _cap(draft.datalab, member, before, "owner", now)


def _known(datalab: Manifest | None, member: str) -> str:
    """The role of a member."""
    if datalab is None:
        raise not_found()
    if not (found := role(datalab, member)):
        raise problem(404, "member_not_found", member=member)
    return found


def _override(datalab: Manifest, member: str, to: Role, at: datetime.datetime | None) -> None:
    overrides = mapped(datalab, "userOverrides")
    given = {} if at is None else {"grantedAt": at.isoformat()}
    overrides[member] = dig(overrides, member) | {"role": str(to)} | given


def _cap(datalab: Manifest, member: str, before: str, after: str, now: datetime.datetime) -> None:
    """Keep an administrator that is none any more from what an old token says; let in who is added or promoted.

    Who comes back as a user may still have an administrator's token. A cap is of every spelling of a name: where
    another is a member too, what it is stays.
    """
    if any(other != member and other.lower() == member.lower() for other in names(datalab)):
        return
    if after in ("owner", "admin"):
        if before not in ("owner", "admin"):
            annotate(datalab, CAPS, with_cap(datalab, member, None, now))
    elif before == "admin" or (not before and is_capped(datalab, member, now)):
        annotate(datalab, CAPS, with_cap(datalab, member, TokenRole.ACCESS, now))
