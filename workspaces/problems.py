"""What goes wrong, in the words of answers: upstream's `detail`, or RFC 9457 for whoever asks for it. Pure.

No text of the API server's reaches a client but what it says about single fields, and what admission says.
"""

import http
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from datalabd.errors import (
    Conflict,
    Denied,
    Forbidden,
    Invalid,
    KubeError,
    NamespaceTerminating,
    NotFound,
    Throttled,
    Unavailable,
)
from datalabd.text import ENTRY_MAX, bounded

Detail = str | dict[str, Any] | list[dict[str, Any]]
Location = tuple[str | int, ...]

RETRY_AFTER_SECONDS = 5
ERRORS_MAX = 50
"""Errors that one answer tells of."""

SENTENCES: Mapping[str, str] = {
    "session_exists": "There is a session of this name",
    "session_not_found": "There is no session of this name",
    "session_limit_exceeded": "No more sessions may be declared",
    "provider_datalab_not_installed": "Provider Datalab is not installed for this cluster.",
    "store_type_unavailable": "Stores of this kind are not offered here",
    "limit_exceeded": "The workspace has as many of these as it may have",
    "invalid_workspace": "There is no such workspace to decide on",
    "missing_principal": "The workspace's Storage names no principal",
    "being_deleted": "The workspace of this name is being deleted; try again in a moment",
    "bucket_exists": "A bucket of this name belongs to another workspace",
    "principal_exists": "A principal of this name is another workspace's",
    "data_exists": "A workspace of this name left data: purge it, or say ?data=adopt to give it to the new one",
    "grants_exist": "Others granted buckets to an earlier workspace of this name, and that could not be ended",
    "bucket_in_use": "Grants of the bucket are in force; end them first, or add ?grants=revoke",
    "bucket_not_found": "There is no bucket of this name",
    "own_bucket_cannot_be_removed": "The bucket of the workspace's own name goes with the workspace alone",
    "owner_cannot_be_removed": "The owner cannot be removed; hand the workspace over first",
    "owner_has_no_role": "The owner's role cannot be changed; hand the workspace over first",
    "member_not_found": "There is no member of this name",
    "store_not_found": "There is no store of this name",
    "request_not_found": "There is no such request",
    "grant_not_found": "There is no such grant",
    "not_discoverable": "There is no bucket of this name that may be asked for",
    "own_bucket": "The bucket is the workspace's own",
    "refused_by_policy": "A policy of the cluster refuses this",
    "conflict": "Somebody else changed the same at the same time; read it again",
    "precondition_failed": "It has changed since it was read",
    "partly_applied": "Only a part was written, and could not be taken back",
    "backend_error": "The cluster refused the request",
    "token_broker_not_configured": "Tokens of workspaces are not issued here",
    "objects_not_configured": "Objects are not read here: ENDPOINT or STORAGE_ENDPOINTS has to name the object storage",
    "no_credentials": "The workspace has no keys of the object storage yet",
    "endpoint_not_listed": "The workspace's keys are of an object storage that STORAGE_ENDPOINTS does not list",
    "bucket_not_made": "The object storage has no such bucket yet",
    "object_not_found": "There is no object of this key",
    "object_too_large": "The object is too large to be passed on; get it by the workspace's keys",
    "storage_away": "The object storage does not answer; try again in a moment",
    "storage_elsewhere": "The object storage sends us elsewhere: endpoint or region are not the bucket's",
    "storage_error": "The object storage answers something unexpected",
    "storage_forbids": "The object storage does not let the workspace's keys do this",
    "storage_refuses_keys": "The object storage refuses the workspace's keys",
    "storage_untrusted": "The certificate of the object storage is not trusted; STORAGE_CA_FILE names who signed it",
    "too_many_downloads": "Too many downloads at once; wait until one of them has ended",
}
"""What words of `detail.error` mean."""


class Problem(Exception):
    """A request is refused: `detail` is the answer's, `sentence` says the same to people."""

    def __init__(self, status: int, detail: Detail, sentence: str = "", headers: Mapping[str, str] | None = None):
        super().__init__(sentence or str(detail))
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self._sentence = sentence

    @property
    def sentence(self) -> str:
        """What is wrong, in a sentence."""
        return self._sentence or sentence(self.detail)


def problem(code: int, error: str, **members: Any) -> Problem:
    """One with a word for programs, and what it is about."""
    return Problem(code, {"error": error, **members})


def sentence(detail: Detail) -> str:
    """A detail for people."""
    if isinstance(detail, str):
        return detail
    if isinstance(detail, list):
        return "; ".join(
            f"{'.'.join(map(str, error.get('loc', ())))}: {error.get('msg', '')}" for error in detail[:ERRORS_MAX]
        )
    word = str(detail.get("error", ""))
    return str(detail.get("message") or SENTENCES.get(word) or word)


def body(status: int, detail: Detail, *, as_problem: bool, said: str = "") -> dict[str, Any]:
    """An error's answer, as upstream has it or as RFC 9457 does."""
    if not as_problem:
        return {"detail": detail}
    found: dict[str, Any] = {
        "type": "about:blank",
        "title": http.HTTPStatus(status).phrase,
        "status": status,
        "detail": said or sentence(detail),
    }
    if isinstance(detail, list):
        found["errors"] = detail
    elif isinstance(detail, dict):
        found["errors"] = [detail]
    return found


