"""What is read of workspaces, all of it from the caches but for their Events."""

import base64
import binascii
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import hdrs, web

from datalabd.api.meta import Manifest
from datalabd.api.workspace import Status
from datalabd.errors import KubeError
from datalabd.kube import resources as kinds
from workspaces import activities, answers, pages, problems, reads, sessions, stores, streams
from workspaces.cache import Unknown
from workspaces.call import Call, Handler
from workspaces.permissions import Permission, Permissions
from workspaces.reads import Overview, Pieces
from workspaces.stores import Offer

UNREADABLE = "Credentials cannot be read; whoever runs this API finds the reason in its log"


def require(call: Call) -> None:
    """Raise `Problem` where there are no Storages, or `Unknown` while nobody knows."""
    cache = call.cache
    cache.require(kinds.STORAGES, kinds.DATALABS)
    if cache.withheld(kinds.SECRETS) is None:
        cache.require(kinds.SECRETS)
    if not cache.are_crds_known:
        raise Unknown(kinds.CRDS)
    if not call.cache.has(kinds.STORAGES):
        error = f"Required CRD for kind Storage ({kinds.STORAGES.api_version}) not available"
        raise problems.problem(503, error)


def offer(call: Call) -> Offer:
    """What the cluster has for labs."""
    return stores.offer(call.cache.has(kinds.DATALABS), call.cache.crds, call.cache.datalab_fields, call.settings)


def pieces(call: Call, storage: Manifest) -> Pieces:
    """What a workspace is put together from."""
    name = storage["metadata"]["name"]
    usage = call.cache.usage(name)
    quotas, volumes = usage if usage is not None else (None, None)
    lab = call.cache.get(kinds.DATALABS, name)
    return Pieces(storage, lab, call.cache.secret, quotas, volumes, unread(call))


def unread(call: Call) -> str:
    """What keeps some of every workspace from being told; empty if nothing does."""
    return UNREADABLE if call.cache.withheld(kinds.SECRETS) else ""


def require_secrets(call: Call) -> None:
    """Raise `Problem` where Secrets cannot be read, or `Unknown` while nobody knows."""
    if (error := call.cache.withheld(kinds.SECRETS)) is not None:
        raise problems.refused(error, {})
    call.cache.require(kinds.SECRETS)


def known(call: Call) -> Pieces:
    """The workspace of the path; Problem where it is absent."""
    require(call)
    storage = call.cache.get(kinds.STORAGES, call.workspace)
    if storage is None:
        raise problems.problem(404, f"Storage '{call.workspace}' not found", crd=kinds.STORAGES.crd)
    return pieces(call, storage)


def view(call: Call, *, credentials: bool = True) -> reads.View:
    """The workspace as the caller may see it; at will without any credential."""
    allowed = allowed_now(call)
    of, name = call.cache.sharing, call.caller.name
    return reads.view(known(call), of, offer(call), call.settings, allowed, name, credentials=credentials)


def allowed_now(call: Call) -> Permissions:
    """What the caller may do by now on the workspace of the path; Problem for nothing."""
    if not (allowed := call.permissions_on(call.workspace)):
        raise problems.forbidden()
    return allowed


async def get_workspace(call: Call) -> web.StreamResponse:
    """A workspace."""
    found = view(call)
    if "credentials" in found["storage"] or found["datalab"]["store_credentials"]:
        call.services.audit.shown(call.act)
    return answers.ok(found, headers={hdrs.ETAG: call.services.writer.pair(call.workspace).tag})


async def get_credentials(call: Call) -> web.StreamResponse:
    """Credentials in clear."""
    require_secrets(call)
    found = reads.all_credentials(known(call), call.cache.sharing, offer(call), call.settings, call.permissions)
    call.services.audit.shown(call.act)
    return answers.ok(found)


# ---- The list


def rows(call: Call) -> list[reads.View]:
    """All workspaces on which the caller has a permission."""
    require(call)
    return _rows(call, call.storages())


def _rows(call: Call, found: Sequence[tuple[Manifest, Permissions]]) -> list[reads.View]:
    problem, url = unread(call), call.url
    return [
        reads.row(storage["metadata"]["name"], _overview(call, storage), allowed, url, problem)
        for storage, allowed in found
    ]


def _overview(call: Call, storage: Manifest) -> Overview:
    lab = call.cache.get(kinds.DATALABS, storage["metadata"]["name"])
    return call.services.overviews.of(Pieces(storage, lab, call.cache.secret))


@dataclass(frozen=True)
class Listed:
    """Some of the list."""

    rows: list[reads.View]
    total: int
    """Workspaces that the query is about, on this page and later ones."""
    following: str
    """Path and query of the next page; empty if there is none."""


