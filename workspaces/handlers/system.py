"""What is asked of the process rather than of workspaces."""

from typing import Any

from aiohttp import hdrs, web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from datalabd.kube import resources as kinds
from workspaces import answers, openapi, pages, reference
from workspaces.call import Call, Handler
from workspaces.identity import ORIGIN

SHOWN = frozenset(
    {"accept", "accept-encoding", "accept-language", "connection", "content-length", "content-type", "forwarded"}
    | {"host", "origin", "sec-fetch-dest", "sec-fetch-mode", "sec-fetch-site", "sec-fetch-user", "sec-purpose"}
    | {"user-agent", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix"}
    | {"x-forwarded-proto", "x-real-ip", "x-request-id"}
)
"""Headers that hold no credentials. What others hold, proxies have many names for."""


async def probe(_: Call) -> web.StreamResponse:
    """The process runs."""
    return answers.ok({})


async def readiness(call: Call) -> web.StreamResponse:
    """What is missing before requests should be sent here."""
    found = call.services.unready()
    return web.Response(status=503 if found else 200, text="\n".join(found or ["ok"]) + "\n")


async def exposition(_: Call) -> web.StreamResponse:
    """All metrics."""
    return web.Response(body=generate_latest(), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE_LATEST})


async def status(call: Call) -> web.StreamResponse:
    """Which of the two kinds there are."""
    cache = call.cache
    cache.require(kinds.STORAGES, kinds.DATALABS)
    has_storages, has_datalabs = cache.has(kinds.STORAGES), cache.has(kinds.DATALABS)
    if not has_storages:
        error = f"Required CRD {kinds.STORAGES.crd} not found in cluster"
        return answers.ok({"ok": False, "error": error, "datalab_crd_present": has_datalabs}, 503)
    body: dict[str, Any] = {"ok": True, "storage_crd_present": True, "datalab_crd_present": has_datalabs}
    if not has_datalabs:
        body["warnings"] = [f"Optional CRD {kinds.DATALABS.crd} not found; memberships will be empty."]
    return answers.ok(body)


async def debug(call: Call) -> web.StreamResponse:
    """The request as it arrives, without what lets anybody in."""
    request = call.request
    shown = {
        name: value if name in SHOWN else "<redacted>"
        for name, value in ((name.lower(), value) for name, value in request.headers.items())
    }
    body = {"scheme": request[ORIGIN].scheme, "baseurl": f"{call.url}/", "headers": shown}
    return answers.ok({key: _printable(value) for key, value in body.items()})


def _printable(value: object) -> object:
    """Header values of bytes that are no UTF-8 are spelled out."""
    if isinstance(value, dict):
        return {key: _printable(item) for key, item in value.items()}
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


async def document(_: Call) -> web.StreamResponse:
    """The OpenAPI document."""
    return answers.ok(openapi.document())


async def docs(_: Call) -> web.StreamResponse:
    """The same for people."""
    return pages.answer(pages.page("Workspace API", reference.body(openapi.document()), pages.REFERENCE))


HANDLERS: dict[str, Handler] = {
    "probe": probe,
    "readiness": readiness,
    "metrics": exposition,
    "status": status,
    "debug": debug,
    "openapi": document,
    "docs": docs,
}
