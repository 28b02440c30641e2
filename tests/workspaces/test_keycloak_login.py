"""Tokens and logins of a real Keycloak, whose realm is as the how-to says; labs' clients are datalabd's own."""

import json
import ssl
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from datalabd.api.conversion import to_v1beta2
from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import NamespacedName
from datalabd.defaults import default
from datalabd.keycloak import Access, Keycloak
from datalabd.lab import resolve
from datalabd.plan.realm import realm_state
from hack import labs
from hack.keycloak import WORKSPACE_CLIENT, Realm, Server
from tests.servers import keycloak_server, realm_name
from tests.workspaces.web import COOKIE_KEY, Browser, served
from workspaces.keys import UNKNOWN_SECONDS
from workspaces.settings import Settings

__all__ = ["keycloak_server", "realm_name"]

pytestmark = [pytest.mark.servers("Keycloak"), pytest.mark.timeout(300)]

PASSWORD, CLIENT_SECRET = "not-a-secret", "not-a-secret-either"


@dataclass
class Scene:
    """A realm with lab `ws-alice`, which is alice's, bob's too, and not eve's."""

    realm: Realm
    secret: str
    ca: Path

    @property
    def settings(self) -> Settings:
        return Settings(
            oidc_issuer=f"{self.realm.server.secure_url}/realms/{self.realm.name}",
            oidc_ca_file=str(self.ca),
            oidc_client_id=WORKSPACE_CLIENT,
            oidc_client_secret=self.secret,
            cookie_key=COOKIE_KEY,
        )

    async def token(self, **form: str) -> dict[str, str]:
        """The issuer's answer to a form."""
        trust = ssl.create_default_context(cafile=str(self.ca))
        url = f"{self.settings.oidc_issuer}/protocol/openid-connect/token"
        async with aiohttp.ClientSession() as session, session.post(url, data=form, ssl=trust) as answer:
            found: dict[str, str] = await answer.json()
            assert answer.status == 200, found
            return found

    async def of_user(self, user: str) -> dict[str, str]:
        return await self.token(
            grant_type="password",
            client_id=WORKSPACE_CLIENT,
            client_secret=self.secret,
            username=user,
            password=PASSWORD,
            scope="openid",
        )


@pytest.fixture
async def scene(keycloak_server: Server, realm_name: str, tmp_path: Path) -> Scene:
    realm = keycloak_server.realm(realm_name)
    secret = realm.add_workspace_client("http://127.0.0.1/*", "http://127.0.0.1:*")
    for user in ("alice", "bob", "eve"):
        realm.add_user(user, PASSWORD)
    environment = EnvironmentConfig.parse(
        {
            "metadata": {"name": "test"},
            "data": {
                "ingress": {"domain": "lab.example.org"},
                "iam": {"realm": realm.name, "extraAudiences": ["workspace-api"]},
            },
        }
    )
    claim = to_v1beta2(default(labs.claim("ws-alice")))
    claim["metadata"] |= {"uid": "1", "generation": 1}
    claim["spec"] |= {"users": ["alice", "bob"]}
    access = Access(keycloak_server.url, realm.name, realm.client_id, realm.client_secret, None)
    keycloak = Keycloak(access, timeout_seconds=60)
    try:
        state = realm_state(resolve(claim, environment))
        await keycloak.converge(state, CLIENT_SECRET, NamespacedName("workspace", "ws-alice"))
    finally:
        await keycloak.aclose()
    (tmp_path / "ca.crt").write_bytes(keycloak_server.ca)
    return Scene(realm, secret, tmp_path / "ca.crt")


async def _who(url: str, token: str) -> tuple[int, dict[str, object]]:
    async with Browser() as browser:
        answer = await browser.ask("GET", f"{url}/x", headers={"Authorization": f"Bearer {token}"})
        return answer.status, json.loads(await answer.text())


