"""What tests leave on a control plane goes with their module, or those of the next would have to work on it too."""

import httpx

from datalabd.kube.cache import STORE_KINDS
from datalabd.kube.client import MERGE_PATCH, path
from datalabd.kube.resources import DATALABS, WORKSHOP_ENVIRONMENTS, WORKSHOP_SESSIONS, WORKSHOPS
from hack.cluster import Cluster
from tests.integration.daemon import eventually

WORKED_ON = (DATALABS, WORKSHOP_SESSIONS, WORKSHOP_ENVIRONMENTS, WORKSHOPS, *STORE_KINDS)


def sweep(cluster: Cluster) -> None:
    """Remove every claim, what a runtime or an operator would work on, and so all that is made of it.

    Nobody who would finalise it runs any more. What policies have refused is tried again: they end a moment later.
    """
    eventually(lambda: not [where for where in _left(cluster) if _remove(cluster, where)], 60)


def _left(cluster: Cluster) -> list[str]:
    """Paths of the objects that are there, of kinds that are served."""
    found = []
    for resource in WORKED_ON:
        try:
            items = cluster.api.request("GET", path(resource))["items"]
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise
        else:
            metadata = [item["metadata"] for item in items]
            found += [path(resource, held.get("namespace", ""), held["name"]) for held in metadata]
    return found


def _remove(cluster: Cluster, where: str) -> bool:
    """Whether it may be there still."""
    try:
        cluster.api.request("DELETE", where)
        cluster.api.request("PATCH", where, {"metadata": {"finalizers": None}}, MERGE_PATCH)
    except httpx.HTTPStatusError as error:
        return error.response.status_code != httpx.codes.NOT_FOUND
    return True
