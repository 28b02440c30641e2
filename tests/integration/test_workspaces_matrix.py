"""Who may do what: every operation, by everybody, on a workspace of theirs, on another's, and on one that is not there.

What an operation needs is in its table; what a role may is written down here once more, as the reference has it.
Nothing is changed: writes are dry runs.
"""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from hack.cluster import Cluster
from hack.issuer import Issuer
from tests.integration.workspace_server import Server, new_namespace, serving, storage, workspace
from tests.workspaces.examples import ABSENT, EXAMPLES, FOREIGN, OWN
from workspaces.operations import BY_NAME, OPERATIONS, Needs, Operation

pytestmark = pytest.mark.cluster

USERS: dict[str, dict[str, list[str]]] = {
    "stranger": {"account": ["view-profile"]},
    "robot": {OWN: ["ws_api"]},
    "joe": {OWN: ["ws_access"]},
    "alice": {OWN: ["ws_admin"]},
    "deputy": {OWN: ["ws_admin"]},
    "bob": {FOREIGN: ["ws_admin"]},
    "root": {"workspace-api": ["admin"]},
}
"""Roles by user. Of OWN alice is the owner, of FOREIGN bob."""
VIEWS = {
    f"VIEW_{what}" for what in ("BUCKETS", "BUCKET_CREDENTIALS", "MEMBERS", "RESOURCE_USAGE", "SESSIONS", "STORES")
}
MANAGES = {f"MANAGE_{what}" for what in ("BUCKETS", "MEMBERS", "SESSIONS", "STORES")} | {"ISSUE_TOKENS"}
PERMISSIONS = {"ws_api": {"VIEW_BUCKET_CREDENTIALS"}, "ws_access": VIEWS, "ws_admin": VIEWS | MANAGES}
TODAY = "2026-01-01T00:00:00Z"
FORBIDDEN = {"detail": "Forbidden"}


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with Issuer(USERS) as issuer:
        yield issuer


@pytest.fixture(scope="module")
def server(cluster: Cluster, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    namespace = new_namespace(cluster)
    sessions = [{"name": "default", "state": "started"}]
    for name, users in ((OWN, ["alice", "joe", "deputy"]), (FOREIGN, ["bob"])):
        workspace(cluster, namespace, name, users=users, sessions=sessions)
    spec = {
        "buckets": [{"bucketName": OWN, "discoverable": True}, {"bucketName": f"{OWN}-more"}],
        "bucketAccessRequests": [{"bucketName": FOREIGN, "reason": "ReadOnly", "requestedAt": TODAY}],
        "bucketAccessGrants": [
            {"bucketName": OWN, "grantee": FOREIGN, "permission": "ReadOnly", "grantedAt": TODAY},
        ],
    }
    cluster.api.apply(storage(namespace, OWN, **spec))
    buckets = [{"bucketName": name, "discoverable": True} for name in (FOREIGN, f"{FOREIGN}-shared")]
    asked = [{"bucketName": OWN, "reason": "ReadOnly", "requestedAt": TODAY}]
    cluster.api.apply(storage(namespace, FOREIGN, buckets=buckets, bucketAccessRequests=asked))
    log = tmp_path_factory.mktemp("workspaces") / "log"
    with serving(cluster, namespace, log, issuer) as server:
        yield server


def tokens(issuer: Issuer) -> dict[str, str]:
    """A token of each user; and those that are none."""
    with_other_key = issuer.access_token("alice").rpartition(".")[0] + "." + "A" * 342
    return {user: issuer.access_token(user) for user in USERS} | {
        "nobody": "",
        "expired": issuer.access_token("alice", exp=1),
        "forged": with_other_key,
    }


def is_allowed(operation: Operation, user: str, name: str) -> bool:
    """Whether a user whose token is good may do it on the workspace of that name, by the reference."""
    if user == "root" or operation.needs in (Needs.NOTHING, Needs.TOKEN):
        return True
    permissions = set().union(*(PERMISSIONS[role] for role in USERS[user].get(name, ()) if role in PERMISSIONS))
    match operation.needs:
        case Needs.PLATFORM_ADMIN:
            return False
        case Needs.OWNER:
            return (user, name) in (("alice", OWN), ("bob", FOREIGN))
        case Needs.ANY:
            return bool(permissions)
        case Needs.EDIT:
            return "MANAGE_MEMBERS" in permissions
    return str(operation.needs) in permissions


def ask(client: httpx.Client, operation: Operation, name: str, token: str, content: bytes | None = None) -> Any:
    """Status, body and authentication header of an answer; of a stream the body is left."""
    example = EXAMPLES[operation.name]
    path = operation.path.format(w=name, **example.path)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    parameters = {"dry_run": "true"} if operation.is_write else {}
    body: dict[str, Any] = {} if example.body is None else {"json": example.body}
    if content is not None:
        body = {"content": content}
        headers["Content-Type"] = "application/json"
    with client.stream(operation.method, path, headers=headers, params=parameters, **body) as answer:
        if answer.headers.get("Content-Type", "").startswith("text/event-stream"):
            return answer.status_code, None
        answer.read()
        is_json = answer.headers.get("Content-Type", "").startswith("application/json")
        return answer.status_code, answer.json() if is_json and answer.content else None


def test_every_operation_has_an_example() -> None:
    assert EXAMPLES.keys() == BY_NAME.keys()


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_operation_is_for_whom_the_table_says(server: Server, issuer: Issuer, operation: Operation) -> None:
    found: dict[tuple[str, str], Any] = {}
    expected: dict[tuple[str, str], Any] = {}
    with server.as_() as client:
        for user, token in tokens(issuer).items():
            for name in (OWN, FOREIGN, ABSENT) if operation.on_workspace else (OWN,):
                status, body = ask(client, operation, name, token)
                if operation.needs is Needs.NOTHING:
                    expected[user, name] = "answered"
                    found[user, name] = "answered" if status == EXAMPLES[operation.name].status else (status, body)
                elif user not in USERS:
                    detail = "Missing Authorization header" if user == "nobody" else "Invalid access token"
                    expected[user, name], found[user, name] = (401, {"detail": detail}), (status, body)
                elif not is_allowed(operation, user, name):
                    expected[user, name], found[user, name] = (403, FORBIDDEN), (status, body)
                elif name == OWN:
                    expected[user, name], found[user, name] = EXAMPLES[operation.name].status, status
                else:
                    expected[user, name] = "answered"
                    found[user, name] = "answered" if status not in (401, 403, 500) else (status, body)
    assert found == expected


@pytest.mark.parametrize(
    "operation", [operation for operation in OPERATIONS if operation.body is not None], ids=lambda each: each.name
)
def test_a_body_is_read_only_of_whom_may_send_it(server: Server, issuer: Issuer, operation: Operation) -> None:
    with server.as_() as client:
        for content in (b"{", b"[]", b'{"x": NaN}'):
            for name in (OWN, ABSENT):
                assert ask(client, operation, name, issuer.access_token("stranger"), content) == (403, FORBIDDEN)
