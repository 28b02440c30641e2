"""Claims and environments as people write them, and kubectl as people use it."""

import json
import subprocess
import uuid
from typing import Any

import httpx

from datalabd.api.meta import ENVIRONMENT, V1BETA2, Manifest
from datalabd.kube.client import path
from datalabd.kube.resources import DATALABS
from hack.account import open_to_claims
from hack.cluster import Cluster

Answer = subprocess.CompletedProcess[str]


def unique(prefix: str = "lab") -> str:
    """A name that no other test uses."""
    return f"{prefix}-{uuid.uuid4().hex[:6]}"


def open_namespace(cluster: Cluster, prefix: str = "ns") -> str:
    """A fresh namespace, where claims may be made; it stays.

    A deletion asks the API server a hundred times over, and again every few seconds while a finalizer holds anything.
    """
    name = unique(prefix)
    cluster.api.create_namespace(name)
    open_to_claims(cluster, name)
    return name


def let_go(cluster: Cluster, namespace: str) -> None:
    """Ask for the deletion of all claims in a namespace, if there is such a kind, without waiting for their end."""
    try:
        cluster.api.request("DELETE", path(DATALABS, namespace))
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.NOT_FOUND:
            raise


def claim(namespace: str, environment: str, version: str = V1BETA2, name: str = "", **spec: Any) -> Manifest:
    """A claim of one member; its name is unique if none is given."""
    return {
        "apiVersion": version,
        "kind": "Datalab",
        "metadata": {
            "name": name or unique(),
            "namespace": namespace,
            "annotations": {ENVIRONMENT: environment},
        },
        "spec": {"users": ["joe"]} | spec,
    }


def environment(name: str, **data: Any) -> Manifest:
    """An environment with a domain of its own."""
    ingress = {"domain": f"{name}.example.org"}
    return {
        "apiVersion": "pkg.internal/v1beta1",
        "kind": "EnvironmentConfig",
        "metadata": {"name": name},
        "data": {"ingress": ingress | data.pop("ingress", {})} | data,
    }


def create(cluster: Cluster, manifest: Manifest, *options: str, check: bool = True) -> Answer:
    """What `kubectl create` answers."""
    return cluster.kubectl("create", "-f", "-", *options, stdin=json.dumps(manifest), check=check)


def dry_run(cluster: Cluster, manifest: Manifest) -> Answer:
    """What `kubectl create` answers, while nothing is stored."""
    return create(cluster, manifest, "--dry-run=server", "-o", "json", check=False)


def replace(cluster: Cluster, manifest: Manifest, *options: str) -> Answer:
    """What `kubectl replace` answers, whatever the controller has written to the object since it was read."""
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "resourceVersion"}
    body = json.dumps(manifest | {"metadata": metadata})
    while True:
        answer = cluster.kubectl("replace", "-f", "-", *options, stdin=body, check=False)
        if "Error from server (Conflict)" not in answer.stderr:
            return answer


def read(cluster: Cluster, kind: str, name: str, namespace: str = "") -> Manifest:
    """A live object, which must be there."""
    live = cluster.api.get(kind, name, namespace)
    assert live is not None, f"there is no {kind} {name}"
    return live
