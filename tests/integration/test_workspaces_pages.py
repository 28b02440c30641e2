"""The workspaces' pages as a browser without scripts has them: from a real API server, parsed strictly."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from hack.cluster import Cluster
from hack.issuer import Issuer
from tests.html_pages import Page
from tests.integration.daemon import eventually
from tests.integration.objects import unique
from tests.integration.workspace_server import USERS, Server, install_kinds, serving, workspace
from workspaces.ui.screens import SCREENS

pytestmark = pytest.mark.cluster

HTML = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}
SESSIONS = [{"name": "default", "state": "started"}, {"name": "idle", "state": "stopped"}]


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with Issuer(USERS) as issuer:
        yield issuer


@pytest.fixture(scope="module")
def server(cluster: Cluster, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with pages, and workspaces ws-a and ws-b."""
    install_kinds(cluster)
    namespace = unique("ws")
    cluster.api.create_namespace(namespace)
    overrides = {"adele": {"role": "admin"}}
    workspace(cluster, namespace, "ws-a", sessions=SESSIONS, users=["alice", "adele", "joe"], userOverrides=overrides)
    workspace(cluster, namespace, "ws-b")
    log = tmp_path_factory.mktemp("workspaces") / "log"
    with serving(cluster, namespace, log, issuer, UI_MODE="ui", LOG_LEVEL="debug", TRUSTED_PROXIES="127.0.0.1") as one:
        yield one


def ask(server: Server, user: str, method: str, path: str, **options: Any) -> httpx.Response:
    headers = {**HTML, **options.pop("headers", {})}
    with server.as_(user) as client:
        return client.request(method, path, headers=headers, **options)


def page(server: Server, user: str, path: str, **options: Any) -> Page:
    return Page(ask(server, user, "GET", path, **options))


def send(server: Server, user: str, seen: Page, action: str, typed: dict[str, str], **fixed: str) -> Page:
    """What is shown after a form was filled in and sent, and its redirect followed."""
    form = seen.form(action, **fixed)
    answer = ask(server, user, "POST", form.address, data=form.fields | typed)
    if answer.status_code == 303:
        answer = ask(server, user, "GET", answer.headers["Location"])
    return Page(answer)


def addresses(workspace: str) -> list[str]:
    """Of every screen that needs no more than a workspace's name."""
    return [
        screen.address({"w": workspace}) for screen in SCREENS if set(screen.path.split("/")) & {"{b}", "{s}"} == set()
    ]


@pytest.mark.parametrize("path", addresses("ws-a"))
@pytest.mark.parametrize("user", ["root", "alice", "joe", "robot", "stranger"])
def test_every_screen_is_a_page_for_everybody(server: Server, user: str, path: str) -> None:
    seen = page(server, user, path)
    assert seen.status in (200, 403)
    assert seen.heading
    head = ask(server, user, "HEAD", path)
    assert (head.status_code, head.content) == (seen.status, b"")


@pytest.mark.parametrize("path", [*addresses("ws-a"), "/workspaces/ws-zzz", "/nothing"])
@pytest.mark.parametrize("user", ["root", "joe"])
def test_every_text_is_of_a_catalogue(server: Server, user: str, path: str) -> None:
    seen = page(server, user, path, headers={"Cookie": "language=qps"})
    assert "⟦" in seen.text
    assert seen.unmarked() == []


def test_links_lead_to_pages(server: Server) -> None:
    for path in addresses("ws-a"):
        for href in page(server, "root", path).links().values():
            if not href.startswith("#"):
                assert ask(server, "root", "HEAD", href).status_code in (200, 202), href


def test_whoever_wants_no_page_gets_the_answer_of_the_api(server: Server) -> None:
    answers = {
        path: ask(server, "alice", "GET", path, headers={"Accept": "*/*"})
        for path in ("/workspaces", "/workspaces/ws-a", "/workspaces/ws-a/members")
    }
    assert [answer.status_code for answer in answers.values()] == [200, 200, 404]
    assert answers["/workspaces/ws-a"].json()["name"] == "ws-a"
    assert answers["/workspaces/ws-a/members"].json() == {"detail": "Not Found"}


# ---- The list


