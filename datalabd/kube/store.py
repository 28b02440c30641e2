"""The cache that reflectors feed and everything else reads: raw objects by name, per resource."""

import sys
from collections.abc import Callable, Hashable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from hashlib import blake2b
from typing import Any, Generic, NamedTuple, TypeVar

import orjson

from datalabd import metrics, names
from datalabd.api.meta import CLAIM_UID, FIELD_MANAGER, Manifest, NamespacedName, is_planned
from datalabd.kube.resources import NETWORK_POLICIES, WORKSHOPS, Resource
from datalabd.live import dig, objects
from datalabd.routes.index import outline

Listener = Callable[[Manifest], None]
"""Called with every object that appeared, changed or vanished (its last known form)."""
ChangeListener = Callable[[Manifest | None, Manifest | None], None]
"""The same, with the object before and after; None where it was not there, or is not."""


Entry = TypeVar("Entry", bound=Hashable)


class Scope(NamedTuple):
    """The part of a resource that one reflector lists and watches."""

    namespace: str = ""
    label_selector: str = ""
    field_selector: str = ""

    @property
    def params(self) -> dict[str, str]:
        """Query parameters of list and watch."""
        return {
            key: value
            for key, value in (("labelSelector", self.label_selector), ("fieldSelector", self.field_selector))
            if value
        }


PLANNED_DATA, OTHERS_DATA = 256 * 1024, 32 * 1024
"""The most that is held of what a Secret or ConfigMap contains, kept by us or not: of more, nothing is. Anybody who
may write them in a namespace that we watch could fill our memory otherwise; logins and keys are much smaller."""
METADATA = 32 * 1024
"""The most that is held of its metadata, in bytes of JSON: of more, only who it is, so that it counts as nobody's."""
_IDENTITY = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp")


