"""What a lab is to have in Keycloak, and the Secrets with which its client proves itself there.

The client's secret is ours to give, not Keycloak's: so a realm that was restored or made anew gets it back.
"""

from dataclasses import dataclass, field

from datalabd import names
from datalabd.api.meta import Manifest
from datalabd.identity import Admin
from datalabd.lab import Lab
from datalabd.observed import Observed
from datalabd.plan.metadata import beside, digest, inside, opaque
from datalabd.plan.realm import RealmState, realm_state
from datalabd.stores import Turn


@dataclass(frozen=True)
class Wanted:
    """What the realm is to hold of one lab, and how it is reached."""

    url: str
    admin: Admin
    state: RealmState
    secret: str = field(repr=False)

    @property
    def realm(self) -> str:
        """Address of the realm, which is also the issuer of its tokens."""
        return realm_address(self.url, self.state.realm)

    @property
    def digest(self) -> str:
        """Fingerprint of what the realm is to hold, and of which realm."""
        return digest([self.realm, self.state.manifest(), self.secret])


def realm_address(url: str, realm: str) -> str:
    """Address of a realm of the Keycloak at `url`."""
    return f"{url.rstrip('/')}/realms/{realm}"


def wanted(lab: Lab, seen: Observed) -> Wanted | None:
    """What Keycloak is to be told; None where it is nobody's to tell, or something is missing yet."""
    url = lab.environment.data.iam.url
    if url is None or seen.admin is None or not seen.client_secret:
        return None
    return Wanted(url, seen.admin, realm_state(lab), seen.client_secret)


def realm_held(lab: Lab, seen: Observed) -> str:
    """Address of the realm that is known to hold all of that; empty where none is."""
    asked = wanted(lab, seen)
    held = asked is not None and seen.identity is not None and seen.identity.holds == asked.digest
    return asked.realm if asked is not None and held else ""


def client_secret(lab: Lab, secret: str, turn: Turn) -> Manifest:
    """Secret `N-oauth-client` beside the claim: random, made once, and once for each rotation."""
    values = {"clientID": names.identity_client(lab.name), "clientSecret": secret}
    return opaque(lab, beside(lab, names.identity_secret(lab.name), turn.annotations()), values)


def client_secret_copy(lab: Lab, secret: str) -> Manifest:
    """Secret `N-oauth2-client` in the workshop namespace, for ingress controllers and programs of the lab."""
    values = {"client_id": names.identity_client(lab.name), "client_secret": secret}
    return opaque(lab, inside(lab, names.identity_secret_copy(lab.name)), values)
