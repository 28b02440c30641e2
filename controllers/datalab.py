"""Reconcile one claim: resolve → observe → plan → apply → prune → heal → status."""

import asyncio
import base64
import datetime
import functools
import math
import secrets
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field, replace

import structlog

from controllers import teardown
from controllers.controller import Result
from controllers.denials import Denials
from controllers.identity import IdentityReconciler
from controllers.news import News
from controllers.settled import Plans, Settled, Versions, agree, versions
from controllers.turns import Turn, Turns
from controllers.workqueue import backoff
from datalabd import defects, metrics, names
from datalabd.api.meta import FINALIZER, RETAINED, UNPROTECTED, Manifest, NamespacedName, claim_of, is_planned, several
from datalabd.errors import (
    ClaimInvalid,
    Conflict,
    DatalabdError,
    Denied,
    EnvironmentInvalid,
    Forbidden,
    Foreign,
    InternalError,
    Invalid,
    KubeError,
    NotFound,
    Unreadable,
)
from datalabd.identity import Outcome
from datalabd.kube import resources as kinds
from datalabd.kube.apply import Written, converge, describe, our_status, retain, write_status
from datalabd.kube.cache import Cache
from datalabd.kube.client import JSON_PATCH, Client
from datalabd.kube.events import Recorder
from datalabd.kube.fights import Fights, rival
from datalabd.kube.resources import resource_of
from datalabd.kube.store import key_of
from datalabd.lab import Lab, resolve
from datalabd.live import objects, text
from datalabd.observed import Observed, Phase, Place, View, is_durable, observe, phase_of, timeless
from datalabd.plan import Plan, Stage, planning
from datalabd.plan.educates.content import lost
from datalabd.plan.educates.healing import Delete, Patch, Repair, Stuck, look_again, repairs
from datalabd.plan.ingress_protection import annotations, main_host, missing, other_class, secret_names
from datalabd.plan.metadata import digest
from datalabd.plan.network_policies import EXTERNAL_EGRESS
from datalabd.plan.prune import identity, prune
from datalabd.status import EGRESS_CLOSES_SECONDS, lost_since, refused, status, until_stalled, unwritable
from datalabd.submission import Names, Submission
from datalabd.validation import CLUSTER_NAME, Rival, names_lost, names_of, taken, unique_names, validate

log = structlog.get_logger()

UNREAD_SECONDS = 30.0
"""How soon to look again whether a Secret can be read."""

_GONE = "gone"
"""What is wished of an object that is deleted."""
UNSETTLED_SECONDS = 0.25
"""How soon to go on with what is still changing at the end of a pass."""
ROUNDS = 6
"""How often a pass goes on from what it has written: further than from Secrets to what reads them leads no chain."""

writing: ContextVar[NamespacedName | None] = ContextVar("writing", default=None)
"""The lab for which the present task writes: what it writes need not bring it back."""

_HEALED = {
    resource.kind: resource for resource in (kinds.WORKSHOP_ENVIRONMENTS, kinds.WORKSHOP_SESSIONS, kinds.SECRETS)
}


@dataclass(frozen=True, repr=False)
class _Look:
    """A lab as it was at one moment. No repr: it has Secrets."""

    revision: tuple[int, Outcome | None]
    """Of what the caches hold of the lab, and of what is known from Keycloak."""
    view: View
    seen: Observed
    facts: Observed
    """Without what time alone changes."""


@dataclass(repr=False)
class _Record:
    """What is remembered of a claim from one pass to the next, and forgotten with it. No repr: it has Secrets."""

    fights: Fights
    revision: int = 0
    """Grows with every change that may matter to the lab, those that a pass over it makes included."""
    lab: tuple[Manifest, Lab] | None = None
    """The claim when it was last found valid, with the lab that it makes."""
    passed: Lab | None = None
    """The lab as the last pass had it."""
    settled: Settled | None = None
    """What that pass left in order, if all was."""
    status: Manifest | None = None
    """The status that was last to be written."""
    waiting_for: frozenset[NamespacedName] = frozenset()
    """Claims that have a name which this one lacks."""
    repaired: dict[str, tuple[int, float]] = field(default_factory=dict)
    """How often in a row an object was put right, by its name, and when (loop time) it may be again."""
    unprotected: int = 0
    hosts_taken: int = 0
    broken: int = 0


