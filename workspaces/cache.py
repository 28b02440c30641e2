"""What is known of the cluster: the objects that make up workspaces, kept by watches. No query makes a request."""

import asyncio
import datetime
import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import structlog

from datalabd.api.meta import Manifest
from datalabd.api.storage import Storage
from datalabd.errors import Denied, KubeError
from datalabd.kube import resources as kinds
from datalabd.kube.client import Client, path
from datalabd.kube.informers import EVERYWHERE, Informers
from datalabd.kube.resources import Resource
from datalabd.kube.store import Scope
from datalabd.live import text
from workspaces.sharing import Sharing

log = structlog.get_logger()

USAGE_KINDS = (kinds.RESOURCE_QUOTAS, kinds.VOLUME_CLAIMS)
"""Watched in the whole cluster, where that is granted: they are in the workspaces' own namespaces."""
RETRY_SECONDS = 2
"""When to ask again what is not known yet."""

Listener = Callable[[Resource, Manifest | None, Manifest | None, Sequence[Storage]], None]
"""Called with every change of an object: its kind, and the object before and after; of a Storage, these as read too."""


class Unknown(Exception):
    """What was asked for is not known yet; it may be in a moment."""

    def __init__(self, kind: Resource) -> None:
        super().__init__(f"the {kind.kind}s are not listed yet")
        self.kind = kind


