import base64
from typing import Any

import pytest

from datalabd.api.meta import ROTATED, ROTATING, SINCE, Manifest
from datalabd.lab import Lab, Store
from datalabd.observed import Observed
from datalabd.plan.metadata import ours
from datalabd.plan.qdrant import auth, qdrant, turn
from datalabd.stores import Size, StoreFacts, Turn
from tests.factories import NOW, environment, fresh, lab

STORE = Store("prod", "1Gi", "fast")
NEW = StoreFacts()


@pytest.mark.parametrize(
    ("turn", "annotations"),
    [
        pytest.param(Turn(since="2026-02-01T00:00:00Z"), {}, id="the first"),
        pytest.param(Turn(rotating="2"), {"annotations": {ROTATING: "2"}}, id="that are to replace others"),
        pytest.param(
            Turn("2", "", "2026-03-01T12:00:00Z"),
            {"annotations": {ROTATED: "2", SINCE: "2026-03-01T12:00:00Z"}},
            id="that have replaced others",
        ),
    ],
)
def test_auth(turn: Turn, annotations: Manifest) -> None:
    keys = {"apiKey": "write", "readApiKey": "read"}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {"name": "prod-qdrant-auth", "namespace": "lab"} | annotations,
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in keys.items()},
    }
    assert auth(lab(), STORE, keys, turn) == ours(lab(), secret)


def resource(of: Lab, **spec: Any) -> Manifest:
    """A QdrantCluster of ours."""
    usual: Manifest = {
        "image": {"repository": "qdrant/qdrant", "tag": "v1.13.4", "pullPolicy": "IfNotPresent"},
        "antiAffinity": True,
        "persistence": {"size": "1Gi", "storageClassName": "fast"},
        "apiKey": {"enabled": True, "secret": {"name": "prod-qdrant-auth", "key": "apiKey"}},
        "readApiKey": {"enabled": True, "secret": {"name": "prod-qdrant-auth", "key": "readApiKey"}},
    }
    metadata = {"name": "prod", "namespace": "lab"}
    manifest = {"apiVersion": "qdrant.io/v1alpha1", "kind": "QdrantCluster", "metadata": metadata}
    return ours(of, manifest | {"spec": usual | spec})


def test_qdrant() -> None:
    assert qdrant(lab(), STORE, NEW) == resource(lab())


def test_the_clusters_default_class() -> None:
    assert qdrant(lab(), Store("prod", "1Gi", None), NEW) == resource(lab(), persistence={"size": "1Gi"})


@pytest.mark.parametrize(
    ("live", "expected"),
    [
        pytest.param(Size("2Gi", "slow"), {"size": "2Gi", "storageClassName": "slow"}, id="never shrinks"),
        pytest.param(Size("500Mi", None), {"size": "1Gi"}, id="grows, keeps the cluster's default"),
    ],
)
def test_one_that_exists(live: Size, expected: Manifest) -> None:
    assert qdrant(lab(), STORE, StoreFacts(data=live)) == resource(lab(), persistence=expected)


@pytest.mark.parametrize(
    ("wanted", "repository"),
    [
        pytest.param("mirror/qdrant:v1", "mirror/qdrant", id="another repository"),
        pytest.param("mirror/qdrant:v2", "registry/qdrant", id="another tag, which this repository may not have"),
    ],
)
def test_one_that_exists_keeps_its_tag(wanted: str, repository: str) -> None:
    """It stands in the selector of its pods, which cannot change."""
    here = lab(environment(components={"qdrant": {"image": wanted}}))
    image = {"repository": repository, "tag": "v1", "pullPolicy": "IfNotPresent"}
    assert qdrant(here, STORE, StoreFacts(image=("registry/qdrant", "v1"))) == resource(here, image=image)


@pytest.mark.parametrize(
    ("component", "expected"),
    [
        pytest.param({"replicas": 3}, {"replicas": 3}, id="several pods"),
        pytest.param(
            {"image": "registry:5000/qdrant:v2"},
            {"image": {"repository": "registry:5000/qdrant", "tag": "v2", "pullPolicy": "IfNotPresent"}},
            id="image",
        ),
    ],
)
def test_as_the_environment_says(component: Manifest, expected: Manifest) -> None:
    here = lab(environment(components={"qdrant": component}))
    assert qdrant(here, STORE, NEW) == resource(here, **expected)


# --- rotation ---------------------------------------------------------------------------------------------------------

OLD = {"apiKey": "write", "readApiKey": "read"}
NEXT = {"apiKey": "fresh-1", "readApiKey": "fresh-2"}
STAMP = "2026-03-01T12:00:00Z"


@pytest.mark.parametrize(
    ("component", "said", "expected"),
    [
        pytest.param({}, Turn(rotating="2"), {"replicas": 0}, id="its keys are being replaced"),
        pytest.param({"replicas": 3}, Turn("1", "2", STAMP), {"replicas": 0}, id="that of several pods"),
        pytest.param({"replicas": 3}, Turn("2", "", STAMP), {"replicas": 3}, id="they have been"),
        pytest.param({}, Turn("2", "", STAMP), {}, id="they have been, of one pod"),
    ],
)
def test_pods_while_keys_are_replaced(component: Manifest, said: Turn, expected: Manifest) -> None:
    """They read their keys when they start, and nothing else has them start."""
    here = lab(environment(components={"qdrant": component}))
    assert qdrant(here, STORE, StoreFacts(turn=said)) == resource(here, **expected)


@pytest.mark.parametrize(
    ("seen", "nonce", "keys", "expected"),
    [
        pytest.param(NEW, "", NEXT, Turn(), id="the first keys"),
        pytest.param(NEW, "2", NEXT, Turn("2", "", STAMP), id="the first answer a request"),
        pytest.param(StoreFacts(auth=OLD), "", OLD, Turn(), id="nothing is asked for"),
        pytest.param(StoreFacts(auth=OLD, turn=Turn("1", "", "x")), "2", NEXT, Turn("1", "2", "x"), id="new ones"),
        pytest.param(
            StoreFacts(auth=OLD, turn=Turn("1", "2", "x"), pods=1), "2", OLD, Turn("1", "2", "x"), id="pods are left"
        ),
        pytest.param(
            StoreFacts(auth=OLD, turn=Turn("1", "2", "x")), "2", OLD, Turn("1", "2", "x"), id="pods are not counted"
        ),
        pytest.param(
            StoreFacts(auth=OLD, turn=Turn("1", "2", "x"), pods=0),
            "2",
            OLD,
            Turn("2", "", STAMP),
            id="no pod is left: the next ones start with them",
        ),
        pytest.param(
            StoreFacts(auth=OLD, turn=Turn("1", "2", "x"), pods=0),
            "3",
            OLD,
            Turn("2", "", STAMP),
            id="others were asked for meanwhile: one after the other",
        ),
    ],
)
def test_turn(seen: StoreFacts, nonce: str, keys: dict[str, str], expected: Turn) -> None:
    assert turn(seen, nonce, Observed(now=NOW), fresh()) == (keys, expected)
