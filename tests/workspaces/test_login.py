"""Logins of browsers, at an issuer that runs."""

import asyncio
import ipaddress
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from yarl import URL

from hack import issuer as provider
from tests.workspaces.web import COOKIE_KEY, Browser, logins, served, silent
from workspaces.cookies import COOKIE_MAX, SEALED_MAX, CookieTooLarge, Seal
from workspaces.issuer import CONNECTIONS_MAX, Issuer
from workspaces.proxies import Origin

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
SESSION, BEGUN = "workspaces-session", "workspaces-login"
SECOND = f"{SESSION}.2"
"""What the first does not hold."""
LOCAL = Origin("http", "127.0.0.1")


@dataclass
class Clock:
    """Time that passes when a test says so."""

    passed: float = 0.0

    def now(self) -> float:
        return time.time() + self.passed


@pytest.fixture(scope="module")
def shared_issuer() -> Iterator[provider.Issuer]:
    with provider.Issuer({"alice": {"ws-alice": ["ws_admin"]}}) as running:
        yield running


@pytest.fixture
def issuer(shared_issuer: provider.Issuer) -> Iterator[provider.Issuer]:
    shared_issuer.requests.clear()
    yield shared_issuer
    shared_issuer.fault, shared_issuer.is_away, shared_issuer.refresh_token_bytes = None, False, 32


async def test_a_browser_is_led_to_the_login_and_back_to_where_it_was(issuer: provider.Issuer) -> None:
    async with served(logins(issuer)) as app, Browser() as browser:
        answer = await browser.open(f"{app}/workspaces/ws-alice?x=1", user="Alice")
        assert answer.status == 200
        assert (await answer.json())["name"] == "alice"
        assert str(answer.url) == f"{app}/workspaces/ws-alice?x=1"
        assert browser.cookie(BEGUN, app) is None


async def test_programs_are_refused_instead(issuer: provider.Issuer) -> None:
    async with served(logins(issuer)) as app, Browser() as browser:
        for headers in ({}, {"Accept": "application/json"}, {"Accept": "text/html", "Authorization": "Bearer x"}):
            answer = await browser.ask("GET", f"{app}/workspaces", headers=headers)
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="workspaces"')


async def test_the_request_for_a_code_has_pkce_state_and_nonce(issuer: provider.Issuer) -> None:
    async with served(logins(issuer)) as app, Browser() as browser:
        first, second = [await browser.ask("GET", f"{app}/login") for _ in range(2)]
    query = URL(first.headers["Location"]).query
    assert {name: query[name] for name in ("response_type", "client_id", "redirect_uri", "scope")} == {
        "response_type": "code",
        "client_id": provider.CLIENT_ID,
        "redirect_uri": f"{app}/login/callback",
        "scope": "openid",
    }
    assert query["code_challenge_method"] == "S256"
    assert {len(query[name]) for name in ("state", "nonce", "code_challenge")} == {43}
    other = URL(second.headers["Location"]).query
    assert all(query[name] != other[name] for name in ("state", "nonce", "code_challenge"))
    assert first.headers["Cache-Control"] == "no-store"


async def test_cookies_are_sealed_and_only_for_us(issuer: provider.Issuer) -> None:
    async with served(logins(issuer, trusted_proxies=LOOPBACK)) as app, Browser() as browser:
        await browser.open(f"{app}/workspaces", user="alice")
        sealed = browser.cookie(SESSION, app)
        assert sealed is not None
        held = Seal(COOKIE_KEY, "session").open({SESSION: sealed}, LOCAL)
        assert held is not None
        assert held.keys() == {"id", "refresh"}
        forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "ws.example.org", "X-Forwarded-Prefix": "/sub"}
        begun = await browser.ask("GET", f"{app}/login", headers=forwarded)
        local = await browser.ask("GET", f"{app}/login")
    cookie = begun.headers["Set-Cookie"]
    assert cookie.startswith("__Host-workspaces-login-sub=")
    assert {part.strip() for part in cookie.split(";")[1:]} >= {"HttpOnly", "Secure", "SameSite=Lax", "Path=/"}
    assert "Domain" not in cookie
    assert URL(begun.headers["Location"]).query["redirect_uri"] == "https://ws.example.org/sub/login/callback"
    assert local.headers["Set-Cookie"].startswith("workspaces-login=")
    assert "Secure" not in local.headers["Set-Cookie"]


