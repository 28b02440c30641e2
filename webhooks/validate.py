"""Refuses claims that cannot become a lab, and Ingresses that reach for another lab's hosts."""

from collections.abc import Iterable

from datalabd import names
from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import FieldError, Manifest, Problem
from datalabd.plan.ingress_protection import NGINX
from datalabd.validation import Names, clashes, names_of, validate, warnings
from webhooks.review import AdmissionRequest, allowed, denied

ERRORS_MAX = 20
"""Mistakes told of one Ingress, which may have thousands of rules."""
SERVER_ALIAS = f"{NGINX}/server-alias"


def datalab(
    request: AdmissionRequest,
    environment: EnvironmentConfig | None,
    others: Iterable[Names],
    foreign_namespace: bool,
) -> Manifest:
    """All mistakes of a claim in one answer, or approval with what is legal but unwise.

    `others` are all names taken; `foreign_namespace`: the lab's namespace is there already and not its own.
    """
    claim = request.object
    if claim is None:
        return allowed(request.uid)
    old = request.old_object if request.operation == "UPDATE" else None
    errors = validate(claim, old, environment)
    if old is None or names_of(old) != names_of(claim):
        errors = [*errors, *clashes(claim, others)]
    if old is None and foreign_namespace and all(error.path != "metadata.name" for error in errors):
        name = claim["metadata"]["name"]
        detail = "a namespace of that name exists and is not a lab's; the lab would need it for itself"
        errors = [*errors, FieldError("metadata.name", Problem.INVALID, name, detail)]
    if errors:
        return denied(request, errors)
    notes = warnings(claim, old, environment)
    if environment is None and old is None:
        notes = [*notes, "the environment this claim chooses does not exist, or is invalid; the lab waits for it"]
    return allowed(request.uid, warnings=notes)


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
