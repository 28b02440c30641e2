"""The reference of the Workspace API, from the tables that it runs by: operations, roles, settings."""

from dataclasses import fields
from itertools import groupby

from datalabd.api.workspace_bodies import LIST_MAX
from workspaces.answers import BODY_MAX, ROOM
from workspaces.operations import OPERATIONS, PARAMETERS, Needs, Operation
from workspaces.permissions import ROLE_PERMISSIONS, Permission, Role
from workspaces.problems import SENTENCES
from workspaces.rates import Rates
from workspaces.runner import HEAD_MAX
from workspaces.settings import Settings
from workspaces.streams import STREAMS_MAX
from workspaces.tokens import TOKEN_MAX

_NEEDS = {
    Needs.NOTHING: "nothing",
    Needs.TOKEN: "a token",
    Needs.ANY: "any permission",
    Needs.EDIT: "by entry, see below",
    Needs.OWNER: "to be the owner, or a platform admin",
    Needs.PLATFORM_ADMIN: "to be a platform admin",
}
_HEAD = """# Workspace API

Answers and bodies are JSON, described by [openapi.json](openapi.json); `/docs` shows the same as a page. Permissions
are those on the workspace of the path. Nobody without one learns whether the workspace exists: the answer is 403
`{"detail": "Forbidden"}` either way.

"""
_EDIT = """
`PUT /workspaces/{w}` needs MANAGE_MEMBERS, MANAGE_STORES and MANAGE_BUCKETS for the lists that have entries. Each entry
of `patch_bucket_access_requests` is looked at by itself: a request of `{w}` needs VIEW_BUCKETS; a decision on another's
needs MANAGE_BUCKETS, on a bucket of `{w}` that the other asked for, or that was decided on before. An empty body needs
any permission.

"""
_WRITES = """
## Writes

- With `If-Match` and the `ETag` of `GET /workspaces/{w}` a write is refused (412) if the workspace has changed since.
  A change of status alone does not count. `If-None-Match` is ignored.
- With `?dry_run=true` everything is checked, by the cluster too, and nothing changes.
- What admission has to say of a write is `warnings` of the answer; where that has no body, headers `Warning`.
- A write that meets a change by somebody else is decided again on what is there now, up to five times; then it is 409
  `conflict`. Of two edits of different members, buckets or sessions both take effect.
- An edit of Storage and Datalab is made whole or not at all. If half of it could neither be completed nor taken back,
  502 `partly_applied` names both halves.
- What others decided on a workspace, such as grants of their buckets, ends when it is deleted here. Where kubectl
  deleted it, that ends before another of its name is made here.
- An edit of one object is one patch, that of both a dry run and a patch of each. What changes the Storage alone reads
  the Datalab first, which says who was removed; a new bucket costs a dry run and a patch more, which claims its name.
- The next read at the same replica sees a write, and within a second one at any other.
- What a body has beyond what is described is ignored.

## Streams

`/workspaces/{w}/events` and `/events` are server-sent events:

| Event | Stream | Data |
|---|---|---|
| `snapshot` | both, first | the answer of `GET /workspaces/{w}`, without credentials, or of `GET /workspaces` |
| `snapshot` | `/workspaces/{w}/events` | the same after a change |
| `changed` | `/events` | `workspace`, `parts`, `version`; the last is null if the reader cannot see it any more |
| `stale` | `/events` | `since`: from when on the API server has told no changes; null once it tells them again |
| `gone` | `/workspaces/{w}/events` | `workspace`, and `status`: 403 or 404; nothing follows |

`parts` are some of `buckets`, `credentials`, `members`, `requests`, `sessions`, `status`, `stores`, `usage`. There
are at most five events a second. Where nothing happens for 15 s, `/workspaces/{w}/events` has a comment and `/events`
an event `beat`. Which buckets of others can be found is told at once, and then at most every two seconds. Whoever
connects with the `Last-Event-ID` of the current state, or with it as `after` of the query, gets no snapshot. A stream
ends when its token does, and when its reader leaves 1 MiB unread.

## Errors

An error is `{"detail": …}`: a text; an object with a word for programs in `error`; or, for a request that is not
valid, a list with `loc`, `msg` and `type` of each value that is wrong. With `Accept: application/problem+json` it is
RFC 9457, where `detail` is a sentence and `errors` has the rest. 401 has `WWW-Authenticate`; 429 and 503 have
`Retry-After`.

| `error` | Meaning |
|---|---|
"""
_LIMITS = f"""
## Limits

| What | At most | Beyond |
|---|---|---|
| a body | {BODY_MAX >> 20} MiB | 413 |
| a body with `Content-Encoding` | none | 415 |
| bodies over 64 KiB, of a replica at once | {ROOM >> 20} MiB | they wait for 5 s, then 503 |
| the time until such a body is here, once there is room | 5 s | 408 |
| a token, any other header | {TOKEN_MAX >> 10} KiB | 431 |
| a request line with all its headers | {HEAD_MAX >> 10} KiB | 431 |
| the time until a request's headers are here | 10 s | the connection ends |
| the time until its body is here, then | 30 s | the connection ends |
| the time in which a client reads 64 KiB of an answer, or all that is left | 60 s | the connection ends |
| answers that clients have not read, of a replica | 32 MiB | connections of whoever has most end |
| connections of a replica | 1,024 | one that is idle ends, else the new one |
| requests of a user | `RATE_LIMITS`, at each replica | 429 |
| streams of a user | {STREAMS_MAX}, at each replica | 429 |
| entries of a list in a body | {LIST_MAX} | 422 |
| sessions of a workspace | `MAX_SESSIONS` | 422 `session_limit_exceeded` |

A user is whom a token names by `sub`. The machines of a workspace, whose tokens its client (`azp`) was given for role
`ws_api`, are one user together, however many tokens they have. Who administers several workspaces can have tokens of
the machines of each: bound what one address may ask at the proxy.
"""
_ROLES = """
## Roles

A token's `resource_access` has roles by client. Role `admin` of client `workspace-api` makes a platform admin, who has
every permission on every workspace. Any other client is a workspace; of several roles the first of these decides:

"""
_CAPS = """
Who is removed, or is an administrator no longer, is kept from what an older token says: for a day, or until added or
promoted again. Annotation `workspaces.pkg.internal/caps` of the Datalab says so. After more than some 380 removals in a
day, or where the annotation cannot be read, tokens give at most what `spec.users` and `spec.userOverrides` say of
their user: nothing to machines and to whoever has a role from Keycloak alone. The next removal mends an annotation that
cannot be read, and a day later it is gone; an operator may delete it sooner.

A token that was issued before the Storage or the Datalab was made, or that has no `iat`, gives no role on it: the name
may have been somebody else's workspace. Log in again, or get a new token. Platform admins need none.

With `SESSION_CHANGES=operators` nobody but platform admins has MANAGE_SESSIONS, and opening a stopped session is
refused.

## Settings

`datalabd workspaces` reads these variables of its environment once. A wrong one is named on standard error, with exit
code 2.

| Variable | Default | Meaning |
|---|---|---|
| `KUBECONFIG` | kubectl's file, else the pod's account | kubeconfig of the cluster |
"""