async def test_nobody_logs_in_where_there_is_no_tls(issuer: provider.Issuer) -> None:
    async with served(logins(issuer, trusted_proxies=LOOPBACK)) as app, Browser() as browser:
        answer = await browser.ask("GET", f"{app}/login", headers={"X-Forwarded-Host": "ws.example.org"})
        assert answer.status == 400
        assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    ("to", "arrives"),
    [("//evil.example.org", "/workspaces"), ("https://evil.example.org/", "/workspaces"), ("/a", "/a")],
)
async def test_a_login_leads_to_a_path_of_ours(issuer: provider.Issuer, to: str, arrives: str) -> None:
    async with served(logins(issuer)) as app, Browser() as browser:
        answer = await browser.open(str(URL(f"{app}/login").with_query(to=to)), user="alice")
        assert str(answer.url) == f"{app}{arrives}"


async def _callback(app: str, browser: Browser, issuer: provider.Issuer) -> str:
    """The address that the issuer leads back to, not asked for yet."""
    begun = await browser.ask("GET", f"{app}/login")
    back = await browser.ask("POST", begun.headers["Location"], data={"user": "alice"})
    return back.headers["Location"]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"state": "other"}, id="another state"),
        pytest.param({"state": ""}, id="no state"),
        pytest.param({"iss": "https://evil.example.org"}, id="another issuer"),
    ],
)
async def test_a_callback_that_was_not_begun_here_is_refused(issuer: provider.Issuer, change: dict[str, str]) -> None:
    async with served(logins(issuer)) as app, Browser() as browser:
        callback = URL(await _callback(app, browser, issuer)).update_query(change)
        assert (await browser.ask("GET", str(callback))).status == 400
        assert browser.cookie(SESSION, app) is None


async def test_a_callback_is_of_the_browser_that_began(issuer: provider.Issuer) -> None:
    async with served(logins(issuer)) as app, Browser() as browser, Browser() as other:
        callback = await _callback(app, browser, issuer)
        assert (await other.ask("GET", callback)).status == 400
        assert (await browser.ask("GET", callback)).status == 303
        assert (await browser.ask("GET", callback)).status == 400  # the cookie of the login is gone


async def test_a_callback_is_taken_once_whatever_cookie_comes_with_it(issuer: provider.Issuer) -> None:
    async with served(logins(issuer)) as app, Browser() as browser, Browser() as other:
        callback = await _callback(app, browser, issuer)
        begun = {"Cookie": f"{BEGUN}={browser.cookie(BEGUN, app)}"}
        assert (await browser.ask("GET", callback)).status == 303
        asked = issuer.requests["/token"]
        assert [(await other.ask("GET", callback, headers=begun)).status for _ in range(3)] == [400] * 3
        assert issuer.requests["/token"] == asked


async def test_one_address_ends_so_many_logins_a_second(issuer: provider.Issuer) -> None:
    async with served(logins(issuer)) as app, Browser() as browser:
        answers = await asyncio.gather(*(browser.ask("GET", f"{app}/login/callback?state=x") for _ in range(200)))
        assert {answer.status for answer in answers} == {400, 429}
        assert {answer.headers.get("Retry-After") for answer in answers} == {None, "1"}


async def test_logins_keep_no_keys_waiting(issuer: provider.Issuer) -> None:
    async with silent() as (url, held, _):
        asked = Issuer(issuer.url)
        posts = [asyncio.create_task(asked.post(url, {})) for _ in range(CONNECTIONS_MAX)]
        async with asyncio.timeout(4):
            assert await asked.key_set()
        assert not any(post.done() for post in posts)
        assert len(held) <= CONNECTIONS_MAX
        await asked.close()
        for post in posts:
            post.cancel()
        await asyncio.gather(*posts, return_exceptions=True)


