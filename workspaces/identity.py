"""Who sends a request: by a token that is verified here or by a trusted proxy, or by a login of a browser."""

import hashlib
import hmac
import time
from collections.abc import Callable

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from yarl import URL

from datalabd import metrics
from workspaces import browsers, claims
from workspaces.claims import ANYBODY, Identity, TokenRefused
from workspaces.keys import KeysUnavailable
from workspaces.login import LOGIN, Login
from workspaces.proxies import Origin, Proxies
from workspaces.rates import RateLimits
from workspaces.refusals import CrossSite, IdentityUnavailable, TooManyRequests, Unauthorized
from workspaces.tokens import Verifier, parse

log = structlog.get_logger()

CALLER = web.RequestKey("caller", Identity)
"""Who sends the request; not of a public one."""
ORIGIN = web.RequestKey("origin", Origin)
"""Where the client sees us: what links and redirects begin with."""


class Gateway:
    """Believes tokens that a proxy has verified. Expired or not is the proxy's business too."""

    def __init__(self, proxies: Proxies, secret: str, audience: str) -> None:
        """The secret may be empty: then proxies are told by their addresses alone."""
        self._proxies = proxies
        self._secret = hashlib.sha256(secret.encode()).digest() if secret else None
        self._audience = audience

    def identity(self, token: str, peer: str | None, secret: str) -> Identity:
        """Whom the token is of; TokenRefused if it is none, or comes from anybody else."""
        result: str = "gateway"
        try:
            if not (self._proxies.trusts(peer) or self._has_secret(secret)):
                log.warning("token refused: it comes from no trusted proxy", peer=peer)
                raise TokenRefused("untrusted")
            _, found = parse(token)
            if not claims.is_audience(found, self._audience):
                raise TokenRefused("audience")
            return claims.identity(found)
        except TokenRefused as error:
            result = error.reason
            raise
        finally:
            metrics.TOKEN_VERIFICATIONS.labels(result=result).inc()

    def _has_secret(self, secret: str) -> bool:
        digest = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
        return self._secret is not None and hmac.compare_digest(digest, self._secret)


class Authenticator:
    """Tells who sends a request. Of `verifier` and `gateway` there is one; without either everybody is anybody."""

    def __init__(
        self, *, verifier: Verifier | None = None, gateway: Gateway | None = None, login: Login | None = None
    ) -> None:
        self._verifier = verifier
        self._gateway = gateway
        self._login = login

    async def identify(self, request: web.Request, origin: Origin) -> Identity:
        """Who sends it; raises `Unauthorized`, `CrossSite` or `IdentityUnavailable`."""
        if self._verifier is None and self._gateway is None:
            return _anybody(request, origin)
        credentials = request.headers.get(hdrs.AUTHORIZATION)
        try:
            if credentials is not None:
                return await self._of_token(request, _bearer(credentials))
            if self._login is not None and (found := await self._login.identity(request, origin)) is not None:
                if browsers.is_forged(request.method, request.headers, origin):
                    raise CrossSite
                return found
        except TokenRefused as error:
            raise Unauthorized(error.detail, error.reason, error.description) from None
        except KeysUnavailable as error:
            raise IdentityUnavailable(error.retry_after) from None
        raise Unauthorized("Missing Authorization header", "missing")

    async def _of_token(self, request: web.Request, token: str) -> Identity:
        if self._gateway is not None:
            if browsers.is_cross_site(request.method, request.headers):
                raise CrossSite
            return self._gateway.identity(token, request.remote, request.headers.get("X-Gateway-Secret", ""))
        assert self._verifier is not None
        return await self._verifier.identity(token)

    def login_page(self, request: web.Request, origin: Origin) -> str | None:
        """Where a person who looks at the answer can log in; None where there is nobody, or no such place."""
        if self._login is None or not browsers.is_navigation(request.method, request.headers):
            return None
        return str(URL(f"{origin.prefix}{LOGIN}").with_query(to=request.rel_url.raw_path_qs))


def _anybody(request: web.Request, origin: Origin) -> Identity:
    """Whoever is on this machine, but no page of another site that its browser shows, by whatever name."""
    if not origin.is_loopback:
        raise CrossSite(
            "Without authentication this machine alone is answered, by its own name: localhost or 127.0.0.1"
        )
    is_forged = hdrs.ORIGIN in request.headers and browsers.is_forged(request.method, request.headers, origin)
    if is_forged or browsers.is_cross_site(request.method, request.headers):
        raise CrossSite
    return ANYBODY


def _bearer(credentials: str) -> str:
    words = credentials.split()
    if len(words) != 2 or words[0].lower() != "bearer":
        raise Unauthorized("Invalid Authorization header", "malformed")
    return words[1]


def middleware(
    authenticator: Authenticator, proxies: Proxies, limits: RateLimits, is_public: Callable[[web.Request], bool]
) -> Middleware:
    """Lets requests through whose sender is known, and does not ask too often; others raise a `Problem`.

    A person at a browser is led to a login instead, where there is one.
    """

    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request[ORIGIN] = proxies.origin(request.remote, request.scheme, request.headers)
        if is_public(request):
            return await handler(request)
        try:
            caller = request[CALLER] = await authenticator.identify(request, origin)
        except Unauthorized:
            if hdrs.AUTHORIZATION in request.headers or (page := authenticator.login_page(request, origin)) is None:
                raise
            return web.Response(status=302, headers={hdrs.LOCATION: page, hdrs.CACHE_CONTROL: "no-store"})
        is_write = request.method not in browsers.SAFE_METHODS
        wait = limits.take(caller.counts_as, is_write=is_write, now=time.monotonic())
        if wait:
            raise TooManyRequests(wait)
        return await handler(request)

    return authenticate
