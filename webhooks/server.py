"""The TLS site of the webhooks: routes, limits, metrics. What is decided stands in mutate, validate and convert."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import orjson
import structlog
from aiohttp import web

from datalabd import metrics, names
from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import Manifest, NamespacedName, claim_of
from datalabd.errors import EnvironmentInvalid, KubeError, NotYet
from datalabd.kube import resources as kinds
from datalabd.kube.cache import Cache
from datalabd.kube.client import Client
from datalabd.kube.store import key_of
from datalabd.lab import environment_name
from datalabd.observed import ENVIRONMENT_LABEL
from datalabd.serving import Bodies, Room
from datalabd.submission import Submission
from datalabd.validation import names_of, unique_names
from webhooks import convert, environment_choice, mutate, route_admission, validate, warn
from webhooks.authorizer import Authorizer
from webhooks.decoding import AT_ONCE, decoded
from webhooks.lookups import Lookups
from webhooks.review import AdmissionRequest, allowed, denied, not_yet
from webhooks.turns import Turns
from webhooks.validate import Taken

log = structlog.get_logger()

BODY_MAX = 8 * 1024 * 1024
"""Bytes: the API server sends objects of up to 3 MiB, twice for an update."""
ROOM = BODY_MAX
"""Bytes of large bodies at once. Anybody may send some, and they decode to 200 MiB, of 512 MiB that there are."""
SMALL_ROOM = 2 * 1024 * 1024
"""Bytes of small ones at once, which decode to 60 MiB: 400 claims, as most are."""
LOOKUPS_MAX = 4
"""Requests to the API server at once: anybody may cause some, and the reconciler needs the connections too."""
LOOKUP_SECONDS = 3.0
"""How long one waits until it begins: well within the timeout of an admission."""
DECISIVE = (kinds.DATALABS, kinds.NAMESPACES, kinds.WORKSHOP_ENVIRONMENTS, kinds.ENVIRONMENT_CONFIGS)
"""Kinds that tell which names are taken, and what may be asked for. Crossplane's environments may be unreadable."""
CACHE = web.AppKey("cache", Cache)
CLIENT = web.AppKey("client", Client)
AUTHORIZER = web.AppKey("authorizer", Authorizer)
TURNS = web.AppKey("turns", Turns)
BODIES = web.AppKey("bodies", Bodies)
LOOKUPS = web.AppKey("lookups", Room)

Answer = Callable[[web.Request, Any], Awaitable[Manifest]]


def application(client: Client, cache: Cache) -> web.Application:
    """The webhook application."""
    app = web.Application()
    app[CLIENT], app[CACHE], app[AUTHORIZER], app[TURNS] = client, cache, Authorizer(), Turns()
    app[BODIES] = Bodies(BODY_MAX, room=ROOM, small_room=SMALL_ROOM)
    app[LOOKUPS] = Room(LOOKUPS_MAX, seconds=LOOKUP_SECONDS)
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
    in_flight = metrics.WEBHOOK_IN_FLIGHT.labels(webhook=name)
    duration = metrics.WEBHOOK_SECONDS.labels(webhook=name)
    succeeded = metrics.WEBHOOK_REQUESTS.labels(webhook=name, code="200")

    async def handle(request: web.Request) -> web.Response:
        began = time.monotonic()
        code = 500
        in_flight.inc()
        try:
            async with request.app[BODIES].read(request) as text:
                if len(text) <= AT_ONCE:
                    review = orjson.loads(text)
                else:
                    review = await request.app[TURNS].take(_peer(request), name, decoded(text))
                try:
                    body = await answer(request, review)
                except NotYet as error:
                    log.info("webhook cannot judge yet", webhook=name, reason=str(error))
                    body = not_yet(AdmissionRequest.decode(review), str(error))
                code = 200
                return web.Response(body=orjson.dumps(body), content_type="application/json")
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
        finally:
            in_flight.dec()
            duration.observe(time.monotonic() - began)
            (succeeded if code == 200 else metrics.WEBHOOK_REQUESTS.labels(webhook=name, code=str(code))).inc()

    return handle


async def _mutate_datalab(_: web.Request, review: Any) -> Manifest:
    return mutate.datalab(AdmissionRequest.decode(review))