async def test_a_login_that_takes_too_long_begins_again(issuer: provider.Issuer) -> None:
    clock = Clock()
    async with served(logins(issuer), clock.now) as app, Browser() as browser:
        callback = await _callback(app, browser, issuer)
        clock.passed = 601
        assert (await browser.ask("GET", callback)).status == 400


async def test_a_code_that_is_refused_and_a_person_who_is_not_logged_in_see_a_page(issuer: provider.Issuer) -> None:
    async with served(logins(issuer)) as app, Browser() as browser:
        callback = URL(await _callback(app, browser, issuer))
        denied = callback.with_query({"state": callback.query["state"], "error": "access_denied"})
        assert (await browser.ask("GET", str(denied))).status == 403
        wrong = await browser.ask("GET", str(callback.update_query(code="wrong")))
        assert wrong.status == 502
        assert "wrong" not in await wrong.text()


async def test_an_id_token_of_another_login_is_refused(
    issuer: provider.Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = issuer._tokens
    monkeypatch.setattr(issuer, "_tokens", lambda session, client, nonce="": tokens(session, client, "other"))
    async with served(logins(issuer)) as app, Browser() as browser:
        assert (await browser.ask("GET", await _callback(app, browser, issuer))).status == 502
        assert browser.cookie(SESSION, app) is None


async def test_a_wrong_client_secret_is_told_to_the_operator_alone(
    issuer: provider.Issuer, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(logins(issuer, oidc_client_secret="wrong-one")) as app, Browser() as browser:
        answer = await browser.ask("GET", await _callback(app, browser, issuer))
        assert answer.status == 502
        assert "invalid_client" not in await answer.text()
    said = capsys.readouterr().out
    assert "the issuer refused: invalid_client" in said
    assert "wrong-one" not in said


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"refresh_token": None}, id="no refresh token"),
        pytest.param({"access_token": 7}, id="no access token"),
        pytest.param({"id_token": None}, id="no ID token"),
        pytest.param({"id_token": "of another"}, id="ID token of another user"),
        pytest.param({"access_token": "for another"}, id="access token for another audience"),
    ],
)
async def test_an_issuer_that_answers_oddly_logs_nobody_in(
    issuer: provider.Issuer, monkeypatch: pytest.MonkeyPatch, change: dict[str, object]
) -> None:
    tokens = issuer._tokens

    def odd(session: provider._Session, client: str, nonce: str = "") -> provider.Json:
        found = tokens(session, client, nonce) | change
        if found["id_token"] == "of another":
            found["id_token"] = tokens(provider._Session("bob"), client, nonce)["id_token"]
        if found["access_token"] == "for another":
            found["access_token"] = issuer.access_token(session.user, aud="another")
        return found

    monkeypatch.setattr(issuer, "_tokens", odd)
    async with served(logins(issuer)) as app, Browser() as browser:
        assert (await browser.ask("GET", await _callback(app, browser, issuer))).status == 502
        assert browser.cookie(SESSION, app) is None


async def test_while_the_issuer_is_away_logging_in_and_out_say_so(issuer: provider.Issuer) -> None:
    async with served(logins(issuer)) as never, served(logins(issuer)) as app, Browser() as browser:
        await browser.open(f"{app}/workspaces", user="alice")
        issuer.is_away = True
        assert (await browser.ask("GET", f"{never}/login")).status == 502
        assert (await browser.ask("POST", f"{app}/logout", headers={"Origin": app})).status in (200, 303)
        assert browser.cookie(SESSION, app) is None


