"""Stores of a workspace: which kinds there are, what is told of them, and how they come, are cared for and go. Pure."""

import datetime
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any, NamedTuple

from datalabd.api.meta import ANNOTATION_MAX, BACKUP, RESTORE, ROTATE, Manifest, items
from datalabd.api.workspace import StoreType, stamp
from datalabd.api.workspace_bodies import NewStore
from datalabd.live import annotations, condition, dig, text, texts
from datalabd.text import moment, timestamp
from workspaces.patches import Draft, annotate, mapped
from workspaces.problems import not_found, problem, wrong
from workspaces.settings import Settings

BACKUP_SIZE = "10Gi"
MORE = " more not ready"
"""How a condition ends that speaks of one store and counts others."""
FIRST_SERVER = "pg0"
"""Database server that is made where there is none."""


class Kind(NamedTuple):
    """What a kind of stores is to a Datalab."""

    field: str
    crd: str
    """Definition without which no operator makes them."""
    size: str
    credential: str
    """What rotations call it."""
    noun: str
    """What the condition of a lab calls one, before its key."""
    condition: str = "StoresReady"


KINDS: dict[StoreType, Kind] = {
    StoreType.DATABASE: Kind(
        "databases",
        "postgresclusters.postgres-operator.crunchydata.com",
        "1Gi",
        "postgres",
        "database server",
        "DatabasesReady",
    ),
    StoreType.VECTOR: Kind("vectorStores", "qdrantclusters.qdrant.io", "1Gi", "qdrant", "vector store"),
    StoreType.CACHE: Kind("cacheStores", "redis.redis.redis.opstreelabs.in", "1Gi", "redis", "cache store"),
    StoreType.DOCUMENT: Kind(
        "documentStores", "mongodbcommunity.mongodbcommunity.mongodb.com", "10Gi", "mongodb", "document store"
    ),
}


@dataclass(frozen=True)
class Offer:
    """What the cluster has for labs."""

    datalab: bool
    """Whether it serves Datalabs."""
    types: tuple[StoreType, ...] = ()
    """Kinds of stores that can be had."""


def offer(served: bool, crds: Set[str], fields: Set[str], settings: Settings) -> Offer:
    """What can be had where Datalabs are `served` or not, with these definitions and these fields of their `spec`."""
    found = (
        kind for kind, what in KINDS.items() if settings.offers(kind) and what.crd in crds and what.field in fields
    )
    return Offer(served, tuple(found) if served else ())


def rows(
    datalab: Manifest | None, types: Sequence[StoreType], created: datetime.datetime | None
) -> list[dict[str, Any]]:
    """The stores of these kinds as `StoreView`s; of databases that several servers have, the first."""
    at = moment(dig(datalab, "metadata").get("creationTimestamp")) or created
    since = {} if at is None else {"creation_timestamp": stamp(at)}
    found = []
    for kind in types:
        known = set()
        for key, entry in dig(datalab, "spec", KINDS[kind].field).items():
            is_database = kind is StoreType.DATABASE
            place = {"server": key} if is_database else {}
            state = _state(datalab, kind, key)
            for store in texts(entry, "names") if is_database else [key]:
                if store not in known:
                    known.add(store)
                    found.append({"name": store, "type": str(kind)} | _sizes(entry) | since | place | state)
    return found


def _state(datalab: Manifest | None, kind: StoreType, key: str) -> dict[str, Any]:
    """How a store is, and how far what was asked of it; of databases that is their server's."""
    what = KINDS[kind]
    credential = dig(datalab, "status", "credentials", f"{what.credential}/{key}")
    jobs = dig(datalab, "status", "databases", key) if kind is StoreType.DATABASE else {}
    members = {
        "credentials_since": text(credential, "since"),
        "backup": text(jobs, "backup", "state"),
        "restore": text(jobs, "restore", "state"),
    }
    found: dict[str, Any] = {member: value for member, value in members.items() if value}
    if text(credential, "rotating"):
        found["rotating"] = True
    elif text(credential, "rotation"):
        found["rotated"] = True
    return _readiness(condition(datalab, what.condition, "status"), f"{what.noun} {key}: ") | found


def _readiness(reported: Manifest, beginning: str) -> dict[str, Any]:
    """What the condition of all stores of a kind says of one: it names the first not ready, and counts others."""
    if reported.get("status") == "True":
        return {"ready": True}
    message = text(reported, "message")
    if message.startswith(beginning):
        return {"ready": False, "message": message.removeprefix(beginning)}
    if reported.get("status") == "False" and not message.endswith(MORE):
        return {"ready": True}
    return {"message": message} if message else {}


