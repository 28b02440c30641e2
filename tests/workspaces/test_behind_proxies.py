"""Behind a real nginx that ends TLS, at `/` and below `/sub/`; and behind a real oauth2-proxy that logs people in."""

import asyncio
import contextlib
import ipaddress
import json
import secrets
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hack import issuer as provider
from hack import nginx, oauth2_proxy
from hack.keycloak import WORKSPACE_CLIENT, Server
from hack.nginx import Nginx
from hack.oauth2_proxy import OAuth2Proxy
from tests.servers import keycloak_server, realm_name
from tests.workspaces.test_identity import unsigned
from tests.workspaces.web import Browser, logins, served
from workspaces.settings import Settings

__all__ = ["keycloak_server", "realm_name"]

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
PASSWORD = "not-a-secret"


@pytest.fixture(scope="module")
def issuer() -> Iterator[provider.Issuer]:
    users = {
        "alice": {"ws-alice": ["ws_admin"]},
        "many": {f"workspace-of-a-team-{number:03}": ["ws_access"] for number in range(300)},
    }
    with provider.Issuer(users) as running:
        yield running


@contextlib.asynccontextmanager
async def behind_nginx(settings: Settings, directory: Path) -> AsyncIterator[tuple[str, Browser]]:
    """nginx before the application, and a browser that trusts its certificate."""
    if lacking := nginx.missing():
        pytest.skip(lacking)
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(served(settings))
        proxy = Nginx(directory, url)
        await asyncio.to_thread(proxy.__enter__)
        stack.push_async_callback(asyncio.to_thread, proxy.__exit__, None, None, None)
        browser = Browser(ssl.create_default_context(cafile=str(proxy.ca)))
        yield proxy.url, await stack.enter_async_context(browser)


@pytest.mark.servers("nginx")
@pytest.mark.parametrize("prefix", ["", "/sub"])
async def test_links_redirects_and_cookies_are_of_where_the_client_sees_us(
    issuer: provider.Issuer, tmp_path: Path, prefix: str
) -> None:
    async with behind_nginx(logins(issuer, trusted_proxies=LOOPBACK), tmp_path) as (url, browser):
        begun = await browser.ask("GET", f"{url}{prefix}/workspaces", headers={"Accept": "text/html"})
        assert (begun.status, begun.headers["Location"]) == (302, f"{prefix}/login?to=/workspaces")
        answer = await browser.open(f"{url}{prefix}/workspaces?x=1", user="alice")
        assert (answer.status, str(answer.url)) == (200, f"{url}{prefix}/workspaces?x=1")
        assert (await answer.json())["url"] == f"{url}{prefix}"
        name = f"__Host-workspaces-session{prefix.replace('/', '-')}"
        assert browser.cookie(name, url) is not None
        assert browser.cookie(name, url.replace("https", "http")) is None
        changed = await browser.ask("POST", f"{url}{prefix}/x", headers={"Origin": url})
        assert changed.status == 200
        ended = await browser.ask("POST", f"{url}{prefix}/logout", headers={"Origin": url})
        assert (ended.status, browser.cookie(name, url)) == (200, None)
        assert f'href="{prefix}/login"' in await ended.text()


@pytest.mark.servers("nginx")
async def test_a_client_cannot_say_what_the_proxy_does(issuer: provider.Issuer, tmp_path: Path) -> None:
    async with behind_nginx(logins(issuer, trusted_proxies=LOOPBACK), tmp_path) as (url, browser):
        headers = {
            "Authorization": f"Bearer {issuer.access_token('alice')}",
            "X-Forwarded-Host": "evil.example.org",
            "X-Forwarded-Proto": "http",
            "X-Forwarded-Prefix": "/evil",
        }
        answer = await browser.ask("GET", f"{url}/x", headers=headers)
        assert (await answer.json())["url"] == url


@pytest.mark.servers("nginx")
async def test_a_token_of_300_workspaces_gets_through(issuer: provider.Issuer, tmp_path: Path) -> None:
    async with behind_nginx(Settings(oidc_issuer=issuer.url), tmp_path) as (url, browser):
        headers = {"Authorization": f"Bearer {issuer.access_token('many')}"}
        answer = await browser.ask("GET", f"{url}/x", headers=headers)
        assert (answer.status, len((await answer.json())["roles"])) == (200, 300)


