"""Who sends a request, over HTTP: tokens that are verified here or by a gateway, and requests that are none."""

import asyncio
import base64
import ipaddress
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from datalabd.errors import StartupError
from hack import issuer as provider
from tests.workspaces.web import Browser, served
from workspaces.authentication import Authentication
from workspaces.rates import Rates
from workspaces.runner import FIELD_MAX
from workspaces.settings import Settings

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
ELSEWHERE = (ipaddress.ip_network("192.0.2.0/24"),)
CLAIMS: dict[str, Any] = {
    "aud": "workspace-api",
    "preferred_username": "alice",
    "resource_access": {"ws-alice": {"roles": ["ws_admin"]}},
}


@pytest.fixture(scope="module")
def issuer() -> Iterator[provider.Issuer]:
    users = {
        "alice": {"ws-alice": ["ws_admin"]},
        "many": {f"workspace-of-a-team-{number:03}": ["ws_access"] for number in range(300)},
    }
    with provider.Issuer(users) as running:
        yield running


async def ask(url: str, token: str | None = None, method: str = "GET", **headers: str) -> tuple[int, Any]:
    """Status and decoded answer."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if token is not None:
        sent["Authorization"] = f"Bearer {token}"
    async with Browser() as browser:
        answer = await browser.ask(method, f"{url}/x", headers=sent)
        return answer.status, await answer.json()


# ---- Verified here


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        pytest.param({}, "Missing Authorization header", id="none"),
        pytest.param({"Authorization": ""}, "Invalid Authorization header", id="empty"),
        pytest.param({"Authorization": "Bearer"}, "Invalid Authorization header", id="no token"),
        pytest.param({"Authorization": "Bearer a b"}, "Invalid Authorization header", id="three words"),
        pytest.param({"Authorization": "Basic YTpi"}, "Invalid Authorization header", id="Basic"),
        pytest.param({"Authorization": "Bearer a.b"}, "Invalid access token", id="no token at all"),
    ],
)
async def test_a_request_without_a_token_is_refused_in_upstreams_words(
    issuer: provider.Issuer, headers: dict[str, str], detail: str
) -> None:
    async with served(Settings(oidc_issuer=issuer.url)) as url, Browser() as browser:
        answer = await browser.ask("GET", f"{url}/x", headers=headers)
        assert (answer.status, await answer.json()) == (401, {"detail": detail})
        assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="workspaces"')


async def test_why_a_token_is_refused_is_said_to_whoever_develops_a_client(issuer: provider.Issuer) -> None:
    async with served(Settings(oidc_issuer=issuer.url)) as url, Browser() as browser:
        token = issuer.access_token("alice", aud="other")
        answer = await browser.ask("GET", f"{url}/x", headers={"Authorization": f"bearer {token}"})
        assert await answer.json() == {"detail": "Invalid token audience"}
        assert answer.headers["WWW-Authenticate"] == (
            'Bearer realm="workspaces", error="invalid_token", error_description="The token is for another audience"'
        )


async def test_whoever_is_in_300_workspaces_is_let_in_by_the_header(issuer: provider.Issuer) -> None:
    async with served(Settings(oidc_issuer=issuer.url)) as url:
        status, answer = await ask(url, issuer.access_token("many"))
        assert (status, len(answer["roles"])) == (200, 300)


async def test_forwarded_headers_count_from_trusted_proxies_alone(issuer: provider.Issuer) -> None:
    token = issuer.access_token("alice")
    forwarded = {"X_Forwarded_Proto": "https", "X_Forwarded_Host": "ws.example.org", "X_Forwarded_Prefix": "/sub"}
    async with served(Settings(oidc_issuer=issuer.url, trusted_proxies=LOOPBACK)) as url:
        assert (await ask(url, token, **forwarded))[1]["url"] == "https://ws.example.org/sub"
    async with served(Settings(oidc_issuer=issuer.url, trusted_proxies=ELSEWHERE)) as url:
        assert (await ask(url, token, **forwarded))[1]["url"] == url


async def test_a_public_path_needs_no_token(issuer: provider.Issuer) -> None:
    async with served(Settings(oidc_issuer=issuer.url)) as url, Browser() as browser:
        answer = await browser.ask("GET", f"{url}/public", headers={"Authorization": "Bearer wrong"})
        assert await answer.json() == {"url": url, "known": False}


async def test_requests_of_one_user_are_limited(issuer: provider.Issuer) -> None:
    async with served(Settings(oidc_issuer=issuer.url, rates=Rates(reads=1, writes=1))) as url, Browser() as browser:
        alice = {"Authorization": f"Bearer {issuer.access_token('alice')}"}
        many = {"Authorization": f"Bearer {issuer.access_token('many')}"}
        reads = [await browser.ask("GET", f"{url}/x", headers=alice) for _ in range(4)]
        assert [answer.status for answer in reads] == [200, 200, 200, 429]
        assert reads[-1].headers["Retry-After"] == "1"
        assert (await browser.ask("POST", f"{url}/x", headers=alice)).status == 200
        assert (await browser.ask("GET", f"{url}/x", headers=many)).status == 200


async def test_requests_of_all_machines_of_a_workspace_are_limited_together(issuer: provider.Issuer) -> None:
    async with served(Settings(oidc_issuer=issuer.url, rates=Rates(reads=1, writes=1))) as url, Browser() as browser:
        roles = {"ws-alice": {"roles": ["ws_api"]}}
        tokens = [issuer.access_token(f"robot-{number}", "ws-alice", resource_access=roles) for number in range(4)]
        reads = [await browser.ask("GET", f"{url}/x", headers={"Authorization": f"Bearer {one}"}) for one in tokens]
        assert [answer.status for answer in reads] == [200, 200, 200, 429]


async def test_without_keys_a_client_is_asked_to_come_again(issuer: provider.Issuer) -> None:
    settings = Settings(oidc_issuer="http://127.0.0.1:9")  # discard: nobody listens
    async with served(settings) as url, Browser() as browser:
        headers = {"Authorization": f"Bearer {issuer.access_token('alice')}"}
        answer = await browser.ask("GET", f"{url}/x", headers=headers)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert (await browser.ask("GET", f"{url}/public")).status == 200
    authentication = Authentication(settings)
    assert await authentication.is_ready() is False
    await authentication.close()


async def test_readiness_is_told_once_keys_are_known(issuer: provider.Issuer) -> None:
    authentication = Authentication(Settings(oidc_issuer=issuer.url))
    assert await authentication.is_ready() is True
    await authentication.close()


def test_files_that_cannot_be_used_stop_the_start(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("no certificate")
    with pytest.raises(StartupError, match="OIDC_CA_FILE"):
        Authentication(Settings(oidc_issuer="https://id.example.org", oidc_ca_file=str(tmp_path / "ca.crt")))
    with pytest.raises(StartupError, match="COOKIE_KEY_FILE: must be at least 32 bytes long"):
        Authentication(
            Settings(
                oidc_issuer="https://id.example.org",
                oidc_client_id="a",
                oidc_client_secret="b",
                cookie_key=b"short",
            )
        )


# ---- Verified by a gateway, and by nobody


def unsigned(claims: Any, *, padded: bool = False) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in ({"alg": "none"}, claims)]
    return f"{'.'.join(part if padded else part.rstrip('=') for part in parts)}.x"


@pytest.mark.parametrize("padded", [False, True])
async def test_a_trusted_proxy_hands_on_tokens_that_it_has_verified(padded: bool) -> None:
    async with served(Settings(auth_mode="gateway", trusted_proxies=LOOPBACK)) as url:
        status, answer = await ask(url, unsigned(CLAIMS, padded=padded))
        assert (status, answer["name"], answer["roles"]) == (200, "alice", {"ws-alice": "ws_admin"})


async def test_a_proxy_with_the_secret_is_believed_wherever_it_is() -> None:
    settings = Settings(auth_mode="gateway", gateway_secret="not-a-secret", trusted_proxies=ELSEWHERE)
    async with served(settings) as url:
        assert (await ask(url, unsigned(CLAIMS), X_Gateway_Secret="not-a-secret"))[0] == 200
        refused = (401, {"detail": "Invalid access token"})
        for secret in ({}, {"X_Gateway_Secret": ""}, {"X_Gateway_Secret": "not-a-secre"}, {"X_Gateway_Secret": "ü"}):
            assert await ask(url, unsigned(CLAIMS), **secret) == refused


@pytest.mark.parametrize(
    ("claims", "detail"),
    [
        ([CLAIMS], "Invalid access token"),
        ("alice", "Invalid access token"),
        ({}, "Invalid token audience"),
        (CLAIMS | {"aud": ["account"]}, "Invalid token audience"),
        ({"aud": "workspace-api"}, "Invalid access token"),
    ],
)
async def test_a_gateways_token_is_still_looked_at(claims: Any, detail: str) -> None:
    async with served(Settings(auth_mode="gateway", trusted_proxies=LOOPBACK)) as url:
        assert await ask(url, unsigned(claims)) == (401, {"detail": detail})


async def test_nobody_else_is_believed(issuer: provider.Issuer) -> None:
    async with served(Settings(oidc_issuer=issuer.url, trusted_proxies=LOOPBACK)) as url:
        assert (await ask(url, unsigned(issuer.claims("alice"))))[0] == 401


async def test_without_authentication_everybody_is_a_platform_admin() -> None:
    async with served(Settings(auth_mode="no", host="127.0.0.1")) as url:
        assert (await ask(url))[1]["name"] == "Default"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({}, 200, id="a program"),
        pytest.param({"Sec_Fetch_Site": "same-origin"}, 200, id="a page of ours"),
        pytest.param({"Sec_Fetch_Site": "cross-site"}, 403, id="a page of another site"),
        pytest.param({"Sec_Fetch_Site": "same-site"}, 403, id="a page of a neighbour"),
    ],
)
async def test_a_gateways_browser_changes_nothing_for_another_site(headers: dict[str, str], status: int) -> None:
    async with served(Settings(auth_mode="gateway", trusted_proxies=LOOPBACK)) as url:
        assert (await ask(url, unsigned(CLAIMS), "POST", **headers))[0] == status
        assert (await ask(url, unsigned(CLAIMS), "GET", **headers))[0] == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({}, 200, id="a program"),
        pytest.param({"Origin": "https://evil.example.org"}, 403, id="a page of another site"),
        pytest.param({"Sec_Fetch_Site": "cross-site"}, 403, id="a page that hides its origin"),
        pytest.param({"Host": "evil.example.org", "Origin": "http://evil.example.org"}, 403, id="a name for 127.0.0.1"),
    ],
)
async def test_without_authentication_no_other_site_changes_anything(headers: dict[str, str], status: int) -> None:
    async with served(Settings(auth_mode="no", host="127.0.0.1")) as url:
        assert (await ask(url, None, "POST", **headers))[0] == status


async def test_without_authentication_a_page_of_ours_changes_what_it_wants() -> None:
    async with served(Settings(auth_mode="no", host="127.0.0.1")) as url:
        assert (await ask(url, None, "POST", Origin=url, Sec_Fetch_Site="same-origin"))[0] == 200


# ---- Requests that cannot be read


async def _raw(url: str, request: bytes) -> str:
    """What is answered to bytes, up to the end of the connection."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(request)
        return (await asyncio.wait_for(reader.read(), 10)).decode()
    finally:
        writer.close()


