"""Verifies tokens: signature first, then claims. What was verified is remembered for a minute by its digest alone."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry, deserialize_compact
from joserfc.util import urlsafe_b64decode

from datalabd import metrics
from workspaces import claims as decide
from workspaces.claims import Expected, Identity, TokenRefused
from workspaces.keys import TYPES, Keys, KeysUnavailable
from workspaces.memory import Memory

TOKEN_MAX = 64 * 1024
"""Bytes: somebody in 300 workspaces has a token of 20 KiB."""
HEADER_MAX = 4096
REMEMBERED_SECONDS = 60.0
REMEMBERED_MAX_BYTES = 8 * 1024 * 1024
"""Of all tokens that are remembered; what is kept of each grows with it."""

Claims = Mapping[str, Any]


class _Registry(JWSRegistry):
    max_header_length = HEADER_MAX
    max_payload_length = TOKEN_MAX
    max_signature_length = 2048  # of an RSA key of 8192 bits


def parse(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a token whose signature nobody has looked at; TokenRefused if it is none."""
    if len(token) > TOKEN_MAX:
        raise TokenRefused("too_large")
    parts = token.split(".")
    if len(parts) != 3:
        raise TokenRefused("malformed")
    return _decoded(parts[0]), _decoded(parts[1])


def _decoded(part: str) -> dict[str, Any]:
    try:
        found = orjson.loads(urlsafe_b64decode(part.rstrip("=").encode()))
    except ValueError:
        raise TokenRefused("malformed") from None
    if not isinstance(found, dict):
        raise TokenRefused("malformed")
    return found


class Verifier:
    """Verifies what one issuer signs."""

    def __init__(
        self,
        keys: Keys,
        expected: Expected,
        algorithms: Sequence[str] = ("RS256", "PS256", "ES256"),
        now: Callable[[], float] = time.time,
    ) -> None:
        """ValueError for an algorithm that is none, or that verifies with a secret."""
        if unknown := sorted(set(algorithms) - TYPES.keys()):
            raise ValueError(f"{unknown[0]} cannot be accepted; there are {', '.join(TYPES)}")
        self._keys = keys
        self._expected = expected
        self._algorithms = frozenset(algorithms)
        self._registry = _Registry(algorithms=self._algorithms, strict_check_header=False)
        self._now = now
        self._remembered: Memory[bytes, Identity] = Memory(REMEMBERED_MAX_BYTES)

    async def identity(self, token: str) -> Identity:
        """Whom an access token is of; TokenRefused, or KeysUnavailable if nobody can tell at the moment."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        if (known := self._remembered.get(digest, self._now())) is not None:
            metrics.TOKEN_VERIFICATIONS.labels(result="remembered").inc()
            return known
        result = "valid"
        try:
            header, claims = await self._verified(token)
            decide.check(header, claims, self._expected, self._now())
            found = decide.identity(claims)
        except TokenRefused as error:
            result = error.reason
            raise
        except KeysUnavailable:
            result = "unavailable"
            raise
        finally:
            metrics.TOKEN_VERIFICATIONS.labels(result=result).inc()
        until = self._now() + REMEMBERED_SECONDS
        if found.expires_at is not None:
            until = min(until, found.expires_at + self._expected.leeway_seconds)
        self._remembered.put(digest, found, len(token), until)
        return found

    async def id_token(self, token: str, client_id: str, nonce: str | None) -> Claims:
        """Claims of an ID token for a client, by OpenID Connect Core, section 3.1.3.7; with errors as `identity`.

        A nonce is asked for when the token comes of a login, and not when it comes of a renewal.
        """
        _, claims = await self._verified(token)
        if claims.get("iss") != self._expected.issuer:
            raise TokenRefused("issuer")
        if not decide.is_audience(claims, client_id) or claims.get("azp", client_id) != client_id:
            raise TokenRefused("audience")
        decide.check_times(claims, self._expected.leeway_seconds, self._now())
        if claims.get("typ", "ID") != "ID" or (nonce is not None and claims.get("nonce") != nonce):
            raise TokenRefused("type")
        return claims

    async def _verified(self, token: str) -> tuple[Claims, Claims]:
        """Header and claims of a token that the issuer signed."""
        header, claims = parse(token)
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            raise TokenRefused("algorithm")
        if "crit" in header or not isinstance(kid, str | None):
            raise TokenRefused("malformed")
        issued = claims.get("iat")
        age = self._now() - issued if isinstance(issued, int | float) else 0.0
        key = await self._keys.find(kid, algorithm, age)
        try:
            deserialize_compact(token, key, registry=self._registry)
        except (JoseError, ValueError, RecursionError):
            raise TokenRefused("signature") from None
        return header, claims
