"""Rotations with a real Redis behind each cache store: who gets in when, killed after any write, and in bad moments."""

import asyncio
import contextlib
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from controllers.datalab import DatalabReconciler
from controllers.identity import IdentityReconciler
from controllers.workqueue import Workqueue
from datalabd.api.meta import Manifest, NamespacedName
from datalabd.errors import Conflict, NotYet
from datalabd.kube import resources as kinds
from datalabd.kube.cache import STORE_KINDS, Cache
from datalabd.kube.client import Client
from datalabd.kube.events import Recorder
from datalabd.kube.informers import Informers
from hack.account import kubeconfig
from hack.cluster import Cluster
from hack.deadlines import scaled
from hack.redis_server import Redis, Servers, missing
from hack.standins import MongoDBOperator, PostgresOperator, QdrantOperator, RedisOperator
from hack.standins.statefulsets import values
from tests.integration.daemon import Daemon, eventually
from tests.integration.stage import Stage, standins
from tests.integration.test_crash import WRITES, Killed

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

ROTATE = "datalabs.pkg.internal/rotate"
SIZE = {"storage": "1Gi"}
SERVER = {"names": ["dev"], "storage": "1Gi", "backupStorage": "1Gi"}


@dataclass
class World:
    """What plays beside the daemon."""

    servers: Servers
    troubled: set[tuple[str, str]] = field(default_factory=set)
    """Namespaces and names of pods that do not get ready."""

    def trouble(self, obj: Manifest) -> str | None:
        """Why a pod does not get ready."""
        metadata = obj["metadata"]
        return "ImagePullBackOff" if (metadata["namespace"], metadata["name"]) in self.troubled else None

    def redis(self, stage: Stage, lab: str, store: str = "cache") -> Redis:
        """The server behind a cache store."""
        return self.servers[(stage.get("redis", store, lab) or {})["metadata"]["uid"]]

    def hold(self, stage: Stage, lab: str, *pods: str) -> None:
        """Keep these pods, and those that take their places, from being ready."""
        self.troubled |= {(lab, pod) for pod in pods}
        self._look_again(stage, lab, pods)

    def release(self, stage: Stage, lab: str, *pods: str) -> None:
        """Let them be ready again."""
        self.troubled -= {(lab, pod) for pod in pods}
        self._look_again(stage, lab, pods)

    def _look_again(self, stage: Stage, lab: str, pods: tuple[str, ...]) -> None:
        for pod in pods:
            stage.cluster.kubectl("label", "--overwrite", "pod", pod, "-n", lab, f"look={next(_counter)}", check=False)


_counter = itertools.count()


@pytest.fixture(scope="module", autouse=True)
def world(cluster: Cluster) -> Iterator[World]:
    if lacking := missing():
        pytest.skip(lacking)
    with Servers() as servers:
        world = World(servers)
        operators: list[Callable[[Client], Any]] = [
            lambda client: RedisOperator(client, servers=servers),
            MongoDBOperator,
            PostgresOperator,
            QdrantOperator,
        ]
        with standins(cluster, trouble=world.trouble, installed=False, stores=operators):
            yield world


@pytest.fixture
def stage(cluster: Cluster, datalabd: Daemon, namespace: str) -> Stage:
    return Stage(cluster, namespace)


def accepted(stage: Stage, lab: str, store: str = "cache") -> list[str]:
    """The passwords of an access list."""
    return re.findall(r">(\S+)", stage.values(f"{store}-redis-acl", lab)["user.acl"])


def handed_out(stage: Stage, lab: str, variable: str = "REDIS_CACHE_PASSWORD") -> str:
    """What sessions of the lab that start now are told."""
    return stage.values(f"{lab}-datalab").get(variable, "")


def credential(stage: Stage, lab: str, name: str) -> Manifest:
    """What the status says of a credential; empty where nothing."""
    found: Manifest = (stage.get("datalab", lab) or {})["status"].get("credentials", {}).get(name, {})
    return found


def until_rotated(stage: Stage, lab: str, *credentials: str) -> None:
    """Return when each of these `<kind>/<name>/<nonce>` is done, and the lab ready."""
    for each in credentials:
        name, _, nonce = each.rpartition("/")
        eventually(
            lambda name=name, nonce=nonce: (  # type: ignore[misc]
                (said := credential(stage, lab, name)).get("rotation") == nonce and "rotating" not in said
            ),
            60,
        )
    stage.until_ready(lab, 60)


