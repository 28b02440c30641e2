"""A workspace as its viewer may see it, put together from what the caches hold. Pure: plain objects in, JSON out.

What is odd in an object is left out; the rest of the workspace, and every other one, is told all the same.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from datalabd.api.meta import Manifest
from datalabd.api.storage import Storage, read
from datalabd.api.v1beta2 import CONCERNS, ENVIRONMENT_LOST, HOSTS_TAKEN, State
from datalabd.api.workspace import Status, stamp
from datalabd.live import annotations, condition, dig, integer, text
from datalabd.text import bounded, moment
from workspaces import buckets, members, sessions, stores
from workspaces.credentials import (
    MASK,
    SecretOf,
    lab_secret,
    registry_credentials,
    storage_credentials,
    store_credentials,
)
from workspaces.permissions import CAPS, Permission, Permissions
from workspaces.settings import Settings
from workspaces.sharing import Sharing
from workspaces.stores import Offer
from workspaces.usage import usage

View = dict[str, Any]
OURS = ("datalabs.pkg.internal/", "storages.pkg.internal/", "workspaces.pkg.internal/")
"""What our annotations begin with."""


@dataclass(frozen=True, repr=False)
class Pieces:
    """Everything one workspace is put together from. No repr: it reaches Secrets."""

    storage: Manifest
    datalab: Manifest | None
    secret: SecretOf
    quotas: Sequence[Manifest] | None = None
    """ResourceQuotas of the lab's namespace; None where they cannot be read."""
    volumes: Sequence[Manifest] | None = None
    """Its volume claims; None where they cannot be read."""
    problem: str = ""
    """What keeps some of it from being told, in a sentence."""


def view(
    pieces: Pieces,
    sharing: Sharing,
    offer: Offer,
    settings: Settings,
    allowed: Permissions,
    viewer: str,
    *,
    credentials: bool = True,
) -> View:
    """The workspace as `Workspace`, with what its viewer may not see left blank."""
    found = anybodys(pieces, sharing, offer, settings, allowed, credentials=credentials)
    return found | {"user": user(viewer, allowed)}


def user(viewer: str, allowed: Permissions) -> View:
    """Who looks at it, as `User`."""
    return {"name": viewer, "permissions": sorted(map(str, allowed))}


def anybodys(
    pieces: Pieces,
    sharing: Sharing,
    offer: Offer,
    settings: Settings,
    allowed: Permissions,
    *,
    credentials: bool = True,
) -> View:
    """The workspace as whoever has these permissions may see it: `view` says in addition who looks at it.

    Streams and pages are made without `credentials`.
    """
    storage = _storage(pieces, sharing)
    keys = storage_credentials(storage, sharing, pieces.secret, settings)
    found: View = {"name": storage.name}
    if storage.created is not None:
        found["creation_timestamp"] = stamp(storage.created)
    status = _status(pieces.storage, keys is not None)
    found |= {
        "version": text(pieces.storage, "metadata", "resourceVersion"),
        "status": str(status),
        "storage": _storage_view(storage, sharing, keys if credentials else None, allowed),
        "datalab": _datalab_view(storage, pieces, offer, settings, allowed),
    }
    if credentials and Permission.VIEW_STORES in allowed:
        found["datalab"] |= _lab_credentials(storage, pieces, sharing, offer, settings)
    if Permission.VIEW_RESOURCE_USAGE in allowed and pieces.quotas is not None and pieces.volumes is not None:
        found["resource_usage"] = usage(pieces.quotas, pieces.volumes)
    if pieces.problem:
        found["problem"] = pieces.problem
    if message := _message(_hindrances(pieces), allowed):
        found["message"] = message
    if Permission.VIEW_MEMBERS in allowed and (known := conditions(pieces.storage, pieces.datalab)):
        found["conditions"] = known
    return found


def _storage(pieces: Pieces, sharing: Sharing) -> Storage:
    """As it was read already, where that is of this very object."""
    return sharing.get(text(pieces.storage, "metadata", "name")) or read(pieces.storage)


