"""Backups on demand and restores of PostgreSQL servers: asked for by annotation, carried out by PGO.

A restore overwrites what is there, so one is asked for once for each nonce: what is done stands in an annotation of the
PostgresCluster itself, which outlives the claim as the data does.
"""

import datetime
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass

from datalabd.api.meta import BACKUP, RESTORE, Manifest, items
from datalabd.lab import Lab
from datalabd.stores import RESTORED, DatabaseFacts

REPOSITORY = "repo1"
PGO = "postgres-operator.crunchydata.com"
_NONCE = r"(?P<nonce>[A-Za-z0-9._-]{1,63})"
_TIME = r"(?:@(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d)))?"
BACKUP_REQUEST = re.compile(rf"(?P<host>[a-z0-9-]{{1,63}})/{_NONCE}")
RESTORE_REQUEST = re.compile(rf"(?P<host>[a-z0-9-]{{1,63}})(?:=(?P<source>[a-z0-9-]{{1,63}}))?/{_NONCE}{_TIME}")


@dataclass(frozen=True)
class Restore:
    """One request: from which server's backups, for which nonce, and up to when (UTC); None: all there is."""

    source: str | None
    """The server whose backups a new one starts from; None: its own, in place."""
    nonce: str
    time: datetime.datetime | None


def backups(annotations: dict[str, str]) -> Mapping[str, str]:
    """Requested nonces of backups by host: `<host>/<nonce>`, comma-separated."""
    return _backups(annotations.get(BACKUP, ""))


@functools.lru_cache(maxsize=64)
def _backups(said: str) -> Mapping[str, str]:
    found = (BACKUP_REQUEST.fullmatch(item) for item in items(said))
    return {item["host"]: item["nonce"] for item in found if item}


def restores(annotations: dict[str, str]) -> Mapping[str, Restore]:
    """Requested restores by host: `<host>[=<source>]/<nonce>[@<time>]`, comma-separated; times as in RFC 3339."""
    return _restores(annotations.get(RESTORE, ""))


@functools.lru_cache(maxsize=64)
def _restores(said: str) -> Mapping[str, Restore]:
    found = {}
    for match in (RESTORE_REQUEST.fullmatch(item) for item in items(said)):
        if match is None:
            continue
        try:
            time = datetime.datetime.fromisoformat(match["time"]).astimezone(datetime.UTC) if match["time"] else None
        except (ValueError, OverflowError):
            continue
        found[match["host"]] = Restore(match["source"], match["nonce"], time)
    return found


def annotations(lab: Lab, host: str, seen: DatabaseFacts) -> dict[str, str]:
    """What a PostgresCluster is asked for, and every restore in place that it has heeded."""
    asked = {}
    if nonce := backups(lab.claim.metadata.annotations).get(host):
        asked[f"{PGO}/pgbackrest-backup"] = nonce
    if running := _running(seen):
        asked[f"{PGO}/pgbackrest-restore"] = running[0]
    elif restore := _in_place(lab, host, seen):
        asked[f"{PGO}/pgbackrest-restore"] = restore.nonce
    heeded = seen.restored
    requested = restores(lab.claim.metadata.annotations).get(host)
    if seen.age_seconds is None and requested is not None and requested.source is None:
        heeded = (requested.nonce,)  # a server that is only made now was not meant: it has nothing to go back to
    return asked | ({RESTORED: ",".join(heeded)} if heeded else {})


def pgbackrest(lab: Lab, host: str, seen: DatabaseFacts) -> Manifest:
    """The part of `backups.pgbackrest` that says how."""
    asked: Manifest = {}
    if host in backups(lab.claim.metadata.annotations):
        asked["manual"] = {"repoName": REPOSITORY, "options": ["--type=full"]}
    if running := _running(seen):
        asked["restore"] = running[1]
    elif restore := _in_place(lab, host, seen):
        asked["restore"] = {"enabled": True, "repoName": REPOSITORY} | _options(restore)
    return asked


def data_source(lab: Lab, host: str, seen: DatabaseFacts) -> Manifest:
    """What a new server starts from; taken away once it has, as PGO would start from it again after a restore."""
    restore = restores(lab.claim.metadata.annotations).get(host)
    if restore is None or restore.source is None:
        return {}
    if seen.age_seconds is not None and (seen.has_data or not seen.starts_from_another):
        return {}
    source: Manifest = {"clusterName": restore.source, "repoName": REPOSITORY} | _options(restore)
    return {"dataSource": {"postgresCluster": source}}


def _running(seen: DatabaseFacts) -> tuple[str, Manifest] | None:
    """The restore that PGO is at: withdrawn half-way, it would leave a server without its data."""
    if seen.restoring.state != "Running" or seen.restore_asked is None:
        return None
    return seen.restoring.nonce, seen.restore_asked


def _in_place(lab: Lab, host: str, seen: DatabaseFacts) -> Restore | None:
    """The restore a server is to be asked for: only one that has backups, and only once."""
    restore = restores(lab.claim.metadata.annotations).get(host)
    if restore is None or restore.source is not None or restore.nonce in seen.restored:
        return None
    # While it is at it, the host of its backups comes and goes.
    return restore if seen.has_backups or seen.restoring.nonce == restore.nonce else None


def _options(restore: Restore) -> Manifest:
    if restore.time is None:
        return {}
    # PGO hands options to a shell: the time has a space.
    return {"options": ["--type=time", f'--target="{restore.time:%Y-%m-%d %H:%M:%S}+00"']}
