"""What every kind shares: names, conditions, field errors, and the project's own annotations and labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from datalabd.api.patterns import in_words

Manifest = dict[str, Any]
"""A Kubernetes object as JSON; the one loose type."""

GROUP = "pkg.internal"
V1BETA1 = f"{GROUP}/v1beta1"
V1BETA2 = f"{GROUP}/v1beta2"

PREFIX = "datalabs.pkg.internal"
ENVIRONMENT = f"{PREFIX}/environment"
"""Annotation, or else label, of a claim that chooses its environment."""
DEFAULT_ENVIRONMENT = "datalab"
FINALIZER = f"{PREFIX}/teardown"
CLAIM_NAME = f"{PREFIX}/name"
CLAIM_NAMESPACE = f"{PREFIX}/namespace"
CLAIM_UID = f"{PREFIX}/uid"
APPLIED = f"{PREFIX}/applied"
"""Annotation: digest of the manifest as planned. What we set once and no longer want is noticed by it.

It also tells our objects from those that only inherited our labels: Educates hands an owner's labels on, not these.
"""
RETAINED = f"{PREFIX}/retained"
"""Label of a durable object that its claim no longer declares."""
ABANDON = f"{PREFIX}/abandon"
"""Annotation of a claim being deleted: comma-separated teardown steps to skip."""
TEARDOWN_STEPS = ("access", "sessions", "storage", "runtime", "credentials", "identity")
"""What a deletion goes through, in order."""
ROTATE = f"{PREFIX}/rotate"
"""Annotation of a claim: comma-separated `<kind>/<name>/<nonce>`, credentials to be replaced once for each nonce."""
ROTATED = f"{PREFIX}/rotated"
"""Annotation of a Secret with credentials: the nonce they were made for."""
ROTATING = f"{PREFIX}/rotating"
"""Annotation of a Secret that holds the next password beside the present one: the nonce that asked for it."""
USERS_REVISION = f"{PREFIX}/users-revision"
"""Annotation of a Secret of PGO's: `status.usersRevision` when its password was given; another means it is in use."""
SINCE = f"{PREFIX}/since"
"""Annotation of a Secret with credentials: when they were replaced."""
BACKUP = f"{PREFIX}/backup"
"""Annotation of a claim: comma-separated `<host>/<nonce>`, PostgreSQL servers to back up once for each nonce."""
RESTORE = f"{PREFIX}/restore"
"""Annotation of a claim: comma-separated `<host>[=<source>]/<nonce>[@<time>]`, servers to restore."""
ANNOTATION_MAX = 2048
"""Characters of an annotation that asks for something."""
PROTECT = f"{PREFIX}/protect"
"""Annotation of a claim: while it is "true", to the letter, the claim cannot be deleted."""
PROTECTION = f"{PREFIX}/protection"
"""Annotation of a session's Ingress: comma-separated names of the annotations that protect it, which only we change."""
UNPROTECTED = f"{PREFIX}/unprotected"
"""Annotation of an object that holds data: while it is "true" everybody who has the right may delete it."""
CONVERSION = f"{PREFIX}/conversion"
"""Annotation of a claim: what the version it is written in has no field for."""
CLAIM_ANNOTATIONS = frozenset({ENVIRONMENT, ABANDON, ROTATE, BACKUP, RESTORE, PROTECT, CONVERSION})
"""All annotations with our prefix that a claim is read for."""
CLAIM_LABELS = frozenset({ENVIRONMENT})
"""All labels with our prefix that a claim is read for."""
STORAGE_CLAIM = f"{PREFIX}/claim"
"""Annotation of a shared storage Secret: the `<namespace>/<name>` of the claim that may use it."""
REALM_MARK = f"{PREFIX}.claim"
"""Attribute of a Keycloak client or group: the `<namespace>/<name>` of the claim that it belongs to."""
MANAGED_BY = "app.kubernetes.io/managed-by"
FIELD_MANAGER = "datalabd"
ACCOUNT = "system:serviceaccount:datalabd:datalabd"
"""Who we are to the API server as the manifests install us."""


