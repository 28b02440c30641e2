"""Who gets into the running Workspace API: by tokens, behind proxies, by a login; and what it tells of secrets."""

import asyncio
import base64
import contextlib
import json
import secrets
import ssl
import time
import tomllib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from hack import issuer as provider
from hack import nginx, oauth2_proxy, pages
from hack.cluster import Cluster
from hack.keycloak import WORKSPACE_CLIENT
from hack.keycloak import Server as KeycloakServer
from hack.nginx import Nginx
from hack.oauth2_proxy import OAuth2Proxy
from tests.integration.objects import unique
from tests.integration.workspace_server import USERS, Server, new_namespace, serving, workspace
from tests.servers import keycloak_server
from tests.workspaces.test_identity import CLAIMS, unsigned
from tests.workspaces.web import Browser

__all__ = ["keycloak_server"]

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "workspaces-identity.md"
PASSWORD = "not-a-secret"
LOOPBACK = "127.0.0.0/8"
MANY = {f"workspace-of-a-team-{number:03}": ["ws_access"] for number in range(300)}


@pytest.fixture(scope="module")
def issuer() -> Iterator[provider.Issuer]:
    with provider.Issuer(USERS | {"many": MANY | {"ws-a": ["ws_access"]}}) as issuer:
        yield issuer


@pytest.fixture(scope="module")
def place(cluster: Cluster) -> str:
    """A namespace with workspace `ws-a`."""
    namespace = new_namespace(cluster)
    workspace(cluster, namespace, "ws-a", sessions=[{"name": "default", "state": "started"}])
    return namespace


