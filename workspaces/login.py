"""Logins of browsers: the code flow of OpenID Connect with PKCE, state and nonce.

A login is kept by the browser alone, in a sealed cookie with a session id and a refresh token. Any replica that has its
key gets an access token for it, which stays in memory, and gets the next one when that expires.
"""

import asyncio
import base64
import hashlib
import hmac
import html
import math
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote_plus

import structlog
from aiohttp import hdrs, web
from yarl import URL

from workspaces import browsers
from workspaces.claims import Identity, TokenRefused
from workspaces.cookies import Cookies, CookieTooLarge, Seal, is_local
from workspaces.issuer import Issuer, IssuerError, IssuerRefused, Json
from workspaces.keys import KeysUnavailable
from workspaces.memory import Memory
from workspaces.proxies import Origin
from workspaces.rates import Limiter
from workspaces.refusals import CrossSite, IdentityUnavailable
from workspaces.tokens import Verifier

log = structlog.get_logger()

LOGIN, CALLBACK, LOGOUT = "/login", "/login/callback", "/logout"
PATHS = frozenset({LOGIN, CALLBACK, LOGOUT})
"""Paths that need no identity."""
AFTER_LOGIN = "/workspaces"
LOGIN_SECONDS = 600
"""How long somebody may take to log in."""
RENEW_SECONDS = 10.0
"""How long before it expires an access token is renewed."""
SESSIONS_MAX_BYTES = 16 * 1024 * 1024
"""Of the access tokens of all logins in memory. One that is not there costs a request to the issuer."""
SESSION_SECONDS = 12 * 3600.0
EARLIER_MAX = 8
REQUESTS_PER_SECOND = 20
"""Ends of logins and logouts of one address: each is a request to the issuer with our secret."""
USED_MAX = 10_000
"""States, and refresh tokens, that are known to be used up."""
ENDED_SECONDS = 600.0
"""How long the issuer is not asked again about a refresh token that it refused."""

_RENEWED = web.RequestKey("renewed login", dict[str, str])
"""The cookies of a login that come with the answer."""


@dataclass
class _Session:
    """One login, as this replica knows it."""

    identity: Identity
    refresh_token: str
    earlier: tuple[str, ...] = ()
    """Refresh tokens that this replica has exchanged for later ones."""


