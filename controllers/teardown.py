"""Taking a lab down, in order: access, sessions, stores and volumes by retention, runtime, credentials, identity.

Each step is repeated until nothing is left of what it removes, so that a pass can be interrupted. The finalizer, last,
is never dropped because time ran out: after five minutes the status names the obstacle, and a person may skip the step
with the annotation `datalabs.pkg.internal/abandon`. Whenever that was written, each step is begun first and given its
time: no session is left to run on without a claim only because somebody asked for it.
"""

import datetime
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NoReturn

import pydantic
import structlog

from controllers.controller import Result
from controllers.denials import Denials
from controllers.identity import IdentityReconciler, Step, access_to
from datalabd import names
from datalabd.api.meta import ABANDON, CLAIM_UID, FINALIZER, RETAINED, Manifest, NamespacedName, is_planned, items
from datalabd.errors import ClaimInvalid, Denied, EnvironmentInvalid, KubeError, NotFound, NotYet
from datalabd.identity import admin
from datalabd.kube import resources as kinds
from datalabd.kube.apply import describe, retain, write_status
from datalabd.kube.cache import OURS, RUNTIME_KINDS, STORE_KINDS, Cache
from datalabd.kube.client import Client
from datalabd.kube.events import Recorder
from datalabd.kube.resources import Resource, resource_of
from datalabd.kube.store import key_of
from datalabd.lab import resolve
from datalabd.observed import is_durable, remaining
from datalabd.plan import rights
from datalabd.plan.keycloak import realm_address
from datalabd.status import deleting
from datalabd.stores import KINDS as STORES

log = structlog.get_logger()

STALLED_AFTER_SECONDS = 300.0


@dataclass(frozen=True)
class Teardown:
    """What the steps work on."""

    client: Client
    cache: Cache
    recorder: Recorder
    identity: IdentityReconciler
    claim: Manifest
    retains: bool

    @property
    def name(self) -> str:
        """Name of the lab."""
        return str(self.claim["metadata"]["name"])

    @property
    def owned(self) -> list[Manifest]:
        """What is left of the lab."""
        return list(self.cache.owned(key_of(self.claim), self.claim["metadata"]["uid"]))

    @property
    def holds_name(self) -> bool:
        """Whether what is called like the lab is this claim's, or nobody's: two can have raced for one name."""
        environment = self.cache.informers.store(kinds.WORKSHOP_ENVIRONMENTS).get("", self.name)
        labels = ((environment or {}).get("metadata") or {}).get("labels") or {}
        uid = self.claim["metadata"]["uid"]
        return bool(labels.get(CLAIM_UID, uid) == uid)

    def of_kind(self, resource: Resource) -> list[Manifest]:
        """What is left of one kind."""
        return [obj for obj in self.owned if obj["kind"] == resource.kind]

    async def delete(self, obj: Manifest) -> None:
        """Ask for the deletion of one object; gone already is as good."""
        metadata = obj["metadata"]
        if not metadata.get("deletionTimestamp"):
            await self.client.delete(resource_of(obj), metadata.get("namespace", ""), metadata["name"], metadata["uid"])

    def namespace(self, name: str) -> Manifest | None:
        """A namespace, if it exists."""
        return self.cache.informers.store(kinds.NAMESPACES).get("", name)


async def teardown(
    client: Client,
    cache: Cache,
    recorder: Recorder,
    identity: IdentityReconciler,
    denials: Denials,
    claim: Manifest,
) -> Result:
    """One pass over a claim that is being deleted."""
    metadata = claim["metadata"]
    finalizers = metadata.get("finalizers") or []
    if FINALIZER not in finalizers:
        return Result()
    work = Teardown(client, cache, recorder, identity, claim, _retains(cache, claim))
    at = ""
    try:
        cache.require_synced(claim, metadata["namespace"])
        for at, step in STEPS.items():
            await _take(work, at, step)
        at = ""
        body = {
            "metadata": {
                "resourceVersion": metadata["resourceVersion"],
                "finalizers": [finalizer for finalizer in finalizers if finalizer != FINALIZER],
            }
        }
        await client.patch(kinds.DATALABS, metadata["namespace"], metadata["name"], body)
    except NotFound:
        return Result()  # gone already, and our cache will hear of it
    except KubeError as error:
        if isinstance(error, Denied):
            denials.require_lasting(key_of(claim), error)
        await _report_failure(work, at, error)
        raise
    log.info("torn down")
    return Result(pruned=1)


