"""Pages at the API's own addresses: for whoever asks for HTML. Everybody else gets the API's answer.

What a page shows, it reads as the API does; what a form does, the API's own handler does, with the same checks.
"""

import asyncio
import contextlib
import datetime
import functools
import gzip
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from aiohttp import hdrs, web

from datalabd.api.workspace_bodies import WorkspaceEdit
from datalabd.text import timestamp
from workspaces import answers, browsers, permissions, problems
from workspaces.call import REQUEST_ID, Call, Handler, perform
from workspaces.handlers import reading
from workspaces.identity import CALLER, ORIGIN
from workspaces.login import LOGIN, LOGOUT
from workspaces.problems import Problem
from workspaces.settings import Settings
from workspaces.streams import digest
from workspaces.ui import actions, additions, failures, forms, headers, loads, screens
from workspaces.ui.actions import Action, Filled, Versions
from workspaces.ui.assets import Assets
from workspaces.ui.components import COMPONENTS
from workspaces.ui.forms import Attempt, Form, Outcome
from workspaces.ui.inputs import Inputs
from workspaces.ui.languages import COOKIE, chosen
from workspaces.ui.loads import LOADS
from workspaces.ui.render import Renderer
from workspaces.ui.screens import Screen

FORM = "application/x-www-form-urlencoded"
LIST = "/workspaces"
LANGUAGE_SECONDS = 365 * 24 * 3600
DONE = "done"
"""In the query of the page after a form: the action."""
RETRY_SECONDS, RETRY_MAX = 10, 60
"""How soon the page of an error loads itself again: an API server that starts refuses all, until it has read its roles.
"""
VERSION = "at"
"""In the query of the page after a form: the version of the workspace that it left."""
MOMENTARY = frozenset({DONE, VERSION, "dialog", "wait"})
"""Parameters of a query that say what was done, or what is open."""
CURRENT_SECONDS = 1.0
"""How long a page waits for that where another replica has written it."""

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]
Served = Mapping[str, Mapping[str, Handle]]
"""What answers each path of the API, by method."""