async def test_a_login_that_one_cookie_does_not_hold_is_spread_over_two(issuer: provider.Issuer) -> None:
    """4 KiB are a refresh token of Keycloak with a few dozen roles in it."""
    clock = Clock()
    issuer.refresh_token_bytes = 3072
    async with (
        served(logins(issuer), clock.now) as first,
        served(logins(issuer), clock.now) as second,
        Browser() as browser,
    ):
        await browser.open(f"{first}/workspaces", user="alice")
        pieces = [browser.cookie(name, first) for name in (SESSION, SECOND)]
        assert all(pieces)
        assert all(len(f"{SECOND}{piece}") <= COOKIE_MAX for piece in pieces)
        assert (await browser.ask("GET", f"{second}/x")).status == 200
        async with Browser() as other:
            half = {"Cookie": f"{SESSION}={pieces[0]}"}
            assert (await other.ask("GET", f"{first}/x", headers=half)).status == 401
        issuer.refresh_token_bytes = 32  # the next one is shorter, and nothing is left of this one
        clock.passed = issuer.access_seconds - 5
        assert (await browser.ask("GET", f"{first}/x")).status == 200
        assert [browser.cookie(name, first) is None for name in (SESSION, SECOND)] == [False, True]
        assert (await browser.ask("GET", f"{second}/x")).status == 200
        await browser.ask("POST", f"{first}/logout", headers={"Origin": first})
        assert browser.cookie(SESSION, first) is None


async def test_a_login_that_no_browser_keeps_says_what_to_mend(
    issuer: provider.Issuer, capsys: pytest.CaptureFixture[str]
) -> None:
    issuer.refresh_token_bytes = 15 * 1024  # 20 KiB
    async with served(logins(issuer)) as app, Browser() as browser:
        answer = await browser.open(f"{app}/workspaces", user="alice")
        assert answer.status == 502
        assert "issue smaller refresh tokens" in await answer.text()
        assert browser.cookie(SESSION, app) is None
    assert "the refresh token fits no cookie: 2" in capsys.readouterr().out


async def test_a_login_whose_renewal_fits_no_cookie_goes_on_with_the_earlier_one(issuer: provider.Issuer) -> None:
    clock = Clock()
    async with served(logins(issuer), clock.now) as app, Browser() as browser:
        await browser.open(f"{app}/workspaces", user="alice")
        before = browser.cookie(SESSION, app)
        issuer.refresh_token_bytes = 15 * 1024
        clock.passed = issuer.access_seconds - 5
        assert (await browser.ask("GET", f"{app}/x")).status == 200
        assert browser.cookie(SESSION, app) == before


async def test_a_long_path_that_has_to_be_escaped_is_come_back_to(issuer: provider.Issuer) -> None:
    async with served(logins(issuer)) as app, Browser() as browser:
        to = "/" + '"' * 2000
        begun = await browser.ask("GET", str(URL(f"{app}/login").with_query(to=to)))
        assert begun.status == 303
        assert len(begun.headers.getall("Set-Cookie")) == 2


# ---- Renewal


async def test_an_access_token_is_renewed_by_any_replica(issuer: provider.Issuer) -> None:
    clock = Clock()
    async with (
        served(logins(issuer), clock.now) as first,
        served(logins(issuer), clock.now) as second,
        Browser() as browser,
    ):
        await browser.open(f"{first}/workspaces", user="alice")
        before = browser.cookie(SESSION, first)
        asked = issuer.requests["/token"]
        for url in (first, first, second, second):  # one host to a browser: both have its cookie
            assert (await browser.ask("GET", f"{url}/x")).status == 200
        assert issuer.requests["/token"] == asked + 1
        clock.passed = issuer.access_seconds - 5
        assert (await browser.ask("GET", f"{first}/x")).status == 200
        assert issuer.requests["/token"] == asked + 2
        assert browser.cookie(SESSION, first) != before


async def test_a_cookie_that_was_renewed_meanwhile_goes_on(issuer: provider.Issuer) -> None:
    clock = Clock()
    async with served(logins(issuer), clock.now) as app, Browser() as browser:
        await browser.open(f"{app}/workspaces", user="alice")
        before = browser.cookie(SESSION, app)
        late = {"Cookie": f"{SESSION}={before}"}  # of a request that was on its way
        clock.passed = issuer.access_seconds - 5  # from now on each request renews it
        for _ in range(2):
            assert (await browser.ask("GET", f"{app}/x")).status == 200
        async with Browser() as other:
            answer = await other.ask("GET", f"{app}/x", headers=late)
            assert (answer.status, answer.headers["Set-Cookie"].startswith(f"{SESSION}=")) == (200, True)
            assert (await other.ask("GET", f"{app}/x", headers=late)).status == 200
            ended = await other.ask("POST", f"{app}/logout", headers=late | {"Origin": app})
        assert ended.status == 200
        assert (await browser.ask("GET", f"{app}/x")).status == 401


