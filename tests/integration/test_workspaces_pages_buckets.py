"""The pages of buckets and of sharing as a browser without scripts has them: of a real API server and a real MinIO."""

from collections.abc import Iterator

import pytest

from hack.cluster import Cluster
from hack.issuer import Issuer
from hack.minio import MinIO
from hack.standins.object_storage import Backend
from tests.html_pages import Page
from tests.integration.test_workspaces_pages import ask, page, send
from tests.integration.workspace_server import Server, datalab, new_namespace, secret, serving, storage
from tests.servers import minio_server as minio_server

pytestmark = [pytest.mark.cluster, pytest.mark.servers("MinIO")]

BUCKETS, SHARING = "/workspaces/ws-a/buckets", "/workspaces/ws-a/sharing"
THEIRS = "/workspaces/ws-b/sharing"


@pytest.fixture(scope="module")
def server(
    cluster: Cluster, issuer: Issuer, minio_server: MinIO, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server with pages, and workspaces ws-a and ws-b, whose buckets are at a MinIO."""
    namespace = new_namespace(cluster)
    keys = {
        "AWS_ACCESS_KEY_ID": minio_server.root.access,
        "AWS_SECRET_ACCESS_KEY": minio_server.root.secret,
        "AWS_ENDPOINT_URL": minio_server.endpoint,
    }
    for name, users in (("ws-a", ["alice", "joe"]), ("ws-b", ["bob"])):
        cluster.api.create(storage(namespace, name))
        cluster.api.create(datalab(namespace, name, users=users))
        cluster.api.create(secret(namespace, name, **keys))
        Backend(minio_server).make_bucket(name)
    for key in ("a/<b>.txt", "a/deep/x", "top"):
        assert minio_server.ask("PUT", f"/ws-a/{key}", content=b"hello").is_success
    log = tmp_path_factory.mktemp("workspaces") / "log"
    environ = {"UI_MODE": "ui", "LOG_LEVEL": "debug", "ENDPOINT": minio_server.endpoint}
    with serving(cluster, namespace, log, issuer, **environ) as one:
        yield one


def row(screen: Page, name: str) -> str:
    """What a table says of something."""
    (found,) = [
        " ".join("".join(element.itertext()).split())
        for element in screen.root.iter("tr")
        if any("".join(head.itertext()).strip() == name for head in element.iter("th"))
    ]
    return found


def test_a_bucket_is_added_found_and_removed_by_forms_alone(server: Server) -> None:
    screen = page(server, "alice", BUCKETS)
    screen = send(server, "alice", screen, "add_bucket", {"add_buckets.0.name": "ws-a-new"})
    assert screen.messages == ["The bucket is being made."]
    assert "Do not see it" in row(screen, "ws-a-new")
    assert "The object storage has no such bucket yet" in row(screen, "ws-a-new")
    screen = send(server, "alice", screen, "change_bucket", {}, b="ws-a-new")
    assert "May ask for it" in row(screen, "ws-a-new")
    refused = send(server, "alice", screen, "remove_bucket", {"confirm": "ws-a"}, b="ws-a-new")
    assert refused.errors() == {"confirm": "must be ws-a-new"}
    screen = send(server, "alice", refused, "remove_bucket", {"confirm": "ws-a-new"}, b="ws-a-new")
    assert (screen.messages, "ws-a-new" in screen.text.split()) == (["The bucket is removed."], False)


def test_objects_are_browsed_and_downloaded(server: Server) -> None:
    assert "3 objects, 15 B" in row(page(server, "joe", BUCKETS), "ws-a")
    screen = page(server, "joe", f"{BUCKETS}/ws-a")
    assert "3 objects, 15 B" in screen.text
    links = screen.links()
    assert links["a/"] == f"{BUCKETS}/ws-a?prefix=a%2F"
    below = page(server, "joe", links["a/"])
    assert (row(below, "<b>.txt").split()[:3], below.links()["deep/"]) == (
        ["<b>.txt", "5", "B"],
        f"{BUCKETS}/ws-a?prefix=a%2Fdeep%2F",
    )
    answer = ask(server, "joe", "GET", below.links()["Download a/<b>.txt"])
    assert (answer.status_code, answer.content) == (200, b"hello")
    assert answer.headers["Content-Disposition"].startswith("attachment; ")
    absent = Page(ask(server, "joe", "GET", f"{BUCKETS}/ws-a/content?key=absent"))
    assert (absent.status, "There is no object of this key" in absent.text) == (404, True)
    assert page(server, "joe", f"{BUCKETS}/ws-zzz").status == 404


def test_rules_are_said_in_words_before_they_are_kept(server: Server) -> None:
    screen = page(server, "alice", f"{BUCKETS}/ws-a")
    rule = {"lifecycle_rules.0.target": "tmp/*", "lifecycle_rules.0.mode": "Delete", "lifecycle_rules.0.min_age": "30d"}
    screen = send(server, "alice", screen, "check_rules", rule | {"lifecycle_rules.0.min_age": "soon"})
    assert (screen.status, list(screen.errors())) == (422, ["lifecycle_rules.0.min_age"])
    screen = send(server, "alice", screen, "check_rules", rule)
    assert screen.by_id("keep-rules").get("open") is not None
    said = "Objects below tmp/ are deleted after 30 days"
    assert said in " ".join("".join(screen.by_id("keep-rules").itertext()).split())
    assert said not in " ".join("".join(screen.by_id("rules").itertext()).split())
    screen = send(server, "alice", screen, "change_rules", {})
    assert screen.messages == ["The rules are kept."]
    assert said in " ".join("".join(screen.by_id("rules").itertext()).split())
    assert said in row(page(server, "alice", BUCKETS), "ws-a")
    screen = send(server, "alice", screen, "check_rules", {"lifecycle_rules.0.target": ""})
    screen = send(server, "alice", screen, "change_rules", {})
    assert said not in screen.text


def test_a_bucket_is_asked_for_granted_revoked_and_asked_for_again(server: Server) -> None:
    screen = send(
        server, "bob", page(server, "bob", THEIRS), "ask", {"permission": "ReadOnly", "reason": "maps"}, b="ws-a"
    )
    assert screen.messages == ["The request waits for the owner of the bucket."]
    assert "Waiting Read" in row(screen, "ws-a")

    ours = page(server, "alice", SHARING)
    late = {"permission": "ReadOnly", "expires": "2020-01-01T00:00"}
    refused = send(server, "alice", ours, "grant", late, workspace="ws-b")
    assert refused.errors() == {"expires": "must be in the future"}
    granted = {"permission": "ReadOnly", "expires": "2999-01-01T00:00", "reason": "for a while"}
    ours = send(server, "alice", ours, "grant", granted, workspace="ws-b")
    assert ours.messages == ["Access is granted."]
    found = row(ours, "ws-b")
    assert all(said in found for said in ("Granted Read", "for a while", "Ends 2999-01-01 00:00 UTC"))

    assert "Granted Read for a while" in row(page(server, "bob", THEIRS), "ws-a")
    assert page(server, "bob", "/workspaces/ws-b/buckets/ws-a").links()["a/"]

    ours = send(server, "alice", ours, "revoke", {"reason": "no more"}, workspace="ws-b")
    assert "Denied" in row(ours, "ws-b")
    theirs = page(server, "bob", THEIRS)
    assert "no more" in row(theirs, "ws-a")
    assert page(server, "bob", "/workspaces/ws-b/buckets/ws-a").status == 404
    theirs = send(server, "bob", theirs, "ask", {"permission": "ReadWrite", "reason": "please"}, b="ws-a")
    assert "Waiting Read and write" in row(theirs, "ws-a")
    ours = send(server, "alice", page(server, "alice", SHARING), "deny", {"reason": "never"}, workspace="ws-b")
    assert "never" in row(ours, "ws-b")
    theirs = send(server, "bob", page(server, "bob", THEIRS), "withdraw", {}, b="ws-a")
    assert theirs.messages == ["The request is withdrawn."]


def test_a_bucket_is_shared_with_who_did_not_ask(server: Server) -> None:
    typed = {"b": "ws-a", "workspace": "ws-elsewhere", "permission": "WriteOnly"}
    ours = send(server, "alice", page(server, "alice", SHARING), "share", typed)
    assert "Granted Write" in row(ours, "ws-elsewhere")


def test_a_viewer_sees_no_form_that_would_be_refused(server: Server) -> None:
    found = [page(server, "joe", path) for path in (BUCKETS, f"{BUCKETS}/ws-a", SHARING)]
    actions = ("add_bucket", "change_bucket", "remove_bucket", "check_rules", "grant", "deny", "revoke", "share")
    assert [action for screen in found for action in actions if screen.has_form(action)] == []


def test_every_text_of_a_bucket_is_of_a_catalogue(server: Server) -> None:
    for path in (f"{BUCKETS}/ws-a", f"{BUCKETS}/ws-a?prefix=a/&dialog=edit-rules", f"{BUCKETS}/ws-a?prefix=none"):
        assert page(server, "alice", path, headers={"Cookie": "language=qps"}).unmarked() == []