def test_the_list(server: Server) -> None:
    seen = page(server, "alice", "/workspaces")
    assert seen.heading == "Workspaces"
    links = seen.links()
    assert links["ws-a"] == "/workspaces/ws-a"
    assert links["Start session idle of ws-a"].endswith("/workspaces/ws-a/sessions/idle")
    assert "New workspace" not in links
    assert "New workspace" in page(server, "root", "/workspaces").links()


def test_the_list_is_filtered_and_paged(server: Server) -> None:
    first = page(server, "root", "/workspaces?limit=1&name=ws-")
    assert "ws-b" not in first.links()
    second = page(server, "root", first.links()["Next page"])
    assert "ws-a" not in second.links()
    assert second.links()["First page"].startswith("/workspaces?name=ws-")
    assert "No workspace is like that." in page(server, "root", "/workspaces?name=zzz").text


def test_who_has_no_workspace_is_told_what_to_do(server: Server) -> None:
    assert "Ask the owner of one to add you" in page(server, "stranger", "/workspaces").text


# ---- Members


def test_members_are_added_changed_and_removed_by_forms_alone(server: Server) -> None:
    seen = page(server, "alice", "/workspaces/ws-a/members")
    seen = send(server, "alice", seen, "add_members", {"names": "max\nmia, ann", "role": "user"})
    assert seen.messages == ["The members are added. Each has access with the next login."]
    assert {"max", "mia", "ann"} <= set(seen.text.split())
    seen = send(server, "alice", seen, "change_role", {}, m="max")
    assert seen.messages == ["The role is changed."]
    assert seen.form("change_role", m="max").fields["role"] == "user"
    seen = send(server, "alice", seen, "remove_member", {}, m="max")
    assert seen.messages == ["The member is removed."]
    assert "max" not in seen.text.split()


def test_a_refusal_stands_at_its_field_with_what_was_typed(server: Server) -> None:
    seen = page(server, "alice", "/workspaces/ws-a/members")
    seen = send(server, "alice", seen, "add_members", {"names": f"zoe\n{'x' * 256}", "role": "admin"})
    assert seen.status == 422
    assert seen.errors() == {"names": f"{'x' * 256}: String should have at most 255 characters"}
    form = seen.form("add_members")
    assert (form.fields["names"].strip(), form.fields["role"]) == (f"zoe\n{'x' * 256}", "admin")
    assert seen.by_id("add").get("open") is not None


def test_what_is_wrong_with_a_whole_form_stands_in_it(server: Server) -> None:
    seen = page(server, "alice", "/workspaces/ws-a/members")
    form = seen.form("remove_member", m="joe")
    refused = Page(ask(server, "alice", "POST", form.address, data=form.fields | {"m": "nobody"}))
    assert (refused.status, refused.errors()) == (404, {"": "There is no member of this name"})


def test_a_viewer_sees_no_form_that_would_be_refused(server: Server) -> None:
    seen = page(server, "joe", "/workspaces/ws-a/members")
    assert [
        action for action in ("add_members", "change_role", "remove_member", "hand_over") if seen.has_form(action)
    ] == []
    owner = page(server, "alice", "/workspaces/ws-a/members")
    form = owner.form("change_role", m="adele")
    answer = ask(server, "joe", "POST", form.address, data=form.fields)
    assert answer.status_code == 403


# ---- Sessions


def test_sessions_are_added_started_stopped_and_removed_by_forms_alone(server: Server) -> None:
    shown = page(server, "alice", "/workspaces/ws-b/sessions")
    assert shown.status == 403
    shown = page(server, "root", "/workspaces/ws-b/sessions")
    refused = send(server, "root", shown, "add_session", {"name": "Not a name"})
    assert (refused.status, list(refused.errors()), refused.by_id("add").get("open")) == (422, ["name"], "")
    shown = send(server, "root", refused, "add_session", {"name": "lab"})
    assert shown.messages == ["The session is added."]
    assert shown.form("start_session", s="lab").fields["state"] == "started"
    shown = send(server, "root", shown, "start_session", {}, s="lab")
    assert shown.messages == ["The session starts."]
    shown = send(server, "root", shown, "stop_session", {}, s="lab")
    assert shown.messages == ["The session stops."]
    refused = send(server, "root", shown, "remove_session", {"confirm": "la"}, s="lab")
    assert (refused.status, refused.errors()) == (422, {"confirm": "must be lab"})
    shown = send(server, "root", refused, "remove_session", {"confirm": "lab"}, s="lab")
    assert shown.messages == ["The session is removed."]
    assert not shown.has_form("start_session")