class Cache:
    """Storages, Datalabs and Secrets of one namespace; quotas and volume claims of all; which kinds there are."""

    def __init__(self, client: Client, informers: Informers, namespace: str) -> None:
        self.informers = informers
        self.namespace = namespace
        self._client = client
        self._scope = Scope(namespace)
        self._fields: frozenset[str] = frozenset()
        self._fields_of = ""
        """Version of the CRD that they were read from."""
        self._reading: asyncio.Task[None] | None = None
        self.sharing = Sharing()
        """Who shares which bucket with whom."""
        self._shared: dict[str, str] = {}
        """What a workspace's partners are known by, where somebody has asked since one of them changed."""
        self._listeners: list[Listener] = []
        for kind in (kinds.STORAGES, kinds.DATALABS, kinds.SECRETS, *USAGE_KINDS):
            informers.store(kind).subscribe_changes(partial(self._changed, kind))

    def start(self) -> None:
        """Begin to watch."""
        watch = self.informers.watch
        watch(kinds.CRDS)
        for kind in (kinds.STORAGES, kinds.DATALABS):
            watch(kind, self._scope, optional=True)
        watch(kinds.SECRETS, self._scope, optional=True)
        for kind in USAGE_KINDS:
            watch(kind, EVERYWHERE, optional=True)
        self.informers.store(kinds.CRDS).subscribe(self._crd_changed)
        self.informers.subscribe(self._forget_refused)

    async def stop(self) -> None:
        """Watch no more."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        await self.informers.stop()

    def _forget_refused(self) -> None:
        """Hold nothing any more that we may not read by now, of the kinds that answers do without."""
        for kind, scope in ((kinds.SECRETS, self._scope), *((kind, EVERYWHERE) for kind in USAGE_KINDS)):
            if isinstance(self.informers.unreadable(kind), Denied):
                self.informers.store(kind).drop(scope)

    def on_change(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` for every change from now on, until what is returned is called."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _changed(self, kind: Resource, before: Manifest | None, after: Manifest | None) -> None:
        storages: Sequence[Storage] = ()
        if kind == kinds.STORAGES:
            name = (after or before or {})["metadata"]["name"]
            was = self.sharing.get(name)
            if after is not None:
                self.sharing.put(after)
            else:
                self.sharing.remove(name)
            storages = [storage for storage in (was, self.sharing.get(name)) if storage is not None]
            for partner in self.sharing.partners(storages):
                self._shared.pop(partner, None)
        for listener in list(self._listeners):
            listener(kind, before, after, storages)

    def versions(self, workspace: str) -> str:
        """What the state of a workspace is known by: its Storage, its Datalab, and whoever shares something with it."""
        if (shared := self._shared.get(workspace)) is None:
            own = self.sharing.get(workspace)
            partners = set() if own is None else self.sharing.partners([own]) - {workspace}
            known = [f"{name} {self._version(kinds.STORAGES, name)}" for name in sorted(partners)]
            shared = self._shared[workspace] = hashlib.sha256("\n".join(known).encode()).hexdigest()[:16]
        return "/".join([*(self._version(kind, workspace) for kind in (kinds.STORAGES, kinds.DATALABS)), shared])

    def _version(self, kind: Resource, name: str) -> str:
        return text(self.get(kind, name) or {}, "metadata", "resourceVersion")

    # --- what can be told

    def missing(self) -> list[str]:
        """What is to be known before requests should be sent here; empty if all is."""
        found = []
        for kind in (kinds.STORAGES, kinds.DATALABS, kinds.SECRETS):
            if not (self.is_known(kind) or (kind == kinds.SECRETS and self.withheld(kind))):
                found.append(f"{kind} of namespace {self.namespace} {self._not_listed(kind, self._scope)}")
        if not self.has(kinds.STORAGES):
            found.append(f"{kinds.STORAGES.crd} is not installed")
        if not self.are_crds_known:
            found.append(f"{kinds.CRDS} are not listed")
        return found

    def _not_listed(self, kind: Resource, scope: Scope) -> str:
        return "are not listed" if self.informers.denied(kind, scope) is None else "may not be listed"

    def has(self, kind: Resource) -> bool:
        """Whether the cluster has a kind, as far as is known."""
        return self.informers.served(kind)

    def is_known(self, kind: Resource) -> bool:
        """Whether objects of a kind are listed, or there is no such kind."""
        return self.informers.synced(kind, self._scope) or not self.has(kind)

    def withheld(self, kind: Resource) -> KubeError | None:
        """Why nothing is known of a kind that answers do without; None if it is known, or may be in a moment."""
        return None if self.informers.synced(kind, self._scope) else self.informers.unreadable(kind)

    def require(self, *needed: Resource) -> None:
        """Raise `Unknown` unless these kinds are known: what is not listed is not absent."""
        for kind in needed:
            if not self.is_known(kind):
                raise Unknown(kind)

    @property
    def lost_at(self) -> datetime.datetime | None:
        """Since when no change of a workspace is heard of; None while they are."""
        return self.informers.lost_at(kinds.STORAGES, kinds.DATALABS)

    # --- objects

    def storages(self) -> list[Manifest]:
        """All Storages, by name."""
        return self.informers.store(kinds.STORAGES).within(self.namespace)

    def datalabs(self) -> list[Manifest]:
        """All Datalabs, by name."""
        return self.informers.store(kinds.DATALABS).within(self.namespace)

    def get(self, kind: Resource, name: str) -> Manifest | None:
        """An object of the namespace."""
        return self.informers.store(kind).get(self.namespace, name)

    def secret(self, name: str) -> Manifest | None:
        """A Secret of the namespace."""
        return self.get(kinds.SECRETS, name)

    def usage(self, workspace: str) -> tuple[list[Manifest], list[Manifest]] | None:
        """Quotas and volume claims of a workspace's own namespace; None where they may not be read."""
        if not all(self.informers.synced(kind) for kind in USAGE_KINDS):
            return None
        quotas, claims = (self.informers.store(kind).within(workspace) for kind in USAGE_KINDS)
        return quotas, claims

    def volumes(self, workspace: str) -> list[str]:
        """Names of the volume claims of a workspace's own namespace; [] where they may not be read."""
        return [claim["metadata"]["name"] for claim in (self.usage(workspace) or ((), ()))[1]]

    # --- kinds

    @property
    def are_crds_known(self) -> bool:
        """Whether it is known which kinds there are, as far as we may know: none is found where we may not."""
        return self.informers.synced(kinds.CRDS) or self.informers.denied(kinds.CRDS, EVERYWHERE) is not None

    @property
    def crds(self) -> frozenset[str]:
        """Names of the CustomResourceDefinitions there are."""
        return frozenset(crd["metadata"]["name"] for crd in self.informers.store(kinds.CRDS))

    @property
    def datalab_fields(self) -> frozenset[str]:
        """Fields that the schema of a Datalab's spec has."""
        return self._fields

    def _crd_changed(self, crd: Manifest) -> None:
        metadata = crd["metadata"]
        if metadata["name"] != kinds.DATALABS.crd:
            return
        if self.informers.store(kinds.CRDS).get("", metadata["name"]) is None:
            self._fields, self._fields_of = frozenset(), ""
        elif metadata["resourceVersion"] != self._fields_of and (self._reading is None or self._reading.done()):
            self._reading = asyncio.create_task(self._read_fields())

    async def _read_fields(self) -> None:
        """Read the Datalab's schema until it is that of the CRD's current version."""
        pause = 1.0
        while (known := self.informers.store(kinds.CRDS).get("", kinds.DATALABS.crd)) is not None:
            if known["metadata"]["resourceVersion"] == self._fields_of:
                return
            version = known["metadata"]["resourceVersion"]
            try:
                crd = await self._client.request("GET", path(kinds.CRDS, "", kinds.DATALABS.crd))
            except KubeError as error:
                log.warning("schema not read", resource=kinds.DATALABS.crd, error=str(error))
                await asyncio.sleep(pause)
                pause = min(pause * 2, 60.0)
                continue
            self._fields, self._fields_of = spec_fields(crd), version


def spec_fields(crd: Manifest) -> frozenset[str]:
    """Fields of `spec` in the schema of v1beta2, else of the first version that is served."""
    versions: list[dict[str, Any]] = [one for one in crd["spec"]["versions"] if one.get("served")]
    wanted = kinds.DATALABS.api_version.rpartition("/")[2]
    for version in sorted(versions, key=lambda one: one["name"] != wanted):
        schema = (version.get("schema") or {}).get("openAPIV3Schema") or {}
        spec = (schema.get("properties") or {}).get("spec") or {}
        return frozenset(spec.get("properties") or ())
    return frozenset()