def test_both_passwords_hold_until_the_new_one_is_handed_out(stage: Stage, world: World) -> None:
    lab = stage.lab("main", cacheStores={"cache": SIZE})
    stage.until_ready(lab, 90)
    server, old = world.redis(stage, lab), handed_out(stage, lab)
    assert stage.values("cache-redis-auth", lab) == {"password": old}
    assert accepted(stage, lab) == [old]
    assert server.query("SET", "note", "kept", password=old) == "OK"
    first = (stage.get("pod", "cache-0", lab) or {})["metadata"]["uid"]

    world.troubled.add((lab, "cache-0"))  # holds the pod that is to come, and so the moment
    stage.annotate(lab, ROTATE, "redis/cache/one")

    def restarted() -> bool:
        pod = stage.get("pod", "cache-0", lab)
        waits = [
            status.get("state", {}).get("waiting")
            for status in (pod or {}).get("status", {}).get("containerStatuses", ())
        ]
        return bool(pod and pod["metadata"]["uid"] != first and waits == [{"reason": "ImagePullBackOff"}])

    eventually(restarted, 60)
    auth = stage.values("cache-redis-auth", lab)
    new = auth["next"]
    assert auth == {"password": old, "next": new}
    assert accepted(stage, lab) == [old, new]
    assert handed_out(stage, lab) == old
    assert credential(stage, lab, "redis/cache")["rotating"] == "one"
    assert server.admits(old)
    assert server.admits(new)

    world.release(stage, lab, "cache-0")
    until_rotated(stage, lab, "redis/cache/one")
    eventually(lambda: accepted(stage, lab) == [new], 20)
    assert stage.values("cache-redis-auth", lab) == {"password": new}
    assert handed_out(stage, lab) == new
    assert server.query("GET", "note", password=new) == "kept"
    assert server.admits(old)  # sessions that have it go on
    stage.until(lab, "SessionsReady", "True", "RestartNeeded")

    second = stage.get("pod", "cache-0", lab) or {}
    stage.cluster.api.delete("pod", "cache-0", lab)

    def runs_again() -> bool:
        pod = stage.get("pod", "cache-0", lab) or {}
        conditions = pod.get("status", {}).get("conditions") or ()
        ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
        return bool(ready and pod["metadata"]["uid"] != second["metadata"]["uid"])

    eventually(runs_again, 60)
    assert not server.admits(old)
    assert server.query("GET", "note", password=new) == "kept"


def test_the_last_of_several_nonces_is_heeded(stage: Stage, world: World) -> None:
    lab = stage.lab(cacheStores={"cache": SIZE, "other": SIZE})
    stage.until_ready(lab, 90)
    before = {store: handed_out(stage, lab, f"REDIS_{store.upper()}_PASSWORD") for store in ("cache", "other")}
    stage.annotate(lab, ROTATE, "redis/cache/zero, redis/other/one, redis/cache/one")
    until_rotated(stage, lab, "redis/cache/one", "redis/other/one")
    for store, old in before.items():
        eventually(lambda store=store: len(accepted(stage, lab, store)) == 1, 20)  # type: ignore[misc]
        new = handed_out(stage, lab, f"REDIS_{store.upper()}_PASSWORD")
        assert new != old
        assert accepted(stage, lab, store) == [new]
        assert world.redis(stage, lab, store).admits(new)
        assert world.redis(stage, lab, store).admits(old)  # it was replaced once: twice would have ended it


def test_a_second_nonce_waits_for_the_first(stage: Stage, world: World) -> None:
    lab = stage.lab(cacheStores={"cache": SIZE})
    stage.until_ready(lab, 90)
    server, old = world.redis(stage, lab), handed_out(stage, lab)
    world.troubled.add((lab, "cache-0"))
    stage.annotate(lab, ROTATE, "redis/cache/one")
    first = eventually(lambda: stage.values("cache-redis-auth", lab).get("next"), 30)
    stage.annotate(lab, ROTATE, "redis/cache/two")
    eventually(lambda: credential(stage, lab, "redis/cache").get("rotating") == "two", 30)
    assert stage.values("cache-redis-auth", lab) == {"password": old, "next": first}
    world.release(stage, lab, "cache-0")
    until_rotated(stage, lab, "redis/cache/two")
    eventually(lambda: len(accepted(stage, lab)) == 1, 20)
    second = handed_out(stage, lab)
    assert second not in (old, first)
    assert [server.admits(password) for password in (old, first, second)] == [False, True, True]