class Store:
    """Objects of one resource. Read-only for all but its reflectors: what is returned must not be changed."""

    def __init__(self, resource: Resource) -> None:
        self.resource = resource
        self._parts = Parts()
        self._objects: dict[NamespacedName, Manifest] = {}
        self._by_uid: dict[str, set[NamespacedName]] = {}
        self._by_namespace: dict[str, set[NamespacedName]] = {}
        self._scopes: dict[Scope, set[NamespacedName]] = {}
        self._listeners: list[Listener] = []
        self._change_listeners: list[ChangeListener] = []
        self._sync_listeners: list[Callable[[Scope], None]] = []
        self._last_deletion = 0
        """Highest resourceVersion of the deletions seen."""
        metrics.STORE_OBJECTS.labels(resource=str(resource)).set_function(self.__len__)

    def __iter__(self) -> Iterator[Manifest]:
        return iter(list(self._objects.values()))

    def __len__(self) -> int:
        return len(self._objects)

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` for every object that changes from now on."""
        self._listeners.append(listener)

    def subscribe_changes(self, listener: ChangeListener) -> None:
        """Call `listener` likewise, with what was before."""
        self._change_listeners.append(listener)

    def subscribe_synced(self, listener: Callable[[Scope], None]) -> None:
        """Call `listener` whenever a scope can be believed for the first time, or again after it was dropped."""
        self._sync_listeners.append(listener)

    def get(self, namespace: str, name: str) -> Manifest | None:
        """The cached object, None where there is none."""
        return self._objects.get(NamespacedName(namespace, name))

    def owned_by(self, uid: str) -> list[Manifest]:
        """Objects that carry the uid of this claim."""
        return [self._objects[key] for key in sorted(self._by_uid.get(uid, ()))]

    def within(self, namespace: str) -> list[Manifest]:
        """Objects of one namespace."""
        return [self._objects[key] for key in sorted(self._by_namespace.get(namespace, ()))]

    def synced(self, scope: Scope) -> bool:
        """Whether this scope has been listed since its reflector began."""
        return scope in self._scopes

    def replace(self, scope: Scope, objects: list[Manifest], *, are_kept: bool = False) -> None:
        """Set the contents of a scope to a fresh list; tells listeners what differs, vanished objects too.

        `are_kept` says that `kept` was called for each already.
        """
        listed = {key_of(obj): obj if are_kept else self.kept(obj) for obj in objects}
        first = scope not in self._scopes
        before = self._scopes.get(scope, set())
        self._scopes[scope] = set(listed)
        for key in before - listed.keys():
            self._remove(key)
        for key, obj in listed.items():
            old = self._objects.get(key)
            if old is None or old["metadata"].get("resourceVersion") != obj["metadata"].get("resourceVersion"):
                self._put(key, obj)
        if first:
            for listener in self._sync_listeners:
                listener(scope)

    def update(self, scope: Scope, kind: str, obj: Manifest) -> None:
        """Take one watch event; one that is older than the answer to a write of ours changes nothing."""
        if scope not in self._scopes:
            return  # dropped while the event was on its way
        key = key_of(obj)
        if kind == "DELETED":
            # Another scope may still have it: it only ceased to be what this one selects. If it went, that is told too.
            self._scopes[scope].discard(key)
            self._last_deletion = max(self._last_deletion, _version(obj))
            self._remove(key, self.kept(obj))
        else:
            self._scopes[scope].add(key)
            # The same version again is the echo of a write of ours, or what another scope has told of already.
            if key not in self._objects or _version(self._objects[key]) < _version(obj):
                self._put(key, self.kept(obj))

    def observe(self, obj: Manifest) -> None:
        """Take the answer to a write of ours at once, so that the next pass does not act on what it replaced.

        Never moves backwards: an older answer that arrives after its watch event, or after the object's deletion, is
        dropped. Only objects of a scope that is being watched are kept, so that their deletion will be seen.
        """
        key = key_of(obj)
        scope = next((scope for scope, keys in self._scopes.items() if key in keys or _covers(scope, obj)), None)
        known = _version(self._objects[key]) if key in self._objects else self._last_deletion
        if scope is None or known >= _version(obj):
            return
        self._scopes[scope].add(key)
        self._put(key, self.kept(obj))

    def drop(self, scope: Scope) -> None:
        """Forget a scope whose reflector has stopped, or whose kind is no longer served."""
        for key in self._scopes.pop(scope, set()):
            self._remove(key)

    def kept(self, obj: Manifest) -> Manifest:
        """What is held of an object; what it has in common with others is held once."""
        if self.resource.hosts_only:
            return outline(obj)
        trimmed = _bounded(trim(obj)) if self.resource.may_be_large else trim(obj)
        if self.resource.status_only:
            trimmed.pop("spec", None)
        self._parts.share_in(trimmed, _WHAT)
        self._parts.share_in(trimmed["metadata"], _ALIKE)
        if self.resource == NETWORK_POLICIES:
            self._share_whole(trimmed)
        if self.resource == WORKSHOPS:
            for part in ("session", "environment"):
                for made in objects(trimmed, "spec", part, "objects"):
                    self._share_whole(made)
        return trimmed

    def _share_whole(self, obj: Manifest) -> None:
        """Hold once all that an object may have in common with those of the same name elsewhere."""
        self._parts.share_in(obj, obj.keys() - {"metadata"})
        self._parts.share_in(dig(obj, "metadata"), _ALIKE | {"annotations"})

    def _put(self, key: NamespacedName, obj: Manifest) -> None:
        before = self._objects.get(key)
        if before is not None:
            # Whoever remembers a part of the object as it was holds no second copy of what did not change.
            obj = _as_before(before, obj) | {"metadata": _as_before(before["metadata"], obj["metadata"])}
        if before is None or _claim_uid(before) != _claim_uid(obj):
            self._unindex(key)
            self._by_namespace.setdefault(key.namespace, set()).add(key)
            if uid := _claim_uid(obj):
                self._by_uid.setdefault(uid, set()).add(key)
        self._objects[key] = obj
        self._tell(before, obj)

    def _remove(self, key: NamespacedName, last: Manifest | None = None) -> None:
        if any(key in keys for keys in self._scopes.values()):
            return  # another scope still covers it
        gone = last or self._objects[key]
        self._unindex(key)
        self._objects.pop(key, None)
        self._tell(gone, None)

    def _unindex(self, key: NamespacedName) -> None:
        old = self._objects.get(key)
        if old is None:
            return
        _forget(self._by_namespace, key.namespace, key)
        if uid := _claim_uid(old):
            _forget(self._by_uid, uid, key)

    def _tell(self, before: Manifest | None, after: Manifest | None) -> None:
        if (obj := after or before) is None:
            return
        for listener in self._listeners:
            listener(obj)
        for tell in self._change_listeners:
            tell(before, after)


class Parts:
    """Parts that many objects have alike; one that nothing was like for long is forgotten here, not in its objects."""

    def __init__(self, most: int = 4096) -> None:
        self._most = most
        self._recent: dict[bytes, Any] = {}
        self._older: dict[bytes, Any] = {}

    def share_in(self, obj: Manifest, fields: AbstractSet[str]) -> None:
        """Have an object hold shared parts in these fields."""
        for field in fields & obj.keys():
            obj[field] = self.share(obj[field])

    def share(self, part: Any) -> Any:
        """This part, or one that is equal to it and held already; itself, if it is nested too deep to be compared."""
        if isinstance(part, str):
            return sys.intern(part)
        try:
            key = blake2b(orjson.dumps(part), digest_size=16).digest()
        except orjson.JSONEncodeError:
            return part
        known = self._recent.get(key)
        if known is None:
            known = self._recent[key] = self._older.get(key, part)
            if len(self._recent) > self._most:
                self._older, self._recent = self._recent, {}
        return known


class Index(Generic[Entry]):
    """Objects of a store by something that stands in them; kept current by the store."""

    def __init__(self, store: Store, entries_of: Callable[[Manifest], Iterable[Entry]]) -> None:
        self._store = store
        self._entries_of = entries_of
        self._keys: dict[Entry, set[NamespacedName]] = {}
        self._entries: dict[NamespacedName, frozenset[Entry]] = {}
        for obj in store:
            self._changed(obj)
        store.subscribe(self._changed)

    def __iter__(self) -> Iterator[Entry]:
        """What stands in any object."""
        return iter(self._keys)

    def get(self, entry: Entry) -> list[NamespacedName]:
        """Keys of the objects in which this stands, sorted."""
        return sorted(self._keys.get(entry, ()))

    def count(self, entry: Entry) -> int:
        """In how many objects this stands."""
        return len(self._keys.get(entry, ()))

    def _changed(self, obj: Manifest) -> None:
        key = key_of(obj)
        live = self._store.get(*key)
        before, now = self._entries.get(key, frozenset()), frozenset(() if live is None else self._entries_of(live))
        if now == before:
            return
        self._entries.pop(key, None)
        for entry in before - now:
            _forget(self._keys, entry, key)
        for entry in now - before:
            self._keys.setdefault(entry, set()).add(key)
        if now:
            self._entries[key] = now


def _forget(index: dict[Entry, set[NamespacedName]], entry: Entry, key: NamespacedName) -> None:
    index[entry].discard(key)
    if not index[entry]:
        del index[entry]


def key_of(obj: Manifest) -> NamespacedName:
    """Namespace (empty for cluster-scoped objects) and name."""
    metadata = obj["metadata"]
    return NamespacedName(metadata.get("namespace", ""), metadata["name"])


def _as_before(before: Manifest, after: Manifest) -> Manifest:
    """What an object holds now, the values that it had before as they were held."""
    return {
        field: before[field] if field in before and before[field] == value else value for field, value in after.items()
    }


def _bounded(obj: Manifest) -> Manifest:
    """What is held of a Secret or ConfigMap, of which anybody may write as many as a quota lets him."""
    if len(orjson.dumps(obj["metadata"])) > METADATA:
        metadata = {key: value for key, value in obj["metadata"].items() if key in _IDENTITY}
        return {field: value for field, value in obj.items() if field not in _DATA} | {"metadata": metadata}
    is_looked_after = is_planned(obj) or obj["metadata"]["name"] == names.WORKSHOP_CONFIG
    if _size(obj) > (PLANNED_DATA if is_looked_after else OTHERS_DATA):
        return {field: value for field, value in obj.items() if field not in _DATA}
    return obj


def _size(obj: Manifest) -> int:
    """Characters of what a Secret or ConfigMap holds."""
    held = (obj.get(field) for field in _DATA)
    return sum(len(str(value)) for data in held if isinstance(data, dict) for value in data.values())


_DATA = ("data", "binaryData")
_ALIKE = frozenset({"labels", "ownerReferences"})
"""Metadata that all objects of a namespace may have alike: the runtime hands labels on, and owns what it makes."""
_WHAT = frozenset({"apiVersion", "kind"})
_FIRST_WRITE = [{"manager": FIELD_MANAGER, "operation": "Update"}]
_LAST_HANDLED = ("/last-handled-configuration", "/last-applied-configuration")
"""Ends of annotations in which operators and kubectl keep a second copy of the object."""


def trim(obj: Manifest) -> Manifest:
    """The object without what is large and never read: copies of itself, and who manages which field.

    Of `managedFields` one fact remains: whether fields are still held by our first write, a POST, which the API server
    books apart from our later applies (see `apply.take_over`).
    """
    metadata = dict(obj["metadata"])
    created_by_us = any(
        entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Update" and not entry.get("subresource")
        for entry in metadata.pop("managedFields", None) or []
    )
    if created_by_us:
        metadata["managedFields"] = _FIRST_WRITE
    if (annotations := metadata.get("annotations")) and any(key.endswith(_LAST_HANDLED) for key in annotations):
        # That there is one stays known: by that, Educates knows what it has handled.
        metadata["annotations"] = {
            key: "" if key.endswith(_LAST_HANDLED) else text for key, text in annotations.items()
        }
    return obj | {"metadata": metadata}


def _covers(scope: Scope, obj: Manifest) -> bool:
    """Whether an object would be listed by a scope; only equality on labels and fields is judged."""
    if scope.namespace and scope.namespace != obj["metadata"].get("namespace", ""):
        return False
    labels = obj["metadata"].get("labels") or {}
    return all(labels.get(key) == value for key, value in _terms(scope.label_selector)) and all(
        _field(obj, key) == value for key, value in _terms(scope.field_selector)
    )


def _terms(selector: str) -> Iterator[tuple[str, str]]:
    for term in selector.split(",") if selector else ():
        key, _, value = term.partition("=")
        yield key, value


def _field(obj: Manifest, path: str) -> Any:
    found: Any = obj
    for key in path.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _version(obj: Manifest) -> int:
    """resourceVersions compare as integers: promised since Kubernetes 1.35 (KEP-5504), true in practice before."""
    return int(obj["metadata"].get("resourceVersion") or 0)


def _claim_uid(obj: Manifest) -> str | None:
    return (obj["metadata"].get("labels") or {}).get(CLAIM_UID)
