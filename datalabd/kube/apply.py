"""Desired objects made live: first by POST, later by server-side apply, never over what is somebody else's."""

from dataclasses import dataclass, field
from typing import Any

from datalabd.api import quantity
from datalabd.api.meta import (
    APPLIED,
    CLAIM_NAME,
    CLAIM_NAMESPACE,
    FIELD_MANAGER,
    RETAINED,
    V1BETA2,
    Manifest,
)
from datalabd.api.v1beta2 import CONDITIONS
from datalabd.errors import Conflict, Foreign, NotFound
from datalabd.kube.client import JSON_PATCH, Client
from datalabd.kube.fights import Fights, rival
from datalabd.kube.resources import Resource, resource_of
from datalabd.kube.store import Store
from datalabd.plan.metadata import EARLIER_LAB, digest, other_owner
from datalabd.stores import POSTGRES, VECTOR_STORE


@dataclass
class Written:
    """What one pass did to the cluster."""

    created: list[str] = field(default_factory=list)
    applied: list[str] = field(default_factory=list)
    pruned: list[str] = field(default_factory=list)
    unchanged: int = 0
    in_order: dict[str, tuple[Manifest, Manifest]] = field(default_factory=dict)
    """Live objects that were found to be as they are to be, with what that was."""

    def __bool__(self) -> bool:
        return bool(self.created or self.applied or self.pruned)


async def converge(
    client: Client, store: Store, manifest: Manifest, written: Written, fights: Fights, *, create_only: bool = False
) -> Manifest | None:
    """The live object, equal to `manifest` in every field that sets; with `create_only` as whoever came first made it.

    Sends nothing where the cached object already agrees, nor while `fights` has it wait; None: there is no object then.
    Raises `Foreign` where an object of that name is not this claim's, `Conflict` where it changes under us.
    """
    resource = resource_of(manifest)
    metadata = manifest["metadata"]
    what, wish = describe(manifest), metadata["annotations"][APPLIED]
    live = store.get(metadata.get("namespace", ""), metadata["name"])
    if live is None:
        if fights.must_wait(what, wish):
            return None
        try:
            created = await client.create(resource, manifest)
        except Conflict:
            live = await client.get(resource, metadata.get("namespace", ""), metadata["name"])
        else:
            written.created.append(what)
            fights.wrote(what, wish)
            store.observe(created)
            return created
    require_ours(live, manifest)
    if create_only or _is_in_order(live, manifest, written):
        written.unchanged += 1
        return live
    if live["metadata"].get("deletionTimestamp"):
        raise Conflict(409, "Deleting", f"{what} is being deleted")
    if fights.must_wait(what, wish):
        return live
    if fights.wants_rival(what):
        found = await client.get(resource, metadata.get("namespace", ""), metadata["name"])
        fights.name_rival(what, rival(found, manifest))
    await take_over(client, resource, live)
    target = _sent(manifest, live) | {"metadata": metadata | {"uid": live["metadata"]["uid"]}}
    after = await client.apply(resource, target)
    # Whoever else put these on owns them: an apply that leaves them out takes away only what was ours.
    added = dict.fromkeys(_added(after, manifest))
    if added or RETAINED in (after["metadata"].get("labels") or {}):
        body: Manifest = {"metadata": {"uid": live["metadata"]["uid"], "labels": {RETAINED: None}}}
        body |= {"data": added} if added else {}
        after = await client.patch(resource, metadata.get("namespace", ""), metadata["name"], body)
    written.applied.append(what)
    fights.wrote(what, wish, reached=agrees(after, manifest))
    store.observe(after)
    return after


def _is_in_order(live: Manifest, manifest: Manifest, written: Written) -> bool:
    """Whether nothing is to be written; a pass plans again from what it has written, and most comes to the same."""
    known, what = written.in_order, describe(manifest)
    if what in known and known[what][0] is live and known[what][1] == manifest:
        return True
    if not agrees(live, manifest) or RETAINED in (live["metadata"].get("labels") or {}):
        return False
    known[what] = (live, manifest)
    return True


def _sent(desired: Any, live: Any) -> Any:
    """What an apply sends: all but the empty maps and lists that the server dropped.

    It books their owner all the same, forgets him, and so takes every such apply for a change.
    """
    if not isinstance(desired, dict) or not isinstance(live, dict):
        return desired
    return {key: _sent(value, live.get(key)) for key, value in desired.items() if value not in ({}, []) or key in live}


def require_ours(live: Manifest, desired: Manifest) -> None:
    """Raise `Foreign` unless `live` is this claim's, or was retained from an earlier one of its name and namespace."""
    owner = other_owner(live, desired)
    if owner == EARLIER_LAB:
        want = desired["metadata"]["labels"]
        owner += f"; see what it left: datalabd purge {want[CLAIM_NAMESPACE]}/{want[CLAIM_NAME]} --unmarked"
    if owner:
        raise Foreign(describe(live), owner)


def agrees(live: Manifest, desired: Manifest) -> bool:
    """Whether a live object has everything `desired` sets; its digest tells whether something set before is to go."""
    return _covers(live, desired, ()) and not _added(live, desired)


def _added(live: Manifest, desired: Manifest) -> set[str]:
    """Keys of a Secret that are not ours: what reads it takes some it knows for settings, as csi-rclone does."""
    if desired.get("kind") != "Secret":
        return set()
    return set(live.get("data") or {}) - set(desired.get("data") or {})


