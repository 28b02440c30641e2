"""Refuses what annotations ask for and nobody would do: rotations, backups and restores of what is not declared, steps
of a deletion that there are not, protection in a word that does not protect.

Asked only when an annotation changes: one that has been heeded may outlive what it speaks of.
"""

from collections.abc import Callable, Iterator

from datalabd.api.environment import EnvironmentConfig, Login
from datalabd.api.meta import (
    ABANDON,
    ANNOTATION_MAX,
    BACKUP,
    PROTECT,
    RESTORE,
    ROTATE,
    TEARDOWN_STEPS,
    FieldError,
    Manifest,
    Problem,
    items,
    shorten,
)
from datalabd.plan import backups, rotation
from datalabd.status import stalled_step


def errors(claim: Manifest, old: Manifest | None, environment: EnvironmentConfig | None = None) -> list[FieldError]:
    """One for each request that will not be heeded."""
    before, now = _annotations(old), _annotations(claim)
    changed = {key: now[key] for key in CHECKS if key in now and now[key] != before.get(key)}
    return [
        FieldError(f"metadata.annotations[{key}]", Problem.TOO_LONG, None, f"must have at most {ANNOTATION_MAX} bytes")
        for key, said in changed.items()
        if len(said) > ANNOTATION_MAX
    ] + [
        FieldError(f"metadata.annotations[{key}]", Problem.INVALID, shorten(item), problem)
        for key, said in changed.items()
        for item in ([said] if key == PROTECT else items(said))
        # Steps that were skipped before this one are still to be.
        if key != ABANDON or item not in items(before.get(key, ""))
        if (problem := next(CHECKS[key](claim, item), None) or _not_had(item, key, environment))
    ]


def warnings(claim: Manifest, old: Manifest | None) -> list[str]:
    """What a new request overwrites."""
    before, now = _annotations(old).get(RESTORE, ""), _annotations(claim).get(RESTORE, "")
    known = backups.restores({RESTORE: before})
    return [
        f"restores {host} in place, to {restore.time or 'the last moment saved'}: what was written since is lost"
        for host, restore in backups.restores({RESTORE: now}).items()
        if restore.source is None and known.get(host) != restore
    ]


def _not_had(item: str, key: str, environment: EnvironmentConfig | None) -> str:
    kind = item.partition("/")[0]
    if key != ROTATE or environment is None:
        return ""
    auth = environment.data.auth
    if kind == "login" and (auth.type.is_delegated or auth.login is not Login.GENERATED):
        return f"this lab has no login of its own: see auth of environment {environment.name}"
    if kind == "client" and environment.data.iam.url is None:
        return f"this lab has no client in Keycloak: environment {environment.name} names none (iam.url)"
    return ""


def _rotation(claim: Manifest, item: str) -> Iterator[str]:
    match = rotation.REQUEST.fullmatch(item)
    if match is None:
        kinds = ", ".join(rotation.KINDS)
        form = f"must be <kind>/<name>/<nonce> with a kind of {kinds}, as in postgres/pg0/1"
        yield f"{form}; login and client have the lab's name"
        return
    fields = {"postgres": "databases", "mongodb": "documentStores", "redis": "cacheStores", "qdrant": "vectorStores"}
    if match["kind"] in ("login", "client"):
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
    else:
        # A new server may be declared later; the one it starts from has to run.
        yield from _undeclared(claim, match["source"] or match["host"])


def _abandonment(claim: Manifest, item: str) -> Iterator[str]:
    """A step that has not been given its time would leave sessions that run on without a claim."""
    stalled = stalled_step(claim) if claim["metadata"].get("deletionTimestamp") else ""
    if item not in TEARDOWN_STEPS:
        yield f"there is no such step of a deletion: supported values: {', '.join(TEARDOWN_STEPS)}"
    elif item != stalled:
        now = f"this one has stalled at {stalled}" if stalled else "this claim has no deletion that has stalled"
        yield f"only the step at which a deletion has stalled, by condition Stalled, can be skipped; {now}"


def _protection(_: Manifest, said: str) -> Iterator[str]:
    """Of the whole annotation: the policy that protects compares it as it is."""
    if said not in ("true", "false"):
        yield 'must be "true" or "false"'


def _undeclared(claim: Manifest, host: str) -> Iterator[str]:
    declared = sorted(_spec(claim).get("databases") or ())
    if host not in declared:
        yield f"spec.databases has no {host}; it has {', '.join(declared) or 'none'}"


CHECKS: dict[str, Callable[[Manifest, str], Iterator[str]]] = {
    ROTATE: _rotation,
    BACKUP: _backup,
    RESTORE: _restore,
    ABANDON: _abandonment,
    PROTECT: _protection,
}


def _annotations(claim: Manifest | None) -> dict[str, str]:
    return ((claim or {}).get("metadata") or {}).get("annotations") or {}


def _spec(claim: Manifest) -> Manifest:
    spec = claim.get("spec")
    return spec if isinstance(spec, dict) else {}
