"""The keys by which an issuer signs: fetched when first needed, kept while it is away.

They are fetched again in the background once they are five minutes old, before use once they are ten, and for a token
of a key that is not among them. The last is at most every ten seconds, as anybody can invent keys.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, Key

from workspaces.claims import TokenRefused
from workspaces.issuer import Issuer, IssuerError

log = structlog.get_logger()

REFRESH_SECONDS = 300.0
AGE_MAX_SECONDS = 600.0
UNKNOWN_SECONDS = 10.0
"""Between fetches for the sake of keys that are not known, or after a failure."""
CLOCKS_SECONDS = 30.0
"""How much the issuer's clock may differ from ours."""
FIRST_SECONDS = 1.0
"""Between fetches as long as there are no keys at all."""
KEYS_MAX = 100
RSA_BITS = range(2048, 8192 + 1)
"""More would keep the event loop busy for each token."""

TYPES: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", "")),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "Ed25519": ("OKP", "Ed25519"),
    "EdDSA": ("OKP", "Ed25519"),
}
"""Type and curve of a key, by each algorithm that can be accepted. With none of them does a secret verify anything."""
_MEMBERS: Mapping[str, tuple[str, ...]] = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}


class KeysUnavailable(Exception):
    """Nobody can tell at the moment whether a token is good."""

    def __init__(self, retry_after: float) -> None:
        super().__init__("the keys of the issuer are not known")
        self.retry_after = retry_after
        """Seconds until it may be known."""


class KeySet:
    """Public keys of one fetch."""

    def __init__(self, document: Any) -> None:
        """Of a JSON Web Key Set (RFC 7517). Keys that cannot be used are left out; IssuerError if none is left."""
        entries = document.get("keys") if isinstance(document, dict) else None
        if not isinstance(entries, list) or len(entries) > KEYS_MAX:
            raise IssuerError(f"the issuer publishes no set of up to {KEYS_MAX} keys")
        self._keys = [(entry, key) for entry in entries if (key := _key(entry)) is not None]
        if not self._keys:
            raise IssuerError("the issuer publishes no key that can be used")

    def find(self, kid: str | None, algorithm: str) -> Key | None:
        """The key of that id for that algorithm; without an id the only one there is for it. None if there is none."""
        kind, curve = TYPES[algorithm]
        found = [
            key
            for entry, key in self._keys
            if kid in (None, entry.get("kid"))
            and entry["kty"] == kind
            and entry.get("crv", "") == curve
            and entry.get("alg", algorithm) == algorithm
        ]
        return found[0] if found and (kid is not None or len(found) == 1) else None


def _key(entry: Any) -> Key | None:
    """A public key for signatures; None for any other, and for one that is broken."""
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig" or entry.get("kty") not in _MEMBERS:
        return None
    kind: str = entry["kty"]
    members = {name: value for name in _MEMBERS[kind] if isinstance(value := entry.get(name), str)}
    if members.keys() != set(_MEMBERS[kind]):
        return None
    if kind == "RSA" and not (len(members["n"]) * 6 // 8 * 8 in RSA_BITS and len(members["e"]) <= 8):
        return None
    try:
        return JWKRegistry.import_key({"kty": kind, **members})
    except (JoseError, ValueError, KeyError):
        return None


class Keys:
    """The keys of one issuer, as of now."""

    def __init__(self, issuer: Issuer, clock: Callable[[], float] = time.monotonic) -> None:
        self._issuer = issuer
        self._clock = clock
        self._set: KeySet | None = None
        self._fetched_at = 0.0
        self._began_at: float | None = None
        self._is_away = False
        self._fetching: asyncio.Task[None] | None = None

    @property
    def is_known(self) -> bool:
        """Whether there are keys."""
        return self._set is not None

    async def prepare(self) -> bool:
        """Whether there are keys, after trying to fetch them if there are none."""
        if self._set is None:
            await self._fetch()
        return self._set is not None

    async def find(self, kid: str | None, algorithm: str, age_seconds: float) -> Key:
        """The key of a token that was issued so long ago, by what it says itself.

        Raises `TokenRefused` for a key that the issuer does not publish although the token is older than what we know
        of it, and `KeysUnavailable` if that cannot be told now: a key may be newer.
        """
        arrived = self._clock()
        if self._set is None or self._age >= AGE_MAX_SECONDS:
            # While the issuer is away nobody waits for it once more.
            await self._fetch(wait=self._set is None or not self._is_away)
        elif self._age >= REFRESH_SECONDS:
            await self._fetch(wait=False)
        if self._set is None:
            raise KeysUnavailable(FIRST_SECONDS)
        if (key := self._set.find(kid, algorithm)) is None:
            await self._fetch()
            key = self._set.find(kid, algorithm)
        if key is not None:
            return key
        if self._fetched_at >= arrived or (not self._is_away and age_seconds > self._age + CLOCKS_SECONDS):
            raise TokenRefused("key")
        raise KeysUnavailable(UNKNOWN_SECONDS)

    async def close(self) -> None:
        """Stop fetching."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait({self._fetching})

    @property
    def _age(self) -> float:
        """Seconds since the keys that we have were asked for."""
        return self._clock() - self._fetched_at

    async def _fetch(self, *, wait: bool = True) -> None:
        """Fetch them, together with whoever is about to; without effect where that was done a moment ago."""
        if self._fetching is None:
            pause = FIRST_SECONDS if self._set is None else UNKNOWN_SECONDS
            if self._began_at is not None and self._clock() - self._began_at < pause:
                return
            self._fetching = asyncio.create_task(self._fetch_now(), name="keys of the issuer")
        if wait:
            await asyncio.wait({self._fetching})

    async def _fetch_now(self) -> None:
        began = self._began_at = self._clock()
        try:
            self._set = KeySet(await self._issuer.key_set())
        except IssuerError as error:
            if not self._is_away:
                log.warning("keys of the issuer cannot be fetched", reason=str(error), kept=self._set is not None)
            self._is_away = True
        else:
            self._fetched_at, self._is_away = began, False
        finally:
            self._fetching = None