def _covers(live: Any, desired: Any, where: tuple[str, ...]) -> bool:
    if live == desired:
        return True  # most parts of most objects, compared without a call for each value
    if isinstance(desired, dict):
        return isinstance(live, dict) and all(
            # An empty value and an absent one are the same to a server that drops empty maps and lists.
            _covers(live[key], value, (*where, key)) if key in live else value in ({}, [])
            for key, value in desired.items()
        )
    if isinstance(desired, list):
        return (
            isinstance(live, list)
            and len(live) == len(desired)
            and all(_covers(have, want, where) for have, want in zip(live, desired, strict=True))
        )
    return where[-2:] == ("requests", "storage") and _same_size(live, desired)


def _same_size(live: Any, desired: Any) -> bool:
    """Whether two sizes are one: the API server rewrites `1024Mi` as `1Gi`."""
    size = quantity.held(live)
    return size is not None and size == quantity.held(desired)


async def take_over(client: Client, resource: Resource, live: Manifest) -> None:
    """Hand the fields of our first write to our applies.

    The API server books a POST as operation Update and an apply as Apply, two owners of one name: without this step a
    field that the first write set and a later apply leaves out would stay for ever.
    """
    if not live["metadata"].get("managedFields"):
        return
    namespace, name = live["metadata"].get("namespace", ""), live["metadata"]["name"]
    fresh = (await client.get(resource, namespace, name))["metadata"]
    ours: Manifest = {}
    others = []
    for entry in fresh.get("managedFields") or []:
        if entry.get("manager") == FIELD_MANAGER and not entry.get("subresource"):
            ours = entry | {"operation": "Apply", "fieldsV1": _union(ours.get("fieldsV1", {}), entry["fieldsV1"])}
        else:
            others.append(entry)
    await client.patch(
        resource,
        namespace,
        name,
        [
            {"op": "test", "path": "/metadata/uid", "value": live["metadata"]["uid"]},
            {"op": "test", "path": "/metadata/resourceVersion", "value": fresh["resourceVersion"]},
            {"op": "replace", "path": "/metadata/managedFields", "value": [*others, ours]},
        ],
        JSON_PATCH,
    )


def _union(left: Manifest, right: Manifest) -> Manifest:
    return left | {key: _union(left[key], value) if key in left else value for key, value in right.items()}


async def retain(client: Client, store: Store, obj: Manifest) -> None:
    """Mark an object as kept although nothing declares it any more."""
    metadata = obj["metadata"]
    if RETAINED in (metadata.get("labels") or {}):
        return
    body: Manifest = {"metadata": {"uid": metadata["uid"], "labels": {RETAINED: "true"}}}
    # Two operators offer to keep a store without running it.
    if obj["kind"] == POSTGRES:
        body["spec"] = {"shutdown": True}
    elif obj["kind"] == VECTOR_STORE:
        body["spec"] = {"replicas": 0}
    try:
        after = await client.patch(resource_of(obj), metadata.get("namespace", ""), metadata["name"], body)
    except NotFound:
        return  # gone by itself: nothing to keep
    store.observe(after)


async def write_status(
    client: Client, store: Store, claim: Manifest, wanted: Manifest, fights: Fights | None = None
) -> bool:
    """Whether the claim's status was written to become `wanted`; conditions of types that we do not know stay.

    It is not while `fights` has it wait.
    """
    if wanted == our_status(claim):
        return False
    metadata = claim["metadata"]
    what, wish = f"status of {describe(claim)}", digest(wanted)
    if fights is not None and fights.must_wait(what, wish):
        return False
    body = {
        "apiVersion": V1BETA2,
        "kind": "Datalab",
        "metadata": {key: metadata[key] for key in ("name", "namespace", "uid")},
        "status": wanted,
    }
    try:
        after = await client.apply(resource_of(body), body, subresource="status")
        if our_status(after) != wanted:
            # What others put there is theirs, and an apply takes away only what was ours.
            foreign = [known for known in after["status"].get("conditions") or () if known["type"] not in CONDITIONS]
            whole = wanted | {"conditions": [*wanted["conditions"], *foreign]}
            after = await client.patch(
                resource_of(body),
                metadata["namespace"],
                metadata["name"],
                [
                    {"op": "test", "path": "/metadata/resourceVersion", "value": after["metadata"]["resourceVersion"]},
                    {"op": "replace", "path": "/status", "value": whole},
                ],
                JSON_PATCH,
                subresource="status",
            )
    except NotFound:
        return False  # the claim was deleted meanwhile
    if fights is not None:
        fights.wrote(what, wish, reached=our_status(after) == wanted)
    store.observe(after)
    return True


def our_status(claim: Manifest) -> Manifest | None:
    """The status of a claim without the conditions of others."""
    status: Manifest | None = claim.get("status")
    conditions = (status or {}).get("conditions")
    if not status or conditions is None or all(known["type"] in CONDITIONS for known in conditions):
        return status
    return status | {"conditions": [known for known in conditions if known["type"] in CONDITIONS]}


def describe(obj: Manifest) -> str:
    """An object as a person would name it: `Secret default/s-jane-datalab`."""
    metadata = obj["metadata"]
    namespace = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
    return f"{obj['kind']} {namespace}{metadata['name']}"