def test_while_no_store_is_ready(stage: Stage, world: World) -> None:
    lab = stage.lab(cacheStores={"cache": SIZE}, documentStores={"docs": SIZE}, vectorStores={"vectors": SIZE})
    stage.until_ready(lab, 90)
    variables = ("REDIS_CACHE_PASSWORD", "MONGO_DOCS_PASSWORD", "QDRANT_VECTORS_API_KEY")
    before = {variable: handed_out(stage, lab, variable) for variable in variables}
    pods = ("cache-0", "mongodb-docs-0", "qdrant-vectors-0")
    world.hold(stage, lab, *pods)
    stage.until(lab, "StoresReady", "False")
    requests = ("redis/cache/one", "mongodb/docs/one", "qdrant/vectors/one")
    stage.annotate(lab, ROTATE, ",".join(requests))
    eventually(lambda: stage.values("cache-redis-auth", lab).get("next"), 30)
    assert stage.condition(lab, "StoresReady")["status"] == "False"
    assert handed_out(stage, lab) == before["REDIS_CACHE_PASSWORD"]
    world.release(stage, lab, *pods)
    until_rotated(stage, lab, *requests)
    eventually(lambda: all(handed_out(stage, lab, variable) != old for variable, old in before.items()), 20)
    assert world.redis(stage, lab).admits(handed_out(stage, lab))
    assert handed_out(stage, lab, "MONGO_DOCS_PASSWORD") == stage.values("docs-mongodb-auth", lab)["password"]
    assert handed_out(stage, lab, "QDRANT_VECTORS_API_KEY") == stage.values("vectors-qdrant-auth", lab)["apiKey"]


def test_what_is_removed_meanwhile_is_rotated_when_it_is_back(stage: Stage, world: World) -> None:
    lab = stage.lab(cacheStores={"cache": SIZE}, vectorStores={"vectors": SIZE})
    stage.until_ready(lab, 90)
    old, key = handed_out(stage, lab), handed_out(stage, lab, "QDRANT_VECTORS_API_KEY")
    world.troubled.add((lab, "cache-0"))
    stage.annotate(lab, ROTATE, "redis/cache/one")
    new = eventually(lambda: stage.values("cache-redis-auth", lab).get("next"), 30)
    stage.patch(
        lab, {"op": "remove", "path": "/spec/cacheStores/cache"}, {"op": "remove", "path": "/spec/vectorStores/vectors"}
    )
    stage.until(lab, "StoresReady", "True", "NoneDeclared")
    stage.until_ready(lab, 30)
    assert handed_out(stage, lab) == ""
    world.release(stage, lab, "cache-0")
    request = "redis/cache/one,qdrant/vectors/two"
    stage.patch(
        lab,
        {"op": "add", "path": "/spec/cacheStores/cache", "value": SIZE},
        {"op": "add", "path": "/spec/vectorStores/vectors", "value": SIZE},
        {"op": "replace", "path": f"/metadata/annotations/{ROTATE.replace('/', '~1')}", "value": request},
    )
    until_rotated(stage, lab, *request.split(","))
    eventually(lambda: accepted(stage, lab) == [new], 20)
    assert handed_out(stage, lab) == new != old
    assert world.redis(stage, lab).admits(new)
    eventually(lambda: handed_out(stage, lab, "QDRANT_VECTORS_API_KEY") not in ("", key), 20)
    assert handed_out(stage, lab, "QDRANT_VECTORS_API_KEY") == stage.values("vectors-qdrant-auth", lab)["apiKey"]


# ---- Killed after every write


class Mortal(Client):
    """A client whose process is killed when its first write has reached the API server, before the answer is used."""

    wrote: tuple[str, str] | None = None
    """Path and resulting resourceVersion of that write."""

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
        answer = await super().request(method, path, params=params, body=body, content_type=content_type, accept=accept)
        if method in WRITES:
            self.wrote = (path, answer["metadata"]["resourceVersion"])
            raise Killed
        return answer


async def life(cluster: Cluster, labs: Mapping[NamespacedName, set[str]]) -> tuple[str, str] | None:
    """One process's life: what it wrote before it was killed; None if all was done and nothing left to write.

    All is done when each lab is ready and its credentials, `<kind>/<name>`, were rotated for nonce `one`.
    """
    client = await Mortal.connect(str(kubeconfig(cluster, confined=True)))
    informers = Informers(client)
    cache = Cache(informers)
    changed = asyncio.Event()
    identity = IdentityReconciler(Workqueue("identity"), lambda _: changed.set())
    reconciler = DatalabReconciler(client, cache, Recorder(client), identity)
    for kind in (kinds.DATALABS, kinds.SECRETS, kinds.STATEFUL_SETS, kinds.DEPLOYMENTS, *STORE_KINDS):
        informers.store(kind).subscribe(lambda _: changed.set())
        informers.store(kind).subscribe_synced(lambda _: changed.set())
    cache.start()
    try:
        async with asyncio.timeout(scaled(60)):
            await informers.until_synced(kinds.DATALABS)
            while True:
                changed.clear()
                with contextlib.suppress(NotYet, Conflict):
                    for key in labs:
                        await reconciler.reconcile(key)
                    if all(is_done(cache.claim(key), credentials) for key, credentials in labs.items()):
                        return None
                await changed.wait()
    except Killed:
        return client.wrote
    finally:
        await informers.stop()
        await client.close()


