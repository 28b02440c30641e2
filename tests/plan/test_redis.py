import base64
from typing import Any

import pytest

from datalabd.api.meta import ROTATED, ROTATING, SINCE, Manifest
from datalabd.lab import Lab, Store
from datalabd.observed import Observed
from datalabd.plan.metadata import ours
from datalabd.plan.redis import acl, auth, redis, turn
from datalabd.plan.volumes import claim_spec
from datalabd.stores import Size, StoreFacts, Turn
from tests.factories import NOW, environment, fresh, lab

STORE = Store("prod", "1Gi", "fast")
ASKED = Size("1Gi", "fast")
NEW = StoreFacts()
IMAGE = "quay.io/opstree/redis:v7.0.15"
STAMP = "2026-03-01T12:00:00Z"


def secret(name: str, annotations: dict[str, str] | None = None, /, **values: str) -> Manifest:
    """A Secret of ours in the workshop namespace."""
    metadata = {"name": name, "namespace": "lab"} | ({"annotations": annotations} if annotations else {})
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return ours(lab(), {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata, "data": data})


@pytest.mark.parametrize(
    ("passwords", "turn", "annotations"),
    [
        pytest.param({"password": "a"}, Turn(since="2026-02-01T00:00:00Z"), {}, id="one"),
        pytest.param({"password": "a", "next": "b"}, Turn(rotating="2"), {ROTATING: "2"}, id="the next beside it"),
        pytest.param({"password": "b"}, Turn("2", "", STAMP), {ROTATED: "2", SINCE: STAMP}, id="in its place"),
    ],
)
def test_auth(passwords: dict[str, str], turn: Turn, annotations: dict[str, str]) -> None:
    assert auth(lab(), STORE, passwords, turn) == secret("prod-redis-auth", annotations, **passwords)


@pytest.mark.parametrize(
    ("passwords", "expected"),
    [
        pytest.param({"password": "a"}, "user default on >a ~* +@all\n", id="one"),
        pytest.param({"password": "a", "next": "b"}, "user default on >a >b ~* +@all\n", id="two"),
    ],
)
def test_acl(passwords: dict[str, str], expected: str) -> None:
    assert acl(lab(), STORE, passwords) == secret("prod-redis-acl", **{"user.acl": expected})


def resource(of: Lab, image: str = IMAGE, size: Size = ASKED, **more: Any) -> Manifest:
    """A Redis of ours."""
    kept = {"keepAfterDelete": True} if of.retains else {}
    config: Manifest = {
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "redisSecret": {"name": "prod-redis-auth", "key": "password"},
        "updateStrategy": {},
        "ignoreAnnotations": ["datalabs.pkg.internal/applied"],
    }
    spec: Manifest = {
        "kubernetesConfig": config | more.pop("kubernetesConfig", {}),
        "initContainer": {
            "enabled": True,
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c"],
            "args": ["mkdir -p /data/appendonlydir && chmod 0777 /data /data/appendonlydir"],
            "securityContext": {"runAsUser": 0},
        },
        "acl": {"secret": {"secretName": "prod-redis-acl"}},
        "storage": kept
        | {
            "volumeClaimTemplate": {"metadata": {}, "spec": claim_spec(size.storage, size.storage_class)},
            "volumeMount": {},
        },
    }
    metadata = {"name": "prod", "namespace": "lab"}
    manifest = {"apiVersion": "redis.redis.opstreelabs.in/v1beta2", "kind": "Redis", "metadata": metadata}
    return ours(of, manifest | {"spec": spec | more})


def test_redis() -> None:
    assert redis(lab(), STORE, NEW) == resource(lab())


def test_its_volume_goes_with_it_where_the_environment_says_so() -> None:
    here = lab(environment(retention="Delete"))
    assert redis(here, STORE, NEW) == resource(here)


def test_the_clusters_default_class() -> None:
    assert redis(lab(), Store("prod", "1Gi", None), NEW) == resource(lab(), size=Size("1Gi", None))


@pytest.mark.parametrize(
    ("live", "expected"),
    [
        pytest.param(Size("2Gi", "slow"), Size("2Gi", "slow"), id="never shrinks, keeps its class"),
        pytest.param(Size("500Mi", None), Size("1Gi", None), id="grows, keeps the cluster's default"),
    ],
)
def test_one_that_exists(live: Size, expected: Size) -> None:
    assert redis(lab(), STORE, StoreFacts(data=live)) == resource(lab(), size=expected)


