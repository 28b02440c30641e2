"""Home directories: one PersistentVolumeClaim per declared session, started or not. And the claim of the data mount."""

from datalabd import names
from datalabd.api import quantity
from datalabd.api.meta import Manifest
from datalabd.lab import Lab
from datalabd.observed import Observed
from datalabd.plan.metadata import inside, ours
from datalabd.stores import Size


def home(lab: Lab, seen: Observed, session: str) -> Manifest:
    """The session's home directory. Durable: it outlives the session, and under retention its declaration.

    One that exists keeps its class and never shrinks, whatever is asked for now: neither is possible, and trying would
    keep its session from starting.
    """
    name = names.volume(lab.name, session)
    size = grown(lab.storage, lab.storage_class, seen.homes.get(name))
    return _claim(lab, name, claim_spec(size.storage, size.storage_class))


def grown(storage: str, storage_class: str | None, live: Size | None) -> Size:
    """What to ask of a volume that exists as `live`: its own class, and never less."""
    if live is None:
        return Size(storage, storage_class)
    held = quantity.held(live.storage)
    is_enough = held is not None and held >= quantity.parse(storage)
    return Size(live.storage if is_enough else storage, live.storage_class)


def claim_spec(storage: str, storage_class: str | None) -> Manifest:
    """Spec of a volume claim for one pod; the cluster's default class for None."""
    spec: Manifest = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage}}}
    return spec | ({"storageClassName": storage_class} if storage_class else {})


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
    return ours(lab, {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": inside(lab, name), "spec": spec})
