"""Killed between any two writes: whatever was the last one that arrived, the next start ends in the same state."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest

from controllers.manager import Manager
from datalabd.api.crd import custom_resource_definitions
from datalabd.api.meta import APPLIED, CLAIM_UID, FIELD_MANAGER, Manifest, NamespacedName
from datalabd.errors import Conflict
from datalabd.kube import resources as kinds
from datalabd.kube.cache import OWNED_KINDS, Cache
from datalabd.kube.client import Client
from datalabd.kube.informers import Informers
from datalabd.kube.resources import Resource
from hack.account import kubeconfig
from hack.cluster import Cluster
from hack.deadlines import scaled
from hack.standins import Educates, Kubelet, install, install_store_crds, secrets_manager
from tests.integration.objects import environment, open_namespace, unique
from tests.reference import SHARED

pytestmark = pytest.mark.cluster

WRITES = frozenset({"POST", "PATCH", "PUT", "DELETE"})
ANY = "*"
"""Instead of an object's name: whatever is written."""


class Killed(BaseException):
    """The process is gone; nothing of it runs on."""


class Doomed(Client):
    """A client whose process is killed when a write has reached the API server, before the answer is used.

    That is the first write, or the first about an object of a name; it writes one thing after the other.

    It knows of a single claim, so that several processes can live beside each other and none does another's work.
    """

    lab: str
    fatal: str
    writing: asyncio.Lock
    is_dead: bool

    async def list(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        keep: Callable[[Manifest], Manifest] | None = None,
        **params: str,
    ) -> tuple[list[Manifest], str]:
        """As the client's own."""
        return await super().list(resource, namespace, keep=keep, **self._chosen(resource) | params)

    def watch(
        self,
        resource: Resource,
        namespace: str,
        since: str,
        *,
        opened: Callable[[], object] = lambda: None,
        **params: str,
    ) -> AsyncIterator[tuple[str, Manifest]]:
        """As the client's own."""
        return super().watch(resource, namespace, since, opened=opened, **self._chosen(resource) | params)

    def _chosen(self, resource: Resource) -> dict[str, str]:
        return {"fieldSelector": f"metadata.name={self.lab}"} if resource == kinds.DATALABS else {}

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Manifest:
        """As the client's own."""
        options: dict[str, Any] = {"params": params, "body": body, "content_type": content_type, "accept": accept}
        if method not in WRITES:
            return await super().request(method, path, **options)
        async with self.writing:
            if self.is_dead:
                raise Killed
            answer = await super().request(method, path, **options)
            named = body.get("metadata", {}).get("name") if isinstance(body, dict) else None
            if self.fatal in (ANY, named):
                self.is_dead = True
                raise Killed
            return answer


@pytest.fixture
async def world(client: Client, cluster: Cluster) -> AsyncIterator[Client]:
    """Our kinds and Educates, without any webhook: what is tried here comes after admission."""
    await install(client, SHARED if SHARED.exists() else None)
    await install_store_crds(client, SHARED / "crds" if SHARED.exists() else None)
    for definition in custom_resource_definitions():
        with contextlib.suppress(Conflict):  # left by other tests, with a conversion that nothing here asks for
            await client.create(kinds.CRDS, definition)
    async with (
        secrets_manager(client, cluster.kubeconfig) as copying,
        Educates(client, copying, domain="lab.example.org"),
        Kubelet(client),
    ):
        yield client


Condition = Callable[[Cache], bool]


def ready(namespace: str, lab: str) -> Condition:
    """The claim is Ready."""
    return lambda cache: _said(cache.claim(NamespacedName(namespace, lab)), "Ready").get("status") == "True"


def gone(namespace: str, lab: str) -> Condition:
    """There is no such claim."""
    return lambda cache: cache.claim(NamespacedName(namespace, lab)) is None


def decided(lab: str) -> Condition:
    """Of two claims of one name one is Ready, and the other refused."""

    def met(cache: Cache) -> bool:
        claims = cache.claims_named(lab)
        reasons = sorted(str(_said(claim, "Ready").get("reason")) for claim in claims)
        return reasons == ["Available", "ClaimInvalid"]

    return met


def _said(claim: Manifest | None, kind: str) -> Manifest:
    conditions = ((claim or {}).get("status") or {}).get("conditions") or ()
    return next((each for each in conditions if each["type"] == kind), {})


async def run(cluster: Cluster, lab: str, condition: Condition, fatal: str = "") -> bool:
    """One process's life: until this is so, or until it is killed as told. True if it was."""
    client = await Doomed.connect(str(kubeconfig(cluster, confined=True)))
    client.lab, client.fatal = lab, fatal
    client.writing, client.is_dead = asyncio.Lock(), False
    informers = Informers(client)
    cache = Cache(informers)
    manager = Manager(client, cache, workers=2)
    cache.start()
    try:
        await informers.until_synced(kinds.DATALABS)
        reached = asyncio.Event()

        def look(_: Manifest) -> None:
            if condition(cache):
                reached.set()

        informers.store(kinds.DATALABS).subscribe(look)
        look({})  # it may be so already
        work = asyncio.create_task(manager.lead())
        waiting = asyncio.create_task(reached.wait())
        watching = asyncio.create_task(informers.run())
        # A lab may be so before a write that comes late, which is waited for by its name.
        ends = {work, watching} if fatal not in ("", ANY) else {work, waiting, watching}
        await asyncio.wait(ends, timeout=scaled(120), return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            watching.result()
        watching.cancel()
        killed = work.done()
        assert killed or reached.is_set(), [claim.get("status") for claim in cache.claims()]
        waiting.cancel()
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError, BaseExceptionGroup):
            await work
        return killed
    finally:
        await informers.stop()
        await client.close()