class Pages:
    """All pages of the process."""

    def __init__(self, settings: Settings, handlers: Mapping[str, Handler]) -> None:
        self.assets = Assets(settings.frontend_url)
        self._settings = settings
        self._handlers = handlers
        self._renderer = Renderer(pseudo=settings.log_level == "debug")

    async def compile(self, _: web.Application) -> None:
        """Have all templates ready before the first page is asked for, and hold nobody up by it."""
        await asyncio.to_thread(self._renderer.compile)

    # ---- Routes

    def routes(self, served: Served) -> dict[str, dict[str, Handle]]:
        """What answers at the addresses of screens and assets, by path and method; `served` is what does without."""
        found: dict[str, dict[str, Handle]] = {}
        for screen in screens.SCREENS:
            if screen.name == screens.NEW:
                continue  # at the address of a workspace of that name
            methods = served.get(screen.path, {})
            other = functools.partial(_elsewhere, frozenset(methods))
            found[screen.path] = {
                "GET": functools.partial(self._get, screen, methods.get("GET", other)),
                "POST": functools.partial(self._post, screen, methods.get("POST", other)),
            }
        if self._settings.log_level == "debug":
            found[COMPONENTS.path] = {
                "GET": functools.partial(self._get, COMPONENTS, functools.partial(_elsewhere, frozenset()))
            }
        base = self.assets.path
        for path in ("/ui", "/ui/", base, f"{base}/"):
            found[path] = {"GET": _list}
        found[f"{base}/language"] = {"POST": self._choose_language}
        found[f"{base}/{{digest}}/{{name:.+}}"] = {"GET": self.assets.serve}
        return found

    def is_public(self, path: str) -> bool:
        """Whether a path needs no identity."""
        return self.assets.is_below(path)

    async def _get(self, screen: Screen, otherwise: Handle, request: web.Request) -> web.StreamResponse:
        if not answers.wants_html(request):
            return await otherwise(request)
        return await self._show(_meant(screen, request), request)

    async def _post(self, screen: Screen, otherwise: Handle, request: web.Request) -> web.StreamResponse:
        if not (answers.wants_html(request) and request.content_type == FORM):
            return await otherwise(request)
        return await self._act(_meant(screen, request), request)

    async def _choose_language(self, request: web.Request) -> web.StreamResponse:
        """Keep the choice in a cookie, and lead back."""
        origin = request[ORIGIN]
        if browsers.is_cross_site(request.method, request.headers):
            raise problems.forbidden()
        fields = dict(await _fields(request))
        if (language := fields.get("language", "")) not in self._renderer.languages:
            raise problems.wrong(("body", "language"), "must be one of the languages that are offered", language)
        to = browsers.local_path(fields.get("to", ""), LIST)
        answer = web.Response(status=303, headers={hdrs.LOCATION: f"{origin.prefix}{to}"})
        answer.set_cookie(
            COOKIE,
            language,
            path=origin.prefix or "/",
            max_age=LANGUAGE_SECONDS,
            secure=origin.scheme == "https",
            httponly=True,
            samesite="Lax",
        )
        return answer

    # ---- Screens

    async def _show(
        self,
        screen: Screen,
        request: web.Request,
        *,
        status: int = 200,
        refused: Attempt | None = None,
        done: str = "",
        warnings: tuple[str, ...] = (),
        outcome: Outcome | None = None,
    ) -> web.Response:
        """A screen as it is."""
        call = Call(screen.operation, request)
        call.authorize()
        if await _until_current(call):
            call = Call(screen.operation, request)  # may have lost a permission meanwhile
            call.authorize()
        loaded = await LOADS[screen.name](call) if screen.name in LOADS else {}
        allowed = permissions.NOTHING
        if screen.on_workspace:
            call.require_still()
            loaded |= loads.workspace(call)
            allowed = call.permissions
        view = loaded.pop("view", {})
        inputs = Inputs(view, loaded, allowed, request.query, call.parts, call.now, outcome)
        done = done or _led_by(screen, request)
        given: set[str] = set()
        versions = Versions(view)

        def form(action: str, **fixed: str) -> Form:
            about = actions.BY_NAME[action]
            found = Form(action, fixed, refused, versions.of(about, {**call.parts, **fixed}))
            given.add(found.id)
            return found

        context = {
            "view": view,
            "allowed": allowed,
            "query": request.query,
            "parts": call.parts,
            "now": call.now,
            "form": form,
            "number": reading.number(call),
            "stale_since": call.services.streams.stale_since,
            "done": actions.BY_NAME[done].done if done else "",
            "warnings": warnings,
            **screen.context(inputs),
        }
        answer = self._rendered(request, f"{screen.name}.html", status, screen, context)
        if refused is not None and refused.form not in given:  # what it was about is not there any more
            context["warnings"] = (refused.sentence,)
            answer = self._rendered(request, f"{screen.name}.html", status, screen, context)
        if refresh := context.get("refresh"):
            answer.headers["Refresh"] = refresh
        return answer

    async def _act(self, screen: Screen, request: web.Request) -> web.StreamResponse:
        """Do what a form says, and lead to what comes next; or show it again with what is wrong."""
        fields = await _fields(request)
        action = actions.BY_NAME.get(dict(fields).get("action", ""))
        if action is None or action.screen != screen.name:
            raise problems.wrong(("body", "action"), "must be one of this page", dict(fields).get("action", ""))
        path = dict(request.match_info) if screen.on_workspace else {}
        filled = actions.filled(action, fields, path)
        call = Call(action.operation, request, filled)

        async def handle(call: Call) -> web.StreamResponse:
            actions.require_confirmation(action, filled)
            _require_current(call, action, filled)
            if action.operation_name == "edit_workspace":
                edit = answers.parsed(filled.body, WorkspaceEdit)
                if permissions.needed(edit, call.workspace) <= call.permissions:  # else it is refused for that
                    additions.require_new(edit, reading.view(call, credentials=False))
            return await self._handlers[action.operation_name](call)

        try:
            answer = await perform(call, handle)
        except Problem as problem:
            refused = forms.attempt(dict(fields).get("form", ""), filled.typed, filled.words, problem)
            return await self._show(screen, request, status=problem.status, refused=refused)
        if action.shows:
            outcome = Outcome(action.name, answers.json_object(answer), {**filled.typed, **filled.parts})
            return await self._show(screen, request, outcome=outcome)
        return await self._done(screen, action, call, request)

    async def _done(self, screen: Screen, action: Action, call: Call, request: web.Request) -> web.StreamResponse:
        """Lead to what comes next. What admission has to say is shown at once: no address is to hold it.

        Another screen shows what has become of it.
        """
        if call.warnings and action.next == screen.name:
            return await self._show(screen, request, done=action.name, warnings=call.warnings)
        parts = {**call.parts, **({"w": call.workspace} if call.workspace else {})}
        where = screens.BY_NAME[action.next].address(parts)
        version = call.services.writer.pair(call.workspace).version
        kept = {} if action.leads else _kept(request)
        query = urlencode({**kept, DONE: action.name, VERSION: version})
        location = f"{request[ORIGIN].prefix}{where}?{query}"
        return web.Response(status=303, headers={hdrs.LOCATION: location})

    # ---- Errors

    def error(
        self, request: web.Request, status: int, detail: problems.Detail, more: Mapping[str, str], sentence: str = ""
    ) -> web.Response:
        """An error as a page."""
        known = failures.failure(status)
        context = {
            "done": "",
            "warnings": (),
            "stale_since": "",
            "failure": known,
            "status": status,
            "sentence": sentence or problems.sentence(detail),
            "request_id": request.get(REQUEST_ID, ""),
            "login": self._login_address(request) if known.offers_login else "",
        }
        answer = self._rendered(request, "error.html", status, None, context)
        answer.headers.update(more)
        if request.method == "GET" and status in (502, 503):
            seconds = more.get(str(hdrs.RETRY_AFTER), "")
            answer.headers["Refresh"] = str(min(int(seconds), RETRY_MAX) if seconds.isdigit() else RETRY_SECONDS)
        return answer

    def _login_address(self, request: web.Request) -> str:
        if not self._settings.oidc_client_id:
            return ""
        return f"{request[ORIGIN].prefix}{LOGIN}?to={quote(_again(request), safe='')}"

    # ---- HTML

    def _rendered(
        self, request: web.Request, template: str, status: int, screen: Screen | None, context: Mapping[str, Any]
    ) -> web.Response:
        origin = request[ORIGIN]
        language = chosen(
            request.cookies.get(COOKIE, ""), request.headers.get(hdrs.ACCEPT_LANGUAGE, ""), self._renderer.languages
        )
        page = self._page(request, screen, context.get("allowed", permissions.NOTHING)) | {"language": language}
        text = self._renderer.page(template, language, {"page": page, **self._places(request), **context})
        found = headers.of_page(origin, self._settings.oidc_issuer, self.assets.url)
        found["Content-Language"] = language
        body = text.encode()
        if headers.may_be_packed(request.method, request.headers):
            body = gzip.compress(body, mtime=0)
            found[str(hdrs.CONTENT_ENCODING)] = "gzip"
        return web.Response(status=status, body=body, content_type="text/html", charset="utf-8", headers=found)

    def _page(self, request: web.Request, screen: Screen | None, allowed: permissions.Permissions) -> dict[str, Any]:
        """What the frame around a screen is made of."""
        origin = request[ORIGIN]
        caller = request.get(CALLER)
        workspace = request.match_info.get("w", "") if screen is not None and screen.on_workspace else ""
        return {
            "screen": screen,
            "workspace": workspace,
            "navigation": screens.navigation(allowed) if workspace else [],
            "now": timestamp(datetime.datetime.now(datetime.UTC)),
            "prefix": origin.prefix,
            "here": f"{origin.prefix}{browsers.local_path(request.rel_url.raw_path, '/workspaces')}",
            "kept": urlencode(_kept(request)),
            "to": _again(request),
            "dialog": request.query.get("dialog", ""),
            "user": caller.name if caller is not None else "",
            "login": self._login_address(request) if caller is not None and screen is not None else "",
            "reader": digest(caller.counts_as.encode(errors="replace")) if caller is not None else "",
            "logout": f"{origin.prefix}{LOGOUT}" if caller is not None and self._settings.oidc_client_id else "",
            "languages": self._renderer.languages,
            "language_address": f"{origin.prefix}{self.assets.path}/language",
            "events": f"{origin.prefix}/events" if caller is not None and screen is not None else "",
            "debug": self._settings.log_level == "debug",
        }

    def _places(self, request: web.Request) -> dict[str, Any]:
        """Addresses, as templates ask for them."""
        prefix = request[ORIGIN].prefix
        own = {"w": request.match_info["w"]} if "w" in request.match_info else {}

        def to(name: str, **parts: str) -> str:
            return f"{prefix}{screens.BY_NAME[name].address(own | parts)}"

        return {
            "to": to,
            "asset": lambda name: self.assets.address(name, prefix),
            "sprite": self.assets.address("sprite.svg", prefix, here=True),
        }


