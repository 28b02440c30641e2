"""Two replicas at once, either of which answers for the webhooks: claims that race through both of them."""

import asyncio
import contextlib
import datetime
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from datalabd.api.meta import CLAIM_UID, Manifest
from datalabd.errors import Invalid, NotFound
from datalabd.kube import resources as kinds
from datalabd.kube.client import Client
from hack.cluster import Cluster
from hack.deadlines import scaled
from hack.ports import free_port
from tests.integration.daemon import Daemon, eventually
from tests.integration.objects import claim, create, environment, open_namespace, unique
from tests.integration.stage import standins
from webhooks import certificates

pytestmark = pytest.mark.cluster

ENVIRONMENT = unique("raced")
ANSWERED = 'datalabd_webhook_requests_total{code="200",webhook="validate-datalabs"}'
ROUNDS = 5
"""Of each kind of clash, all at once."""
ATTEMPTS = 6
"""At having admission let two through, which takes two requests within the moment that a replica needs to hear."""


@contextlib.contextmanager
def spread(port: int, backends: list[int]) -> Iterator[None]:
    """Hand the connections to a port on to others in turn, as a Service does: to those that are there."""
    turns = itertools.cycle(backends)
    ready, loop = threading.Event(), asyncio.new_event_loop()
    stopped = asyncio.Event()

    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):  # either side may go at any time; the other is told by the end
            while part := await source.read(65536):
                sink.write(part)
                await sink.drain()
        sink.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in backends:
            with contextlib.suppress(OSError):
                there, back = await asyncio.open_connection("127.0.0.1", next(turns))
                await asyncio.gather(copy(reader, back), copy(there, writer))
                return
        writer.close()

    async def serve() -> None:
        async with await asyncio.start_server(connected, "127.0.0.1", port):
            ready.set()
            await stopped.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), name="spread")
    thread.start()
    try:
        assert ready.wait(10)
        yield
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join(10)
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def listed(daemon: Daemon) -> bool:
    """Whether a replica would be sent requests."""
    with contextlib.suppress(LookupError, httpx.TransportError):  # it does not listen yet
        return httpx.get(f"{daemon.url}/readyz", trust_env=False).status_code == 200
    return False


@pytest.fixture(scope="module")
def replicas(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Daemon]]:
    """Two daemons that share a certificate and an address; the first leads. Educates plays beside them."""
    directory = tmp_path_factory.mktemp("replicas")
    bundle = certificates.issue(["127.0.0.1"], datetime.datetime.now(datetime.UTC))
    for name, pem in (("ca.crt", bundle.ca), ("tls.crt", bundle.certificate), ("tls.key", bundle.key)):
        Path(directory / name).write_bytes(pem)
    front, ports = free_port(), [free_port(), free_port()]
    daemons = [
        Daemon(
            cluster,
            directory / f"log-{number}",
            f"datalabd-{number}",
            webhook_url=f"https://127.0.0.1:{front}",
            DATALABD_CERTIFICATE_DIR=str(directory),
            DATALABD_WEBHOOK_HOST="127.0.0.1",
            DATALABD_WEBHOOK_PORT=str(port),
        )
        for number, port in enumerate(ports)
    ]
    with spread(front, ports), standins(cluster, installed=False):
        try:
            daemons[0].start()
            daemons[1].start(ready=False)
            eventually(lambda: listed(daemons[1]), 60)
            create(cluster, environment(ENVIRONMENT, ingress={"domain": "lab.example.org"}))
            known = 'datalabd_store_objects{resource="environmentconfigs.pkg.internal"}'
            eventually(lambda: all(daemon.metrics().get(known, 0) for daemon in daemons))
            yield daemons
        finally:
            daemons[1].kill()  # it never led: all that is registered is the first one's to take away
            daemons[0].clear()


class Clash(NamedTuple):
    """Two claims that cannot both have what they ask for; `{}` is what no other round uses."""

    one: tuple[str, dict[str, Any]]
    other: tuple[str, dict[str, Any]]
    together: bool = False
    """Whether both are of one namespace."""


SESSION_B: dict[str, Any] = {"sessions": [{"name": "b"}]}
SERVER: dict[str, Any] = {"databases": {"pg": {"names": ["a"], "storage": "1Gi", "backupStorage": "1Gi"}}}
CLASHES = {
    "one name": Clash(("{}", {}), ("{}", {})),
    "session and lab": Clash(("{}", SESSION_B), ("{}-b", {})),
    "session and lab of one namespace": Clash(("{}", SESSION_B), ("{}-b", {}), together=True),
    "sessions": Clash(("{}", {"sessions": [{"name": "a-b"}]}), ("{}-a", SESSION_B)),
    "administrators and members": Clash(("{}", {}), ("{}-admin", {}), together=True),
    "data browser and session": Clash(("{}", SESSION_B), ("data-{}", SESSION_B)),
    "database and session": Clash(("{}", SERVER), ("pg-{}", {}), together=True),
}


