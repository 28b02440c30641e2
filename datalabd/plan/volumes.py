"""Home directories: one PersistentVolumeClaim per declared session, started or not. And the claim of the data mount."""

from datalabd import names
from datalabd.api import quantity
from datalabd.api.meta import Manifest
from datalabd.lab import Lab
from datalabd.observed import Observed
from datalabd.plan.metadata import ours


def home(lab: Lab, seen: Observed, session: str) -> Manifest:
    """The session's home directory. Durable: it outlives the session, and under retention its declaration.

    One that exists keeps its class and never shrinks, whatever is asked for now: neither is possible, and trying would
    keep its session from starting.
    """
    name = names.volume(lab.name, session)
    live = seen.homes.get(name)
    size, storage_class = lab.storage, lab.storage_class
    if live is not None:
        size, storage_class = max(live.size, size, key=quantity.parse), live.storage_class
    spec: Manifest = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    if storage_class:
        spec["storageClassName"] = storage_class
    return _claim(lab, name, spec)


def data_mount(lab: Lab) -> Manifest:
    """The object storage as a volume: csi-rclone finds its configuration in the Secret of the same name.

    Read-only-many although it is mounted for writing: live claims carry that mode, and it cannot be changed.
    """
    return _claim(
        lab,
        names.credentials(lab.name),
        {
            "accessModes": ["ReadOnlyMany"],
            "resources": {"requests": {"storage": "1Mi"}},
            "storageClassName": "csi-rclone",
        },
    )


def _claim(lab: Lab, name: str, spec: Manifest) -> Manifest:
    metadata = {"name": name, "namespace": names.workshop_namespace(lab.name)}
    return ours(lab, {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec})
