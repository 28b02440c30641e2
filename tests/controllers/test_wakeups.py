"""Which changes of live objects bring a pass."""

from typing import Any

import pytest

from controllers.wakeups import matters
from datalabd.api.meta import Manifest
from datalabd.kube import resources as kinds
from datalabd.kube.resources import Resource


def an_object(**changes: Any) -> Manifest:
    """An object with everything that is looked at; `metadata` is laid over its own."""
    metadata = {"name": "x", "uid": "uid", "resourceVersion": "1", "labels": {"a": "b"}} | changes.pop("metadata", {})
    return {"metadata": metadata, "spec": {"size": 1}, "status": {"phase": "old"}} | changes


def educates(**said: Any) -> Manifest:
    return an_object(status={"educates": said})


def deployment(*conditions: tuple[str, str, str]) -> Manifest:
    told = [{"type": kind, "status": status, "message": message} for kind, status, message in conditions]
    return an_object(status={"conditions": told})


@pytest.mark.parametrize("resource", kinds.RESOURCES, ids=str)
@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"deletionTimestamp": "2026-03-01T12:00:00Z"}, id="deletion"),
        pytest.param({"labels": {"a": "c"}}, id="labels"),
        pytest.param({"annotations": {"datalabs.pkg.internal/applied": "digest"}}, id="annotations"),
        pytest.param({"ownerReferences": [{"uid": "owner"}]}, id="owners"),
        pytest.param({"uid": "another"}, id="another object of that name"),
    ],
)
def test_what_every_object_has_matters(resource: Resource, change: dict[str, Any]) -> None:
    assert matters(resource, an_object(), an_object(metadata=change))


@pytest.mark.parametrize("resource", kinds.RESOURCES, ids=str)
@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"resourceVersion": "2"}, id="version"),
        pytest.param({"managedFields": [{"manager": "datalabd"}]}, id="who wrote what"),
        pytest.param({"annotations": {"kopf.zalando.org/last-handled-configuration": "{}"}}, id="a controller's mark"),
        pytest.param({"finalizers": ["kopf.zalando.org/finalizer"]}, id="finalizers of what stays"),
    ],
)
def test_what_only_others_go_by_does_not(resource: Resource, change: dict[str, Any]) -> None:
    assert not matters(resource, an_object(), an_object(metadata=change))


def test_finalizers_of_what_goes_matter() -> None:
    """They are what a deletion waits for."""
    going = {"deletionTimestamp": "2026-03-01T12:00:00Z"}
    assert matters(
        kinds.NAMESPACES, an_object(metadata=going), an_object(metadata=going | {"finalizers": ["example.org/kept"]})
    )


@pytest.mark.parametrize("resource", kinds.RESOURCES, ids=str)
def test_what_comes_and_goes_matters(resource: Resource) -> None:
    assert matters(resource, None, an_object())
    assert matters(resource, an_object(), None)


WITHOUT_STATUS = {
    kinds.DATALABS,
    kinds.NAMESPACES,
    kinds.WORKSHOPS,
    kinds.WORKSHOP_ENVIRONMENTS,
    kinds.WORKSHOP_SESSIONS,
    kinds.VOLUME_CLAIMS,
    kinds.VOLUMES,
    kinds.INGRESSES,
    kinds.DEPLOYMENTS,
}


@pytest.mark.parametrize("resource", kinds.RESOURCES, ids=str)
def test_a_status_matters_where_it_is_read(resource: Resource) -> None:
    changed = matters(resource, an_object(), an_object(status={"phase": "new"}))
    assert changed is (resource not in WITHOUT_STATUS)


@pytest.mark.parametrize("resource", kinds.RESOURCES, ids=str)
def test_what_an_object_is_asked_for_matters(resource: Resource) -> None:
    changed = matters(resource, an_object(), an_object(spec={"size": 2}))
    assert changed is (resource not in {kinds.NAMESPACES, kinds.DEPLOYMENTS})


@pytest.mark.parametrize("resource", [kinds.WORKSHOP_ENVIRONMENTS, kinds.WORKSHOP_SESSIONS], ids=str)
def test_what_the_runtime_says_matters(resource: Resource) -> None:
    assert matters(resource, educates(phase="Pending"), educates(phase="Running"))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param([], [("Available", "True", "")], True, id="it serves"),
        pytest.param([("Available", "True", "")], [("Available", "True", "as before")], False, id="it serves still"),
        pytest.param([], [("Progressing", "True", "1 of 2")], False, id="it is on its way"),
        pytest.param([], [("Progressing", "False", "too slow")], True, id="it gave up"),
        pytest.param(
            [("ReplicaFailure", "True", "quota")], [("ReplicaFailure", "True", "policy")], True, id="another obstacle"
        ),
    ],
)
def test_what_a_deployment_says(
    before: list[tuple[str, str, str]], after: list[tuple[str, str, str]], expected: bool
) -> None:
    assert matters(kinds.DEPLOYMENTS, deployment(*before), deployment(*after)) is expected
