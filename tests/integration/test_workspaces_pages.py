"""What forms of the workspaces' pages change at a real API server, as a browser without scripts sends them."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from hack.cluster import Cluster
from hack.issuer import Issuer
from tests.html_pages import Page
from tests.integration.daemon import eventually
from tests.integration.workspace_server import Server, new_namespace, serving, workspace
from workspaces.ui.screens import SCREENS

pytestmark = pytest.mark.cluster

HTML = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}
SESSIONS = [{"name": "default", "state": "started"}, {"name": "idle", "state": "stopped"}]


@pytest.fixture(scope="module")
def server(cluster: Cluster, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with pages, and workspaces ws-a and ws-b."""
    namespace = new_namespace(cluster)
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


def send(server: Server, user: str, screen: Page, action: str, typed: dict[str, str], **fixed: str) -> Page:
    """What is shown after a form was filled in and sent, and its redirect followed."""
    form = screen.form(action, **fixed)
    answer = ask(server, user, "POST", form.address, data=form.fields | typed)
    if answer.status_code == 303:
        answer = ask(server, user, "GET", answer.headers["Location"])
    return Page(answer)


def addresses(workspace: str) -> list[str]:
    """Of every screen that needs no more than a workspace's name."""
    return [screen.address({"w": workspace}) for screen in SCREENS if not {"{b}", "{s}"} & {*screen.path.split("/")}]


def test_members_are_added_changed_and_removed_by_forms_alone(server: Server) -> None:
    screen = page(server, "alice", "/workspaces/ws-a/members")
    screen = send(server, "alice", screen, "add_members", {"names": "max\nmia, ann", "role": "user"})
    assert screen.messages == ["The members are added. Each has access with the next login."]
    assert {"max", "mia", "ann"} <= set(screen.text.split())
    screen = send(server, "alice", screen, "change_role", {}, m="max")
    assert screen.messages == ["The role is changed."]
    assert screen.form("change_role", m="max").fields["role"] == "user"
    screen = send(server, "alice", screen, "remove_member", {}, m="max")
    assert screen.messages == ["The member is removed."]
    assert "max" not in screen.text.split()


def test_a_refusal_stands_at_its_field_with_what_was_typed(server: Server) -> None:
    screen = page(server, "alice", "/workspaces/ws-a/members")
    screen = send(server, "alice", screen, "add_members", {"names": f"zoe\n{'x' * 256}", "role": "admin"})
    assert screen.status == 422
    assert screen.errors() == {"names": f"{'x' * 256}: String should have at most 255 characters"}
    form = screen.form("add_members")
    assert (form.fields["names"].strip(), form.fields["role"]) == (f"zoe\n{'x' * 256}", "admin")
    assert screen.by_id("add").get("open") is not None


def test_what_is_wrong_with_a_whole_form_stands_in_it(server: Server) -> None:
    screen = page(server, "alice", "/workspaces/ws-a/members")
    form = screen.form("remove_member", m="joe")
    refused = Page(ask(server, "alice", "POST", form.address, data=form.fields | {"m": "nobody"}))
    assert (refused.status, refused.errors()) == (404, {"": "There is no member of this name"})


def test_a_viewer_sees_no_form_that_would_be_refused(server: Server) -> None:
    screen = page(server, "joe", "/workspaces/ws-a/members")
    assert [
        action for action in ("add_members", "change_role", "remove_member", "hand_over") if screen.has_form(action)
    ] == []
    owner = page(server, "alice", "/workspaces/ws-a/members")
    form = owner.form("change_role", m="adele")
    answer = ask(server, "joe", "POST", form.address, data=form.fields)
    assert answer.status_code == 403


def test_the_owner_hands_the_workspace_over(cluster: Cluster, server: Server) -> None:
    members = "/workspaces/ws-a/members"
    asked = page(server, "alice", page(server, "alice", members).links()["Hand over to adele …"])
    assert asked.by_id("hand-over-adele").get("open") is not None
    screen = send(server, "alice", asked, "hand_over", {}, member="adele")
    assert screen.messages == ["The workspace has another owner."]
    live = cluster.api.get("datalabs.pkg.internal", "ws-a", server.namespace)
    assert live is not None
    assert (live["spec"]["users"][0], live["spec"]["userOverrides"]["alice"]["role"]) == ("adele", "admin")
    assert not screen.has_form("hand_over"), "only an owner may"
    fields = asked.form("hand_over", member="adele").fields
    assert ask(server, "alice", "POST", members, data=fields).status_code == 403
    back = send(server, "root", page(server, "root", members), "hand_over", {}, member="alice")
    assert back.messages == ["The workspace has another owner."]


def test_what_was_done_is_undone_by_the_control_in_its_place(server: Server) -> None:
    members, buckets, sessions = (f"/workspaces/ws-a/{name}" for name in ("members", "buckets", "sessions"))
    for path, action, other, fixed, field in (
        (members, "change_role", "change_role", {"m": "joe"}, "role"),
        (buckets, "change_bucket", "change_bucket", {"b": "ws-a"}, "discoverable"),
        (sessions, "start_session", "stop_session", {"s": "idle"}, "state"),
    ):
        before = page(server, "alice", path)
        done = send(server, "alice", before, action, {}, **fixed)
        undone = send(server, "alice", done, other, {}, **fixed)
        form = undone.form(action, **fixed)
        assert form.fields == before.form(action, **fixed).fields
        assert done.form(other, **fixed).fields[field] != form.fields[field]


def test_data_that_a_deleted_workspace_left_is_taken_over_by_choice(cluster: Cluster, server: Server) -> None:
    name = "ws-left"
    cluster.api.create_namespace(name)
    home = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    left = {"metadata": {"name": "home-persistent", "namespace": name}, "spec": home}
    cluster.api.create({"apiVersion": "v1", "kind": "PersistentVolumeClaim"} | left)
    eventually(
        lambda: (
            ask(server, "root", "POST", "/workspaces?dry_run=true", json={"preferred_name": name}).status_code == 409
        )
    )
    screen = page(server, "root", "/workspaces/new")
    assert "data" not in screen.form("create").fields
    refused = send(server, "root", screen, "create", {"preferred_name": name, "default_owner": "max"})
    message = "A deleted workspace of this name left data. Choose another name, or take the data over."
    assert (refused.status, refused.errors()) == (409, {"": message})
    assert refused.form("create").fields["preferred_name"] == name
    made = send(server, "root", refused, "create", {"data": "adopt"})
    assert (made.status, made.heading, made.messages) == (200, name, ["The workspace is being made."])


def test_a_platform_admin_makes_and_deletes_a_workspace(server: Server) -> None:
    screen = page(server, "root", "/workspaces/new")
    assert screen.heading == "New workspace"
    screen = send(server, "root", screen, "create", {"preferred_name": "ws-made", "default_owner": "max"})
    assert screen.messages == ["The workspace is being made."]
    assert screen.heading == "ws-made"
    refused = send(server, "root", screen, "delete", {"confirm": "ws-mad"})
    assert (refused.status, refused.errors()) == (422, {"confirm": "must be ws-made"})
    screen = send(server, "root", refused, "delete", {"confirm": "ws-made"})
    assert screen.messages == ["The workspace is being deleted."]
    eventually(lambda: page(server, "root", "/workspaces/ws-made").status == 404)