async def _validate_datalab(http: web.Request, review: Any) -> Manifest:
    request = AdmissionRequest.decode(review)
    cache = http.app[CACHE]
    claim = request.object
    if claim is None:
        return allowed(request.uid)
    if not claim["metadata"].get("deletionTimestamp"):
        cache.require_known(*DECISIVE)
    key = NamespacedName(request.namespace, claim["metadata"].get("name", ""))
    environment, was = _environment(cache, claim), request.old_object if request.operation == "UPDATE" else None
    if was is not None and environment_name(claim) != environment_name(was) and cache.lost_environment(claim):
        try:
            environment = await environment_choice.chosen(_lookups(http), claim)
        except EnvironmentInvalid as problem:
            if await environment_choice.has_runtime(cache, _lookups(http), claim):
                log.info("claim refused", namespace=request.namespace, name=request.name, user=request.username)
                return denied(request, [environment_choice.refusal(claim, problem)])
            environment = None
    elif request.operation == "CREATE" and environment is None:
        environment = await _environment_made_with(http, claim)
    new, old = Submission(claim, environment), None if was is None else Submission(was, environment)
    if old is not None and new.says_the_same(old):
        answer = validate.annotations(request, new, old)
    else:
        taken = Taken()
        if old is None or old.names != new.names:
            taken = Taken(cache.names.holders(unique_names(new.names), key), _foreign_namespaces(cache, claim))
        old_environment = None if was is None else _environment(cache, was)
        taken = replace(taken, answered=route_admission.answered_elsewhere(cache, new, old, old_environment))
        if old is not None:
            new = replace(new, volumes=cache.volume_classes(claim))
        steps = validate.datalab(request, new, old, taken, old_environment, kept=cache.names.is_kept(key))
        answer = await http.app[TURNS].take(_peer(http), request.username, steps)
    if not answer["response"]["allowed"]:
        log.info("claim refused", namespace=request.namespace, name=request.name, user=request.username)
    return answer


async def _warn_of_deletion(http: web.Request, review: Any) -> Manifest:
    request = AdmissionRequest.decode(review)
    claim = request.old_object
    if claim is None or claim["metadata"].get("deletionTimestamp"):
        return allowed(request.uid)
    effects = warn.deletion(Submission(claim, _environment(http.app[CACHE], claim)))
    return allowed(request.uid, warnings=warn.few(effects))


async def _validate_environment(http: web.Request, review: Any) -> Manifest:
    request = AdmissionRequest.decode(review)
    cache = http.app[CACHE]
    if request.operation == "DELETE":
        cache.require_known(kinds.DATALABS)
    labs = sum(environment_name(claim) == request.name for claim in cache.claims())
    answer = await http.app[TURNS].take(_peer(http), request.username, validate.environment(request, labs))
    if not answer["response"]["allowed"]:
        log.info("environment refused", name=request.name, operation=request.operation, user=request.username)
    return answer


async def _convert(http: web.Request, review: Any) -> Manifest:
    return await http.app[TURNS].take(_peer(http), "", convert.datalabs(review))


async def _mutate_ingress(http: web.Request, review: Any) -> Manifest:
    return await route_admission.mutate_ingress(http.app[CACHE], _lookups(http), review)


async def _validate_route(http: web.Request, review: Any) -> Manifest:
    app = http.app
    return await route_admission.validate_route(
        app[CACHE], app[AUTHORIZER], _lookups(http), app[TURNS], _peer(http), review
    )


def _peer(http: web.Request) -> str:
    """Who sends a request: the API server, or somebody who makes it up."""
    return http.remote or ""


def _lookups(http: web.Request) -> Lookups:
    return Lookups(http.app[CLIENT], http.app[LOOKUPS], _peer(http))


def _environment(cache: Cache, claim: Manifest) -> EnvironmentConfig | None:
    try:
        return cache.environment_of(claim)
    except EnvironmentInvalid:
        return None


async def _environment_made_with(http: web.Request, claim: Manifest) -> EnvironmentConfig | None:
    """An environment that was made together with a claim, and that caches do not have yet.

    None if there is none to be had: a claim may come before its environment.
    """
    try:
        return await environment_choice.chosen(_lookups(http), claim)
    except EnvironmentInvalid:
        return None
    except KubeError as error:
        log.info("environment not read", name=environment_name(claim), error=str(error))
        return None


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
