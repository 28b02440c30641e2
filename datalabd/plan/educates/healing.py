"""What to undo or put right because Educates acts once: failed environments, wedged sessions, an outdated copy.

Decisions only. Whoever carries them out spaces repeated ones of the same object with a growing pause.
"""

from dataclasses import dataclass, field
from typing import Any

from datalabd import names
from datalabd.api.meta import Manifest
from datalabd.lab import Lab
from datalabd.observed import Observed, Phase, Place, SessionFacts
from datalabd.plan.educates.content import is_current, wanted_config
from datalabd.stores import YOUNG_SECONDS

PENDING_SECONDS = 150.0
"""Educates looks again every 15 to 60 seconds; a session still Pending after this will stay so."""
WEDGED_SECONDS = 90.0
"""Pending although its own namespace exists: the way a refused Ingress ends, and it has no way out."""
NO_DEPLOYMENT_SECONDS = 15.0
"""The Deployment is written before the phase: without one after this, somebody deleted it."""


@dataclass(frozen=True)
class Delete:
    """Delete this object, so that it is created anew."""

    kind: str
    name: str
    uid: str
    why: str


@dataclass(frozen=True)
class Patch:
    """JSON-patch this object."""

    kind: str
    namespace: str
    name: str
    operations: tuple[dict[str, Any], ...] = field(repr=False)
    why: str


@dataclass(frozen=True)
class Stuck:
    """Nothing can be done without losing data: a person has to decide."""

    message: str


Repair = Delete | Patch | Stuck


def repairs(lab: Lab, seen: Observed) -> list[Repair]:
    """What has to be done now, the environment first: its sessions go with it."""
    environment = _environment(lab, seen)
    if environment is not None:
        return [environment]
    found: list[Repair] = [*_workshop_copy(lab, seen), *_workshop_config(lab, seen)]
    for name in lab.started:
        facts = seen.sessions.get(name, SessionFacts())
        if why := _wedged(facts):
            found.append(Delete("WorkshopSession", names.session(lab.name, name), facts.uid, why))
    return found


def look_again(lab: Lab, seen: Observed) -> float | None:
    """Seconds until an object that is on its way would count as wedged; None if nothing is."""
    waits = [
        limit - facts.age_seconds
        for name in lab.started
        if (facts := seen.sessions.get(name))
        for limit in _limits(facts)
        if limit > facts.age_seconds or limit == _limit(facts)
    ]
    waits += [
        YOUNG_SECONDS - facts.age_seconds for facts in seen.databases.values() if facts.settling and facts.age_seconds
    ]
    return max(1.0, min(waits)) if waits else None


def _environment(lab: Lab, seen: Observed) -> Repair | None:
    delete = Delete("WorkshopEnvironment", lab.name, seen.environment_uid, "")
    if seen.phase is Phase.RUNNING and seen.place is Place.ABSENT:
        return _because(delete, f"namespace {lab.name} is gone, and what was in it: the lab begins anew")
    if seen.phase is not Phase.FAILED:
        return None
    failure = seen.message or "without a message"
    if seen.place is Place.ABSENT:
        return _because(delete, f"it failed: {failure}")
    if seen.place is Place.OURS:
        if not seen.holds_durable:
            return _because(delete, f"it failed: {failure}")
        return Stuck(
            f"the environment failed ({failure}) and its namespace {lab.name} holds volumes; "
            f"save what is needed, then delete WorkshopEnvironment {lab.name}"
        )
    return None  # a foreign or terminating namespace: wait until it is gone


def _because(delete: Delete, why: str) -> Delete:
    return Delete(delete.kind, delete.name, delete.uid, why)


def _workshop_copy(lab: Lab, seen: Observed) -> list[Repair]:
    """Bring the copy that sessions are made from up to date; a merge would leave what was taken out."""
    if not seen.runtime_ready or seen.workshop_spec is None or seen.workshop_in_use == seen.workshop_spec:
        return []
    if seen.workshop_in_use is None:
        return []  # Running without a copy never happens; a patch could not tell where to write
    operations: tuple[Manifest, ...] = (
        {"op": "test", "path": "/metadata/uid", "value": seen.environment_uid},
        {"op": "test", "path": "/metadata/resourceVersion", "value": seen.environment_version},
        {"op": "replace", "path": "/status/educates/workshop/spec", "value": seen.workshop_spec},
    )
    return [Patch("WorkshopEnvironment", "", lab.name, operations, "new sessions are to follow the changed claim")]


def _workshop_config(lab: Lab, seen: Observed) -> list[Repair]:
    """Bring what sessions download and show up to date."""
    live = seen.workshop_config
    if not seen.runtime_ready or live is None or is_current(lab, seen):
        return []
    data = wanted_config(lab, seen)
    operations: tuple[Manifest, ...] = (
        {"op": "test", "path": "/metadata/uid", "value": live["metadata"]["uid"]},
        {"op": "test", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]},
        {"op": "replace", "path": "/data", "value": data},
    )
    namespace = names.workshop_namespace(lab.name)
    return [
        Patch("Secret", namespace, names.WORKSHOP_CONFIG, operations, "new sessions are to follow the changed claim")
    ]


def _wedged(facts: SessionFacts) -> str | None:
    if facts.phase is Phase.FAILED:
        return f"it failed: {facts.message or 'without a message, as when its Ingress is refused'}"
    limit = _limit(facts)
    if limit is None or facts.age_seconds < limit:
        return None
    if facts.phase is Phase.RUNNING:
        return "its Deployment is gone"
    return f"it is Pending for more than {limit:.0f} s"


def _limits(facts: SessionFacts) -> tuple[float, ...]:
    """The ages at which it may: that its namespace came is not told of while it is Pending."""
    limit = _limit(facts)
    if facts.phase is Phase.PENDING:
        return (WEDGED_SECONDS, PENDING_SECONDS)
    return () if limit is None else (limit,)


def _limit(facts: SessionFacts) -> float | None:
    """Age in seconds at which the session counts as wedged in its present state; None if that state is fine."""
    if facts.phase is Phase.PENDING:
        own_namespace = any(place is Place.OURS for place in facts.places.values())
        return WEDGED_SECONDS if own_namespace else PENDING_SECONDS
    if facts.phase is Phase.RUNNING and not facts.has_deployment:
        return NO_DEPLOYMENT_SECONDS
    return None
