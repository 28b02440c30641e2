"""Whatever a live object holds, what reads it goes on: odd values, of every kind, at any place, in every pass.

Kubernetes checks the metadata of all objects and the shape of its own; of others it takes what their schema takes, and
the real schemas take much. What datalabd makes itself of claims and environments is another matter, and not drawn here.
"""

import base64
import copy
import functools
import json
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from datalabd.api.meta import RESTORE, ROTATE, STORAGE_CLAIM, Manifest
from datalabd.api.v1beta2 import DatalabStatus
from datalabd.lab import Lab, resolve
from datalabd.observed import observe
from datalabd.plan import plan
from datalabd.plan.educates.content import lost
from datalabd.plan.educates.healing import look_again, repairs
from datalabd.plan.prune import Identity, identity, prune
from datalabd.status import status
from tests.factories import IAM, NOW, claim, environment, fresh
from tests.plan.test_properties import World

STORE = {"storage": "2Gi"}
DATABASE = {"names": ["dev", "prod"], "storage": "1Gi", "backupStorage": "3Gi"}
GATEWAY = {"parentName": "default", "parentNamespace": "gateways", "sectionName": "postgres"}
ANNOTATIONS = {ROTATE: "postgres/pg0/1,redis/cache/1,login/lab/1", RESTORE: "pg0/1"}
STATUS_MAX = 256 * 1024
"""Bytes of a status, whatever others say: etcd takes an object of a megabyte and a half."""
KEPT = ("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp")
"""Metadata that is never absent, and never of another form."""

ODD_TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.sampled_from(
        [
            "",
            "x" * 100_000,
            "é" * 50_000,
            "\x1b[2J\x00\n",
            "1181116006400m",
            "1e400",
            "1e999999999",
            "-1Gi",
            ".5Gi",
            "postgresql://u:p@[::1/dev",
            "postgresql://u:p@h:port/dev",
            "http://[",
            "2026-13-01T00:00:00Z",
            "0001-01-01T00:00:00+23:59",
            "$(session_namespace)",
            "True",
        ]
    ),
)
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    ODD_TEXTS,
    st.lists(
        st.one_of(st.none(), st.integers(), ODD_TEXTS, st.dictionaries(ODD_TEXTS, st.none(), max_size=2)), max_size=3
    ),
    st.dictionaries(ODD_TEXTS, st.one_of(st.none(), st.integers(), ODD_TEXTS), max_size=3),
)
GONE = object()


def environment_data(apisix: bool, roles: bool) -> Manifest:
    """Data of an environment that has labs use everything."""
    data: Manifest = {
        "ingress": {"domain": "lab.example.org", "protection": {"type": "off"}},
        "database": {"gateway": GATEWAY, "superuser": not roles},
        "storage": {"endpoint": "https://s3.example.org", "secretNamespace": "shared"},
        "iam": IAM,
    }
    if apisix:
        data["ingress"] |= {"class": "apisix", "protection": {"type": "apisix"}}
    return data


def claim_of_everything() -> Manifest:
    """A claim of everything that one may have."""
    return claim(
        sessions=[{"name": "main"}, {"name": "other"}],
        vcluster=True,
        databases={"pg0": DATABASE},
        documentStores={"docs": STORE},
        cacheStores={"cache": STORE},
        vectorStores={"vectors": STORE},
        registry={"enabled": True},
    )


@functools.cache
def of_everything(apisix: bool, roles: bool) -> World:
    """Its lab, at rest."""
    data, declared = environment_data(apisix, roles), claim_of_everything()
    declared["metadata"]["annotations"] = {}
    world = World(resolve(declared, environment(**data)))
    world.settle()
    where = world.lab.storage_secret
    world.objects["Secret", where.namespace, where.name]["metadata"]["annotations"] = {
        STORAGE_CLAIM: str(world.lab.key)
    }
    for address in ("10.0.0.1", "fd00::1"):
        slice_ = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4"}
        metadata = {"name": f"kubernetes-{len(address)}", "namespace": "default"}
        metadata["labels"] = {"kubernetes.io/service-name": "kubernetes"}  # type: ignore[assignment]
        endpoints = [{"addresses": [address], "conditions": {"ready": True}}]
        world.put(slice_ | {"metadata": metadata, "endpoints": endpoints, "ports": [{"name": "https", "port": 6443}]})
    world.endpoint_slices = tuple(obj for obj in world.objects.values() if obj["kind"] == "EndpointSlice")
    # What is asked for now finds everything there.
    declared["metadata"]["annotations"] = ANNOTATIONS
    world.lab = resolve(declared, environment(**data))
    return world


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of everything in an object that may be otherwise."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        inner = (*path, key)
        if inner[0] in ("apiVersion", "kind") or (inner[0] == "metadata" and (len(inner) == 1 or inner[1] in KEPT)):
            continue
        yield inner
        if inner[:1] != ("metadata",) or len(inner) < 3:
            yield from places(value[key], inner)


