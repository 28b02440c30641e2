"""The OpenID provider: what it publishes, and what it answers to a client of its own.

Every request has a deadline and follows no redirect, and of an answer no more is read than fits. Errors say what was
wrong in words of ours: answers may hold tokens.
"""

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from datalabd import metrics
from workspaces.proxies import is_loopback

TIMEOUT = aiohttp.ClientTimeout(total=5, sock_connect=3)
ANSWER_MAX = 512 * 1024
"""Bytes: forty keys with their certificates are 100 kB."""
CONNECTIONS_MAX = 16
"""For logins, and again for keys."""
METADATA_SECONDS = 600.0
"""How long metadata is used without asking again."""

Json = dict[str, Any]


class IssuerError(Exception):
    """The issuer did not answer, or not as it has to; the message says what to mend."""


class IssuerRefused(IssuerError):
    """The issuer answered a form with an error of OAuth."""

    def __init__(self, code: str) -> None:
        super().__init__(f"the issuer refused: {code}")
        self.code = code
        """As in RFC 6749, section 5.2: `invalid_grant`, `invalid_client`, …"""


OAUTH_ERRORS = frozenset(
    {"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type"}
    | {"invalid_scope", "invalid_token", "unsupported_token_type"}
)


@dataclass(frozen=True)
class Metadata:
    """Addresses of an OpenID provider (OpenID Connect Discovery, section 3); empty where it names none."""

    jwks_uri: str
    authorization_endpoint: str = ""
    token_endpoint: str = ""
    end_session_endpoint: str = ""
    revocation_endpoint: str = ""

    @classmethod
    def parse(cls, document: Any, issuer: str) -> "Metadata":
        """Of this issuer's document; IssuerError if it is another's, or names an address that is not safe."""
        if not isinstance(document, dict) or document.get("issuer") != issuer:
            raise IssuerError(f"the discovery document of {issuer} is not that issuer's: compare OIDC_ISSUER with it")
        found = {name: document.get(name, "") for name in cls.__dataclass_fields__}
        for name, url in found.items():
            if not isinstance(url, str) or (url and not is_safe(url)):
                raise IssuerError(f"{name} in the discovery document of {issuer} must be https")
        if not found["jwks_uri"]:
            raise IssuerError(f"the discovery document of {issuer} names no jwks_uri: set OIDC_JWKS_URL")
        return cls(**found)


def is_safe(url: str) -> bool:
    """Whether nobody between here and there reads or changes what is said: https, or http on a loopback address."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    if parts.scheme == "https":
        return bool(host)
    return parts.scheme == "http" and (host == "localhost" or is_loopback(host))


class Issuer:
    """One issuer, over connections that stay open."""

    def __init__(
        self, url: str, *, jwks_url: str = "", ca_file: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        """With `jwks_url` its keys need no discovery; raises OSError for a `ca_file` that cannot be used."""
        self.url = url
        self._jwks_url = jwks_url
        self._ssl = ssl.create_default_context(cafile=ca_file or None)
        self._clock = clock
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self._metadata: Metadata | None = None
        self._metadata_at = 0.0
        self._lock = asyncio.Lock()

    async def close(self) -> None:
        """Close every connection."""
        for session in self._sessions.values():
            await session.close()

    async def metadata(self) -> Metadata:
        """What it publishes of itself, kept while it is away; IssuerError if it was never read."""
        async with self._lock:
            if self._metadata is None or self._clock() - self._metadata_at >= METADATA_SECONDS:
                try:
                    url = f"{self.url.rstrip('/')}/.well-known/openid-configuration"
                    self._metadata = Metadata.parse(await self._get(url), self.url)
                except IssuerError:
                    if self._metadata is None:
                        raise
                self._metadata_at = self._clock()
            return self._metadata

    async def key_set(self) -> Any:
        """Its JSON Web Key Set, decoded; IssuerError if it cannot be had."""
        return await self._get(self._jwks_url or (await self.metadata()).jwks_uri)

    async def post(self, url: str, form: Mapping[str, str], basic: tuple[str, str] | None = None) -> Json:
        """The answer to a form, empty if there is none; IssuerRefused for an error of OAuth, IssuerError for others."""
        auth = None if basic is None else aiohttp.encode_basic_auth(*basic)
        status, document = await self._request("POST", url, data=form, auth=auth)
        if status < 300 and isinstance(document, dict):
            return document
        code = document.get("error") if isinstance(document, dict) else None
        if status in (400, 401) and code in OAUTH_ERRORS:
            raise IssuerRefused(str(code))
        raise IssuerError(f"{url} answered {status}")

    async def _get(self, url: str) -> Any:
        status, document = await self._request("GET", url)
        if status != 200:
            raise IssuerError(f"{url} answered {status}")
        return document

    def _session(self, method: str) -> aiohttp.ClientSession:
        """Connections of their own for what it publishes, GET, and for logins, POST: these keep no keys waiting."""
        if (found := self._sessions.get(method)) is None:
            found = self._sessions[method] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._ssl, limit=CONNECTIONS_MAX),
                timeout=TIMEOUT,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=True,  # it may be outside, behind a proxy
            )
        return found

    async def _request(self, method: str, url: str, *, auth: str | None = None, **options: Any) -> tuple[int, Any]:
        """Status and decoded answer; an answer without a body, or that was no JSON of an error, is an empty object."""
        session = self._session(method)
        headers = {"Accept": "application/json"} | ({} if auth is None else {"Authorization": auth})
        code = "none"
        try:
            async with session.request(method, url, headers=headers, allow_redirects=False, **options) as response:
                code = str(response.status)
                body = await _read(response, url)
                try:
                    return response.status, orjson.loads(body) if body else {}
                except orjson.JSONDecodeError:
                    if response.status < 300:
                        raise IssuerError(f"{url} answered no JSON") from None
                    return response.status, {}
        except TimeoutError:
            raise IssuerError(f"{url} did not answer in time") from None
        except aiohttp.ClientError as error:
            raise IssuerError(f"{url} did not answer: {type(error).__name__}") from None
        finally:
            metrics.ISSUER_REQUESTS.labels(code=code, method=method).inc()


async def _read(response: aiohttp.ClientResponse, url: str) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(64 * 1024):
        body += chunk
        if len(body) > ANSWER_MAX:
            response.close()
            raise IssuerError(f"{url} answered more than {ANSWER_MAX // 1024} KiB")
    return bytes(body)
