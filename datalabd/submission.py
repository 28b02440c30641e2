"""A claim as it was submitted, parsed once for all who judge it: validation, warnings, effects, and the lab itself."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from pydantic import ValidationError

from datalabd.api import v1beta1
from datalabd.api.conversion import database_classes, to_v1beta2
from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import CONVERSION, V1BETA1, FieldError, Manifest, Model, Problem, field_error
from datalabd.api.v1beta2 import DatalabSpec
from datalabd.lab import environment_name


class Names(NamedTuple):
    """What the derived names of a claim are made of."""

    claim: str
    sessions: tuple[str, ...] = ()
    databases: tuple[str, ...] = ()


@dataclass(frozen=True)
class VolumeClasses:
    """Storage classes of the volumes that a lab has, None for the cluster's default; what is None is not known."""

    homes: Mapping[str, str | None] | None = None
    """By session."""
    servers: Mapping[str, tuple[str | None, str | None]] | None = None
    """Of data and backups, by host of a PostgreSQL server."""


@dataclass(frozen=True)
class ParsedClaim:
    """A claim that passed the schema, in the hub's words."""

    name: str
    namespace: str
    spec: DatalabSpec
    environment: EnvironmentConfig | None
    classes: dict[str, dict[str, str]]
    written_in: str
    volumes: VolumeClasses


@dataclass(frozen=True, eq=False)
class Submission:
    """A claim of either version within the environment it chooses; None where that cannot be used."""

    claim: Manifest
    """As written."""
    environment: EnvironmentConfig | None
    volumes: VolumeClasses = VolumeClasses()
    """Those that the lab has."""

    @cached_property
    def hub(self) -> Manifest:
        """The claim in the words of v1beta2."""
        return to_v1beta2(self.claim)

    @property
    def metadata(self) -> Manifest:
        """Metadata; empty where it is no object."""
        return _dict(self.claim.get("metadata"))

    @property
    def is_going(self) -> bool:
        """Whether the claim is being deleted."""
        return bool(self.metadata.get("deletionTimestamp"))

    @cached_property
    def environment_name(self) -> str:
        """The environment that is chosen."""
        return environment_name({"metadata": {key: _dict(self.metadata.get(key)) for key in ("annotations", "labels")}})

    @cached_property
    def names(self) -> Names:
        """What the derived names are made of; as much as can be read of an invalid claim."""
        return names_in(self.hub)

    @cached_property
    def spec(self) -> DatalabSpec | None:
        """The parsed spec in the hub's words; None where the schema refuses it."""
        return self._parsed[0]

    @cached_property
    def parsed(self) -> ParsedClaim | None:
        """All that is judged of a claim that passed the schema of the hub; None for any other."""
        if self.spec is None:
            return None
        return ParsedClaim(
            name=self.metadata.get("name", ""),
            namespace=self.metadata.get("namespace") or "default",
            spec=self.spec,
            environment=self.environment,
            classes=database_classes(self.hub),
            written_in=self.claim.get("apiVersion", ""),
            volumes=self.volumes,
        )

    @cached_property
    def schema_errors(self) -> tuple[FieldError, ...]:
        """What the schema refuses, by the fields of the hub."""
        if "spec" not in self.claim:
            return (FieldError("spec", Problem.REQUIRED, None, ""),)
        errors = self._parsed[1]
        if self.claim.get("apiVersion") == V1BETA1:
            errors += _parse(v1beta1.DatalabSpec, self.claim["spec"])[1]
        return errors

    @cached_property
    def _parsed(self) -> tuple[DatalabSpec | None, tuple[FieldError, ...]]:
        return _parse(DatalabSpec, self.hub.get("spec"))

    def says_the_same(self, other: "Submission") -> bool:
        """Whether both ask for the same, of the same environment, in the same version."""
        return (
            self.environment_name == other.environment_name
            and all(self.claim.get(field) == other.claim.get(field) for field in ("apiVersion", "spec"))
            and all(self.metadata.get(field) == other.metadata.get(field) for field in ("name", "namespace"))
            and _dict(self.metadata.get("annotations")).get(CONVERSION)
            == _dict(other.metadata.get("annotations")).get(CONVERSION)
        )


def names_in(hub: Manifest) -> Names:
    """The same of a v1beta2 claim alone."""
    spec = _dict(hub.get("spec"))
    sessions = spec.get("sessions")
    return Names(
        str(_dict(hub.get("metadata")).get("name", "")),
        tuple(
            session["name"]
            for session in (sessions if isinstance(sessions, list) else [])
            if isinstance(session, dict) and isinstance(session.get("name"), str)
        ),
        tuple(_dict(spec.get("databases"))),
    )


def _parse(model: type[Model], spec: Any) -> tuple[Any, tuple[FieldError, ...]]:
    try:
        return model.model_validate(spec), ()
    except ValidationError as error:
        return None, tuple(_field_errors(error))


def _field_errors(error: ValidationError) -> Iterator[FieldError]:
    for details in error.errors(include_url=False):
        found = field_error(details)
        yield replace(found, path=f"spec.{found.path}".rstrip("."))


def _dict(value: Any) -> Manifest:
    return value if isinstance(value, dict) else {}