class Model(BaseModel):
    """Base of everything parsed from the API server: immutable, camelCase on the wire, unknown fields ignored."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        # Built when first used: of sixty models four are parsed, and those within them need no validator of their own.
        defer_build=True,
    )


class NamespacedName(NamedTuple):
    """Identity of a namespaced object; `namespace` is empty for cluster-scoped ones."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class Problem(StrEnum):
    """What is wrong with a field, in the API server's words (`k8s.io/apimachinery/pkg/util/validation/field`)."""

    REQUIRED = "Required value"
    INVALID = "Invalid value"
    DUPLICATE = "Duplicate value"
    UNSUPPORTED = "Unsupported value"
    FORBIDDEN = "Forbidden"
    TOO_LONG = "Too long"
    TOO_MANY = "Too many"

    @property
    def cause(self) -> str:
        """The `reason` of this problem in `status.details.causes`."""
        return {
            Problem.REQUIRED: "FieldValueRequired",
            Problem.INVALID: "FieldValueInvalid",
            Problem.DUPLICATE: "FieldValueDuplicate",
            Problem.UNSUPPORTED: "FieldValueNotSupported",
            Problem.FORBIDDEN: "FieldValueForbidden",
            Problem.TOO_LONG: "FieldValueTooLong",
            Problem.TOO_MANY: "FieldValueTooMany",
        }[self]


@dataclass(frozen=True)
class FieldError:
    """One mistake in one field: where, what kind, the offending value (None: not shown) and what is allowed."""

    path: str
    problem: Problem
    value: str | None
    detail: str

    def __str__(self) -> str:
        shown = "" if self.value is None else f' "{self.value}":' if self.detail else f' "{self.value}"'
        return f"{self.path}: {self.problem}:{shown} {self.detail}".rstrip()


ERRORS_MAX = 50
"""Mistakes that one message tells of: a claim can have thousands, and a message has its limits."""


def several(errors: Sequence[FieldError | str]) -> list[str]:
    """What is told of these errors, each in a sentence; of very many, how many more there are."""
    more = len(errors) - ERRORS_MAX
    return [*map(str, errors[:ERRORS_MAX]), *([f"and {more} more"] if more > 0 else [])]


SHOWN = 100
"""Characters of an offending value that a message repeats."""


def shorten(value: object) -> str | None:
    """A scalar as a message shows it; None for objects, lists and null.

    Cut after `SHOWN` characters, and with those that no terminal is to obey, such as escape sequences, spelled out.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        return None
    text = str(value)
    text = text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


_MAPS = frozenset({"userOverrides", "databases", "documentStores", "cacheStores", "vectorStores", "matchLabels"})


def field_path(loc: tuple[int | str, ...]) -> str:
    """`spec.databases[pg0].names[1]` of a pydantic location: keys of the user's choice stand in brackets."""
    path, before = "", None
    for part in loc:
        if part != "[key]":
            shown = shorten(part)
            path += f"[{shown}]" if isinstance(part, int) or before in _MAPS else f".{shown}"
        before = part
    return path.lstrip(".")


def field_error(details: ErrorDetails) -> FieldError:
    """What pydantic found, in the API server's words."""
    path, value, ctx = field_path(details["loc"]), shorten(details["input"]), details.get("ctx", {})
    match details["type"]:
        case "missing":
            return FieldError(path, Problem.REQUIRED, None, "")
        case "enum" | "literal_error":
            allowed = str(ctx["expected"]).replace("'", "").replace(" or ", ", ")
            return FieldError(path, Problem.UNSUPPORTED, value, f"supported values: {allowed}")
        case "string_too_long":
            return FieldError(path, Problem.TOO_LONG, value, f"may not be more than {ctx['max_length']} characters")
        case "too_long":
            return FieldError(path, Problem.TOO_MANY, None, f"must have at most {ctx['max_length']} items")
        case "string_too_short":
            return FieldError(path, Problem.INVALID, value, "must not be empty")
        case "too_short":
            return FieldError(path, Problem.INVALID, None, f"must have at least {ctx['min_length']} item")
        case "string_pattern_mismatch":
            return FieldError(path, Problem.INVALID, value, in_words(ctx["pattern"]))
        case "model_type" | "dict_type" | "model_attributes_type":
            return FieldError(path, Problem.INVALID, value, "must be an object")
        case "value_error":
            return FieldError(path, Problem.INVALID, value, str(ctx["error"]))
        case _:
            return FieldError(path, Problem.INVALID, value, details["msg"].replace("Input should be", "must be"))


def items(annotation: str) -> list[str]:
    """The comma-separated items of an annotation of a claim; none of one that is too long to be meant."""
    if len(annotation) > ANNOTATION_MAX:
        return []
    return [item for part in annotation.split(",") if (item := part.strip())]


def is_planned(obj: Manifest) -> bool:
    """Whether an object was made from a plan, rather than having inherited the labels of one that was."""
    return APPLIED in (obj["metadata"].get("annotations") or {})


def claim_of(obj: Manifest) -> NamespacedName | None:
    """The claim an object of ours belongs to, from its labels; None for anything else."""
    labels = obj["metadata"].get("labels") or {}
    if labels.get(MANAGED_BY) != FIELD_MANAGER or CLAIM_NAME not in labels:
        return None
    return NamespacedName(labels.get(CLAIM_NAMESPACE, ""), labels[CLAIM_NAME])