def _storage_view(
    storage: Storage, sharing: Sharing, keys: dict[str, str] | None, allowed: Permissions
) -> dict[str, Any]:
    may_see = Permission.VIEW_BUCKETS in allowed
    found: dict[str, Any] = {"buckets": [buckets.row(bucket) for bucket in storage.buckets] if may_see else []}
    if keys is not None and Permission.VIEW_BUCKET_CREDENTIALS in allowed:
        found["credentials"] = keys
    return found | {"bucket_access_requests": sharing.access(storage.name) if may_see else []}


def _datalab_view(
    storage: Storage, pieces: Pieces, offer: Offer, settings: Settings, allowed: Permissions
) -> dict[str, Any]:
    may_see_stores = Permission.VIEW_STORES in allowed
    return {
        "memberships": members.rows(pieces.datalab, storage.created) if Permission.VIEW_MEMBERS in allowed else [],
        "available": offer.datalab,
        "available_store_types": [str(kind) for kind in offer.types],
        "stores": stores.rows(pieces.datalab, offer.types, storage.created) if may_see_stores else [],
        "sessions": sessions.rows(pieces.datalab) if Permission.VIEW_SESSIONS in allowed else [],
        "max_sessions": settings.max_sessions,
        "store_credentials": {},
    }


def _lab_credentials(
    storage: Storage, pieces: Pieces, sharing: Sharing, offer: Offer, settings: Settings
) -> dict[str, Any]:
    """Credentials of stores, and of the registry without its password."""
    values = lab_secret(storage, sharing, pieces.secret)
    found: dict[str, Any] = {"store_credentials": store_credentials(values, pieces.datalab, offer.types)}
    if registry := registry_credentials(storage, sharing, pieces.secret, settings):
        found["container_registry_credentials"] = registry | {"password": MASK}
    return found


def _status(storage: Manifest, is_whole: bool) -> Status:
    """Ready with whole credentials, unless the Storage says that it is not."""
    denied = condition(storage, "Ready", "status").get("status") == "False"
    return Status.READY if is_whole and not denied else Status.PROVISIONING


Hindrances = tuple[tuple[Permission, str], ...]
"""What may keep a workspace from being whole, each with what has to be allowed to who reads it: the first counts."""


def _hindrances(pieces: Pieces) -> Hindrances:
    not_ready = condition(pieces.storage, "Ready", "status")
    storage = text(not_ready, "message") if not_ready.get("status") == "False" else ""
    found = (Permission.VIEW_BUCKETS, bounded(storage)), (Permission.VIEW_SESSIONS, sessions.hindrance(pieces.datalab))
    return tuple((needed, message) for needed, message in found if message)


def _message(hindrances: Hindrances, allowed: Permissions) -> str:
    return next((message for needed, message in hindrances if needed in allowed), "")


def conditions(storage: Manifest, datalab: Manifest | None) -> list[View]:
    """Conditions that do not say what they should, as `ConditionView`s: those that need a person first."""
    found = [_condition("Storage", condition(storage, "Ready", "status"))]
    stalled = condition(datalab, "Stalled", "status")
    for kind in (*CONCERNS, "Synced"):
        entry = _condition("Datalab", condition(datalab, kind, "status"))
        if entry:
            cause = entry["reason"], entry["message"]
            entry["stalled"] = cause == (text(stalled, "reason"), text(stalled, "message"))
        found.append(entry)
    for kind in (HOSTS_TAKEN, ENVIRONMENT_LOST):
        found.append(_condition("Datalab", condition(datalab, kind, "status"), holds="False") | {"stalled": True})
    return sorted((entry for entry in found if "type" in entry), key=lambda entry: not entry["stalled"])


def _condition(kind: str, reported: Manifest, holds: str = "True") -> View:
    """A condition that does not say what it should; empty for one that does."""
    status, reason = text(reported, "status"), text(reported, "reason")
    if status in ("", holds) or reason == "Disabled":
        return {}
    found: View = {"object": kind, "type": text(reported, "type"), "reason": reason, "stalled": False}
    found["message"] = bounded(text(reported, "message"))
    if (since := moment(reported.get("lastTransitionTime"))) is not None:
        found["since"] = stamp(since)
    return found