async def _take(work: Teardown, name: str, step: Callable[[Teardown], Awaitable[str]]) -> None:
    """Take one step, or skip it if that was asked for and it had its time; raises `NotYet` while it waits."""
    asked = items((work.claim["metadata"].get("annotations") or {}).get(ABANDON, ""))
    skip = name in asked and _elapsed(work.claim) >= STALLED_AFTER_SECONDS
    try:
        left = await step(work)
    except KubeError as error:
        if not skip:
            raise
        left = str(error)
    if left and not skip:
        await _wait(work, name, left)
    elif left:
        await _abandon(work, name)


async def _abandon(work: Teardown, step: str) -> None:
    """Skip a step; what it would have taken along is marked, so that a claim of this name can take it up again."""
    log.warning("teardown step abandoned", step=step)
    left = work.owned if step in ("storage", "runtime") else []
    for obj in left:
        if obj["metadata"].get("namespace") == work.claim["metadata"]["namespace"]:
            continue  # beside the claim, and going with it
        try:
            await retain(work.client, work.cache.informers.store(resource_of(obj)), obj)
        except KubeError as error:
            log.warning("left unmarked", object=describe(obj), error=str(error))


async def _wait(work: Teardown, step: str, left: str) -> NoReturn:
    """Say what the deletion waits for; its end is seen by watches, so look again only when it becomes overdue."""
    elapsed = _elapsed(work.claim)
    stalled = elapsed >= STALLED_AFTER_SECONDS
    message = f"waits for {left}"
    await _report(work, step, message, stalled=stalled)
    raise NotYet(f"deleting {step}: {message}", 60.0 if stalled else STALLED_AFTER_SECONDS - elapsed)


async def _report_failure(work: Teardown, step: str, error: KubeError) -> None:
    """Say what stops the deletion, if only a person can mend it or it has not gone by itself."""
    if isinstance(error, Denied):
        await _report(work, step, rights.missing(work.claim, error), stalled=True)
    elif _elapsed(work.claim) >= STALLED_AFTER_SECONDS:
        await _report(work, step, str(error), stalled=True)


async def _report(work: Teardown, step: str, message: str, *, stalled: bool) -> None:
    if stalled and step:
        message += f"; mend that, or skip the step with annotation {ABANDON}={step}"
    wanted = deleting(work.claim, message, stalled, datetime.datetime.now(datetime.UTC), step=step)
    await write_status(work.client, work.cache.informers.store(kinds.DATALABS), work.claim, wanted)
    if stalled:
        note = f"deleting {step}: {message}" if step else message
        await work.recorder.emit(work.claim, "Warning", "TeardownStalled", "Delete", note)


def _elapsed(claim: Manifest) -> float:
    """Seconds since the deletion was asked for."""
    since = datetime.datetime.fromisoformat(claim["metadata"]["deletionTimestamp"])
    return (datetime.datetime.now(datetime.UTC) - since).total_seconds()


async def _access(work: Teardown) -> str:
    """Before anything else nobody gets in any more: members and client in Keycloak."""
    return await _in_realm(work, Step.CLOSE)


async def _identity(work: Teardown) -> str:
    """Last, what the lab had in Keycloak: until here its names there are nobody else's. Then what opened it."""
    return await _in_realm(work, Step.REMOVE) or await _beside(work, names.identity_secret(work.name))