class DatalabReconciler:
    """Makes the claims it is given real. Reads caches only; every write is safe to repeat."""

    def __init__(
        self,
        client: Client,
        cache: Cache,
        recorder: Recorder,
        identity: IdentityReconciler,
        later: Callable[[NamespacedName, float], None] = lambda key, seconds: None,
        cover: Callable[[NamespacedName], None] = lambda _: None,
    ) -> None:
        """`later` asks for a pass over a claim after so many seconds, however the present one ends.

        `cover` is told during a pass when it has looked at all that its claim was queued for until then.
        """
        self._client = client
        self._cache = cache
        self._recorder = recorder
        self._identity = identity
        self._denials = Denials()
        self._cover = cover
        self._records: dict[NamespacedName, _Record] = {}
        self._later = later
        self._news = News(recorder, later)
        self._plans = Plans(lambda lab, seen: planning(lab, seen, fresh_password))
        self._turns = Turns()
        records = self._records
        metrics.CONTESTED.set_function(lambda: sum(len(one.fights.contested()) for one in records.values()))
        metrics.HOSTS_TAKEN.set_function(lambda: sum(one.hosts_taken for one in records.values()))
        metrics.UNPROTECTED_INGRESSES.set_function(lambda: sum(one.unprotected for one in records.values()))
        metrics.RULES_BROKEN.set_function(lambda: sum(one.broken for one in records.values()))

    def begin(self) -> None:
        """Take nothing for granted that was so under an earlier lease: others have led since."""
        for record in self._records.values():
            record.settled = None

    def changed(self, key: NamespacedName) -> None:
        """Take note of a change that may matter to a lab: what was observed of it before is outdated."""
        if (record := self._records.get(key)) is not None:
            record.revision += 1

    async def reconcile(self, key: NamespacedName) -> Result:
        """One pass over one claim. Raises what stopped it, after it stands in the claim's status."""
        try:
            result = await self._pass(key)
        except DatalabdError:
            raise
        except Exception as error:  # of one claim nothing may end unseen, whatever is wrong with what was read
            problem = InternalError(defects.place(error))
            claim = self._cache.claim(key)
            if claim is not None:
                try:
                    await self._write_status(claim, refused(claim, problem, _now()))
                except KubeError as unwritten:
                    log.warning("status not written", error=str(unwritten))
            raise problem from error
        self._denials.forget(key)
        return result

    async def _pass(self, key: NamespacedName) -> Result:
        self._cache.follow(key)
        claim = self._cache.claim(key)
        if claim is None:
            self._forget(key)
            return Result()
        structlog.contextvars.bind_contextvars(generation=claim["metadata"]["generation"])
        if claim["metadata"].get("deletionTimestamp"):
            return await teardown.teardown(
                self._client, self._cache, self._recorder, self._identity, self._denials, claim
            )
        place = self._cache.informers.store(kinds.NAMESPACES).get("", key.namespace)
        if place is not None and place["metadata"].get("deletionTimestamp"):
            return Result()  # the claim goes next, and with it comes the teardown; what we may do there may be gone
        lost_environment = self._cache.lost_environment(claim)
        closed = lost_environment is not None and lost_environment.is_lost and self._closes_in(claim) <= 0
        try:
            lab = self._resolve(claim)
        except (ClaimInvalid, EnvironmentInvalid) as problem:
            if closed:
                await self._close_egress(claim)
            await self._write_status(claim, refused(claim, problem, _now(), lost_environment))
            raise
        if lost_environment is not None:
            lab = replace(lab, lost=lost_environment, external_egress=lab.external_egress and not closed)
        try:
            return await self._converge(claim, lab)
        except DatalabdError:
            if closed:  # the pass may have ended before it came to what is to go
                await self._close_egress(claim)
            raise

    def _closes_in(self, claim: Manifest) -> float:
        """Seconds until a lab whose environment nobody can read is to reach nothing outside; asks for a pass then."""
        now = _now()
        left = EGRESS_CLOSES_SECONDS - (now - lost_since(claim, now)).total_seconds()
        if left > 0:
            self._later(key_of(claim), left)
        return left

    async def _close_egress(self, claim: Manifest) -> None:
        """Take away what lets a lab out of which nothing is known but what was applied."""
        for policy in self._cache.informers.store(kinds.NETWORK_POLICIES).owned_by(claim["metadata"]["uid"]):
            metadata = policy["metadata"]
            if metadata["name"] == EXTERNAL_EGRESS and is_planned(policy):
                await self._client.delete(
                    kinds.NETWORK_POLICIES, metadata["namespace"], metadata["name"], metadata["uid"]
                )

    def _resolve(self, claim: Manifest) -> Lab:
        """The lab of a claim, by the same rules as admission: a claim may have been stored while nobody was asked."""
        elsewhere = self._lost_names(claim)
        record = self._record(key_of(claim))
        record.waiting_for = frozenset(elsewhere.values())
        environment = self._cache.environment_of(claim)
        if record.lab is not None and not elsewhere:
            judged, lab = record.lab
            if lab.environment is environment and _wishes(claim) == _wishes(judged):
                return lab
        submission = Submission(claim, environment)
        exists = self._held(claim) is not None
        errors = [*validate(submission, exists=exists), *taken(claim, elsewhere)]
        if errors:
            record.lab = None
            raise ClaimInvalid(errors[0].path, "; ".join(several(errors)).removeprefix(f"{errors[0].path}: "))
        lab = resolve(claim, environment, submission.spec)
        record.lab = (claim, lab)
        return lab

    def waiting_for(self, key: NamespacedName) -> list[NamespacedName]:
        """Claims that had to leave a name to this one, and may have it when this one changes or goes."""
        return [loser for loser, record in self._records.items() if key in record.waiting_for]

    def _lost_names(self, claim: Manifest) -> dict[CLUSTER_NAME, NamespacedName]:
        """Names of this claim that another one has, and which.

        Admission refuses the second claim, but two can pass at once. Then the one whose runtime exists wins, else the
        older, else the smaller uid.
        """
        key, age, index = key_of(claim), _age(claim), self._cache.names
        makers = {maker for name in unique_names(names_of(claim)) for maker in index.makers(name)} - {key}
        rivals = []
        for maker in sorted(makers):
            other = self._cache.claim(maker)
            if other is not None:
                rivals.append(Rival(maker, names_of(other), self._held(other), _age(other) < age))
            else:  # a runtime that was kept
                rivals.append(Rival(maker, Names(maker.name), Names(maker.name), comes_first=True))
        return names_lost(claim, self._held(claim), rivals) if rivals else {}

    def _held(self, claim: Manifest) -> Names | None:
        """What the names are made of that a claim has already: its runtime, sessions and databases that exist.

        A runtime is claimed by its Workshop, the first that is written of it, by POST. One whose namespace is somebody
        else's, or a session of which that is so, has nothing yet.
        """
        store, key, uid = self._cache.informers.store, key_of(claim), claim["metadata"]["uid"]
        environment = store(kinds.WORKSHOP_ENVIRONMENTS).get("", key.name)
        runtime = environment or store(kinds.WORKSHOPS).get("", key.name)
        if runtime is None or claim_of(runtime) != key or (environment and not self._has_place(environment)):
            return None
        sessions = [session for session in store(kinds.WORKSHOP_SESSIONS).owned_by(uid) if self._has_place(session)]
        namespace = names.workshop_namespace(key.name)
        return Names(
            key.name,
            tuple(session["metadata"]["name"].removeprefix(names.session(key.name, "")) for session in sessions),
            tuple(host.name for host in map(key_of, store(kinds.POSTGRES_CLUSTERS)) if host.namespace == namespace),
        )

    def _has_place(self, owner: Manifest) -> bool:
        """Whether the namespace that the runtime calls like this object is its own, or still to be made."""
        namespace = self._cache.informers.store(kinds.NAMESPACES).get("", owner["metadata"]["name"])
        owners = objects(namespace, "metadata", "ownerReferences")
        return namespace is None or any(one.get("uid") == owner["metadata"]["uid"] for one in owners)

    async def _converge(self, claim: Manifest, lab: Lab) -> Result:
        token = writing.set(lab.key)
        try:
            return await self._make_real(claim, lab)
        finally:
            writing.reset(token)

    async def _make_real(self, claim: Manifest, lab: Lab) -> Result:
        turn = self._turns.begin()
        look = await self._look(claim, lab, turn)
        if (settled := await self._settled_as(claim, lab, look, turn)) is not None:
            await self._news.tell(claim, settled.status)
            left = settled.until - asyncio.get_running_loop().time()
            return Result(None if left == math.inf else left, unchanged=len(look.view.owned), idle=True)
        written = Written()
        problem: DatalabdError | None = None
        wanted, found, stable = await self._plan(lab, look, turn), list[Repair](), False
        try:
            # Before anything else is made: what is made without a finalizer could be left behind.
            claim = await self._add_finalizer(claim)
            unprotected: KubeError | None = None
            swept: Versions | None = None
            for _ in range(ROUNDS):
                # Closing what stands open comes first: nothing that fails later may leave it so.
                if swept != (ingresses := versions(self._ingresses(lab))):
                    swept, unprotected = ingresses, await self._sweep(lab)
                self._identity.want(lab.key, wanted.realm)
                writes = len(written.created) + len(written.applied)
                problem = await self._apply(lab, wanted, written, turn) or unprotected
                await self._hand_on(lab, wanted)
                await self._secure_volumes(lab, look.view)
                # What was written is in the cache already, and may be what the next stage waits for.
                after = await self._look(claim, lab, turn, look)
                found = repairs(lab, after.seen)
                await self._heal(lab, after.seen, found)
                # Where nothing was waited for, nothing has changed since the look: all of it is in order.
                stable = look.revision == self._revision(lab.key)
                if stable or (problem is not None and writes == len(written.created) + len(written.applied)):
                    break
                look = await self._look(claim, lab, turn, after)
                wanted = await self._plan(lab, look, turn)
            await self._prune(lab, wanted, look.view.owned, written)
            await self._bring_back(lab.key, lost(lab, look.seen))
        except (KubeError, Foreign) as error:
            problem = error
        if isinstance(problem, Denied):
            self._denials.require_lasting(lab.key, problem)
        in_order, look = look, await self._look(claim, lab, turn, look)
        stable = stable and problem is None and look is in_order
        others = versions(self._others(lab, look.view))  # a change from here on brings another pass
        if stable and self._is_current(claim, lab):
            self._cover(lab.key)
        record = self._record(lab.key)
        record.hosts_taken = len(look.seen.hosts_taken)
        problem = problem or lab.lost
        told = problem or record.fights.problem()
        record.broken = len(wanted.judged.held) + len(wanted.judged.broken)
        said = status(claim, lab, look.seen, wanted, found, told, _now())
        self._news.wrote(claim, written, told_by_status=record.passed is not None and record.passed is not lab)
        record.passed = lab
        await self._write_status(claim, said)
        if problem is not None:
            raise problem
        self._settled(lab, look.seen)
        if stable and record.fights.is_over and all(isinstance(repair, Stuck) for repair in found):
            self._remember(lab, look, others, said)
        again = self._requeue_after(lab, look.seen)
        return Result(
            requeue_after=again if stable else min(again or UNSETTLED_SECONDS, UNSETTLED_SECONDS),
            created=len(written.created),
            applied=len(written.applied),
            pruned=len(written.pruned),
            unchanged=written.unchanged,
        )

    async def _look(self, claim: Manifest, lab: Lab, turn: Turn, before: _Look | None = None) -> _Look:
        """The lab as it is now, what was just written included."""
        if before is not None and before.revision == self._revision(lab.key):
            return before
        await turn.next()
        revision = self._revision(lab.key)
        self._cache.follow(lab.key)
        view = await self._view(claim, lab)
        seen = observe(lab, view)
        return _Look(revision, view, seen, timeless(seen))

    def _revision(self, key: NamespacedName) -> tuple[int, Outcome | None]:
        return self._record(key).revision, self._identity.outcome(key)

    def _is_current(self, claim: Manifest, lab: Lab) -> bool:
        """Whether the lab is still that of its claim."""
        live = self._cache.claim(lab.key)
        if live is None or live["metadata"].get("deletionTimestamp") or _wishes(live) != _wishes(claim):
            return False
        try:
            return self._cache.environment_of(live) is lab.environment and not self._lost_names(live)
        except EnvironmentInvalid:
            return False

    def has_said(self, claim: Manifest) -> bool:
        """Whether a claim is as its last pass left it: with our finalizer, and the status of that pass."""
        record = self._records.get(key_of(claim))
        said = record.status if record is not None else None
        return FINALIZER in (claim["metadata"].get("finalizers") or ()) and our_status(claim) == said

    async def _plan(self, lab: Lab, look: _Look, turn: Turn) -> Plan:
        making = self._plans.making(lab, look.seen, look.facts)
        while True:
            try:
                next(making)
            except StopIteration as made:
                plan: Plan = made.value
                return plan
            await turn.pause()

    async def _settled_as(self, claim: Manifest, lab: Lab, look: _Look, turn: Turn) -> Settled | None:
        """What the last pass left in order, if nothing that a pass goes by differs from that."""
        known = self._record(lab.key).settled
        if (
            known is None
            or known.lab is not lab
            or known.until <= asyncio.get_running_loop().time()
            or known.status != our_status(claim)
            or FINALIZER not in (claim["metadata"].get("finalizers") or ())
            or known.facts != look.facts
            or known.others != versions(self._others(lab, look.view))
        ):
            return None
        objects = versions(look.view.owned)
        if objects.keys() != known.objects.keys():
            return None
        changed = [obj for obj in look.view.owned if objects[identity(obj)] != known.objects[identity(obj)]]
        if changed and not agree(changed, await self._plan(lab, look, turn)):
            return None
        settled = self._record(lab.key).settled = replace(known, objects=objects)
        return settled

    def _remember(self, lab: Lab, look: _Look, others: Versions, said: Manifest) -> None:
        lab.derived.clear()  # a lab at rest needs no plan
        self._plans.forget(lab.key)
        waits = [self._requeue_after(lab, look.seen), until_stalled(said, _now())]
        record = self._record(lab.key)
        record.settled = Settled(
            lab=lab,
            facts=look.facts,
            status=record.status or said,
            objects=versions(look.view.owned),
            others=others,
            until=asyncio.get_running_loop().time()
            + min((wait for wait in waits if wait is not None), default=math.inf),
        )

    def _others(self, lab: Lab, view: View) -> list[Manifest]:
        """What is not the lab's own, and looked after all the same: Ingresses, and the volumes behind claims."""
        volumes = (self._volume(claim) for claim in (view.volumes if lab.retains else ()))
        return [*self._ingresses(lab), *(volume for volume in volumes if volume is not None)]

    def _volume(self, claim: Manifest) -> Manifest | None:
        return self._cache.informers.store(kinds.VOLUMES).get("", text(claim, "spec", "volumeName"))

    async def _view(self, claim: Manifest, lab: Lab) -> View:
        try:
            await self._cache.listed(lab.key)
            return replace(self._cache.view(lab), identity=self._identity.outcome(lab.key))
        except (Denied, Unreadable) as problem:
            await self._write_status(claim, refused(claim, problem, _now()))
            raise

    async def _add_finalizer(self, claim: Manifest) -> Manifest:
        metadata = claim["metadata"]
        finalizers = metadata.get("finalizers") or []
        if FINALIZER in finalizers:
            return claim
        body = {"metadata": {"resourceVersion": metadata["resourceVersion"], "finalizers": [*finalizers, FINALIZER]}}
        patch = functools.partial(self._client.patch, kinds.DATALABS, metadata["namespace"], metadata["name"], body)
        desired = {"metadata": {"finalizers": body["metadata"]["finalizers"]}}
        if not await self._put_right(key_of(claim), claim, FINALIZER, desired, patch):
            return claim
        return self._cache.informers.store(kinds.DATALABS).get(*key_of(claim)) or claim

    async def _apply(self, lab: Lab, wanted: Plan, written: Written, turn: Turn) -> DatalabdError | None:
        """Apply all stages that wait for nothing; the first failure of a lab-wide one ends it.

        Parts are apart: one that fails holds up neither the others nor what comes after, such as ending a session. The
        first such failure is returned, as is a volume's that cannot grow: it is of use as it is.
        """
        failures: dict[str, DatalabdError] = {}
        ungrown: list[DatalabdError] = []
        for stage in wanted.stages:
            if stage.waits is not None or stage.part in failures:
                continue
            try:
                ungrown += await self._apply_stage(lab, stage, written, turn)
            except (KubeError, Foreign) as error:
                if stage.part is None:
                    raise
                failures[stage.part] = error
        return next(iter([*failures.values(), *ungrown]), None)

    async def _apply_stage(self, lab: Lab, stage: Stage, written: Written, turn: Turn) -> list[DatalabdError]:
        """Apply what a stage has; returns why volumes did not grow.

        Of a lab that its environment does not hold nothing new begins; what closes it is written all the same.
        """
        ungrown: list[DatalabdError] = []
        fights = self._fights_over(lab.key)
        for manifest in stage.objects:
            await turn.pause()
            resource = resource_of(manifest)
            store = self._cache.informers.store(resource)
            if lab.lost is not None and resource != kinds.NETWORK_POLICIES and store.get(*key_of(manifest)) is None:
                continue
            try:
                await converge(self._client, store, manifest, written, fights, create_only=stage.create_only)
            except Forbidden as error:
                if manifest["kind"] != kinds.VOLUME_CLAIMS.kind or store.get(*key_of(manifest)) is None:
                    raise
                ungrown.append(error)
        return ungrown

    async def _hand_on(self, lab: Lab, wanted: Plan) -> None:
        """Give operators the new passwords of their logins; without a verifier they take them up."""
        for new in wanted.new_passwords:
            metadata = {"uid": new.uid, "resourceVersion": new.version, "annotations": new.annotations}
            data = {"password": base64.b64encode(new.password.encode()).decode(), "verifier": ""}
            body = {"metadata": metadata, "data": data}
            after = await self._client.patch(kinds.SECRETS, names.workshop_namespace(lab.name), new.name, body)
            self._cache.informers.store(kinds.SECRETS).observe(after)

    async def _secure_volumes(self, lab: Lab, view: View) -> None:
        """Have the volumes behind durable claims outlive these, should somebody delete a claim or its namespace."""
        for claim in view.volumes if lab.retains else ():
            volume = self._volume(claim)
            if volume is None or not is_durable(lab.name, claim) or _is_going(claim):
                continue
            if text(volume, "spec", "persistentVolumeReclaimPolicy") == "Retain":
                continue
            metadata = volume["metadata"]
            body = {"metadata": {"uid": metadata["uid"]}, "spec": {"persistentVolumeReclaimPolicy": "Retain"}}
            patch = functools.partial(self._client.patch, kinds.VOLUMES, "", metadata["name"], body)
            try:
                await self._put_right(lab.key, volume, "Retain", body, patch)
            except (Forbidden, NotFound) as error:
                # Platforms may keep volumes to themselves; the claim in its namespace is kept all the same.
                log.debug("reclaim policy not changed", volume=metadata["name"], error=str(error))

    async def _prune(self, lab: Lab, wanted: Plan, owned: tuple[Manifest, ...], written: Written) -> None:
        """Remove what we own and no longer plan; durable objects are marked and stay."""
        unwanted = prune(lab, wanted.wanted, owned)
        fights = self._fights_over(lab.key)
        for obj in unwanted.retain:
            if fights.must_wait(describe(obj), RETAINED):
                continue
            fights.wrote(describe(obj), RETAINED)
            await retain(self._client, self._cache.informers.store(resource_of(obj)), obj)
            written.applied.append(describe(obj))
        for obj in unwanted.delete:
            metadata = obj["metadata"]
            namespace = metadata.get("namespace", "")
            place = self._cache.informers.store(kinds.NAMESPACES).get("", namespace)
            if namespace and (place is None or place["metadata"].get("deletionTimestamp")):
                continue  # it goes with its namespace
            if fights.must_wait(describe(obj), _GONE):
                continue
            if await self._client.delete(resource_of(obj), namespace, metadata["name"], metadata["uid"]):
                fights.wrote(describe(obj), _GONE)
                written.pruned.append(describe(obj))

    async def _heal(self, lab: Lab, seen: Observed, found: list[Repair]) -> None:
        for repair in found:
            if isinstance(repair, Patch):
                try:
                    await self._patch(lab.key, repair)
                except KubeError as error:
                    # A failed `test` is answered with 422: the object moved on, and its event brings us back.
                    raise Conflict(409, "Outdated", str(error)) from error
            elif isinstance(repair, Delete) and lab.lost is None and self._may_repair(lab.key, repair.name):
                is_environment = repair.kind == kinds.WORKSHOP_ENVIRONMENTS.kind
                if await (self._is_needed(lab, seen) if is_environment else self._is_well(lab, seen, repair.name)):
                    log.info("not recreating: the cache was behind", kind=repair.kind, object=repair.name)
                    continue
                log.info("recreating", kind=repair.kind, object=repair.name, why=repair.why)
                if await self._client.delete(_HEALED[repair.kind], "", repair.name, repair.uid):
                    claim = self._cache.claim(lab.key)
                    note = f"{repair.kind} {repair.name} is recreated: {repair.why}"
                    if claim is not None:
                        await self._recorder.emit(claim, "Warning", "Recreating", "Heal", note)

    async def _patch(self, key: NamespacedName, repair: Patch) -> None:
        resource = _HEALED[repair.kind]
        live = self._cache.informers.store(resource).get(repair.namespace, repair.name)
        if live is None:
            return  # its deletion brings us back
        *_, change = repair.operations
        desired = change["value"]
        for part in reversed(change["path"].strip("/").split("/")):
            desired = {part: desired}
        await self._put_right(
            key,
            live,
            digest(desired),
            desired,
            functools.partial(
                self._client.patch, resource, repair.namespace, repair.name, list(repair.operations), JSON_PATCH
            ),
        )

    async def _bring_back(self, key: NamespacedName, secret: Manifest | None) -> None:
        """Create what the runtime made once and somebody deleted."""
        if secret is None or self._fights_over(key).must_wait(describe(secret), "there"):
            return
        try:
            await self._client.create(kinds.SECRETS, secret)
        except Conflict:
            return  # it is there, and our cache will hear of it
        self._fights_over(key).wrote(describe(secret), "there")
        log.info("brought back", object=describe(secret))

    async def _is_needed(self, lab: Lab, seen: Observed) -> bool:
        """Whether the environment must stay after all, asked of the API server: it would take its namespace along.

        Caches are not enough to delete by, as that of namespaces may be behind that of environments.
        """
        namespace = names.workshop_namespace(lab.name)
        if seen.place is Place.ABSENT:
            live, _ = await self._client.list(kinds.NAMESPACES, fieldSelector=f"metadata.name={namespace}")
            if live:
                return True
        return bool(await teardown.durable_left(self._client, self._cache, lab.name, retains=lab.retains))

    async def _is_well(self, lab: Lab, seen: Observed, name: str) -> bool:
        """Whether a session that seems wedged has moved on, asked of the API server: users' work would go with it.

        Caches are not enough to delete by, as that of sessions or of Deployments may be behind.
        """
        session = name.removeprefix(names.session(lab.name, ""))
        live, _ = await self._client.list(kinds.WORKSHOP_SESSIONS, fieldSelector=f"metadata.name={name}")
        phase = phase_of(live[0] if live else None)
        if phase is not seen.sessions[session].phase:
            return True
        if phase is not Phase.RUNNING:
            return False
        inside = names.workshop_namespace(lab.name)
        deployments, _ = await self._client.list(kinds.DEPLOYMENTS, inside, fieldSelector=f"metadata.name={name}")
        return any("deletionTimestamp" not in found["metadata"] for found in deployments)

    def _may_repair(self, key: NamespacedName, name: str) -> bool:
        """Whether this object's pause since its last repair is over; counts the new one."""
        now = asyncio.get_running_loop().time()
        repaired = self._record(key).repaired
        count, not_before = repaired.get(name, (0, 0.0))
        if now < not_before:
            return False
        repaired[name] = (count + 1, now + 10 * backoff(count + 1))
        return True

    def _settled(self, lab: Lab, seen: Observed) -> None:
        """What is well again starts with a short pause next time."""
        repaired = self._record(lab.key).repaired
        if seen.runtime_ready:
            repaired.pop(lab.name, None)
        for session, facts in seen.sessions.items():
            if facts.ready:
                repaired.pop(names.session(lab.name, session), None)

    def _requeue_after(self, lab: Lab, seen: Observed) -> float | None:
        now = asyncio.get_running_loop().time()
        repaired = self._record(lab.key).repaired.values()
        pauses = [not_before - now for _, not_before in repaired if not_before > now]
        waits = [wait for wait in (look_again(lab, seen), *pauses, self._unread(lab, seen)) if wait is not None]
        return max(0.5, min(waits)) if waits else None

    def _unread(self, lab: Lab, seen: Observed) -> float | None:
        """When to look again at Secrets that may not be read, of which no watch tells; None: they are."""
        claim = self._cache.claim(lab.key)
        unread = lab.has_realm and seen.admin is None and claim is not None and not self._cache.iam_view(claim).read
        return UNREAD_SECONDS if unread else None

    async def _sweep(self, lab: Lab) -> KubeError | None:
        """Protect session Ingresses that came while the webhook was away, or under other settings.

        The first failure is returned. What stays as it is keeps counting, and is told of again and again.
        """
        lacking = [
            (ingress, absent, other_class(lab.environment, ingress))
            for ingress in self._ingresses(lab)
            if (absent := missing(annotations(lab.environment, lab.name, lab.namespace, main_host(ingress)), ingress))
            or other_class(lab.environment, ingress)
        ]
        record = self._record(lab.key)
        record.unprotected = len(lacking)
        metrics.UNPROTECTED_FOUND.inc(len(lacking))
        failure: KubeError | None = None
        left = set[str]()
        for ingress, absent, class_ in lacking:
            name = ingress["metadata"]["name"]
            note = f"Ingress {name} lacked annotations of its protection; they were added"
            try:
                if absent and not await self._annotate(lab.key, ingress, absent):
                    left.add(name)
                    continue  # told of as contested
            except NotFound:
                continue  # it went with its session
            except KubeError as error:
                failure = failure or error
                left.add(name)
                note = f"Ingress {name} lacks annotations of its protection, and they could not be added: {error}"
            if class_:
                left.add(name)
                note = (
                    f"Ingress {name} is of class {class_}, whose controllers do not protect it: see ingress.class of "
                )
                note += f"environment {lab.environment.name}, then restart the session"
            claim = self._cache.claim(lab.key)
            if claim is not None:
                await self._recorder.emit(claim, "Warning", "UnprotectedIngress", "Protect", note)
        record.unprotected = len(left)
        return failure

    async def _annotate(self, key: NamespacedName, ingress: Manifest, changes: dict[str, str | None]) -> bool:
        metadata = ingress["metadata"]
        body = {"metadata": {"uid": metadata["uid"], "annotations": changes}}
        patch = functools.partial(self._client.patch, kinds.INGRESSES, metadata["namespace"], metadata["name"], body)
        return await self._put_right(key, ingress, "protection", body, patch)

    def _ingresses(self, lab: Lab) -> list[Manifest]:
        namespace = names.workshop_namespace(lab.name)
        return self._cache.informers.store(kinds.INGRESSES).within(namespace)

    async def _write_status(self, claim: Manifest, wanted: Manifest) -> None:
        store = self._cache.informers.store(kinds.DATALABS)
        record = self._record(key_of(claim))
        record.status = wanted
        await self._tell_move(claim, wanted)
        try:
            is_news = await write_status(self._client, store, claim, wanted, record.fights)
        except Invalid as error:
            # Better a short one than none: without it the claim would go on saying what was so before.
            wanted = record.status = unwritable(claim, error, _now())
            if await write_status(self._client, store, claim, wanted):
                await self._news.status(claim, wanted)
            raise
        live = self._cache.claim(key_of(claim))
        if live is not None and (held := our_status(live)) == wanted:
            record.status = held  # which the cache holds already
        if is_news:
            await self._news.status(claim, wanted)
        await self._news.tell(claim, wanted)
        if (pause := until_stalled(wanted, _now())) is not None:
            self._later(key_of(claim), pause + 1.0)  # times of conditions are whole seconds

    async def _tell_move(self, claim: Manifest, after: Manifest) -> None:
        """An Event when a lab has gone to another realm, before only the new one stands in status."""
        before, now = (claim.get("status") or {}).get("realm"), after.get("realm")
        if before and now and before != now:
            note = (
                f"the lab's client and groups are in {now} now; those in {before} stay as they are: remove them there"
            )
            await self._recorder.emit(claim, "Warning", "RealmLeft", "Reconcile", note)

    def _fights_over(self, key: NamespacedName) -> Fights:
        return self._record(key).fights

    def _record(self, key: NamespacedName) -> _Record:
        if key not in self._records:
            self._records[key] = _Record(Fights(functools.partial(self._later, key), closing=_closing_secrets(key)))
        return self._records[key]

    async def _put_right(
        self, key: NamespacedName, obj: Manifest, wish: str, desired: Manifest, write: Callable[[], Awaitable[Manifest]]
    ) -> bool:
        """Whether `write` was made, which is to have `obj` hold what `desired` does; not while that has to wait."""
        fights, what, resource = self._fights_over(key), describe(obj), resource_of(obj)
        if fights.must_wait(what, wish):
            return False
        if fights.wants_rival(what):
            live = await self._client.get(resource, *key_of(obj))
            fights.name_rival(what, rival(live, desired))
        after = await write()
        fights.wrote(what, wish)
        self._cache.informers.store(resource).observe(after)
        return True

    def _forget(self, key: NamespacedName) -> None:
        self._records.pop(key, None)
        self._news.forget(key)
        self._plans.forget(key)
        self._identity.forget(key)