def listed(call: Call, limit: int | None) -> Listed:
    """The list as the query wants it, of at most so many rows."""
    after = _decoded(call.query.get("continue", ""))
    name, status = call.query.get("name", "").lower(), call.query.get("status", "")
    if status and status not in list(Status):
        raise problems.wrong(("query", "status"), f"must be one of {', '.join(Status)}", status)
    require(call)
    found = [
        (storage, allowed)
        for storage, allowed in call.storages()
        if (own := storage["metadata"]["name"]) > after
        and name in own
        and (not status or _overview(call, storage).status == status)
    ]
    rows = _rows(call, found[:limit])
    if len(rows) == len(found):
        return Listed(rows, len(found), "")
    query = {**call.query, "continue": _encoded(rows[-1]["name"])}
    url = call.request.rel_url.with_path("/workspaces").with_query(query)
    return Listed(rows, len(found), url.raw_path_qs)


async def list_workspaces(call: Call) -> web.StreamResponse:
    """The list, whole or page by page, as JSON or as a page of HTML."""
    found = listed(call, answers.query_number(call.query, "limit", 1, 500))
    headers = {"Link": f'<{call.url}{found.following}>; rel="next"'} if found.following else {}
    if answers.wants_html(call.request):
        return pages.answer(pages.workspaces(found.rows), headers=headers)
    return answers.ok(found.rows, headers=headers)


def _encoded(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode().rstrip("=")


def _decoded(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    except (binascii.Error, ValueError):
        raise problems.wrong(("query", "continue"), "must be what an earlier answer gave", token) from None


# ---- Streams


async def watch_workspace(call: Call) -> web.StreamResponse:
    """The workspace as the caller may see it, without credentials, again with each change."""
    cache = call.cache

    def render() -> bytes:
        allowed = allowed_now(call)
        parts, offered = known(call), offer(call)
        withheld = parts.problem, parts.quotas is None, parts.volumes is None
        body = call.services.streams.rendered(
            (call.workspace, allowed, offered, withheld),
            lambda: answers.encode(
                reads.anybodys(parts, cache.sharing, offered, call.settings, allowed, credentials=False)
            ),
        )
        return b'%s,"user":%s}' % (body[:-1], answers.encode(reads.user(call.caller.name, allowed)))

    render()  # whoever may not see it gets an error, not a stream
    return await _stream(call, lambda stream: streams.follow(stream, call.workspace, render))


async def watch_workspaces(call: Call) -> web.StreamResponse:
    """The list, then which of its workspaces change."""

    require(call)
    versions = functools.partial(_versions, call)
    own = call.services.streams
    return await _stream(
        call,
        lambda stream: streams.follow_all(
            stream, lambda: answers.encode(rows(call)), versions, lambda: own.stale_since
        ),
    )


def number(call: Call) -> str:
    """What the present state is known by, as `id` of an event of the list is."""
    if not call.caller.is_platform_admin:
        return streams.number(_versions(call))
    known = call.services.streams.rendered("number of all", lambda: streams.number(_versions(call)).encode())
    return known.decode()


def _versions(call: Call) -> dict[str, str]:
    """Versions of all workspaces on which the caller has a permission."""
    return {(name := storage["metadata"]["name"]): call.cache.versions(name) for storage, _ in call.storages()}


async def _stream(call: Call, follow: Callable[[streams.Stream], Any]) -> web.StreamResponse:
    if call.is_head:
        return web.Response(headers={hdrs.CONTENT_TYPE: "text/event-stream; charset=utf-8"})
    async with call.services.streams.open(call.request, call.caller, call.workspace) as stream:
        await follow(stream)
    return stream.response


# ---- Events and sessions


async def activity_page(call: Call, limit: int) -> dict[str, Any]:
    """An `ActivityPage`: Events of the Storage and the Datalab, newest first.

    Their notes name members, and are for who may see them.
    """
    made_of = known(call)
    objects = [obj for obj in (made_of.storage, made_of.datalab) if obj is not None]
    skip = answers.query_number(call.query, "continue", 0, 100_000) or 0
    try:
        items = await call.services.activities.of(call.workspace, objects)
    except KubeError as error:
        raise problems.refused(error, {}) from error
    if Permission.VIEW_MEMBERS not in call.permissions:
        items = activities.without_names(items)
    page: dict[str, Any] = {"items": items[skip : skip + limit]}
    if len(items) > skip + limit:
        page["continue"] = str(skip + limit)
    return page


async def list_activity(call: Call) -> web.StreamResponse:
    """What happened, page by page."""
    return answers.ok(await activity_page(call, answers.query_number(call.query, "limit", 1, 500) or 100))


async def list_sessions(call: Call) -> web.StreamResponse:
    """The sessions of a workspace."""
    return answers.ok(sessions.rows(datalab(call)))


def datalab(call: Call) -> Manifest:
    """The Datalab of the workspace; Problem where there is none."""
    call.cache.require(kinds.DATALABS)
    if not call.cache.has(kinds.DATALABS):
        raise problems.datalab_not_installed()
    found = call.cache.get(kinds.DATALABS, call.workspace)
    if found is None:
        raise problems.not_found()
    return found


HANDLERS: dict[str, Handler] = {
    "get_workspace": get_workspace,
    "get_credentials": get_credentials,
    "list_workspaces": list_workspaces,
    "watch_workspace": watch_workspace,
    "watch_workspaces": watch_workspaces,
    "list_activity": list_activity,
    "list_sessions": list_sessions,
}
