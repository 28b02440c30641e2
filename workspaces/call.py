"""One call of an operation: who calls, what about, and whether that is allowed."""

import datetime
import functools
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import aiohttp
from aiohttp import hdrs, web
from pydantic import BaseModel

from datalabd.api.meta import Manifest
from datalabd.kube import resources as kinds
from datalabd.kube.client import Client
from workspaces import answers, audit, permissions, problems
from workspaces.activities import Activities
from workspaces.audit import Act, Audit
from workspaces.cache import Cache
from workspaces.claims import Identity
from workspaces.identity import CALLER, ORIGIN
from workspaces.object_storage import ObjectStorage
from workspaces.operations import Asked, Needs, Operation
from workspaces.overviews import Overviews
from workspaces.permissions import Permission, Permissions
from workspaces.probes import Probes
from workspaces.settings import Settings
from workspaces.streams import Streams
from workspaces.writes import Writer, Written

NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
"""Workspaces and sessions, in paths."""
REQUEST_ID = web.RequestKey("request id", str)

Model = TypeVar("Model", bound=BaseModel)


@dataclass
class Services:
    """What every call is answered with."""

    settings: Settings
    cache: Cache
    overviews: Overviews
    writer: Writer
    audit: Audit
    client: Client
    streams: Streams
    http: aiohttp.ClientSession
    """To the token endpoint alone."""
    probes: Probes
    activities: Activities
    objects: ObjectStorage
    unready: Callable[[], list[str]]
    """What is missing before requests should be sent here."""


SERVICES = web.AppKey("services", Services)


