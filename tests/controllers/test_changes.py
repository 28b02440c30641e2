"""What makes a pass look at its lab once more: changes of the lab's own, and no others."""

import contextvars
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from controllers.datalab import writing
from controllers.manager import Manager
from controllers.wakeups import PLANNED
from datalabd.api.meta import (
    APPLIED,
    CLAIM_NAME,
    CLAIM_NAMESPACE,
    CLAIM_UID,
    FIELD_MANAGER,
    MANAGED_BY,
    PROTECTION,
    Manifest,
    NamespacedName,
)
from datalabd.errors import ClaimInvalid
from datalabd.kube import resources as kinds
from datalabd.kube.cache import DATABASE_LOGIN, OPTIONAL_KINDS, OURS, Cache
from datalabd.kube.informers import EVERYWHERE
from datalabd.kube.resources import Resource, resource_of
from datalabd.plan import planning
from datalabd.plan.ingress_protection import REGISTRY_INGRESS
from datalabd.routes import SERVICE_NAMESPACE
from tests.controllers.test_live_objects import KEY, cluster, world
from tests.plan.test_live_objects import altered

OBJECTS = world(apisix=True, roles=False)


async def passed() -> tuple[Manager, Cache]:
    """A manager after a pass over the lab."""
    _, manager, cache = cluster(OBJECTS)
    await manager._reconciler.reconcile(KEY)
    return manager, cache


def revision(manager: Manager) -> int:
    return manager._reconciler._revision(KEY)[0]


def touch(cache: Cache, kind: str, namespace: str, name: str, version: str = "9000000") -> None:
    """Have somebody put an annotation on an object that is known."""
    store = next(cache.informers.store(known) for known in kinds.RESOURCES if known.kind == kind)
    live = store.get(namespace, name)
    assert live is not None
    metadata = live["metadata"] | {"annotations": {"example.org/touched": version}, "resourceVersion": version}
    if "-pguser-" in name:
        metadata["labels"] = dict([DATABASE_LOGIN])  # as PGO does
    store.update(next(iter(store._scopes)), "MODIFIED", live | {"metadata": metadata})


@pytest.mark.parametrize(
    ("kind", "namespace", "name"),
    sorted(
        (obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        for obj in OBJECTS
        if obj["kind"] != kinds.VOLUMES.kind  # see below
    ),
)
async def test_a_change_of_what_a_lab_is_made_of_or_reads_counts(kind: str, namespace: str, name: str) -> None:
    manager, cache = await passed()
    before = revision(manager)
    touch(cache, kind, namespace, name)
    assert revision(manager) > before


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda cache: cache.informers._changed(), id="a kind can be read again"),
        pytest.param(lambda cache: cache.informers.store(OPTIONAL_KINDS[0]).drop(OURS), id="a kind is served no more"),
    ],
)
async def test_a_change_of_what_can_be_read_counts(change: Callable[[Cache], None]) -> None:
    manager, cache = await passed()
    before = revision(manager)
    change(cache)
    assert revision(manager) > before


async def test_a_change_of_another_lab_does_not_count() -> None:
    manager, cache = await passed()
    before = revision(manager)
    for obj in OBJECTS:
        other = json.loads(re.sub(r"\blab\b", "other", json.dumps(obj)))
        if other != obj:
            cache.informers.store(resource_of(obj)).update(EVERYWHERE, "ADDED", other)
    assert revision(manager) == before


async def test_what_a_pass_writes_counts_and_brings_no_other_pass() -> None:
    manager, cache = await passed()
    before, waiting = revision(manager), len(manager._queue)
    token = writing.set(KEY)
    try:
        touch(cache, "ConfigMap", "lab", "pg0-init-sql")
    finally:
        writing.reset(token)
    assert (revision(manager) > before, len(manager._queue)) == (True, waiting)


async def test_nothing_is_remembered_of_a_claim_that_is_gone() -> None:
    manager, cache = await passed()
    cache.informers.store(kinds.DATALABS).replace(EVERYWHERE, [])
    await manager._reconciler.reconcile(KEY)
    assert manager._reconciler._records == {}
    manager._reconciler.changed(NamespacedName("team", "never"))
    assert manager._reconciler._records == {}