async def _in_realm(work: Teardown, step: Step) -> str:
    """Have a step done in Keycloak, if the lab may have anything there; returns what that waits for.

    The client's Secret is older than anything in the realm, and the realm stands in status from then on: where there is
    neither, there is nothing to take away.
    """
    namespace = work.claim["metadata"]["namespace"]
    secret = work.cache.informers.store(kinds.SECRETS).get(namespace, names.identity_secret(work.name))
    realm = (work.claim.get("status") or {}).get("realm")
    if realm is None and (secret is None or secret not in work.owned):
        return ""
    try:
        iam = work.cache.environment_of(work.claim).data.iam
    except EnvironmentInvalid as error:
        return f"the environment, which says how {realm} is reached: {error}" if realm is not None else ""
    if realm is not None and (iam.url is None or realm != realm_address(iam.url, iam.realm)):
        note = f"the lab's client and groups in {realm} stay: its environment names another realm, or none"
        await work.recorder.emit(work.claim, "Warning", "RealmLeft", "Delete", note)
    if iam.url is None:
        return ""
    manager, problem = admin(iam, work.cache.iam_view(work.claim))
    if manager is None:
        return problem or "the Secrets that say how Keycloak is reached"
    return work.identity.take_away(NamespacedName(namespace, work.name), access_to(iam.url, iam.realm, manager), step)


async def _sessions(work: Teardown) -> str:
    """Sessions, and their namespaces: volumes stay in use until those are gone."""
    if unread := _unread(work.cache):
        return unread
    left = work.of_kind(kinds.WORKSHOP_SESSIONS)
    for session in left:
        await work.delete(session)
    if left:
        return describe(left[0])
    if not work.holds_name:
        return ""
    declared = {session["name"] for session in (work.claim["spec"].get("sessions") or []) if isinstance(session, dict)}
    for session in sorted(declared):
        for namespace in names.session_namespaces(work.name, session):
            found = work.namespace(namespace)
            if found is not None and _made_by_session(found):
                return _going(found)
    return ""


def _unread(cache: Cache) -> str:
    """The first kind of the runtime of which nobody knows what there is, so that a lab seems to have none; empty: none.

    Who begins to lead knows nothing from before.
    """
    for kind in RUNTIME_KINDS:
        if (error := cache.informers.unreadable(kind)) is not None:
            return f"{kind}, which cannot be read: {error}"
        if not cache.informers.synced(kind) and cache.informers.store(kinds.CRDS).get("", kind.crd) is not None:
            return f"the API server to serve {kind}"
    return ""


async def _storage(work: Teardown) -> str:
    """Databases, stores and home directories: marked and kept, or deleted, what runs before what it runs on."""
    durable = [obj for obj in work.owned if is_durable(work.name, obj)]
    if work.retains:
        for obj in durable:
            await retain(work.client, work.cache.informers.store(resource_of(obj)), obj)
        return ""
    left = [obj for obj in durable if RETAINED not in (obj["metadata"].get("labels") or {})]
    running = [obj for obj in left if obj["kind"] in STORES] or left
    for obj in running:
        await work.delete(obj)
    return describe(running[0]) if running else ""


async def _runtime(work: Teardown) -> str:
    """The environment with its namespace; kept, marked, while that namespace holds anything durable."""
    if not work.holds_name:
        for workshop in work.of_kind(kinds.WORKSHOPS):
            await work.delete(workshop)
        return ""
    namespace = names.workshop_namespace(work.name)
    environments = work.of_kind(kinds.WORKSHOP_ENVIRONMENTS)
    durable = [
        obj
        for kind in (kinds.VOLUME_CLAIMS, *STORE_KINDS)
        for obj in work.cache.informers.store(kind)
        if obj["metadata"]["namespace"] == namespace
        and is_planned(obj)
        and is_durable(work.name, obj)
        and not obj["metadata"].get("deletionTimestamp")
    ]
    if durable:
        for obj in work.owned:
            if obj["kind"] != kinds.SECRETS.kind or obj["metadata"]["namespace"] == namespace:
                await retain(work.client, work.cache.informers.store(resource_of(obj)), obj)
        return ""
    if any("deletionTimestamp" not in environment["metadata"] for environment in environments):
        left = await durable_left(work.client, work.cache, work.name, retains=work.retains)
        if left:
            return left
    for environment in environments:
        await work.delete(environment)
    if environments:
        return describe(environments[0])
    # Before the namespace is gone: should that never be, and the step be skipped, this would bar the name for others.
    for workshop in work.of_kind(kinds.WORKSHOPS):
        await work.delete(workshop)
    found = work.namespace(namespace)
    if found is not None and _made_by_environment(found):
        return _going(found)
    return ""


