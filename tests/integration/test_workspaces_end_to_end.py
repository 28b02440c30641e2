"""A workspace from its creation to a member's removal: the Workspace API, datalabd and a real Keycloak together."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from hack.cluster import Cluster
from hack.issuer import Issuer
from hack.keycloak import WORKSPACE_CLIENT, Realm, Server
from hack.standins.storage import StorageProvider
from tests.integration.daemon import Daemon, eventually, running
from tests.integration.objects import let_go, open_namespace, unique
from tests.integration.stage import standins
from tests.integration.test_identity import Labs
from tests.integration.workspace_server import install_kinds, serving
from tests.servers import keycloak_server

__all__ = ["keycloak_server"]

pytestmark = [pytest.mark.cluster, pytest.mark.servers("Keycloak"), pytest.mark.timeout(600)]

PASSWORD = "not-a-secret"
WAIT = 60.0


@pytest.fixture(scope="module")
def datalabd(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running(cluster, tmp_path_factory) as daemon:
        yield daemon


@dataclass
class Scene:
    """A Workspace API whose labs are datalabd's, in a realm where people have tokens."""

    url: str
    realm: Realm
    client_secret: str
    tokens: dict[str, str] = field(default_factory=dict)
    """The last token of each user."""

    def log_in(self, user: str) -> None:
        """Take the user's next token."""
        answer = self.realm.token(
            grant_type="password",
            client_id=WORKSPACE_CLIENT,
            client_secret=self.client_secret,
            username=user,
            password=PASSWORD,
        )
        self.tokens[user] = answer.raise_for_status().json()["access_token"]

    def ask(self, user: str, method: str, path: str, body: Any = None, token: str = "") -> httpx.Response:
        """What is answered to the user's last token, or to the one that is given."""
        headers = {"Authorization": f"Bearer {token or self.tokens[user]}", "Accept": "application/json"}
        return httpx.request(method, f"{self.url}{path}", json=body, headers=headers, trust_env=False, timeout=30)


@pytest.fixture
def scene(
    cluster: Cluster, datalabd: Daemon, keycloak_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    install_kinds(cluster)
    namespace = open_namespace(cluster)
    realm = keycloak_server.realm(unique("realm"))
    secret = realm.add_workspace_client("http://127.0.0.1/*")
    for user in ("root", "ann", "bob"):
        realm.add_user(user, PASSWORD)
    realm.give_role("root", WORKSPACE_CLIENT, "admin")
    issuer = f"{keycloak_server.url}/realms/{realm.name}"
    with standins(cluster, installed=False, stores=[StorageProvider]):
        labs = _Labs(cluster, namespace, keycloak_server.url, realm)
        environ: dict[str, Any] = {
            "OIDC_ISSUER": issuer,
            "PROVIDER_ENVIRONMENT": labs.environment,
            "TOKEN_BROKER_TOKEN_ENDPOINT": f"{issuer}/protocol/openid-connect/token",
        }
        log = tmp_path_factory.mktemp("workspaces") / "log"
        with serving(cluster, namespace, log, Issuer(), **environ) as server:
            yield Scene(server.url, realm, secret)
        let_go(cluster, namespace)


class _Labs(Labs):
    """An environment whose labs' tokens are for the Workspace API too."""

    def iam(self, realm: str) -> dict[str, Any]:
        return super().iam(realm) | {"extraAudiences": ["workspace-api"]}


def test_a_member_comes_and_goes(scene: Scene) -> None:
    for user in ("root", "ann", "bob"):
        scene.log_in(user)
    name = unique("ws")
    body = {"preferred_name": name, "default_owner": "Ann"}
    assert scene.ask("ann", "POST", "/workspaces", body).status_code == 403
    made = scene.ask("root", "POST", "/workspaces", body)
    assert (made.status_code, made.json()["name"]) == (201, name)
    path = f"/workspaces/{name}"

    assert scene.ask("ann", "GET", path).status_code == 403
    eventually(lambda: scene.realm.members(f"{name}-admin") == ["ann"], WAIT)
    scene.log_in("ann")
    seen = scene.ask("ann", "GET", path).json()
    assert [(row["member"], row["role"]) for row in seen["datalab"]["memberships"]] == [("ann", "owner")]
    assert "MANAGE_MEMBERS" in seen["user"]["permissions"]
    eventually(lambda: scene.ask("ann", "GET", path).json()["status"] == "ready", WAIT)

    added = scene.ask("ann", "PUT", path, {"add_memberships": [{"member": "bob", "role": "user"}]})
    assert added.status_code == 202, added.text
    eventually(lambda: scene.realm.members(name) == ["ann", "bob"], WAIT)
    assert scene.ask("bob", "GET", path).status_code == 403  # his token is older than his role
    scene.log_in("bob")
    assert "VIEW_MEMBERS" in scene.ask("bob", "GET", path).json()["user"]["permissions"]
    assert [row["name"] for row in scene.ask("bob", "GET", "/workspaces").json()] == [name]
    assert scene.ask("bob", "DELETE", f"{path}/members/ann").status_code == 403

    machine = scene.ask("ann", "GET", f"{path}/token")
    assert machine.status_code == 200, machine.text
    of_machine = scene.ask("", "GET", path, token=machine.json()["access_token"]).json()
    assert of_machine["user"]["permissions"] == ["VIEW_BUCKET_CREDENTIALS"]
    assert of_machine["storage"]["credentials"]["access"]
    shown = of_machine["storage"]["buckets"], of_machine["datalab"]["memberships"], of_machine["datalab"]["sessions"]
    assert shown == ([], [], [])

    gone = scene.ask("ann", "DELETE", f"{path}/members/bob")
    assert gone.status_code in (200, 202, 204), gone.text
    assert scene.ask("bob", "GET", path).status_code == 403  # at once, with a token that still gives the role
    assert scene.ask("bob", "GET", "/workspaces").json() == []
    again = scene.ask("ann", "PUT", path, {"add_memberships": [{"member": "bob", "role": "user"}]})
    assert again.status_code == 202, again.text
    assert scene.ask("bob", "GET", path).status_code == 200