def page() -> str:
    """Endpoints, roles and settings as tables."""
    parts = [_HEAD, _endpoints(), _EDIT, _queries(), _WRITES, _errors(), _LIMITS, _ROLES, _roles(), _CAPS, _settings()]
    return "".join(parts)


def _endpoints() -> str:
    found = ""
    for tag, operations in groupby(sorted(OPERATIONS, key=_order), key=lambda one: one.tag):
        rows = "".join(
            f"| `{one.method}` | `{one.path}` | {_needs(one)} | {one.summary} | {one.status} |\n" for one in operations
        )
        found += f"## {tag}\n\n| Method | Path | Needs | What it does | Status |\n|---|---|---|---|---|\n{rows}\n"
    return found.rstrip() + "\n"


def _order(one: Operation) -> int:
    return list(dict.fromkeys(operation.tag for operation in OPERATIONS)).index(one.tag)


def _needs(one: Operation) -> str:
    return str(one.needs) if isinstance(one.needs, Permission) else _NEEDS[one.needs]


def _queries() -> str:
    rows = ""
    for name, said in PARAMETERS.items():
        of = [f"`{one.method} {one.path}`" for one in OPERATIONS if name in one.parameters]
        if of or name == "dry_run":
            rows += f"| `{name}` | {', '.join(of) or 'every write'} | {said['description']} |\n"
    return f"## Parameters of the query\n\n| Parameter | Of | Meaning |\n|---|---|---|\n{rows}"


def _errors() -> str:
    return "".join(f"| `{word}` | {sentence.rstrip('.')} |\n" for word, sentence in sorted(SENTENCES.items()))


def _roles() -> str:
    roles = (Role.ADMIN, Role.ACCESS, Role.API)
    rows = "".join(
        f"| {permission} | {' | '.join('yes' if permission in ROLE_PERMISSIONS[role] else '' for role in roles)} |\n"
        for permission in sorted(Permission)
    )
    return f"| Permission | {' | '.join(f'`{role}`' for role in roles)} |\n|---|---|---|---|\n{rows}"


def _settings() -> str:
    return "".join(
        f"| `{entry.metadata['variable']}` | {_default(entry.default)} | {entry.metadata['meaning']} |\n"
        for entry in fields(Settings)
    )


def _default(value: object) -> str:
    match value:
        case None | "" | ():
            return "none"
        case frozenset():
            return "none"
        case bool():
            return f"`{str(value).lower()}`"
        case tuple():
            return f"`{' '.join(map(str, value))}`"
        case float():
            return f"`{value:g}`"
        case Rates(reads=reads, writes=writes):
            return f"`reads={reads},writes={writes}`"
        case _:
            return f"`{value}`"
