"""Opening a session: where it is, once it can be used; one that is stopped is started."""

from urllib.parse import quote

from aiohttp import hdrs, web

from datalabd.api.meta import Manifest
from datalabd.api.v1beta2 import State
from datalabd.kube import resources as kinds
from workspaces import answers, browsers, pages, permissions, problems, sessions
from workspaces.call import Call, Handler
from workspaces.handlers.editing import edited
from workspaces.permissions import Permissions

RETRY_SECONDS = 10
"""When a client is to ask again whether a session is ready."""


async def open_session(call: Call) -> web.StreamResponse:
    """Where the session is: 200 once it can be used, until then 202; for a browser a page that waits."""
    name = call.part("s")
    lab, state = declared(call)
    if state is not State.STARTED and not call.is_head:
        await start(call)
    if answers.wants_html(call.request):
        return pages.answer(pages.waiter(call.workspace, name))
    url = sessions.address(lab, name)
    is_stopped = call.is_head and state is not State.STARTED
    if url and not is_stopped and await is_ready(call, name):
        return answers.ok({"url": url})
    message = sessions.message(lab, name)
    body = {"status": "starting"} | ({"url": url} if url else {}) | ({"message": message} if message else {})
    return answers.ok(body, 202, {hdrs.RETRY_AFTER: str(RETRY_SECONDS)})


def declared(call: Call) -> tuple[Manifest, State]:
    """The Datalab, and the desired state of the session of the path; `Problem` where there is no such session."""
    name = call.part("s")
    call.cache.require(kinds.DATALABS)
    if not call.cache.has(kinds.DATALABS):
        raise problems.problem(404, f"Session enabling unavailable: CRD {kinds.DATALABS.crd} not found")
    lab = call.cache.get(kinds.DATALABS, call.workspace)
    if lab is None:
        raise problems.problem(404, f"Session enabling failed: workspace '{call.workspace}' not found")
    found = sessions.declared(lab)
    if name not in found:
        raise problems.problem(404, f"Session enabling unavailable: session '{name}' is not declared")
    return lab, found[name]


async def start(call: Call) -> None:
    """Start the session of the path. Raises `Problem` for whoever may not."""
    _require_start(call)
    await edited(call, lambda draft: sessions.change(draft, call.part("s"), State.STARTED))


def _require_start(call: Call) -> None:
    if browsers.is_unasked(call.request.headers):
        raise problems.forbidden()
    if not may_start(call, call.permissions):
        raise problems.forbidden()


def may_start(call: Call, allowed: Permissions) -> bool:
    """Whether these permissions let the caller start a session."""
    return permissions.may_start(allowed, call.caller, call.settings.session_changes)


async def is_ready(call: Call, session: str) -> bool:
    """Whether something answers for the session: whatever it says, unless it is broken."""
    url = probe_url(call.settings.session_probe, call.workspace, session)
    return url is None or await call.services.probes.answers(url)


def probe_url(probe: str, workspace: str, session: str) -> str | None:
    """Where a session is asked whether it answers; None where nobody asks."""
    if probe == "off":
        return None
    template = "http://{workspace}-{session}.{workspace}.svc.cluster.local/" if probe == "on" else probe
    return template.replace("{workspace}", quote(workspace)).replace("{session}", quote(session))


HANDLERS: dict[str, Handler] = {"open_session": open_session}
