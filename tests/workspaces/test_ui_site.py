"""Pages as they are answered, without a cluster: each for everybody, parsed strictly."""

import asyncio
import datetime
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from datalabd.api.meta import Manifest
from datalabd.kube import resources as kinds
from hack.issuer import Issuer
from tests.html_pages import Page
from tests.workspaces.api import GATEWAY, Api, serving
from tests.workspaces.api import token as api_token
from tests.workspaces.objects import KEYS, SETTINGS, datalab, request, secret, storage
from tests.workspaces.web import logins
from workspaces import permissions
from workspaces.ui import site
from workspaces.ui.screens import SCREENS

HTML = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}
USERS = {"root": {"workspace-api": "admin"}, "alice": {"ws-a": "ws_admin"}, "joe": {"ws-a": "ws_access"}}
USERS |= {"robot": {"ws-a": "ws_api"}, "stranger": {}}
SESSIONS = ["default", {"name": "idle", "state": "stopped"}]
CONDITIONS = [{"type": "SessionsReady", "status": "False", "reason": "Waits", "message": "waits for a node"}]
LAB = datalab(users=["alice", "adele", "<b>joe</b> أ"], sessions=SESSIONS) | {"status": {"conditions": CONDITIONS}}
PAGES = replace(GATEWAY, ui_mode="ui", log_level="debug")


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    asked = storage("ws-b", bucketAccessRequests=[request("ws-a")])
    sources: dict[str, Any] = {
        "storages": [storage(), asked],
        "datalabs": [LAB, datalab("ws-b")],
        "secrets": [secret("ws-a", **KEYS)],
    }
    async with serving(tmp_path, PAGES, **sources) as api:
        yield api


async def ask(api: Api, user: str, method: str, path: str, **options: Any) -> httpx.Response:
    headers = HTML | options.pop("headers", {})
    answer = await api.ask(method, path, user, roles=USERS.get(user, {}), headers=headers, **options)
    headers = {name: value for name, value in answer.headers.items() if name != "Content-Encoding"}
    return httpx.Response(answer.status, headers=headers, content=await answer.read())


async def page(api: Api, user: str, path: str, **options: Any) -> Page:
    return Page(await ask(api, user, "GET", path, **options))


def addresses(workspace: str = "ws-a") -> list[str]:
    """Of every screen that is read from the caches alone."""
    of_clusters = ("activity", "bucket")
    parts = {"w": workspace, "b": workspace, "s": "default"}
    return [screen.address(parts) for screen in SCREENS if screen.name not in of_clusters]


@pytest.mark.parametrize("user", USERS)
async def test_every_screen_is_a_page_for_everybody(api: Api, user: str) -> None:
    for path in addresses():
        shown = await page(api, user, path)
        assert shown.status in (200, 403), path
        assert shown.heading
        head = await ask(api, user, "HEAD", path)
        assert (head.status_code, head.content) == (shown.status, b"")


@pytest.mark.parametrize("user", USERS)
async def test_every_text_is_of_a_catalogue(api: Api, user: str) -> None:
    unmarked = {}
    for path in [*addresses(), "/workspaces/ws-zzz", "/nothing"]:
        shown = await page(api, user, path, headers={"Cookie": "language=qps"})
        assert "⟦" in shown.text
        unmarked[path] = shown.unmarked()
    assert {path: texts for path, texts in unmarked.items() if texts} == {}


@pytest.mark.parametrize("user", ["root", "joe"])
async def test_links_lead_to_pages(api: Api, user: str) -> None:
    pages = [await page(api, user, path) for path in addresses()]
    base = str(api.client.make_url("")).rstrip("/")
    hrefs = {href.removeprefix(base) for shown in pages if shown.status == 200 for href in shown.links().values()}
    for href in sorted(hrefs):
        if not href.startswith("#") and "/activity" not in href and "/buckets/" not in href:  # which the cluster tells
            assert (await ask(api, user, "HEAD", href)).status_code in (200, 202), href


async def test_whoever_wants_no_page_gets_the_answer_of_the_api(api: Api) -> None:
    paths = ("/workspaces", "/workspaces/ws-a", "/workspaces/ws-a/members", "/workspaces/ws-a/buckets/ws-a")
    answers = [await ask(api, "alice", "GET", path, headers={"Accept": "*/*"}) for path in paths]
    assert [answer.status_code for answer in answers] == [200, 200, 404, 405]
    assert answers[1].json()["name"] == "ws-a"
    assert answers[2].json() == {"detail": "Not Found"}
    assert set(answers[3].headers["Allow"].split(",")) == {"DELETE", "PATCH"}
    posted = await ask(api, "alice", "POST", "/workspaces/ws-a/members", headers={"Accept": "*/*"}, data={"a": "b"})
    assert posted.status_code == 404


