"""The composition root: what the one process is made of, in the order in which it starts. Stopping is the mirror.

    certificate → webhook port, metrics port → CRDs and registrations → caches → ready → lease → workers

Every replica serves admission and conversion and keeps caches; only the holder of the lease writes.
"""

import asyncio
import contextlib
import datetime
import ipaddress
import signal
import ssl
import uuid
from asyncio import sslproto
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from controllers.manager import Manager
from datalabd import metrics
from datalabd.api.crd import custom_resource_definitions
from datalabd.api.meta import V1BETA2, Manifest
from datalabd.config import Settings
from datalabd.errors import Conflict, DatalabdError, Invalid, KubeError, NotFound
from datalabd.kube import resources as kinds
from datalabd.kube.cache import Cache
from datalabd.kube.client import Client
from datalabd.kube.informers import Informers
from datalabd.kube.leader import Leader
from datalabd.kube.lease import Fence
from datalabd.kube.resources import resource_of
from datalabd.kube.store import Scope
from webhooks import certificates, ingress_policies
from webhooks.registration import (
    CLAIMS,
    INGRESSES,
    Endpoint,
    abandonment,
    claim_webhooks,
    data_protection,
    ingress_webhooks,
    protection,
    rights_protection,
)
from webhooks.server import application

log = structlog.get_logger()

CERTIFICATE_SECRET = "datalabd-serving-cert"
LOCAL_LEASE_NAMESPACE = "kube-system"
"""Where a local run keeps its Lease: every cluster has it."""
CERTIFICATE_CHECK_SECONDS = 3600.0
REGISTER_RETRY_SECONDS = 5.0
REGISTRATIONS = Scope(label_selector="app.kubernetes.io/name=datalabd")
LAG_SECONDS = 0.5
"""Period of the timer whose lateness is the event-loop lag."""
TLS_BUFFER = 32 * 1024
"""Bytes kept for each TLS connection, of which every watch has one: asyncio's 256 KiB were a sixth of all memory."""
DRAIN_SECONDS = 5.0
"""How long the API server keeps sending admission calls to a replica that is no longer ready."""


class StartupError(DatalabdError):
    """The process cannot start; the message says what to mend."""


@dataclass(frozen=True)
class Local:
    """A run on a workstation: webhooks are reached by URL, nothing of ours lives in the cluster."""

    url: str | None = None
    """Where the API server reaches us; None: loopback, which must be where it runs too."""


