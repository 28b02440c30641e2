"""The composition root: what the one process is made of, in the order in which it starts. Stopping is the mirror.

    certificate → webhook port, metrics port → caches, registrations → ready
                                                     lease → register → Datalabs are listed → reconcile

Every replica serves admission and conversion and keeps caches; only the holder of the lease registers and reconciles.
"""

import asyncio
import contextlib
import functools
import gc
import signal
from collections.abc import AsyncIterator

import structlog

from controllers.manager import Manager
from datalabd import metrics
from datalabd.config import Settings
from datalabd.errors import KubeError, StartupError
from datalabd.kube import resources as kinds
from datalabd.kube.cache import Cache
from datalabd.kube.client import Client, keep_tls_buffers_small
from datalabd.kube.informers import Informers
from datalabd.kube.leader import Leader, until_first
from datalabd.kube.lease import Fence
from webhooks import health, installation
from webhooks.installation import LEASE, LOCAL_LEASE_NAMESPACE, LOOPBACK, Local
from webhooks.registrar import Registrar
from webhooks.registration import Endpoint
from webhooks.server import application
from webhooks.serving_certificate import Mounted, Own, ServingCertificate, Shared, Source
from webhooks.sites import DRAIN_SECONDS, site

log = structlog.get_logger()

STOP_THE_OTHER = (
    "another local run reconciles this cluster, and this one does nothing: stop the holder, by default <host>-<pid>, "
    "to have this one take over; or stop this one"
)
"""What is said to a local run beside another."""
LAG_SECONDS = 0.5
"""Period of the timer whose lateness is the event-loop lag."""
GC_THRESHOLDS = (1_000, 3, 200)
"""When to look for garbage: a thousand objects made and not freed, three of those, 200 of these.

What a burst of labs leaves in the caches has no cycles, and is gone through all the same: with 5,000 and 10 of these
the loop was held for 25 ms each time, by these for 3. The third look, which goes through everything, is as rare as by
Python's own.
"""