async def state(client: Client, lab: str) -> dict[str, Any]:
    """Everything that carries the lab's name, without what differs from one lab to the next."""
    found: dict[str, Any] = {}
    for kind in OWNED_KINDS:
        items, _ = await client.list(kind, labelSelector=f"datalabs.pkg.internal/name={lab}")
        for item in items:
            metadata = item["metadata"]
            if APPLIED not in metadata.get("annotations", {}):
                continue  # Educates hands our labels on to what it makes
            where = f"{kind.kind} {metadata.get('namespace', '')}/{metadata['name']}".replace(lab, "LAB")
            labels = set(metadata["labels"]) - {CLAIM_UID}
            managers = {entry.get("manager") for entry in metadata["managedFields"]}
            found[where] = (sorted(labels), len(item.get("data") or item["spec"]), FIELD_MANAGER in managers)
    return found


async def make(client: Client, namespace: str, name: str = "") -> str:
    """A claim with two sessions, one of them stopped, and a login of its own."""
    name = name or unique("crash")
    await client.create(
        kinds.SECRETS,
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace},
            "stringData": {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "not-a-secret"},
        },
    )
    await client.create(
        kinds.DATALABS,
        {
            "apiVersion": "pkg.internal/v1beta2",
            "kind": "Datalab",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"users": ["ann"], "sessions": [{"name": "a"}, {"name": "b", "state": "stopped"}]},
        },
    )
    return name


async def drop(client: Client, namespace: str, lab: str) -> None:
    """Ask for the claim's deletion."""
    live = await client.get(kinds.DATALABS, namespace, lab)
    await client.delete(kinds.DATALABS, namespace, lab, live["metadata"]["uid"])


async def lives(cluster: Cluster, lab: str, condition: Condition) -> int:
    """How many processes it took until this was so, each killed after its first write: so between any two writes."""
    for killed in range(100):
        if not await run(cluster, lab, condition, ANY):
            return killed + 1
    raise AssertionError(f"a hundred writes for lab {lab}")


@pytest.mark.timeout(600)
async def test_creation_and_deletion_survive_a_kill_after_every_write(
    world: Client, cluster: Cluster, namespace: str
) -> None:
    await world.apply(kinds.ENVIRONMENT_CONFIGS, environment("datalab"))
    whole = await make(world, namespace)
    assert not await run(cluster, whole, ready(namespace, whole))
    expected = await state(world, whole)
    assert len(expected) >= 12

    lab = await make(world, namespace)
    written = [where for where, (_, _, is_written) in expected.items() if is_written]  # Educates makes the others
    assert len(written) >= 10
    assert await lives(cluster, lab, ready(namespace, lab)) > len(written)  # at least one for each object
    assert await state(world, lab) == expected

    await drop(world, namespace, lab)
    assert await lives(cluster, lab, gone(namespace, lab)) > 1
    left = await state(world, lab)
    left.pop(f"Secret {namespace}/LAB-login", None)  # the garbage collector's, who knows new kinds only later
    assert {where.split()[0] for where in left} == {
        "PersistentVolumeClaim",
        "NetworkPolicy",
        "Workshop",
        "WorkshopEnvironment",
    }
    assert all("datalabs.pkg.internal/retained" in labels for labels, *_ in left.values())
    await drop(world, namespace, whole)
    assert not await run(cluster, whole, gone(namespace, whole))


@pytest.mark.timeout(600)
async def test_one_of_two_claims_wins_after_a_kill_at_every_write(
    world: Client, cluster: Cluster, namespace: str
) -> None:
    """As they are when admission let both through; whatever either has made until then."""
    await world.apply(kinds.ENVIRONMENT_CONFIGS, environment("datalab"))
    other = open_namespace(cluster)
    lab = await make(world, namespace)
    await make(world, other, lab)
    assert await lives(cluster, lab, decided(lab)) > 1
    runtime = await world.get(kinds.WORKSHOP_ENVIRONMENTS, "", lab)
    claims = [await world.get(kinds.DATALABS, place, lab) for place in (namespace, other)]
    (winner,) = [claim for claim in claims if _said(claim, "Ready")["status"] == "True"]
    assert runtime["metadata"]["labels"][CLAIM_UID] == winner["metadata"]["uid"]
    for claim in claims:
        await drop(world, claim["metadata"]["namespace"], lab)
        assert not await run(cluster, lab, gone(claim["metadata"]["namespace"], lab))
