"""Every operation of the API, once: from this table are made the routes, what each needs, OpenAPI and the tests."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel

from datalabd.api import workspace as answers
from datalabd.api import workspace_bodies as bodies
from workspaces.permissions import Permission


class Needs(StrEnum):
    """What an operation asks of whoever calls it, beside permissions on one workspace."""

    NOTHING = "nothing"
    TOKEN = "a token"
    ANY = "any permission"
    """On the workspace of the path."""
    EDIT = "a permission for each entry"
    """On the workspace of the path, as `permissions.needed` says; any permission for an empty body."""
    OWNER = "the owner"
    """Or a platform admin."""
    PLATFORM_ADMIN = "a platform admin"


Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


@dataclass(frozen=True)
class Operation:
    """One thing that can be asked for."""

    name: str
    """Also `operationId`, and what the server finds the handler by."""
    method: Method
    path: str
    needs: Needs | Permission
    summary: str
    body: type[BaseModel] | None = None
    answer: Any = None
    """Model, or list of one; None: nothing, or no JSON."""
    status: int = 200
    tag: str = "Workspaces"
    parameters: tuple[str, ...] = ()
    """Names of parameters of the query; `PARAMETERS` describes them."""

    @property
    def is_write(self) -> bool:
        """Whether it can change something. Opening a session by GET may, and counts as a read all the same."""
        return self.method != "GET"

    @property
    def on_workspace(self) -> bool:
        """Whether it is about one workspace."""
        return "{w}" in self.path

    @property
    def query(self) -> tuple[str, ...]:
        """Every parameter of the query."""
        return (*self.parameters, "dry_run") if self.is_write else self.parameters


@dataclass(frozen=True)
class Asked:
    """What is asked of an operation by a request that is made to another address, as the form of a page is."""

    parts: Mapping[str, str]
    """Of the path, by name."""
    query: Mapping[str, str]
    body: bytes


PARAMETERS: dict[str, dict[str, Any]] = {
    "limit": {"description": "Most entries of a page.", "schema": {"type": "integer", "minimum": 1, "maximum": 500}},
    "continue": {
        "description": "Where the page begins, as an earlier answer says.",
        "schema": {"type": "string", "maxLength": 2048},
    },
    "name": {"description": "Only workspaces whose name contains it.", "schema": {"type": "string", "maxLength": 253}},
    "status": {
        "description": "Only workspaces of this status, `ready` or `provisioning`.",
        "schema": {"type": "string", "enum": list(answers.Status)},
    },
    "grants": {
        "description": "`revoke` ends grants of the bucket; without it, grants in force refuse the removal.",
        "schema": {"type": "string", "enum": ["revoke"]},
    },
    "data": {
        "description": "`adopt`: the workspace takes up the volumes that a deleted one of its name left, whoever owned "
        "it. Without it, creation is refused while there are any.",
        "schema": {"type": "string", "enum": ["adopt"]},
    },
    "after": {
        "description": "`id` of the last event that is known already, where no `Last-Event-ID` can be sent.",
        "schema": {"type": "string", "maxLength": 64},
    },
    "dry_run": {"description": "Changes nothing; the answer is as it would be.", "schema": {"type": "boolean"}},
    "prefix": {
        "description": "Only objects whose keys begin with it.",
        "schema": {"type": "string", "maxLength": 1024},
    },
    "key": {"description": "Key of the object.", "schema": {"type": "string", "maxLength": 1024}},
}

W = "/workspaces/{w}"
MEMBER = f"{W}/members/{{m}}"
BUCKET = f"{W}/buckets/{{b}}"
STORE = f"{W}/stores/{{type}}/{{name}}"
SESSIONS = f"{W}/sessions"
SESSION = f"{SESSIONS}/{{s}}"
REQUEST = f"{W}/requests/{{b}}"
GRANT = f"{W}/grants/{{b}}/{{workspace}}"


def _system(name: str, path: str, needs: Needs, summary: str) -> Operation:
    return Operation(name, "GET", path, needs, summary, tag="System")


OPERATIONS: tuple[Operation, ...] = (
    _system("probe", "/probe", Needs.NOTHING, "Whether the process runs"),
    _system("readiness", "/readyz", Needs.NOTHING, "What is missing before everything can be answered"),
    _system("metrics", "/metrics", Needs.NOTHING, "Metrics, as Prometheus reads them"),
    _system("openapi", "/openapi.json", Needs.NOTHING, "This document"),
    _system("docs", "/docs", Needs.NOTHING, "This document as a page"),
    _system("status", "/status", Needs.TOKEN, "Which kinds the cluster serves"),
    _system("debug", "/debug", Needs.TOKEN, "The request as it arrives"),
    Operation(
        "list_workspaces",
        "GET",
        "/workspaces",
        Needs.TOKEN,
        "Workspaces on which the caller has a permission",
        answer=list[answers.WorkspaceRow],
        parameters=("limit", "continue", "name", "status"),
    ),
    Operation(
        "create_workspace",
        "POST",
        "/workspaces",
        Needs.PLATFORM_ADMIN,
        "Make a workspace",
        bodies.WorkspaceCreate,
        answers.Created,
        201,
        parameters=("data",),
    ),
    Operation(
        "watch_workspaces",
        "GET",
        "/events",
        Needs.TOKEN,
        "Changes of these workspaces as they happen",
        parameters=("after",),
    ),
    Operation("get_workspace", "GET", W, Needs.ANY, "A workspace", answer=answers.Workspace),
    Operation("edit_workspace", "PUT", W, Needs.EDIT, "Add to it", bodies.WorkspaceEdit, answers.Created, 202),
    Operation("delete_workspace", "DELETE", W, Needs.PLATFORM_ADMIN, "Delete it", status=204),
    Operation("watch_workspace", "GET", f"{W}/events", Needs.ANY, "The workspace, again with each change"),
    Operation(
        "list_activity",
        "GET",
        f"{W}/activity",
        Needs.ANY,
        "Events of its Storage and Datalab, newest first",
        answer=answers.ActivityPage,
        parameters=("limit", "continue"),
    ),
    Operation(
        "get_credentials",
        "GET",
        f"{W}/credentials",
        Permission.VIEW_BUCKET_CREDENTIALS,
        "Credentials in clear, those of stores with VIEW_STORES",
        answer=answers.AllCredentials,
    ),
    Operation(
        "issue_token",
        "GET",
        f"{W}/token",
        Permission.ISSUE_TOKENS,
        "A token of its own client",
        answer=answers.Token,
    ),
    Operation(
        "change_member",
        "PATCH",
        MEMBER,
        Permission.MANAGE_MEMBERS,
        "Give a member another role",
        bodies.MembershipPatch,
        answers.Created,
        202,
        "Members",
    ),
    Operation(
        "remove_member", "DELETE", MEMBER, Permission.MANAGE_MEMBERS, "Remove a member", status=204, tag="Members"
    ),
    Operation(
        "hand_over",
        "PUT",
        f"{W}/owner",
        Needs.OWNER,
        "Make a member the owner",
        bodies.OwnerPut,
        answers.Created,
        202,
        "Members",
    ),
    Operation(
        "change_bucket",
        "PATCH",
        BUCKET,
        Permission.MANAGE_BUCKETS,
        "Change a bucket",
        bodies.BucketPatch,
        answers.Created,
        202,
        "Buckets",
    ),
    Operation(
        "remove_bucket",
        "DELETE",
        BUCKET,
        Permission.MANAGE_BUCKETS,
        "Remove a bucket",
        status=204,
        tag="Buckets",
        parameters=("grants",),
    ),
    Operation(
        "request_access",
        "PUT",
        REQUEST,
        Permission.VIEW_BUCKETS,
        "Ask for a bucket of another workspace",
        bodies.RequestPut,
        answers.Created,
        202,
        "Buckets",
    ),
    Operation(
        "withdraw_request",
        "DELETE",
        REQUEST,
        Permission.VIEW_BUCKETS,
        "Withdraw a request",
        status=204,
        tag="Buckets",
    ),
    Operation(
        "grant_access",
        "PUT",
        GRANT,
        Permission.MANAGE_BUCKETS,
        "Decide what another workspace gets of a bucket",
        bodies.GrantPut,
        answers.Created,
        202,
        "Buckets",
    ),
    Operation("end_grant", "DELETE", GRANT, Permission.MANAGE_BUCKETS, "End a grant", status=204, tag="Buckets"),
    Operation(
        "list_objects",
        "GET",
        f"{BUCKET}/objects",
        Permission.VIEW_BUCKET_CREDENTIALS,
        "Objects of a bucket, by the workspace's keys",
        answer=answers.ObjectPage,
        tag="Objects",
        parameters=("prefix", "limit", "continue"),
    ),
    Operation(
        "measure_bucket",
        "GET",
        f"{BUCKET}/usage",
        Permission.VIEW_BUCKET_CREDENTIALS,
        "How many objects a bucket has, and their size, as far as 10,000 objects",
        answer=answers.BucketUsage,
        tag="Objects",
    ),
    Operation(
        "download_object",
        "GET",
        f"{BUCKET}/content",
        Permission.VIEW_BUCKET_CREDENTIALS,
        "An object itself, of at most 100 MiB, or where browsers get it",
        tag="Objects",
        parameters=("key",),
    ),
    Operation(
        "remove_store",
        "DELETE",
        STORE,
        Permission.MANAGE_STORES,
        "Remove a store",
        answer=answers.Created,
        tag="Stores",
    ),
    *(
        Operation(
            f"{action}_store",
            "POST",
            f"{STORE}/{action}",
            Permission.MANAGE_STORES,
            summary,
            bodies.StoreAction,
            answers.Asked,
            202,
            "Stores",
        )
        for action, summary in (
            ("rotate", "Replace its credentials"),
            ("backup", "Back it up"),
            ("restore", "Go back to its backups"),
        )
    ),
    Operation(
        "list_sessions",
        "GET",
        SESSIONS,
        Permission.VIEW_SESSIONS,
        "Sessions",
        answer=list[answers.Session],
        tag="Sessions",
    ),
    Operation(
        "create_session",
        "POST",
        SESSIONS,
        Permission.MANAGE_SESSIONS,
        "Declare a session",
        bodies.SessionCreate,
        answers.Session,
        201,
        "Sessions",
    ),
    Operation(
        "open_session",
        "GET",
        SESSION,
        Permission.VIEW_SESSIONS,
        "Where a session is; starts one that is stopped",
        answer=answers.Opened,
        tag="Sessions",
    ),
    Operation(
        "change_session",
        "PATCH",
        SESSION,
        Permission.MANAGE_SESSIONS,
        "Start or stop a session",
        bodies.SessionPatch,
        answers.Session,
        202,
        "Sessions",
    ),
    Operation(
        "remove_session",
        "DELETE",
        SESSION,
        Permission.MANAGE_SESSIONS,
        "Remove a session with its data",
        status=204,
        tag="Sessions",
    ),
)

BY_NAME = {operation.name: operation for operation in OPERATIONS}