def is_done(claim: Manifest | None, credentials: set[str]) -> bool:
    """Whether a lab is ready, and these were rotated."""
    status = (claim or {}).get("status") or {}
    said = status.get("credentials") or {}
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions") or ())
    rotated = {name for name, each in said.items() if each.get("rotation") == "one" and "rotating" not in each}
    return ready and credentials <= rotated


async def passwords(client: Client, stage: Stage, lab: str) -> dict[str, Any]:
    """Every password of a lab that can be replaced, by the Secret it stands in or the variable that tells it."""
    beside, _ = await client.list(kinds.SECRETS, stage.namespace)
    inside, _ = await client.list(kinds.SECRETS, lab)
    found = {secret["metadata"]["name"]: values(secret) for secret in (*beside, *inside)}
    return (
        {name: content for name, content in found.items() if re.search(r"-(auth|acl)$", name) or name == f"{lab}-login"}
        | {name: content["password"] for name, content in found.items() if "-pguser-" in name}
        | {key: value for key, value in found[f"{lab}-datalab"].items() if re.search(r"(PASSWORD|API_KEY)$", key)}
    )


async def test_killed_after_every_write(
    cluster: Cluster, datalabd: Daemon, namespace: str, client: Client, world: World
) -> None:
    """Two labs, as a lab has either the superuser of PostgreSQL or a role of its own: all kinds rotated at once."""
    super_stage, stage = Stage(cluster, namespace), Stage(cluster, namespace, database={"superuser": False})
    stores: dict[str, Any] = {
        "cacheStores": {"cache": SIZE},
        "documentStores": {"docs": SIZE},
        "vectorStores": {"vectors": SIZE},
    }
    lab, plain = super_stage.lab("main", databases={"pg0": SERVER}, **stores), stage.lab(databases={"pg0": SERVER})
    credentials = {"postgres/pg0", "mongodb/docs", "redis/cache", "qdrant/vectors", f"login/{lab}"}
    labs = {NamespacedName(namespace, lab): credentials, NamespacedName(namespace, plain): {"postgres/pg0"}}
    for key in labs:
        stage.until_ready(key.name, 120)
    datalabd.stop()
    try:
        for key, asked in labs.items():
            stage.annotate(key.name, ROTATE, ",".join(f"{each}/one" for each in sorted(asked)))
        history: dict[str, dict[str, list[Any]]] = {lab: {}, plain: {}}
        written: list[tuple[str, str]] = []
        while True:
            for name, states in history.items():
                for where, value in (await passwords(client, stage, name)).items():
                    if value not in (known := states.setdefault(where, []))[-1:]:
                        known.append(value)
            told, listed = history[lab]["REDIS_CACHE_PASSWORD"], history[lab]["cache-redis-acl"]
            assert f">{told[-1]} " in listed[-1]["user.acl"]
            if (write := await life(cluster, labs)) is None:
                break
            written.append(write)
        assert len(set(written)) == len(written)  # none that changed nothing
        assert {where: len(states) for where, states in history[lab].items()} == {
            "pg0-pguser-ann": 1,
            "pg0-pguser-postgres": 2,
            "docs-mongodb-auth": 2,
            "cache-redis-auth": 3,
            "cache-redis-acl": 3,
            "vectors-qdrant-auth": 2,
            f"{lab}-login": 2,
            "POSTGRES_PG0_PASSWORD": 2,
            "MONGO_DOCS_PASSWORD": 2,
            "REDIS_CACHE_PASSWORD": 2,
            "QDRANT_VECTORS_API_KEY": 2,
            "QDRANT_VECTORS_READ_API_KEY": 2,
        }
        assert {where: len(states) for where, states in history[plain].items()} == {
            "pg0-pguser-ann": 1,
            "pg0-pguser-datalab-a": 1,
            "pg0-pguser-datalab-b": 2,
            f"{plain}-login": 1,
            "POSTGRES_PG0_PASSWORD": 2,
        }
        now = {where: states[-1] for where, states in history[lab].items()}
        assert now["POSTGRES_PG0_PASSWORD"] == now["pg0-pguser-postgres"]
        assert now["docs-mongodb-auth"] == {"password": now["MONGO_DOCS_PASSWORD"]}
        assert now["cache-redis-auth"] == {"password": now["REDIS_CACHE_PASSWORD"]}
        assert now["vectors-qdrant-auth"] == {
            "apiKey": now["QDRANT_VECTORS_API_KEY"],
            "readApiKey": now["QDRANT_VECTORS_READ_API_KEY"],
        }
        assert history[plain]["POSTGRES_PG0_PASSWORD"][-1] == history[plain]["pg0-pguser-datalab-b"][-1]
        server = world.redis(stage, lab)
        assert all(server.admits(password) for password in history[lab]["REDIS_CACHE_PASSWORD"])

        for key in labs:  # another pass, the same nonce
            stage.annotate(key.name, "team.example.org/looked-at", "true")
        assert await life(cluster, labs) is None
    finally:
        datalabd.start()
