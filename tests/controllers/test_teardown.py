"""What keeps the namespace of a lab from going."""

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controllers.teardown import STEPS, durable_left
from datalabd.api.meta import APPLIED, TEARDOWN_STEPS, Manifest
from datalabd.errors import NotYet, Unavailable
from datalabd.kube import resources as kinds
from datalabd.kube.cache import RUNTIME_KINDS, STORE_KINDS, Cache
from datalabd.kube.informers import EVERYWHERE, Informers
from datalabd.kube.resources import CRDS, Resource
from datalabd.live import condition
from datalabd.text import timestamp
from tests.controllers.test_live_objects import KEY, cluster, world
from tests.factories import namespace
from tests.kube.scripted import Scripted, listing, serve, status


def volume(name: str, **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "lab", "uid": name} | metadata}


LEFT = volume("data-docs-0")
GOING = volume("data-docs-1", deletionTimestamp="2026-01-01T00:00:00Z")
OURS = volume("lab-datalab", annotations={APPLIED: "x"})


@pytest.mark.parametrize(
    ("volumes", "retains", "expected"),
    [
        pytest.param(
            [OURS, GOING, LEFT], True, "PersistentVolumeClaim lab/data-docs-0, which may hold data", id="kept"
        ),
        pytest.param([OURS, GOING], True, "", id="none"),
        pytest.param([LEFT], False, "", id="nothing is to be kept"),
    ],
)
async def test_volumes_of_an_operator_that_is_uninstalled(
    tmp_path: Path, volumes: list[dict[str, Any]], retains: bool, expected: str
) -> None:
    """They carry no label of ours, and the kind that would tell of them is gone."""
    script = [listing("1"), *[status(404, "NotFound")] * len(STORE_KINDS), listing("1", *volumes)]
    async with serve(Scripted(*script), tmp_path) as client:
        cache = Cache(Informers(client))
        cache.informers.store(CRDS).replace(EVERYWHERE, [])
        said = await durable_left(client, cache, "lab", retains=retains)
    assert said.startswith(expected) if expected else said == ""


def test_the_steps_that_may_be_abandoned_are_those_of_a_deletion() -> None:
    assert tuple(STEPS) == TEARDOWN_STEPS


HELD = "example.org/hold in 1 resource instances"
LEFT_INSIDE = "configmaps. has 1 resource instances"
BY = f"deleting sessions: waits for Namespace lab-main: namespace lab-main is held by {HELD}; {LEFT_INSIDE}"
ADVICE = "; mend that, or skip the step with annotation datalabs.pkg.internal/abandon=sessions"


def deleted(seconds: float, *others: Manifest) -> list[Manifest]:
    """A claim whose deletion was asked for so long ago, its environment, and what else there is."""
    claim, environment, *_ = world(False, False)
    since = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds)
    claim["metadata"] |= {"deletionTimestamp": timestamp(since)}
    return [claim, environment, *others]


def held_namespace() -> Manifest:
    """That of a session which is gone; a finalizer in it is not."""
    found = [
        ("NamespaceContentRemaining", f"Some resources are remaining: {LEFT_INSIDE}"),
        ("NamespaceFinalizersRemaining", f"Some content in the namespace has finalizers remaining: {HELD}"),
    ]
    left = namespace("lab-main", ("WorkshopSession", "main-uid"), deletionTimestamp="2026-01-01T00:00:00Z")
    left["metadata"]["resourceVersion"] = "5"
    return left | {
        "status": {"conditions": [{"type": kind, "status": "True", "message": message} for kind, message in found]}
    }


@pytest.mark.parametrize(
    ("seconds", "kind", "message", "again"),
    [
        pytest.param(100, "Reconciling", BY, 200, id="for a while"),
        pytest.param(400, "Stalled", BY + ADVICE, 60, id="for long"),
    ],
)
async def test_who_begins_to_lead_says_what_a_deletion_waits_for(
    seconds: float, kind: str, message: str, again: float
) -> None:
    """Nothing is known of it but what stands in the cluster."""
    client, manager, _ = cluster(deleted(seconds, held_namespace()))
    with pytest.raises(NotYet) as raised:
        await manager._reconciler.reconcile(KEY)
    assert raised.value.retry_after == pytest.approx(again, abs=10)
    messages = {found["type"]: found["message"] for found in client.status["conditions"]}
    assert messages == {"Synced": message, "Ready": message, kind: message}
    assert client.notes == [message] * (kind == "Stalled")


def is_unreadable(cache: Cache, patch: pytest.MonkeyPatch, kind: Resource) -> None:
    """Have its conversion fail."""
    error = Unavailable(500, "InternalError", "conversion failed")
    patch.setattr(cache.informers, "unreadable", lambda asked: error if asked == kind else None)


def is_not_served(cache: Cache, _: pytest.MonkeyPatch, kind: Resource) -> None:
    """Have the API server not know it, although its definition is there."""
    cache.informers.store(kind).drop(EVERYWHERE)
    cache.informers.store(CRDS).replace(EVERYWHERE, [{"metadata": {"name": kind.crd, "resourceVersion": "1"}}])


@pytest.mark.parametrize("kind", [kinds.WORKSHOP_SESSIONS, kinds.WORKSHOP_ENVIRONMENTS, kinds.WORKSHOPS])
@pytest.mark.parametrize(
    ("is_unread", "waits"),
    [
        (is_unreadable, "waits for {}, which cannot be read: conversion failed"),
        (is_not_served, "waits for the API server to serve {}"),
    ],
)
async def test_a_deletion_waits_while_nobody_knows_what_there_is(
    monkeypatch: pytest.MonkeyPatch, kind: Resource, is_unread: Callable[..., None], waits: str
) -> None:
    """Of a kind that was not read there seems to be nothing."""
    client, manager, cache = cluster(deleted(400))
    is_unread(cache, monkeypatch, kind)
    with pytest.raises(NotYet):
        await manager._reconciler.reconcile(KEY)
    assert condition(client.status, "Stalled")["message"] == f"deleting sessions: {waits.format(kind)}{ADVICE}"


async def test_a_deletion_ends_where_the_runtime_is_uninstalled() -> None:
    _, manager, cache = cluster(deleted(400))
    for kind in RUNTIME_KINDS:
        cache.informers.store(kind).drop(EVERYWHERE)
    assert (await manager._reconciler.reconcile(KEY)).pruned == 1
