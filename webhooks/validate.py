"""Refuses claims that cannot become a lab, and environments that are no use."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from datalabd.api.environment import EnvironmentConfig, mistakes
from datalabd.api.meta import FieldError, Manifest, NamespacedName, shorten
from datalabd.errors import EnvironmentInvalid
from datalabd.steps import Steps
from datalabd.submission import Submission
from datalabd.validation import CLUSTER_NAME, broken_rules, occupied, taken, validation, warnings
from webhooks import requests, warn
from webhooks.review import ADMISSION, AdmissionRequest, allowed, denied


@dataclass(frozen=True)
class Taken:
    """Names that a claim would make and cannot have."""

    holders: Mapping[CLUSTER_NAME, NamespacedName] = field(default_factory=dict)
    """By whom they are made already."""
    foreign: Collection[str] = ()
    """Namespaces that the lab would need, and that are there already without being its own."""
    answered: Sequence[FieldError] = ()
    """New sessions for whose hosts somebody else's route answers."""


def datalab(
    request: AdmissionRequest,
    new: Submission,
    old: Submission | None = None,
    taken_names: Taken = Taken(),  # immutable
    old_environment: EnvironmentConfig | None = None,
    *,
    kept: bool = False,
) -> Steps[Manifest]:
    """All mistakes of a claim in one answer, or approval with what it will do and what is legal but unwise.

    `old` is the claim before an update, seen in the environment of the new one, and `old_environment` the one that it
    chose itself; `kept`: an earlier claim of this name and namespace left something behind.
    """
    before = None if old is None else old.claim
    errors = yield from validation(new, old)
    errors = [*errors, *requests.errors(new.claim, before, new.environment)]
    if old is None or old.names != new.names:
        errors = [*errors, *taken(new.claim, taken_names.holders)]
        errors = _and_others(errors, occupied(new.claim, before, taken_names.foreign))
    errors = _and_others(errors, taken_names.answered)
    if errors:
        return denied(request, errors)
    yield
    notes = [*requests.warnings(new.claim, before), *warn.ignored(new.claim, before), *warnings(new, old)]
    if old is not None and not new.says_the_same(old):
        yield
        notes = [*notes, *broken_rules(new)]
    if new.environment is not None and not new.is_going:
        if old is None:
            effects = yield from warn.creation(new, kept=kept)
        else:
            effects = yield from warn.change(new, old, old_environment)
        notes = [*effects, *notes]
    elif new.environment is None and old is None:
        missing = f"EnvironmentConfig {shorten(new.environment_name)}"
        notes = [
            *notes,
            f"the environment this claim chooses does not exist, or is invalid; the lab waits for {missing}",
        ]
    return allowed(request.uid, warnings=warn.few(notes))


def _and_others(errors: Sequence[FieldError], further: Iterable[FieldError]) -> list[FieldError]:
    """These errors, and the further ones of fields that have none yet: one mistake is told once."""
    wrong = {error.path for error in errors}
    return [*errors, *(error for error in further if error.path not in wrong)]


def annotations(request: AdmissionRequest, new: Submission, old: Submission) -> Manifest:
    """The answer to an update that asks for nothing else of a lab: new annotations alone may be wrong."""
    errors = requests.errors(new.claim, old.claim, new.environment)
    if errors:
        return denied(request, errors)
    notes = [*requests.warnings(new.claim, old.claim), *warn.ignored(new.claim, old.claim)]
    return allowed(request.uid, warnings=warn.few(notes))


def environment(request: AdmissionRequest, labs: int) -> Steps[Manifest]:
    """All mistakes of an environment that `labs` claims choose, in one answer; or approval with what it will do.

    An update is not blamed for mistakes that were there before it. What labs use cannot be deleted.
    """
    old = request.old_object
    if request.operation == "DELETE":
        return _in_use(request, labs) if labs else allowed(request.uid)
    if request.object is None or request.object["metadata"].get("deletionTimestamp"):
        return allowed(request.uid)
    known = set(mistakes(old)) if old is not None else set()
    yield
    errors = [error for error in mistakes(request.object) if error not in known]
    if errors:
        return denied(request, errors)
    yield
    new = _parsed(request.object)
    yield
    before = _parsed(old)
    yield
    notes = [] if new is None else warn.environment(new, before, labs)
    notes = [*notes, *warn.ignored(request.object, old, annotations=(), labels=())]
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
