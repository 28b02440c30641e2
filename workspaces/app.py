"""The composition root of `datalabd workspaces`: what the process is made of, in the order in which it starts.

    connection → application, port → caches, keys → ready
                                     lease → grants that end

It starts, and answers that it lives, with the API server, the issuer and every kind away. Every replica serves and
keeps caches; only the holder of the Lease ends grants. Stopping is the mirror.
"""

import asyncio
import contextlib
import functools
import gc
import os
import signal
import socket
from collections.abc import AsyncIterator

import aiohttp
import structlog
from aiohttp import web

from datalabd.errors import StartupError
from datalabd.kube.client import Client, keep_tls_buffers_small
from datalabd.kube.events import Recorder
from datalabd.kube.informers import Informers
from datalabd.kube.leader import Leader, until_first
from datalabd.kube.lease import Fence
from workspaces import handlers
from workspaces.activities import Activities
from workspaces.audit import Audit
from workspaces.authentication import Authentication
from workspaces.cache import Cache
from workspaces.call import Services
from workspaces.expiry import Expiry
from workspaces.object_storage import ObjectStorage
from workspaces.overviews import Overviews
from workspaces.probes import Probes
from workspaces.proxies import is_loopback
from workspaces.runner import Runner
from workspaces.settings import Settings
from workspaces.site import application, is_public
from workspaces.streams import Streams
from workspaces.writes import Writer

log = structlog.get_logger()

ACCOUNT = "datalabd-workspaces"
"""Our service account, and how we call ourselves."""
LEASE = "datalabd-workspaces"
DRAIN_SECONDS = 2.0
"""How long a Service may go on sending requests to a replica that is no longer ready."""
FINISH_SECONDS = 3.0
"""How long requests in flight may take once the port is closed."""
KEYS_SECONDS = 2.0


class Process:
    """One running Workspace API."""

    def __init__(self, settings: Settings, kubeconfig: str | None = None) -> None:
        self._settings = settings
        self._kubeconfig = kubeconfig
        self._draining = False
        self._authentication = Authentication(settings)
        self._can_verify = False

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT. Raises `StartupError` and whatever ends the process otherwise."""
        keep_tls_buffers_small()
        gc.freeze()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with contextlib.AsyncExitStack() as stack:
            client = await Client.connect(self._kubeconfig, user_agent=ACCOUNT)
            stack.push_async_callback(client.close)
            cache = Cache(client, Informers(client), self._settings.namespace)
            overviews = Overviews(cache.sharing, self._settings)
            cache.on_change(overviews.changed)
            http = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
            probes = Probes()
            stack.push_async_callback(probes.close)
            activities = Activities(client, self._settings.namespace)
            stack.push_async_callback(activities.close)
            objects = self._object_storage()
            stack.push_async_callback(objects.close)
            streams = Streams(cache, self._settings)
            audit = Audit(Recorder(client))
            stack.push_async_callback(audit.close)
            services = Services(
                settings=self._settings,
                cache=cache,
                overviews=overviews,
                writer=Writer(client, cache),
                audit=audit,
                client=client,
                http=http,
                probes=probes,
                activities=activities,
                objects=objects,
                streams=streams,
                unready=functools.partial(self._unready, cache),
            )
            await stack.enter_async_context(self._serve(services))
            stack.push_async_callback(cache.stop)
            cache.start()
            fence = Fence()
            expiry = Expiry(Writer(client.fenced(fence.is_open), cache), cache, audit)
            await until_first(
                self._drain_after(stop, streams),
                cache.informers.run(),
                self._fetch_keys(),
                self._leader(fence).run(expiry.run),
            )
        log.info("stopped")

    def _object_storage(self) -> ObjectStorage:
        file = self._settings.storage_ca_file
        try:
            return ObjectStorage(file)
        except OSError as error:
            raise StartupError(f"STORAGE_CA_FILE: {file} holds no certificates: {error}") from None

    @contextlib.asynccontextmanager
    async def _serve(self, services: Services) -> AsyncIterator[None]:
        """Answer requests while the context lasts."""
        settings = self._settings
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._authentication.close)
            app = application(services, handlers.HANDLERS, [self._authentication.middleware(is_public)])
            self._authentication.install(app)
            runner = Runner(app, shutdown_timeout=FINISH_SECONDS)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            site = web.TCPSite(runner, settings.host, settings.port)
            try:
                await site.start()
            except OSError as error:
                raise StartupError(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}") from error
            log.info("listening", site="workspaces", host=settings.host, port=runner.addresses[0][1])
            yield

    def _unready(self, cache: Cache) -> list[str]:
        """Why nobody should be sent here; empty if somebody may be."""
        if self._draining:
            return ["stopping"]
        found = cache.missing()
        if not self._can_verify:
            found.append(f"the keys of {self._settings.oidc_issuer} are not known")
        return found

    async def _fetch_keys(self) -> None:
        """Have the issuer's keys before the first token; whoever comes later fetches them again."""
        while True:
            self._can_verify = await self._authentication.is_ready()
            if self._can_verify:
                break
            await asyncio.sleep(KEYS_SECONDS)
        await asyncio.Event().wait()

    async def _drain_after(self, stop: asyncio.Event, streams: Streams) -> None:
        """Return once we are to stop, and nobody is sent here any more."""
        await stop.wait()
        self._draining = True
        log.info("stopping")
        if not is_loopback(self._settings.host):
            await asyncio.sleep(DRAIN_SECONDS)
        streams.close()

    def _leader(self, fence: Fence) -> Leader:
        connect = functools.partial(Client.connect, self._kubeconfig, user_agent=ACCOUNT)
        identity = f"{socket.gethostname()}-{os.getpid()}"
        return Leader(connect, self._settings.namespace, LEASE, identity, fence)
