"""`render --cluster` given a whole cluster: what concerns no claim changes nothing, whatever it holds."""

import copy
import functools
from typing import Any

import yaml
from hypothesis import HealthCheck, given, seed, settings

from datalabd.api.meta import V1BETA1, V1BETA2, Manifest
from datalabd.plan.prune import identity
from datalabd.render import live_in, render
from tests.plan.test_live_objects import (
    Alteration,
    altered,
    claim_of_everything,
    drawn,
    environment_data,
    of_everything,
)

ENVIRONMENT = {
    "apiVersion": "pkg.internal/v1beta1",
    "kind": "EnvironmentConfig",
    "metadata": {"name": "datalab"},
    "data": environment_data(False, False),
}


@functools.cache
def elsewhere() -> tuple[Manifest, ...]:
    """Everything that another lab has, and claims of either version."""
    found = []
    for obj in copy.deepcopy(list(of_everything(False, False).objects.values())):
        metadata = obj["metadata"]
        metadata["name"] = f"x{metadata['name']}"
        if "namespace" in metadata:
            metadata["namespace"] = f"x{metadata['namespace']}"
        metadata["labels"] = {key: f"x{value}" for key, value in (metadata.get("labels") or {}).items()}
        found.append(obj)
    for version, sessions in ((V1BETA1, ["main"]), (V1BETA2, [{"name": "main"}])):
        metadata = {"name": f"x{version[-1]}", "namespace": "xteam", "uid": version, "annotations": {}, "labels": {}}
        spec = {"users": ["ann"], "sessions": sessions}
        found.append({"apiVersion": version, "kind": "Datalab", "metadata": metadata, "spec": spec})
    return tuple(found)


def rendered(live: list[Manifest]) -> tuple[Any, ...]:
    """What is made of the claim beside these."""
    given_claim = claim_of_everything()
    del given_claim["metadata"]["generation"]
    text = yaml.safe_dump_all(live)
    made = render([given_claim], [ENVIRONMENT], live_in(text), lambda: "fresh")
    return made.objects, made.notes


@functools.cache
def alone() -> tuple[Any, ...]:
    return rendered([])


def test_what_others_have_changes_nothing() -> None:
    assert rendered(list(elsewhere())) == alone()


@seed(20261130)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(odd=drawn(elsewhere()))
def test_nor_does_anything_odd_that_they_have(odd: list[Alteration]) -> None:
    found = {identity(obj): obj for obj in elsewhere()}
    for which, path, value in odd:
        found[which] = altered(found[which], path, value)
    assert rendered(list(found.values())) == alone()


def test_a_slice_without_a_port_and_a_volume_of_milli_bytes_are_read() -> None:
    """Of the lab itself too: a slice of the API server's, and a home that somebody has grown by a tenth."""
    own = copy.deepcopy(list(of_everything(False, False).objects.values()))
    for obj in own:
        if identity(obj)[0::2] == ("PersistentVolumeClaim", "lab-main-persistent"):
            obj["spec"]["resources"]["requests"]["storage"] = "1181116006400m"
    slice_: Manifest = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4"}
    slice_["metadata"] = {"name": "x", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}}
    slice_ |= {"endpoints": [{"addresses": ["192.0.2.7"]}], "ports": [{"name": "", "protocol": "TCP"}]}
    objects = {identity(obj): obj for obj in rendered([*own, slice_])[0]}
    home = objects["PersistentVolumeClaim", "lab", "lab-main-persistent"]
    assert home["spec"]["resources"] == {"requests": {"storage": "1181116006400m"}}
    policy = objects["NetworkPolicy", "lab", "allow-api-server-egress"]
    assert "192.0.2.7" not in str(policy)
    assert "10.0.0.1" in str(policy)
