"""What we own and no longer want: deleted, or kept and marked where it is durable."""

from dataclasses import dataclass

from datalabd import names
from datalabd.api.meta import RETAINED, Manifest
from datalabd.lab import Lab
from datalabd.observed import is_durable
from datalabd.plan.network_policies import STORE_INGRESS
from datalabd.stores import KINDS as STORES

Identity = tuple[str, str, str]
"""Kind, namespace, name."""


SUPPORT = ("ConfigMap", "ServiceAccount", "Role", "RoleBinding")
"""Kinds of ours in the workshop namespace that databases and stores need to run."""


@dataclass(frozen=True)
class Pruning:
    """Objects to delete, and durable ones to mark as retained."""

    delete: list[Manifest]
    retain: list[Manifest]


def identity(manifest: Manifest) -> Identity:
    """What tells one object of a lab from another."""
    metadata = manifest["metadata"]
    return manifest["kind"], metadata.get("namespace", ""), metadata["name"]


def prune(lab: Lab, wanted: set[Identity], owned: tuple[Manifest, ...]) -> Pruning:
    """Sort what carries the claim's uid and is not wanted any more.

    Durable objects that were retained once stay, whatever the environment says later: only a person's purge removes
    them. Network policies of a namespace for which none is planned stay as well: its session is ending, and until the
    last pod is gone they are what closes it. So does the data mount while a session is there that may have it.
    """
    held = any(
        is_durable(lab.name, obj)
        and identity(obj) not in wanted
        and (lab.retains or RETAINED in (obj["metadata"].get("labels") or {}))
        for obj in owned
    )
    # An operator still reads the credentials of what it takes down, or would make up new ones in their place.
    going = not lab.retains and any(
        obj["kind"] in STORES and identity(obj) not in wanted and RETAINED not in (obj["metadata"].get("labels") or {})
        for obj in owned
    )
    mounted = any(obj["kind"] == "WorkshopSession" for obj in owned)
    data_mount = ("PersistentVolumeClaim", names.workshop_namespace(lab.name), names.credentials(lab.name))
    closed = {namespace for kind, namespace, _ in wanted if kind == "NetworkPolicy"}
    delete: list[Manifest] = []
    retain: list[Manifest] = []
    for obj in owned:
        metadata = obj["metadata"]
        ending = obj["kind"] == "NetworkPolicy" and metadata["namespace"] not in closed
        if identity(obj) in wanted or ending or metadata.get("deletionTimestamp"):
            continue
        # It would wait for their pods to be gone, and until then could neither be used by others nor taken back.
        if mounted and identity(obj) == data_mount:
            continue
        if held and (obj["kind"] in SUPPORT or metadata["name"].startswith(STORE_INGRESS)):
            continue
        if not is_durable(lab.name, obj):
            delete.append(obj)
        elif RETAINED not in (metadata.get("labels") or {}) and not (going and obj["kind"] == "Secret"):
            (retain if lab.retains else delete).append(obj)
    return Pruning(delete, retain)
