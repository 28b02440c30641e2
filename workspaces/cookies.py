"""Cookies of logins: sealed, so that neither a browser nor what it runs reads or changes what they hold.

What one cookie does not hold is spread over two, and no more: proxies take 8 KiB of a header, as they are shipped.
"""

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
SEALED_MAX = 7680
"""Bytes of a sealed value: with it and what other cookies there may be, nginx and Apache still take the header."""

_ALGORITHMS = ("dir", "A256GCM")
_HEADER = {"alg": "dir", "enc": "A256GCM"}
_UNUSUAL = re.compile(r"[^A-Za-z0-9]")


Cookies = dict[str, str]
"""Values by name; an empty one is removed."""


class CookieTooLarge(Exception):
    """What it would hold fits no cookies."""


class Seal:
    """Seals what cookies of one kind hold: of another kind, or under another key, none opens."""

    def __init__(self, key: bytes, kind: str) -> None:
        """ValueError for a key of less than `KEY_MIN` bytes."""
        if len(key) < KEY_MIN:
            raise ValueError(f"must be at least {KEY_MIN} bytes long")
        self._kind = kind
        self._key = OctKey.import_key(HKDF(SHA256(), 32, salt=None, info=f"datalabd {kind}".encode()).derive(key))

    def name(self, origin: Origin) -> str:
        """What the first cookie is called, at that origin: such that only this host sets it, over TLS.

        Only on a loopback address there may be no TLS, and then no browser would take the name.
        """
        below = _UNUSUAL.sub("-", origin.prefix)
        return f"{'' if is_local(origin) else '__Host-'}workspaces-{self._kind}{below}"

    def _names(self, origin: Origin) -> tuple[str, str]:
        first = self.name(origin)
        return first, f"{first}.2"  # no prefix of a path makes a dot

    def close(self, value: Mapping[str, Any], origin: Origin) -> Cookies:
        """The cookies to be set; `CookieTooLarge` if browsers or proxies would not have them."""
        sealed = jwe.encrypt_compact(_HEADER, orjson.dumps(value), self._key, algorithms=_ALGORITHMS)
        if len(sealed) > SEALED_MAX:
            raise CookieTooLarge(f"{len(sealed)} bytes, of which a browser keeps {SEALED_MAX}")
        first, second = self._names(origin)
        size = COOKIE_MAX - len(second)
        return {first: sealed[:size], second: sealed[size:]}

    def removed(self, origin: Origin) -> Cookies:
        """What removes them."""
        return dict.fromkeys(self._names(origin), "")

    def is_in(self, cookies: Mapping[str, str], origin: Origin) -> bool:
        """Whether a browser sends what claims to be ours."""
        return self.name(origin) in cookies

    def open(self, cookies: Mapping[str, str], origin: Origin) -> dict[str, Any] | None:
        """What is in the cookies of a request; None if it was not sealed so."""
        sealed = "".join(cookies.get(name, "") for name in self._names(origin))
        if len(sealed) > SEALED_MAX:
            return None
        try:
            found = orjson.loads(jwe.decrypt_compact(sealed, self._key, algorithms=_ALGORITHMS).plaintext or b"")
        except (JoseError, ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None


def is_local(origin: Origin) -> bool:
    """Whether a browser talks to us on its own machine, without TLS."""
    return origin.scheme == "http" and origin.is_loopback
