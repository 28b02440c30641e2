"""Refuses routes that reach for a lab's hosts."""

from collections.abc import Iterable, Iterator

from datalabd import names, routes
from datalabd.api.meta import FieldError, Manifest, Problem
from datalabd.kube.store import key_of
from datalabd.plan.ingress_protection import REGISTRY_INGRESS, SESSION_INGRESS, weakening
from datalabd.validation import names_of
from webhooks.review import AdmissionRequest, allowed, denied

ERRORS_MAX = 20
"""Mistakes told of one route, which may have thousands of rules."""
HOST_MAX = 253
"""Characters of a host: what is longer is nobody's."""
PURPOSES = frozenset({"session", "registry", "database"})
"""What the hosts of a lab are for."""
TAKEN = "this host belongs to a lab, which answers for it"


def route(request: AdmissionRequest, claims: Iterable[Manifest], domains: dict[str, str]) -> Manifest:
    """Refusal of a route, of whichever kind, that would answer for a host of a lab without being that lab's own.

    `domains` has the domain of each claim, by `<namespace>/<name>`. An update that reaches for nothing new passes, so
    that a route older than the lab can still be finalized, and mended. One with more than is looked into passes only if
    nothing of that changes.
    """
    if request.object is None:
        return allowed(request.uid)
    try:
        reached = routes.reached(request.object)
    except routes.TooMany as error:
        if _unchanged(request.object, request.old_object):
            return allowed(request.uid)
        detail = f"a route may have at most {error.limit}, as some may be a lab's; divide it"
        return denied(request, [FieldError(error.where, Problem.TOO_MANY, None, detail)])
    labs = [(claim, domains.get(str(key_of(claim)))) for claim in claims]
    forbidden = {} if not reached else _forbidden(request.object, request.namespace, reached, labs)
    errors = [FieldError(where, Problem.FORBIDDEN, host or None, TAKEN) for host, where in forbidden.items()]
    if old := request.old_object:
        had = _forbidden(old, request.namespace, _had(old), labs)
        errors = [error for error in errors if (error.value or "") not in had]
    errors += _elsewhere(request, labs)
    errors += _weakened(request)
    return denied(request, list(dict.fromkeys(errors))[:ERRORS_MAX]) if errors else allowed(request.uid)


def _unchanged(now: Manifest, old: Manifest | None) -> bool:
    """Whether an update leaves alone all that says what a route reaches for, and whose it is."""

    def parts(manifest: Manifest) -> list[object]:
        metadata = manifest["metadata"]
        return [manifest["kind"], manifest.get("spec"), metadata.get("annotations"), metadata.get("labels")]

    return old is not None and parts(now) == parts(old)


def _had(old: Manifest) -> dict[str, str]:
    """The hosts a route answered for; none where nobody can say, so that whatever it reaches for now is new."""
    try:
        return routes.reached(old)
    except routes.TooMany:
        return {}


def _forbidden(
    manifest: Manifest, namespace: str, reached: dict[str, str], labs: Iterable[tuple[Manifest, str | None]]
) -> dict[str, str]:
    """Those of the reached hosts, with their fields, at which the route meets a lab whose own it is not."""
    named = "\n".join(host for host in reached if len(host) <= HOST_MAX)
    broad = [host for host in reached if not host or host.startswith("*.")]
    found: set[str] = set()
    covered: set[str] = set()
    for claim, domain in labs:
        if domain is None:
            continue
        name = claim["metadata"]["name"]
        purposes = _purposes(manifest) if namespace == names.workshop_namespace(name) else frozenset[str]()
        if purposes != PURPOSES and domain not in covered:
            # What covers the lab's main host, which all labs have, covers all of them.
            covered.add(domain)
            found.update(host for host in broad if f".{domain}".endswith(host[1:]))
        if name in named:
            found.update(host for host, purpose in _hosts(claim, domain) if host in reached and purpose not in purposes)
    return {host: where for host, where in reached.items() if host in found}


def _purposes(manifest: Manifest) -> frozenset[str]:
    """What a route in the workshop namespace of a lab may have hosts of that lab for.

    Administrators of that namespace can write there as the runtime does: what nobody protects is not for sessions.
    """
    if manifest["kind"] == "TLSRoute":
        return frozenset({"database"})
    if manifest["kind"] == "Ingress":
        labels = manifest["metadata"].get("labels") or {}
        if labels.items() >= SESSION_INGRESS.items():
            return PURPOSES
        if labels.items() >= REGISTRY_INGRESS.items():
            return frozenset({"registry"})
    return frozenset()


def _hosts(claim: Manifest, domain: str) -> Iterator[tuple[str, str]]:
    """Every host a lab derives, with what it is for."""
    name, sessions, databases = names_of(claim)
    yield f"{name}.{domain}", "session"
    for session in sessions:
        *gateway, registry = names.session_hosts(name, session)
        for label in gateway:
            yield f"{label}.{domain}", "session"
        yield f"{registry}.{domain}", "registry"
    for database in databases:
        yield f"{names.database_host(name, database)}.{domain}", "database"


def _elsewhere(request: AdmissionRequest, labs: Iterable[tuple[Manifest, str | None]]) -> list[FieldError]:
    """Whether an Ingress would take requests of its own hosts past a lab's protection, to Services of that lab."""
    annotations = _annotations(request.object)
    target = annotations.get(routes.SERVICE_NAMESPACE)
    if not target or target in (request.namespace, _annotations(request.old_object).get(routes.SERVICE_NAMESPACE)):
        return []
    if all(target != names.workshop_namespace(claim["metadata"]["name"]) for claim, _ in labs):
        return []
    where = f"metadata.annotations[{routes.SERVICE_NAMESPACE}]"
    return [FieldError(where, Problem.FORBIDDEN, target, "this namespace belongs to a lab")]


def _weakened(request: AdmissionRequest) -> Iterator[FieldError]:
    """Annotations of a session's Ingress that would undo its protection, but for those that are this protection."""
    labels = ((request.object or {})["metadata"]).get("labels") or {}
    if not labels.items() >= SESSION_INGRESS.items():
        return
    old = _annotations(request.old_object)
    for key in weakening(_annotations(request.object)):
        if old.get(key) != _annotations(request.object)[key]:
            detail = "would change who comes in; the lab's environment decides that, in ingress.protection"
            yield FieldError(f"metadata.annotations[{key}]", Problem.FORBIDDEN, None, detail)


def _annotations(manifest: Manifest | None) -> dict[str, str]:
    return ((manifest or {}).get("metadata") or {}).get("annotations") or {}
