"""Whole passes over labs whose live objects hold odd values: none ends without word, and no watch ends by them."""

import asyncio
import contextlib
import copy
import datetime
import itertools
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from controllers.manager import Manager
from datalabd.api.meta import ENVIRONMENT, FINALIZER, Manifest, NamespacedName
from datalabd.errors import Denied, Foreign, InternalError, KubeError, NotYet
from datalabd.kube import client as kube_client
from datalabd.kube import resources as kinds
from datalabd.kube.cache import Cache
from datalabd.kube.client import Client
from datalabd.kube.informers import EVERYWHERE, Informers
from datalabd.kube.resources import Resource, resource_of
from datalabd.kube.store import Scope, key_of
from datalabd.live import condition
from datalabd.plan.network_policies import EXTERNAL_EGRESS
from datalabd.text import timestamp
from tests.factories import secret
from tests.plan.test_live_objects import (
    ANNOTATIONS,
    Alteration,
    altered,
    claim_of_everything,
    drawn,
    environment_data,
    of_everything,
    require_writable,
)

KEY = NamespacedName("team", "lab")


class Still(Informers):
    """Lists once what a test gives it; nothing changes after that but by what is written."""

    def __init__(self, client: Client, objects: list[Manifest]) -> None:
        super().__init__(client)
        self._by_kind: dict[tuple[str, str], list[Manifest]] = {}
        for obj in objects:
            self._by_kind.setdefault((obj["apiVersion"], obj["kind"]), []).append(obj)

    def watch(
        self, resource: Resource, scope: Scope = EVERYWHERE, *, optional: bool = False, anew: bool = False
    ) -> None:
        """List it."""
        found = self._by_kind.get((resource.api_version, resource.kind), [])
        name = scope.field_selector.removeprefix("metadata.name=") if "metadata.name" in scope.field_selector else ""
        self.store(resource).replace(
            scope,
            [
                obj
                for obj in found
                if scope.namespace in ("", obj["metadata"].get("namespace")) and name in ("", obj["metadata"]["name"])
            ],
        )

    def unwatch(self, resource: Resource, scope: Scope) -> None:
        """Forget it."""
        self.store(resource).drop(scope)


class Taking(Client):
    """Takes every write, and remembers the last status; what it answers is the object with what was sent laid over."""

    def __init__(self, objects: list[Manifest]) -> None:
        super().__init__(None)  # type: ignore[arg-type]  # nothing goes out
        self.status: Manifest = {}
        self.notes: list[str] = []
        self._live = {kube_client.path(resource_of(obj), *key_of(obj)): obj for obj in objects}
        self._versions = itertools.count(1_000_000)

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
        """What the API server would answer, to tell apart no more than a pass needs."""
        where = path.removesuffix("/status")
        if method == "GET" and params:
            return {"items": [], "metadata": {"resourceVersion": "1"}}
        if method == "DELETE":
            return {}
        live = self._live.get(where, {"metadata": {"uid": "made", "name": where.rpartition("/")[2], "generation": 1}})
        if method == "GET":
            return dict(live)
        if path.endswith("/events"):
            self.notes.append(body["note"])
            return {}
        # Of a JSON patch nothing is taken but that there is a new version.
        after: Manifest = merged(live, body if isinstance(body, dict) else {})
        if path.endswith("/status"):
            self.status = after["status"] = body["status"]
        after["metadata"] = after["metadata"] | {"resourceVersion": str(next(self._versions))}
        if method != "POST":
            self._live[where] = after
        return after


def merged(live: Any, change: Any) -> Any:
    """As a merge patch merges."""
    if not isinstance(live, dict) or not isinstance(change, dict):
        return copy.deepcopy(change)
    return live | {key: merged(live.get(key), value) for key, value in change.items()}


def world(apisix: bool, roles: bool) -> list[Manifest]:
    """Everything that stands in the cluster of that lab."""
    claim = claim_of_everything()
    claim["metadata"] |= {
        "annotations": ANNOTATIONS | {ENVIRONMENT: "courses"},
        "creationTimestamp": "2026-03-01T11:00:00Z",
        "resourceVersion": "3",
        "finalizers": [FINALIZER],
    }
    environment = {
        "apiVersion": "pkg.internal/v1beta1",
        "kind": "EnvironmentConfig",
        "metadata": {"name": "courses", "uid": "courses-uid", "resourceVersion": "2"},
        "data": environment_data(apisix, roles),
    }
    admin = secret("admin", "iam", client_id="manager", client_secret="manager-secret")
    admin["metadata"] |= {"uid": "admin-uid", "resourceVersion": "4"}
    ingress = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "lab-main", "namespace": "lab", "uid": "ingress-uid", "resourceVersion": "5"},
        "spec": {"ingressClassName": "nginx", "rules": [{"host": "lab-main.lab.example.org"}]},
    }
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "volume", "uid": "volume-uid", "resourceVersion": "6"},
        "spec": {"claimRef": {"namespace": "lab", "name": "lab-main-persistent"}},
    }
    return [claim, environment, admin, ingress, volume, *of_everything(apisix, roles).objects.values()]


def cluster(objects: list[Manifest]) -> tuple[Taking, Manager, Cache]:
    """A manager that has read all of them, and what it writes to."""
    client = Taking(objects)
    cache = Cache(Still(client, objects))
    manager = Manager(client, cache, workers=1)
    cache.start()
    return client, manager, cache


