"""What a lab's place in Keycloak depends on and what became of it: Secrets in, facts out. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from datalabd.api.environment import Iam, ObjectReference
from datalabd.api.meta import Manifest, NamespacedName
from datalabd.stores import decoded

CERTIFICATE = "-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True)
class Access:
    """How to reach a realm, and who we are there."""

    url: str
    realm: str
    client_id: str = field(repr=False)
    client_secret: str = field(repr=False)
    ca: bytes | None
    """Certificates in PEM that alone are trusted; None: those that the system trusts."""


@dataclass(frozen=True)
class Admin:
    """The client that manages the realm."""

    client_id: str = field(repr=False)
    client_secret: str = field(repr=False)
    ca: bytes | None
    """Certificates of who signs Keycloak's, PEM; None: an authority that everybody knows."""


@dataclass(frozen=True)
class Outcome:
    """How the last attempt to have the realm as it is wanted ended."""

    holds: str = ""
    """Digest of what the realm was last made to hold; empty: nothing yet."""
    users: Mapping[str, str] = field(default_factory=dict)
    """What is wrong with users that could not be made members, when that was done."""
    reason: str = ""
    """Why the last attempt failed, as one word; empty: it did not."""
    message: str = ""
    """The same as a sentence."""
    stalled: bool = False
    """Whether only a person can mend it."""


@dataclass(frozen=True, repr=False)
class IamView:
    """The Secrets that say how a realm is managed, as cached. No repr: it has Secrets."""

    secrets: Mapping[NamespacedName, Manifest] = field(default_factory=dict)
    """Those that there are."""
    read: bool = True
    """Whether all have been looked for."""
    refused: str = ""
    """Why that cannot be done, in one sentence."""


def secrets(iam: Iam) -> list[NamespacedName]:
    """The Secrets that say how the realm is managed; none where it is not."""
    references = (iam.admin_secret, iam.ca_secret) if iam.url is not None else ()
    return [_named(reference) for reference in references if reference is not None]


def admin(iam: Iam, view: IamView) -> tuple[Admin | None, str]:
    """How the realm is managed, or None and why that is not known; nothing is told while the Secrets are being read."""
    if iam.url is None or iam.admin_secret is None or not view.read:
        return None, view.refused
    where = _named(iam.admin_secret)
    keys = ("client_id", "client_secret")
    values = [_value(view, where, key) for key in keys]
    for key, value in zip(keys, values, strict=True):
        if not value:
            return None, _lacking(view, where, " and ".join(keys), f"value for {key}")
    if iam.ca_secret is None:
        return Admin(values[0], values[1], None), ""
    where = _named(iam.ca_secret)
    ca = _value(view, where, "ca.crt")
    if CERTIFICATE not in ca:
        return None, _lacking(view, where, "ca.crt", "certificate in ca.crt")
    return Admin(values[0], values[1], ca.encode()), ""


def _value(view: IamView, where: NamespacedName, key: str) -> str:
    return (decoded(view.secrets.get(where), key) or "").strip()


def _lacking(view: IamView, where: NamespacedName, keys: str, what: str) -> str:
    if where in view.secrets:
        return f"Secret {where} has no {what}"
    return f"Secret {where} does not exist; create it with {keys}"


def _named(reference: ObjectReference) -> NamespacedName:
    return NamespacedName(reference.namespace, reference.name)