@pytest.mark.parametrize(
    ("path", "status", "leads"),
    [
        ("/workspaces", 200, "Workspaces"),
        ("/workspaces/ws-a", 200, "ws-a"),
        ("/workspaces/ws-a?", 200, "ws-a"),
        ("/workspaces/ws-a/sessions/default", 200, "Session default"),
        ("/workspaces/ws-a/sessions/default?format=json&ts=1", 200, "Session default"),
        ("/ui", 303, "/workspaces"),
        ("/ui/", 303, "/workspaces"),
        ("/ui/management", 303, "/workspaces"),
        ("/ui/management/", 303, "/workspaces"),
    ],
)
async def test_addresses_that_people_kept_lead_on(api: Api, path: str, status: int, leads: str) -> None:
    """Those of rm-workspace-api, whose application has the rest after a #."""
    answer = await ask(api, "alice", "GET", path)
    shown = answer.headers["Location"] if status == 303 else Page(answer).heading
    assert (answer.status_code, shown) == (status, leads)


async def test_programs_of_the_page_that_waits_are_answered_as_before(api: Api) -> None:
    path = "/workspaces/ws-a/sessions/default?format=json&ts=1"
    answer = await ask(api, "alice", "GET", path, headers={"Accept": "application/json"})
    assert (answer.status_code, answer.json(), answer.headers["Retry-After"]) == (202, {"status": "starting"}, "10")


PLACES = [
    ("", "Needs your attention", "the overview"),
    ("", "of 500 GiB", "its volumes and their quota"),
    ("/members", "Since", "members"),
    ("/buckets", "Rules", "own buckets"),
    ("/sharing", "Our requests", "linked buckets"),
    ("/sharing", "Requests from others", "requested buckets"),
    ("/stores", "Stores are not offered here", "stores, once there are kinds of them"),
    ("/sessions", "Add a session", "sessions"),
    ("/credentials", "Nothing is shown yet", "credentials"),
]


@pytest.mark.parametrize(("path", "text", "what"), PLACES, ids=[what for *_, what in PLACES])
async def test_every_screen_of_before_has_its_place(
    api: Api, monkeypatch: pytest.MonkeyPatch, path: str, text: str, what: str
) -> None:
    quota = {"status": {"hard": {"requests.storage": "500Gi"}}}
    monkeypatch.setattr(api.services.cache, "usage", lambda _: ([quota], []))
    assert text in (await page(api, "alice", f"/workspaces/ws-a{path}")).text


async def test_an_api_without_pages_has_none(tmp_path: Path) -> None:
    async with serving(tmp_path, replace(PAGES, ui_mode="no"), storages=[storage()], datalabs=[LAB]) as api:
        answer = await ask(api, "alice", "GET", "/workspaces/ws-a")
        assert answer.headers["Content-Type"] == "application/json"
        assert (await ask(api, "alice", "GET", "/workspaces/ws-a/members")).status_code == 404


async def test_the_list_is_filtered_and_paged(api: Api) -> None:
    first = await page(api, "root", "/workspaces?limit=1&name=ws-")
    assert "ws-b" not in first.links()
    second = await page(api, "root", first.links()["Next page"])
    assert "ws-a" not in second.links()
    assert second.links()["First page"].startswith("/workspaces?name=ws-")
    assert "No workspace is like that." in (await page(api, "root", "/workspaces?name=zzz")).text
    assert "Ask the owner of one to add you" in (await page(api, "stranger", "/workspaces")).text


async def test_the_overview_says_what_it_waits_for_and_what_waits_for_its_viewer(api: Api) -> None:
    shown = await page(api, "alice", "/workspaces/ws-a")
    assert "waits for a node" in shown.text
    assert "ws-b asks for ws-a" in shown.text
    assert "ws-b asks for ws-a" not in (await page(api, "joe", "/workspaces/ws-a")).text


async def test_a_viewer_sees_no_form_that_would_be_refused(api: Api) -> None:
    forms = ("add_members", "change_role", "remove_member", "hand_over")
    shown = {user: await page(api, user, "/workspaces/ws-a/members") for user in ("root", "joe")}
    assert [form for form in forms if shown["root"].has_form(form)] == [*forms]
    assert [form for form in forms if shown["joe"].has_form(form)] == []


