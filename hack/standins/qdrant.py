"""The Qdrant operator (0.0.3): a StatefulSet for each QdrantCluster, everything named `qdrant-<name>`.

Unkind in four ways: the image's tag is among the labels that a StatefulSet cannot change, so a new tag is refused and
nothing says so; a headless Service that is gone stays gone while the other is there; its status tells nothing; and
resources are of a form that its own client cannot read, so they are as good as absent.
"""

import secrets

from datalabd.api.meta import Manifest
from datalabd.kube.client import Client
from datalabd.kube.resources import CONFIG_MAPS, SECRETS, SERVICE_ACCOUNTS, STATEFUL_SETS, VOLUME_CLAIMS, Resource
from hack.standins.statefulsets import (
    RESYNC_SECONDS,
    SERVICES,
    StoreOperator,
    secret,
    values,
)

QDRANT = Resource("qdrant.io/v1alpha1", "qdrantclusters", "QdrantCluster")
FINALIZER = "qdrant.io/qdrantclusterfinalizer"
VOLUME = "qdrant-storage"
PORTS = {"http": 6333, "grpc": 6334, "tcp-p2p": 6335}
KEYS = {"apiKey": "QDRANT__SERVICE__API_KEY", "readApiKey": "QDRANT__SERVICE__READ_ONLY_API_KEY"}
"""Fields of the spec, which are also the default keys of its Secret, and the variables they become."""


class QdrantOperator(StoreOperator):
    """Makes StatefulSet, Services, ConfigMap, ServiceAccount and missing keys; deletion leaves the claims."""

    def __init__(self, client: Client, resync_seconds: float = RESYNC_SECONDS) -> None:
        super().__init__(client, "qdrant-operator", QDRANT, resync_seconds)

    async def sync(self, live: Manifest) -> None:
        """Make or finalise one cluster."""
        if live["metadata"].get("deletionTimestamp"):
            await self._finalise(live)
            return
        await self.add_finalizer(live, FINALIZER)
        for field in KEYS:
            if live["spec"].get(field, {}).get("enabled"):
                await self._ensure_key(live, field)
        namespace, name = live["metadata"]["namespace"], full_name(live)
        await self.apply(live, _object(live, "v1", "ServiceAccount"))
        await self.apply(live, _object(live, "v1", "ConfigMap") | {"data": {"production.yaml": "cluster: {}\n"}})
        if await self.read(SERVICES, namespace, name) is None:
            await self.apply(live, service(live, f"{name}-headless", {"clusterIP": "None"}))
        await self.apply(live, service(live, name, {}))
        current = await self.apply(live, stateful_set(live, self.stateful_sets.get(namespace, name)))
        if current["status"].get("replicas") == current["status"].get("availableReplicas"):
            await self._resize(live, current["spec"]["replicas"])

    async def _ensure_key(self, live: Manifest, field: str) -> None:
        """Generate what a Secret lacks. Only a Secret that is wholly its own goes with the cluster."""
        namespace = live["metadata"]["namespace"]
        reference = _reference(live, field)
        stored = await self.read(SECRETS, namespace, reference["name"])
        generated = secret(reference["name"], {reference["key"]: secrets.token_urlsafe(24)}, labels=labels(live))
        if stored is None:
            await self.apply(live, generated)
        elif reference["key"] not in values(stored):
            await self.patch(SECRETS, namespace, reference["name"], {"data": generated["data"]})

    async def _resize(self, live: Manifest, replicas: int) -> None:
        """Have the claims ask for the size of the spec; the StatefulSet goes on asking for the first one."""
        size = live["spec"]["persistence"]["size"]
        for number in range(replicas):
            key = (live["metadata"]["namespace"], f"{VOLUME}-{full_name(live)}-{number}")
            claim = await self.client.get(VOLUME_CLAIMS, *key)
            if claim["spec"]["resources"]["requests"]["storage"] != size:
                await self.patch(VOLUME_CLAIMS, *key, {"spec": {"resources": {"requests": {"storage": size}}}})

    async def _finalise(self, live: Manifest) -> None:
        namespace, name = live["metadata"]["namespace"], full_name(live)
        for resource, child in (
            (STATEFUL_SETS, name),
            (SERVICES, name),
            (SERVICES, f"{name}-headless"),
            (CONFIG_MAPS, name),
            (SERVICE_ACCOUNTS, name),
        ):
            if (found := await self.read(resource, namespace, child)) is not None:
                await self.client.delete(resource, namespace, child, found["metadata"]["uid"])
        await self.remove_finalizer(live, FINALIZER)


def full_name(live: Manifest) -> str:
    """The name of all that is made for a cluster."""
    return f"qdrant-{live['metadata']['name']}"


def labels(live: Manifest) -> dict[str, str]:
    """Labels of everything made, selectors included; none of the cluster's own."""
    name = live["metadata"]["name"]
    return {
        "app": full_name(live),
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/name": name,
        "app.kubernetes.io/version": live["spec"]["image"]["tag"],
        "app.kubernetes.io/managed-by": "qdrant-operator",
    }


def _reference(live: Manifest, field: str) -> Manifest:
    """Where a key is: the Secret the spec names, else one of its own."""
    return {"name": full_name(live), "key": field} | (live["spec"][field].get("secret") or {})


def _object(live: Manifest, version: str, kind: str) -> Manifest:
    metadata = {"name": full_name(live), "labels": labels(live)}
    return {"apiVersion": version, "kind": kind, "metadata": metadata}


def service(live: Manifest, name: str, spec: Manifest) -> Manifest:
    """A Service of all three ports."""
    ports = [{"name": port, "port": number, "targetPort": number, "protocol": "TCP"} for port, number in PORTS.items()]
    metadata = {"name": name, "labels": labels(live)}
    found = {"type": "ClusterIP", "selector": labels(live), "ports": ports} | spec
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": found}


def stateful_set(live: Manifest, stored: Manifest | None) -> Manifest:
    """The StatefulSet; selector and claim templates stay as they were stored."""
    name, spec = full_name(live), live["spec"]
    persistence = spec["persistence"]
    claim: Manifest = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": persistence["size"]}},
    } | ({"storageClassName": persistence["storageClassName"]} if "storageClassName" in persistence else {})
    container = {
        "name": "qdrant",
        "image": f"{spec['image']['repository']}:{spec['image']['tag']}",
        "env": [
            {"name": variable, "valueFrom": {"secretKeyRef": _reference(live, field)}}
            for field, variable in KEYS.items()
            if spec.get(field, {}).get("enabled")
        ],
        "volumeMounts": [{"name": VOLUME, "mountPath": "/qdrant/storage"}],
    }
    pod: Manifest = {
        "serviceAccountName": name,
        "containers": [container],
        "volumes": [{"name": "qdrant-config", "configMap": {"name": name}}],
    }
    if spec.get("antiAffinity", True):
        apart = {
            "labelSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": [name]}]},
            "topologyKey": "kubernetes.io/hostname",
        }
        pod["affinity"] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}}
    fixed = {
        "selector": {"matchLabels": labels(live)},
        "volumeClaimTemplates": [{"metadata": {"name": VOLUME, "labels": labels(live)}, "spec": claim}],
    }
    if stored is not None:
        fixed = {key: stored["spec"][key] for key in fixed}
    return _object(live, "apps/v1", "StatefulSet") | {
        "spec": fixed
        | {
            "serviceName": f"{name}-headless",
            "replicas": spec.get("replicas", 1),
            "template": {"metadata": {"labels": labels(live)}, "spec": pod},
        }
    }
