"""What a pass does about objects that do not stay as they are written, against an API server that takes every write."""

from collections.abc import Mapping
from typing import Any

import pytest

from controllers.manager import Manager
from datalabd.api.meta import FINALIZER, Manifest
from datalabd.errors import Invalid
from datalabd.kube import resources as kinds
from datalabd.kube.cache import Cache
from datalabd.kube.fights import ADMISSION, FREE_REPAIRS
from datalabd.kube.informers import EVERYWHERE
from datalabd.kube.resources import Resource
from datalabd.live import condition
from tests.controllers.test_live_objects import KEY, Still, Taking, world


class Counting(Taking):
    """Counts writes by path; what it answers to those of ConfigMaps has other data, as after a mutating webhook."""

    def __init__(self, objects: list[Manifest]) -> None:
        super().__init__(objects)
        self.writes: list[str] = []
        self.mutates = False

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
        """As its base, but for that."""
        answer = await super().request(method, path, params=params, body=body, content_type=content_type, accept=accept)
        if method != "GET":
            self.writes.append(path)
            if self.mutates and "/configmaps/" in path:
                return answer | {"data": {"init.sql": "-- of somebody else"}}
        return answer


class Refusing(Counting):
    """Takes no status that speaks of sessions."""

    async def request(self, method: str, path: str, **options: Any) -> Manifest:
        """As its base, but for that."""
        if path.endswith("/status") and "sessions" in options["body"]["status"]:
            raise Invalid(422, "Invalid", "status.sessions: too long")
        return await super().request(method, path, **options)


class Cluster:
    """Caches, and a reconciler that writes to what counts."""

    def __init__(self, server: type[Counting] = Counting) -> None:
        objects = world(apisix=False, roles=False)
        self.client = server(objects)
        self.cache = Cache(Still(self.client, objects))
        self.reconciler = Manager(self.client, self.cache, workers=1)._reconciler
        self.cache.start()
        self._version = 5_000_000

    async def writes(self, what: str) -> int:
        """How many writes of this a pass makes, but for those of the status."""
        self.client.writes.clear()
        await self.reconciler.reconcile(KEY)
        return sum(what in path and not path.endswith("/status") for path in self.client.writes)

    def change(self, resource: Resource, namespace: str, name: str, **fields: Any) -> None:
        """Have somebody change an object."""
        store = self.cache.informers.store(resource)
        live = store.get(namespace, name)
        assert live is not None
        self._version += 1
        metadata = live["metadata"] | fields.pop("metadata", {}) | {"resourceVersion": str(self._version)}
        store.update(next(iter(store._scopes), EVERYWHERE), "MODIFIED", live | fields | {"metadata": metadata})

    def said(self) -> Manifest:
        """What stands in condition Synced."""
        return condition(self.client.status, "Synced")


async def test_who_takes_the_protection_off_an_ingress_is_told_of_and_waited_for_from_the_sixth_time_on() -> None:
    cluster = Cluster()
    assert await cluster.writes("/ingresses/") == 1
    made = []
    for _ in range(FREE_REPAIRS + 3):
        cluster.change(kinds.INGRESSES, "lab", "lab-main", metadata={"annotations": {}})
        made.append(await cluster.writes("/ingresses/"))
    assert made == [1] * FREE_REPAIRS + [0] * 3
    assert (cluster.said()["status"], cluster.said()["reason"]) == ("False", "Contested")
    assert cluster.said()["message"].startswith("Ingress lab/lab-main does not stay as it is applied: ")
    assert cluster.said()["message"] in cluster.client.notes


async def test_who_takes_the_finalizer_away_is_waited_for_likewise() -> None:
    cluster = Cluster()
    await cluster.writes("")
    made = []
    for _ in range(FREE_REPAIRS + 3):
        cluster.change(kinds.DATALABS, *KEY, metadata={"finalizers": []})
        made.append(await cluster.writes("/datalabs/lab"))
    assert made == [1] * (FREE_REPAIRS + 1) + [0] * 2
    assert cluster.said()["message"].startswith("Datalab team/lab does not stay as it is applied: ")
    assert FINALIZER not in cluster.said()["message"]


async def test_what_an_admission_webhook_changes_is_not_applied_again_at_once() -> None:
    cluster = Cluster()
    await cluster.writes("")
    cluster.client.mutates = True
    cluster.change(kinds.CONFIG_MAPS, "lab", "pg0-init-sql", data={"init.sql": "-- of somebody"})
    assert await cluster.writes("/configmaps/") == 1
    assert [await cluster.writes("/configmaps/") for _ in range(3)] == [0, 0, 0]
    fights = cluster.reconciler._fights_over(KEY)
    assert fights._histories["ConfigMap lab/pg0-init-sql"].rival == ADMISSION


async def test_a_status_that_is_refused_is_written_in_short() -> None:
    cluster = Cluster(Refusing)
    with pytest.raises(Invalid):
        await cluster.reconciler.reconcile(KEY)
    message = "Datalab team/lab: status.sessions: too long"
    assert (cluster.said()["reason"], cluster.said()["message"]) == ("ReconcileError", message)
    assert set(cluster.client.status) == {"observedGeneration", "conditions"}