async def test_an_edit_is_planned_before_and_after_what_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Workshop, and the runtime's copy of it: both are written before the lab is planned again."""
    client, manager, cache = cluster(OBJECTS)
    while not (await manager._reconciler.reconcile(KEY)).idle:
        pass
    claim = cache.claim(KEY)
    assert claim is not None
    metadata = claim["metadata"] | {"generation": claim["metadata"]["generation"] + 1, "resourceVersion": "9000003"}
    edited = claim | {"metadata": metadata, "spec": claim["spec"] | {"quota": {"memory": "7Gi"}}}
    cache.informers.store(kinds.DATALABS).update(EVERYWHERE, "MODIFIED", edited)
    done, request = list[str](), client.request

    def planned(*arguments: Any) -> Any:
        done.append("plan")
        return planning(*arguments)

    async def wrote(method: str, path: str, **arguments: Any) -> Manifest:
        done.append(path.removesuffix("/status").split("/")[-2])
        answer = await request(method, path, **arguments)
        if isinstance(arguments["body"], list):
            return altered(answer, ("status", "educates", "workshop", "spec"), arguments["body"][-1]["value"])
        return answer

    monkeypatch.setattr(client, "request", wrote)
    monkeypatch.setattr("controllers.datalab.planning", planned)
    await manager._reconciler.reconcile(KEY)
    assert done == ["plan", "workshops", "workshopenvironments", "plan", "datalabs"]


def queued(manager: Manager) -> bool:
    """Whether a pass over the lab waits, now or soon; what waited is taken."""
    queue = manager._queue
    waits = KEY in queue._added or KEY in queue._delayed
    queue._queue.clear()
    queue._added.clear()
    queue._delayed.clear()
    return waits


def an_object(resource: Resource, name: str, *, planned: bool) -> Manifest:
    """An object with our labels, in the lab's own namespace."""
    labels = {MANAGED_BY: FIELD_MANAGER, CLAIM_NAME: KEY.name, CLAIM_NAMESPACE: KEY.namespace, CLAIM_UID: "uid"}
    annotations = {APPLIED: "digest"} if planned else {}
    metadata = {"name": name, "namespace": "lab", "uid": name, "labels": labels, "annotations": annotations}
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": metadata | {"resourceVersion": "9000003"},
    }


@pytest.mark.parametrize("resource", sorted([*PLANNED, kinds.SECRETS], key=str), ids=str)
async def test_what_the_runtime_makes_for_itself_wakes_nobody(resource: Resource) -> None:
    manager, cache = await passed()
    store = cache.informers.store(resource)
    queued(manager)
    made = an_object(resource, "lab-main-made", planned=False)
    store.update(next(iter(store._scopes)), "ADDED", made)
    assert not queued(manager)
    # Nor are others overlooked: what a plan made, what became so, and what goes.
    store.update(next(iter(store._scopes)), "ADDED", an_object(resource, "lab-planned", planned=True))
    assert queued(manager)
    made["metadata"] = made["metadata"] | {"annotations": {APPLIED: "digest"}, "resourceVersion": "9000004"}
    store.update(next(iter(store._scopes)), "MODIFIED", made)
    assert queued(manager)
    made["metadata"] = made["metadata"] | {"resourceVersion": "9000005"}
    store.update(next(iter(store._scopes)), "DELETED", made)
    assert queued(manager)


@pytest.mark.parametrize("name", ["workshop-config", "lab-datalab", "docs-mongodb-auth"])
async def test_a_secret_that_is_read_wakes_its_lab_whoever_made_it(name: str) -> None:
    manager, cache = await passed()
    store = cache.informers.store(kinds.SECRETS)
    store.replace(EVERYWHERE, [])
    queued(manager)
    store.update(EVERYWHERE, "ADDED", an_object(kinds.SECRETS, name, planned=False))
    assert queued(manager)


async def test_a_volume_wakes_its_lab_once_the_volumes_claim_names_it() -> None:
    manager, cache = await passed()
    store = cache.informers.store(kinds.VOLUMES)
    volume = next(obj for obj in OBJECTS if obj["kind"] == kinds.VOLUMES.kind)
    queued(manager)
    for bound, version in ((False, "9000006"), (True, "9000008")):
        claims = cache.informers.store(kinds.VOLUME_CLAIMS)
        live = claims.get("lab", volume["spec"]["claimRef"]["name"])
        assert live is not None
        spec = live["spec"] | {"volumeName": volume["metadata"]["name"] if bound else ""}
        metadata = live["metadata"] | {"resourceVersion": version}
        claims.update(next(iter(claims._scopes)), "MODIFIED", live | {"metadata": metadata, "spec": spec})
        queued(manager)
        labels = {"example.org/bound": str(bound)}
        changed = volume["metadata"] | {"labels": labels, "resourceVersion": str(int(version) + 1)}
        store.update(EVERYWHERE, "MODIFIED", volume | {"metadata": changed})
        assert queued(manager) is bound


def a_route(kind: str, host: str, version: str, **labels: str) -> tuple[Resource, Manifest]:
    """A route in the lab's own namespace, with its kind."""
    resource = next(known for known in kinds.ROUTES if known.kind == kind)
    metadata = {"name": "r", "namespace": "lab", "uid": "r", "resourceVersion": version, "labels": labels}
    spec = {"hostnames": [host], "rules": [{"host": host}]}
    return resource, {"apiVersion": resource.api_version, "kind": kind, "metadata": metadata, "spec": spec}


