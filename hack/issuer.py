"""A small OpenID provider on 127.0.0.1, to try the Workspace API where there is no Keycloak. It asks for no password.

    with Issuer(users={"jane": {"ws-jane": ["ws_admin"]}}) as issuer:
        issuer.access_token("jane")

    python -m hack.issuer --kubeconfig FILE [--port 0] [--admin NAME]    until Ctrl-C

**Anybody who reaches it is whoever they say.** It listens on loopback alone. It knows the code flow with PKCE, client
credentials, refresh tokens, logout, and the password grant without a password. Its tokens have the shape of Keycloak's.
With a kubeconfig users and clients have the roles that the claims of the cluster give them at that moment: the first of
`spec.users` and those whose override says `admin` get `ws_admin`, others `ws_access`; client NAME gets `ws_api`.
"""

import argparse
import asyncio
import base64
import hashlib
import html
import secrets
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

from aiohttp import hdrs, web
from joserfc import jwt
from joserfc.jwk import RSAKey
from yarl import URL

from datalabd.errors import DatalabdError
from datalabd.kube.client import Client
from hack.claim_roles import ClusterRoles

Json = dict[str, Any]
Roles = Mapping[str, Sequence[str]]
"""Role names by client."""
Fault = Literal["slow", "error", "redirect", "wrong_kid", "large", "no_json"]

AUDIENCE = "workspace-api"
CLIENT_ID, CLIENT_SECRET = "workspaces", "not-a-secret"
CLI = "cli"
"""A public client for the password grant."""
ACCESS_SECONDS = 300
SLOW_SECONDS = 30.0
LARGE_BYTES = 2 * 1024 * 1024


@dataclass
class _Session:
    """Somebody who has logged in."""

    user: str
    id: str = field(default_factory=lambda: secrets.token_urlsafe(12))


@dataclass
class _Code:
    """What a code stands for until it is redeemed."""

    session: _Session
    client: str
    redirect_uri: str
    challenge: str
    nonce: str


