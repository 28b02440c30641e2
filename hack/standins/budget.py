"""The limits that Educates puts on a session namespace."""

from typing import NamedTuple

from datalabd.api.meta import Manifest


class Budget(NamedTuple):
    """One row of Educates' table of budgets."""

    cpu: str
    memory: str
    claim: str
    """Largest size of a volume claim; the smallest is 1Gi."""
    claims: int
    secrets: int
    services: int
    replication_controllers: int
    default: dict[str, str]
    """Limits of a container that names none."""


_SMALL = {"cpu": "250m", "memory": "256Mi"}
_USUAL = {"cpu": "500m", "memory": "512Mi"}
BUDGETS = {
    "small": Budget("1", "1Gi", "1Gi", 3, 20, 5, 10, _SMALL),
    "medium": Budget("2", "2Gi", "5Gi", 6, 25, 10, 15, _USUAL),
    "large": Budget("4", "4Gi", "10Gi", 12, 35, 20, 25, _USUAL),
    "x-large": Budget("8", "8Gi", "20Gi", 18, 45, 30, 35, _USUAL),
    "xx-large": Budget("8", "12Gi", "20Gi", 24, 55, 40, 45, _USUAL),
    "xxx-large": Budget("8", "16Gi", "20Gi", 30, 65, 50, 55, _USUAL),
}


def limits(name: str, overrides: Manifest, namespace: str) -> list[Manifest]:
    """LimitRange and ResourceQuotas of a budget; none for `default`, `custom` or an unknown name.

    `overrides` change what holds for a container, not for a pod.
    """
    if name not in BUDGETS:
        return []
    budget = BUDGETS[name]
    total = {"cpu": budget.cpu, "memory": budget.memory}
    bounds = {"min": {"cpu": "1m", "memory": "1M"}, "max": total}
    usual = bounds | {"default": budget.default, "defaultRequest": {"cpu": "50m", "memory": "128Mi"}}
    container = {kind: amounts | overrides.get(kind, {}) for kind, amounts in usual.items()}
    claim = {"min": {"storage": "1Gi"}, "max": {"storage": budget.claim}}
    compute = {"limits.cpu": budget.cpu, "limits.memory": budget.memory}
    counts = {
        "persistentvolumeclaims": budget.claims,
        "replicationcontrollers": budget.replication_controllers,
        "secrets": budget.secrets,
        "services": budget.services,
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "LimitRange",
            "metadata": {"name": "resource-limits", "namespace": namespace},
            "spec": {
                "limits": [
                    {"type": "Pod"} | bounds,
                    {"type": "Container"} | container,
                    {"type": "PersistentVolumeClaim"} | claim,
                ]
            },
        },
        _quota(namespace, "compute-resources", {"hard": compute, "scopes": ["NotTerminating"]}),
        _quota(namespace, "compute-resources-timebound", {"hard": compute, "scopes": ["Terminating"]}),
        _quota(namespace, "object-counts", {"hard": {key: str(value) for key, value in counts.items()}}),
    ]


def _quota(namespace: str, name: str, spec: Manifest) -> Manifest:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": spec}