def _closing_secrets(key: NamespacedName) -> frozenset[str]:
    """The Secrets that decide where the node mounts storage from, and who gets past APISIX."""
    own = {f"Secret {key.namespace}/{names.credentials(key.name)}"}
    return frozenset(own | {f"Secret {names.workshop_namespace(key.name)}/{name}" for name in secret_names(key.name)})


def _wishes(claim: Manifest) -> tuple[object, ...]:
    """All of a claim that its lab is made of."""
    metadata = claim["metadata"]
    return (claim.get("spec"), *(metadata.get(key) for key in ("uid", "generation", "annotations", "labels")))


def _is_going(claim: Manifest) -> bool:
    """Whether a purge lets this volume claim go, or it goes already."""
    metadata = claim["metadata"]
    return UNPROTECTED in (metadata.get("annotations") or {}) or "deletionTimestamp" in metadata


def _age(claim: Manifest) -> tuple[str, str]:
    """Orders claims by who came first; times of creation are whole seconds, so the uid decides among equals."""
    return claim["metadata"]["creationTimestamp"], claim["metadata"]["uid"]


def fresh_password() -> str:
    """A random password, safe in URLs, access lists and shells."""
    while True:
        password = secrets.token_urlsafe(24)
        if password[0] not in "-_":  # what begins with a dash is an option to many a command
            return password


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
