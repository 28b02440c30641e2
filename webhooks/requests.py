"""Refuses what annotations ask for and nobody would do: rotations, backups and restores of what is not declared.

Asked only when an annotation changes: one that has been heeded may outlive what it speaks of.
"""

from collections.abc import Callable, Iterator

from datalabd.api.meta import BACKUP, RESTORE, ROTATE, FieldError, Manifest, Problem, shorten
from datalabd.plan import backups, rotation


def errors(claim: Manifest, old: Manifest | None) -> list[FieldError]:
    """One for each request that will not be heeded."""
    before, now = _annotations(old), _annotations(claim)
    return [
        FieldError(f"metadata.annotations[{key}]", Problem.INVALID, shorten(item), problem)
        for key, check in CHECKS.items()
        if key in now and now[key] != before.get(key)
        for item in map(str.strip, str(now[key]).split(","))
        if (problem := next(check(claim, item), None))
    ]


def _rotation(claim: Manifest, item: str) -> Iterator[str]:
    match = rotation.REQUEST.fullmatch(item)
    if match is None:
        yield f"must be <kind>/<name>/<nonce> with a kind of {', '.join(rotation.KINDS)}, as in postgres/pg0/2026-01"
        return
    fields = {"postgres": "databases", "mongodb": "documentStores", "redis": "cacheStores", "qdrant": "vectorStores"}
    if match["kind"] == "login":
        known = [claim["metadata"].get("name")]
    elif match["kind"] in fields:
        known = list(_spec(claim).get(fields[match["kind"]]) or ())
    else:
        yield f"there is no kind {match['kind']}: supported values: {', '.join(rotation.KINDS)}"
        return
    if match["name"] not in known:
        yield f"{match['credential']} is not declared; declared: {', '.join(map(str, sorted(known))) or 'none'}"


def _backup(claim: Manifest, item: str) -> Iterator[str]:
    match = backups.BACKUP_REQUEST.fullmatch(item)
    if match is None:
        yield "must be <host>/<nonce>, as in pg0/before-upgrade"
        return
    yield from _undeclared(claim, match["host"])


def _restore(claim: Manifest, item: str) -> Iterator[str]:
    match = backups.RESTORE_REQUEST.fullmatch(item)
    if match is None or not backups.restores({RESTORE: item}):
        yield "must be <host>[=<source>]/<nonce>[@<time>], as in pg0/undo-1@2026-01-31T12:00:00Z"
        return
    if match["source"] == match["host"]:
        yield "a server cannot start from itself; leave the source out to restore it in place"
    elif match["source"] is None:
        # A new server may be declared in the same breath, or after; one restored in place is there.
        yield from _undeclared(claim, match["host"])


def _undeclared(claim: Manifest, host: str) -> Iterator[str]:
    declared = sorted(_spec(claim).get("databases") or ())
    if host not in declared:
        yield f"spec.databases has no {host}; it has {', '.join(declared) or 'none'}"


CHECKS: dict[str, Callable[[Manifest, str], Iterator[str]]] = {ROTATE: _rotation, BACKUP: _backup, RESTORE: _restore}


def _annotations(claim: Manifest | None) -> dict[str, str]:
    return ((claim or {}).get("metadata") or {}).get("annotations") or {}


def _spec(claim: Manifest) -> Manifest:
    spec = claim.get("spec")
    return spec if isinstance(spec, dict) else {}