async def goes_on(objects: list[Manifest], odd: list[Alteration]) -> None:
    client, manager, cache = cluster(objects)
    reconcile = manager._reconciler.reconcile
    await reconcile(KEY)  # so that all is followed
    for (kind, namespace, name), path, value in odd:
        store = next(cache.informers.store(known) for known in kinds.RESOURCES if known.kind == kind)
        live = store.get(namespace, name)
        assert live is not None
        changed = altered(live, path, value)
        changed["metadata"] = changed["metadata"] | {"resourceVersion": "2000000"}
        # To all who listen, too: an error there would end the watch, and with it the process.
        store.update(next(iter(store._scopes)), "MODIFIED", changed)
    for _ in range(2):
        with contextlib.suppress(*OUTCOMES):
            await reconcile(KEY)
        require_writable(client.status)
    delete(cache)
    with contextlib.suppress(*OUTCOMES):
        await reconcile(KEY)
    require_writable(client.status)
    assert all(len(note.encode()) <= 1024 for note in client.notes)


def delete(cache: Cache) -> None:
    """Have somebody delete the claim."""
    claim = cache.claim(KEY)
    assert claim is not None
    going = {"resourceVersion": "3000000", "deletionTimestamp": "2026-03-01T11:59:30Z"}
    cache.informers.store(kinds.DATALABS).update(
        EVERYWHERE, "MODIFIED", claim | {"metadata": claim["metadata"] | going}
    )


OUTCOMES = (KubeError, Foreign, NotYet)
"""How a pass may end besides well; of a claim and an environment that are well themselves."""


async def test_a_whole_pass_is_made() -> None:
    client, manager, _ = cluster(world(False, False))
    await manager._reconciler.reconcile(KEY)
    said = {known["type"]: known["status"] for known in client.status["conditions"]}
    assert (said["Synced"], said["StorageReady"], said["RuntimeReady"]) == ("True", "True", "True")


@pytest.mark.parametrize(("seconds", "closes"), [(570, False), (600, True)])
async def test_egress_closes_after_ten_minutes_though_a_pass_is_denied(
    monkeypatch: pytest.MonkeyPatch, seconds: float, closes: bool
) -> None:
    """Of a lab whose environment was taken away so long ago, its last good one being there."""
    objects = world(False, False)
    claim = objects[0]
    gone = {"type": "EnvironmentLost", "status": "True", "reason": "EnvironmentNotFound", "message": "it is not there"}
    claim["metadata"]["annotations"] |= {ENVIRONMENT: "nowhere"}
    gone["lastTransitionTime"] = timestamp(datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds))
    claim["status"] = {"effective": {"environment": "courses"}, "conditions": [gone]}
    opened = copy.deepcopy(next(obj for obj in objects if obj["metadata"]["name"] == "deny-egress"))
    opened["metadata"] |= {"name": EXTERNAL_EGRESS, "namespace": "lab", "uid": "egress-uid"}
    client, manager, _ = cluster([*objects, opened])
    deleted: list[str] = []

    async def refuse(resource: Resource, *_: Any) -> Manifest:
        raise Denied("no", "datalabd", f"apply {resource.plural}", "lab")

    async def delete(resource: Resource, namespace: str, name: str, *_: Any) -> None:
        deleted.append(f"{resource.plural} {namespace}/{name}")

    later: list[float] = []
    monkeypatch.setattr(manager._reconciler, "_later", lambda _, pause: later.append(pause))
    monkeypatch.setattr(client, "apply", refuse)
    monkeypatch.setattr(client, "create", refuse)
    monkeypatch.setattr(client, "delete", delete)
    with pytest.raises(NotYet, match="refused, perhaps for a moment"):
        await manager._reconciler.reconcile(KEY)
    assert deleted == [f"networkpolicies lab/{EXTERNAL_EGRESS}"] * closes
    assert any(0 < pause <= 30 for pause in later) is not closes, "it is looked at again when the time is over"


SECRET = "the-password"


def defective(*_: Any, **__: Any) -> Any:
    """As a defect of ours would end, its error with something in it that nobody may read."""
    return int(SECRET)


@pytest.mark.parametrize(
    "where",
    [
        "datalabd.kube.cache.Cache.view",
        "controllers.datalab.observe",
        "controllers.datalab.planning",
        "controllers.datalab.repairs",
        "controllers.datalab.lost",
        "controllers.datalab.status",
        "controllers.teardown.teardown",
    ],
)
async def test_a_defect_stands_in_the_status_without_what_it_was_met_by(
    monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """There is no input known that ends a pass so; each place where one might is made to."""
    client, manager, cache = cluster(world(False, False))
    monkeypatch.setattr(where, defective)
    if "teardown" in where:
        delete(cache)
    with pytest.raises(InternalError, match="ValueError at ") as raised:
        await manager._reconciler.reconcile(KEY)
    require_writable(client.status)
    said = condition(client.status, "Synced")
    assert (said["status"], said["reason"], said["message"]) == ("False", "InternalError", str(raised.value))
    assert condition(client.status, "Ready")["status"] == "False"
    assert SECRET not in str(client.status) + str(client.notes)
    assert client.notes[-1] == str(raised.value)


def odd_objects(objects: list[Manifest]) -> st.SearchStrategy[list[Alteration]]:
    """What may be odd in all but the claim and its environment, which admission looks at."""
    return drawn(obj for obj in objects if obj["kind"] not in ("Datalab", "EnvironmentConfig"))


few = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


@seed(20261130)
@few
@given(odd=odd_objects(world(False, False)))
def test_a_whole_pass_goes_on(odd: list[Alteration]) -> None:
    asyncio.run(goes_on(world(False, False), odd))


@pytest.mark.thorough
@pytest.mark.timeout(600)
@seed(20261130)
@settings(few, max_examples=300)
@given(odd=odd_objects(world(True, True)))
def test_many_whole_passes_go_on(odd: list[Alteration]) -> None:
    asyncio.run(goes_on(world(True, True), odd))
