"""Speed of a realm's convergence, on a Keycloak of its own."""

import asyncio
import statistics
import time
from collections.abc import Awaitable

from datalabd.api.conversion import to_v1beta2
from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import NamespacedName
from datalabd.defaults import default
from datalabd.keycloak import Access, Keycloak
from datalabd.lab import resolve
from datalabd.plan.realm import RealmState, realm_state
from hack import labs
from hack.bench.table import Table
from hack.keycloak import OwnServer, Realm

LABS = 20
ROUNDS = 10
USERS = tuple(f"user-{number}" for number in range(5))
LAG_SECONDS = 0.005
"""How often the event loop is asked whether it keeps up."""


def measure(table: Table) -> None:
    """All rows."""
    with OwnServer() as server:
        realm = server.realm("bench", users=[{"username": user, "enabled": True} for user in USERS])
        floor = _by_hand(realm)
        table.row("one client made and deleted by hand", floor, "s")
        asyncio.run(_converge(realm, table, floor))


def _by_hand(realm: Realm) -> float:
    """Two requests, one after the other: how fast Keycloak itself is at the moment."""
    seconds = []
    for number in range(ROUNDS):
        began = time.perf_counter()
        made = realm.request("POST", "/clients", body={"clientId": f"by-hand-{number}"})
        realm.request("DELETE", f"/clients/{made.headers['Location'].rpartition('/')[2]}")
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


async def _converge(realm: Realm, table: Table, floor: float) -> None:
    access = Access(realm.server.url, realm.name, realm.client_id, realm.client_secret, None)
    keycloak = Keycloak(access, timeout_seconds=60)
    try:
        await keycloak.check()
        one = [await _timed(_one(keycloak, realm, f"one-{number}")) for number in range(ROUNDS)]
        table.row("a new lab in Keycloak", statistics.median(one), "s", floor=floor, note=f"worst {max(one):.3f} s")
        again = [await _timed(_one(keycloak, realm, "one-0")) for _ in range(ROUNDS)]
        note = f"worst {max(again):.3f} s"
        table.row("the same again, nothing to do", statistics.median(again), "s", floor=floor, note=note)
        lag = Lag()
        meter = asyncio.create_task(lag.measure())
        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(_one(keycloak, realm, f"many-{number}") for number in range(LABS)))
        seconds, used = time.perf_counter() - began, time.process_time() - cpu
        meter.cancel()
        await asyncio.wait({meter})
        note = f"{used:.2f} s of CPU here"
        table.row(f"{LABS} new labs in Keycloak at once", seconds, "s", floor=floor, note=note)
        table.row("event loop late at the worst, meanwhile", lag.worst_seconds * 1000, "ms")
    finally:
        await keycloak.aclose()


class Lag:
    """How much later than it asked for a task of the event loop goes on."""

    def __init__(self) -> None:
        self.worst_seconds = 0.0

    async def measure(self) -> None:
        """Measure until cancelled."""
        while True:
            began = time.perf_counter()
            await asyncio.sleep(LAG_SECONDS)
            self.worst_seconds = max(self.worst_seconds, time.perf_counter() - began - LAG_SECONDS)


async def _timed(work: Awaitable[object]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


async def _one(keycloak: Keycloak, realm: Realm, name: str) -> None:
    await keycloak.converge(_state(realm, name), "not-a-secret", NamespacedName("default", name))


def _state(realm: Realm, name: str) -> RealmState:
    iam = {"realm": realm.name, "extraAudiences": ["workspace-api"]}
    data = {"ingress": {"domain": "lab.example.org"}, "iam": iam}
    environment = EnvironmentConfig.parse({"metadata": {"name": "bench"}, "data": data})
    claim = to_v1beta2(default(labs.claim(name)))
    claim["metadata"] |= {"uid": name, "generation": 1}
    return realm_state(resolve(claim | {"spec": claim["spec"] | {"users": list(USERS)}}, environment))