class Issuer:
    """One issuer in a thread of its own. Its attributes may be changed while it runs, to see it fail."""

    def __init__(
        self,
        users: Mapping[str, Roles] | Callable[[str], Roles] = lambda _: {},
        clients: Mapping[str, str] | None = None,
        *,
        port: int = 0,
        access_seconds: int = ACCESS_SECONDS,
    ) -> None:
        """Roles by user (a service account is `service-account-CLIENT`), and secrets by client."""
        self._roles: Callable[[str], Roles] = users if callable(users) else lambda user: users.get(user, {})
        self._clients = {CLIENT_ID: CLIENT_SECRET, CLI: ""} | dict(clients or {})
        self._port = port
        self.url = ""
        """The issuer's name, known once it runs."""
        self.access_seconds = access_seconds
        self.fault: Fault | None = None
        """What is wrong with the answers to GET; None for nothing."""
        self.refuses_logout = False
        """Whether a refresh token ends no session, as with issuers that are no Keycloak."""
        self.refresh_token_bytes = 32
        """Of which refresh tokens are made; they are a third longer."""
        self.is_away = False
        """Whether it breaks every connection off."""
        self.requests: Counter[str] = Counter()
        """How often each path was asked for."""
        self.keys = [_key()]
        """The keys that are published; the last one signs."""
        self.look: Callable[[dict[str, str]], Awaitable[None]] | None = None
        """Is called before each token, and may change secrets by client."""
        self._codes: dict[str, _Code] = {}
        self._sessions: dict[str, _Session] = {}
        self._refresh_tokens: dict[str, tuple[_Session, str]] = {}
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()

    # ---- Life

    def __enter__(self) -> Self:
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self.serve(ready.set)), name="issuer", daemon=True)
        self._thread.start()
        if not ready.wait(30):
            raise RuntimeError("the issuer did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(30)

    async def serve(self, ready: Callable[[], object] = lambda: None) -> None:
        """Serve until it is left, or cancelled."""
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(middlewares=[self._unless_away])
        app.router.add_get("/.well-known/openid-configuration", self._discovery)
        app.router.add_get("/keys", self._key_set)
        app.router.add_get("/authorize", self._authorize)
        app.router.add_post("/authorize", self._authorize)
        app.router.add_post("/token", self._token)
        app.router.add_route("*", "/logout", self._logout)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", self._port).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            ready()
            await self._stop.wait()
        finally:
            await runner.cleanup()

    # ---- Tokens

    def rotate(self, *, keep: bool = False) -> None:
        """Sign with a new key; publish the old one no more, or still."""
        self.keys = [*(self.keys if keep else ()), _key()]

    def sign(self, claims: Mapping[str, Any], **header: Any) -> str:
        """A token of exactly these claims, by the key of now."""
        key = self.keys[-1]
        return jwt.encode({"alg": "RS256", "kid": key.kid, **header}, dict(claims), key)

    def claims(self, user: str, client: str = CLIENT_ID, **more: Any) -> Json:
        """Claims of an access token."""
        now = int(time.time())
        roles = {name: {"roles": list(given)} for name, given in self._roles(user).items()}
        return {
            "iss": self.url,
            "sub": hashlib.sha256(user.encode()).hexdigest()[:32],
            "aud": [AUDIENCE],
            "azp": client,
            "typ": "Bearer",
            "iat": now,
            "exp": now + self.access_seconds,
            "jti": secrets.token_hex(8),
            "scope": "openid",
            "preferred_username": user,
            "resource_access": roles,
        } | more

    def access_token(self, user: str, client: str = CLIENT_ID, **more: Any) -> str:
        """An access token; further claims are set as they are given."""
        return self.sign(self.claims(user, client, **more))

    def _tokens(self, session: _Session, client: str, nonce: str = "") -> Json:
        claims = self.claims(session.user, client, sid=session.id)
        refresh = secrets.token_urlsafe(self.refresh_token_bytes)
        self._refresh_tokens[refresh] = (session, client)
        about = {name: claims[name] for name in ("iss", "sub", "azp", "iat", "exp", "preferred_username")}
        about |= {"aud": client, "typ": "ID", "sid": session.id} | ({"nonce": nonce} if nonce else {})
        return {
            "access_token": self.sign(claims),
            "id_token": self.sign(about),
            "refresh_token": refresh,
            "token_type": "Bearer",
            "expires_in": self.access_seconds,
            "scope": "openid",
        }

    # ---- What it publishes

    @web.middleware
    async def _unless_away(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests[request.path] += 1
        if self.is_away and request.transport is not None:
            request.transport.close()
            return web.Response()
        if request.method == "GET" and request.path != "/authorize":
            match self.fault:
                case "slow":
                    await asyncio.sleep(SLOW_SECONDS)
                case "error":
                    return web.Response(status=503, text="away")
                case "redirect":
                    return web.Response(status=302, headers={hdrs.LOCATION: f"{self.url}/elsewhere"})
                case "large":
                    return web.json_response({"keys": [{"kty": "RSA", "n": "A" * LARGE_BYTES}]})
                case "no_json":
                    return web.Response(text="<html>")
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _discovery(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/keys",
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "end_session_endpoint": f"{self.url}/logout",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "code_challenge_methods_supported": ["S256"],
            }
        )

    async def _key_set(self, _: web.Request) -> web.Response:
        kids = [f"not-{key.kid}" if self.fault == "wrong_kid" else str(key.kid) for key in self.keys]
        keys = [
            key.as_dict(private=False) | {"use": "sig", "alg": "RS256", "kid": kid}
            for key, kid in zip(self.keys, kids, strict=True)
        ]
        return web.json_response({"keys": keys})

    # ---- Logging in

    async def _authorize(self, request: web.Request) -> web.Response:
        """Ask for a name; lead back with a code once there is one."""
        query = request.query
        client, back = query.get("client_id", ""), query.get("redirect_uri", "")
        if client not in self._clients or URL(back).scheme not in ("http", "https"):
            return web.Response(status=400, text="unknown client, or no redirect_uri\n")
        if query.get("response_type") != "code" or query.get("code_challenge_method") != "S256":
            return _back(back, error="invalid_request", state=query.get("state", ""))
        session = self._sessions.get(request.cookies.get("issuer", ""))
        if session is None and request.method == "POST":
            name = str((await request.post()).get("user", "")).strip().lower()
            session = _Session(name) if name else None
        if session is None:
            return web.Response(text=_LOGIN.format(action=html.escape(str(request.rel_url))), content_type="text/html")
        self._sessions[session.id] = session
        code = secrets.token_urlsafe(24)
        challenge, nonce = query.get("code_challenge", ""), query.get("nonce", "")
        self._codes[code] = _Code(session, client, back, challenge, nonce)
        answer = _back(back, code=code, state=query.get("state", ""), iss=self.url)
        answer.set_cookie("issuer", session.id, httponly=True, samesite="Lax")
        return answer

    async def _token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        client, secret = _client(request, form)
        if self.look is not None:
            await self.look(self._clients)
        if client not in self._clients or not secrets.compare_digest(self._clients[client], secret):
            return _refused("invalid_client", 401)
        match form.get("grant_type"):
            case "authorization_code":
                code = self._codes.pop(form.get("code", ""), None)
                digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
                challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
                if code is None or (code.client, code.redirect_uri, code.challenge) != (
                    client,
                    form.get("redirect_uri"),
                    challenge,
                ):
                    return _refused("invalid_grant")
                return _no_store(self._tokens(code.session, client, code.nonce))
            case "refresh_token":
                session, of = self._refresh_tokens.get(form.get("refresh_token", ""), (None, ""))
                if session is None or of != client or session.id not in self._sessions:
                    return _refused("invalid_grant")
                return _no_store(self._tokens(session, client))
            case "client_credentials" if secret:
                claims = self.claims(f"service-account-{client}", client)
                return _no_store(_bearer(self.sign(claims), self.access_seconds))
            case "password" if client == CLI and form.get("username"):
                return _no_store(_bearer(self.access_token(form["username"].lower(), CLI), self.access_seconds))
        return _refused("unsupported_grant_type")

    async def _logout(self, request: web.Request) -> web.Response:
        """End the session of a refresh token, as Keycloak does; a browser's own otherwise."""
        if request.method == "POST":
            form = {name: str(value) for name, value in (await request.post()).items()}
            client, secret = _client(request, form)
            session, of = self._refresh_tokens.get(form.get("refresh_token", ""), (None, ""))
            if (
                self.refuses_logout
                or session is None
                or of != client
                or not secrets.compare_digest(self._clients.get(client, ""), secret)
            ):
                return _refused("invalid_grant")
            self._sessions.pop(session.id, None)
            return web.Response(status=204)
        self._sessions.pop(request.cookies.get("issuer", ""), None)
        return web.Response(text="You are logged out.\n")


_LOGIN = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Log in</title>
<h1>Who are you?</h1><p>This issuer is for trying things: it believes any name.</p>
<form method="post" action="{action}"><label>User <input name="user" autofocus></label> <button>Log in</button></form>
</html>
"""


def _key() -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": secrets.token_hex(8)})


def _back(url: str, **query: str) -> web.Response:
    location = str(URL(url).update_query({name: value for name, value in query.items() if value}))
    return web.Response(status=302, headers={hdrs.LOCATION: location})


def _client(request: web.Request, form: Mapping[str, str]) -> tuple[str, str]:
    """Id and secret, by Basic or in the form."""
    scheme, _, value = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if scheme.lower() != "basic":
        return form.get("client_id", ""), form.get("client_secret", "")
    client, _, secret = base64.b64decode(value).decode().partition(":")
    return client, secret


def _bearer(token: str, seconds: int) -> Json:
    return {"access_token": token, "token_type": "Bearer", "expires_in": seconds, "scope": "openid"}


def _no_store(body: Json) -> web.Response:
    return web.json_response(body, headers={hdrs.CACHE_CONTROL: "no-store"})


def _refused(error: str, status: int = 400) -> web.Response:
    return web.json_response({"error": error}, status=status)


# ---- Command line


async def _serve(kubeconfig: str, port: int, admins: Sequence[str]) -> None:
    client = await Client.connect(kubeconfig)
    try:
        roles = ClusterRoles(client, admins)
        issuer = Issuer(roles, port=port)
        issuer.look = roles.look

        def tell() -> None:
            print("For trying things: this issuer believes any name.", file=sys.stderr)
            print(f"issuer: {issuer.url}\nclient_id: {CLIENT_ID}\nclient_secret: {CLIENT_SECRET}", flush=True)

        await issuer.serve(tell)
    finally:
        await client.close()


def main() -> int:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(prog="python -m hack.issuer", description=__doc__.splitlines()[0])
    parser.add_argument("--kubeconfig", required=True, metavar="FILE", help="whose claims give roles")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--admin", action="append", default=[], metavar="NAME", help="a user who is platform admin")
    given = parser.parse_args()
    try:
        asyncio.run(_serve(given.kubeconfig, given.port, given.admin))
    except (KeyboardInterrupt, DatalabdError) as error:
        if isinstance(error, DatalabdError):
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())
