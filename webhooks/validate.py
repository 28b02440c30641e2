"""Refuses claims that cannot become a lab, environments that are no use, and Ingresses that reach for a lab's hosts."""

from collections.abc import Collection, Iterable

from datalabd import names
from datalabd.api.environment import EnvironmentConfig, mistakes
from datalabd.api.meta import FieldError, Manifest, NamespacedName, Problem
from datalabd.errors import EnvironmentInvalid
from datalabd.plan.ingress_protection import NGINX
from datalabd.validation import Names, clashes, names_of, occupied, validate, warnings
from webhooks import requests, warn
from webhooks.review import ADMISSION, AdmissionRequest, allowed, denied

ERRORS_MAX = 20
"""Mistakes told of one Ingress, which may have thousands of rules."""
SERVER_ALIAS = f"{NGINX}/server-alias"


def datalab(
    request: AdmissionRequest,
    environment: EnvironmentConfig | None,
    others: Iterable[tuple[NamespacedName, Names]],
    foreign: Collection[str],
    old_environment: EnvironmentConfig | None = None,
    *,
    kept: bool = False,
) -> Manifest:
    """All mistakes of a claim in one answer, or approval with what it will do and what is legal but unwise.

    `others` are all names taken; `foreign` are namespaces that the lab would need, and that are there already without
    being its own; `kept`: an earlier claim of this name and namespace left something behind; `old_environment` is that
    before an update.
    """
    claim = request.object
    if claim is None:
        return allowed(request.uid)
    old = request.old_object if request.operation == "UPDATE" else None
    errors = [*validate(claim, old, environment), *requests.errors(claim, old, environment)]
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
    known = mistakes(old) if old is not None else []
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


def ingress(request: AdmissionRequest, claims: Iterable[Manifest], domains: dict[str, str]) -> Manifest:
    """Refusal of an Ingress that would answer for a host of a lab without being that lab's own.

    `domains` has the domain of each claim, by `<namespace>/<name>`. An update that reaches for nothing new passes, so
    that an Ingress older than the lab can still be finalized, and mended.
    """
    if request.object is None:
        return allowed(request.uid)
    had = set(_reach(request.old_object)) if request.old_object else set()
    reached = {host: where for host, where in _reach(request.object).items() if host not in had}
    if not reached:
        return allowed(request.uid)
    taken = {
        host
        for claim in claims
        # In the workshop namespace nobody but the runtime and the operator writes.
        if request.namespace != names.workshop_namespace(claim["metadata"]["name"])
        for host in _hosts(claim, domains.get(f"{claim['metadata']['namespace']}/{claim['metadata']['name']}"))
    }
    below = {host[index:] for host in taken for index, letter in enumerate(host) if letter == "."}
    errors = [
        FieldError(where, Problem.FORBIDDEN, host or None, "this host belongs to a lab, which answers for it")
        for host, where in reached.items()
        if host in taken or (taken and not host) or (host.startswith("*.") and host[1:] in below)
    ]
    return denied(request, list(dict.fromkeys(errors))[:ERRORS_MAX]) if errors else allowed(request.uid)


def _hosts(claim: Manifest, domain: str | None) -> list[str]:
    """Every host a lab derives; none where its domain is not known."""
    if domain is None:
        return []
    name, sessions, databases = names_of(claim)
    labels = [
        name,
        *(label for session in sessions for label in names.session_hosts(name, session)),
        *(names.database_host(name, host) for host in databases),
    ]
    return [f"{label}.{domain}" for label in labels]


def _reach(ingress: Manifest) -> dict[str, str]:
    """Hosts and wildcards an Ingress answers for, with the field of each; the empty host is every host."""
    spec = ingress.get("spec") or {}
    reached: dict[str, str] = {}
    for index, rule in enumerate(spec.get("rules") or ()):
        reached.setdefault(str(rule.get("host") or "").lower(), f"spec.rules[{index}].host")
    if spec.get("defaultBackend"):
        reached.setdefault("", "spec.defaultBackend")
    annotations = ingress["metadata"].get("annotations") or {}
    for alias in str(annotations.get(SERVER_ALIAS) or "").split(","):
        if alias.strip():
            # nginx takes regular expressions here: whatever is not a plain name may match anything.
            plain = alias.strip().lower()
            reached.setdefault(
                plain if plain.replace(".", "").replace("-", "").isalnum() else "",
                f"metadata.annotations[{SERVER_ALIAS}]",
            )
    return reached
