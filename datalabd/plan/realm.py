"""What Keycloak is to hold of a lab: a client, its roles, two groups and their members."""

from dataclasses import dataclass

from datalabd import names
from datalabd.api.meta import Manifest
from datalabd.api.v1beta2 import Role
from datalabd.lab import Lab

FLOWS = {
    "fullScopeAllowed": False,
    "standardFlowEnabled": True,
    "implicitFlowEnabled": False,
    "directAccessGrantsEnabled": False,
    "serviceAccountsEnabled": True,
}
"""How one may log in through the client, in Keycloak's own words. Only with a code, and a secret to redeem it."""
DEVICE_GRANT = False
"""Whether a device without a browser may ask somebody to log in for it."""

_LOCALHOST = "http://localhost:*"
_AUDIENCE_MAX = 48


@dataclass(frozen=True)
class Group:
    """One group: everybody in it has the role, nobody else is in it."""

    name: str
    role: str
    members: tuple[str, ...]
    """User names as the claim writes them."""


@dataclass(frozen=True)
class GroupMapper:
    """How tokens tell the groups of who logged in."""

    name: str
    claim_name: str = "groups"
    full_path: bool = False
    add_to_id_token: bool = True
    add_to_access_token: bool = False
    add_to_userinfo: bool = False


@dataclass(frozen=True)
class AudienceMapper:
    """How access tokens are addressed to one more service."""

    name: str
    audience: str
    add_to_id_token: bool = False
    add_to_access_token: bool = True


@dataclass(frozen=True)
class RealmState:
    """The part of a realm that is one lab's."""

    realm: str
    client: str
    root_url: str
    redirect_uris: tuple[str, ...]
    web_origins: tuple[str, ...]
    """Without a path, which an origin does not have."""
    credentials_secret: str
    """Name of the Secret that the client's secret comes from."""
    groups: tuple[Group, ...]
    service_account_role: str
    """What the client itself may do, as its service account."""
    group_mapper: GroupMapper
    audience_mappers: tuple[AudienceMapper, ...]

    @property
    def roles(self) -> tuple[str, ...]:
        """The client's roles, all of which its tokens may carry."""
        return (*(group.role for group in self.groups), self.service_account_role)

    def manifest(self) -> Manifest:
        """The state as a document, which is no Kubernetes object."""
        mapper = self.group_mapper
        return {
            "kind": "KeycloakRealmState",
            "realm": self.realm,
            "clients": [
                {
                    "clientId": self.client,
                    "name": self.client,
                    "rootUrl": self.root_url,
                    "adminUrl": self.root_url,
                    "accessType": "CONFIDENTIAL",
                    **FLOWS,
                    "oauth2DeviceAuthorizationGrantEnabled": DEVICE_GRANT,
                    "webOrigins": list(self.web_origins),
                    "validRedirectUris": list(self.redirect_uris),
                    "credentialsSecret": self.credentials_secret,
                }
            ],
            "clientRoles": [{"client": self.client, "role": role} for role in self.roles],
            "groups": [{"name": group.name} for group in self.groups],
            "groupRoles": [{"group": group.name, "client": self.client, "role": group.role} for group in self.groups],
            "memberships": [{"group": group.name, "members": list(group.members)} for group in self.groups],
            "protocolMappers": [
                {
                    "client": self.client,
                    "type": "group-membership",
                    "name": mapper.name,
                    "claimName": mapper.claim_name,
                    "fullPath": mapper.full_path,
                    "addToIdToken": mapper.add_to_id_token,
                    "addToAccessToken": mapper.add_to_access_token,
                    "addToUserinfo": mapper.add_to_userinfo,
                }
            ],
            "audienceMappers": [
                {
                    "client": self.client,
                    "name": audience.name,
                    "audience": audience.audience,
                    "addToIdToken": audience.add_to_id_token,
                    "addToAccessToken": audience.add_to_access_token,
                }
                for audience in self.audience_mappers
            ],
            "scopeMappings": [{"scopeOf": self.client, "client": self.client, "role": role} for role in self.roles],
            "serviceAccountRoles": [
                {"serviceAccountOf": self.client, "client": self.client, "role": self.service_account_role}
            ],
        }


def realm_state(lab: Lab) -> RealmState:
    """What Keycloak is to hold of a lab, whether the environment names a Keycloak or not."""
    iam, domain = lab.environment.data.iam, lab.environment.data.ingress.domain
    client = names.identity_client(lab.name)
    hosts = [client, *(host for session in lab.sessions for host in names.session_hosts(lab.name, session)[:-1])]
    origins = list(dict.fromkeys(f"https://{host}.{domain}" for host in hosts))
    localhost = [_LOCALHOST] if iam.localhost_redirects else []
    members, administrators = names.groups(lab.name)
    return RealmState(
        realm=iam.realm,
        client=client,
        root_url=origins[0],
        redirect_uris=(*(f"{origin}/*" for origin in origins), *localhost),
        web_origins=tuple(origins),
        credentials_secret=names.identity_secret(lab.name),
        groups=(
            Group(members, names.ACCESS_ROLE, tuple(dict.fromkeys(lab.claim.spec.users))),
            Group(administrators, names.ADMIN_ROLE, _administrators(lab)),
        ),
        service_account_role=names.API_ROLE,
        group_mapper=GroupMapper(client),
        audience_mappers=_audience_mappers(iam.extra_audiences),
    )


def _administrators(lab: Lab) -> tuple[str, ...]:
    """The first user, and whoever was made one; each is a member too."""
    spec = lab.claim.spec
    granted = {user for user, override in spec.user_overrides.items() if override.role is Role.ADMIN}
    return tuple(dict.fromkeys(user for index, user in enumerate(spec.users) if index == 0 or user in granted))


def _audience_mappers(audiences: list[str]) -> tuple[AudienceMapper, ...]:
    """One for each audience, the names of existing installations; a number tells apart those of equal name."""
    found: dict[str, AudienceMapper] = {}
    for audience in dict.fromkeys(audiences):
        words = "".join(letter.lower() if letter.isalnum() else " " for letter in audience).split()
        stem = "-".join(words)[:_AUDIENCE_MAX].rstrip("-") or "extra"
        name, number = f"{stem}-audience", 1
        while name in found:
            number += 1
            name = f"{stem}-{number}-audience"
        found[name] = AudienceMapper(name, audience)
    return tuple(found.values())