async def test_a_client_that_lost_its_secret_logs_nobody_out(issuer: provider.Issuer) -> None:
    async with served(logins(issuer)) as app, Browser() as browser:
        await browser.open(f"{app}/workspaces", user="alice")
        async with served(logins(issuer, oidc_client_secret="another")) as other:
            assert (await browser.ask("GET", f"{other}/x")).status == 503
        assert browser.cookie(SESSION, app) is not None


async def test_requests_of_one_login_share_a_renewal(issuer: provider.Issuer) -> None:
    async with (
        served(logins(issuer)) as first,
        served(logins(issuer)) as second,
        Browser() as browser,
    ):
        await browser.open(f"{first}/workspaces", user="alice")
        asked = issuer.requests["/token"]
        answers = await asyncio.gather(*(browser.ask("GET", f"{second}/x") for _ in range(10)))
        assert {answer.status for answer in answers} == {200}
        assert issuer.requests["/token"] == asked + 1


async def test_a_renewed_cookie_comes_with_a_stream_too(issuer: provider.Issuer) -> None:
    async with (
        served(logins(issuer)) as first,
        served(logins(issuer)) as second,
        Browser() as browser,
    ):
        await browser.open(f"{first}/workspaces", user="alice")
        answer = await browser.ask("GET", f"{second}/stream")
        assert answer.headers["Set-Cookie"].startswith(f"{SESSION}=")
        assert await answer.text() == "data: 0\n\ndata: 1\n\ndata: 2\n\n"


async def test_an_issuer_that_is_away_logs_nobody_out(issuer: provider.Issuer) -> None:
    clock = Clock()
    async with served(logins(issuer), clock.now) as app, Browser() as browser:
        await browser.open(f"{app}/workspaces", user="alice")
        issuer.is_away = True
        assert (await browser.ask("GET", f"{app}/x")).status == 200
        clock.passed = issuer.access_seconds
        answer = await browser.ask("GET", f"{app}/x")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        assert browser.cookie(SESSION, app) is not None
        issuer.is_away = False
        assert (await browser.ask("GET", f"{app}/x")).status == 200


async def test_a_session_that_has_ended_at_the_issuer_ends_here(issuer: provider.Issuer) -> None:
    clock = Clock()
    async with served(logins(issuer), clock.now) as app, Browser() as browser:
        await browser.open(f"{app}/workspaces", user="alice")
        issuer._sessions.clear()
        clock.passed = issuer.access_seconds
        assert (await browser.ask("GET", f"{app}/x")).status == 401
        assert browser.cookie(SESSION, app) is None


@pytest.mark.parametrize("value", ["", "x", "a.b.c.d.e", "x" * 5000])
async def test_a_cookie_that_is_not_ours_is_as_none(issuer: provider.Issuer, value: str) -> None:
    async with served(logins(issuer)) as app, Browser() as browser:
        answer = await browser.ask("GET", f"{app}/x", headers={"Cookie": f"{SESSION}={value}"})
        assert answer.status == 401
        assert "Max-Age=0" in answer.headers["Set-Cookie"]


# ---- Requests of other sites


async def test_a_change_by_cookie_comes_from_a_page_of_ours(issuer: provider.Issuer) -> None:
    async with served(logins(issuer)) as app, Browser() as browser:
        await browser.open(f"{app}/workspaces", user="alice")
        tried = {
            "ours": {"Origin": app, "Sec-Fetch-Site": "same-origin"},
            "none": {},
            "other": {"Origin": "https://evil.example.org"},
            "same site": {"Origin": app, "Sec-Fetch-Site": "same-site"},
        }
        answers = {name: await browser.ask("POST", f"{app}/x", headers=sent) for name, sent in tried.items()}
        token = {"Authorization": f"Bearer {issuer.access_token('alice')}"}
        assert {name: answer.status for name, answer in answers.items()} == {
            "ours": 200,
            "none": 403,
            "other": 403,
            "same site": 403,
        }
        assert (await browser.ask("POST", f"{app}/x", headers=token)).status == 200