def altered(obj: Manifest, path: tuple[Any, ...], value: Any) -> Manifest:
    """The object with another value at that place, or without one; as it is where there is no such place any more."""
    changed = copy.deepcopy(obj)
    place: Any = changed
    for key in path[:-1]:
        try:
            place = place[key]
        except (KeyError, IndexError, TypeError):
            return obj
    if isinstance(place, dict) and (value is not GONE or path[-1] in place):
        if value is GONE:
            del place[path[-1]]
        else:
            place[path[-1]] = value
    elif isinstance(place, list) and isinstance(path[-1], int) and path[-1] < len(place):
        place[path[-1] : path[-1] + 1] = [] if value is GONE else [value]
    return changed


Alteration = tuple[Identity, tuple[Any, ...], Any]
"""An object, a place in it, and what is there instead."""


@st.composite
def alterations(draw: st.DrawFn, by_kind: dict[str, list[tuple[Identity, tuple[Any, ...]]]]) -> list[Alteration]:
    """One to three odd values, each kind as often as the next, however many objects it has."""
    found = []
    for _ in range(draw(st.integers(1, 3))):
        of, path = draw(st.sampled_from(by_kind[draw(st.sampled_from(sorted(by_kind)))]))
        if path[0] == "metadata":
            value = draw(of_metadata(path))
        elif of[0] == "Secret" and path[0] == "data" and len(path) == 2:
            # The API server takes base64 alone.
            value = base64.b64encode(draw(st.one_of(ODD_TEXTS.map(str.encode), st.binary(max_size=20)))).decode()
        else:
            value = draw(st.one_of(ODD, st.just(GONE)))
        found.append((of, path, value))
    return found


def drawn(objects: Iterable[Manifest]) -> st.SearchStrategy[list[Alteration]]:
    """What may be odd in these."""
    by_kind: dict[str, list[tuple[Identity, tuple[Any, ...]]]] = {}
    for obj in objects:
        anywhere = dict.fromkeys([*places(obj), ("spec",), ("status",), ("data",), ("metadata", "deletionTimestamp")])
        by_kind.setdefault(obj["kind"], []).extend((identity(obj), path) for path in anywhere)
    return alterations(by_kind)


def of_metadata(path: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    """Values that the API server takes at a place of metadata."""
    if len(path) > 2:
        return (
            ODD_TEXTS if path[1] in ("labels", "annotations") else st.just({"kind": "Other", "name": "x", "uid": "y"})
        )
    match path[1]:
        case "labels" | "annotations":
            return st.dictionaries(ODD_TEXTS, ODD_TEXTS, max_size=2)
        case "ownerReferences":
            return st.just([])
    return st.just("2026-03-01T11:59:00Z")


def told(lab: Lab, world: World) -> Manifest:
    """What a pass makes of it, all of it looked at; returns the status."""
    view = world.view()
    seen = observe(lab, view)
    wanted = plan(lab, seen, fresh())
    found = repairs(lab, seen)
    prune(lab, wanted.wanted, view.owned)
    look_again(lab, seen)
    lost(lab, seen)
    for stage in wanted.stages:
        json.dumps(stage.objects)  # what is sent has to be JSON
    before = status(as_claim(lab), lab, seen, wanted, found, None, NOW)
    return status(as_claim(lab) | {"status": before}, lab, seen, wanted, found, None, NOW)


def as_claim(lab: Lab) -> Manifest:
    """The claim of a lab, as far as a status is made of it."""
    metadata = {"name": lab.name, "namespace": lab.namespace, "uid": lab.uid, "generation": lab.generation}
    return {"apiVersion": "pkg.internal/v1beta2", "kind": "Datalab", "metadata": metadata}


def require_writable(found: Manifest) -> None:
    """Fail unless the API server would take this status."""
    written = json.dumps(found, ensure_ascii=False).encode()
    assert len(written) < STATUS_MAX
    DatalabStatus.model_validate_json(written, strict=True)
    assert all(len(known["message"].encode()) <= 1024 for known in found["conditions"])


few = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
many = settings(few, max_examples=700)


def goes_on(odd: list[Alteration], apisix: bool, roles: bool) -> None:
    world = copy.copy(of_everything(apisix, roles))
    world.objects = dict(world.objects)
    for of, path, value in odd:
        world.objects[of] = altered(world.objects[of], path, value)
    world.endpoint_slices = tuple(obj for obj in world.objects.values() if obj["kind"] == "EndpointSlice")
    require_writable(told(world.lab, world))


@seed(20261130)
@few
@given(odd=drawn(of_everything(False, False).objects.values()))
def test_a_pass_goes_on_whatever_live_objects_hold(odd: list[Alteration]) -> None:
    goes_on(odd, False, False)


@pytest.mark.thorough
@pytest.mark.timeout(600)
@seed(20261130)
@many
@given(odd=drawn(of_everything(False, False).objects.values()))
def test_many_passes_go_on_whatever_live_objects_hold(odd: list[Alteration]) -> None:
    goes_on(odd, False, False)


@pytest.mark.thorough
@pytest.mark.timeout(600)
@seed(20261130)
@many
@given(odd=drawn(of_everything(True, True).objects.values()))
def test_many_passes_of_a_lab_with_apisix_and_roles_go_on(odd: list[Alteration]) -> None:
    goes_on(odd, True, True)
