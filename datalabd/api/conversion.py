"""Datalab v1beta1 ↔ v1beta2, without loss.

v1beta1 can say two things that the hub cannot: how a session was spelled (`x`, `{name: x}`, `state: running`), and
storage classes of single database servers. The hub carries them in one annotation. Whatever is edited in the hub wins
over it: a spelling is restored only if it still means the session that is there, a class only if its server exists.

Plain dicts in and out, nothing changed in place. What a schema would refuse is passed on for the schema to refuse.
"""

import json
from typing import Any

from datalabd.api.meta import CONVERSION, V1BETA1, V1BETA2, Manifest

STATE_ALIASES = {"running": "started", "paused": "stopped"}
CLASSES = ("storageClassName", "backupStorageClassName")


def convert(obj: Manifest, api_version: str) -> Manifest:
    """The claim in the words of `api_version`; ValueError if that is no version of Datalab."""
    if api_version not in (V1BETA1, V1BETA2):
        raise ValueError(f"Datalab has no version {api_version}")
    if obj.get("apiVersion") == api_version:
        return obj
    return to_v1beta2(obj) if api_version == V1BETA2 else to_v1beta1(obj)


def to_v1beta2(claim: Manifest) -> Manifest:
    """The claim in the hub's words; one that is in them already comes back unchanged."""
    if claim.get("apiVersion") == V1BETA2:
        return claim
    spec = claim.get("spec")
    if not isinstance(spec, dict):
        return claim | {"apiVersion": V1BETA2}
    kept: Manifest = {}
    if isinstance(spec.get("sessions"), list):
        sessions = [_session(item) for item in spec["sessions"]]
        kept["sessions"] = [
            item for item, session in zip(spec["sessions"], sessions, strict=True) if _spelled(session) != item
        ]
        spec = spec | {"sessions": sessions}
    if isinstance(spec.get("databases"), dict):
        kept["databases"] = {host: classes for host, item in spec["databases"].items() if (classes := _classes(item))}
        spec = spec | {"databases": {host: _without_classes(item) for host, item in spec["databases"].items()}}
    return _annotated(
        claim | {"apiVersion": V1BETA2, "spec": spec}, {key: value for key, value in kept.items() if value}
    )


def to_v1beta1(claim: Manifest) -> Manifest:
    """The claim in the words of v1beta1; one that is in them already comes back unchanged."""
    if claim.get("apiVersion") == V1BETA1:
        return claim
    kept = _kept(claim)
    spec = claim.get("spec")
    if isinstance(spec, dict):
        if isinstance(spec.get("sessions"), list):
            originals = {_name(item): item for item in kept.get("sessions", [])}
            spec = spec | {"sessions": [_respelled(session, originals) for session in spec["sessions"]]}
        if isinstance(spec.get("databases"), dict):
            classes = kept.get("databases", {})
            spec = spec | {
                "databases": {
                    host: classes.get(host, {}) | item if isinstance(item, dict) else item
                    for host, item in spec["databases"].items()
                }
            }
        claim = claim | {"spec": spec}
    return _annotated(claim | {"apiVersion": V1BETA1}, {})


def database_classes(claim: Manifest) -> dict[str, dict[str, str]]:
    """Storage classes that v1beta1 gave single database servers, by host: keys as in `CLASSES`, blank ones left out.

    Of a claim in either version.
    """
    kept: dict[str, dict[str, str]] = _kept(to_v1beta2(claim)).get("databases", {})
    named = {
        host: {key: value.strip() for key, value in classes.items() if value.strip()} for host, classes in kept.items()
    }
    return {host: classes for host, classes in named.items() if classes}


def carried_over(claim: Manifest, old: Manifest) -> Manifest:
    """An updated claim, both in the hub's words, with what its author could not say there, and without what he gave up.

    Storage classes and spellings that only the annotation has stay, unless the update says another there; they go with
    the server or session that they are of. A session goes that whoever applied it as v1beta1 applies no more as
    v1beta2: there the list is one field, and the API server takes it for still applied (structured-merge-diff,
    `addBackDanglingItems`).
    """
    spec = claim.get("spec")
    if claim.get("apiVersion") != V1BETA2 or old.get("apiVersion") != V1BETA2 or not isinstance(spec, dict):
        return claim
    sessions = spec.get("sessions")
    if isinstance(sessions, list) and (gone := _given_up(claim, old)):
        sessions = [session for session in sessions if _name(session) not in gone]
        claim = claim | {"spec": spec | {"sessions": sessions}}
    before, kept = _kept(old), _kept(claim)
    spelled = {_name(item): item for item in [*before.get("sessions", []), *kept.get("sessions", [])]}
    declared = sessions if isinstance(sessions, list) else []
    servers = spec["databases"] if isinstance(spec.get("databases"), dict) else {}
    classes = {
        host: before.get("databases", {}).get(host, {}) | kept.get("databases", {}).get(host, {}) for host in servers
    }
    carried: Manifest = {
        "sessions": [item for session in declared if _session(item := spelled.get(_name(session))) == session],
        "databases": {host: found for host, found in classes.items() if found},
    }
    carried, kept = ({key: value for key, value in each.items() if value} for each in (carried, kept))
    return claim if carried == kept else _annotated(claim, carried)


