"""Which changes of live objects wake a lab: those of what a pass goes by, and no others.

Controllers write much into objects that no lab depends on: times, counts, marks of their own. What is not known here to
be such counts.
"""

from collections.abc import Callable, Mapping

from datalabd.api.meta import Manifest
from datalabd.kube import resources as kinds
from datalabd.kube.resources import Resource
from datalabd.live import annotations, dig, labels
from datalabd.observed import deployment_facts, remaining

_MARKS = ("kopf.zalando.org/", "pv.kubernetes.io/", "deployment.kubernetes.io/")
"""Beginnings of annotations in which controllers remember what they did."""

EARLY = frozenset(
    {
        kinds.NAMESPACES,
        kinds.NETWORK_POLICIES,
        kinds.CONFIG_MAPS,
        kinds.SERVICE_ACCOUNTS,
        kinds.ROLES,
        kinds.ROLE_BINDINGS,
        kinds.VOLUME_CLAIMS,
        kinds.DEPLOYMENTS,
    }
)
"""Kinds that the runtime makes before it says that an environment or session runs; until then nobody waits for them."""

PLANNED = frozenset(
    {
        kinds.NETWORK_POLICIES,
        kinds.CONFIG_MAPS,
        kinds.SERVICE_ACCOUNTS,
        kinds.ROLES,
        kinds.ROLE_BINDINGS,
        kinds.VOLUME_CLAIMS,
    }
)
"""Kinds of which a pass looks at nothing but what a plan made; the runtime hands our labels on to what it makes."""


def matters(resource: Resource, before: Manifest | None, after: Manifest | None) -> bool:
    """Whether a pass may come to something else after this change; an object that is not there is None."""
    if before is None or after is None:
        return True
    facts = _FACTS.get(resource, _all)
    return _metadata(before) != _metadata(after) or facts(before) != facts(after)


def _metadata(obj: Manifest) -> tuple[object, ...]:
    metadata = obj["metadata"]
    going = metadata.get("deletionTimestamp")
    return (
        metadata.get("uid"),
        going,
        going and metadata.get("finalizers"),
        metadata.get("ownerReferences"),
        labels(obj),
        {key: value for key, value in annotations(obj).items() if not key.startswith(_MARKS)},
    )


def _all(obj: Manifest) -> object:
    generation = obj["metadata"].get("generation")
    return generation, {key: value for key, value in obj.items() if key != "metadata"}


def _without_status(obj: Manifest) -> object:
    return {key: value for key, value in obj.items() if key not in ("metadata", "status")}


def _educates(obj: Manifest) -> object:
    return obj.get("spec"), dig(obj, "status").get("educates")


def _nothing(_: Manifest) -> object:
    return None


_FACTS: Mapping[Resource, Callable[[Manifest], object]] = {
    kinds.DATALABS: _without_status,
    kinds.NAMESPACES: remaining,
    kinds.WORKSHOPS: _without_status,
    kinds.WORKSHOP_ENVIRONMENTS: _educates,
    kinds.WORKSHOP_SESSIONS: _educates,
    kinds.VOLUME_CLAIMS: _without_status,
    kinds.VOLUMES: _without_status,
    kinds.INGRESSES: _without_status,
    kinds.DEPLOYMENTS: deployment_facts,
}
"""What of an object counts besides its labels, annotations and owners."""
