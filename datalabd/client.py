"""A typed client of the Workspace API.

async with WorkspaceClient("https://workspaces.example.org", token) as client:
    for row in await client.workspaces():
        print(row.name, row.status)
"""

import copy
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import parse_qs, quote, urlsplit

import aiohttp
import orjson
from pydantic import TypeAdapter
from yarl import URL

from datalabd.api import workspace as answers
from datalabd.api import workspace_bodies as bodies
from datalabd.api.v1beta2 import Role, State
from datalabd.api.workspace import Status, StoreType, Wire
from datalabd.errors import DatalabdError
from datalabd.text import bounded

Answer = TypeVar("Answer")
Token = str | Callable[[], Awaitable[str]]
"""An access token, or what gives one that holds; it is asked before each request."""

TIMEOUT = aiohttp.ClientTimeout(total=60, sock_connect=10)
STREAM_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=45)
"""A stream says something every 15 seconds, and an object takes as long as it is large."""
PAGE = 500
LINE_MAX = 4 * 1024 * 1024
"""Bytes of one event."""


class WorkspaceError(DatalabdError):
    """The API refused; `detail` is its answer's, and `retry_after` the seconds to wait, where it says so."""

    def __init__(self, status: int, detail: Any, retry_after: float | None = None) -> None:
        super().__init__(f"{status}: {bounded(detail) or bounded(str(detail))}")
        self.status = status
        self.detail = detail
        self.retry_after = retry_after

    @property
    def error(self) -> str:
        """The word for programs in `detail`; empty where there is none."""
        return str(self.detail.get("error", "")) if isinstance(self.detail, dict) else ""