def _sizes(entry: Any) -> dict[str, str]:
    told = {"storage": text(entry, "storage").strip(), "backup_storage": text(entry, "backupStorage").strip()}
    return {member: size for member, size in told.items() if size}


def add(draft: Draft, stores: Sequence[NewStore], types: Sequence[StoreType]) -> None:
    """Add stores that are not there yet. A Datalab is there."""
    assert draft.datalab is not None
    missing = [str(kind) for kind in KINDS if kind not in types and any(new.type is kind for new in stores)]
    if missing:
        raise problem(422, "store_type_unavailable", store_types=missing)
    for index, new in enumerate(stores):
        if new.type is StoreType.DATABASE:
            _add_database(draft, index, new)
        else:
            kind = KINDS[new.type]
            known = mapped(draft.datalab, kind.field)
            draft.words[("spec", kind.field, new.name)] = ("add_stores", index, "name")
            draft.words[("spec", kind.field, new.name, "storage")] = ("add_stores", index, "storage")
            entry = known[new.name] = dig(known, new.name)
            entry.setdefault("storage", new.storage or kind.size)


def _add_database(draft: Draft, index: int, new: NewStore) -> None:
    """On the first server."""
    assert draft.datalab is not None
    servers = mapped(draft.datalab, "databases")
    if any(new.name in texts(server, "names") for server in servers.values()):
        return
    host = next(iter(servers), FIRST_SERVER)
    server = servers[host] = dig(servers, host)
    names = server["names"] = texts(server, "names")
    path = ("spec", "databases", host)
    draft.words[path] = ("add_stores", index)
    draft.words[(*path, "names", len(names))] = ("add_stores", index, "name")
    names.append(new.name)
    for member, given, default in (
        ("storage", new.storage, KINDS[StoreType.DATABASE].size),
        ("backupStorage", new.backup_storage, BACKUP_SIZE),
    ):
        if member not in server:
            server[member] = given or default
            body = "storage" if member == "storage" else "backup_storage"
            draft.words[(*path, member)] = ("add_stores", index, body)


def remove(draft: Draft, kind: StoreType, name: str) -> None:
    """Take a store out; a server goes with its last database."""
    host = _place(draft, kind, name)
    assert draft.datalab is not None
    known = mapped(draft.datalab, KINDS[kind].field)
    if kind is StoreType.DATABASE:
        left = [database for database in texts(known[host], "names") if database != name]
        if left:
            known[host]["names"] = left
            return
    del known[host]


def ask(
    draft: Draft, kind: StoreType, name: str, action: str, nonce: str, until: datetime.datetime | None = None
) -> None:
    """Ask for `rotate`, `backup` or `restore` of a store, once for the nonce; a database's server has all of them."""
    host = _place(draft, kind, name)
    assert draft.datalab is not None
    if action == "rotate":
        _request(draft.datalab, ROTATE, f"{KINDS[kind].credential}/{host}/", nonce)
        return
    if kind is not StoreType.DATABASE:
        raise wrong(("path", "type"), f"must be database: there is no {action} of others", str(kind))
    if action == "backup":
        _request(draft.datalab, BACKUP, f"{host}/", nonce)
    else:
        _request(draft.datalab, RESTORE, f"{host}/", nonce if until is None else f"{nonce}@{timestamp(until)}")


def _request(datalab: Manifest, annotation: str, what: str, nonce: str) -> None:
    """Ask for it instead of what was asked for of the same before. The oldest leave where there is no room."""
    said = annotations(datalab).get(annotation)
    kept = [
        item for item in items(said if isinstance(said, str) else "") if not item.startswith((what, what[:-1] + "="))
    ]
    asked = [*kept, f"{what}{nonce}"]
    while len(",".join(asked)) > ANNOTATION_MAX:
        del asked[0]
    annotate(datalab, annotation, ",".join(asked))


def _place(draft: Draft, kind: StoreType, name: str) -> str:
    """Key of the store in the claim's map; of a database its server's."""
    if draft.datalab is None:
        raise not_found()
    known = dig(draft.datalab, "spec", KINDS[kind].field)
    found: str | None = name if name in known else None
    if kind is StoreType.DATABASE:
        found = next((host for host, server in known.items() if name in texts(server, "names")), None)
    if found is None:
        raise problem(404, "store_not_found", type=str(kind), name=name)
    return found
