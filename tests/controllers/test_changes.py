"""What makes a pass look at its lab once more: changes of the lab's own, and no others."""

import json
import re
from collections.abc import Callable

import pytest

from controllers.datalab import writing
from controllers.manager import Manager
from datalabd.api.meta import NamespacedName
from datalabd.kube import resources as kinds
from datalabd.kube.cache import DATABASE_LOGIN, OPTIONAL_KINDS, OURS, Cache
from datalabd.kube.informers import EVERYWHERE
from datalabd.kube.resources import resource_of
from tests.controllers.test_live_objects import KEY, cluster, world

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
    sorted({(obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]) for obj in OBJECTS}),
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