@pytest.mark.parametrize(
    ("user", "path", "status", "heading"),
    [
        ("", "/workspaces", 401, "You are not logged in"),
        ("stranger", "/workspaces/ws-a", 403, "This is not open to you"),
        ("alice", "/workspaces/new", 403, "This is not open to you"),
        ("root", "/workspaces/ws-zzz", 404, "There is nothing here"),
        ("root", "/workspaces/not_a_name", 422, "Something in this request is not valid"),
        ("root", "/nothing", 404, "There is nothing here"),
        ("root", "/workspaces?limit=0", 422, "Something in this request is not valid"),
    ],
)
async def test_errors_are_pages(api: Api, user: str, path: str, status: int, heading: str) -> None:
    shown = await page(api, user, path)
    assert (shown.status, shown.heading) == (status, heading)
    assert shown.links()["All workspaces"] == "/workspaces"


async def test_what_is_broken_is_a_page_with_a_number(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.services.cache, "storages", lambda: 1 / 0)
    shown = await page(api, "root", "/workspaces", headers={"X-Request-Id": "number-7"})
    assert (shown.status, shown.heading) == (500, "Something is broken here")
    assert "number-7" in shown.text


async def test_an_action_of_another_screen_is_none(api: Api) -> None:
    answer = await ask(api, "alice", "POST", "/workspaces/ws-a", data={"action": "remove_member", "m": "adele"})
    assert answer.status_code == 422
    assert (await ask(api, "alice", "POST", "/workspaces/ws-a/members", data={})).status_code == 422
    fields = [(f"f{number}", "") for number in range(2001)]
    assert (await ask(api, "alice", "POST", "/workspaces/ws-a/members", data=fields)).status_code == 413
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    odd = await ask(api, "alice", "POST", "/workspaces/ws-a/members", data=b"a=\xff", headers=form)
    assert odd.status_code == 400
    large = {"action": "add_members", "names": "a," * 128 * 1024}
    assert (await ask(api, "alice", "POST", "/workspaces/ws-a/members", data=large)).status_code == 413


async def test_a_form_that_was_refused_is_about_the_same_when_it_comes_back(api: Api) -> None:
    buckets = [{"bucketName": name, "discoverable": True} for name in ("ws-a", "ws-a-private", "ws-a-public")]
    grown = storage(buckets=buckets)
    grown["metadata"]["resourceVersion"] = "6000"
    api.services.cache.informers.store(kinds.STORAGES).observe(grown)
    sent = {"action": "share", "form": "form-share", "b": "ws-a-public", "workspace": "ws-c", "reason": "for you"}
    sent |= {"permission": "WriteOnly", "expires": "2001-01-01T00:00"}
    shown = Page(await ask(api, "alice", "POST", "/workspaces/ws-a/sharing", data=sent))
    assert shown.errors() == {"expires": "must be in the future"}
    assert shown.form("share").fields == sent


async def test_credentials_are_hidden_again_without_a_script(api: Api) -> None:
    where = "/workspaces/ws-a/credentials"
    hidden = await page(api, "alice", where)
    shown = Page(await ask(api, "alice", "POST", where, data={"action": "show_credentials"}))
    again = [
        [meta.get("content") for meta in one.root.iter("meta") if meta.get("http-equiv") == "refresh"]
        for one in (hidden, shown)
    ]
    assert "shown-credentials" in shown.ids
    assert again == [[], [f"60; url={where}"]]


async def test_whom_a_form_adds_is_new(api: Api) -> None:
    shown = await page(api, "alice", "/workspaces/ws-a/members")
    fields = shown.form("add_members").fields | {"names": "carol, ADELE", "role": "admin"}
    refused = Page(await ask(api, "alice", "POST", "/workspaces/ws-a/members", data=fields))
    message = "ADELE is a member already; change the role in the list"
    assert (refused.status, refused.errors()) == (422, {"names": message})


async def test_what_another_replica_has_written_is_waited_for(api: Api) -> None:
    grown = LAB | {"spec": LAB["spec"] | {"users": ["alice", "newcomer"]}}
    grown = grown | {"metadata": LAB["metadata"] | {"resourceVersion": "7000"}}
    later = api.services.cache.informers.store(kinds.DATALABS).observe
    asyncio.get_running_loop().call_later(0.2, later, grown)
    shown = await page(api, "alice", "/workspaces/ws-a/members?done=add_members&at=7000")
    assert "newcomer" in shown.text


@pytest.mark.parametrize("at", ["7001", "-1", "soon", "9" * 30, ""])
async def test_nobody_waits_for_ever(api: Api, at: str) -> None:
    assert (await page(api, "alice", f"/workspaces/ws-a/members?at={at}")).status == 200
    assert (await page(api, "stranger", f"/workspaces/ws-a/members?at={at}")).status == 403


