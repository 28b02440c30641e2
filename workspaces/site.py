"""The web application: a route for each operation, and what every answer has whatever its operation."""

import asyncio
import re
import time
import uuid
from collections.abc import Mapping, Sequence

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler as Next
from aiohttp.typedefs import Middleware

from datalabd import metrics
from datalabd.serving import Bodies
from workspaces import answers, problems
from workspaces.cache import RETRY_SECONDS, Unknown
from workspaces.call import REQUEST_ID, SERVICES, Handler, Services, bound
from workspaces.identity import ORIGIN
from workspaces.login import PATHS
from workspaces.operations import OPERATIONS, Needs
from workspaces.problems import Problem
from workspaces.ui import site as ui

log = structlog.get_logger()

PUBLIC = frozenset({"/", *(operation.path for operation in OPERATIONS if operation.needs == Needs.NOTHING)})
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_NAMES = {(str(operation.method), operation.path): operation.name for operation in OPERATIONS}
STREAMS = frozenset({"watch_workspace", "watch_workspaces"})
COOKIES_MAX = 16 * 1024
"""Bytes: those of a login are 8 KiB. A header of 64 KiB, as tokens need, takes 150 ms to read as cookies."""
NEXT = web.AppKey("next", asyncio.Lock)
"""One request begins in a round of the loop: else all answers of a hundred would be made before one is sent."""
_GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def application(services: Services, handlers: Mapping[str, Handler], identify: Sequence[Middleware]) -> web.Application:
    """The application; `identify` are the middlewares that tell who sends a request."""
    app = web.Application(middlewares=[_answer, *identify, _redirect])
    app[SERVICES] = services
    app[NEXT] = asyncio.Lock()
    app[answers.BODIES] = Bodies(answers.BODY_MAX, room=answers.ROOM)
    app.on_response_prepare.append(_complete)
    served: dict[str, dict[str, ui.Handle]] = {}
    for operation in OPERATIONS:
        if (handler := handlers.get(operation.name)) is not None:
            served.setdefault(operation.path, {})[operation.method] = bound(operation, handler)
    shown: dict[str, dict[str, ui.Handle]] = {}
    if services.settings.ui_mode == "ui":
        pages = app[ui.PAGES] = ui.Pages(services.settings, handlers)
        app.on_startup.append(pages.compile)
        shown = pages.routes(served)
    for path in dict.fromkeys((*served, *shown)):
        for method, handle in (served.get(path, {}) | shown.get(path, {})).items():
            name = _NAMES.get((method, path))
            if method == "GET":
                app.router.add_get(path, handle, name=name)  # and HEAD
            else:
                app.router.add_route(method, path, handle, name=name)
    app.router.add_get("/", _root)
    return app


def is_public(request: web.Request) -> bool:
    """Whether a request needs no identity."""
    path = request.path.rstrip("/") or "/"
    pages = request.app.get(ui.PAGES)
    return path in PUBLIC or path in PATHS or (pages is not None and pages.is_public(path))


async def _root(request: web.Request) -> web.StreamResponse:
    return web.Response(status=302, headers={hdrs.LOCATION: f"{request[ORIGIN].url}/workspaces"})


@web.middleware
async def _answer(request: web.Request, handler: Next) -> web.StreamResponse:
    """Number the request, measure it, and make an answer of whatever goes wrong."""
    given = request.headers.get("X-Request-Id", "")
    request[REQUEST_ID] = given if _GIVEN_ID.fullmatch(given) else uuid.uuid4().hex
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request[REQUEST_ID])
    began = time.monotonic()
    resource = request.match_info.route.resource
    route = resource.canonical if resource is not None else "none"
    code = 499
    try:
        if sum(map(len, request.headers.getall(hdrs.COOKIE, ()))) > COOKIES_MAX:
            response: web.StreamResponse = answers.error(request, 431, "Cookies are too large")
            response.force_close()
        else:
            async with request.app[NEXT]:
                await asyncio.sleep(0)
            response = await _guarded(request, handler)
        code = response.status
        return response
    finally:
        method = request.method if request.method in METHODS else "other"
        metrics.HTTP_REQUESTS.labels(route=route, method=method, code=str(code)).inc()
        if request.match_info.route.name not in STREAMS:
            metrics.HTTP_SECONDS.labels(route=route).observe(time.monotonic() - began)


async def _guarded(request: web.Request, handler: Next) -> web.StreamResponse:
    try:
        return await handler(request)
    except Problem as problem:
        return _error(request, problem)
    except Unknown as unknown:
        log.info("not known yet", reason=str(unknown))
        return _error(request, problems.unavailable(seconds=RETRY_SECONDS))
    except web.HTTPException as error:
        if error.status < 400:
            raise
        headers = {str(hdrs.ALLOW): error.headers[hdrs.ALLOW]} if hdrs.ALLOW in error.headers else {}
        return _error(request, Problem(error.status, error.reason, headers=headers))
    except (asyncio.CancelledError, ConnectionError):
        raise
    except Exception:
        log.exception("defect", route=request.match_info.route.name)
        return _error(request, Problem(500, "Internal Server Error"))


def _error(request: web.Request, problem: Problem) -> web.StreamResponse:
    """An error for whoever asks: a page for a person, JSON for everybody else."""
    answer = problem.status, problem.detail, problem.headers, problem.sentence
    pages = ui.pages_of(request)
    return answers.error(request, *answer) if pages is None else pages.error(request, *answer)


@web.middleware
async def _redirect(request: web.Request, handler: Next) -> web.StreamResponse:
    """Lead from a path with a slash at its end to the one without, if there is such a route."""
    try:
        return await handler(request)
    except web.HTTPNotFound:
        path = request.rel_url.raw_path
        if not path.endswith("/") or request.match_info.http_exception is None:
            raise
        without = request.rel_url.with_path(path.rstrip("/") or "/", encoded=True)
        found = await request.app.router.resolve(request.clone(rel_url=without))
        if found.http_exception is not None and found.http_exception.status == 404:
            raise
        query = f"?{request.rel_url.raw_query_string}" if request.rel_url.raw_query_string else ""
        location = f"{request[ORIGIN].url}{without.raw_path}{query}"
        return web.Response(status=307, headers={hdrs.LOCATION: location})


async def _complete(request: web.Request, response: web.StreamResponse) -> None:
    """What every answer has, a stream's too."""
    headers = response.headers
    if REQUEST_ID in request:
        headers["X-Request-Id"] = request[REQUEST_ID]
    headers.setdefault(hdrs.CACHE_CONTROL, answers.NO_STORE)
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.pop(hdrs.SERVER, None)