class Call:
    """A request to one operation of the table."""

    def __init__(self, operation: Operation, request: web.Request, asked: Asked | None = None) -> None:
        """Without `asked` it is what the request itself says."""
        self.operation = operation
        self.request = request
        self.services = request.app[SERVICES]
        self.cache = self.services.cache
        self.settings = self.services.settings
        self.parts: Mapping[str, str] = request.match_info if asked is None else asked.parts
        self.query: Mapping[str, str] = request.query if asked is None else asked.query
        self.workspace = self.parts.get("w", "")
        self._asked = asked
        self.if_match = request.headers.get(hdrs.IF_MATCH, "") if asked is None else ""
        """The state that a write is meant for; empty for any."""
        self.about: dict[str, str] = {}
        """What it is about, beside what the path says."""
        self.warnings: tuple[str, ...] = ()
        """What admission has to say of what is written, and what of it has no effect."""

    # --- who and what

    @property
    def caller(self) -> Identity:
        """Who calls; not of a public operation."""
        return self.request[CALLER]

    @property
    def url(self) -> str:
        """What paths of ours are appended to."""
        return self.request[ORIGIN].url

    @property
    def now(self) -> datetime.datetime:
        """The time."""
        return datetime.datetime.fromtimestamp(time.time(), datetime.UTC)

    @property
    def is_head(self) -> bool:
        """Whether nothing is to be started."""
        return self.request.method == hdrs.METH_HEAD

    @property
    def is_dry_run(self) -> bool:
        """Whether nothing is to change."""
        return answers.query_flag(self.query, "dry_run")

    def part(self, name: str) -> str:
        """A part of the path."""
        return self.parts[name]

    async def body(self, model: type[Model]) -> Model:
        """The request's body."""
        if self._asked is not None:
            return answers.parsed(self._asked.body, model)
        return await answers.body_of(self.request, lambda data: answers.parsed(data, model))

    # --- may they

    @functools.cached_property
    def permissions(self) -> Permissions:
        """What the caller may do on the workspace of the path."""
        return self.permissions_on(self.workspace)

    def permissions_on(self, workspace: str) -> Permissions:
        """What the caller may do on a workspace, which need not exist."""
        caller = self.caller
        if not caller.is_platform_admin and workspace not in caller.roles:
            return permissions.NOTHING
        self.cache.require(kinds.STORAGES, kinds.DATALABS)
        if caller.is_platform_admin:
            return permissions.EVERYTHING
        storage, datalab = (self.cache.get(kind, workspace) for kind in (kinds.STORAGES, kinds.DATALABS))
        return permissions.permissions(caller, workspace, storage, datalab, self.settings.session_changes, self.now)

    def storages(self) -> list[tuple[Manifest, Permissions]]:
        """Storages on which the caller has a permission, by name, each with what that is."""
        caller, cache = self.caller, self.cache
        cache.require(kinds.STORAGES, kinds.DATALABS)
        if caller.is_platform_admin:
            return [(storage, permissions.EVERYTHING) for storage in cache.storages()]
        named = ((cache.get(kinds.STORAGES, name), self.permissions_on(name)) for name in sorted(caller.roles))
        return [(storage, allowed) for storage, allowed in named if storage is not None and allowed]

    def authorize(self) -> None:
        """Raise `Problem` unless the caller may call this, as far as the path tells."""
        needs = self.operation.needs
        if self.operation.on_workspace:
            self._check_names()
        if needs in (Needs.NOTHING, Needs.TOKEN):
            return
        if needs == Needs.PLATFORM_ADMIN:
            allowed = self.caller.is_platform_admin
        elif needs == Needs.OWNER:
            allowed = self.caller.is_platform_admin or (bool(self.permissions) and self._owns())
        elif isinstance(needs, Permission):
            allowed = needs in self.permissions
        else:
            allowed = bool(self.permissions)
        if not allowed:
            raise problems.forbidden()

    def require_still(self) -> None:
        """Raise `Problem` if the caller has lost a permission since the request came."""
        if not self.permissions <= self.permissions_on(self.workspace):
            raise problems.forbidden()

    def _owns(self) -> bool:
        return permissions.owns(self.caller, self.workspace, self.cache.get(kinds.DATALABS, self.workspace))

    def _check_names(self) -> None:
        prefix = self.settings.prefix
        pattern = rf"^{re.escape(prefix)}-[a-z0-9]([-a-z0-9]*[a-z0-9])?$" if prefix else NAME
        for part, name, wanted in (("w", "workspace_name", pattern), ("s", "session_name", NAME)):
            said = self.parts.get(part)
            if said is not None and (len(said) > 253 or not re.fullmatch(wanted.strip("^$"), said, re.ASCII)):
                raise problems.pattern_mismatch(("path", name), wanted, said)

    # --- what happened

    @property
    def act(self) -> Act:
        """What is told of it to whoever audits."""
        parts = {"w": "workspace", "m": "member", "b": "bucket", "s": "session", "workspace": "grantee"}
        what = {parts.get(part, part): value for part, value in self.parts.items() if part != "w"}
        return Act(self.operation.name, self.workspace, self.caller, self.request[REQUEST_ID], what | self.about)

    def written(self, written: Written, asked: BaseModel | None = None) -> None:
        """Tell of a change that was made, with what was asked for: bodies hold no secrets."""
        if written.changed and not self.is_dry_run:
            body = {} if asked is None else audit.asked(asked.model_dump(mode="json", exclude_defaults=True))
            self.services.audit.changed(self.act, written.changed, changes=written.changes, asked=body)


Handler = Callable[[Call], Awaitable[web.StreamResponse]]


def bound(operation: Operation, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The handler of a route: it runs only for whoever may call the operation."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return await perform(Call(operation, request), handler)

    return handle


async def perform(call: Call, handler: Handler) -> web.StreamResponse:
    """What the handler answers, if the caller may call this operation."""
    try:
        call.authorize()
        answer = await handler(call)
    except problems.Problem as problem:
        is_confidential = call.operation.name in ("get_credentials", "issue_token", "download_object")
        if CALLER in call.request and (call.operation.is_write or (is_confidential and problem.status == 403)):
            call.services.audit.refused(call.act, problem.status)
        raise
    if answer.status == 204:  # whose answer has no body that could say it
        for warning in call.warnings:
            answer.headers.add(hdrs.WARNING, answers.warning(warning))
    return answer