RESOURCES = {"limits": {"memory": "1Gi"}}


@pytest.mark.parametrize(
    ("component", "expected"),
    [
        pytest.param({"image": "registry/redis:8"}, {"image": "registry/redis:8"}, id="image"),
        pytest.param({"resources": RESOURCES}, {"kubernetesConfig": {"resources": RESOURCES}}, id="resources"),
    ],
)
def test_as_the_environment_says(component: Manifest, expected: Manifest) -> None:
    here = lab(environment(components={"redis": component}))
    assert redis(here, STORE, NEW) == resource(here, **expected)


# --- rotation ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param(Turn(rotating="2"), "2", id="for the next password"),
        pytest.param(Turn("2", "", STAMP), "2", id="not again when it is handed out"),
        pytest.param(Turn("1", "2", STAMP), "2", id="for the next of several"),
    ],
)
def test_the_server_is_started_anew(said: Turn, expected: str) -> None:
    env = [{"name": "DATALABD_ROTATION", "value": expected}]
    assert redis(lab(), STORE, StoreFacts(turn=said)) == resource(lab(), env=env)


OLD = {"password": "old"}
BOTH = {"password": "old", "next": "new"}


@pytest.mark.parametrize(
    ("seen", "nonce", "passwords", "expected"),
    [
        pytest.param(NEW, "", {"password": "fresh-1"}, Turn(), id="the first password"),
        pytest.param(NEW, "2", {"password": "fresh-1"}, Turn("2", "", STAMP), id="the first answers a request"),
        pytest.param(StoreFacts(auth=OLD), "", OLD, Turn(), id="nothing is asked for"),
        pytest.param(
            StoreFacts(auth=OLD, turn=Turn("1", "", "x")), "", OLD, Turn("1", "", "x"), id="what was done is remembered"
        ),
        pytest.param(
            StoreFacts(auth=OLD, turn=Turn("1", "", "x")),
            "2",
            OLD | {"next": "fresh-1"},
            Turn("1", "2", "x"),
            id="the next is let in beside the present one",
        ),
        pytest.param(
            StoreFacts(auth=BOTH, turn=Turn(rotating="2")),
            "2",
            BOTH,
            Turn(rotating="2"),
            id="the server has not started with it",
        ),
        pytest.param(
            StoreFacts(auth=BOTH, turn=Turn("1", "2", "x"), restarted_for="1"),
            "2",
            BOTH,
            Turn("1", "2", "x"),
            id="the server has started for an earlier one",
        ),
        pytest.param(
            StoreFacts(auth=BOTH, turn=Turn("1", "2", "x"), restarted_for="2"),
            "2",
            {"password": "new"},
            Turn("2", "", STAMP),
            id="the server knows it: it takes the place",
        ),
        pytest.param(
            StoreFacts(auth=BOTH, turn=Turn("1", "2", "x"), restarted_for="2"),
            "3",
            {"password": "new"},
            Turn("2", "", STAMP),
            id="another was asked for meanwhile: one after the other",
        ),
        pytest.param(
            StoreFacts(auth=BOTH, turn=Turn()),
            "",
            BOTH,
            Turn(),
            id="a password that nobody asked for stays",
        ),
    ],
)
def test_turn(seen: StoreFacts, nonce: str, passwords: dict[str, str], expected: Turn) -> None:
    assert turn(seen, nonce, Observed(now=NOW), fresh()) == (passwords, expected)


def test_a_rotation_ends() -> None:
    """Each pass sees what the one before wrote; the server starts in between. Then nothing is left to do."""
    seen, asked = StoreFacts(auth=OLD), "2"
    password = fresh()
    for _ in range(3):
        nonce = "" if seen.turn.rotated == asked else asked
        auth, said = turn(seen, nonce, Observed(now=NOW), password)
        seen = StoreFacts(auth=auth, turn=said, restarted_for=said.rotating or said.rotated)
    assert (seen.auth, seen.turn) == ({"password": "fresh-1"}, Turn("2", "", STAMP))