def without(user: str, version: str) -> Manifest:
    """The Datalab once a member is removed."""
    caps = permissions.with_cap(LAB, user, permissions.Role.NONE, datetime.datetime.now(datetime.UTC))
    return LAB | {"metadata": LAB["metadata"] | {"resourceVersion": version, "annotations": {permissions.CAPS: caps}}}


async def test_whoever_is_removed_does_not_wait_for_changes(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api.services.cache.informers.store(kinds.DATALABS).observe(without("joe", "6000"))
    monkeypatch.setattr(site, "CURRENT_SECONDS", 3600.0)
    assert (await page(api, "joe", "/workspaces/ws-a?at=7001")).status == 403


async def test_whoever_is_removed_while_the_page_waits_does_not_get_it(api: Api) -> None:
    observe = api.services.cache.informers.store(kinds.DATALABS).observe
    asyncio.get_running_loop().call_later(0.2, observe, without("joe", "7000"))
    assert (await page(api, "joe", "/workspaces/ws-a?at=7000")).status == 403


@pytest.mark.parametrize(
    ("path", "sent_by", "said"),
    [
        ("members?done=add_members", "same-origin", True),
        ("members?done=add_members", "none", True),
        ("members?done=add_members", "cross-site", False),
        ("members?done=remove_bucket", "same-origin", False),
        ("members?done=nothing", "same-origin", False),
    ],
)
async def test_only_what_led_to_the_page_is_said_to_be_done(api: Api, path: str, sent_by: str, said: bool) -> None:
    shown = await page(api, "alice", f"/workspaces/ws-a/{path}&at=1&x=1", headers={"Sec-Fetch-Site": sent_by})
    assert ("The members are added." in shown.text, "The bucket is removed." in shown.text) == (said, False)
    (again,) = (field.get("value") for field in shown.root.iter("input") if field.get("name") == "to")
    assert again == "/workspaces/ws-a/members?x=1"


async def test_an_error_leads_to_no_other_host(api: Api) -> None:
    token = api_token("alice", USERS["alice"])
    url = f"http://{api.client.host}:{api.client.port}//evil.example/x"
    async with httpx.AsyncClient(trust_env=False) as client:
        shown = Page(await client.get(url, headers=HTML | {"Authorization": f"Bearer {token}"}))
    assert (shown.status, shown.links()["Try again"]) == (404, "/workspaces")


async def test_below_a_path_everything_leads_there(api: Api) -> None:
    for path in addresses():
        shown = await page(api, "root", path, headers={"X-Forwarded-Prefix": "/sub"})
        for element in shown.root.iter():
            for name in ("src", "href", "action", "data-events"):
                where = (element.get(name) or "/sub/").removeprefix(str(api.client.make_url("")).rstrip("/"))
                assert where.startswith(("/sub/", "#")), element.attrib


async def test_the_language_is_chosen_by_a_form(api: Api) -> None:
    shown = await page(api, "alice", "/workspaces")
    (form,) = [one for one in shown.root.iter("form") if one.get("action", "").endswith("/language")]
    where = form.get("action")
    answer = await ask(api, "alice", "POST", where, data={"language": "de", "to": "/workspaces?name=a"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/workspaces?name=a")
    assert "language=de" in answer.headers["Set-Cookie"]
    german = await page(api, "alice", "/workspaces", headers={"Cookie": "language=de"})
    assert german.root.get("lang") == "de"
    assert (await ask(api, "alice", "POST", where, data={"language": "xx"})).status_code == 422
    away = await ask(api, "alice", "POST", where, data={"language": "en", "to": "https://evil.example/"})
    assert away.headers["Location"] == "/workspaces"
    forged = {"Sec-Fetch-Site": "cross-site"}
    assert (await ask(api, "", "POST", where, data={"language": "de"}, headers=forged)).status_code == 403


async def test_pages_are_packed_but_for_what_forms_show(api: Api) -> None:
    browser = {"Accept-Encoding": "gzip", "Sec-Fetch-Site": "same-origin"} | HTML
    asked = {"roles": USERS["alice"], "headers": browser}
    packed = await api.ask("GET", "/workspaces/ws-a", "alice", **asked)
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "ws-a" in await packed.text()  # which aiohttp unpacks
    shown = await api.ask("POST", "/workspaces/ws-a/credentials", "alice", data={"action": "show_credentials"}, **asked)
    assert KEYS["AWS_SECRET_ACCESS_KEY"] in await shown.text()
    assert shown.headers.get("Content-Encoding") is None


async def test_files_are_kept_by_browsers_and_packed(api: Api) -> None:
    shown = await page(api, "alice", "/workspaces")
    hrefs = {one.get("href") or one.get("src") for tag in ("link", "script") for one in shown.root.iter(tag)}
    assert len(hrefs) >= 4
    for href in hrefs:
        packed = await api.ask("GET", href, headers={"Accept-Encoding": "gzip"})
        plain = await api.ask("GET", href, headers={"Accept-Encoding": "identity"})
        assert (packed.status, packed.headers["Content-Encoding"]) == (200, "gzip")
        assert "immutable" in packed.headers["Cache-Control"]
        assert packed.headers["X-Content-Type-Options"] == "nosniff"
        assert plain.headers.get("Content-Encoding") is None
        assert await plain.read() == await packed.read()  # which aiohttp unpacks
    assert (await api.ask("GET", "/ui/management/0000000000000000/app.css")).status == 404


async def test_pages_have_headers_that_confine_them(api: Api) -> None:
    headers = (await ask(api, "alice", "GET", "/workspaces")).headers
    assert "script-src 'self';" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
    assert "Strict-Transport-Security" not in headers
    behind = await ask(api, "alice", "GET", "/workspaces", headers={"X-Forwarded-Proto": "https"})
    assert behind.headers["Strict-Transport-Security"] == "max-age=31536000"


async def test_no_page_holds_a_credential(api: Api) -> None:
    for path in addresses():
        text = (await ask(api, "root", "GET", path)).text
        assert KEYS["AWS_SECRET_ACCESS_KEY"] not in text
        assert "<b>joe" not in text


async def test_a_member_of_many_has_a_page_of_some_length(tmp_path: Path) -> None:
    """Questions are asked on the page that their link leads to, where there are many."""
    lab = datalab(users=[f"user-{number}" for number in range(500)])
    async with serving(tmp_path, PAGES, storages=[storage()], datalabs=[lab]) as api:
        shown = await page(api, "root", "/workspaces/ws-a/members")
        assert [one.get("id") for one in shown.root.iter("dialog")] == ["add"]
        assert len(list(shown.root.iter("tr"))) == 1 + 50
        later = await page(api, "root", shown.links()["Next page"])
        assert "user-50" in later.text
        narrowed = await page(api, "root", "/workspaces/ws-a/members?name=user-499")
        assert len(list(narrowed.root.iter("tr"))) == 1 + 1
        asked = await page(api, "root", shown.links()["Remove user-7 …"])
        assert asked.has_form("remove_member")
        assert [one.get("id") for one in asked.root.iter("dialog") if one.get("open") is not None] == ["remove-user-7"]


async def test_a_form_that_another_site_had_a_browser_send_is_refused(tmp_path: Path) -> None:
    """With the login of the browser, whose cookie goes along."""
    with Issuer({user: {client: [role] for client, role in roles.items()} for user, roles in USERS.items()}) as issuer:
        settings = logins(issuer, namespace=SETTINGS.namespace, ui_mode="ui", rates=None)
        async with serving(tmp_path, settings, storages=[storage()], datalabs=[LAB]) as api:
            led = await api.ask("GET", "/login?to=/workspaces/ws-a/members", headers=HTML)
            form = await api.client.session.post(led.headers["Location"], data={"user": "alice"}, allow_redirects=False)
            back = form.headers["Location"].removeprefix(str(api.client.make_url("")).rstrip("/"))
            await api.ask("GET", back, headers=HTML)
            shown = await page(api, "", "/workspaces/ws-a/members")
            assert "alice" in shown.text
            fields = shown.form("remove_member", m="adele").fields
            own = str(api.client.make_url("")).rstrip("/")
            answers = [
                await ask(api, "", "POST", "/workspaces/ws-a/members", data=fields, headers={"Origin": origin})
                for origin in ("https://evil.example", "null")
            ]
            assert [answer.status_code for answer in answers] == [403, 403]
            assert [Page(answer).heading for answer in answers] == ["This is not open to you"] * 2
            bad = fields | {"m": "nobody"}
            mine = await ask(api, "", "POST", "/workspaces/ws-a/members", data=bad, headers={"Origin": own})
            assert (mine.status_code, Page(mine).errors()) == (404, {"": "There is no member of this name"})


async def test_cookies_that_are_too_long_are_not_read(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workspaces.site.COOKIES_MAX", 1000)
    refused = await ask(api, "alice", "GET", "/workspaces", headers={"Cookie": "x " * 501})
    assert (refused.status_code, refused.json()) == (431, {"detail": "Cookies are too large"})