def test_sessions_have_a_limit(server: Server) -> None:
    shown = page(server, "alice", "/workspaces/ws-a/sessions")
    shown = send(server, "alice", shown, "add_session", {"name": "third"})
    assert "All of the 3 sessions that a workspace may have are declared" in shown.text
    assert not shown.has_form("add_session")
    send(server, "alice", shown, "remove_session", {"confirm": "third"}, s="third")


def test_a_page_that_waits_starts_its_session_once(server: Server) -> None:
    path = "/workspaces/ws-a/sessions/idle"
    looked_at = {"Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}

    def state() -> str:
        rows = ask(server, "alice", "GET", "/workspaces/ws-a/sessions", headers={"Accept": "*/*"}).json()
        return next(str(row["state"]) for row in rows if row["name"] == "idle")

    assert "The session is stopped" in page(server, "joe", path, headers=looked_at).text
    assert "The session is stopped" in page(server, "joe", f"{path}?wait=yes").text
    assert ask(server, "joe", "HEAD", path).status_code == 200
    assert state() == "stopped"
    shown = page(server, "joe", path)
    assert shown.heading == "Session idle"
    assert not shown.has_form("cancel_session")
    assert state() == "started"
    shown = send(server, "alice", page(server, "alice", path), "cancel_session", {})
    assert (shown.heading, shown.messages) == ("Sessions", ["The session stops."])
    assert state() == "stopped"


def test_a_page_that_waits_leads_to_the_session_once_it_answers(cluster: Cluster, server: Server) -> None:
    path = "/workspaces/ws-a/sessions/default"
    assert "Refresh" not in ask(server, "joe", "GET", path).headers
    status = {"status": {"sessions": {"default": {"state": "started", "url": "https://lab.example/"}}}}
    cluster.api.patch("datalabs", "ws-a", status, server.namespace, "status")
    eventually(lambda: ask(server, "joe", "GET", path).headers.get("Refresh") == "0; url=https://lab.example/")
    assert page(server, "joe", path).links()["Open"] == "https://lab.example/"
    assert page(server, "joe", "/workspaces/ws-a/sessions").links()["Open session default"] == path


def test_a_session_that_is_none_has_no_page(server: Server) -> None:
    assert page(server, "alice", "/workspaces/ws-a/sessions/other").status == 404


# ---- New, deleted


def test_a_platform_admin_makes_and_deletes_a_workspace(server: Server) -> None:
    seen = page(server, "root", "/workspaces/new")
    assert seen.heading == "New workspace"
    seen = send(server, "root", seen, "create", {"preferred_name": "ws-made", "default_owner": "max"})
    assert seen.messages == ["The workspace is being made."]
    assert seen.heading == "ws-made"
    refused = send(server, "root", seen, "delete", {"confirm": "ws-mad"})
    assert (refused.status, refused.errors()) == (422, {"confirm": "must be ws-made"})
    seen = send(server, "root", refused, "delete", {"confirm": "ws-made"})
    assert seen.messages == ["The workspace is being deleted."]
    eventually(lambda: page(server, "root", "/workspaces/ws-made").status == 404)


def test_the_form_for_new_ones_is_for_platform_admins(server: Server) -> None:
    assert page(server, "alice", "/workspaces/new").status == 403


# ---- Parts


def test_every_part_is_on_a_page_of_its_own(server: Server) -> None:
    """The server logs at level debug."""
    shown = page(server, "joe", "/ui/components")
    assert (shown.status, shown.heading) == (200, "Components")
    assert shown.errors() == {
        "name": "must be letters",
        "kind": "is not offered here",
        "text": "line 2: is not known",
        "": "This cannot be done now",
    }
    assert page(server, "", "/ui/components").status == 401


# ---- Errors


@pytest.mark.parametrize(
    ("user", "path", "status", "heading"),
    [
        ("", "/workspaces", 401, "You are not logged in"),
        ("stranger", "/workspaces/ws-a", 403, "This is not open to you"),
        ("root", "/workspaces/ws-zzz", 404, "There is nothing here"),
        ("root", "/workspaces/not_a_name", 422, "Something in this request is not valid"),
        ("root", "/nothing", 404, "There is nothing here"),
        ("root", "/workspaces?limit=0", 422, "Something in this request is not valid"),
    ],
)
def test_errors_are_pages(server: Server, user: str, path: str, status: int, heading: str) -> None:
    seen = page(server, user, path)
    assert (seen.status, seen.heading) == (status, heading)
    assert seen.links()["All workspaces"] == "/workspaces"


def test_a_form_of_another_site_is_refused(server: Server) -> None:
    seen = page(server, "alice", "/workspaces/ws-a/members")
    form = seen.form("remove_member", m="joe")
    headers = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    answer = httpx.post(f"{server.url}{form.address}", data=form.fields, headers=HTML | headers, trust_env=False)
    assert answer.status_code == 401  # without a token; with a cookie 403, as logins' own tests show


def test_an_action_of_another_screen_is_none(server: Server) -> None:
    answer = ask(server, "alice", "POST", "/workspaces/ws-a", data={"action": "remove_member", "m": "joe"})
    assert answer.status_code == 422


# ---- Below a path, in another language, with its files


def test_below_a_path_everything_leads_there(server: Server) -> None:
    seen = page(server, "alice", "/workspaces/ws-a/members", headers={"X-Forwarded-Prefix": "/sub"})
    assert all(href.startswith(("/sub/", "#")) for href in seen.links().values())
    for element in seen.root.iter():
        for name in ("src", "href", "action", "data-events"):
            assert (element.get(name) or "/sub/").startswith(("/sub/", "#")), element.attrib
    form = seen.form("add_members")
    answer = ask(
        server,
        "alice",
        "POST",
        form.address.removeprefix("/sub"),
        data=form.fields | {"names": "sub"},
        headers={"X-Forwarded-Prefix": "/sub"},
    )
    assert (answer.status_code, answer.headers["Location"]) == (
        303,
        "/sub/workspaces/ws-a/members?done=add_members",
    )


def test_the_language_is_chosen_by_a_form(server: Server) -> None:
    seen = page(server, "alice", "/workspaces")
    (form,) = [one for one in seen.root.iter("form") if one.get("action", "").endswith("/language")]
    answer = ask(server, "alice", "POST", form.get("action"), data={"language": "qps", "to": "/workspaces?name=a"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/workspaces?name=a")
    assert "language=qps" in answer.headers["Set-Cookie"]
    assert ask(server, "alice", "POST", form.get("action"), data={"language": "xx"}).status_code == 422
    away = ask(server, "alice", "POST", form.get("action"), data={"language": "en", "to": "https://evil.example/"})
    assert away.headers["Location"] == "/workspaces"


def test_files_are_kept_by_browsers_and_packed(server: Server) -> None:
    seen = page(server, "alice", "/workspaces")
    hrefs = {element.get("href") or element.get("src") for tag in ("link", "script") for element in seen.root.iter(tag)}
    assert len(hrefs) >= 4
    for href in hrefs:
        answer = ask(server, "", "GET", href)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["Cache-Control"]
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        plain = ask(server, "", "GET", href, headers={"Accept-Encoding": "identity"})
        assert (plain.content, plain.headers.get("Content-Encoding")) == (answer.content, None)
    assert ask(server, "", "GET", "/ui/management/0000000000000000/app.css").status_code == 404


def test_pages_have_headers_that_confine_them(server: Server) -> None:
    headers = ask(server, "alice", "GET", "/workspaces").headers
    assert "script-src 'self';" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
    assert "Strict-Transport-Security" not in headers
    behind = ask(server, "alice", "GET", "/workspaces", headers={"X-Forwarded-Proto": "https"}).headers
    assert behind["Strict-Transport-Security"] == "max-age=31536000"


def test_no_page_holds_a_credential(server: Server) -> None:
    for path in addresses("ws-a"):
        assert "very-secret" not in ask(server, "root", "GET", path).text
