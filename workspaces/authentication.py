"""What tells who sends a request, as the settings want it: made with the process, and closed with it."""

import time
from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

from datalabd.errors import StartupError
from workspaces.claims import Expected
from workspaces.identity import ORIGIN, Authenticator, Gateway, middleware
from workspaces.issuer import Issuer
from workspaces.keys import Keys
from workspaces.login import Login
from workspaces.proxies import Proxies
from workspaces.rates import RateLimits
from workspaces.settings import Settings
from workspaces.tokens import Verifier


class Authentication:
    """Identifies callers and counts their requests. Needs no network to be made."""

    def __init__(
        self,
        settings: Settings,
        *,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """StartupError for a file that cannot be used."""
        self.proxies = Proxies(settings.trusted_proxies)
        self._limits = RateLimits(settings.rates)
        self._issuer: Issuer | None = None
        self._keys: Keys | None = None
        self._login: Login | None = None
        verifier: Verifier | None = None
        gateway: Gateway | None = None
        if settings.auth_mode == "oidc":
            try:
                self._issuer = Issuer(
                    settings.oidc_issuer, jwks_url=settings.oidc_jwks_url, ca_file=settings.oidc_ca_file, clock=clock
                )
            except OSError as error:
                raise StartupError(f"OIDC_CA_FILE: {settings.oidc_ca_file} holds no certificates: {error}") from None
            self._keys = Keys(self._issuer, clock)
            expected = Expected(settings.oidc_issuer, settings.auth_audience, settings.oidc_leeway_seconds)
            verifier = Verifier(self._keys, expected, settings.oidc_algorithms, now)
            if settings.oidc_client_id:
                self._login = _login(settings, self._issuer, verifier, self.proxies, now)
        elif settings.auth_mode == "gateway":
            gateway = Gateway(self.proxies, settings.gateway_secret or "", settings.auth_audience)
        self._authenticator = Authenticator(verifier=verifier, gateway=gateway, login=self._login)

    def middleware(self, is_public: Callable[[web.Request], bool]) -> Middleware:
        """As `identity.middleware`."""
        return middleware(self._authenticator, self.proxies, self._limits, is_public)

    def install(self, app: web.Application) -> None:
        """Add the routes of logins, which are public, if people can log in here."""
        if self._login is not None:
            self._login.install(app)

    async def is_ready(self) -> bool:
        """Whether tokens can be verified; asks the issuer for its keys if it was never reached."""
        return self._keys is None or await self._keys.prepare()

    async def close(self) -> None:
        """Stop whatever goes on with the issuer."""
        for part in (self._login, self._keys, self._issuer):
            if part is not None:
                await part.close()


def _login(settings: Settings, issuer: Issuer, verifier: Verifier, proxies: Proxies, now: Callable[[], float]) -> Login:
    try:
        return Login(
            issuer,
            verifier,
            client_id=settings.oidc_client_id,
            client_secret=settings.oidc_client_secret or "",
            cookie_key=settings.cookie_key,
            origin_of=lambda request: request[ORIGIN],
            client_of=lambda request: proxies.client(request.remote, request.headers),
            now=now,
        )
    except ValueError as error:
        raise StartupError(f"COOKIE_KEY_FILE: {error}") from None
