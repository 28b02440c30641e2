"""JSON Patches of what an edit changes, each with a test of what was read. Pure."""

from collections.abc import Mapping, Sized
from dataclasses import dataclass, field
from typing import Any

import orjson

from datalabd.api.meta import Manifest
from datalabd.api.storage import entries
from datalabd.live import dig, text
from workspaces.problems import Location, problem

ITEMS_MAX = 1000
"""Buckets, requests, decisions and members of one workspace, each: those that are there stay, but none is added."""

Operation = dict[str, Any]
"""Of a JSON Patch (RFC 6902)."""


def patch(before: Manifest, after: Manifest) -> list[Operation]:
    """What makes the one the other, of this very object in this very version; empty: nothing."""
    found = _changes("", before, after)
    if not found:
        return []
    metadata = before["metadata"]
    return [_test(f"/metadata/{member}", metadata[member]) for member in ("uid", "resourceVersion")] + found


def _changes(path: str, before: Any, after: Any) -> list[Operation]:
    if isinstance(before, dict) and isinstance(after, dict):
        return _in_object(path, before, after)
    if isinstance(before, list) and isinstance(after, list):
        return _in_list(path, before, after)
    if same(before, after):
        return []
    return [_test(path, before), {"op": "replace", "path": path, "value": after}]


def _in_object(path: str, before: Manifest, after: Manifest) -> list[Operation]:
    found: list[Operation] = []
    for key in sorted(before.keys() | after.keys()):
        where = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
        if key not in after:
            found += [_test(where, before[key]), {"op": "remove", "path": where}]
        elif key not in before:
            found.append({"op": "add", "path": where, "value": after[key]})
        else:
            found += _changes(where, before[key], after[key])
    return found


def _in_list(path: str, before: list[Any], after: list[Any]) -> list[Operation]:
    """What lies between a common beginning and a common end is compared pair by pair; the rest leaves or comes."""
    shorter = min(len(before), len(after))
    start = next((at for at in range(shorter) if not same(before[at], after[at])), shorter)
    end = next(
        (at for at in range(shorter - start) if not same(before[-1 - at], after[-1 - at])),
        shorter - start,
    )
    old, new = before[start : len(before) - end], after[start : len(after) - end]
    found: list[Operation] = []
    for at, (was, becomes) in enumerate(zip(old, new, strict=False), start):
        found += _changes(f"{path}/{at}", was, becomes)
    for at in reversed(range(start + len(new), start + len(old))):
        found += [_test(f"{path}/{at}", before[at]), {"op": "remove", "path": f"{path}/{at}"}]
    for at in range(start + len(old), start + len(new)):
        found.append({"op": "add", "path": f"{path}/{at if end else '-'}", "value": after[at]})
    return found


def same(one: Any, other: Any) -> bool:
    """Whether both are the same JSON; unlike in Python, `true` is not 1."""
    return one is other or orjson.dumps(one, option=_SORTED) == orjson.dumps(other, option=_SORTED)


_SORTED = orjson.OPT_SORT_KEYS


def _test(path: str, value: Any) -> Operation:
    return {"op": "test", "path": path, "value": value}


@dataclass
class Draft:
    """A workspace's two objects as they are to be, beside what was read of them."""

    read_storage: Manifest
    read_datalab: Manifest | None
    words: dict[Location, Location] = field(default_factory=dict)
    """Where the body said what now stands at a path of one of the objects."""
    warnings: list[str] = field(default_factory=list)
    """What was asked for and has no effect."""
    storage: Manifest = field(init=False)
    datalab: Manifest | None = field(init=False)

    def __post_init__(self) -> None:
        self.storage = orjson.loads(orjson.dumps(self.read_storage))
        self.datalab = orjson.loads(orjson.dumps(self.read_datalab))

    @property
    def name(self) -> str:
        """The workspace's."""
        return text(self.read_storage, "metadata", "name")

    @property
    def storage_patch(self) -> list[Operation]:
        """What is to be written of the Storage; empty: nothing."""
        return patch(self.read_storage, self.storage)

    @property
    def datalab_patch(self) -> list[Operation]:
        """What is to be written of the Datalab; empty: nothing."""
        if self.read_datalab is None or self.datalab is None:
            return []
        return patch(self.read_datalab, self.datalab)


def listed(obj: Manifest, name: str) -> list[Any]:
    """The list of that name in `spec`, to be edited; whatever else stands there is replaced by an empty one."""
    spec = obj["spec"] = dig(obj, "spec")
    if not isinstance(spec.get(name), list):
        spec[name] = []
    found: list[Any] = spec[name]
    return found


def mapped(obj: Manifest, name: str) -> dict[str, Any]:
    """The map of that name in `spec`, to be edited; whatever else stands there is replaced by an empty one."""
    spec = obj["spec"] = dig(obj, "spec")
    spec[name] = dig(spec, name)
    found: dict[str, Any] = spec[name]
    return found


def annotate(obj: Manifest, annotation: str, value: str) -> None:
    """Set an annotation, or take it away: an empty one says nothing."""
    metadata = obj["metadata"]
    known = dig(metadata, "annotations")
    if value:
        metadata["annotations"] = known | {annotation: value}
    elif annotation in known:
        del known[annotation]


def set_entry(obj: Manifest, annotation: str, key: str, value: str) -> None:
    """Set one text of an annotation that holds a JSON object, or take it away if it is empty."""
    set_entries(obj, annotation, entries(obj, annotation) | {key: value})


def set_entries(obj: Manifest, annotation: str, said: Mapping[str, str]) -> None:
    """Have an annotation hold these texts as a JSON object, without those that are empty; no change where it does."""
    kept = {name: value for name, value in said.items() if value}
    if kept != {name: value for name, value in entries(obj, annotation).items() if value}:
        annotate(obj, annotation, orjson.dumps(kept, option=_SORTED).decode() if kept else "")


def require_room(items: Sized, what: str) -> None:
    """Raise `Problem` where a list of an object may not become longer."""
    if len(items) >= ITEMS_MAX:
        raise problem(422, "limit_exceeded", what=what, max=ITEMS_MAX)
