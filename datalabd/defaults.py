"""What a claim means where it says nothing.

`default` is what admission writes into the claim: only what holds whatever the environment says. What the environment
decides is resolved later, so that an operator's change reaches existing labs.
"""

from typing import Any

from datalabd.api.meta import Manifest

REGISTRY_STORAGE = "5Gi"

_TEXTS = {
    (): ("secretName",),
    ("persistence",): ("storageClassName",),
    ("registry",): ("storage",),
    ("quota",): ("memory", "storage", "budget"),
    ("security",): ("policy", "kubernetesRole"),
}
"""Optional texts by the object that holds them; blank means left out."""


def default(claim: Manifest) -> Manifest:
    """The claim, of either version, with static defaults written out and stray white space dropped.

    Pure, and the same when applied again. What is not of the expected type stays as it is, for validation to refuse.
    """
    spec = claim.get("spec")
    if not isinstance(spec, dict):
        return claim
    spec = _tidy(spec)
    metadata = claim.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if name and spec.get("secretName") is None:
        spec["secretName"] = name
    registry = spec.get("registry")
    if isinstance(registry, dict) and registry.get("enabled") is True and registry.get("storage") is None:
        spec["registry"] = registry | {"storage": REGISTRY_STORAGE}
    return claim | {"spec": spec}


def _tidy(spec: Manifest) -> Manifest:
    """A copy of the spec with texts trimmed; blank optional ones are left out."""
    spec = dict(spec)
    for at, keys in _TEXTS.items():
        holder = spec.get(at[0]) if at else spec
        if not isinstance(holder, dict):
            continue
        tidied = {
            key: _trimmed(value) if key in keys else value
            for key, value in holder.items()
            if key not in keys or not isinstance(value, str) or value.strip()
        }
        spec = spec | {at[0]: tidied} if at else tidied
    if isinstance(spec.get("users"), list):
        spec["users"] = [_trimmed(user) for user in spec["users"]]
    if isinstance(spec.get("sessions"), list):
        spec["sessions"] = [_named(session) for session in spec["sessions"]]
    if isinstance(spec.get("databases"), dict):
        spec["databases"] = {
            host: database | {"names": [_trimmed(name) for name in database["names"]]}
            if isinstance(database, dict) and isinstance(database.get("names"), list)
            else database
            for host, database in spec["databases"].items()
        }
    return spec


def _named(session: Any) -> Any:
    if isinstance(session, dict) and isinstance(session.get("name"), str):
        return session | {"name": session["name"].strip()}
    return _trimmed(session)


def _trimmed(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value
