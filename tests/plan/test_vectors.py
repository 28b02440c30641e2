"""The plan against what the reference composition renders for the same claims: equal but for `differences`.

`datalabd render` is the way to the plan that the reference's renderer has: claims, environments and live objects in.
Keycloak is left out: what it is to hold is no Kubernetes object, and test_realm.py looks at that.
"""

import base64
import itertools
import re
from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
import yaml

from datalabd.api.meta import (
    APPLIED,
    CLAIM_NAME,
    CLAIM_NAMESPACE,
    CLAIM_UID,
    FIELD_MANAGER,
    MANAGED_BY,
    STORAGE_CLAIM,
    Manifest,
)
from datalabd.plan.prune import identity
from datalabd.render import Objects as Live
from datalabd.render import render
from tests.plan.differences import AUTH, DESIGN, DIFFERENCES, Case, Difference, Objects, apply
from tests.reference import vector

VECTORS = [
    pytest.param("001-lab", "001-lab", id="001"),
    pytest.param("002-lab", "002-lab", id="002"),
    pytest.param("002-lab", "002x-lab", id="002x"),
]
WRAPPER = "kubernetes.m.crossplane.io/v1alpha1"
KEYCLOAK = re.compile(r"[a-z]+\.keycloak\.m\.crossplane\.io/v1alpha1")
API_SERVER: Manifest = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {
        "name": "kubernetes",
        "namespace": "default",
        "labels": {"kubernetes.io/service-name": "kubernetes"},
    },
    "endpoints": [{"addresses": ["10.0.0.1"]}],
    "ports": [{"port": 6443}],
}


OURS = {MANAGED_BY: FIELD_MANAGER, CLAIM_NAME: "s-jeff", CLAIM_NAMESPACE: "default", CLAIM_UID: ""}
"""On what we would have made of what the reference had observed."""
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's, where it was built: ten times as fast."""


def documents(name: str) -> list[Manifest]:
    """The documents of a file of the vectors."""
    return [document for document in yaml.load_all(vector(name).read_text(), Loader=LOADER) if document]


def composed(name: str) -> Objects:
    """What the reference writes, but for Keycloak: out of its wrappers, which only read where they observe."""
    found = {}
    for document in documents(f"expected/{name}.yaml"):
        if document["kind"] == "Datalab" or KEYCLOAK.fullmatch(document["apiVersion"]):
            continue
        obj = document
        if document["apiVersion"] == WRAPPER:
            if document["spec"].get("managementPolicies") == ["Observe"]:
                continue
            obj = document["spec"]["forProvider"]["manifest"]
        kept = {key: obj["metadata"][key] for key in ("name", "namespace") if key in obj["metadata"]}
        found[identity(obj)] = obj | {"metadata": kept}
    return found


def live(name: str) -> list[Manifest]:
    """What the reference had observed, as a cluster of ours has it: storage Secret granted, no password yet."""
    found = [API_SERVER]
    if name == "002x-lab":
        found += [document["status"]["atProvider"]["manifest"] for document in documents("observed/002-lab.yaml")]
    found = [obj for obj in found if not obj["metadata"]["name"].endswith(AUTH)]
    for number, obj in enumerate(found):
        obj["metadata"] |= {"uid": f"uid-{number}", "resourceVersion": "1", "creationTimestamp": "2026-03-01T12:00:00Z"}
        obj["metadata"]["annotations"] = {STORAGE_CLAIM: "default/s-jeff"}
        if obj["kind"] == "WorkshopEnvironment":
            obj["metadata"]["labels"] = OURS
    return found


@cache
def _planned(claim: str, name: str) -> Objects:
    numbers = itertools.count(1)
    rendered = render(
        documents(f"claims/{claim}.yaml"),
        documents("environmentconfig.yaml"),
        Live(live(name)),
        lambda: f"random-{next(numbers)}",
    )
    return {identity(obj): _without_digest(obj) for obj in rendered.objects}


def planned(claim: str, name: str) -> Objects:
    """What we plan for the same, without the digests of what is planned."""
    return deepcopy(_planned(claim, name))


def _without_digest(value: Manifest) -> Manifest:
    def walk(node: object) -> object:
        if isinstance(node, list):
            return [walk(item) for item in node]
        if not isinstance(node, dict):
            return node
        walked = {key: walk(item) for key, item in node.items() if key != APPLIED}
        if "annotations" in walked and not walked["annotations"]:
            del walked["annotations"]
        return walked

    walked = walk(value)
    assert isinstance(walked, dict)
    return walked


def passwords(objects: Objects) -> dict[str, str]:
    """Values of our Secrets that are made at random."""
    return {
        f"{name}/{key}": base64.b64decode(value).decode()
        for (kind, _, name), obj in objects.items()
        if kind == "Secret" and name.endswith((*AUTH, "-login"))
        for key, value in obj["data"].items()
        if key != "username"
    }


def case(objects: Objects) -> Case:
    """What the differences of a rendering depend on."""
    (name,) = [name for kind, _, name in objects if kind == "Workshop"]
    return Case(name, "default", passwords(objects))


@pytest.mark.parametrize(("claim", "name"), VECTORS)
def test_nothing_that_the_reference_makes_is_missing(claim: str, name: str) -> None:
    assert set(composed(name)) - set(planned(claim, name)) == set()


@pytest.mark.parametrize(("claim", "name"), VECTORS)
def test_every_object_is_the_references_but_for_the_differences(claim: str, name: str) -> None:
    ours = planned(claim, name)
    theirs = apply(composed(name), case(ours))
    assert ours == theirs


@pytest.mark.parametrize(("claim", "name"), VECTORS)
def test_passwords_are_all_different_and_none_of_the_references(claim: str, name: str) -> None:
    made = list(passwords(planned(claim, name)).values())
    assert len(set(made)) == len(made)
    assert all(re.fullmatch(r"random-\d+", password) for password in made)


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda difference: str(difference.id))
def test_every_difference_is_one(difference: Difference) -> None:
    """Without it, what is planned would not be what is expected; else it could be struck off."""
    changes = []
    for claim, name in (("001-lab", "001-lab"), ("002-lab", "002-lab"), ("002-lab", "002x-lab")):
        of = case(planned(claim, name))
        objects = composed(name)
        for item in DIFFERENCES:
            before = deepcopy(objects)
            item.apply(objects, of)
            if item is difference:
                changes.append(objects != before)
    assert any(changes)


# --- what the documentation says of it --------------------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "differences.md"
ROW = re.compile(r"^\| `([a-z-]+)` \| ([^|]+) \| (.+) \|$", re.MULTILINE)


def test_the_page_lists_every_difference() -> None:
    of_objects, _, _ = PAGE.read_text().partition("\nIn Keycloak:\n")  # what differs there has tests of its own
    listed = [(id, tuple(reasons.split(", ")), sentence) for id, reasons, sentence in ROW.findall(of_objects)]
    assert listed == [(item.id, item.reasons, item.sentence) for item in DIFFERENCES]


def test_reasons_are_weaknesses_or_decisions() -> None:
    reasons = {reason for item in DIFFERENCES for reason in item.reasons}
    assert {
        reason for reason in reasons if reason != DESIGN and not re.fullmatch(r"W([1-9]|[1-3]\d|4[0-2])", reason)
    } == set()


def test_ids_are_unique() -> None:
    ids = [item.id for item in DIFFERENCES]
    assert len(set(ids)) == len(ids)