def _kept(request: web.Request) -> dict[str, str]:
    """What the query says of which part of a screen is shown, rather than of one moment."""
    return {name: value for name, value in request.query.items() if name not in MOMENTARY}


def _meant(screen: Screen, request: web.Request) -> Screen:
    """The screen of an address; that of a workspace `new` is where platform admins make one."""
    if screen.name == "home" and request.match_info["w"] == screens.NEW and request[CALLER].is_platform_admin:
        return screens.BY_NAME[screens.NEW]
    return screen


def _again(request: web.Request) -> str:
    """The address of the page, without what was done before it was there."""
    url = request.rel_url.without_query_params(DONE, VERSION)
    return url.raw_path_qs if request.method == "GET" else url.raw_path


def _led_by(screen: Screen, request: web.Request) -> str:
    """The action that led to a page; empty for whoever comes by a link that says so, of another site or page."""
    action = actions.BY_NAME.get(request.query.get(DONE, ""))
    is_of_others = request.headers.get("Sec-Fetch-Site", "") in ("cross-site", "same-site")
    return action.name if action is not None and action.next == screen.name and not is_of_others else ""


def _require_current(call: Call, action: Action, filled: Filled) -> None:
    """Raise `Problem` where what a form is about is not as it was shown, and see to it that it stays so."""
    if action.about:
        if Versions(reading.view(call, credentials=False)).of(action, filled.parts) != filled.version:
            raise problems.problem(409, "conflict")
        call.if_match = call.services.writer.pair(call.workspace).tag


