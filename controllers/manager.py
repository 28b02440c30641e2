"""What wakes whom: every change in the caches becomes the key of the claim it concerns. Workers run while we lead."""

import asyncio
from collections.abc import Callable, Iterable

from controllers.controller import Controller
from controllers.datalab import DatalabReconciler
from controllers.identity import RESYNC_SECONDS, IdentityReconciler
from controllers.workqueue import Workqueue
from datalabd import names
from datalabd.api.meta import Manifest, NamespacedName, claim_of
from datalabd.kube import resources as kinds
from datalabd.kube.cache import OPTIONAL_KINDS, OWNED_KINDS, RUNTIME_KINDS, Cache
from datalabd.kube.client import Client
from datalabd.kube.events import Recorder
from datalabd.kube.informers import EVERYWHERE
from datalabd.kube.resources import Resource
from datalabd.kube.store import Scope, key_of
from datalabd.lab import environment_name
from datalabd.observed import ENVIRONMENT_LABEL

Keys = Iterable[NamespacedName]

IDENTITY_WORKERS = 4
"""Labs that Keycloak is told of at once: enough to keep it busy, and few enough to leave it time for logins."""


class Manager:
    """Subscribes to the stores and runs the workers."""

    def __init__(
        self, client: Client, cache: Cache, workers: int, identity_resync_seconds: float = RESYNC_SECONDS
    ) -> None:
        self._cache = cache
        self._queue: Workqueue[NamespacedName] = Workqueue("datalab")
        identities: Workqueue[NamespacedName] = Workqueue("identity")
        self._identity = IdentityReconciler(identities, self._queue.add, identity_resync_seconds)
        self._identity_controller = Controller("identity", self._identity.reconcile, identities, IDENTITY_WORKERS)
        self._reconciler = DatalabReconciler(client, cache, Recorder(client), self._identity, self._queue.add_after)
        self._controller = Controller("datalab", self._reconciler.reconcile, self._queue, workers)
        self._subscribe()

    async def lead(self) -> None:
        """Reconcile every claim, then whatever changes, until cancelled."""
        self._identity.begin()
        for claim in self._cache.claims():
            self._queue.add(key_of(claim))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._controller.run())
                group.create_task(self._identity_controller.run())
        finally:
            await self._identity.aclose()

    def _subscribe(self) -> None:
        self._on(kinds.DATALABS, self._competing)
        self._on(kinds.ENVIRONMENT_CONFIGS, self._choosing)
        self._on(kinds.CROSSPLANE_ENVIRONMENTS, self._choosing)
        self._on(kinds.NAMESPACES, lambda namespace: self._deriving(namespace["metadata"]["name"]))
        self._on(kinds.SECRETS, self._reading)
        self._on(kinds.VOLUMES, self._bound)
        self._on(kinds.ENDPOINT_SLICES, lambda _: self._all())
        for kind in (*OWNED_KINDS, kinds.DEPLOYMENTS, kinds.INGRESSES):
            if kind != kinds.SECRETS:
                self._on(kind, self._concerned)
        self._on(kinds.STATEFUL_SETS, lambda pods: self._named(pods["metadata"]["namespace"]))
        for kind in (*RUNTIME_KINDS, *OPTIONAL_KINDS, kinds.SECRETS, kinds.STATEFUL_SETS):
            self._cache.informers.store(kind).subscribe_synced(self._scope_synced)
        self._cache.informers.subscribe(lambda: self._scope_synced(EVERYWHERE))

    def _on(self, resource: Resource, keys_of: Callable[[Manifest], Keys]) -> None:
        def listener(obj: Manifest) -> None:
            for key in keys_of(obj):
                self._queue.add(key)

        self._cache.informers.store(resource).subscribe(listener)

    def _scope_synced(self, _: Scope) -> None:
        for key in self._all():
            self._queue.add(key)

    def _all(self) -> Keys:
        return [key_of(claim) for claim in self._cache.claims()]

    def _named(self, name: str) -> Keys:
        return [key_of(claim) for claim in self._cache.claims_named(name)]

    def _competing(self, claim: Manifest) -> Keys:
        """The claim, those that compete with it for its name, and those that may have another of its names now."""
        key = key_of(claim)
        return {key, *self._named(key.name), *self._reconciler.waiting_for(key)}

    def _choosing(self, environment: Manifest) -> Keys:
        name = environment["metadata"]["name"]
        return [key_of(claim) for claim in self._cache.claims() if environment_name(claim) == name]

    def _concerned(self, obj: Manifest) -> Keys:
        """The claim whose object this is, by our labels or by those the runtime sets; else the one it would block."""
        if (key := self._owner(obj)) is not None:
            return [key]
        metadata = obj["metadata"]
        runtime = (metadata.get("labels") or {}).get(ENVIRONMENT_LABEL)
        return self._deriving(runtime or metadata.get("namespace") or metadata["name"])

    def _owner(self, obj: Manifest) -> NamespacedName | None:
        """The claim that our labels name; None where there is no such claim, as when somebody changed them."""
        key = claim_of(obj)
        return key if key is not None and self._cache.claim(key) is not None else None

    def _deriving(self, name: str) -> Keys:
        """Claims that derive this name, of a namespace or of what is like one unique in the cluster."""
        return [
            key_of(claim)
            for claim in self._cache.claims()
            if name == claim["metadata"]["name"] or name.startswith(f"{claim['metadata']['name']}-")
        ]

    def _bound(self, volume: Manifest) -> Keys:
        """The claim in whose workshop namespace the volume is used."""
        return self._named((volume["spec"].get("claimRef") or {}).get("namespace", ""))

    def _reading(self, secret: Manifest) -> Keys:
        """Claims of the Secret's namespace or lab, and those that read it from a shared one."""
        if (key := self._owner(secret)) is not None:
            return [key]
        metadata = secret["metadata"]
        return [
            key_of(claim)
            for claim in self._cache.claims()
            if metadata["name"] in (name := claim["metadata"]["name"], claim["spec"].get("secretName"))
            or metadata["name"] in names.own_secrets(name)
            or metadata["namespace"] == name
            or key_of(secret) in self._cache.iam_secrets(claim)
        ]