# ---- Logging out


async def test_logging_out_ends_the_session_at_the_issuer(issuer: provider.Issuer) -> None:
    async with served(logins(issuer)) as app, Browser() as browser:
        await browser.open(f"{app}/workspaces", user="alice")
        sealed = browser.cookie(SESSION, app)
        kept = list(issuer._sessions.values())[-1]
        assert (await browser.ask("POST", f"{app}/logout")).status == 403
        answer = await browser.ask("POST", f"{app}/logout", headers={"Origin": app})
        assert (answer.status, answer.content_type) == (200, "text/html")
        assert kept.id not in issuer._sessions
        assert browser.cookie(SESSION, app) is None
        ended = {"Cookie": f"{SESSION}={sealed}"}
        asked = issuer.requests["/token"]
        assert [(await browser.ask("GET", f"{app}/x", headers=ended)).status for _ in range(3)] == [401] * 3
        assert issuer.requests["/token"] == asked + 1
        assert (await browser.ask("POST", f"{app}/logout", headers={"Origin": app})).status == 200


async def test_an_issuer_that_does_not_end_sessions_for_us_is_led_to(
    issuer: provider.Issuer,
) -> None:
    async with served(logins(issuer)) as app, Browser() as browser:
        await browser.open(f"{app}/workspaces", user="alice")
        issuer.refuses_logout = True
        try:
            answer = await browser.ask("POST", f"{app}/logout", headers={"Origin": app})
        finally:
            issuer.refuses_logout = False
        assert answer.status == 303
        assert answer.headers["Location"].startswith(
            f"{issuer.url}/logout?client_id={provider.CLIENT_ID}&post_logout_redirect_uri="
        )
        assert browser.cookie(SESSION, app) is None


# ---- Seals


def test_a_seal_opens_only_what_it_closed() -> None:
    seal = Seal(COOKIE_KEY, "session")
    closed = seal.close({"a": 1}, LOCAL)
    assert closed[SECOND] == ""
    assert seal.open(closed, LOCAL) == {"a": 1}
    assert seal.open(closed, Origin("http", "127.0.0.1", "/sub")) is None
    assert Seal(COOKIE_KEY, "login").open({BEGUN: closed[SESSION]}, LOCAL) is None
    assert Seal(b"l" * 32, "session").open(closed, LOCAL) is None
    assert seal.open({SESSION: closed[SESSION][:-4] + "AAAA"}, LOCAL) is None


def test_a_key_that_is_too_short_and_what_is_too_large_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 32 bytes"):
        Seal(b"k" * 31, "session")
    with pytest.raises(CookieTooLarge):
        Seal(COOKIE_KEY, "session").close({"refresh": "x" * SEALED_MAX}, LOCAL)


# ---- Canary


async def test_no_token_cookie_or_secret_is_in_a_log_or_an_address(
    issuer: provider.Issuer, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    async with served(logins(issuer), clock.now) as app, Browser() as browser:
        await browser.open(f"{app}/workspaces", user="alice")
        clock.passed = issuer.access_seconds
        await browser.ask("GET", f"{app}/x")
        sealed = browser.cookie(SESSION, app) or ""
        await browser.ask("POST", f"{app}/logout", headers={"Origin": app})
        for token in (issuer.access_token("alice", iss="https://evil"), "x" * 70_000):
            answer = await browser.ask("GET", f"{app}/x", headers={"Authorization": f"Bearer {token}"})
            assert token[:50] not in await answer.text() + str(answer.headers)
    output = capsys.readouterr()
    everything = output.out + output.err + caplog.text + "\n".join(browser.visited)
    secrets = [sealed, provider.CLIENT_SECRET, *issuer._refresh_tokens, "eyJ", "x" * 50]
    assert [secret[:20] for secret in secrets if secret in everything] == []