TOKEN = "eyJhbGciOiJub25lIn0"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(f"GET /x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN * 6000}\r\n\r\n", 431, id="100 KiB"),
        pytest.param(f"GET /{TOKEN * 600} HTTP/1.1\r\nHost: a\r\n\r\n", 431, id="long path"),
        pytest.param(f"GET /x HTTP/1.1\r\nHost: a\r\nAuthorization: {TOKEN}\0\r\n\r\n", 400, id="NUL"),
        pytest.param(f"GET /x HTTP/1.1\r\nHost: a\r\n{TOKEN}\r\n\r\n", 400, id="no header"),
        pytest.param(f"{TOKEN} /x HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="no method"),
        pytest.param(f"GET /x HTTP/{TOKEN}\r\nHost: a\r\n\r\n", 400, id="no version"),
        pytest.param(f"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: {TOKEN}\r\n\r\n", 400, id="no length"),
    ],
)
async def test_nothing_of_what_cannot_be_read_is_repeated(
    request_: str, status: int, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with served(Settings(auth_mode="no", host="127.0.0.1")) as url:
        answer = await _raw(url, request_.encode())
    assert answer.startswith((f"HTTP/1.1 {status} ", f"HTTP/1.0 {status} "))
    assert json.loads(answer.partition("\r\n\r\n")[2]).keys() == {"detail"}
    output = capsys.readouterr()
    assert TOKEN[:10] not in answer + output.out + output.err + caplog.text


async def test_a_header_may_be_as_long_as_a_token() -> None:
    async with served(Settings(auth_mode="no", host="127.0.0.1")) as url, aiohttp.ClientSession() as session:
        long = "x" * (FIELD_MAX - len("Authorization"))
        async with session.get(f"{url}/x", headers={"Authorization": long}) as answer:
            assert answer.status == 200
