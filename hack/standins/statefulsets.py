"""What operators of stores have in common: each turns objects of a kind into StatefulSets and what goes with them."""

import base64
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import partial
from typing import Any

from datalabd.api.meta import Manifest, NamespacedName
from datalabd.errors import NotFound
from datalabd.kube.apply import agrees
from datalabd.kube.client import APPLY_PATCH, Client, path
from datalabd.kube.resources import CONFIG_MAPS, SECRETS, SERVICE_ACCOUNTS, STATEFUL_SETS, Resource
from datalabd.kube.store import key_of
from hack.standins.operator import Operator

SERVICES = Resource("v1", "services", "Service")
RESYNC_SECONDS = 10.0
"""How often the operators look again at what they wait for."""


class StoreOperator(Operator, ABC):
    """Calls `sync` for every object of a kind: when it or its StatefulSet changes, and again and again in between."""

    def __init__(
        self, client: Client, manager: str, resource: Resource, resync_seconds: float = RESYNC_SECONDS
    ) -> None:
        super().__init__(client, manager)
        self._resource = resource
        self._resync_seconds = resync_seconds
        self.objects = self.watch(resource, self.changed)
        self.stateful_sets = self.watch(STATEFUL_SETS, self._owned_changed)
        beside = (SERVICES, SERVICE_ACCOUNTS, SECRETS, CONFIG_MAPS)
        self._children = {STATEFUL_SETS: self.stateful_sets} | {kind: self.watch(kind, _passed) for kind in beside}
        self._applied: dict[tuple[Resource, NamespacedName], Manifest] = {}
        """What was asked for last of each child."""

    @abstractmethod
    async def sync(self, live: Manifest) -> None:
        """Make what the object asks for; an error of the API server leaves it at that until the next time."""

    def changed(self, live: Manifest) -> None:
        """Sync this object soon."""
        key = key_of(live)
        self.schedule(key, partial(self._sync, key))

    def _owned_changed(self, obj: Manifest) -> None:
        for owner in obj["metadata"].get("ownerReferences") or []:
            if owner["kind"] == self._resource.kind:
                key = NamespacedName(obj["metadata"]["namespace"], owner["name"])
                self.schedule(key, partial(self._sync, key))

    async def _sync(self, key: NamespacedName) -> None:
        live = self.objects.get(*key)
        if live is None:
            return
        again = ("again", key)  # another key: an event must not have to wait for it
        self.schedule(again, partial(self._again, key), self._resync_seconds)
        await self.sync(live)

    async def _again(self, key: NamespacedName) -> None:
        self.schedule(key, partial(self._sync, key))

    async def read(self, resource: Resource, namespace: str, name: str) -> Manifest | None:
        """The object, None where there is none: what a cache does not know may have been made just now."""
        store = self._children.get(resource)
        if store is not None and (known := store.get(namespace, name)) is not None:
            return known
        try:
            return await self.client.get(resource, namespace, name)
        except NotFound:
            return None

    async def apply(self, owner: Manifest, manifest: Manifest) -> Manifest:
        """The child of `owner` after a server-side apply, which is left out if it would change nothing."""
        metadata = manifest["metadata"] | {
            "namespace": owner["metadata"]["namespace"],
            "ownerReferences": [controller(owner)],
        }
        manifest = manifest | {"metadata": metadata}
        resource, key = await self.resource_for(manifest), key_of(manifest)
        store = self._children.get(resource)
        known = store.get(*key) if store is not None else None
        if known is not None and self._applied.get((resource, key)) == manifest and agrees(known, manifest):
            return known
        made = await self.client.request(
            "PATCH",
            path(resource, *key),
            params={"fieldManager": self._manager, "force": "true"},
            body=manifest,
            content_type=APPLY_PATCH,
        )
        self._applied[resource, key] = manifest
        if store is not None:
            store.observe(made)
        return made

    async def add_finalizer(self, live: Manifest, finalizer: str) -> None:
        """Have deletions wait for this operator."""
        present = live["metadata"].get("finalizers") or []
        if finalizer not in present:
            await self._set_finalizers(live, [*present, finalizer])

    async def remove_finalizer(self, live: Manifest, finalizer: str) -> None:
        """Let the deletion go on."""
        present = live["metadata"].get("finalizers") or []
        if finalizer in present:
            await self._set_finalizers(live, [entry for entry in present if entry != finalizer])

    async def _set_finalizers(self, live: Manifest, finalizers: list[str]) -> None:
        metadata = {"resourceVersion": live["metadata"]["resourceVersion"], "finalizers": finalizers}
        await self.patch(self._resource, *key_of(live), {"metadata": metadata})


def _passed(_: Manifest) -> None:
    """Nothing is to be done about a child: it is looked at again and again."""


def controller(owner: Manifest) -> Manifest:
    """The reference by which a child is its owner's; unlike kopf, these operators hand no labels on by it."""
    reference = {key: owner[key] for key in ("apiVersion", "kind")}
    return reference | {
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def secret(name: str, values: Mapping[str, str], **metadata: Any) -> Manifest:
    """A Secret of these values."""
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name} | metadata, "data": data}


def values(secret: Manifest) -> dict[str, str]:
    """The decoded contents of a Secret."""
    return {key: base64.b64decode(value).decode() for key, value in (secret.get("data") or {}).items()}


def merged(base: Any, custom: Any) -> Any:
    """A spec with a user's over it: maps merged by key, lists of named things by name, the rest replaced."""
    if isinstance(base, dict) and isinstance(custom, dict):
        return base | {key: merged(base.get(key), value) for key, value in custom.items()}
    if isinstance(base, list) and isinstance(custom, list) and all(map(_name, base + custom)):
        named = {_name(item): item for item in base}
        return list((named | {_name(item): merged(named.get(_name(item)), item) for item in custom}).values())
    return custom


def _name(item: Any) -> str:
    """The name of a container, volume or claim template; empty for what has none."""
    named = item.get("metadata", item) if isinstance(item, dict) else {}
    return str(named.get("name", ""))
