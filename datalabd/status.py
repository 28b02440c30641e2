"""The status of a claim: conditions, sessions and effective values, from the plan, the facts and what went wrong."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from datalabd import names
from datalabd.api.meta import Manifest, several
from datalabd.api.v1beta2 import CONCERNS, ENVIRONMENT_LOST, HOSTS_TAKEN, State
from datalabd.errors import (
    ClaimInvalid,
    Contested,
    DatalabdError,
    Denied,
    EnvironmentInvalid,
    Foreign,
    InternalError,
    Unreadable,
)
from datalabd.lab import Lab, last_environment
from datalabd.observed import Observed, Phase, Place, SessionFacts
from datalabd.plan import Plan, apisix, backups, keycloak, rights, rotation
from datalabd.plan.educates import sessions as educates_sessions
from datalabd.plan.educates.healing import Repair, Stuck
from datalabd.plan.educates.workshop import withheld_secrets
from datalabd.rules import Judgement
from datalabd.stores import DatabaseFacts, Job, StoreFacts
from datalabd.text import ENTRY_MAX, bounded, moment, timestamp

KEPT = ("environment", "started", "sessions", "credentials", "databases", "realm", "users", "effective")
"""What stays as it was said last while a claim cannot be acted upon."""


PATIENCE_SECONDS = 120.0
"""How long a lab waits for what may well come later, unchanged, before it says that it needs a person."""
COME_LATER = frozenset({"StorageSecret", "IamSecret", "EnvironmentNotFound"})
"""Reasons of such waits: whoever applies a claim may apply these a moment after it."""
EGRESS_CLOSES_SECONDS = 600.0
"""From the moment on that nobody can read a lab's environment until the lab reaches nothing outside any more."""
USERS_SHOWN = 3
"""User names in a condition; the rest is in `status.users`."""


