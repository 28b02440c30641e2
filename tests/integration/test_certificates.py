"""Whom the API server trusts, before, while and after datalabd changes its authority."""

import asyncio
import base64
import contextlib
import datetime
import signal
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from urllib.parse import urlsplit

import psutil
import pytest
from cryptography import x509

from datalabd.api.meta import Manifest
from datalabd.app import Process
from datalabd.config import Settings
from datalabd.errors import NotFound
from datalabd.kube import resources as kinds
from datalabd.kube.client import Client
from hack.account import kubeconfig
from hack.cluster import Cluster
from hack.deadlines import scaled
from tests.integration.objects import claim
from webhooks import certificates
from webhooks.certificates import Bundle
from webhooks.installation import Local
from webhooks.serving_certificate import Own, Source

pytestmark = pytest.mark.cluster

CLAIM_WEBHOOKS = (kinds.MUTATING_WEBHOOKS, kinds.VALIDATING_WEBHOOKS)


class Due(Own):
    """An authority that is due to be changed, and may be only once a test says so."""

    check_seconds = 0.1

    def __init__(self, hosts: Sequence[str]) -> None:
        super().__init__(hosts)
        self.may_change = False

    async def current(self, known: Bundle | None, now: datetime.datetime) -> Bundle:
        """The same, until it may change."""
        if known is None:
            due = now - datetime.timedelta(hours=1)
            lifetime = certificates.CA_LIFETIME + certificates.CLOCK_SKEW
            first = certificates.issue(self._hosts, due + certificates.CLOCK_SKEW - lifetime * 2 / 3)
            # Renewed the day before: the certificate is young, the authority is not.
            return certificates.renew(first, self._hosts, due - datetime.timedelta(days=1))
        return await super().current(known, now) if self.may_change else known


class Ageing(Process):
    """datalabd with such an authority."""

    def __init__(self, cluster: Cluster) -> None:
        settings = Settings(identity="datalabd-0").on_workstation(None)
        super().__init__(settings, str(kubeconfig(cluster, confined=True)), Local())
        self.source = Due(["127.0.0.1"])

    def _source(self, client: Client) -> Source:
        return self.source


@contextlib.asynccontextmanager
async def running(process: Process) -> AsyncIterator[None]:
    """From ready to stopped, by a signal as any other."""
    run = asyncio.create_task(process.run())
    waiting = asyncio.create_task(process.ready.wait())
    await asyncio.wait([run, waiting], return_when=asyncio.FIRST_COMPLETED, timeout=scaled(60))
    waiting.cancel()
    if run.done():
        run.result()
    try:
        assert process.ready.is_set()
        yield
    finally:
        signal.raise_signal(signal.SIGTERM)
        await asyncio.wait_for(run, scaled(30))
        port = process._port

        async def all_closed() -> bool:
            # The connections of a TLS server end a moment after the server has.
            return all(one.laddr.port != port for one in psutil.Process().net_connections("tcp"))

        await eventually(all_closed)


@pytest.fixture
async def process(cluster: Cluster) -> AsyncIterator[Ageing]:
    process = Ageing(cluster)
    async with running(process):
        yield process


async def client_configs(client: Client) -> list[Manifest]:
    """How the API server reaches us: for conversion, and for each webhook."""
    crd = await client.get(kinds.CRDS, "", "datalabs.pkg.internal")
    configurations = [await client.get(kind, "", "datalabd") for kind in CLAIM_WEBHOOKS]
    return [
        crd["spec"]["conversion"]["webhook"]["clientConfig"],
        *(webhook["clientConfig"] for configuration in configurations for webhook in configuration["webhooks"]),
    ]


async def authorities(client: Client) -> set[bytes]:
    """The PEM of all authorities in each caBundle; in all the same, or the test fails."""
    bundles = {base64.b64decode(config["caBundle"]) for config in await client_configs(client)}
    assert len(bundles) == 1, "the registrations disagree"
    return set(bundles)


async def handshake(client: Client) -> int:
    """Serial number of the certificate that a new connection gets, which is verified as the API server does."""
    config = (await client_configs(client))[0]
    address = urlsplit(config["url"])
    context = ssl.create_default_context(cadata=base64.b64decode(config["caBundle"]).decode())
    _, writer = await asyncio.open_connection(address.hostname, address.port, ssl=context)
    certificate = writer.get_extra_info("ssl_object").getpeercert(True)
    writer.close()
    await writer.wait_closed()
    return x509.load_der_x509_certificate(certificate).serial_number


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = 20) -> None:
    async with asyncio.timeout(scaled(seconds)):
        while not await condition():  # noqa: ASYNC110  what is awaited happens in another process
            await asyncio.sleep(0.05)


async def change(process: Ageing, client: Client) -> None:
    """Let the authority be changed, and return when the new certificate is served."""
    before = await handshake(client)
    process.source.may_change = True

    async def changed() -> bool:
        return await handshake(client) != before

    await eventually(changed)


async def test_every_registration_names_the_authority(process: Ageing, client: Client) -> None:
    (bundle,) = await authorities(client)
    assert len(x509.load_pem_x509_certificates(bundle)) == 1


async def test_the_certificate_is_good_for_the_registered_address(process: Ageing, client: Client) -> None:
    assert await handshake(client)


async def test_a_new_authority_stands_beside_the_old_one(process: Ageing, client: Client) -> None:
    (before,) = await authorities(client)
    await change(process, client)
    (after,) = await authorities(client)
    new, old = x509.load_pem_x509_certificates(after)
    assert old == x509.load_pem_x509_certificate(before)
    assert new != old


async def test_no_claim_fails_while_the_authority_is_changed(process: Ageing, client: Client) -> None:
    finished = asyncio.Event()
    answered: list[str] = []

    async def create() -> None:
        while not finished.is_set():
            created = await client.create(kinds.DATALABS, claim("default", "nowhere"), dry_run=True)
            answered.append(created["metadata"]["name"])

    async with asyncio.TaskGroup() as group:
        for _ in range(8):  # each at once is a connection of its own, so new ones meet the new certificate
            group.create_task(create())
        await more(answered)
        await change(process, client)
        await more(answered)
        finished.set()


async def more(answered: list[str]) -> None:
    """Return when fifty more have been answered."""
    goal = len(answered) + 50

    async def reached() -> bool:
        return len(answered) >= goal

    await eventually(reached)


async def test_old_claims_are_converted_after_the_change(process: Ageing, client: Client, namespace: str) -> None:
    await change(process, client)
    created = await client.create(kinds.DATALABS, claim(namespace, "nowhere", sessions=[{"name": "a"}]))
    path = f"/apis/pkg.internal/v1beta1/namespaces/{namespace}/datalabs/{created['metadata']['name']}"
    assert (await client.request("GET", path))["spec"]["sessions"] == ["a"]


async def test_the_certificate_is_not_changed_again(process: Ageing, client: Client) -> None:
    await change(process, client)
    serial = await handshake(client)
    await asyncio.sleep(5 * Due.check_seconds)
    assert await handshake(client) == serial


async def test_a_stopped_local_run_leaves_no_webhook_behind(cluster: Cluster, client: Client) -> None:
    async with running(Ageing(cluster)):
        assert await authorities(client)
    for kind in CLAIM_WEBHOOKS:
        with pytest.raises(NotFound):
            await client.get(kind, "", "datalabd")


async def test_the_next_run_mends_the_conversion(cluster: Cluster, client: Client) -> None:
    async with running(Ageing(cluster)):
        (first,) = await authorities(client)
    async with running(Ageing(cluster)):
        (second,) = await authorities(client)
        assert await handshake(client)
    assert first != second