async def durable_left(client: Client, cache: Cache, lab: str, *, retains: bool) -> str:
    """The first thing that would be lost with the namespace of this lab, asked of the API server; empty: nothing.

    Caches are not enough to delete by: they forget a kind that is not served for a moment, and may be behind. Where an
    operator was uninstalled with its kind, volumes are left that do not say whose they are; a lab that `retains` keeps
    them.
    """
    gone = ""
    for kind in (kinds.VOLUME_CLAIMS, *STORE_KINDS):
        try:
            found, _ = await client.list(kind, names.workshop_namespace(lab), labelSelector=OURS.label_selector)
        except NotFound:
            if cache.informers.store(kinds.CRDS).get("", kind.crd) is None:
                gone = gone or str(kind)
                continue  # no such kind, no such object
            return f"the API server to serve {kind}"
        for obj in found:
            if is_durable(lab, obj) and is_planned(obj) and not obj["metadata"].get("deletionTimestamp"):
                return describe(obj)
    if retains and gone:
        volumes, _ = await client.list(kinds.VOLUME_CLAIMS, names.workshop_namespace(lab))
        for volume in volumes:
            if not is_planned(volume) and not volume["metadata"].get("deletionTimestamp"):
                advice = f"install the operator of {gone} again, or delete what need not be kept"
                return f"{describe(volume)}, which may hold data of a kind that is not served any more: {advice}"
    return ""


async def _credentials(work: Teardown) -> str:
    """The lab's login and credentials, then the runtime's copy of them, which would outlive its source."""
    name = names.credentials(work.name)
    if left := await _beside(work, names.login(work.name)) or await _beside(work, name):
        return left
    store = work.cache.informers.store(kinds.SECRETS)
    copy = store.get(names.workshop_namespace(work.name), name)
    # Without an environment of ours the namespace is going, or somebody else's.
    if copy is not None and work.of_kind(kinds.WORKSHOP_ENVIRONMENTS):
        await work.delete(copy)
        return describe(copy)
    secret = store.get(names.workshop_namespace(work.name), names.identity_secret_copy(work.name))
    if secret is not None and secret in work.owned:
        await work.delete(secret)
        return describe(secret)
    return ""


async def _beside(work: Teardown, name: str) -> str:
    """One Secret of the lab beside its claim: a deletion that orphans what the claim owns would leave it there."""
    secret = work.cache.informers.store(kinds.SECRETS).get(work.claim["metadata"]["namespace"], name)
    if secret is None or secret not in work.owned:
        return ""
    await work.delete(secret)
    return describe(secret)


STEPS: dict[str, Callable[[Teardown], Awaitable[str]]] = {
    "access": _access,
    "sessions": _sessions,
    "storage": _storage,
    "runtime": _runtime,
    "credentials": _credentials,
    "identity": _identity,
}
"""In order. Each returns what it still waits for, empty when it is done."""


def _retains(cache: Cache, claim: Manifest) -> bool:
    """Whether volumes are kept; they are where the environment cannot be read any more."""
    try:
        return resolve(claim, cache.chosen_environment(claim)).retains
    except (ClaimInvalid, EnvironmentInvalid, pydantic.ValidationError):
        return True


def _going(namespace: Manifest) -> str:
    held = remaining(namespace)
    return f"Namespace {namespace['metadata']['name']}" + (f": {held}" if held else "")


def _made_by_session(namespace: Manifest) -> bool:
    return any(owner.get("kind") == "WorkshopSession" for owner in namespace["metadata"].get("ownerReferences") or ())


def _made_by_environment(namespace: Manifest) -> bool:
    owners = namespace["metadata"].get("ownerReferences") or ()
    return any(owner.get("kind") == "WorkshopEnvironment" for owner in owners)
