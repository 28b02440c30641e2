"""Two replicas at once, either of which answers for the webhooks: claims that race through both of them."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from datalabd.api.meta import CLAIM_UID, Manifest
from datalabd.errors import Invalid, NotFound
from datalabd.kube import resources as kinds
from datalabd.kube.client import Client
from hack.cluster import Cluster
from hack.deadlines import scaled
from tests.integration.daemon import eventually
from tests.integration.objects import claim, create, environment, open_namespace, unique
from tests.integration.replicas import Replica, replicated

pytestmark = pytest.mark.cluster

ENVIRONMENT = unique("raced")
ANSWERED = 'datalabd_webhook_requests_total{code="200",webhook="validate-datalabs"}'
ROUNDS = 5
"""Of each kind of clash, all at once."""
ATTEMPTS = 6
"""At having admission let two through, which takes two requests within the moment that a replica needs to hear."""


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Replica]]:
    """Two replicas behind a Service, on a control plane of their own. Educates plays beside them."""
    with replicated(tmp_path_factory.mktemp("replicas")) as service:
        create(service.cluster, environment(ENVIRONMENT, ingress={"domain": "lab.example.org"}))
        known = 'datalabd_store_objects{resource="environmentconfigs.pkg.internal"}'
        eventually(lambda: all(replica.metrics().get(known, 0) for replica in service.replicas))
        yield service.replicas


@pytest.fixture(scope="module")
def cluster(replicas: list[Replica]) -> Cluster:
    """The control plane of the replicas."""
    return replicas[0].cluster


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
    replicas: list[Replica], client: Client, cluster: Cluster, namespace: str, kind: str
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