class Login:
    """Logs people in, by one client of the issuer."""

    def __init__(
        self,
        issuer: Issuer,
        verifier: Verifier,
        *,
        client_id: str,
        client_secret: str,
        cookie_key: bytes | None,
        origin_of: Callable[[web.Request], Origin],
        client_of: Callable[[web.Request], str],
        now: Callable[[], float] = time.time,
    ) -> None:
        """Without a secret the client is a public one; without a key logins end with this process.

        `client_of` tells the address of whoever sends a request.

        ValueError for a key that is too short.
        """
        self._issuer = issuer
        self._verifier = verifier
        self._client_id = client_id
        self._client_secret = client_secret
        key = cookie_key or secrets.token_bytes(32)
        self._begun = Seal(key, "login")
        self._kept = Seal(key, "session")
        self._origin_of = origin_of
        self._client_of = client_of
        self._now = now
        self._sessions: Memory[str, _Session] = Memory(SESSIONS_MAX_BYTES)
        self._used: Memory[str, bool] = Memory(USED_MAX)
        self._ended: Memory[bytes, bool] = Memory(USED_MAX)
        self._requests = Limiter(REQUESTS_PER_SECOND)
        self._renewals: dict[str, asyncio.Task[_Session | None]] = {}

    def install(self, app: web.Application) -> None:
        """Add the routes, and what sends a renewed cookie with any answer."""
        app.router.add_get(LOGIN, self._begin)
        app.router.add_get(CALLBACK, self._finish)
        app.router.add_post(LOGOUT, self._end)
        app.on_response_prepare.append(_send_renewed)

    async def close(self) -> None:
        """Stop what goes on with the issuer."""
        for task in (renewals := list(self._renewals.values())):
            task.cancel()
        await asyncio.gather(*renewals, return_exceptions=True)

    # ---- A request of somebody who has logged in

    async def identity(self, request: web.Request, origin: Origin) -> Identity | None:
        """Who has logged in with this browser; None if nobody has. Raises `IdentityUnavailable`."""
        if not self._kept.is_in(request.cookies, origin):
            return None
        session_id, refresh_token = self._opened(request.cookies, origin)
        session = self._sessions.get(session_id, self._now())
        if session is None or not self._is_current(session):
            session = await self._renewed(session_id, refresh_token)
        if session is None:
            request[_RENEWED] = self._kept.removed(origin)
            return None
        if session.refresh_token != refresh_token and refresh_token in session.earlier:
            try:
                request[_RENEWED] = self._kept.close({"id": session_id, "refresh": session.refresh_token}, origin)
            except CookieTooLarge as error:
                log.warning("renewed login fits no cookie: the earlier one is kept", size=str(error))
        return session.identity

    def _opened(self, cookies: Mapping[str, str], origin: Origin) -> tuple[str, str]:
        """Session id and refresh token; empty if there is no cookie of ours."""
        held = self._kept.open(cookies, origin) or {}
        session_id, refresh_token = held.get("id"), held.get("refresh")
        return (
            (session_id, refresh_token) if isinstance(session_id, str) and isinstance(refresh_token, str) else ("", "")
        )

    def _is_current(self, session: _Session) -> bool:
        expires = session.identity.expires_at
        return expires is None or self._now() < expires - RENEW_SECONDS

    async def _renewed(self, session_id: str, refresh_token: str) -> _Session | None:
        """The login with a new access token, None if it has ended; requests of one login share what they ask for."""
        if not session_id:
            return None
        if (task := self._renewals.get(session_id)) is None:
            task = asyncio.create_task(self._renew(session_id, refresh_token), name="renewal of a login")
            self._renewals[session_id] = task
            task.add_done_callback(lambda _: self._renewals.pop(session_id, None))
        try:
            return await asyncio.shield(task)
        except IssuerError as error:
            log.warning("login cannot be renewed", reason=str(error))
            raise IdentityUnavailable(5) from None

    async def _renew(self, session_id: str, refresh_token: str) -> _Session | None:
        known = self._sessions.get(session_id, self._now())
        if known is not None and refresh_token in known.earlier:
            refresh_token = known.refresh_token  # the request was on its way when another one renewed it
        digest = hashlib.sha256(refresh_token.encode()).digest()
        if self._ended.get(digest, self._now()):
            return None
        try:
            answer = await self._exchange({"grant_type": "refresh_token", "refresh_token": refresh_token})
        except IssuerRefused as error:
            if error.code != "invalid_grant":
                raise
            self._sessions.forget(session_id)
            self._ended.put(digest, True, 1, self._now() + ENDED_SECONDS)
            return None
        earlier = (known.earlier if known else ())[-EARLIER_MAX:]
        return await self._remember(session_id, answer, refresh_token, earlier)

    async def _remember(
        self, session_id: str, answer: Json, refresh_token: str = "", earlier: tuple[str, ...] = ()
    ) -> _Session:
        """The login as the issuer's answer has it. IssuerError for an answer that has no tokens."""
        access, refresh = answer.get("access_token"), answer.get("refresh_token", refresh_token)
        if not isinstance(access, str) or not isinstance(refresh, str) or not refresh:
            raise IssuerError("the issuer gave no access token, or no refresh token to renew it with")
        identity = await self._verifier.identity(access)
        if refresh_token and refresh != refresh_token:
            earlier = (*earlier, refresh_token)
        session = _Session(identity, refresh, earlier)
        self._sessions.put(session_id, session, len(access) + len(refresh), self._now() + SESSION_SECONDS)
        return session

    async def _exchange(self, form: dict[str, str]) -> Json:
        """The answer of the token endpoint."""
        metadata = await self._issuer.metadata()
        return await self._post(metadata.token_endpoint, form)

    async def _post(self, url: str, form: dict[str, str]) -> Json:
        """The answer to a form, as our client."""
        if not url:
            raise IssuerError("the issuer has no such endpoint")
        if not self._client_secret:
            return await self._issuer.post(url, form | {"client_id": self._client_id})
        return await self._issuer.post(url, form, (quote_plus(self._client_id), quote_plus(self._client_secret)))

    # ---- Logging in

    async def _begin(self, request: web.Request) -> web.StreamResponse:
        """Lead to the issuer's login."""
        origin = self._origin_of(request)
        if origin.scheme != "https" and not is_local(origin):
            log.error("nobody can log in without TLS: if a proxy ends it, set TRUSTED_PROXIES", host=origin.host)
            return _page(400, "Logins need https", "Ask whoever runs this to set TRUSTED_PROXIES.")
        try:
            endpoint = (await self._issuer.metadata()).authorization_endpoint
            if not endpoint:
                raise IssuerError("the issuer has no authorization_endpoint")
        except IssuerError as error:
            return _failed("begin", error)
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        begun = {
            "state": state,
            "nonce": nonce,
            "verifier": verifier,
            "to": browsers.local_path(request.query.get("to", ""), AFTER_LOGIN),
            "until": self._now() + LOGIN_SECONDS,
        }
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        url = URL(endpoint).update_query(
            response_type="code",
            client_id=self._client_id,
            redirect_uri=f"{origin.url}{CALLBACK}",
            scope="openid",
            state=state,
            nonce=nonce,
            code_challenge=challenge,
            code_challenge_method="S256",
        )
        answer = _led_to(str(url))
        _set_cookies(answer, request, self._begun.close(begun, origin), LOGIN_SECONDS)
        return answer

    async def _finish(self, request: web.Request) -> web.StreamResponse:
        """Take up the code that the issuer led back with."""
        origin = self._origin_of(request)
        if (refused := self._too_many(request)) is not None:
            return refused
        begun = self._begun.open(request.cookies, origin) or {}
        state = str(begun.get("state", ""))
        is_ours = hmac.compare_digest(state.encode(), request.query.get("state", "").encode("utf-8", "replace"))
        is_used = self._used.get(state, self._now())
        if not state or not is_ours or is_used or begun["until"] <= self._now():
            return _page(400, "This login was not begun here, or took too long", link=f"{origin.prefix}{LOGIN}")
        if request.query.get("iss", self._issuer.url) != self._issuer.url:
            return _page(400, "This login is of another issuer", link=f"{origin.prefix}{LOGIN}")
        if "code" not in request.query:
            return _page(403, "The identity provider did not log you in", link=f"{origin.prefix}{LOGIN}")
        session_id = secrets.token_urlsafe(24)
        self._used.put(state, True, 1, begun["until"])
        try:
            form = {
                "grant_type": "authorization_code",
                "code": request.query["code"],
                "redirect_uri": f"{origin.url}{CALLBACK}",
                "code_verifier": str(begun["verifier"]),
            }
            found = await self._exchange(form)
            id_token = found.get("id_token")
            if not isinstance(id_token, str):
                raise IssuerError("the issuer gave no ID token")
            about = await self._verifier.id_token(id_token, self._client_id, str(begun["nonce"]))
            session = await self._remember(session_id, found)
            if about.get("sub") != session.identity.subject:
                raise IssuerError("the issuer gave tokens of two users")
            sealed = self._kept.close({"id": session_id, "refresh": session.refresh_token}, origin)
        except CookieTooLarge as error:
            self._sessions.forget(session_id)
            log.error("login failed", step="finish", reason=f"the refresh token fits no cookie: {error}")
            text = "Ask whoever runs this to have the identity provider issue smaller refresh tokens."
            return _page(502, "Your login is too large for a browser to keep", text)
        except (IssuerError, TokenRefused, KeysUnavailable) as error:
            self._sessions.forget(session_id)
            return _failed("finish", error)
        log.info("logged in", user=session.identity.name)
        answer = _led_to(f"{origin.prefix}{begun['to']}")
        _set_cookies(answer, request, sealed | self._begun.removed(origin))
        return answer

    def _too_many(self, request: web.Request) -> web.Response | None:
        """The refusal of what would be yet another request to the issuer for this address; None if it is allowed."""
        if not (wait := self._requests.take(self._client_of(request), time.monotonic())):
            return None
        answer = _page(429, "Too many logins at once", "Try again in a moment.")
        answer.headers[hdrs.RETRY_AFTER] = str(math.ceil(wait))
        return answer

    # ---- Logging out

    async def _end(self, request: web.Request) -> web.StreamResponse:
        """End the login here and the session at the issuer."""
        origin = self._origin_of(request)
        if browsers.is_forged(request.method, request.headers, origin):
            raise CrossSite
        if (refused := self._too_many(request)) is not None:
            return refused
        session_id, refresh_token = self._opened(request.cookies, origin)
        answer = _page(200, "You are logged out", link=f"{origin.prefix}{LOGIN}")
        if session_id:
            session = self._sessions.get(session_id, self._now())
            self._sessions.forget(session_id)
            if session is not None and refresh_token in session.earlier:
                refresh_token = session.refresh_token
            if (elsewhere := await self._end_at_issuer(refresh_token, origin)) is not None:
                answer = _led_to(elsewhere)
        _set_cookies(answer, request, self._kept.removed(origin))
        return answer

    async def _end_at_issuer(self, refresh_token: str, origin: Origin) -> str | None:
        """End the session there; where the person has to do that, the page that asks. None if it is done.

        Keycloak ends it when its client shows the refresh token. Others are led to by the browser, and asked to revoke
        the token at least.
        """
        try:
            metadata = await self._issuer.metadata()
        except IssuerError as error:
            log.warning("session at the issuer goes on", reason=str(error))
            return None
        form = {"refresh_token": refresh_token}
        try:
            await self._post(metadata.end_session_endpoint, form)
            return None
        except IssuerError as error:
            log.info("issuer does not end sessions by refresh token", reason=str(error))
        try:
            await self._post(metadata.revocation_endpoint, {"token": refresh_token, "token_type_hint": "refresh_token"})
        except IssuerError as error:
            log.warning("refresh token cannot be revoked", reason=str(error))
        if not metadata.end_session_endpoint:
            return None
        back = f"{origin.url}/"
        page = URL(metadata.end_session_endpoint)
        return str(page.update_query(client_id=self._client_id, post_logout_redirect_uri=back))


