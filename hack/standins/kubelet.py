"""A kubelet, scheduler and volume provisioner without machines."""

import itertools
from collections.abc import Callable, Iterator
from functools import partial

from datalabd.api import quantity
from datalabd.api.meta import Manifest, NamespacedName
from datalabd.kube.apply import agrees
from datalabd.kube.client import Client, path
from datalabd.kube.resources import CONFIG_MAPS, SECRETS, VOLUME_CLAIMS, Resource
from datalabd.kube.store import key_of
from hack.standins import csi_rclone
from hack.standins.operator import Operator

PODS = Resource("v1", "pods", "Pod")
VOLUMES = Resource("v1", "persistentvolumes", "PersistentVolume", namespaced=False)

MANAGER = "kubelet"
NODE = "standin"
DRIVER = "standin.csi.example.org"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
TROUBLE = "standins.example.org/trouble"
"""Annotation of a Pod or PersistentVolumeClaim that keeps it from getting ready; the value is the reason."""
UNSCHEDULABLE = "Unschedulable"

Trouble = Callable[[Manifest], str | None]
"""Why a Pod or PersistentVolumeClaim does not get ready, such as `ImagePullBackOff` or `Unschedulable`; else None."""


class Kubelet(Operator):
    """Every claim gets a volume and every pod runs, at once, unless there is `trouble` or something it needs is absent.

    Pods need their claims bound, and the Secrets and ConfigMaps they refer to, as on a real node. They never end by
    themselves. Any storage class provisions, or none, but for csi-rclone's, which needs its Secret; a volume grows with
    its claim. A change of mind of `trouble` shows at the object's next event.
    """

    def __init__(self, client: Client, trouble: Trouble = lambda _: None) -> None:
        super().__init__(client, MANAGER)
        self._trouble = trouble
        self._addresses = itertools.count(2)
        self._waiting: set[NamespacedName] = set()
        """Pods that lack something they refer to."""
        self._pods = self.watch(PODS, self._pod_changed)
        self._claims = self.watch(VOLUME_CLAIMS, self._claim_changed)
        self._needs = {
            "PersistentVolumeClaim": self._claims,
            "Secret": self.watch(SECRETS, self._secret_changed),
            "ConfigMap": self.watch(CONFIG_MAPS, self._need_changed),
        }
        self._volumes = self.watch(VOLUMES, self._volume_changed)

    def _pod_changed(self, pod: Manifest) -> None:
        key = key_of(pod)
        self.schedule(("Pod", key), partial(self._sync_pod, key))

    def _claim_changed(self, claim: Manifest) -> None:
        key = key_of(claim)
        self.schedule(("PersistentVolumeClaim", key), partial(self._sync_claim, key))
        self._need_changed(claim)

    def _volume_changed(self, volume: Manifest) -> None:
        name = volume["metadata"]["name"]
        self.schedule(("PersistentVolume", name), partial(self._sync_volume, name))

    def _secret_changed(self, secret: Manifest) -> None:
        if (claim := self._claims.get(*key_of(secret))) is not None:
            self._claim_changed(claim)
        self._need_changed(secret)

    def _need_changed(self, obj: Manifest) -> None:
        for key in self._waiting:
            if key.namespace == obj["metadata"]["namespace"]:
                self.schedule(("Pod", key), partial(self._sync_pod, key))

    # ---- Pods

    async def _sync_pod(self, key: NamespacedName) -> None:
        self._waiting.discard(key)
        pod = self._pods.get(*key)
        if pod is None or pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            return
        if pod["metadata"].get("deletionTimestamp"):
            options = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}}
            await self.client.request("DELETE", path(PODS, *key), body=options)
            return
        reason = _annotated(pod) or self._trouble(pod)
        if reason is None and (reason := self._lacks(pod)):
            self._waiting.add(key)
        if reason != UNSCHEDULABLE and not pod["spec"].get("nodeName"):
            binding = {
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": {"name": key.name},
                "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
            }
            await self.client.request("POST", path(PODS, *key, "binding"), body=binding)
        wanted = self._status(pod, reason)
        if not agrees(pod.get("status") or {}, wanted):
            await self.patch(PODS, *key, {"status": wanted}, "status")

    def _lacks(self, pod: Manifest) -> str | None:
        namespace = pod["metadata"]["namespace"]
        for kind, name, reason in _references(pod["spec"]):
            found = self._needs[kind].get(namespace, name)
            unbound = kind == "PersistentVolumeClaim" and found and found.get("status", {}).get("phase") != "Bound"
            if found is None or unbound:
                return reason
        return None

    def _status(self, pod: Manifest, reason: str | None) -> Manifest:
        since = pod["metadata"]["creationTimestamp"]
        scheduled = reason != UNSCHEDULABLE
        conditions = [
            {"type": kind, "status": str(value), "lastTransitionTime": since}
            for kind, value in (
                ("PodScheduled", scheduled),
                ("Initialized", reason is None),
                ("ContainersReady", reason is None),
                ("Ready", reason is None),
            )
        ]
        if not scheduled:
            conditions[0] |= {"reason": UNSCHEDULABLE, "message": "0/1 nodes are available"}
            return {"phase": "Pending", "conditions": conditions[:1]}
        state = {"waiting": {"reason": reason}} if reason else {"running": {"startedAt": since}}
        status: Manifest = {
            "phase": "Pending" if reason else "Running",
            "startTime": since,
            "conditions": conditions,
            "containerStatuses": [
                {
                    "name": container["name"],
                    "image": container["image"],
                    "imageID": "",
                    "ready": reason is None,
                    "started": reason is None,
                    "restartCount": 0,
                    "state": state,
                }
                for container in pod["spec"]["containers"]
            ],
        }
        if reason is None:
            address = pod.get("status", {}).get("podIP") or self._address()
            status |= {"podIP": address, "podIPs": [{"ip": address}]}
        return status

    def _address(self) -> str:
        number = next(self._addresses)
        return f"10.42.{number // 256 % 256}.{number % 256}"

    # ---- Volumes

    async def _sync_claim(self, key: NamespacedName) -> None:
        """Make the volume, or have it grow; the control plane's own controller binds the two."""
        claim = self._claims.get(*key)
        if claim is None or claim["metadata"].get("deletionTimestamp"):
            return
        if _annotated(claim) or self._trouble(claim):
            return
        if claim["spec"].get("volumeName"):
            await self._grow(claim)
            return
        if not csi_rclone.provisions(claim, self._needs["Secret"].get(*key)):
            return
        name = f"pvc-{claim['metadata']['uid']}"
        if self._volumes.get("", name) is not None:
            return
        spec = claim["spec"]
        await self.create(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": name, "annotations": {PROVISIONED_BY: DRIVER}},
                "spec": {
                    "capacity": {"storage": spec["resources"]["requests"]["storage"]},
                    "accessModes": spec["accessModes"],
                    "volumeMode": spec.get("volumeMode", "Filesystem"),
                    "storageClassName": spec.get("storageClassName", ""),
                    "persistentVolumeReclaimPolicy": "Delete",
                    "csi": {"driver": DRIVER, "volumeHandle": name},
                    "claimRef": {
                        "apiVersion": "v1",
                        "kind": "PersistentVolumeClaim",
                        "namespace": key.namespace,
                        "name": key.name,
                        "uid": claim["metadata"]["uid"],
                    },
                },
            }
        )

    async def _grow(self, claim: Manifest) -> None:
        """Give a bound claim what it asks for; that its class lets claims grow the API server has made sure of."""
        capacity: Manifest = claim.get("status", {}).get("capacity") or {}
        wanted = claim["spec"]["resources"]["requests"]["storage"]
        if capacity and (quantity.held(wanted) or 0) > (quantity.held(capacity["storage"]) or 0):
            await self.patch(VOLUMES, "", claim["spec"]["volumeName"], {"spec": {"capacity": {"storage": wanted}}})
            await self.patch(VOLUME_CLAIMS, *key_of(claim), {"status": {"capacity": {"storage": wanted}}}, "status")

    async def _sync_volume(self, name: str) -> None:
        """Delete a volume whose claim is gone, unless somebody asked to retain it."""
        volume = self._volumes.get("", name)
        if volume is None or volume["metadata"].get("deletionTimestamp"):
            return
        ours = (volume["metadata"].get("annotations") or {}).get(PROVISIONED_BY) == DRIVER
        released = volume.get("status", {}).get("phase") == "Released"
        if ours and released and volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete":
            await self.client.delete(VOLUMES, "", name, volume["metadata"]["uid"])


def _annotated(obj: Manifest) -> str | None:
    return (obj["metadata"].get("annotations") or {}).get(TROUBLE)


def _references(spec: Manifest) -> Iterator[tuple[str, str, str]]:
    """What a pod cannot do without, as kind, name and the reason it would wait with."""
    for volume in spec.get("volumes") or []:
        if claim := volume.get("persistentVolumeClaim"):
            yield "PersistentVolumeClaim", claim["claimName"], UNSCHEDULABLE
        if (secret := volume.get("secret")) and not secret.get("optional"):
            yield "Secret", secret["secretName"], "ContainerCreating"
        if (config := volume.get("configMap")) and not config.get("optional"):
            yield "ConfigMap", config["name"], "ContainerCreating"
    for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
        values = [entry.get("valueFrom") or {} for entry in container.get("env") or []]
        for source in [*(container.get("envFrom") or []), *values]:
            for key, kind in (("secret", "Secret"), ("configMap", "ConfigMap")):
                reference = source.get(f"{key}Ref") or source.get(f"{key}KeyRef")
                if reference and not reference.get("optional"):
                    yield kind, reference["name"], "CreateContainerConfigError"
