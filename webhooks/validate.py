"""Refuses claims that cannot become a lab, and environments that are no use."""

from collections.abc import Collection, Iterable

from datalabd.api.environment import EnvironmentConfig, mistakes
from datalabd.api.meta import Manifest, NamespacedName
from datalabd.errors import EnvironmentInvalid
from datalabd.validation import Names, VolumeClasses, clashes, names_of, occupied, validate, warnings
from webhooks import requests, warn
from webhooks.review import ADMISSION, AdmissionRequest, allowed, denied


def datalab(
    request: AdmissionRequest,
    environment: EnvironmentConfig | None,
    others: Iterable[tuple[NamespacedName, Names]],
    foreign: Collection[str],
    old_environment: EnvironmentConfig | None = None,
    *,
    kept: bool = False,
    volumes: VolumeClasses = VolumeClasses(),  # noqa: B008  # immutable
) -> Manifest:
    """All mistakes of a claim in one answer, or approval with what it will do and what is legal but unwise.

    `others` are all names taken; `foreign` are namespaces that the lab would need, and that are there already without
    being its own; `kept`: an earlier claim of this name and namespace left something behind; `old_environment` is that
    before an update; `volumes` are those that the lab has.
    """
    claim = request.object
    if claim is None:
        return allowed(request.uid)
    old = request.old_object if request.operation == "UPDATE" else None
    errors = [*validate(claim, old, environment, volumes), *requests.errors(claim, old, environment)]
    if old is None or names_of(old) != names_of(claim):
        errors = [*errors, *clashes(claim, others)]
        told = {error.path for error in errors}
        errors = [*errors, *(error for error in occupied(claim, old, foreign) if error.path not in told)]
    if errors:
        return denied(request, errors)
    notes = [*requests.warnings(claim, old), *warnings(claim, old, environment)]
    if environment is not None and not claim["metadata"].get("deletionTimestamp"):
        effects = (
            warn.creation(claim, environment, kept=kept)
            if old is None
            else warn.change(claim, old, environment, old_environment)
        )
        notes = [*effects, *notes]
    elif environment is None and old is None:
        notes = [*notes, "the environment this claim chooses does not exist, or is invalid; the lab waits for it"]
    return allowed(request.uid, warnings=warn.few(notes))


def environment(request: AdmissionRequest, labs: int) -> Manifest:
    """All mistakes of an environment that `labs` claims choose, in one answer; or approval with what it will do.

    An update is not blamed for mistakes that were there before it. What labs use cannot be deleted.
    """
    old = request.old_object
    if request.operation == "DELETE":
        return _in_use(request, labs) if labs else allowed(request.uid)
    if request.object is None or request.object["metadata"].get("deletionTimestamp"):
        return allowed(request.uid)
    known = set(mistakes(old)) if old is not None else set()
    errors = [error for error in mistakes(request.object) if error not in known]
    if errors:
        return denied(request, errors)
    new = _parsed(request.object)
    notes = [] if new is None else warn.environment(new, _parsed(old), labs)
    return allowed(request.uid, warnings=warn.few(notes))


def _parsed(environment: Manifest | None) -> EnvironmentConfig | None:
    try:
        return None if environment is None else EnvironmentConfig.parse(environment)
    except EnvironmentInvalid:
        return None


def _in_use(request: AdmissionRequest, labs: int) -> Manifest:
    use = "1 lab uses" if labs == 1 else f"{labs} labs use"
    message = f"{use} this environment: delete what uses it, or have it choose another environment, first"
    status = {"status": "Failure", "code": 403, "reason": "Forbidden", "message": message}
    response = {"uid": request.uid, "allowed": False, "status": status}
    return {"apiVersion": ADMISSION, "kind": "AdmissionReview", "response": response}