def all_credentials(pieces: Pieces, sharing: Sharing, offer: Offer, settings: Settings, allowed: Permissions) -> View:
    """As `AllCredentials`, in clear: those of the storage, and with VIEW_STORES those of stores and registry."""
    storage = _storage(pieces, sharing)
    keys = storage_credentials(storage, sharing, pieces.secret, settings)
    found: View = {"storage": keys} if keys else {}
    if Permission.VIEW_STORES in allowed:
        values = lab_secret(storage, sharing, pieces.secret)
        found["store_credentials"] = store_credentials(values, pieces.datalab, offer.types)
        if registry := registry_credentials(storage, sharing, pieces.secret, settings):
            found["container_registry_credentials"] = registry
    return found


@dataclass(frozen=True, slots=True)
class Overview:
    """What lists tell of a workspace, whoever looks at them."""

    status: Status
    sessions: tuple[tuple[str, bool], ...]
    """Names of those that are to run, and whether they can be opened."""
    stopped: tuple[str, ...]
    members: int
    pending: int
    """Requests that wait for a decision."""
    hindrances: Hindrances = ()


def overview(pieces: Pieces, sharing: Sharing, settings: Settings) -> Overview:
    """What lists tell of a workspace."""
    storage = _storage(pieces, sharing)
    is_whole = storage_credentials(storage, sharing, pieces.secret, settings) is not None
    declared = sessions.rows(pieces.datalab)
    return Overview(
        _status(pieces.storage, is_whole),
        tuple((row["name"], row["ready"]) for row in declared if row["state"] == State.STARTED),
        tuple(row["name"] for row in declared if row["state"] != State.STARTED),
        len(members.names(pieces.datalab)),
        sharing.pending(storage.name),
        _hindrances(pieces),
    )


def row(name: str, of: Overview, allowed: Permissions, base: str, problem: str = "") -> View:
    """A workspace in the list, as `WorkspaceRow`.

    `base` is our address as the viewer sees it, `problem` what keeps some of it from being told, in a sentence.
    """
    url = f"{base}/workspaces/{name}"
    found: View = {"name": name, "url": url, "sessions": []}
    if Permission.VIEW_SESSIONS in allowed:
        at = f"{url}/sessions/"
        found["sessions"] = [{"name": one, "url": f"{at}{one}", "ready": ready} for one, ready in of.sessions]
        if of.stopped:
            found["stopped"] = [{"name": one, "url": f"{at}{one}"} for one in of.stopped]
    found["status"] = str(of.status)
    if Permission.VIEW_MEMBERS in allowed:
        found["members"] = of.members
    if Permission.VIEW_BUCKETS in allowed:
        found["pending"] = of.pending
    if problem:
        found["problem"] = problem
    if message := _message(of.hindrances, allowed):
        found["message"] = message
    return found


def etag(storage: Manifest, datalab: Manifest | None) -> str:
    """Names what can be written of a workspace: changes of status alone change nothing of it. In double quotes."""
    said = orjson.dumps([_version(storage), _version(datalab)], option=orjson.OPT_SORT_KEYS)
    return f'"{hashlib.sha256(said).hexdigest()[:32]}"'


def _version(obj: Manifest | None) -> list[Any]:
    ours = {name: said for name, said in annotations(obj).items() if name.startswith(OURS)}
    return [text(obj, "metadata", "uid"), integer(obj, "metadata", "generation"), ours]


_PARTS = {
    "spec": {
        "buckets": "buckets",
        "bucketAccessRequests": "requests",
        "bucketAccessGrants": "requests",
        "users": "members",
        "userOverrides": "members",
        "sessions": "sessions",
        **{kind.field: "stores" for kind in stores.KINDS.values()},
    },
    "status": {
        "sessions": "sessions",
        "users": "members",
        "conditions": "status",
        "credentials": "stores",
        "databases": "stores",
    },
}


def changed(before: Manifest | None, after: Manifest | None) -> frozenset[str]:
    """Parts of a workspace that differ between two versions of its Storage or its Datalab; none: nothing to tell."""
    found = {
        part
        for where, fields in _PARTS.items()
        for name, part in fields.items()
        if dig(before, where).get(name) != dig(after, where).get(name)
    }
    if (before is None) != (after is None):
        found.add("status")
    told = [
        {name: annotations(obj).get(name) for name in annotations(obj) if name.startswith(OURS)}
        for obj in (before, after)
    ]
    if told[0] != told[1]:
        found |= {"members"} if told[0].get(CAPS) != told[1].get(CAPS) else {"requests"}
    return frozenset(found)