class Process:
    """One running datalabd."""

    def __init__(self, settings: Settings, kubeconfig: str | None = None, local: Local | None = None) -> None:
        self._settings = settings
        self._kubeconfig = kubeconfig
        self._local = local
        self._port = 0
        """Where the webhooks are answered, once they are."""
        self._draining = False
        self.ready = asyncio.Event()
        """Set once claims are being reconciled."""

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT. Raises `StartupError` and whatever ends the process otherwise."""
        keep_tls_buffers_small()
        gc.set_threshold(*GC_THRESHOLDS)
        gc.freeze()  # What is imported stays. To go through it for garbage would hold the loop for 50 ms.
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with contextlib.AsyncExitStack() as stack:
            client = await Client.connect(self._kubeconfig)
            stack.push_async_callback(client.close)
            account = await self._enter(client)
            fence = Fence()
            writer = client.fenced(fence.is_open)
            informers = Informers(client)
            cache = Cache(informers, account)
            certificate = ServingCertificate(self._source(client))
            registrar = Registrar(writer, cache, account, certificate, self._endpoint)
            manager = Manager(writer, cache, self._settings.workers)
            await certificate.load()
            await stack.enter_async_context(self._serve(client, cache, certificate, registrar))
            stack.push_async_callback(informers.stop)
            cache.start()
            registrar.watch()
            if self._is_shared:
                certificate.watch(informers, self._settings.namespace)
            try:
                await until_first(
                    self._drain_after(stop),
                    informers.run(),
                    self._measure_lag(),
                    certificate.keep(),
                    registrar.follow(),
                    self._leader(fence).run(lambda: self._lead(writer, informers, registrar, manager)),
                )
            finally:
                if self._local is not None and registrar.began:
                    await installation.unregister(client, self._url)
        log.info("stopped")

    # --- where we are -------------------------------------------------------------------------------------------------

    async def _enter(self, client: Client) -> str:
        """Who we are to the API server, which nobody else answers for."""
        if self._local is not None:
            self._local.refuse_out_of_reach(client.server)
        try:
            account = await client.username()
            if self._local is not None:
                await installation.refuse_beside_installation(client)
            else:
                await installation.refuse_beside_local_run(client)
        except KubeError as error:
            raise StartupError(f"the API server does not say who answers for it: {error}") from error
        return account

    @property
    def _is_shared(self) -> bool:
        """Whether replicas share a certificate through a Secret."""
        return self._local is None and not self._settings.certificate_dir

    def _source(self, client: Client) -> Source:
        """The serving certificate: mounted, from the Secret that replicas share, or of this process."""
        settings = self._settings
        if settings.certificate_dir:
            return Mounted(settings.certificate_dir)
        if self._local is not None:
            return Own([self._local.host])
        host = f"{settings.service}.{settings.namespace}.svc"
        return Shared(client, settings.namespace, [host, f"{host}.cluster.local"])

    def _endpoint(self, authorities: bytes) -> Endpoint:
        """Where the API server finds us, and whom it is to trust there."""
        if self._local is None:
            return Endpoint(authorities, service=(self._settings.namespace, self._settings.service))
        return Endpoint(authorities, url=self._url)

    @property
    def _url(self) -> str:
        """Where the API server finds a local run."""
        return (self._local and self._local.url) or f"https://{LOOPBACK}:{self._port}"

    # --- what we serve ------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _serve(
        self, client: Client, cache: Cache, certificate: ServingCertificate, registrar: Registrar
    ) -> AsyncIterator[None]:
        """Answer on both ports."""
        settings, local = self._settings, self._local
        host = LOOPBACK if local is not None and local.url is None else settings.webhook_host
        inner = settings.metrics_host if local is None else LOOPBACK
        reasons = functools.partial(self._unready, cache.informers, registrar)
        async with (
            site("webhook", application(client, cache), host, settings.webhook_port, certificate.context) as self._port,
            site("metrics", health.application(reasons), inner, settings.metrics_port),
        ):
            yield

    def _unready(self, informers: Informers, registrar: Registrar) -> list[str]:
        """Why nobody should be sent here; empty if somebody may be."""
        if self._draining:
            return ["stopping"]
        untrusted = [] if registrar.was_trusted or self._local else ["our authority is not registered yet"]
        return [*health.missing(informers), *untrusted]

    async def _drain_after(self, stop: asyncio.Event) -> None:
        """Return once we are to stop, and nobody is sent here any more."""
        await stop.wait()
        self._draining = True
        if self._local is None:
            await asyncio.sleep(DRAIN_SECONDS)

    async def _measure_lag(self) -> None:
        """Observe how late a timer fires: what everything else on the loop would wait too."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_SECONDS
            await asyncio.sleep(LAG_SECONDS)
            metrics.LOOP_LAG.observe(max(0.0, loop.time() - due))

    # --- leading ------------------------------------------------------------------------------------------------------

    def _leader(self, fence: Fence) -> Leader:
        namespace, remedy = self._settings.namespace, ""
        if self._local is not None:
            namespace, remedy = LOCAL_LEASE_NAMESPACE, STOP_THE_OTHER
        connect = functools.partial(Client.connect, self._kubeconfig)
        return Leader(connect, namespace, LEASE, self._settings.lease_identity, fence, remedy=remedy)

    async def _lead(self, client: Client, informers: Informers, registrar: Registrar, manager: Manager) -> None:
        """What the holder of the lease does."""
        await until_first(registrar.keep(), self._reconcile(client, informers, registrar, manager))

    async def _reconcile(self, client: Client, informers: Informers, registrar: Registrar, manager: Manager) -> None:
        """Reconcile once everything is registered and listed, the Datalabs included."""
        await registrar.registered.wait()
        await informers.until_synced(kinds.DATALABS, kinds.ENVIRONMENT_CONFIGS)
        gc.freeze()  # What is cached goes when it is replaced: it has no cycles.
        if self._local is not None:
            await installation.prove_reachable(client)
        log.info("ready", api_server=client.server)
        self.ready.set()
        await manager.lead()
