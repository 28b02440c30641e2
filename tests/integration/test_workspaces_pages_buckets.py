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
    """What the first table that has it says of something."""
    return next(
        " ".join("".join(element.itertext()).split())
        for element in screen.root.iter("tr")
        if any("".join(head.itertext()).strip() == name for head in element.iter("th"))
    )


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


def rules(cluster: Cluster, server: Server) -> list[str]:
    """Targets of the rules of bucket ws-a."""
    live = cluster.api.get("storages", "ws-a", server.namespace)
    assert live is not None
    return [rule["target"] for rule in live["spec"]["buckets"][0].get("lifecycleRules", [])]


def test_rules_that_somebody_else_wrote_meanwhile_are_not_written_over(cluster: Cluster, server: Server) -> None:
    where = f"{BUCKETS}/ws-a"
    first, other, late = ({"lifecycle_rules.0.target": f"{name}/*"} for name in ("first", "other", "late"))
    age = {"lifecycle_rules.0.min_age": "30d"}
    opened = page(server, "alice", where)
    asked = send(server, "alice", opened, "check_rules", first | age)
    others = send(server, "root", page(server, "root", where), "check_rules", other | age)
    send(server, "root", others, "change_rules", {})
    for refused, typed in (
        (send(server, "alice", opened, "check_rules", late | age), "late/*"),
        (send(server, "alice", asked, "change_rules", {}), "first/*"),
    ):
        assert (refused.status, refused.errors()) == (
            409,
            {"": "Somebody else changed the same at the same time; read it again"},
        )
        assert (rules(cluster, server), refused.has_form("change_rules")) == (["other/*"], False)
        assert refused.by_id("edit-rules").get("open") is not None
        assert refused.form("check_rules").fields["lifecycle_rules.0.target"] == typed
    again = send(server, "alice", send(server, "alice", refused, "check_rules", {}), "change_rules", {})
    assert (again.messages, rules(cluster, server)) == (["The rules are kept."], ["first/*"])
    nothing = {"action": "change_rules", "version": again.form("check_rules").fields["version"]}
    assert ask(server, "alice", "POST", where, data=nothing).status_code == 422
    assert rules(cluster, server) == ["first/*"]
    emptied = send(server, "alice", again, "check_rules", {"lifecycle_rules.0.target": ""})
    send(server, "alice", emptied, "change_rules", {})
    assert rules(cluster, server) == []


def test_what_somebody_else_decided_meanwhile_is_not_undone(server: Server) -> None:
    typed = {"b": "ws-a", "workspace": "ws-both", "permission": "ReadOnly", "reason": "contract 4711"}
    opened = send(server, "alice", page(server, "alice", SHARING), "share", typed)
    form = opened.form("grant", workspace="ws-both")
    assert (form.fields["reason"], form.fields["permission"]) == ("contract 4711", "ReadOnly")
    send(server, "root", page(server, "root", SHARING), "revoke", {"reason": "no more"}, workspace="ws-both")
    refused = send(server, "alice", opened, "grant", {"permission": "ReadWrite"}, workspace="ws-both")
    assert (refused.status, refused.errors()) == (
        409,
        {"": "Somebody else changed the same at the same time; read it again"},
    )
    assert "Denied" in row(page(server, "alice", SHARING), "ws-both")
    granted = send(server, "alice", refused, "grant", {"permission": "ReadWrite"}, workspace="ws-both")
    assert granted.messages == ["Access is granted."]


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
