"""What the claims of a token say of who asks, and whether such a token is accepted at all."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["ws_admin", "ws_access", "ws_api"]

ROLES: tuple[Role, ...] = ("ws_admin", "ws_access", "ws_api")
"""Roles of a workspace's client; of several the first decides."""
PLATFORM_CLIENT = "workspace-api"
"""Client whose role `admin` makes a platform admin, whatever audience tokens have to be for."""
ACCESS_TOKEN_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
"""Values of the header `typ` that an access token may have, in lower case (RFC 9068, section 2.1)."""
ID_TOKEN_CLAIMS = frozenset({"at_hash", "c_hash"})
"""Claims of ID tokens alone (OpenID Connect Core, section 2)."""

Reason = Literal[
    "malformed", "too_large", "algorithm", "key", "signature", "issuer", "audience", "time", "type", "untrusted"
]
"""Why a token is refused."""

_DESCRIPTIONS: Mapping[Reason, str] = {
    "malformed": "The token is no signed JWT with an object of claims",
    "too_large": "The token is too large",
    "algorithm": "The token is not signed by an algorithm that is accepted here",
    "key": "The token is signed by a key that its issuer does not publish",
    "signature": "The signature of the token is wrong",
    "issuer": "The token is of another issuer",
    "audience": "The token is for another audience",
    "time": "The token has expired, or is not valid yet",
    "type": "The token is no access token",
    "untrusted": "The token comes from no proxy that is trusted here",
}


class TokenRefused(Exception):
    """A token is not accepted; neither the error nor its text holds anything of it."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason

    @property
    def detail(self) -> str:
        """Upstream's words, for the answer."""
        return "Invalid token audience" if self.reason == "audience" else "Invalid access token"

    @property
    def description(self) -> str:
        """A sentence that says what is wrong, for people who develop clients."""
        return _DESCRIPTIONS[self.reason]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks, as a token or the settings say."""

    name: str
    """The user's, or a client's."""
    subject: str = ""
    """Claim `sub`; empty where there is none."""
    client: str = ""
    """Claim `azp`: the client that the token was given to; empty where there is none."""
    is_platform_admin: bool = False
    roles: Mapping[str, Role] = field(default_factory=dict)
    """Role by workspace, as the token has them; a platform admin needs none."""
    issued_at: float | None = None
    """Unix time. On workspaces that were made later the token gives no role, and none at all without this time."""
    expires_at: float | None = None
    """Unix time at which a stream of this identity ends; None for one that does not expire."""

    @property
    def counts_as(self) -> str:
        """Whose requests, streams and downloads are counted: a person's, or those of all machines of a workspace."""
        if self.roles.get(self.client) == "ws_api":
            return f"client {self.client}"
        return f"user {self.subject or self.name}"


ANYBODY = Identity("Default", is_platform_admin=True)
"""Whoever asks, where nothing is verified."""


@dataclass(frozen=True)
class Expected:
    """What a token has to say to be accepted."""

    issuer: str
    audience: str
    leeway_seconds: float = 30.0


def is_audience(claims: Mapping[str, Any], audience: str) -> bool:
    """Whether claim `aud`, one or several, is or names it."""
    found = claims.get("aud")
    return found == audience if isinstance(found, str) else isinstance(found, list) and audience in found


def check(header: Mapping[str, Any], claims: Mapping[str, Any], expected: Expected, now: float) -> None:
    """Raise `TokenRefused` unless this is an access token of that issuer, for us, at this time (Unix).

    Signature and algorithm are not looked at.
    """
    if claims.get("iss") != expected.issuer:
        raise TokenRefused("issuer")
    check_times(claims, expected.leeway_seconds, now)
    if not is_access_token(header, claims):
        raise TokenRefused("type")
    if not is_audience(claims, expected.audience):
        raise TokenRefused("audience")


def check_times(claims: Mapping[str, Any], leeway_seconds: float, now: float) -> None:
    """Raise `TokenRefused` unless `exp` is to come, and neither `nbf` nor `iat` is, each by more than the leeway."""
    expires = _number(claims, "exp")
    if expires is None or expires + leeway_seconds <= now:
        raise TokenRefused("time")
    for claim in ("nbf", "iat"):
        since = _number(claims, claim)
        if since is not None and since - leeway_seconds > now:
            raise TokenRefused("time")


def is_access_token(header: Mapping[str, Any], claims: Mapping[str, Any]) -> bool:
    """Whether it is for whoever bears it to show: no ID, refresh or logout token, and none bound to a key.

    Keycloak tells the kinds of its tokens apart by claim `typ`; others have no such claim.
    """
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower() not in ACCESS_TOKEN_TYPES:
        return False
    if "typ" in claims and claims["typ"] != "Bearer":
        return False
    if "nonce" in claims and "typ" not in claims and kind.lower() == "jwt":
        return False
    return not (ID_TOKEN_CLAIMS & claims.keys() or "cnf" in claims or "events" in claims)


def identity(claims: Mapping[str, Any]) -> Identity:
    """Whom these claims tell of; TokenRefused if they name nobody.

    A role map that is no map, roles that are no list, and a client called `*` give no role.
    """
    name = next((text for claim in ("preferred_username", "azp", "sub") if (text := _text(claims, claim))), "")
    if not name:
        raise TokenRefused("malformed")
    roles, is_platform_admin = _roles(claims.get("resource_access"))
    return Identity(
        name=name,
        subject=_text(claims, "sub"),
        client=_text(claims, "azp"),
        is_platform_admin=is_platform_admin,
        roles=roles,
        issued_at=_number(claims, "iat"),
        expires_at=_number(claims, "exp"),
    )


def _roles(access: Any) -> tuple[dict[str, Role], bool]:
    """Role by workspace, and whether a platform admin."""
    found: dict[str, Role] = {}
    is_platform_admin = False
    for client, granted in access.items() if isinstance(access, dict) else ():
        given = granted.get("roles") if isinstance(granted, dict) else None
        if not isinstance(given, list) or client == "*":
            continue
        if client == PLATFORM_CLIENT:
            is_platform_admin = "admin" in given
        elif role := next((role for role in ROLES if role in given), None):
            found[client] = role
    return found, is_platform_admin


def _text(claims: Mapping[str, Any], claim: str) -> str:
    value = claims.get(claim)
    return value.strip() if isinstance(value, str) else ""


def _number(claims: Mapping[str, Any], claim: str) -> float | None:
    """The claim's time; TokenRefused for one that is no number."""
    value = claims.get(claim)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TokenRefused("time")
    return float(value)
