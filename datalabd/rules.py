"""Rules that may be younger than a lab: what breaks one goes on where it exists, and is not made where it does not.

Admission applies them to what a claim asks for anew. Here they are applied to what is there.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from datalabd import names
from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import FieldError, Problem
from datalabd.lab import Lab
from datalabd.limits import beyond, limit_errors
from datalabd.live import dig
from datalabd.observed import Observed, Phase, derived_lastingly
from datalabd.reserved import reserved_errors
from datalabd.sources import source_errors


@dataclass(frozen=True)
class Judgement:
    """What of a lab breaks a rule."""

    held: dict[str, str] = field(default_factory=dict)
    """Parts that are not made, and why; empty for the Workshop."""
    broken: tuple[FieldError, ...] = ()
    """What exists and goes on."""


def judge(lab: Lab, seen: Observed) -> Judgement:
    """What of a lab breaks a rule, and whether it exists already."""
    environment, spec = lab.environment, lab.claim.spec
    existing = set(_existing(lab, seen))
    held = beyond(spec, environment, existing)
    broken = [] if held else list(limit_errors(spec, environment))
    found = [*_reserved(lab, seen), *_sources(lab, seen), *_classes(lab)]
    for part, error in found:
        if part not in existing:
            held.setdefault(part, str(error))
        elif error not in broken:  # one field may be about several parts
            broken.append(error)
    return Judgement(held, tuple(broken))


def class_error(host: str, name: str, wanted: str | None, environment: EnvironmentConfig) -> FieldError | None:
    """Whether a database server may not have a storage class; None: it may. `name` is the field, as v1beta1 has it."""
    settings, allowed = environment.data.database, environment.data.storage_classes.allowed
    own = settings.storage_class_name if name == "storageClassName" else settings.backup_storage_class_name
    if wanted is None or not allowed or wanted in (*allowed, own):
        return None
    detail = f"supported values: {', '.join(dict.fromkeys([*allowed, *([own] if own else [])]))}"
    return FieldError(f"spec.databases[{host}].{name}", Problem.UNSUPPORTED, wanted, detail)


def home_class_error(wanted: str | None, environment: EnvironmentConfig) -> FieldError | None:
    """Whether homes may not have a storage class; None: they may."""
    allowed = environment.data.storage_classes.allowed
    if wanted is None or not allowed or wanted in allowed:
        return None
    detail = f"supported values: {', '.join(allowed)}"
    return FieldError("spec.persistence.storageClassName", Problem.UNSUPPORTED, wanted, detail)


def _existing(lab: Lab, seen: Observed) -> Iterator[str]:
    """Parts of a lab that have been made."""
    if seen.workshop_spec is not None or seen.phase is not Phase.ABSENT:
        yield ""
    for session in lab.sessions:
        if names.volume(lab.name, session) in seen.homes:
            yield session
    for host, database in seen.databases.items():
        if database.age_seconds is not None:
            yield f"database {host}"
    for kind, stores in (
        ("document", seen.document_stores),
        ("cache", seen.cache_stores),
        ("vector", seen.vector_stores),
    ):
        for key, store in stores.items():
            if store.data is not None or store.volumes:
                yield f"{kind} store {key}"


def _sources(lab: Lab, seen: Observed) -> Iterator[tuple[str, FieldError]]:
    """Those that the live Workshop has already exist; with another one it is not written."""
    live = seen.workshop_spec if seen.workshop_spec is not None else seen.workshop_in_use
    applied = dig(live, "workshop").get("files") or []
    for written, errors in zip(lab.files, _source_errors(lab, seen), strict=True):
        for error in errors:
            yield "" if written in applied else NEW_FILES, error


@derived_lastingly
def _source_errors(lab: Lab, seen: Observed) -> tuple[tuple[FieldError, ...], ...]:
    """What is wrong with each source."""
    blocked = lab.environment.data.network.blacklist_ips
    return tuple(
        tuple(source_errors(file, f"spec.files[{index}]", lab.namespace, blocked))
        for index, file in enumerate(lab.claim.spec.files)
    )


@derived_lastingly
def _reserved(lab: Lab, seen: Observed) -> tuple[tuple[str, FieldError], ...]:
    """Reserved names that the lab makes, by part."""
    return tuple(reserved_errors(lab.name, lab.namespace, lab.claim.spec, lab.environment))


NEW_FILES = "files"
"""What is held where the claim has files that the Workshop has not."""


def _classes(lab: Lab) -> Iterator[tuple[str, FieldError]]:
    homes = home_class_error(lab.claim.spec.persistence.storage_class_name, lab.environment)
    if homes is not None:
        for session in lab.sessions:
            yield session, homes
    for server in lab.databases:
        for name, wanted in (
            ("storageClassName", server.storage_class),
            ("backupStorageClassName", server.backup_storage_class),
        ):
            if (error := class_error(server.host, name, wanted, lab.environment)) is not None:
                yield f"database {server.host}", error