@pytest.mark.servers("nginx")
@pytest.mark.parametrize("prefix", ["", "/sub"])
async def test_a_stream_comes_as_it_is_written(issuer: provider.Issuer, tmp_path: Path, prefix: str) -> None:
    async with behind_nginx(Settings(oidc_issuer=issuer.url), tmp_path) as (url, browser):
        headers = {"Authorization": f"Bearer {issuer.access_token('alice')}"}
        async with browser.session.get(f"{url}{prefix}/stream?hold", headers=headers) as stream:
            assert await asyncio.wait_for(stream.content.readuntil(b"\n\n"), 10) == b"data: 0\n\n"
            await browser.ask("GET", f"{url}{prefix}/release", headers=headers)
            assert await asyncio.wait_for(stream.content.read(), 10) == b"data: 1\n\ndata: 2\n\n"


# ---- A gateway that logs people in


def _structured(issuer_url: str, ca: Path, secret: str, behind: str) -> dict[str, Any]:
    """oauth2-proxy as the how-to says: it hands on the access token."""
    return {
        "upstreamConfig": {"upstreams": [{"id": "workspaces", "path": "/", "uri": behind}]},
        "injectRequestHeaders": [
            {
                "name": "Authorization",
                "values": [{"claimSource": {"claim": "access_token", "prefix": "Bearer "}}],
            }
        ],
        "providers": [
            {
                "id": "realm",
                "provider": "oidc",
                "clientID": WORKSPACE_CLIENT,
                "clientSecret": secret,
                "caFiles": [str(ca)],
                "code_challenge_method": "S256",
                "scope": "openid email",
                "oidcConfig": {
                    "issuerURL": issuer_url,
                    "audienceClaims": ["aud"],
                    "emailClaim": "email",
                    "userIDClaim": "sub",
                },
            }
        ],
    }


def _token(issuer_url: str, ca: Path, form: dict[str, str]) -> str:
    trust = ssl.create_default_context(cafile=str(ca))
    answer = httpx.post(f"{issuer_url}/protocol/openid-connect/token", data=form, verify=trust, timeout=60)
    return str(answer.raise_for_status().json()["access_token"])


@pytest.mark.servers("Keycloak", "oauth2-proxy")
@pytest.mark.timeout(300)
async def test_oauth2_proxy_hands_on_whom_it_has_logged_in(
    keycloak_server: Server, realm_name: str, tmp_path: Path
) -> None:
    if lacking := oauth2_proxy.missing():
        pytest.skip(lacking)
    realm = keycloak_server.realm(realm_name)
    secret = realm.add_workspace_client("http://127.0.0.1/*", "http://127.0.0.1:*")
    realm.add_user("alice", PASSWORD)
    realm.give_role("alice", WORKSPACE_CLIENT, "admin")
    ca = tmp_path / "ca.crt"
    ca.write_bytes(keycloak_server.ca)
    issuer_url = f"{keycloak_server.secure_url}/realms/{realm.name}"
    settings = {
        "cookie_secret": secrets.token_hex(16),
        "cookie_secure": False,
        "email_domains": ["*"],
        "reverse_proxy": True,
        "skip_provider_button": True,
        "skip_jwt_bearer_tokens": True,
    }
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(served(Settings(auth_mode="gateway", trusted_proxies=LOOPBACK)))
        directory = tmp_path / "oauth2-proxy"
        directory.mkdir()
        proxy = OAuth2Proxy(directory, settings, _structured(issuer_url, ca, secret, url))
        await asyncio.to_thread(proxy.__enter__)
        stack.push_async_callback(asyncio.to_thread, proxy.__exit__, None, None, None)
        trust = ssl.create_default_context(cafile=str(ca))
        browser = await stack.enter_async_context(Browser(trust))
        answer = await browser.open(f"{proxy.url}/workspaces", username="alice", password=PASSWORD, credentialId="")
        assert answer.status == 200, await answer.text()
        found = json.loads(await answer.text())
        assert (found["name"], found["admin"]) == ("alice", True)
        stranger = await stack.enter_async_context(Browser(trust))
        forged = {"Authorization": f"Bearer {unsigned({'aud': 'workspace-api', 'preferred_username': 'alice'})}"}
        assert (await stranger.ask("GET", f"{proxy.url}/workspaces", headers=forged)).status in (302, 403)
        form = {
            "grant_type": "password",
            "client_id": WORKSPACE_CLIENT,
            "client_secret": secret,
            "username": "alice",
            "password": PASSWORD,
            "scope": "openid",
        }
        token = await asyncio.to_thread(_token, issuer_url, ca, form)
        sent = {"Authorization": f"Bearer {token}"}
        answer = await stranger.ask("GET", f"{proxy.url}/workspaces", headers=sent)
        assert (answer.status, json.loads(await answer.text())["name"]) == (200, "alice")
