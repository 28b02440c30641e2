"""What wakes whom: every change in the caches becomes the key of the claim it concerns. Workers run while we lead."""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial

from controllers.controller import Controller
from controllers.datalab import DatalabReconciler, writing
from controllers.identity import RESYNC_SECONDS, IdentityReconciler
from controllers.wakeups import EARLY, PLANNED, matters
from controllers.workqueue import Workqueue
from datalabd import names
from datalabd.api.meta import Manifest, NamespacedName, claim_of, is_planned
from datalabd.kube import resources as kinds
from datalabd.kube.cache import OPTIONAL_KINDS, OWNED_KINDS, RUNTIME_KINDS, Cache
from datalabd.kube.client import Client
from datalabd.kube.events import Recorder
from datalabd.kube.resources import Resource
from datalabd.kube.store import Scope, key_of
from datalabd.live import objects, text
from datalabd.observed import ENVIRONMENT_LABEL, STORE_SECRETS, Phase, phase_of

Keys = Iterable[NamespacedName]

PAUSE_SECONDS = 0.25
"""Between two passes over one lab: what others answer to our writes is looked at together."""

IDENTITY_WORKERS = 4
"""Labs that Keycloak is told of at once: enough to keep it busy, and few enough to leave it time for logins."""


class Manager:
    """Subscribes to the stores and runs the workers."""

    def __init__(
        self, client: Client, cache: Cache, workers: int, identity_resync_seconds: float = RESYNC_SECONDS
    ) -> None:
        self._cache = cache
        self._queue: Workqueue[NamespacedName] = Workqueue("datalab", PAUSE_SECONDS)
        identities: Workqueue[NamespacedName] = Workqueue("identity")
        self._identity = IdentityReconciler(identities, self._queue.add, identity_resync_seconds)
        self._identity_controller = Controller("identity", self._identity.reconcile, identities, IDENTITY_WORKERS)
        self._reconciler = DatalabReconciler(
            client, cache, Recorder(client), self._identity, self._queue.add_after, self._queue.cover
        )
        self._controller = Controller(
            "datalab",
            self._reconciler.reconcile,
            self._queue,
            workers,
            lambda: cache.informers.until_current(kinds.DATALABS),
        )
        self._subscribe()

    async def lead(self) -> None:
        """Reconcile every claim, then whatever changes, until cancelled."""
        self._identity.begin()
        self._reconciler.begin()
        for claim in self._cache.claims():
            self._queue.add(key_of(claim))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._controller.run())
                group.create_task(self._identity_controller.run())
        finally:
            await self._identity.aclose()

    def _subscribe(self) -> None:
        self._cache.informers.store(kinds.DATALABS).subscribe_changes(self._claim_changed)
        self._on(kinds.ENVIRONMENT_CONFIGS, self._choosing)
        self._on(kinds.CROSSPLANE_ENVIRONMENTS, self._choosing)
        self._on(kinds.NAMESPACES, lambda namespace: self._cache.deriving(namespace["metadata"]["name"]))
        self._on(kinds.SECRETS, self._reading)
        self._on(kinds.VOLUMES, self._bound)
        self._on(kinds.ENDPOINT_SLICES, lambda _: self._all())
        for kind in (*OWNED_KINDS, kinds.DEPLOYMENTS, kinds.INGRESSES):
            if kind != kinds.SECRETS:
                self._on(kind, self._concerned)
        self._on(kinds.STATEFUL_SETS, lambda pods: self._named(pods["metadata"]["namespace"]))
        for kind in (*RUNTIME_KINDS, *OPTIONAL_KINDS, kinds.SECRETS, kinds.STATEFUL_SETS):
            self._cache.informers.store(kind).subscribe_synced(partial(self._scope_synced, kind))
        self._cache.informers.subscribe(self._wake_all)
        self._cache.routes.subscribe(self._route_changed)

    def _wake(self, key: NamespacedName) -> None:
        """Have a lab looked at anew, by the pass over it that is under way if there is one that made this change."""
        self._reconciler.changed(key)
        if key != writing.get():
            self._queue.add(key)

    def _route_changed(self, _: Manifest, hosts: frozenset[str], namespaces: frozenset[str]) -> None:
        """Wake the labs whose hosts a route names, or whose namespace it leads into, or did.

        Also the lab in whose namespace the route is, which may have some of its hosts from there and not others.
        """
        below = tuple(f".{domain}" for domain in self._cache.domains().values())
        reached = [host for host in hosts if below and host.endswith(below)]
        owners = {owner for host in reached for owner in names.host_owners(host.partition(".")[0])}
        owners.update(namespaces)  # a lab is called as its namespace
        if any(host.startswith("*") for host in reached):
            owners.update(claim["metadata"]["name"] for claim in self._cache.claims())
        for owner in owners:
            for key in self._named(owner):
                self._wake(key)

    def _on(self, resource: Resource, keys_of: Callable[[Manifest], Keys]) -> None:
        def listener(before: Manifest | None, after: Manifest | None) -> None:
            obj = after or before
            if obj is None or not matters(resource, before, after):
                return
            if before is None and self._is_unread(resource, obj):
                return
            keys = set(keys_of(obj))
            if before is not None and before["metadata"].get("labels") != obj["metadata"].get("labels"):
                keys.update(keys_of(before))  # it may have been a lab's by its labels alone
            for key in keys:
                if not (before is None and self._comes_early(resource, obj, key)):
                    self._wake(key)

        self._cache.informers.store(resource).subscribe_changes(listener)

    def _is_unread(self, resource: Resource, obj: Manifest) -> bool:
        """Whether no pass looks at an object that appears: it has our labels, and nothing else of ours."""
        if is_planned(obj):
            return False
        if resource == kinds.SECRETS:
            return not (obj["metadata"]["name"].endswith(STORE_SECRETS) or self._cache.reading(obj))
        return resource in PLANNED

    def _comes_early(self, resource: Resource, obj: Manifest, key: NamespacedName) -> bool:
        """Whether an object appears because the runtime is at work, which will say when that is done."""
        claim = self._cache.claim(key)
        if resource not in EARLY or claim is None or claim["metadata"].get("deletionTimestamp"):
            return False
        metadata = obj["metadata"]
        name = metadata["name"] if resource in (kinds.NAMESPACES, kinds.DEPLOYMENTS) else metadata["namespace"]
        kind = kinds.WORKSHOP_ENVIRONMENTS if name == key.name else kinds.WORKSHOP_SESSIONS
        maker = self._cache.informers.store(kind).get("", name)
        if maker is None or phase_of(maker) is not Phase.PENDING:
            return False
        owners = objects(metadata, "ownerReferences")
        return resource != kinds.NAMESPACES or any(owner.get("uid") == maker["metadata"]["uid"] for owner in owners)

    def _scope_synced(self, resource: Resource, scope: Scope) -> None:
        for key in self._cache.followers(resource, scope):
            self._wake(key)

    def _wake_all(self) -> None:
        for key in self._all():
            self._wake(key)

    def _all(self) -> Keys:
        return [key_of(claim) for claim in self._cache.claims()]

    def _named(self, name: str) -> Keys:
        return [key_of(claim) for claim in self._cache.claims_named(name)]

    def _claim_changed(self, before: Manifest | None, after: Manifest | None) -> None:
        """Wake a claim, unless only its status changed as a pass wrote it, and those whose names depend on it."""
        claim = after or before
        if claim is None:
            return
        key = key_of(claim)
        if before is not None and after is not None and not matters(kinds.DATALABS, before, after):
            if not self._reconciler.has_said(after):
                self._wake(key)
            return
        for woken in {key, *self._named(key.name), *self._reconciler.waiting_for(key)}:
            self._wake(woken)

    def _choosing(self, environment: Manifest) -> Keys:
        return self._cache.choosing(environment["metadata"]["name"])

    def _concerned(self, obj: Manifest) -> Keys:
        """The claim whose object this is, by our labels or by those the runtime sets; else the one it would block."""
        if (key := self._owner(obj)) is not None:
            return [key]
        metadata = obj["metadata"]
        if obj["kind"] == kinds.WORKSHOP_ENVIRONMENTS.kind and (kept := claim_of(obj)) is not None:
            # The runtime of a lab that went: with it goes what kept its names from others.
            return [*self._cache.deriving(metadata["name"]), *self._reconciler.waiting_for(kept)]
        runtime = (metadata.get("labels") or {}).get(ENVIRONMENT_LABEL)
        return self._cache.deriving(runtime or metadata.get("namespace") or metadata["name"])

    def _owner(self, obj: Manifest) -> NamespacedName | None:
        """The claim that our labels name; None where there is no such claim, as when somebody changed them."""
        key = claim_of(obj)
        return key if key is not None and self._cache.claim(key) is not None else None

    def _bound(self, volume: Manifest) -> Keys:
        """The claim in whose workshop namespace a volume is used, as soon as the volume's claim there names it."""
        namespace, name = (text(volume, "spec", "claimRef", key) for key in ("namespace", "name"))
        user = self._cache.get("PersistentVolumeClaim", namespace, name)
        return self._named(namespace) if text(user, "spec", "volumeName") == volume["metadata"]["name"] else []

    def _reading(self, secret: Manifest) -> Keys:
        """Claims of the Secret's namespace or lab, and those that read it from a shared one."""
        if (key := self._owner(secret)) is not None:
            return [key]
        return self._cache.reading(secret)
