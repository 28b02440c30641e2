"""AdmissionReview and ConversionReview, decoded and encoded. Nothing here knows what is being reviewed."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import orjson

from datalabd.api.meta import ERRORS_MAX, FieldError, Manifest, several

ADMISSION = "admission.k8s.io/v1"
CONVERSION = "apiextensions.k8s.io/v1"
WARNING_MAX = 250
"""Characters of one warning: the API server may drop longer ones."""
WARNINGS_MAX = 12
RETRY_SECONDS = 2
"""When to ask again what nobody can judge yet."""


class BadReview(ValueError):
    """What was sent is no review that we understand."""


@dataclass(frozen=True)
class AdmissionRequest:
    """One request that the API server asks about."""

    uid: str
    operation: str
    namespace: str
    name: str
    object: Manifest | None
    old_object: Manifest | None
    dry_run: bool
    username: str
    user: Manifest = field(default_factory=dict)
    """Who writes, as the API server authenticated them: username, uid, groups, extra."""

    @classmethod
    def decode(cls, review: Any) -> Self:
        """The request in an AdmissionReview; `BadReview` if it is none."""
        if not isinstance(review, dict) or review.get("apiVersion") != ADMISSION:
            raise BadReview(f"expected an AdmissionReview of {ADMISSION}")
        request = review.get("request")
        if not isinstance(request, dict) or not isinstance(request.get("uid"), str):
            raise BadReview("the AdmissionReview has no request with a uid")
        user = request.get("userInfo") or {}
        if not isinstance(user, dict):
            raise BadReview("the AdmissionReview has no user that could be read")
        return cls(
            uid=request["uid"],
            operation=str(request.get("operation") or ""),
            namespace=str(request.get("namespace") or ""),
            name=str(request.get("name") or ""),
            object=_object(request.get("object")),
            old_object=_object(request.get("oldObject")),
            dry_run=request.get("dryRun") is True,
            username=str(user.get("username") or ""),
            user=user,
        )


def allowed(
    uid: str, *, before: Manifest | None = None, after: Manifest | None = None, warnings: Sequence[str] = ()
) -> Manifest:
    """Approval of a request, changing `before` into `after` if both are given and differ."""
    response: Manifest = {"uid": uid, "allowed": True}
    if warnings:
        response["warnings"] = [warning[:WARNING_MAX] for warning in warnings[:WARNINGS_MAX]]
    operations = _patch(before, after) if before is not None and after is not None and before is not after else []
    if operations:
        response["patchType"] = "JSONPatch"
        response["patch"] = base64.b64encode(orjson.dumps(operations)).decode()
    return {"apiVersion": ADMISSION, "kind": "AdmissionReview", "response": response}


def denied(request: AdmissionRequest, errors: Sequence[FieldError]) -> Manifest:
    """Refusal, with every mistake in the message and as a cause of its own, as the API server's own refusals have.

    Of very many only the first.
    """
    texts = several(errors)
    message = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
    status = {
        "status": "Failure",
        "code": 422,
        "reason": "Invalid",
        "message": message,
        "details": {
            "kind": (request.object or {}).get("kind"),
            "name": request.name,
            "causes": [
                {
                    "reason": error.problem.cause,
                    "field": error.path,
                    "message": str(error).removeprefix(f"{error.path}: "),
                }
                for error in errors[:ERRORS_MAX]
            ],
        },
    }
    return {
        "apiVersion": ADMISSION,
        "kind": "AdmissionReview",
        "response": {"uid": request.uid, "allowed": False, "status": status},
    }


def not_yet(request: AdmissionRequest, reason: str) -> Manifest:
    """Refusal for now: clients of the API server ask again by themselves, a few times."""
    status = {
        "status": "Failure",
        "code": 503,
        "reason": "ServiceUnavailable",
        "message": f"datalabd cannot judge this yet, as {reason}; try again in a moment",
        "details": {"retryAfterSeconds": RETRY_SECONDS},
    }
    return {
        "apiVersion": ADMISSION,
        "kind": "AdmissionReview",
        "response": {"uid": request.uid, "allowed": False, "status": status},
    }


def decode_conversion(review: Any) -> tuple[str, str, list[Manifest]]:
    """Uid, wanted apiVersion and objects of a ConversionReview; `BadReview` if it is none."""
    if not isinstance(review, dict) or review.get("apiVersion") != CONVERSION:
        raise BadReview(f"expected a ConversionReview of {CONVERSION}")
    request = review.get("request")
    if not isinstance(request, dict) or not isinstance(request.get("uid"), str):
        raise BadReview("the ConversionReview has no request with a uid")
    objects = request.get("objects")
    if not isinstance(objects, list) or not all(isinstance(obj, dict) for obj in objects):
        raise BadReview("the ConversionReview has no list of objects")
    return request["uid"], str(request.get("desiredAPIVersion") or ""), objects


def converted(uid: str, objects: list[Manifest]) -> Manifest:
    """A successful conversion."""
    return _conversion({"uid": uid, "convertedObjects": objects, "result": {"status": "Success"}})


def not_converted(uid: str, message: str) -> Manifest:
    """A failed conversion."""
    return _conversion({"uid": uid, "convertedObjects": [], "result": {"status": "Failure", "message": message}})


def _conversion(response: Manifest) -> Manifest:
    return {"apiVersion": CONVERSION, "kind": "ConversionReview", "response": response}


def _object(value: Any) -> Manifest | None:
    if value is not None and not (isinstance(value, dict) and isinstance(value.get("metadata"), dict)):
        raise BadReview("the object under review has no metadata")
    return value


def _patch(before: Manifest, after: Manifest, path: str = "") -> list[Manifest]:
    """JSON Patch from one object to another; lists are replaced whole."""
    operations: list[Manifest] = []
    for key in before.keys() - after.keys():
        operations.append({"op": "remove", "path": f"{path}/{_escaped(key)}"})
    for key, value in after.items():
        had = before.get(key, _NOTHING)
        if value is had:
            continue
        where = f"{path}/{_escaped(key)}"
        if had is _NOTHING:
            operations.append({"op": "add", "path": where, "value": value})
        elif isinstance(value, dict) and isinstance(had, dict):
            operations += _patch(had, value, where)
        elif orjson.dumps(value) != orjson.dumps(had):  # as values, True and 1 are equal
            operations.append({"op": "replace", "path": where, "value": value})
    return operations


_NOTHING = object()


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
