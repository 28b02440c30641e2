"""Roles that Datalab claims give to users and clients, as datalabd would have Keycloak give them."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from datalabd.api.meta import Manifest
from datalabd.errors import NotFound
from datalabd.kube import resources as kinds
from datalabd.kube.client import Client
from workspaces.claims import PLATFORM_CLIENT


def roles_of(claims: Sequence[Mapping[str, Any]], user: str, admins: Sequence[str] = ()) -> dict[str, list[str]]:
    """Roles by client, as datalabd would have Keycloak give them to a user or a client's service account."""
    found: dict[str, list[str]] = {PLATFORM_CLIENT: ["admin"]} if user in admins else {}
    for claim in claims:
        name, spec = claim["metadata"]["name"], claim.get("spec") or {}
        users = [str(member).lower() for member in spec.get("users") or ()]
        overrides = {str(key).lower(): value for key, value in (spec.get("userOverrides") or {}).items()}
        if user == f"service-account-{name}":
            found[name] = ["ws_api"]
        elif user in users:
            is_admin = user == users[0] or (overrides.get(user) or {}).get("role") == "admin"
            found[name] = ["ws_admin"] if is_admin else ["ws_access"]
    return found


class ClusterRoles:
    """What the claims of a cluster give at the moment, and the secrets that its labs' clients have."""

    def __init__(self, client: Client, admins: Sequence[str]) -> None:
        self._client = client
        self._admins = admins
        self._claims: list[Manifest] = []

    def __call__(self, user: str) -> dict[str, list[str]]:
        """Roles by client, as of the last look."""
        return roles_of(self._claims, user, self._admins)

    async def look(self, clients: dict[str, str]) -> None:
        """Look at the claims again, and at the Secrets `NAME-oauth2-client` or `NAME-oauth-client` beside them."""
        try:
            self._claims, _ = await self._client.list(kinds.DATALABS)
        except NotFound:  # where datalabd is not installed yet nobody has a role
            self._claims = []
        secrets_, _ = await self._client.list(kinds.SECRETS)
        by_key = {(secret["metadata"]["namespace"], secret["metadata"]["name"]): secret for secret in secrets_}
        for claim in self._claims:
            namespace, name = claim["metadata"]["namespace"], claim["metadata"]["name"]
            for kept in (f"{name}-oauth-client", f"{name}-oauth2-client"):
                data = by_key.get((namespace, kept), {}).get("data") or {}
                if value := data.get("client_secret"):
                    clients[name] = base64.b64decode(value).decode()
