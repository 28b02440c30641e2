"""The whole Workspace API over caches of an API server that says what a test tells it to, and who asks it."""

import base64
import ipaddress
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.test_utils import TestClient, TestServer

from datalabd.api.meta import Manifest
from datalabd.kube import resources as kinds
from datalabd.kube.events import Recorder
from datalabd.kube.informers import EVERYWHERE, Informers
from datalabd.kube.store import Scope
from hack.deadlines import scaled
from tests.kube.scripted import Reply, Routed, listing, serve
from tests.workspaces.objects import NOW, SETTINGS
from workspaces import handlers
from workspaces.activities import Activities
from workspaces.audit import Audit
from workspaces.authentication import Authentication
from workspaces.cache import Cache
from workspaces.call import Services
from workspaces.object_storage import ObjectStorage
from workspaces.overviews import Overviews
from workspaces.probes import Probes
from workspaces.settings import Settings
from workspaces.site import application, is_public
from workspaces.streams import Streams
from workspaces.writes import Writer

GATEWAY = replace(SETTINGS, auth_mode="gateway", trusted_proxies=(ipaddress.ip_network("127.0.0.0/8"),), rates=None)
"""Tokens are believed, as they are of a proxy on this machine."""


@dataclass
class Api:
    """The application, and what it answers with."""

    client: TestClient[Any, Any]
    services: Services
    server: Routed
    """The API server."""

    async def ask(self, method: str, path: str, user: str = "", **options: Any) -> aiohttp.ClientResponse:
        """An answer, redirects as they are; `options` may have `roles` by workspace, and those of aiohttp."""
        roles: Mapping[str, str] = options.pop("roles", {})
        headers = options.pop("headers", {}) | ({"Authorization": f"Bearer {token(user, roles)}"} if user else {})
        return await self.client.request(method, path, headers=headers, allow_redirects=False, **options)


def token(user: str, roles: Mapping[str, str], **more: str) -> str:
    """One that nobody signed, with these further claims."""
    access = {client: {"roles": [role]} for client, role in roles.items()}
    claims = {
        "aud": "workspace-api",
        "preferred_username": user,
        "iat": NOW.timestamp(),
        "resource_access": access,
    } | more
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in ({"alg": "none"}, claims)]
    return ".".join([*parts, ""]).replace("=", "")


@asynccontextmanager
async def serving(
    directory: Path,
    settings: Settings = GATEWAY,
    *,
    storages: Sequence[Manifest] = (),
    datalabs: Sequence[Manifest] = (),
    secrets: Sequence[Manifest] = (),
    scripts: Mapping[str, Sequence[Reply]] | None = None,
) -> AsyncIterator[Api]:
    """The API, once everything is listed; `scripts` are what is said of others, by the end of the path."""
    lists = {"storages": storages, "datalabs": datalabs, "secrets": secrets, "customresourcedefinitions": ()}
    script = {plural: [listing("1", *objects)] for plural, objects in lists.items()}
    async with AsyncExitStack() as stack:
        kubernetes = Routed(**script, **(scripts or {}))
        client = await stack.enter_async_context(serve(kubernetes, directory))
        cache = Cache(client, Informers(client), settings.namespace)
        overviews = Overviews(cache.sharing, settings)
        cache.on_change(overviews.changed)
        probes, activities = Probes(), Activities(client, settings.namespace)
        audit, authentication = Audit(Recorder(client)), Authentication(settings)
        objects = ObjectStorage()
        for part in (probes, activities, objects, audit, authentication):
            stack.push_async_callback(part.close)
        services = Services(
            settings=settings,
            cache=cache,
            overviews=overviews,
            writer=Writer(client, cache),
            audit=audit,
            client=client,
            streams=Streams(cache, settings),
            http=await stack.enter_async_context(aiohttp.ClientSession()),
            probes=probes,
            activities=activities,
            objects=objects,
            unready=cache.missing,
        )
        stack.push_async_callback(cache.stop)
        cache.start()
        app = application(services, handlers.HANDLERS, [authentication.middleware(is_public)])
        authentication.install(app)
        server = TestServer(app, handler_cancellation=True)
        browser: TestClient[Any, Any] = await stack.enter_async_context(TestClient(server))
        for kind in (kinds.STORAGES, kinds.DATALABS, kinds.SECRETS, kinds.CRDS):
            scope = EVERYWHERE if kind == kinds.CRDS else Scope(settings.namespace)
            await cache.informers.listed(kind, scope, scaled(10))
        yield Api(browser, services, kubernetes)