class Process:
    """One running datalabd."""

    def __init__(self, settings: Settings, kubeconfig: str | None = None, local: Local | None = None) -> None:
        self._settings = settings
        self._kubeconfig = kubeconfig
        self._local = local
        self._account = ""
        """Who we are to the API server; known once it was asked."""
        self._tls = certificates.server_context()
        self._bundle: certificates.Bundle | None = None
        self._ports: dict[str, int] = {}
        self._draining = False
        self.ready = asyncio.Event()
        """Set once claims are being reconciled."""
        self._guarded: tuple[list[str], list[str]] | None = None
        """Domains and hosts that the registrations for routes speak of; None before the first time."""
        self._to_register = asyncio.Event()
        self._certificate_check_seconds = CERTIFICATE_CHECK_SECONDS
        self._has_registered = False
        """Whether there may be registrations of this process."""

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT. Raises `StartupError` and whatever ends the process otherwise."""
        sslproto.SSLProtocol.max_size = TLS_BUFFER
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        client = await self._connect()
        informers = Informers(client)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(client.close)
            self._account = await self._username(client)
            cache = Cache(informers, self._account)
            self._use(await self._certify(client))
            await stack.enter_async_context(self._serve_webhooks(client, cache))
            await stack.enter_async_context(self._serve_metrics(informers))
            fence = Fence()
            manager = Manager(client.fenced(fence.is_open), cache, self._settings.workers)
            stack.push_async_callback(informers.stop)
            cache.start()
            self._follow_registrations(cache)
            work = [
                asyncio.create_task(informers.run(), name="informers"),
                asyncio.create_task(self._measure_lag(), name="lag"),
                asyncio.create_task(self._lead(client, cache, manager, fence), name="leader"),
                asyncio.create_task(self._keep_certificate(client), name="certificate"),
            ]
            stopping = asyncio.create_task(stop.wait(), name="stop")
            try:
                done, _ = await asyncio.wait([*work, stopping], return_when=asyncio.FIRST_COMPLETED)
                self._draining = True
                failed = [task for task in work if task in done]
                if not failed and self._local is None:
                    await asyncio.sleep(DRAIN_SECONDS)
            finally:
                await _cancelled([*work, stopping])
                if self._local is not None and self._has_registered:
                    await self._unregister(client)
            for task in failed:
                task.result()
        log.info("stopped")

    async def _connect(self) -> Client:
        try:
            client = await Client.connect(self._kubeconfig)
        except (ValueError, OSError) as error:
            raise StartupError(f"no way to an API server: {error}; set KUBECONFIG or pass --kubeconfig") from error
        if self._local is not None and self._local.url is None:
            host = urlsplit(client.server).hostname or ""
            if not _is_loopback(host):
                await client.close()
                raise StartupError(
                    f"the API server at {client.server} cannot reach this machine by loopback; "
                    "pass --webhook-url with an address of this machine that it can reach"
                )
        return client

    # --- certificates -------------------------------------------------------------------------------------------------

    @property
    def _hosts(self) -> list[str]:
        if self._local is not None:
            return [urlsplit(self._local.url).hostname or ""] if self._local.url else ["127.0.0.1"]
        service, namespace = self._settings.service, self._settings.namespace
        return [f"{service}.{namespace}.svc", f"{service}.{namespace}.svc.cluster.local"]

    async def _certify(self, client: Client) -> certificates.Bundle:
        """The serving certificate that is due: mounted, from the Secret that replicas share, or of this process."""
        now = datetime.datetime.now(datetime.UTC)
        if self._settings.certificate_dir:
            return self._mounted()
        if self._local is None:
            return await self._shared(client, now)
        return certificates.renew(self._bundle, self._hosts, now) if self._bundle else self._issue(now)

    def _issue(self, now: datetime.datetime) -> certificates.Bundle:
        return certificates.issue(self._hosts, now)

    def _mounted(self) -> certificates.Bundle:
        directory = Path(self._settings.certificate_dir)
        try:
            ca, certificate, key = ((directory / name).read_bytes() for name in ("ca.crt", "tls.crt", "tls.key"))
        except OSError as error:
            raise StartupError(f"no usable certificate in {directory}: {error}") from error
        return certificates.Bundle(ca, b"", certificate, key)

    async def _shared(self, client: Client, now: datetime.datetime) -> certificates.Bundle:
        """The replicas' common bundle, created or renewed by whoever comes first."""
        namespace = self._settings.namespace
        try:
            secret = await client.get(kinds.SECRETS, namespace, CERTIFICATE_SECRET)
        except NotFound:
            fresh = self._issue(now)
            try:
                await client.create(kinds.SECRETS, fresh.secret(namespace, CERTIFICATE_SECRET))
            except Conflict:
                return await self._shared(client, now)
            except NotFound as error:
                raise StartupError(
                    f"namespace {namespace} does not exist; create it, or set DATALABD_NAMESPACE"
                ) from error
            return fresh
        try:
            bundle = certificates.Bundle.from_secret(secret)
            renewed = certificates.renew(bundle, self._hosts, now)
        except ValueError:
            renewed, bundle = self._issue(now), None
        if renewed is not bundle:
            body = renewed.secret(namespace, CERTIFICATE_SECRET)
            body["metadata"]["resourceVersion"] = secret["metadata"]["resourceVersion"]
            try:
                await client.patch(kinds.SECRETS, namespace, CERTIFICATE_SECRET, body)
            except Conflict:
                return await self._shared(client, now)
        return renewed

    def _use(self, bundle: certificates.Bundle) -> None:
        """Serve with this certificate from the next connection on."""
        try:
            certificates.load(self._tls, bundle)
        except (ValueError, ssl.SSLError) as error:
            raise StartupError(f"the serving certificate cannot be used: {error}") from error
        self._bundle = bundle
        metrics.CERTIFICATE_EXPIRY.set(bundle.expires.timestamp())
        log.info("serving certificate loaded", expires=bundle.expires.isoformat())

    async def _keep_certificate(self, client: Client) -> None:
        """Renew in time. A new authority is announced, beside the old one, before its certificate is served."""
        while True:
            await asyncio.sleep(self._certificate_check_seconds)
            try:
                bundle = await self._certify(client)
                if bundle == self._bundle:
                    continue
                if self._bundle is None or bundle.ca != self._bundle.ca:
                    await self._register(client, self._endpoint(bundle.ca))
                self._use(bundle)
            except (KubeError, StartupError) as error:
                log.warning("certificate not renewed", error=str(error))

    # --- what we serve ------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _serve_webhooks(self, client: Client, cache: Cache) -> AsyncIterator[None]:
        host = "127.0.0.1" if self._local is not None and self._local.url is None else self._settings.webhook_host
        async with self._site("webhook", application(client, cache), host, self._settings.webhook_port, self._tls):
            yield

    @contextlib.asynccontextmanager
    async def _serve_metrics(self, informers: Informers) -> AsyncIterator[None]:
        async def healthz(_: web.Request) -> web.Response:
            return web.Response(text="ok\n")

        async def readyz(_: web.Request) -> web.Response:
            pending = ["stopping"] if self._draining else list(map(str, informers.pending()))
            if not self._draining and not informers.synced(kinds.DATALABS):
                pending = [*pending, "the Datalab kind is not served yet"]
            return web.Response(status=503 if pending else 200, text="\n".join(pending or ["ok"]) + "\n")

        async def exposition(_: web.Request) -> web.Response:
            return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

        app = web.Application()
        app.router.add_get("/healthz", healthz)
        app.router.add_get("/readyz", readyz)
        app.router.add_get("/metrics", exposition)
        host = "127.0.0.1" if self._local is not None else self._settings.metrics_host
        async with self._site("metrics", app, host, self._settings.metrics_port, None):
            yield

    @contextlib.asynccontextmanager
    async def _site(
        self, name: str, app: web.Application, host: str, port: int, tls: ssl.SSLContext | None
    ) -> AsyncIterator[None]:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=DRAIN_SECONDS)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port, ssl_context=tls).start()
        except OSError as error:
            await runner.cleanup()
            raise StartupError(f"cannot listen on {host}:{port} for {name}: {error.strerror}") from error
        self._ports[name] = runner.addresses[0][1]
        log.info("listening", site=name, host=host, port=self._ports[name])
        try:
            yield
        finally:
            await runner.cleanup()

    # --- what the API server is told ----------------------------------------------------------------------------------

    def _endpoint(self, ca: bytes) -> Endpoint:
        if self._local is None:
            return Endpoint(ca, service=(self._settings.namespace, self._settings.service))
        return Endpoint(ca, url=self._url)

    @property
    def _url(self) -> str:
        """Where the API server finds a local run."""
        return (self._local and self._local.url) or f"https://127.0.0.1:{self._ports['webhook']}"

    async def _register(self, client: Client, endpoint: Endpoint) -> None:
        """Install the CRDs with their conversion, and all webhooks, answered at this endpoint."""
        self._has_registered = True
        manifests = custom_resource_definitions(endpoint.client_config("/convert")) + claim_webhooks(endpoint)
        manifests += protection() + abandonment() + rights_protection() + data_protection(self._account)
        manifests += ingress_policies.session_ingresses(self._account)
        manifests += ingress_policies.protecting_objects(self._account)
        manifests += ingress_policies.session_backends()
        if self._guarded is not None:
            domains, hosts = self._guarded
            manifests += ingress_webhooks(endpoint, domains) + ingress_policies.platform_hosts(domains, hosts)
        await self._install(client, manifests)

    async def _username(self, client: Client) -> str:
        try:
            return await client.username()
        except KubeError as error:
            raise StartupError(f"the API server does not say who we are: {error}") from error

    async def _install(self, client: Client, manifests: list[Manifest]) -> None:
        for manifest in manifests:
            try:
                await self._put(client, manifest)
            except KubeError as error:
                what = f"{manifest['kind']} {manifest['metadata']['name']}"
                raise StartupError(f"cannot install {what}: {error}") from error

    async def _put(self, client: Client, manifest: Manifest) -> None:
        """Create an object that is ours outright, or make it what it should be.

        Replaced, not applied: what an operator applied from a file names a Service where a local run has a URL, and an
        apply would keep both. Created by apply all the same: that right can be granted by name, a POST's cannot.
        """
        resource = resource_of(manifest)
        try:
            live = await client.get(resource, "", manifest["metadata"]["name"])
        except NotFound:
            await client.apply(resource, manifest)
            return
        labels = (live["metadata"].get("labels") or {}) | manifest["metadata"].get("labels", {})
        await client.replace(resource, live | manifest | {"metadata": live["metadata"] | {"labels": labels}})

    async def _prove_reachable(self, client: Client) -> None:
        """Have the API server call us, by a dry run: a workstation it cannot reach would only refuse every claim."""
        probe = {
            "apiVersion": V1BETA2,
            "kind": "Datalab",
            "metadata": {"name": f"probe-{uuid.uuid4().hex[:8]}", "namespace": "default"},
            "spec": {},
        }
        try:
            await client.create(kinds.DATALABS, probe, dry_run=True)
        except Invalid:
            return  # refused by us: reached
        except KubeError as error:
            await self._unregister(client)
            raise StartupError(
                f"the API server cannot call this process: {error}; check --webhook-url and what lies between"
            ) from error

    async def _unregister(self, client: Client) -> None:
        """Take a local run's webhooks away: with nobody behind them they would refuse every claim.

        Those that somebody else answers by now, who leads since, stay.
        """
        ours = self._url
        for resource in (kinds.MUTATING_WEBHOOKS, kinds.VALIDATING_WEBHOOKS):
            for name in (CLAIMS, INGRESSES):
                try:
                    live = await client.get(resource, "", name)
                    urls = [webhook["clientConfig"].get("url", "") for webhook in live.get("webhooks") or ()]
                    if all(url.startswith(f"{ours}/") for url in urls):
                        await client.delete(resource, "", name, live["metadata"]["uid"])
                except NotFound:
                    continue
                except KubeError as error:
                    log.warning("webhook registration left behind", name=name, error=str(error))

    def _follow_registrations(self, cache: Cache) -> None:
        """Have `_keep_registered` told of environments that change and registrations that go."""

        def environment_changed(_: Manifest) -> None:
            self._to_register.set()

        def registration_changed(registration: Manifest) -> None:
            store = cache.informers.store(resource_of(registration))
            if store.get("", registration["metadata"]["name"]) is None:
                self._guarded = None
                self._to_register.set()

        for kind in (kinds.ENVIRONMENT_CONFIGS, kinds.CROSSPLANE_ENVIRONMENTS):
            cache.informers.store(kind).subscribe(environment_changed)
        for kind in (
            kinds.MUTATING_WEBHOOKS,
            kinds.VALIDATING_WEBHOOKS,
            kinds.ADMISSION_POLICIES,
            kinds.ADMISSION_POLICY_BINDINGS,
        ):
            cache.informers.store(kind).subscribe(registration_changed)
            cache.informers.watch(kind, REGISTRATIONS)

    async def _keep_registered(self, client: Client, cache: Cache) -> None:
        """Register everything again when domains or hosts of the environments change, or a registration was deleted."""
        changed = self._to_register
        changed.set()
        while True:
            await changed.wait()
            changed.clear()
            guarded = sorted(set(cache.domains().values())), sorted(cache.platform_hosts())
            if guarded == self._guarded or self._bundle is None:
                continue
            self._guarded = guarded
            try:
                await self._register(client, self._endpoint(self._bundle.ca))
            except StartupError as error:
                log.warning("webhooks not registered", error=str(error))
                self._guarded = None
                await asyncio.sleep(REGISTER_RETRY_SECONDS)
                changed.set()

    # --- leading ------------------------------------------------------------------------------------------------------

    async def _lead(self, client: Client, cache: Cache, manager: Manager, fence: Fence) -> None:
        """Hold the lease and reconcile; whoever loses it stops writing and waits for its turn again."""
        namespace = LOCAL_LEASE_NAMESPACE if self._local is not None else self._settings.namespace
        if self._local is not None:
            await self._refuse_beside_installation(client)

        async def connect() -> Client:
            return await Client.connect(self._kubeconfig)

        leader = Leader(connect, namespace, "datalabd", self._settings.lease_identity, fence)
        await leader.run(lambda: self._reconcile(client, cache, manager))

    async def _refuse_beside_installation(self, client: Client) -> None:
        """A local run would take the webhooks of an installed datalabd over, and away when it stops."""
        for resource in (kinds.MUTATING_WEBHOOKS, kinds.VALIDATING_WEBHOOKS):
            try:
                live = await client.get(resource, "", CLAIMS)
            except NotFound:
                continue
            configs = [webhook["clientConfig"] for webhook in live.get("webhooks") or ()]
            if any("service" in config and config.get("caBundle") for config in configs):
                raise StartupError(
                    f"datalabd is installed in this cluster: {resource.kind} {CLAIMS} is answered by its Service; "
                    "scale it down and delete that registration before you run it from here"
                )

    async def _reconcile(self, client: Client, cache: Cache, manager: Manager) -> None:
        """What the holder of the lease does."""
        assert self._bundle is not None  # loaded before anything was served
        await self._register(client, self._endpoint(self._bundle.ca))
        await cache.informers.until_synced(kinds.DATALABS)
        if self._local is not None:
            await self._prove_reachable(client)
        log.info("ready", api_server=client.server)
        self.ready.set()
        await asyncio.gather(self._keep_registered(client, cache), manager.lead())

    async def _measure_lag(self) -> None:
        """Observe how late a timer fires: what everything else on the loop would wait too."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_SECONDS
            await asyncio.sleep(LAG_SECONDS)
            metrics.LOOP_LAG.observe(max(0.0, loop.time() - due))


async def _cancelled(tasks: Sequence[asyncio.Task[object]]) -> None:
    """Cancel tasks and wait for their end; how each one ended was looked at before, or does not matter any more."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
