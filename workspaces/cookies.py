"""Cookies of logins: sealed, so that neither a browser nor what it runs reads or changes what they hold."""

import re
from collections.abc import Mapping
from typing import Any

import orjson
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from workspaces.proxies import Origin

KEY_MIN = 32
"""Bytes of the key that replicas share."""
COOKIE_MAX = 4096
"""Bytes of name and value that every browser keeps (RFC 6265, section 6.1)."""

_ALGORITHMS = ("dir", "A256GCM")
_HEADER = {"alg": "dir", "enc": "A256GCM"}
_UNUSUAL = re.compile(r"[^A-Za-z0-9]")


class CookieTooLarge(Exception):
    """What it would hold fits no cookie."""


class Seal:
    """Seals what cookies of one kind hold: of another kind, or under another key, none opens."""

    def __init__(self, key: bytes, kind: str) -> None:
        """ValueError for a key of less than `KEY_MIN` bytes."""
        if len(key) < KEY_MIN:
            raise ValueError(f"must be at least {KEY_MIN} bytes long")
        self._kind = kind
        self._key = OctKey.import_key(HKDF(SHA256(), 32, salt=None, info=f"datalabd {kind}".encode()).derive(key))

    def name(self, origin: Origin) -> str:
        """What the cookie is called, at that origin: such that only this host sets it, over TLS.

        Only on a loopback address there may be no TLS, and then no browser would take the name.
        """
        below = _UNUSUAL.sub("-", origin.prefix)
        return f"{'' if is_local(origin) else '__Host-'}workspaces-{self._kind}{below}"

    def close(self, value: Mapping[str, Any], origin: Origin) -> str:
        """The sealed value; `CookieTooLarge` if no browser would keep it."""
        sealed = jwe.encrypt_compact(_HEADER, orjson.dumps(value), self._key, algorithms=_ALGORITHMS)
        if len(self.name(origin)) + len(sealed) > COOKIE_MAX:
            raise CookieTooLarge(f"{len(sealed)} bytes")
        return sealed

    def open(self, sealed: str) -> dict[str, Any] | None:
        """What is in there; None if it was not sealed so."""
        if len(sealed) > COOKIE_MAX:
            return None
        try:
            found = orjson.loads(jwe.decrypt_compact(sealed, self._key, algorithms=_ALGORITHMS).plaintext or b"")
        except (JoseError, ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None


def is_local(origin: Origin) -> bool:
    """Whether a browser talks to us on its own machine, without TLS."""
    return origin.scheme == "http" and origin.is_loopback