async def settled(client: Client, stored: list[Manifest]) -> list[Manifest]:
    """The claims once each of them was accepted or refused for its present generation."""
    async with asyncio.timeout(scaled(60)):
        while True:
            live = [
                await client.get(kinds.DATALABS, one["metadata"]["namespace"], one["metadata"]["name"])
                for one in stored
            ]
            said = [condition(one, "Synced").get("reason") for one in live]
            if sorted(map(str, said)) == ["ClaimInvalid", "ReconcileSuccess"]:
                return live
            await asyncio.sleep(0.1)


def condition(claim: Manifest, kind: str) -> Manifest:
    """One condition of a claim, empty if it is not reported."""
    conditions = (claim.get("status") or {}).get("conditions") or ()
    return next((each for each in conditions if each["type"] == kind), {})


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", CLASHES)
async def test_of_two_claims_that_race_one_wins(
    replicas: list[Daemon], client: Client, cluster: Cluster, namespace: str, kind: str
) -> None:
    clash, elsewhere = CLASHES[kind], open_namespace(cluster)
    places = (namespace, namespace if clash.together else elsewhere)
    for _ in range(ATTEMPTS):
        both_stored = await asyncio.gather(*(race(client, clash, places) for _ in range(ROUNDS)))
        if any(both_stored):
            break
    else:
        pytest.fail("admission never let two through at once: nothing raced")
    answered = [daemon.metrics().get(ANSWERED, 0) for daemon in replicas]
    assert min(answered) > 0, answered


async def race(client: Client, clash: Clash, places: tuple[str, str]) -> bool:
    """One round, from creation to deletion; whether admission let both through, as neither knew of the other."""
    stem = unique("r")
    raced = [
        claim(place, ENVIRONMENT, name=name.format(stem), **spec)
        for place, (name, spec) in zip(places, (clash.one, clash.other), strict=True)
    ]
    answers = await asyncio.gather(*(client.create(kinds.DATALABS, one) for one in raced), return_exceptions=True)
    stored = [answer for answer in answers if isinstance(answer, dict)]
    refused = [answer for answer in answers if not isinstance(answer, dict)]
    assert stored, refused
    if refused:
        (told,) = refused
        assert isinstance(told, Invalid)
        winner, message = stored[0], str(told)
    else:
        live = await settled(client, stored)
        winner, loser = sorted(live, key=lambda one: condition(one, "Synced")["reason"], reverse=True)
        message = condition(loser, "Stalled")["message"]
        await runs(client, winner)
    holder = f"lab {winner['metadata']['name']}" if clash.together else "another lab"
    assert f"belongs to {holder}" in message
    assert clash.together or winner["metadata"]["namespace"] not in message
    await takes_over(client, winner, [one for one in stored if one["metadata"]["uid"] != winner["metadata"]["uid"]])
    return not refused


async def runs(client: Client, claim: Manifest) -> None:
    """Return when the environment of that name is this claim's: one of another goes before, and for a while is none."""
    async with asyncio.timeout(scaled(90)):
        while True:
            with contextlib.suppress(NotFound):
                live = await client.get(kinds.WORKSHOP_ENVIRONMENTS, "", claim["metadata"]["name"])
                if live["metadata"]["labels"][CLAIM_UID] == claim["metadata"]["uid"]:
                    return
            await asyncio.sleep(0.2)


async def takes_over(client: Client, winner: Manifest, losers: list[Manifest]) -> None:
    """The winner goes, and whoever lost to it has the name."""
    metadata = winner["metadata"]
    await client.delete(kinds.DATALABS, metadata["namespace"], metadata["name"], metadata["uid"])
    for loser in losers:
        place, name = loser["metadata"]["namespace"], loser["metadata"]["name"]
        async with asyncio.timeout(scaled(90)):
            while True:
                live = await client.get(kinds.DATALABS, place, name)
                if condition(live, "Synced").get("reason") == "ReconcileSuccess":
                    break
                await asyncio.sleep(0.2)
        await runs(client, loser)
        await client.delete(kinds.DATALABS, place, name, loser["metadata"]["uid"])
