"""The TLS site of the webhooks: routes, limits, metrics. What is decided stands in mutate, validate and convert."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import structlog
from aiohttp import web

from datalabd import metrics, names
from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import Manifest, NamespacedName, claim_of
from datalabd.errors import EnvironmentInvalid, KubeError, Unavailable
from datalabd.kube import resources as kinds
from datalabd.kube.cache import Cache
from datalabd.kube.client import Client
from datalabd.kube.store import key_of
from datalabd.lab import environment_name
from datalabd.observed import ENVIRONMENT_LABEL
from datalabd.validation import Names, VolumeClasses, names_of
from webhooks import convert, mutate, route_admission, validate, warn
from webhooks.authorizer import Authorizer
from webhooks.review import AdmissionRequest, allowed

log = structlog.get_logger()

BODY_MAX = 8 * 1024 * 1024
"""Bytes: the API server sends objects of up to 3 MiB, twice for an update."""
CACHE = web.AppKey("cache", Cache)
CLIENT = web.AppKey("client", Client)
AUTHORIZER = web.AppKey("authorizer", Authorizer)

Answer = Callable[[web.Request, Any], Awaitable[Manifest]]


def application(client: Client, cache: Cache) -> web.Application:
    """The webhook application."""
    app = web.Application(client_max_size=BODY_MAX)
    app[CLIENT], app[CACHE], app[AUTHORIZER] = client, cache, Authorizer(client)
    for path, answer in (
        ("/mutate/datalabs", _mutate_datalab),
        ("/validate/datalabs", _validate_datalab),
        ("/warn/datalabs", _warn_of_deletion),
        ("/validate/environmentconfigs", _validate_environment),
        ("/convert", _convert),
        ("/mutate/ingresses", _mutate_ingress),
        ("/validate/routes", _validate_route),
    ):
        app.router.add_post(path, _handler(path.strip("/").replace("/", "-"), answer))
    return app


def _handler(name: str, answer: Answer) -> Callable[[web.Request], Awaitable[web.Response]]:
    """A route that decodes, measures and logs; an answer that fails is a 500, which the API server reads as no."""

    async def handle(request: web.Request) -> web.Response:
        began = time.monotonic()
        code = 500
        try:
            with metrics.WEBHOOK_IN_FLIGHT.labels(webhook=name).track_inprogress():
                try:
                    review = await request.json(loads=orjson.loads)
                    body = await answer(request, review)
                except (ValueError, RecursionError) as error:  # no JSON, no review, or nested without end
                    code = 400
                    return web.Response(status=code, text=f"{error}\n")
                except KubeError as error:
                    code = 503
                    log.warning("webhook could not decide", webhook=name, error=str(error))
                    return web.Response(status=code, text="the API server did not answer; try again\n")
                except web.HTTPException as error:
                    code = error.status
                    raise
            code = 200
            return web.json_response(body)
        finally:
            metrics.WEBHOOK_REQUESTS.labels(webhook=name, code=str(code)).inc()
            metrics.WEBHOOK_SECONDS.labels(webhook=name).observe(time.monotonic() - began)

    return handle


async def _mutate_datalab(_: web.Request, review: Any) -> Manifest:
    return mutate.datalab(AdmissionRequest.decode(review))


async def _validate_datalab(http: web.Request, review: Any) -> Manifest:
    request = AdmissionRequest.decode(review)
    cache = http.app[CACHE]
    claim = request.object
    if claim is None:
        return allowed(request.uid)
    key = NamespacedName(request.namespace, claim["metadata"].get("name", ""))
    if not claim["metadata"].get("deletionTimestamp"):
        _require_known(cache)
    retained = cache.retained()
    others = {kept: Names(kept.name) for kept in retained}
    others |= {key_of(other): names_of(other) for other in cache.claims()}
    others.pop(key, None)
    answer = validate.datalab(
        request,
        _environment(cache, claim),
        others.items(),
        _foreign_namespaces(cache, claim),
        _environment(cache, request.old_object) if request.old_object else None,
        kept=key in retained,
        volumes=cache.volume_classes(claim) if request.old_object else VolumeClasses(),
    )
    if not answer["response"]["allowed"]:
        log.info("claim refused", namespace=request.namespace, name=request.name, user=request.username)
    return answer


async def _warn_of_deletion(http: web.Request, review: Any) -> Manifest:
    request = AdmissionRequest.decode(review)
    claim = request.old_object
    if claim is None or claim["metadata"].get("deletionTimestamp"):
        return allowed(request.uid)
    return allowed(request.uid, warnings=warn.few(warn.deletion(claim, _environment(http.app[CACHE], claim))))


async def _validate_environment(http: web.Request, review: Any) -> Manifest:
    request = AdmissionRequest.decode(review)
    cache = http.app[CACHE]
    if request.operation == "DELETE" and not cache.informers.synced(kinds.DATALABS):
        raise Unavailable(0, "NotListed", "the claims that may use this environment are not listed yet")
    labs = sum(environment_name(claim) == request.name for claim in cache.claims())
    answer = validate.environment(request, labs)
    if not answer["response"]["allowed"]:
        log.info("environment refused", name=request.name, operation=request.operation, user=request.username)
    return answer


async def _convert(_: web.Request, review: Any) -> Manifest:
    return convert.datalabs(review)


async def _mutate_ingress(http: web.Request, review: Any) -> Manifest:
    return await route_admission.mutate_ingress(http.app[CACHE], http.app[CLIENT], review)


async def _validate_route(http: web.Request, review: Any) -> Manifest:
    return await route_admission.validate_route(http.app[CACHE], http.app[AUTHORIZER], review)


def _environment(cache: Cache, claim: Manifest) -> EnvironmentConfig | None:
    try:
        return cache.environment(environment_name(claim))
    except EnvironmentInvalid:
        return None


def _require_known(cache: Cache) -> None:
    """Raise `Unavailable` while nobody can say here which names are taken: what is not listed yet looks free."""
    informers = cache.informers
    needed = [kinds.DATALABS, kinds.NAMESPACES]
    if informers.served(kinds.WORKSHOP_ENVIRONMENTS):
        needed.append(kinds.WORKSHOP_ENVIRONMENTS)
    for kind in needed:
        if not informers.synced(kind):
            raise Unavailable(0, "NotListed", f"the {kind.kind}s of the cluster are not listed yet")


def _foreign_namespaces(cache: Cache, claim: Manifest) -> set[str]:
    """Namespaces the lab would need that are there already, and neither its own nor on their way out."""
    store = cache.informers.store(kinds.NAMESPACES)
    name, sessions, _ = names_of(claim)
    found = set()
    for derived in {space for session in sessions for space in names.session_namespaces(name, session)}:
        namespace = store.get("", derived)
        # The runtime labels what it makes for sessions of this name: those of an earlier run go by themselves.
        labels = (namespace or {}).get("metadata", {}).get("labels") or {}
        if namespace is not None and not _is_going(namespace) and labels.get(ENVIRONMENT_LABEL) != name:
            found.add(derived)
    if _is_foreign(cache, claim, store.get("", names.workshop_namespace(name))):
        found.add(names.workshop_namespace(name))
    return found


def _is_foreign(cache: Cache, claim: Manifest, namespace: Manifest | None) -> bool:
    """Whether what is called like the lab's own namespace is somebody else's."""
    if namespace is None or _is_going(namespace):
        return False
    owners = namespace["metadata"].get("ownerReferences") or ()
    environment = cache.informers.store(kinds.WORKSHOP_ENVIRONMENTS).get("", claim["metadata"]["name"])
    if environment is None or all(owner["uid"] != environment["metadata"]["uid"] for owner in owners):
        return True
    # Left behind on purpose by an earlier claim of this name and namespace: it is adopted again.
    return claim_of(environment) != key_of(claim)


def _is_going(namespace: Manifest) -> bool:
    return "deletionTimestamp" in namespace["metadata"]
