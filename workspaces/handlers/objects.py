"""Objects of buckets, which the object storage itself is asked for."""

import asyncio
from typing import Any

import structlog
from aiohttp import hdrs, web

from datalabd.text import ENTRY_MAX, bounded
from workspaces import answers, credentials, objects, problems
from workspaces.call import Call, Handler
from workspaces.handlers.reading import known, require_secrets
from workspaces.object_storage import Download
from workspaces.objects import Place

log = structlog.get_logger()

DOWNLOAD_SECONDS = 600.0
"""How long an object may take to be passed on."""
HEADERS = {
    hdrs.CONTENT_TYPE: "application/octet-stream",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Accept-Ranges": "none",
}
"""Of an object that is passed on: whatever it holds, it is no page and no script of ours."""


def place(call: Call, bucket: str) -> Place:
    """Where a bucket is read; `Problem` where that is not allowed, or not possible."""
    require_secrets(call)
    known(call)
    sharing = call.cache.sharing
    storage = sharing.get(call.workspace)
    if storage is None:
        raise problems.not_found()
    keys = credentials.storage_credentials(storage, sharing, call.cache.secret, call.settings)
    return objects.place(bucket, storage, keys, sharing, call.settings, call.now)


async def page(call: Call) -> dict[str, Any]:
    """A page of objects and prefixes of the bucket of the path, as the query says."""
    query = call.query
    prefix, token = query.get("prefix", ""), query.get("continue", "")
    objects.check_prefix(prefix)
    objects.check_token(token)
    count = answers.query_number(call.query, "limit", 1, 500) or objects.PAGE
    return await call.services.objects.page(place(call, call.part("b")), prefix, count, token)


async def list_objects(call: Call) -> web.StreamResponse:
    """A page of objects and prefixes."""
    return answers.ok(await page(call))


async def measure_bucket(call: Call) -> web.StreamResponse:
    """How many objects there are, and their size."""
    return answers.ok(await call.services.objects.usage(place(call, call.part("b"))))


async def download_object(call: Call) -> web.StreamResponse:
    """An object: by a link where browsers reach the storage, else passed on."""
    key = call.query.get("key", "")
    objects.check_key(key)
    at = place(call, call.part("b"))
    call.about["key"] = bounded(key, ENTRY_MAX)
    storage = call.services.objects
    if (link := storage.link(at, key)) is not None:
        await storage.size(at, key)  # what is absent or forbidden is told here, not by the storage
        call.services.audit.read(call.act)
        return web.Response(status=302, headers={hdrs.LOCATION: link, "Referrer-Policy": "no-referrer"})
    answer = web.StreamResponse(headers=HEADERS | {hdrs.CONTENT_DISPOSITION: objects.attachment(key)})
    if call.is_head:
        answer.content_length = await storage.size(at, key)
        await answer.prepare(call.request)
        return answer
    async with storage.opened(at, key, call.caller.counts_as) as download:
        call.services.audit.read(call.act)
        await _pass_on(call, download, answer)
    return answer


async def _pass_on(call: Call, download: Download, answer: web.StreamResponse) -> None:
    """Send an object; where it ends too early, so does the connection, and the client knows that it is not whole."""
    answer.content_length = download.size
    await answer.prepare(call.request)
    try:
        async with asyncio.timeout(DOWNLOAD_SECONDS):
            async for chunk in download.chunks():
                await answer.write(chunk)
    except (problems.Problem, TimeoutError):
        log.info("download cut", workspace=call.workspace)
        if call.request.transport is not None:
            call.request.transport.abort()


HANDLERS: dict[str, Handler] = {
    "list_objects": list_objects,
    "measure_bucket": measure_bucket,
    "download_object": download_object,
}