async def test_tokens_of_a_realm_tell_members_strangers_machines_and_admins_apart(scene: Scene) -> None:
    scene.realm.add_user("root", PASSWORD)
    scene.realm.give_role("root", WORKSPACE_CLIENT, "admin")
    machine = await scene.token(
        grant_type="client_credentials", client_id="ws-alice", client_secret=CLIENT_SECRET, audience="workspace-api"
    )
    async with served(scene.settings) as url:
        found = {}
        for user in ("alice", "bob", "eve", "root"):
            tokens = await scene.of_user(user)
            status, answer = await _who(url, tokens["access_token"])
            found[user] = (status, answer.get("name"), answer.get("roles"), answer.get("admin"))
            for kind in ("refresh_token", "id_token"):
                assert (await _who(url, tokens[kind]))[0] == 401
        status, answer = await _who(url, machine["access_token"])
        found["machine"] = (status, answer.get("name"), answer.get("roles"), answer.get("admin"))
    assert found == {
        "alice": (200, "alice", {"ws-alice": "ws_admin"}, False),
        "bob": (200, "bob", {"ws-alice": "ws_access"}, False),
        "eve": (200, "eve", {}, False),
        "root": (200, "root", {}, True),
        "machine": (200, "service-account-ws-alice", {"ws-alice": "ws_api"}, False),
    }


async def test_a_browser_logs_in_and_out_of_the_realm(scene: Scene) -> None:
    trust = ssl.create_default_context(cafile=str(scene.ca))
    async with served(scene.settings) as url, Browser(trust) as browser:
        form = {"username": "alice", "password": PASSWORD, "credentialId": ""}
        answer = await browser.open(f"{url}/workspaces", **form)
        assert answer.status == 200, await answer.text()
        assert (await answer.json())["roles"] == {"ws-alice": "ws_admin"}
        user = scene.realm.user_id("alice")
        assert len(scene.realm.get(f"/users/{user}/sessions")) == 1
        answer = await browser.ask("POST", f"{url}/logout", headers={"Origin": url})
        assert answer.status == 200
        assert scene.realm.get(f"/users/{user}/sessions") == []
        again = await browser.open(f"{url}/workspaces")
        assert str(again.url).startswith(scene.settings.oidc_issuer)


async def test_a_login_goes_on_at_another_replica_until_the_realm_ends_it(scene: Scene) -> None:
    trust = ssl.create_default_context(cafile=str(scene.ca))
    async with served(scene.settings) as first, served(scene.settings) as second, Browser(trust) as browser:
        await browser.open(f"{first}/workspaces", username="bob", password=PASSWORD, credentialId="")
        answer = await browser.ask("GET", f"{second}/x")
        assert (answer.status, (await answer.json())["name"]) == (200, "bob")
    scene.realm.request("POST", f"/users/{scene.realm.user_id('bob')}/logout")
    async with served(scene.settings) as third:
        browser_ = Browser(trust)
        async with browser_:
            browser_.cookies.update_cookies(browser.cookies.filter_cookies(URL(first)))
            assert (await browser_.ask("GET", f"{third}/x")).status == 401


async def test_keys_that_the_realm_rotates_refuse_nobody(scene: Scene) -> None:
    began, passed = time.monotonic(), [0.0]
    async with served(scene.settings, clock=lambda: began + passed[0]) as url:
        assert (await _who(url, (await scene.of_user("alice"))["access_token"]))[0] == 200
        newer = {
            "name": "newer",
            "providerId": "rsa-generated",
            "providerType": "org.keycloak.keys.KeyProvider",
            "config": {"priority": ["200"], "keySize": ["2048"]},
        }
        scene.realm.request("POST", "/components", body=newer)
        token = (await scene.of_user("alice"))["access_token"]
        passed[0] = UNKNOWN_SECONDS / 2
        assert (await _who(url, token))[0] == 503  # the keys were fetched less than ten seconds ago
        passed[0] = UNKNOWN_SECONDS
        assert (await _who(url, token))[0] == 200