@pytest.mark.parametrize(
    ("kind", "labels"),
    [
        pytest.param("TLSRoute", {}, id="good for a database"),
        pytest.param("Ingress", REGISTRY_INGRESS, id="good for a registry"),
        pytest.param("Ingress", {}, id="good for nothing"),
    ],
)
async def test_a_route_of_the_labs_own_that_takes_a_host_of_its_session_wakes_it(
    kind: str, labels: dict[str, str]
) -> None:
    manager, cache = await passed()
    host = "lab-other.lab.example.org"
    resource, route = a_route(kind, host, "9000003", **labels)
    for event, taken in (("ADDED", {host: f"{kind} lab/r"}), ("DELETED", {})):
        before = revision(manager)
        queued(manager)
        cache.informers.store(resource).update(EVERYWHERE, event, route)
        found = cache.routes.taken("lab", ["other"], "lab.example.org")
        assert (found, queued(manager), revision(manager) > before) == (taken, True, True)


async def test_a_route_that_becomes_the_registrys_wakes_its_lab() -> None:
    manager, cache = await passed()
    host = "registry-lab-other.lab.example.org"
    for version, labels, taken in (("9000003", {}, {host: "Ingress lab/r"}), ("9000004", REGISTRY_INGRESS, {})):
        resource, route = a_route("Ingress", host, version, **labels)
        queued(manager)
        cache.informers.store(resource).update(EVERYWHERE, "MODIFIED", route)
        assert (cache.routes.taken("lab", ["other"], "lab.example.org"), queued(manager)) == (taken, True)


async def test_a_route_that_leads_into_a_lab_wakes_it() -> None:
    manager, cache = await passed()
    for version, into, taken in (("9000003", "lab", {"": "Ingress team-a/r"}), ("9000004", "other", {})):
        resource, route = a_route("Ingress", "a.example.com", version)
        route["metadata"] |= {"namespace": "team-a", "annotations": {SERVICE_NAMESPACE: into}}
        before = revision(manager)
        queued(manager)
        cache.informers.store(resource).update(EVERYWHERE, "MODIFIED", route)
        found = cache.routes.taken("lab", ["other"], "lab.example.org")
        assert (found, queued(manager), revision(manager) > before) == (taken, True, True)


async def test_a_claim_that_waits_for_a_name_is_woken_when_the_runtime_that_had_it_goes() -> None:
    """A lab called as the lab's database server: nothing of the runtime's name leads to the claim that waits."""
    kept = an_object(kinds.WORKSHOP_ENVIRONMENTS, "pg0-lab", planned=True)
    kept["metadata"]["labels"] |= {CLAIM_NAME: "pg0-lab", CLAIM_NAMESPACE: "others"}
    del kept["metadata"]["namespace"]
    _, manager, cache = cluster([*OBJECTS, kept])
    with pytest.raises(ClaimInvalid, match=r'"pg0-lab[^"]*" belongs to another lab'):
        await manager._reconciler.reconcile(KEY)
    queued(manager)
    cache.informers.store(kinds.WORKSHOP_ENVIRONMENTS).update(EVERYWHERE, "DELETED", kept)
    assert queued(manager)
    await manager._reconciler.reconcile(KEY)


@pytest.mark.parametrize("written", ["/ingresses/lab-main", "/workshopsessions/lab-other", "/datalabs/lab/status"])
async def test_an_ingress_that_changed_after_its_sweep_is_not_taken_for_settled(
    monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    """Somebody takes its protection away while the pass makes this write, which comes after the look at it."""
    client, manager, cache = cluster(OBJECTS)
    store, request, stripped = cache.informers.store(kinds.INGRESSES), client.request, list[str]()

    def protection() -> Any:
        live = store.get("lab", "lab-main")
        assert live is not None
        return live["metadata"].get("annotations")

    async def strip(method: str, path: str, **arguments: Any) -> Manifest:
        answer = await request(method, path, **arguments)
        if path.endswith(written) and not stripped:
            live = store.get("lab", "lab-main")
            assert live is not None
            stripped.append(str(next(client._versions)))
            metadata = live["metadata"] | {"annotations": {}, "resourceVersion": stripped[0]}
            # By a watch: what a pass hears of in its own task, it wrote.
            update = (next(iter(store._scopes)), "MODIFIED", live | {"metadata": metadata})
            contextvars.Context().run(store.update, *update)
            assert protection() == {}
        return answer

    monkeypatch.setattr(client, "request", strip)
    while not (await manager._reconciler.reconcile(KEY)).idle:
        pass
    assert (len(stripped), sorted(protection())) == (1, [PROTECTION, "k8s.apisix.apache.org/plugin-config-name"])