def _given_up(claim: Manifest, old: Manifest) -> set[str | None]:
    """Names of the sessions of an updated claim that nobody declares any more, as an applier went on to v1beta2."""
    before, after = _owned_sessions(old), _owned_sessions(claim)
    went_on = any(
        version == V1BETA1 and operation == "Apply" and after.get((manager, operation), ("", set()))[0] == V1BETA2
        for (manager, operation), (version, _) in before.items()
    )
    if not went_on or any(version == V1BETA1 for version, _ in after.values()):
        return set()
    owned = {name for _, names in after.values() for name in names}
    return {_name(session) for session in claim["spec"]["sessions"]} - owned


def _owned_sessions(claim: Manifest) -> dict[tuple[str, str], tuple[str, set[str | None]]]:
    """Who declares sessions, by field manager and operation: in which version, and for v1beta2 their names."""
    metadata = claim.get("metadata")
    found = {}
    for entry in (metadata.get("managedFields") if isinstance(metadata, dict) else None) or ():
        fields = (entry.get("fieldsV1") or {}).get("f:spec") or {}
        if "f:sessions" in fields:
            keys = (json.loads(key[2:]) for key in fields["f:sessions"] if key.startswith("k:"))
            who = entry.get("manager", ""), entry.get("operation", "")
            found[who] = entry.get("apiVersion", ""), {key.get("name") for key in keys}
    return found


def _session(item: Any) -> Any:
    """A v1beta1 session in the hub's words."""
    if isinstance(item, str):
        return {"name": item, "state": "started"}
    if not isinstance(item, dict):
        return item
    state = item.get("state")
    if state is None:
        state = "started"
    if isinstance(state, str):
        state = STATE_ALIASES.get(state.strip().lower(), state.strip().lower())
    return {key: value for key, value in item.items() if key in ("name", "state")} | {"state": state}


def _spelled(session: Any) -> Any:
    """A hub session as v1beta1 spells it where nothing else is known: what is started by its name alone."""
    if isinstance(session, dict) and isinstance(session.get("name"), str) and set(session) <= {"name", "state"}:
        return session["name"] if session.get("state", "started") == "started" else session
    return session


def _respelled(session: Any, originals: dict[Any, Any]) -> Any:
    original = originals.get(_name(session))
    return original if original is not None and _session(original) == session else _spelled(session)


def _name(session: Any) -> str | None:
    name = session.get("name") if isinstance(session, dict) else session
    return name if isinstance(name, str) else None


def _classes(database: Any) -> dict[str, str]:
    if not isinstance(database, dict):
        return {}
    return {key: database[key] for key in CLASSES if isinstance(database.get(key), str)}


def _without_classes(database: Any) -> Any:
    if not isinstance(database, dict):
        return database
    return {key: value for key, value in database.items() if key not in _classes(database)}


def _kept(claim: Manifest) -> Manifest:
    """What the annotation holds, as far as it is what we wrote."""
    try:
        kept = json.loads(_annotations(claim).get(CONVERSION, "{}"))
    except (TypeError, ValueError, RecursionError):
        return {}  # edited by hand; the spec alone counts
    if not isinstance(kept, dict):
        return {}
    sessions, databases = kept.get("sessions"), kept.get("databases")
    return {
        "sessions": [item for item in sessions if isinstance(item, dict)] if isinstance(sessions, list) else [],
        "databases": {host: _classes(item) for host, item in databases.items()} if isinstance(databases, dict) else {},
    }


def _annotations(claim: Manifest) -> Manifest:
    metadata = claim.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    return annotations if isinstance(annotations, dict) else {}


def _annotated(claim: Manifest, kept: Manifest) -> Manifest:
    """The claim with `kept` in its annotation, or without that annotation if there is nothing to keep."""
    annotations, metadata = _annotations(claim), claim.get("metadata")
    if not kept and CONVERSION not in annotations:
        return claim
    annotations = {key: value for key, value in annotations.items() if key != CONVERSION}
    if kept:
        annotations[CONVERSION] = json.dumps(kept, separators=(",", ":"), sort_keys=True)
    metadata = (
        {key: value for key, value in metadata.items() if key != "annotations"} if isinstance(metadata, dict) else {}
    )
    return claim | {"metadata": metadata | {"annotations": annotations} if annotations else metadata}