class WorkspaceClient:
    """Everything that the API offers but login and pages; an async context that closes its connections.

    Every method raises WorkspaceError for a refusal, aiohttp.ClientError where there is no answer, and TimeoutError.
    `version` is an ETag of `workspace`: 412 if it has changed since.
    """

    def __init__(self, url: str, token: Token, session: aiohttp.ClientSession | None = None) -> None:
        """`url` is where the API is, with a path if it has one. A session that is given is left open."""
        self._url = url.rstrip("/")
        self._token = token
        self._own = session is None
        self._session = session or aiohttp.ClientSession(timeout=TIMEOUT)
        self._is_dry_run = False

    def dry_run(self) -> Self:
        """The same client, but its writes are checked and change nothing. Opening a session is none: it starts one."""
        made = copy.copy(self)
        made._own, made._is_dry_run = False, True
        return made

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._own:
            await self._session.close()

    # ---- Workspaces

    async def workspaces(self, *, name: str = "", status: Status | None = None) -> list[answers.WorkspaceRow]:
        """Workspaces that the caller has a permission on, by name; of all pages."""
        query = {"limit": str(PAGE)} | ({"name": name} if name else {}) | ({"status": str(status)} if status else {})
        found: list[answers.WorkspaceRow] = []
        while True:
            response = await self._send("GET", "/workspaces", query=query)
            found += TypeAdapter(list[answers.WorkspaceRow]).validate_json(response.body)
            if not response.following:
                return found
            query["continue"] = response.following

    async def create(self, preferred_name: str = "", default_owner: str = "", *, adopt: bool = False) -> str:
        """Make a workspace; its name. With `adopt` it takes up the volumes that a deleted one of its name left."""
        body = bodies.WorkspaceCreate(preferred_name=preferred_name, default_owner=default_owner)
        query = {"data": "adopt"} if adopt else None
        response = await self._send("POST", "/workspaces", body, query=query)
        return answers.Created.model_validate_json(response.body).name

    async def workspace(self, name: str) -> tuple[answers.Workspace, str]:
        """A workspace, and its ETag."""
        response = await self._send("GET", _path(name))
        return answers.Workspace.model_validate_json(response.body), response.headers.get("ETag", "")

    async def edit(self, name: str, edit: bodies.WorkspaceEdit, *, version: str = "") -> answers.Created:
        """Add members, stores and buckets, and decide on requests: all of it, or nothing."""
        return await self._ask(answers.Created, "PUT", _path(name), edit, version)

    async def delete(self, name: str) -> None:
        """Delete a workspace."""
        await self._send("DELETE", _path(name))

    async def credentials(self, name: str) -> answers.AllCredentials:
        """Its credentials in clear."""
        return await self._ask(answers.AllCredentials, "GET", _path(name, "credentials"))

    async def token(self, name: str) -> answers.Token:
        """A token of its own client."""
        return await self._ask(answers.Token, "GET", _path(name, "token"))

    async def activity(self, name: str, following: str = "") -> answers.ActivityPage:
        """Events of its objects, newest first; `following` is `continue_` of the page before."""
        query = {"continue": following} if following else None
        response = await self._send("GET", _path(name, "activity"), query=query)
        return answers.ActivityPage.model_validate_json(response.body)

    async def watch(self, name: str) -> AsyncIterator[answers.Workspace]:
        """The workspace without credentials, at once and again with each change, until the stream ends."""
        headers = await self._headers() | {"Accept": "text/event-stream"}
        url = self._url + _path(name, "events")
        async with self._session.get(url, headers=headers, timeout=STREAM_TIMEOUT, read_bufsize=LINE_MAX) as response:
            if response.status >= 400:
                raise _error(response.status, await response.read(), response.headers)
            async for line in response.content:
                if line.startswith(b"data:"):
                    yield answers.Workspace.model_validate_json(line.removeprefix(b"data:"))

    # ---- Members

    async def change_member(self, name: str, member: str, role: Role, *, version: str = "") -> None:
        """Give a member another role."""
        await self._send("PATCH", _path(name, "members", member), bodies.MembershipPatch(role=role), version)

    async def remove_member(self, name: str, member: str, *, version: str = "") -> None:
        """Remove a member."""
        await self._send("DELETE", _path(name, "members", member), version=version)

    async def hand_over(self, name: str, member: str, *, version: str = "") -> None:
        """Make a member the owner."""
        await self._send("PUT", _path(name, "owner"), bodies.OwnerPut(member=member), version)

    # ---- Buckets

    async def change_bucket(self, name: str, bucket: str, edit: bodies.BucketPatch, *, version: str = "") -> None:
        """Change a bucket."""
        await self._send("PATCH", _path(name, "buckets", bucket), edit, version)

    async def remove_bucket(self, name: str, bucket: str, *, revoke_grants: bool = False, version: str = "") -> None:
        """Remove a bucket; 409 while grants of it are in force, unless they are revoked."""
        query = {"grants": "revoke"} if revoke_grants else None
        await self._send("DELETE", _path(name, "buckets", bucket), version=version, query=query)

    async def request_access(self, name: str, bucket: str, request: bodies.RequestPut) -> None:
        """Ask for a bucket of another workspace."""
        await self._send("PUT", _path(name, "requests", bucket), request)

    async def withdraw_request(self, name: str, bucket: str) -> None:
        """Ask for it no longer."""
        await self._send("DELETE", _path(name, "requests", bucket))

    async def grant_access(self, name: str, bucket: str, workspace: str, grant: bodies.GrantPut) -> None:
        """Decide what another workspace gets of a bucket."""
        await self._send("PUT", _path(name, "grants", bucket, workspace), grant)

    async def end_grant(self, name: str, bucket: str, workspace: str) -> None:
        """End a grant."""
        await self._send("DELETE", _path(name, "grants", bucket, workspace))

    # ---- Objects

    async def objects(self, name: str, bucket: str, prefix: str = "", following: str = "") -> answers.ObjectPage:
        """A page of objects and prefixes below a prefix; `following` is `continue_` of the page before."""
        query = {"prefix": prefix} | ({"continue": following} if following else {})
        response = await self._send("GET", _path(name, "buckets", bucket, "objects"), query=query)
        return answers.ObjectPage.model_validate_json(response.body)

    async def bucket_usage(self, name: str, bucket: str) -> answers.BucketUsage:
        """How many objects a bucket has, and their size, as far as 10,000 objects."""
        return await self._ask(answers.BucketUsage, "GET", _path(name, "buckets", bucket, "usage"))

    async def download(self, name: str, bucket: str, key: str) -> AsyncIterator[bytes]:
        """An object, piece by piece; ClientPayloadError where it ends too early."""
        headers = await self._headers() | {"Accept": "application/octet-stream, application/json"}
        url = self._url + _path(name, "buckets", bucket, "content")
        async with self._session.get(
            url, params={"key": key}, headers=headers, allow_redirects=False, timeout=STREAM_TIMEOUT
        ) as response:
            if response.status == 200:
                async for chunk in response.content.iter_any():
                    yield chunk
                return
            if response.status != 302:
                raise _error(response.status, await response.read(), response.headers)
            link = response.headers["Location"]
        # The link is signed as it stands, and the token is not for the object storage.
        async with self._session.get(
            URL(link, encoded=True), allow_redirects=False, timeout=STREAM_TIMEOUT
        ) as response:
            if response.status != 200:
                raise _error(response.status, await response.read(), response.headers)
            async for chunk in response.content.iter_any():
                yield chunk

    # ---- Stores

    async def remove_store(self, name: str, kind: StoreType, store: str) -> list[str]:
        """Remove a store; what admission warns of."""
        path = _path(name, "stores", kind, store)
        return (await self._ask(answers.Created, "DELETE", path)).warnings or []

    async def ask_store(
        self, name: str, kind: StoreType, store: str, action: str, details: bodies.StoreAction | None = None
    ) -> str:
        """Ask for `rotate`, `backup` or `restore`; the nonce by which the claim's status tells how far it is."""
        path = _path(name, "stores", kind, store, action)
        return (await self._ask(answers.Asked, "POST", path, details or bodies.StoreAction())).nonce

    # ---- Sessions

    async def sessions(self, name: str) -> list[answers.Session]:
        """Its sessions."""
        response = await self._send("GET", _path(name, "sessions"))
        return TypeAdapter(list[answers.Session]).validate_json(response.body)

    async def create_session(self, name: str, session: str, state: State = State.STOPPED) -> answers.Session:
        """Declare a session."""
        body = bodies.SessionCreate(name=session, state=state)
        return await self._ask(answers.Session, "POST", _path(name, "sessions"), body)

    async def open_session(self, name: str, session: str) -> str | None:
        """Where a session is; None while it is on its way. One that is stopped is started."""
        response = await self._send("GET", _path(name, "sessions", session))
        if response.status == 202:
            return None
        return answers.Opened.model_validate_json(response.body).url

    async def change_session(self, name: str, session: str, state: State) -> answers.Session:
        """Start or stop a session."""
        path = _path(name, "sessions", session)
        return await self._ask(answers.Session, "PATCH", path, bodies.SessionPatch(state=state))

    async def remove_session(self, name: str, session: str) -> None:
        """Remove a session with its data."""
        await self._send("DELETE", _path(name, "sessions", session))

    # ---- Requests

    async def _ask(
        self,
        model: type[Answer],
        method: str,
        path: str,
        body: Wire | None = None,
        version: str = "",
    ) -> Answer:
        response = await self._send(method, path, body, version)
        return TypeAdapter(model).validate_json(response.body)

    async def _send(
        self,
        method: str,
        path: str,
        body: Wire | None = None,
        version: str = "",
        query: Mapping[str, str] | None = None,
    ) -> "_Response":
        headers = await self._headers()
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = body.model_dump_json(exclude_unset=True, by_alias=True).encode()
        if version:
            headers["If-Match"] = version
        params = dict(query or {}) | ({"dry_run": "true"} if self._is_dry_run and method != "GET" else {})
        async with self._session.request(
            method, self._url + path, params=params, data=data, headers=headers, allow_redirects=False
        ) as response:
            found = _Response(response.status, await response.read(), response.headers, _following(response))
        if found.status >= 300:
            raise _error(found.status, found.body, found.headers)
        return found

    async def _headers(self) -> dict[str, str]:
        token = self._token if isinstance(self._token, str) else await self._token()
        return {"Authorization": f"Bearer {token}", "Accept": "application/json"}


class _Response(NamedTuple):
    """An answer that was read."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    following: str
    """Where the next page begins; empty: there is none."""


def _following(response: aiohttp.ClientResponse) -> str:
    """Only that: a proxy may see us elsewhere than the client does."""
    link = response.links.get("next")
    return "" if link is None else parse_qs(urlsplit(str(link["url"])).query).get("continue", [""])[0]


def _path(*parts: str) -> str:
    return "/workspaces" + "".join(f"/{quote(part, safe='')}" for part in parts)


def _error(status: int, body: bytes, headers: Mapping[str, str]) -> WorkspaceError:
    try:
        said = orjson.loads(body)
    except ValueError:
        said = {}
    detail = said.get("detail", "") if isinstance(said, dict) else ""
    after = headers.get("Retry-After", "")
    return WorkspaceError(status, detail, float(after) if after.isdigit() else None)