def forbidden() -> Problem:
    """What whoever lacks a permission is told, whether the workspace exists or not."""
    return Problem(403, "Forbidden")


def not_found() -> Problem:
    """Upstream's word for what is not there."""
    return Problem(404, "Not Found")


def datalab_not_installed() -> Problem:
    """What needs a Datalab finds no such kind."""
    return problem(503, "provider_datalab_not_installed", message="Provider Datalab is not installed for this cluster.")


def unavailable(what: str = "Temporarily unavailable", seconds: float = RETRY_AFTER_SECONDS) -> Problem:
    """Something that is needed cannot be had for a while."""
    return Problem(503, what, headers={"Retry-After": str(max(1, round(seconds)))})


# ---- Bodies and paths that are wrong


def invalid(where: str, error: ValidationError) -> Problem:
    """What pydantic found in a `body`, `path` or `query`, as upstream tells of it."""
    return Problem(422, [_error(where, details) for details in error.errors(include_url=False)[:ERRORS_MAX]])


def _error(where: str, details: ErrorDetails) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": details["type"],
        "loc": [where, *(bounded(part, ENTRY_MAX) if isinstance(part, str) else part for part in details["loc"])],
        "msg": _REPR.sub(r"\1", details["msg"]),
        "input": _shown(details["input"]),
    }
    if context := details.get("ctx"):
        found["ctx"] = {name: _context(value) for name, value in context.items()}
    return found


_REPR = re.compile(r"<\w+\.\w+: ('[^']*')>")
"""How pydantic tells of the member of an enumeration: only its value is on the wire."""


def _context(value: object) -> Any:
    if isinstance(value, Exception):
        return {}
    return _REPR.sub(r"\1", value) if isinstance(value, str) and len(value) <= ENTRY_MAX else _shown(value)


def wrong(location: Location, message: str, given: object, kind: str = "value_error") -> Problem:
    """One value of a request that is wrong."""
    return Problem(422, [wrong_value(location, message, given, kind)])


def wrong_value(location: Location, message: str, given: object, kind: str = "value_error") -> dict[str, Any]:
    """The same, as one of several."""
    said = f"Value error, {message}" if kind == "value_error" else message
    return {"type": kind, "loc": list(location), "msg": said, "input": _shown(given)}


def pattern_mismatch(location: Location, pattern: str, given: str) -> Problem:
    """A name in the path that is none."""
    return Problem(
        422,
        [
            wrong_value(location, f"String should match pattern '{pattern}'", given, "string_pattern_mismatch")
            | {"ctx": {"pattern": pattern}}
        ],
    )


def _shown(value: object) -> Any:
    """A value that was sent, as far as it is repeated: a scalar of some length, and of anything else its kind."""
    if value is None or isinstance(value, bool) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, int):
        return value if abs(value) < 1 << 63 else bounded(hex(value), ENTRY_MAX)  # more is no number to many a reader
    if isinstance(value, float):
        return str(value)
    if isinstance(value, str):
        return bounded(value, ENTRY_MAX)
    return {} if isinstance(value, Mapping) else []


# ---- What the API server says

_PART = re.compile(r"\[([^\]]*)\]|([^.\[\]]+)")
_MESSAGE = re.compile(
    r"admission webhook \"[^\"]*\" denied the request: "
    r"|[^:]* is forbidden: "
    r"|ValidatingAdmissionPolicy '[^']*' with binding '[^']*' denied request: "
)


def split_path(field: str) -> Location:
    """`spec.databases[pg0].names[1]` in its parts."""
    return tuple(int(key) if key.isdigit() else key or name for key, name in _PART.findall(field) if key or name)


Words = Mapping[Location, Location]
"""Where a body said what now stands at a path of an object: the longest known beginning of a path decides."""


def in_words_of(words: Words, field: str) -> Location:
    """The member of the body that a field of an object was made of; the body alone where none was."""
    path = split_path(field)
    for length in range(len(path), 0, -1):
        if (found := words.get(path[:length])) is not None:
            return ("body", *found)
    return ("body",)


def refused(error: KubeError, words: Words) -> Problem:
    """What a write says that the API server refused, or did not answer."""
    match error:
        case Throttled() | Unavailable() | NamespaceTerminating():
            return unavailable(seconds=error.retry_after or RETRY_AFTER_SECONDS)
        case Denied():
            return problem(502, "backend_error", status=403, reason="Forbidden")
        case Conflict():
            return problem(409, "conflict", message=SENTENCES["conflict"])
        case NotFound():
            return not_found()
        case Forbidden():
            return problem(409, "refused_by_policy", message=_policy(error.message))
        case Invalid():
            return Problem(422, _causes(error, words))
    return problem(502, "backend_error", status=error.code, reason=error.reason)


def _causes(error: KubeError, words: Words) -> list[dict[str, Any]]:
    causes: Sequence[tuple[str, str]] = error.causes or [("", "the cluster refuses this")]
    found = [wrong_value(in_words_of(words, field), message, None) for field, message in causes[:ERRORS_MAX]]
    return list({(tuple(one["loc"]), one["msg"]): one for one in found}.values())


def _policy(message: str) -> str:
    """What a policy or webhook says, without what the API server puts before it."""
    return bounded(_MESSAGE.sub("", message), ENTRY_MAX * 2)
