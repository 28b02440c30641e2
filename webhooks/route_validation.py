"""Refuses routes that reach for hosts which are a lab's, or below the labs' domain without leave."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from datalabd import names, routes
from datalabd.api.environment import OpenTo
from datalabd.api.meta import FieldError, Manifest, NamespacedName, Problem
from datalabd.kube.store import key_of
from datalabd.plan.ingress_protection import SESSION_INGRESS, weakening
from datalabd.routes import hosts
from datalabd.steps import Steps
from datalabd.validation import names_of
from webhooks.review import AdmissionRequest

ERRORS_MAX = 20
"""Mistakes told of one route, which may have thousands of rules."""
HOSTS_A_STEP = 20
"""Hosts that are looked into in one step."""
TAKEN = "this host belongs to a lab, which answers for it"
RESERVED = (
    "it lies below the domain of labs: that takes an entry in ingress.openTo of their environment, or the right to"
    f" {routes.ROUTE_VERB} environmentconfigs.pkg.internal"
)

AIMED = (
    "what it names may become a lab's namespace, whose services it would reach past their protection: that takes the"
    f" right to {routes.ROUTE_VERB} environmentconfigs.pkg.internal"
)


class Labs(Protocol):
    """The labs that there are, by what a route may say of them."""

    def labs_named(self, name: str) -> Sequence[tuple[Manifest, str | None]]:
        """The claims of that name, each with the domain of its hosts, as far as that is known."""

    def labs_below(self, domain: str) -> int:
        """How many labs have their hosts below a domain."""


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a route."""

    errors: Sequence[FieldError] = ()
    reserved: Sequence[FieldError] = ()
    """What is wrong only if whoever writes it does not run the platform."""


def route(request: AdmissionRequest, labs: Labs, openings: Mapping[str, Sequence[OpenTo]]) -> Steps[Verdict]:
    """What is wrong with a route, of whichever kind: hosts of a lab whose own it is not, whoever writes it; and other
    names below a domain of labs that no environment opens to it.

    `openings` says to whom names below each domain of labs are open. An update that reaches for nothing new passes, so
    that a route older than the lab can still be finalized, and mended. One with more than is looked into passes only if
    nothing of that changes.
    """
    now, old = request.object, request.old_object
    if now is None or _unchanged(now, old):
        return Verdict()
    try:
        reached = routes.reached(now)
    except routes.TooMany as error:
        detail = f"a route may have at most {error.limit}, as some may be a lab's; divide it"
        return Verdict([FieldError(error.where, Problem.TOO_MANY, None, detail)])
    held = _held(old) if old else {}
    forbidden, own = yield from _labs_hosts(now, request.namespace, reached, labs, openings.keys())
    errors = [FieldError(where, Problem.FORBIDDEN, host or None, TAKEN) for host, where in forbidden.items()]
    if old and errors:
        before, _ = yield from _labs_hosts(old, request.namespace, held, labs, openings.keys())
        errors = [error for error in errors if (error.value or hosts.EVERY) not in before]
    elsewhere = _elsewhere(request)
    errors += [error for error in elsewhere if labs.labs_named(str(error.value))]
    errors += _weakened(request)
    yield
    # An ending is tried at the end of a host with all others at once: there may be 500 of each.
    endings = tuple(host[1:] for host in held if hosts.is_broad(host))
    reserved = [replace(error, detail=AIMED) for error in elsewhere if error not in errors]
    for count, (host, where) in enumerate(reached.items()):
        if count % HOSTS_A_STEP == HOSTS_A_STEP - 1:
            yield
        if host in forbidden or host in own or host in held or host.endswith(endings):
            continue
        if not _is_open(host, request.namespace, labs, openings):
            reserved.append(FieldError(where, Problem.FORBIDDEN, host or None, RESERVED))
            if len(reserved) == ERRORS_MAX:
                break
    return Verdict(list(dict.fromkeys(errors))[:ERRORS_MAX], reserved)


def _unchanged(now: Manifest, old: Manifest | None) -> bool:
    """Whether an update leaves alone all that says what a route reaches for, and whose it is."""

    def parts(manifest: Manifest) -> list[object]:
        metadata = manifest["metadata"]
        return [manifest["kind"], manifest.get("spec"), metadata.get("annotations"), metadata.get("labels")]

    return old is not None and parts(now) == parts(old)


def _held(old: Manifest) -> dict[str, str]:
    """The hosts a route answered for; none where nobody can say, so that whatever it reaches for now is new."""
    try:
        return routes.reached(old)
    except routes.TooMany:
        return {}


def _labs_hosts(
    manifest: Manifest, namespace: str, reached: Mapping[str, str], labs: Labs, domains: Collection[str]
) -> Steps[tuple[dict[str, str], set[str]]]:
    """Those of the reached hosts, with their fields, at which the route meets a lab whose own it is not; and those of
    the lab whose own it is."""
    found = set(_covering(manifest, namespace, reached, labs, domains))
    own: set[str] = set()
    derived: dict[NamespacedName, list[tuple[str, str]]] = {}
    for count, host in enumerate(reached):
        if count % HOSTS_A_STEP == HOSTS_A_STEP - 1:
            yield
        label, _, domain = host.partition(".")
        if domain not in domains or len(host) > hosts.HOST_MAX:
            continue
        for owner in names.host_owners(label):
            for claim, chosen in labs.labs_named(owner):
                if chosen != domain:
                    continue
                key = key_of(claim)
                if key not in derived:
                    derived[key] = list(routes.lab_hosts(*names_of(claim), domain))
                purposes = routes.purposes(manifest, namespace, owner)
                for made, purpose in derived[key]:
                    if made == host:
                        (own if purpose in purposes else found).add(host)
    return {host: where for host, where in reached.items() if host in found}, own - found


def _covering(
    manifest: Manifest, namespace: str, reached: Mapping[str, str], labs: Labs, domains: Collection[str]
) -> Iterator[str]:
    """Hosts that stand for those of labs whose own the route is not: what covers the main host, which all labs have,
    covers all of them."""
    broad = [host for host in reached if hosts.is_broad(host)]
    if broad:
        is_own = routes.purposes(manifest, namespace, namespace) == routes.PURPOSES
        own = Counter(domain for _, domain in (labs.labs_named(namespace) if is_own else ()))
        for domain in domains:
            if labs.labs_below(domain) > own[domain]:
                yield from (host for host in broad if hosts.stands_for_labels(host, domain))


def _is_open(host: str, namespace: str, labs: Labs, openings: Mapping[str, Sequence[OpenTo]]) -> bool:
    """Whether a host is none below a domain of labs, or is one that an environment of that domain opens.

    What a lab derives, or would with another session, is never open. Where domains lie within each other, the longest
    decides.
    """
    below = [domain for domain in openings if hosts.reaches_below(host, domain)]
    if not below:
        return True
    domain = max((domain for domain in below if host.endswith(f".{domain}")), key=len, default="")
    if not domain or hosts.stands_for_labels(host, domain):
        return False
    if not any(opening.lists(namespace, host) for opening in openings[domain]):
        return False
    owners = names.host_owners(host.removesuffix(f".{domain}"))
    return not any(chosen == domain for owner in owners for _, chosen in labs.labs_named(owner))


def _elsewhere(request: AdmissionRequest) -> list[FieldError]:
    """Where an Ingress newly takes requests to Services of another namespace, past the protection if it is a lab's."""
    annotations = _annotations(request.object)
    target = annotations.get(routes.SERVICE_NAMESPACE)
    if not target or target in (request.namespace, _annotations(request.old_object).get(routes.SERVICE_NAMESPACE)):
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
