"""Replicas of datalabd behind its Service, as the Deployment runs them, and the network between: there are no nodes."""

import asyncio
import base64
import contextlib
import json
import os
import signal
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import aiohttp
import yaml

from datalabd.api.meta import FIELD_MANAGER
from datalabd.kube.client import Connector
from hack.account import MANIFESTS, NAMESPACE
from hack.cluster import Cluster
from tests.integration.daemon import WEBHOOKS, Daemon, eventually
from tests.integration.objects import read
from tests.integration.stage import background, standins

(DEPLOYMENT,) = yaml.safe_load_all((MANIFESTS / "deployment" / "deployment.yaml").read_text())
PROBE = DEPLOYMENT["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]
CHUNK = 65536


def install(cluster: Cluster) -> None:
    """Everything that operators apply. The Deployment goes again: no node would run its pods."""
    cluster.kubectl("apply", "--server-side", "--kustomize", str(MANIFESTS))
    cluster.kubectl("delete", "deployment", DEPLOYMENT["metadata"]["name"], "-n", NAMESPACE)


class Replica(Daemon):
    """One `datalabd run` of several. Its token is its own, by which the audit log tells it from others."""

    def __init__(self, cluster: Cluster, directory: Path, number: int) -> None:
        super().__init__(
            cluster,
            directory / f"log-{number}",
            f"datalabd-{number}",
            DATALABD_WEBHOOK_HOST="127.0.0.1",
            DATALABD_WEBHOOK_PORT="0",
            DATALABD_METRICS_HOST="127.0.0.1",
            DATALABD_METRICS_PORT="0",
        )
        self.identity = f"datalabd-{number}"
        self.is_terminating = False
        """Whether its pod is being deleted: no Service counts it among its endpoints then."""
        config = cluster.kubeconfig_for(f"{NAMESPACE}/{FIELD_MANAGER}").read_text()
        self._kubeconfig = directory / f"kubeconfig-{number}"
        self._kubeconfig.write_text(config)
        (user,) = yaml.safe_load(config)["users"]
        payload = user["user"]["token"].split(".")[1]
        self.credential = f"JTI={json.loads(base64.urlsafe_b64decode(payload + '=='))['jti']}"
        """How the audit log names its token."""

    def options(self) -> list[str]:
        """What `datalabd run` is told."""
        return ["--kubeconfig", str(self._kubeconfig)]

    def stop(self) -> int:
        """Have its pod deleted; its exit code."""
        self.is_terminating = True
        try:
            return super().stop()
        finally:
            self.is_terminating = False

    def certificate(self) -> bytes:
        """What it shows to a new connection, PEM."""
        return ssl.get_server_certificate(("127.0.0.1", self.port("webhook"))).encode()

    def pause(self) -> None:
        """Stop it in mid-flight: it holds its connections, and does nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a stopped one go on, as if no time had passed."""
        os.kill(self.pid, signal.SIGCONT)


class Service:
    """Hands each connection of the API server on to a ready replica in turn, as nodes do for a Service.

    Replicas are probed as the Deployment says; one that has ended or is being deleted is out at once. Connections that
    there are stay where they are.
    """

    def __init__(self, socket: Path, replicas: list[Replica]) -> None:
        self.cluster = replicas[0].cluster
        self._socket = socket
        self.replicas = replicas
        self._ready: set[int] = set()
        """Pids of those whose probe succeeds."""
        self._sent = 0
        self._ended = 0
        self._connections: dict[asyncio.Task[object], asyncio.StreamWriter] = {}
        self._answered: set[asyncio.Task[object]] = set()
        """The connections on which nothing was asked since the last answer."""
        self._loop: asyncio.AbstractEventLoop | None = None

    def endpoints(self) -> list[Replica]:
        """The replicas that connections are handed to."""
        return [
            replica
            for replica in self.replicas
            if replica.is_running and not replica.is_terminating and replica.pid in self._ready
        ]

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Be there while the context lasts."""
        async with (
            aiohttp.ClientSession(
                connector=Connector(), timeout=aiohttp.ClientTimeout(PROBE["timeoutSeconds"])
            ) as session,
            await asyncio.start_unix_server(self._connected, self._socket),
            asyncio.TaskGroup() as tasks,
        ):
            self._loop = asyncio.get_running_loop()
            probes = [tasks.create_task(self._probe(session, replica)) for replica in self.replicas]
            try:
                yield
            finally:
                for probe in probes:
                    probe.cancel()
                for writer in self._connections.values():
                    writer.transport.abort()
                await asyncio.gather(*self._connections)

    def end_answered(self) -> Future[None]:
        """End the connections on which no answer is due; done once the API server has let go of each.

        Whoever asks nothing meanwhile has none broken, and is answered on new ones; the first of those by another
        replica than the last time.
        """
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(self._end_answered(), self._loop)

    async def _end_answered(self) -> None:
        ending = list(self._answered)
        for task in ending:
            self._connections[task].write_eof()
        if ending:
            await asyncio.wait(ending)
        self._ended += 1
        self._sent = self._ended

    async def _probe(self, session: aiohttp.ClientSession, replica: Replica) -> None:
        failures = 0
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + PROBE["periodSeconds"]
            if replica.is_running:
                pid = replica.pid
                if await self._answers(session, replica):
                    failures = 0
                    self._ready.add(pid)
                elif (failures := failures + 1) >= PROBE["failureThreshold"]:
                    self._ready.discard(pid)
            await asyncio.sleep(due - loop.time())

    async def _answers(self, session: aiohttp.ClientSession, replica: Replica) -> bool:
        try:
            async with session.get(f"{replica.url}{PROBE['httpGet']['path']}") as answer:
                return answer.ok
        except (LookupError, aiohttp.ClientError, TimeoutError):
            return False

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = writer
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await reader.readuntil(b"\r\n\r\n")  # CONNECT: there is no other Service to tell this one from
                await self._hand_on(reader, writer, task)
        finally:
            self._answered.discard(task)
            await _closed(writer)
            del self._connections[task]

    async def _hand_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, task: asyncio.Task[object]
    ) -> None:
        endpoints = self.endpoints()
        if not endpoints:
            writer.write(b"HTTP/1.1 503 no endpoints\r\n\r\n")
            return
        self._sent += 1
        port = endpoints[self._sent % len(endpoints)].port("webhook")
        there, back = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 connected\r\n\r\n")
        try:
            await asyncio.gather(
                _copy(reader, back, lambda: self._answered.discard(task)),
                _copy(there, writer, lambda: self._answered.add(task)),
            )
        finally:
            await _closed(back)


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter, heard: Callable[[], None]) -> None:
    """Hand on what comes, and say so, until either side goes; the other is told by the end."""
    with contextlib.suppress(OSError):
        while part := await source.read(CHUNK):
            heard()
            sink.write(part)
            await sink.drain()
    sink.close()


async def _closed(writer: asyncio.StreamWriter) -> None:
    """Close it, and return when it is closed."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


@contextlib.contextmanager
def replicated(directory: Path, count: int = 2) -> Iterator[Service]:
    """Ready replicas behind their Service, registered with a control plane of their own; Educates plays beside them."""
    socket = directory / "service"
    with Cluster.start(directory / "control-plane", services=socket) as cluster:
        install(cluster)
        service = Service(socket, [Replica(cluster, directory, number) for number in range(count)])
        with background("service", service.serving), standins(cluster, installed=False):
            try:
                for replica in service.replicas:
                    replica.start(ready=False)
                eventually(lambda: len(service.endpoints()) == count, 60)
                eventually(lambda: all(trusted(cluster).values()))
                yield service
            finally:
                for replica in service.replicas:
                    replica.kill()


def trusted(cluster: Cluster) -> dict[str, str]:
    """Whom the API server trusts to answer for each webhook and for conversion; empty where for nobody."""
    ours = "app.kubernetes.io/name=datalabd"
    found = {
        f"{one['kind']}/{one['metadata']['name']}/{webhook['name']}": webhook["clientConfig"].get("caBundle", "")
        for kind in WEBHOOKS
        for one in cluster.api.list(kind, selector=ours)
        for webhook in one.get("webhooks") or ()
    }
    crd = read(cluster, "crd", "datalabs.pkg.internal")
    conversion = crd["spec"]["conversion"]["webhook"]["clientConfig"].get("caBundle", "")
    return found | {"CustomResourceDefinition/datalabs.pkg.internal": conversion}
