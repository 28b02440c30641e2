"""Every form of the pages, once: which operation it calls, with what, and what is said when that is done. Pure.

A form is sent to its screen's address with a field `action`. Fields that are called as parts of the operation's path
or as parameters of its query are those, `version` is that of what it is about, `form` is the form's id, and the others
make the body.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from workspaces.operations import BY_NAME as OPERATIONS
from workspaces.operations import Asked, Operation
from workspaces.problems import wrong
from workspaces.ui import buckets, forms, members, sessions, stores
from workspaces.ui.forms import Words
from workspaces.ui.languages import N_

OURS = frozenset({"action", "form", "version"})
"""Fields that are no part of a body."""
CONFIRM = "confirm"
"""The field that a name has to be typed into."""
Fields = tuple[tuple[str, str], ...]
Body = Callable[[Iterable[tuple[str, str]]], tuple[dict[str, Any], Words]]


@dataclass(frozen=True)
class Action:
    """What one form does."""

    name: str
    operation_name: str
    screen: str
    """Where the form is."""
    done: str
    """What is said once it is done."""
    leads: str = ""
    """The screen that comes next; without one it is the form's own."""
    body: Body = forms.body
    confirms: str = ""
    """The part of the path that has to be typed once more, into field `confirm`."""
    shows: bool = False
    """Whether its screen shows at once what the operation answers: no address is to hold that."""
    about: str = ""
    """Of what in `Versions` it has to have the current version, so that nobody undoes what others do meanwhile."""

    @property
    def operation(self) -> Operation:
        """The operation that does it."""
        return OPERATIONS[self.operation_name]

    @property
    def next(self) -> str:
        """The screen that says that it is done."""
        return self.leads or self.screen


ACTIONS: tuple[Action, ...] = (
    Action("create", "create_workspace", "new", N_("The workspace is being made."), leads="home"),
    # ---- Overview
    Action(
        "delete", "delete_workspace", "home", N_("The workspace is being deleted."), leads="workspaces", confirms="w"
    ),
    # ---- Members
    Action(
        "add_members",
        "edit_workspace",
        "members",
        N_("The members are added. Each has access with the next login."),
        body=members.added,
    ),
    Action("change_role", "change_member", "members", N_("The role is changed.")),
    Action("remove_member", "remove_member", "members", N_("The member is removed.")),
    Action("hand_over", "hand_over", "members", N_("The workspace has another owner.")),
    # ---- Buckets
    Action("add_bucket", "edit_workspace", "buckets", N_("The bucket is being made.")),
    Action("change_bucket", "change_bucket", "buckets", N_("The bucket is changed.")),
    Action("remove_bucket", "remove_bucket", "buckets", N_("The bucket is removed."), confirms="b"),
    Action("check_rules", "change_bucket", "bucket", "", body=buckets.edited, shows=True, about="rules"),
    Action("change_rules", "change_bucket", "bucket", N_("The rules are kept."), body=buckets.edited, about="rules"),
    # ---- Sharing
    Action("ask", "request_access", "sharing", N_("The request waits for the owner of the bucket.")),
    Action("withdraw", "withdraw_request", "sharing", N_("The request is withdrawn.")),
    Action("grant", "grant_access", "sharing", N_("Access is granted."), about="decision"),
    Action("deny", "grant_access", "sharing", N_("The request is denied."), about="decision"),
    Action("revoke", "grant_access", "sharing", N_("Access is revoked."), about="decision"),
    Action("share", "grant_access", "sharing", N_("Access is granted.")),
    # ---- Sessions
    Action("add_session", "create_session", "sessions", N_("The session is added."), body=sessions.added),
    Action("start_session", "change_session", "sessions", N_("The session starts.")),
    Action("stop_session", "change_session", "sessions", N_("The session stops.")),
    Action("remove_session", "remove_session", "sessions", N_("The session is removed."), confirms="s"),
    Action("cancel_session", "change_session", "session", N_("The session stops."), leads="sessions"),
    # ---- Stores
    Action("add_store", "edit_workspace", "stores", N_("The store is being made."), body=stores.added),
    Action("check_rotate", "rotate_store", "stores", "", shows=True),
    Action("rotate", "rotate_store", "stores", N_("The credentials are being replaced.")),
    Action("check_backup", "backup_store", "stores", "", shows=True),
    Action("backup", "backup_store", "stores", N_("The server is being backed up.")),
    Action("check_restore", "restore_store", "stores", "", shows=True),
    Action("restore", "restore_store", "stores", N_("The server is being restored."), confirms="name"),
    Action("check_remove_store", "remove_store", "stores", "", shows=True),
    Action("remove_store", "remove_store", "stores", N_("The store is removed."), confirms="name"),
    # ---- Credentials
    Action("show_credentials", "get_credentials", "credentials", "", shows=True),
)

BY_NAME = {action.name: action for action in ACTIONS}


@dataclass(frozen=True)
class Filled(Asked):
    """A form that was filled in, as what it asks of an operation."""

    words: Words
    typed: Mapping[str, str]
    """What was typed, by field."""
    version: str = ""
    """Of what it is about, as the form had it."""


class Versions:
    """What single things of a workspace are like, as its viewer sees them: equal as long as nobody changes them."""

    def __init__(self, view: Mapping[str, Any]) -> None:
        self._view = view

    def of(self, action: Action, parts: Mapping[str, str]) -> str:
        """That of what an action is about; empty where it is about nothing that others could change meanwhile."""
        if not action.about:
            return ""
        if action.about == "rules":
            found = self._rules.get(parts["b"])
        else:
            found = self._decisions.get((parts["workspace"], parts["b"]))
        return hashlib.sha256(orjson.dumps(found, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]

    @cached_property
    def _rules(self) -> dict[str, Any]:
        return {bucket["name"]: bucket["lifecycle_rules"] for bucket in self._view["storage"]["buckets"]}

    @cached_property
    def _decisions(self) -> dict[tuple[str, str], Any]:
        return {(row["workspace"], row["bucket"]): row for row in self._view["storage"]["bucket_access_requests"]}


def filled(action: Action, fields: Fields, path: Mapping[str, str]) -> Filled:
    """What the fields of a form say, or `Problem`; `path` has the parts of the address that it was sent to."""
    operation = action.operation
    values = dict(fields)
    names = {piece[1:-1] for piece in operation.path.split("/") if piece.startswith("{")} - path.keys()
    for name in sorted(names - values.keys()):
        raise wrong(("body", name), "Field required", "", "missing")
    query = {name: value for name, value in fields if name in operation.query and value}
    rest = tuple(
        (name, value)
        for name, value in fields
        if name not in names and name not in operation.query and name not in OURS
    )
    made, words = action.body(rest) if operation.body is not None else ({}, {})
    parts = {**path, **{name: values[name] for name in names}}
    typed = {name: value for name, value in fields if name not in OURS}
    return Filled(parts, query, orjson.dumps(made), words, typed, values.get("version", ""))


def require_confirmation(action: Action, form: Filled) -> None:
    """Raise `Problem` unless what has to be typed once more was."""
    name = form.parts.get(action.confirms, "")
    if action.confirms and form.typed.get(CONFIRM, "").strip() != name:
        raise wrong(("body", CONFIRM), f"must be {name}", "")