@dataclass(frozen=True)
class Condition:
    """One aspect: whether it holds, why in a word, why in a sentence."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""
    stalled: bool = False
    """Whether only a person can mend it."""
    generation: int | None = None
    """Generation of the claim it was said of; None: the present one."""


def status(
    claim: Manifest,
    lab: Lab,
    seen: Observed,
    plan: Plan,
    repairs: list[Repair],
    problem: DatalabdError | None,
    now: datetime.datetime,
) -> Manifest:
    """The status of a claim whose environment is usable; `problem` is what stopped the pass, if anything did."""
    before = claim.get("status") or {}
    outdated = educates_sessions.outdated(lab, seen)
    concerns = [
        _storage(lab, seen),
        _runtime(lab, seen, plan, repairs),
        _sessions(lab, seen, outdated),
        _databases(seen),
        _stores(seen),
        _identity(claim, lab, seen),
    ]
    ready = sum(seen.sessions.get(name, SessionFacts()).ready for name in lab.started)
    told = {
        "environment": lab.environment.name,
        "started": f"{ready}/{len(lab.sessions)}",
        "sessions": {
            session.name: _session(lab, seen, session.name, session.state, session.name in outdated)
            for session in lab.claim.spec.sessions
        },
        "credentials": _credentials(before, lab, seen),
        "databases": _jobs(lab, seen),
        "realm": keycloak.realm_held(lab, seen) or before.get("realm"),
        "users": _users(before, lab, seen),
        "effective": lab.effective(),
    }
    # An apply of an empty map where there was a filled one leaves null behind, which no schema takes.
    lost = [_lost(claim, lab.lost, now)] if lab.lost is not None and lab.lost.is_lost else []
    return _assemble(claim, concerns, _synced(claim, problem, plan.judged), now, [*lost, *_hosts_taken(lab, seen)]) | {
        key: value for key, value in told.items() if value
    }


def lost_since(claim: Manifest, now: datetime.datetime) -> datetime.datetime:
    """Since when nobody can read the environment that the claim chooses, as its status says; now, if it does not."""
    for known in (claim.get("status") or {}).get("conditions") or ():
        if known["type"] == ENVIRONMENT_LOST and (since := moment(known["lastTransitionTime"])) is not None:
            return since
    return now


def _lost(claim: Manifest, problem: EnvironmentInvalid, now: datetime.datetime) -> Condition:
    """There only while it is so, with the moment at which it began."""
    closes = lost_since(claim, now) + datetime.timedelta(seconds=EGRESS_CLOSES_SECONDS)
    held = f"nothing new starts; what there is stays as environment {last_environment(claim)} had it"
    outside = f"and the lab reaches nothing outside from {timestamp(closes)} on"
    return Condition(ENVIRONMENT_LOST, "True", problem.reason, f"{problem}; {held}, {outside}")


def refused(
    claim: Manifest, problem: DatalabdError, now: datetime.datetime, lost: EnvironmentInvalid | None = None
) -> Manifest:
    """The status of a claim that cannot be acted upon: everything known before stays, Synced and Ready say why.

    `lost` is what is wrong with the environment it chooses, if that is.
    """
    before = claim.get("status") or {}
    concerns = [_as_before(known) for known in before.get("conditions") or () if known["type"] in CONCERNS]
    kept = {key: before[key] for key in KEPT if key in before}
    more = [_lost(claim, lost, now)] if lost is not None and lost.is_lost and last_environment(claim) else []
    if isinstance(problem, InternalError | Denied | Unreadable):
        # It says nothing of the environment: one that is lost stays so, and since when.
        more += [_as_before(known) for known in before.get("conditions") or () if known["type"] == ENVIRONMENT_LOST]
    return kept | _assemble(claim, concerns, _synced(claim, problem), now, more)


def _as_before(known: Manifest) -> Condition:
    """A condition that a status holds, to be said again."""
    return Condition(
        known["type"],
        known["status"],
        known["reason"],
        known.get("message", ""),
        generation=known.get("observedGeneration"),
    )


def unwritable(claim: Manifest, problem: DatalabdError, now: datetime.datetime) -> Manifest:
    """The least that a status can say, for a claim whose whole status the API server does not take."""
    return _assemble(claim, [], _synced(claim, problem), now)


def deleting(claim: Manifest, waits: str, stalled: bool, now: datetime.datetime, *, step: str = "") -> Manifest:
    """The status of a claim being deleted, which waits for `waits`; `step` is the one of its deletion that does."""
    before = claim.get("status") or {}
    message = f"{_DELETING}{step}: {waits}" if step else waits
    synced = Condition("Synced", "True", "Deleting", message)
    ready = Condition("Ready", "False", "Deleting", message)
    phase = _abnormal("Stalled" if stalled else "Reconciling", "Deleting", message)
    kept = {key: before[key] for key in KEPT if key in before}
    return kept | {
        "observedGeneration": claim["metadata"]["generation"],
        "conditions": _dated(claim, [synced, ready, phase], now),
    }


_DELETING = "deleting "


def stalled_step(claim: Manifest) -> str:
    """The step that a deletion does not get past, by the claim's status (`deleting`); empty: none."""
    for condition in (claim.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "Stalled" and condition.get("reason") == "Deleting":
            what, found, _ = str(condition.get("message")).partition(": ")
            return what.removeprefix(_DELETING) if found and what.startswith(_DELETING) else ""
    return ""


def _assemble(
    claim: Manifest,
    concerns: list[Condition],
    synced: Condition,
    now: datetime.datetime,
    more: Sequence[Condition] = (),
) -> Manifest:
    """`more` are conditions that say nothing of whether the lab is ready."""
    conditions = [_ready(concerns, synced), synced, *concerns]
    blocking = [c for c in (synced, *concerns) if _blocks(c)]
    stalled = [c for c in blocking if c.stalled]
    # What needs a person at once is told before what may come.
    told = next(iter([*(c for c in stalled if c.reason not in COME_LATER), *stalled, *blocking]), None)
    if told is not None:
        kind = "Stalled" if told.stalled and not _may_come(claim, told, now) else "Reconciling"
        conditions.append(_abnormal(kind, told.reason, told.message))
    conditions += more
    return {
        "observedGeneration": claim["metadata"]["generation"],
        "conditions": _dated(claim, conditions, now),
    }


def _may_come(claim: Manifest, condition: Condition, now: datetime.datetime) -> bool:
    """Whether what a lab waits for may still come by itself: nothing has stood still for long."""
    if condition.reason not in COME_LATER:
        return False
    for kind in ("Stalled", "Reconciling"):
        before = _condition(claim.get("status") or {}, kind)
        if before and _says_the_same(claim, before, _abnormal(kind, condition.reason, condition.message)):
            return kind == "Reconciling" and _seconds_since(before, now) < PATIENCE_SECONDS
    return True


def until_stalled(status: Manifest, now: datetime.datetime) -> float | None:
    """Seconds until a lab of this status says that it needs a person, if nothing comes; None: it will not."""
    waits = _condition(status, "Reconciling")
    if waits.get("reason") not in COME_LATER:
        return None
    return max(0.0, PATIENCE_SECONDS - _seconds_since(waits, now))


def _condition(status: Manifest, kind: str) -> Manifest:
    return next((condition for condition in status.get("conditions") or () if condition["type"] == kind), {})


def _seconds_since(condition: Manifest, now: datetime.datetime) -> float:
    since = moment(condition["lastTransitionTime"])
    return PATIENCE_SECONDS if since is None else (now - since).total_seconds()


def _awaits(condition: Condition) -> bool:
    return condition.type == "Reconciling" and condition.reason in COME_LATER


def _says_the_same(claim: Manifest, before: Manifest, condition: Condition) -> bool:
    """Whether a condition of the live status says what this one does, of the same claim."""
    said = (before["reason"], before.get("message", ""), before.get("observedGeneration"))
    return said == (condition.reason, bounded(condition.message), claim["metadata"]["generation"])


def _blocks(condition: Condition) -> bool:
    return condition.status != "True" and condition.reason != "Disabled"


def _abnormal(kind: str, reason: str, message: str) -> Condition:
    """Reconciling or Stalled: there only while True, as kstatus reads them."""
    return Condition(kind, "True", reason, message)


def _ready(concerns: list[Condition], synced: Condition) -> Condition:
    blocking = next((c for c in (synced, *concerns) if _blocks(c)), None)
    if blocking is None:
        return Condition("Ready", "True", "Available", "the lab can be used")
    return Condition("Ready", "False", blocking.reason, blocking.message)


def _synced(claim: Manifest, problem: DatalabdError | None, judged: Judgement | None = None) -> Condition:
    match problem:
        case None if judged and judged.held:
            held = "; ".join(several([f"{part} is not made: {why}" for part, why in sorted(judged.held.items())]))
            return Condition("Synced", "False", "ClaimInvalid", bounded(held), stalled=True)
        case None if judged and judged.broken:
            told = "; ".join(several(judged.broken))
            return Condition("Synced", "True", "RulesBroken", bounded(f"goes on, although it breaks rules: {told}"))
        case None:
            return Condition("Synced", "True", "ReconcileSuccess")
        case ClaimInvalid():
            return Condition("Synced", "False", "ClaimInvalid", str(problem), stalled=True)
        case EnvironmentInvalid():
            return Condition("Synced", "False", problem.reason, str(problem), stalled=True)
        case Foreign():
            return Condition("Synced", "False", "NameTaken", str(problem), stalled=True)
        case Unreadable():
            return Condition("Synced", "False", "KindUnreadable", str(problem))
        case Denied():
            return Condition("Synced", "False", "RightsMissing", rights.missing(claim, problem), stalled=True)
        case Contested():
            return Condition("Synced", "False", "Contested", str(problem), stalled=True)
        case InternalError():
            return Condition("Synced", "False", "InternalError", str(problem), stalled=True)
    return Condition("Synced", "False", "ReconcileError", str(problem))


def _storage(lab: Lab, seen: Observed) -> Condition:
    if seen.storage is None:
        known = "; sessions go on with the credentials known before" if seen.credentials is not None else ""
        reason = "EndpointNotAllowed" if seen.endpoint_refused else "StorageSecret"
        return Condition("StorageReady", "False", reason, seen.storage_problem + known, stalled=True)
    if seen.credentials is None:
        return Condition("StorageReady", "False", "Creating", "the lab's credentials are being written")
    return Condition("StorageReady", "True", "Available")


def _runtime(lab: Lab, seen: Observed, plan: Plan, repairs: list[Repair]) -> Condition:
    stuck = next((repair for repair in repairs if isinstance(repair, Stuck)), None)
    if stuck is not None:
        return Condition("RuntimeReady", "False", "EnvironmentFailed", stuck.message, stalled=True)
    if seen.runtime_ready:
        return Condition("RuntimeReady", "True", "Running")
    if seen.place is Place.FOREIGN:
        message = f"namespace {lab.name} exists and is not this lab's; remove it or rename the lab"
        return Condition("RuntimeReady", "False", "NamespaceTaken", message, stalled=True)
    waits = next((stage.waits for stage in plan.stages if stage.name == "runtime" and stage.waits), None)
    if not seen.runtime_served:
        return Condition("RuntimeReady", "False", "RuntimeMissing", waits or "", stalled=True)
    message = waits or seen.message or "the lab's environment is being set up"
    return Condition(
        "RuntimeReady", "False", "EnvironmentFailed" if seen.phase is Phase.FAILED else "Creating", message
    )


def _sessions(lab: Lab, seen: Observed, outdated: list[str]) -> Condition:
    started = lab.started
    stopping = [f"session {name}: {_held_up(facts)}" for name, facts in sorted(seen.sessions.items()) if facts.held_by]
    if not started:
        if stopping:
            return Condition("SessionsReady", "True", "Stopping", bounded("; ".join(stopping)))
        return Condition("SessionsReady", "True", "NoneStarted", "no session is started")
    if not lab.is_protected:
        message = (
            "nothing protects sessions, so none is started: set auth.type to credentials or ingress.protection.type "
            f"to what protects them, in environment {lab.environment.name}"
        )
        return Condition("SessionsReady", "False", "Unprotected", message, stalled=True)
    if unprotected := apisix.problem(lab, seen):
        stalled = apisix.is_stalled(lab, seen)
        return Condition("SessionsReady", "False", "Unprotected", unprotected, stalled=stalled)
    for name in started:
        facts = seen.sessions.get(name, SessionFacts())
        taken = educates_sessions.host_taken(lab, seen, name)
        if taken and facts.phase is Phase.ABSENT:
            otherwise = "" if names.EVERY_HOST in seen.hosts_taken else ", or name the session otherwise"
            message = f"session {name}: {taken}; have that route removed{otherwise}"
            return Condition("SessionsReady", "False", "HostTaken", message, stalled=True)
        if not facts.ready:
            reason = "SessionFailed" if facts.phase is Phase.FAILED else "Starting"
            return Condition("SessionsReady", "False", reason, f"session {name}: {_why_not_ready(lab, seen, name)}")
    if stopping:
        return Condition("SessionsReady", "True", "Stopping", bounded("; ".join(stopping)))
    if outdated:
        message = f"stop and start to take over what changed since they started: {', '.join(outdated)}"
        return Condition("SessionsReady", "True", "RestartNeeded", message)
    if withheld := several([field for field, _ in withheld_secrets(lab)]):
        message = f"downloads find no Secret but {names.credentials(lab.name)}, so these fail: {', '.join(withheld)}"
        return Condition("SessionsReady", "True", "FilesSecret", bounded(message))
    return Condition("SessionsReady", "True", "Running")


def _held_up(facts: SessionFacts) -> str:
    """What keeps a session from stopping, and what an operator may do about it."""
    return f"{facts.held_by}; whoever put a finalizer there has to take it off, or an operator does by kubectl edit"


def _hosts_taken(lab: Lab, seen: Observed) -> list[Condition]:
    """A warning while visitors of declared sessions may come to somebody else's route; what runs goes on."""
    found = [taken for name in lab.sessions if (taken := educates_sessions.host_taken(lab, seen, name))]
    if not found:
        return []
    more = f"; {len(found) - 1} more sessions" if len(found) > 1 else ""
    return [_abnormal(HOSTS_TAKEN, "RouteElsewhere", f"{found[0]}, and is not this lab's{more}")]


def _why_not_ready(lab: Lab, seen: Observed, name: str) -> str:
    facts = seen.sessions.get(name, SessionFacts())
    if waits := educates_sessions.waits(lab, seen, name):
        return f"{waits}; {_held_up(facts)}" if facts.held_by else waits
    if facts.phase is Phase.RUNNING:
        return facts.waiting_reason or "its pod is not ready yet"
    return facts.message or f"phase {facts.phase or 'unknown'}"


def _session(lab: Lab, seen: Observed, name: str, state: State, outdated: bool) -> Manifest:
    entry: Manifest = {"state": str(state)}
    facts = seen.sessions.get(name, SessionFacts())
    if state is State.STOPPED:
        if facts.held_by:
            entry |= {"phase": str(Phase.DELETING), "message": bounded(facts.held_by, ENTRY_MAX)}
        return entry
    if facts.phase is not Phase.ABSENT:
        entry["phase"] = str(facts.phase)
    if not facts.ready:
        entry["message"] = _why_not_ready(lab, seen, name)
    elif outdated:
        entry["message"] = "runs with what was set when it started; stop and start it to take over the change"
    elif facts.message:
        entry["message"] = facts.message
    if "message" in entry:
        entry["message"] = bounded(entry["message"], ENTRY_MAX)
    if facts.phase is Phase.RUNNING and facts.url:
        entry["url"] = facts.url
    return entry


def _databases(seen: Observed) -> Condition:
    return _all_ready("DatabasesReady", {f"database server {host}": facts for host, facts in seen.databases.items()})


def _stores(seen: Observed) -> Condition:
    declared: dict[str, StoreFacts] = {}
    for kind, stores in (
        ("document store", seen.document_stores),
        ("cache store", seen.cache_stores),
        ("vector store", seen.vector_stores),
    ):
        declared |= {f"{kind} {key}": facts for key, facts in stores.items()}
    return _all_ready("StoresReady", declared)


def _all_ready(kind: str, declared: Mapping[str, DatabaseFacts | StoreFacts]) -> Condition:
    """What only a person can mend is told first."""
    if not declared:
        return Condition(kind, "True", "NoneDeclared")
    failing = sorted((item for item in declared.items() if item[1].problem), key=lambda item: not item[1].stalled)
    if not failing:
        return Condition(kind, "True", "Available")
    name, facts = failing[0]
    more = f"; {len(failing) - 1} more not ready" if len(failing) > 1 else ""
    reason = "OperatorMissing" if facts.stalled else "Creating"
    return Condition(kind, "False", reason, f"{name}: {facts.problem}{more}", stalled=facts.stalled)


def _credentials(before: Manifest, lab: Lab, seen: Observed) -> Manifest:
    """Age and rotation of each credential, never the credential."""
    found: Manifest = {}
    for credential, turn in sorted(rotation.turns(lab, seen).items()):
        done = turn.rotated
        if credential == rotation.client(lab) and not keycloak.realm_held(lab, seen):
            # Its Secret is first, but what counts is whether Keycloak has it; while nobody knows, what was said holds.
            known = (before.get("credentials") or {}).get(credential) or {}
            done = known.get("rotation", "") if seen.identity is None else ""
        due = rotation.due(lab, credential, replace(turn, rotated=done))
        since = moment(turn.since)
        said = {"since": timestamp(since) if since else "", "rotation": bounded(done, ENTRY_MAX), "rotating": due}
        found[credential] = {key: value for key, value in said.items() if value}
    return found


def _jobs(lab: Lab, seen: Observed) -> Manifest:
    """Backups and restores that were asked for, and how far they are."""
    asked = lab.claim.metadata.annotations
    found: Manifest = {}
    for host, facts in seen.databases.items():
        entry = {}
        if nonce := backups.backups(asked).get(host):
            entry["backup"] = _job(nonce, facts.backed_up)
        restore = backups.restores(asked).get(host)
        if restore is not None and restore.source is None:
            done = Job(restore.nonce, "Succeeded") if restore.nonce in facts.restored else facts.restoring
            entry["restore"] = _job(restore.nonce, done)
        if entry:
            found[host] = entry
    return found


def _job(nonce: str, job: Job) -> Manifest:
    return {"nonce": nonce, "state": job.state if job.nonce == nonce and job.state else "Requested"}


def _identity(claim: Manifest, lab: Lab, seen: Observed) -> Condition:
    before = claim.get("status") or {}
    if not lab.has_realm:
        message = f"environment {lab.environment.name} names no Keycloak (iam.url)"
        if left := before.get("realm"):
            message += f"; the lab's client and groups in {left} stay as they are"
        return Condition("IdentityReady", "Unknown", "Disabled", message)
    if seen.admin_problem:
        return Condition("IdentityReady", "False", "IamSecret", seen.admin_problem, stalled=True)
    outcome = seen.identity
    if outcome is None:
        known = _said_of_this(claim, "IdentityReady")
        return known or Condition("IdentityReady", "False", "Creating", "Keycloak has not been asked yet")
    if outcome.reason:
        return Condition("IdentityReady", "False", outcome.reason, outcome.message, stalled=outcome.stalled)
    if not keycloak.realm_held(lab, seen):
        return Condition("IdentityReady", "False", "Creating", "Keycloak is being told of the change")
    if outcome.users:
        users = sorted(outcome.users)
        more = f" and {len(users) - USERS_SHOWN} more" if len(users) > USERS_SHOWN else ""
        message = f"not members yet: {', '.join(users[:USERS_SHOWN])}{more}; status.users says why"
        return Condition("IdentityReady", "True", "UsersMissing", message)
    return Condition("IdentityReady", "True", "Available")


def _said_of_this(claim: Manifest, kind: str) -> Condition | None:
    """What was said of this generation of the claim, by whoever led before; None where that tells nothing."""
    for known in (claim.get("status") or {}).get("conditions") or ():
        same = known.get("observedGeneration") == claim["metadata"]["generation"]
        if known["type"] == kind and same and known["reason"] not in ("Disabled", "IamSecret"):
            return Condition(kind, known["status"], known["reason"], known.get("message", ""))
    return None


def _users(before: Manifest, lab: Lab, seen: Observed) -> Manifest:
    """Members that Keycloak does not know, and the like; as it was said before while nobody knows better."""
    if not lab.has_realm:
        return {}
    if seen.identity is None:
        return before.get("users") or {}
    return {user: {"message": bounded(problem, ENTRY_MAX)} for user, problem in sorted(seen.identity.users.items())}


def _dated(claim: Manifest, conditions: list[Condition], now: datetime.datetime) -> list[Manifest]:
    """Conditions as stored: a time of transition changes only with the status.

    That of Reconciling, which is there only while True, says since when the lab waits for what may come.
    """
    before = {known["type"]: known for known in (claim.get("status") or {}).get("conditions") or ()}
    stamp = timestamp(now)
    return [
        {
            "type": condition.type,
            "status": condition.status,
            "reason": condition.reason,
            "message": bounded(condition.message),
            "observedGeneration": condition.generation or claim["metadata"]["generation"],
            "lastTransitionTime": known["lastTransitionTime"]
            if (known := before.get(condition.type))
            and known["status"] == condition.status
            and (not _awaits(condition) or _says_the_same(claim, known, condition))
            else stamp,
        }
        for condition in conditions
    ]