@pytest.fixture(scope="module")
def server(
    cluster: Cluster, issuer: provider.Issuer, place: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server where browsers can log in, behind a proxy that it trusts."""
    directory = tmp_path_factory.mktemp("workspaces")
    (directory / "secret").write_text(provider.CLIENT_SECRET)
    (directory / "key").write_bytes(base64.b64encode(b"not-a-random-key-of-32-bytes-or-more"))
    environ: dict[str, Any] = {
        "OIDC_CLIENT_ID": provider.CLIENT_ID,
        "OIDC_CLIENT_SECRET_FILE": str(directory / "secret"),
        "COOKIE_KEY_FILE": str(directory / "key"),
        "TRUSTED_PROXIES": LOOPBACK,
    }
    with serving(cluster, place, directory / "log", issuer, **environ) as server:
        yield server


@contextlib.asynccontextmanager
async def behind_nginx(server: Server, directory: Path) -> AsyncIterator[tuple[str, Browser]]:
    if lacking := nginx.missing():
        pytest.skip(lacking)
    async with contextlib.AsyncExitStack() as stack:
        proxy = Nginx(directory, server.url)
        await asyncio.to_thread(proxy.__enter__)
        stack.push_async_callback(asyncio.to_thread, proxy.__exit__, None, None, None)
        browser = Browser(ssl.create_default_context(cafile=str(proxy.ca)))
        yield proxy.url, await stack.enter_async_context(browser)


@pytest.mark.servers("nginx")
@pytest.mark.parametrize("prefix", ["", "/sub"])
async def test_a_person_logs_in_behind_a_proxy_and_sees_links_of_there(
    server: Server, tmp_path: Path, prefix: str
) -> None:
    async with behind_nginx(server, tmp_path) as (url, browser):
        answer = await browser.open(f"{url}{prefix}/", user="alice")
        assert (answer.status, str(answer.url)) == (200, f"{url}{prefix}/workspaces")
        assert f'href="{url}{prefix}/workspaces/ws-a"' in await answer.text()
        listed = await browser.ask("GET", f"{url}{prefix}/workspaces", headers={"Accept": "application/json"})
        assert [row["url"] for row in json.loads(await listed.text())] == [f"{url}{prefix}/workspaces/ws-a"]
        body = {"add_memberships": [{"member": f"carol{len(prefix)}", "role": "user"}]}
        forged = await browser.ask("PUT", f"{url}{prefix}/workspaces/ws-a", json=body)
        assert (forged.status, await forged.json()) == (403, {"detail": "Forbidden"})
        changed = await browser.ask("PUT", f"{url}{prefix}/workspaces/ws-a", json=body, headers={"Origin": url})
        assert changed.status == 202, await changed.text()
        cookie = f"__Host-workspaces-session{prefix.replace('/', '-')}"
        assert browser.cookie(cookie, url)
        assert browser.cookie(cookie, url.replace("https", "http")) is None
        ended = await browser.ask("POST", f"{url}{prefix}/logout", headers={"Origin": url})
        assert (ended.status, browser.cookie(cookie, url)) == (200, None)
        assert f'href="{prefix}/login"' in await ended.text()
        gone = await browser.ask("GET", f"{url}{prefix}/workspaces", headers={"Accept": "application/json"})
        assert gone.status == 401


@pytest.mark.servers("nginx")
@pytest.mark.parametrize("prefix", ["", "/sub"])
async def test_a_stream_and_a_token_of_300_workspaces_get_through(
    server: Server, issuer: provider.Issuer, tmp_path: Path, prefix: str
) -> None:
    async with behind_nginx(server, tmp_path) as (url, browser):
        headers = {"Authorization": f"Bearer {issuer.access_token('many')}"}
        async with browser.session.get(f"{url}{prefix}/workspaces/ws-a/events", headers=headers) as stream:
            assert stream.status == 200
            received = b""
            while b"ws-a" not in received:
                received += await asyncio.wait_for(stream.content.readany(), 20)


@pytest.mark.servers("nginx")
async def test_a_client_cannot_say_what_the_proxy_does(server: Server, issuer: provider.Issuer, tmp_path: Path) -> None:
    async with behind_nginx(server, tmp_path) as (url, browser):
        headers = {
            "Authorization": f"Bearer {issuer.access_token('alice')}",
            "X-Forwarded-Host": "evil.example.org",
            "X-Forwarded-Proto": "http",
            "X-Forwarded-Prefix": "/evil",
        }
        answer = await browser.ask("GET", f"{url}/workspaces", headers=headers)
        assert [row["url"] for row in json.loads(await answer.text())] == [f"{url}/workspaces/ws-a"]


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        pytest.param({"exp": 1}, "Invalid access token", id="expired"),
        pytest.param({"iss": "https://evil.example.org"}, "Invalid access token", id="issuer"),
        pytest.param({"aud": ["account"]}, "Invalid token audience", id="audience"),
        pytest.param({"typ": "ID"}, "Invalid access token", id="ID token"),
    ],
)
@pytest.mark.parametrize("path", ["/workspaces", "/workspaces/ws-a", "/workspaces/absent", "/nothing"])
def test_a_bad_token_is_told_the_same_everywhere(
    server: Server, issuer: provider.Issuer, path: str, change: dict[str, Any], detail: str
) -> None:
    headers = {"Authorization": f"Bearer {issuer.access_token('alice', **change)}"}
    answer = httpx.get(f"{server.url}{path}", headers=headers, trust_env=False)
    assert (answer.status_code, answer.json()) == (401, {"detail": detail})


def test_a_gateway_hands_on_tokens_by_its_secret(
    cluster: Cluster, issuer: provider.Issuer, place: str, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("of-the-gateway\n")
    environ: dict[str, Any] = {"AUTH_MODE": "gateway", "GATEWAY_SECRET_FILE": str(tmp_path / "secret")}
    claims = {"aud": "workspace-api", "preferred_username": "joe", "iat": int(time.time())}
    token = unsigned(claims | {"resource_access": {"ws-a": {"roles": ["ws_access"]}}})
    with serving(cluster, place, tmp_path / "log", issuer, **environ) as server:
        codes = {}
        for secret in ("of-the-gateway", "other", ""):
            headers = {"Authorization": f"Bearer {token}", "X-Gateway-Secret": secret}
            codes[secret] = httpx.get(f"{server.url}/workspaces/ws-a", headers=headers, trust_env=False).status_code
        assert codes == {"of-the-gateway": 200, "other": 401, "": 401}
        assert "of-the-gateway" not in server.log.read_text()


def _structured(issuer_url: str, ca: Path, secret: Path, behind: str) -> dict[str, Any]:
    """oauth2-proxy as the how-to prints it, with addresses and files of here."""
    (block,) = pages.fenced(HOW_TO, "yaml oauth2-proxy")
    found: dict[str, Any] = yaml.safe_load(block)
    found["upstreamConfig"]["upstreams"][0]["uri"] = behind
    (provider,) = found["providers"]
    provider |= {"clientID": WORKSPACE_CLIENT, "clientSecretFile": str(secret), "caFiles": [str(ca)]}
    provider["oidcConfig"]["issuerURL"] = issuer_url
    return found


def _settings() -> dict[str, Any]:
    """Its first file, likewise; without TLS in front of it."""
    (block,) = pages.fenced(HOW_TO, "toml")
    return tomllib.loads(block) | {"cookie_secret": secrets.token_hex(16), "cookie_secure": False}


def _token(issuer_url: str, ca: Path, form: dict[str, str]) -> str:
    trust = ssl.create_default_context(cafile=str(ca))
    answer = httpx.post(f"{issuer_url}/protocol/openid-connect/token", data=form, verify=trust, timeout=60)
    return str(answer.raise_for_status().json()["access_token"])


@pytest.mark.servers("Keycloak", "oauth2-proxy")
@pytest.mark.timeout(300)
async def test_oauth2_proxy_hands_on_whom_it_has_logged_in(
    cluster: Cluster, keycloak_server: KeycloakServer, place: str, tmp_path: Path
) -> None:
    if lacking := oauth2_proxy.missing():
        pytest.skip(lacking)
    realm = keycloak_server.realm(unique("realm"))
    client_secret = realm.add_workspace_client("http://127.0.0.1/*")
    realm.add_user("alice", PASSWORD)
    realm.give_role("alice", WORKSPACE_CLIENT, "admin")
    ca = tmp_path / "ca.crt"
    ca.write_bytes(keycloak_server.ca)
    issuer_url = f"{keycloak_server.secure_url}/realms/{realm.name}"
    secret = tmp_path / "client-secret"
    secret.write_text(client_secret)
    form = {"grant_type": "password", "client_id": WORKSPACE_CLIENT, "client_secret": client_secret, "scope": "openid"}
    environ: dict[str, Any] = {"AUTH_MODE": "gateway", "TRUSTED_PROXIES": LOOPBACK}
    async with contextlib.AsyncExitStack() as stack:
        server = stack.enter_context(serving(cluster, place, tmp_path / "log", provider.Issuer(), **environ))
        directory = tmp_path / "oauth2-proxy"
        directory.mkdir()
        proxy = OAuth2Proxy(directory, _settings(), _structured(issuer_url, ca, secret, server.url))
        await asyncio.to_thread(proxy.__enter__)
        stack.push_async_callback(asyncio.to_thread, proxy.__exit__, None, None, None)
        trust = ssl.create_default_context(cafile=str(ca))
        browser, program = [await stack.enter_async_context(Browser(trust)) for _ in range(2)]
        page = await browser.open(f"{proxy.url}/workspaces", username="alice", password=PASSWORD, credentialId="")
        assert (page.status, "/workspaces/ws-a" in await page.text()) == (200, True)
        token = await asyncio.to_thread(_token, issuer_url, ca, form | {"username": "alice", "password": PASSWORD})
        codes = {}
        for name, sent in {"verified": token, "forged": unsigned(CLAIMS)}.items():
            headers = {"Authorization": f"Bearer {sent}", "Accept": "application/json"}
            codes[name] = (await program.ask("GET", f"{proxy.url}/workspaces/ws-a", headers=headers)).status
        assert codes == {"verified": 200, "forged": codes["forged"]}
        assert codes["forged"] in (302, 401, 403)


async def test_no_token_cookie_or_secret_is_in_the_log_or_in_an_answer(server: Server, issuer: provider.Issuer) -> None:
    token = issuer.access_token("alice")
    long = issuer.access_token("alice", padding="x" * 80_000)
    async with Browser() as browser:
        await browser.open(f"{server.url}/workspaces", user="alice")
        sealed = browser.cookie("workspaces-session", server.url)
        assert sealed is not None
        said = []
        for path in ("/debug", "/workspaces", "/nothing", "/metrics", "/workspaces/ws-a/sessions/absent"):
            for sent in (token, token[:-8] + "AAAAAAAA", long):
                answer = await browser.ask(
                    "GET",
                    f"{server.url}{path}",
                    headers={"Authorization": f"Bearer {sent}", "X-Gateway-Secret": "of-us"},
                )
                said.append(f"{await answer.text()}{answer.headers}")
            said.append(await (await browser.ask("GET", f"{server.url}{path}")).text())
    everything = "\n".join([*said, *browser.visited, server.log.read_text()])
    private = [token[:40], token[-40:], sealed[:40], provider.CLIENT_SECRET, "of-us", *issuer._refresh_tokens]
    assert [secret for secret in private if secret in everything] == []


def test_users_are_limited_apart(cluster: Cluster, issuer: provider.Issuer, place: str, tmp_path: Path) -> None:
    with (
        serving(cluster, place, tmp_path / "log", issuer, RATE_LIMITS="reads=1,writes=1") as server,
        server.as_("alice") as alice,
        server.as_("joe") as joe,
    ):
        codes = [alice.get("/workspaces").status_code for _ in range(4)]
        assert codes == [200, 200, 200, 429]
        assert joe.get("/workspaces").status_code == 200
