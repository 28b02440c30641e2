"""Admission of session Ingresses and of routes: gathers what is known of the labs, and asks for a judgement."""

from typing import Any

import structlog

from datalabd import routes, validation
from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import FIELD_MANAGER, MANAGED_BY, FieldError, Manifest, claim_of
from datalabd.errors import EnvironmentInvalid, NotFound
from datalabd.kube import resources as kinds
from datalabd.kube.cache import ENVIRONMENTS, Cache
from datalabd.kube.store import key_of
from datalabd.submission import Submission
from webhooks import mutate, route_validation
from webhooks.authorizer import Authorizer
from webhooks.lookups import Lookups
from webhooks.review import AdmissionRequest, BadReview, allowed, denied
from webhooks.turns import Turns

log = structlog.get_logger()

RUN_PLATFORM = (
    (routes.ROUTE_VERB, kinds.ENVIRONMENT_CONFIGS.group, kinds.ENVIRONMENT_CONFIGS.plural),
    ("create", kinds.WORKSHOP_SESSIONS.group, kinds.WORKSHOP_SESSIONS.plural),
)
"""Rights of which one lets a writer have names below the domains of labs."""


async def mutate_ingress(cache: Cache, lookups: Lookups, review: Any) -> Manifest:
    """Fails closed: a lab's Ingress is refused while nobody can say how it is to be protected."""
    request = AdmissionRequest.decode(review)
    if request.object is not None and request.object["metadata"].get("deletionTimestamp"):
        return allowed(request.uid)  # whoever holds it has to be able to let go
    claims = cache.claims_named(request.namespace)
    runtime = await _runtime(cache, lookups, request.namespace)
    if runtime is not None and not _is_ours(runtime):
        return allowed(request.uid)  # Educates serves others too
    cache.require_known(kinds.DATALABS, *ENVIRONMENTS)
    if runtime is None and not claims:
        return allowed(request.uid)
    # While claims compete for a name, the environment of one that lost may protect less than that of who has the lab.
    holders = [claim for claim in claims if runtime is None or key_of(claim) == claim_of(runtime)]
    if len(holders) != 1:
        return mutate.ingress_refused(request, "the lab's claim is not known here yet")
    (claim,) = holders
    try:
        environment = cache.environment_of(claim)
    except EnvironmentInvalid as error:
        return mutate.ingress_refused(request, f"the lab's environment cannot be read: {error}")
    return mutate.ingress(request, claim, environment)


async def validate_route(
    cache: Cache, authorizer: Authorizer, lookups: Lookups, turns: Turns, peer: str, review: Any
) -> Manifest:
    """Refuses a route that reaches for hosts which are a lab's, or below a domain of labs without leave.

    Fails closed: a name below such a domain is refused while nobody can say what its writer may do.
    """
    request = AdmissionRequest.decode(review)
    for route in (request.object, request.old_object):
        if route is not None and route.get("kind") not in routes.KINDS:
            raise BadReview(f"{route.get('kind')} is no kind of route that is known here")
    cache.require_known(kinds.DATALABS, *ENVIRONMENTS)
    steps = route_validation.route(request, cache, cache.openings())
    verdict = await turns.take(peer, request.username, steps)
    errors = [*verdict.errors]
    if verdict.reserved and not await _runs_platform(cache, authorizer, lookups, request):
        errors += verdict.reserved
    if not errors:
        return allowed(request.uid)
    log.info("route refused", namespace=request.namespace, name=request.name, user=request.username)
    return denied(request, errors[: route_validation.ERRORS_MAX])


def answered_elsewhere(
    cache: Cache, new: Submission, old: Submission | None, old_environment: EnvironmentConfig | None
) -> list[FieldError]:
    """What is wrong with sessions that are new, or have new hosts, for which others' routes answer already.

    A kind of routes that cannot be read is left out here: the reconciler finds them once it can be.
    """
    if new.environment is None or new.is_going:
        return []
    domain = new.environment.data.ingress.domain
    stays = old_environment is None or old_environment.data.ingress.domain == domain
    had = old.names.sessions if old is not None and stays else ()
    sessions = [session for session in new.names.sessions if session not in had]
    taken = cache.routes.taken(new.names.claim, sessions, domain) if sessions else {}
    return validation.answered_elsewhere(new.claim, domain, taken)


async def _runs_platform(cache: Cache, authorizer: Authorizer, lookups: Lookups, request: AdmissionRequest) -> bool:
    """Whether the writer is datalabd, may route environments, or makes sessions, as the runtime does."""
    if request.username == cache.account:
        return True
    return any([await authorizer.allows(lookups, request.user, right) for right in RUN_PLATFORM])


def _is_ours(runtime: Manifest) -> bool:
    return (runtime["metadata"].get("labels") or {}).get(MANAGED_BY) == FIELD_MANAGER


async def _runtime(cache: Cache, lookups: Lookups, namespace: str) -> Manifest | None:
    """The environment whose workshop namespace this is; as our cache may lag behind, the API server knows better."""
    if (known := cache.informers.store(kinds.WORKSHOP_ENVIRONMENTS).get("", namespace)) is not None:
        return known
    try:
        return await lookups.get(kinds.WORKSHOP_ENVIRONMENTS, namespace)
    except NotFound:
        return None