async def _send_renewed(request: web.Request, answer: web.StreamResponse) -> None:
    """Send the renewed cookies with any answer, a stream's too."""
    if (cookies := request.get(_RENEWED)) is not None:
        _set_cookies(answer, request, cookies)


def _set_cookies(
    answer: web.StreamResponse, request: web.Request, cookies: Cookies, seconds: int | None = None
) -> None:
    """Set sealed cookies, for as long as the browser runs unless it says how long; empty ones it has are removed.

    aiohttp's own way has no effect any more once an answer is about to be sent.
    """
    for name, value in cookies.items():
        if value or name in request.cookies:
            lifetime = "; Max-Age=0" if not value else "" if seconds is None else f"; Max-Age={seconds}"
            secure = "; Secure" if name.startswith("__Host-") else ""
            answer.headers.add(hdrs.SET_COOKIE, f"{name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}{lifetime}")


_HEADERS = {
    hdrs.CACHE_CONTROL: "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def _led_to(url: str) -> web.Response:
    return web.Response(status=303, headers=_HEADERS | {hdrs.LOCATION: url})


def _failed(step: str, error: Exception) -> web.Response:
    """A page for whoever waits; the log has what to mend."""
    reason = error.description if isinstance(error, TokenRefused) else str(error)
    log.error("login failed", step=step, reason=reason)
    text = "Try again in a moment. If it stays so, ask whoever runs this to look into the log."
    return _page(502, "The login failed", text)


def _page(status: int, title: str, text: str = "", link: str = "") -> web.Response:
    """A page without a script."""
    more = f"<p>{html.escape(text)}</p>" if text else ""
    again = f'<p><a href="{html.escape(link)}">Log in</a></p>' if link else ""
    body = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><h1>{title}</h1>{more}{again}'
    return web.Response(status=status, text=f"{body}</html>\n", content_type="text/html", headers=_HEADERS)