async def _until_current(call: Call) -> bool:
    """Wait until what a form has left is known here too; whether that took any time."""
    wanted = call.query.get(VERSION, "")
    if not (call.workspace and wanted.isdecimal() and len(wanted) < 20):
        return False
    changed = asyncio.Event()
    forget = call.cache.on_change(lambda *_: changed.set())
    waited = False
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CURRENT_SECONDS):
                while call.services.writer.pair(call.workspace).version < int(wanted):
                    waited = True
                    changed.clear()
                    await changed.wait()
    finally:
        forget()
    return waited


async def _elsewhere(methods: frozenset[str], request: web.Request) -> web.StreamResponse:
    """What is at a page's address for whoever wants no page: nothing, or what other methods there are."""
    if not methods:
        raise web.HTTPNotFound
    raise web.HTTPMethodNotAllowed(request.method, methods | ({"HEAD"} if "GET" in methods else set()))


async def _list(request: web.Request) -> web.StreamResponse:
    """Lead on from where rm-workspace-api has its application, whatever follows the # there."""
    return web.Response(status=303, headers={hdrs.LOCATION: f"{request[ORIGIN].prefix}{LIST}"})


async def _fields(request: web.Request) -> tuple[tuple[str, str], ...]:
    """The fields of a form, in order."""
    return await answers.body_of(request, answers.form)


PAGES = web.AppKey("pages", Pages)


def pages_of(request: web.Request) -> Pages | None:
    """The pages of whoever answers, where it has any and the client wants one."""
    return request.app.get(PAGES) if ORIGIN in request and answers.wants_html(request) else None
