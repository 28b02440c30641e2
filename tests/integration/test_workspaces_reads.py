"""What the Workspace API answers to reads, from a real API server."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from hack.cluster import Cluster
from hack.issuer import Issuer
from tests.integration.daemon import eventually
from tests.integration.workspace_server import Server, away, new_namespace, serving, workspace

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def server(cluster: Cluster, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with workspaces ws-a and ws-b."""
    namespace = new_namespace(cluster)
    sessions = [{"name": "default", "state": "started"}, {"name": "idle", "state": "stopped"}]
    workspace(cluster, namespace, "ws-a", sessions=sessions)
    workspace(cluster, namespace, "ws-b")
    log = tmp_path_factory.mktemp("workspaces") / "log"
    with serving(cluster, namespace, log, issuer) as server:
        yield server


def get(server: Server, user: str, path: str, **options: object) -> httpx.Response:
    with server.as_(user) as client:
        return client.get(path, **options)  # type: ignore[arg-type]


def test_probe_metrics_and_documents_need_no_token(server: Server) -> None:
    answers = {path: get(server, "", path).status_code for path in ("/probe", "/metrics", "/openapi.json", "/docs")}
    assert answers == dict.fromkeys(answers, 200)
    assert get(server, "", "/probe").json() == {}


@pytest.mark.parametrize("path", ["/workspaces", "/status", "/debug", "/nothing", "/workspaces/not_a_name"])
def test_without_a_token_nothing_is_told(server: Server, path: str) -> None:
    answer = get(server, "", path)
    assert (answer.status_code, answer.json()) == (401, {"detail": "Missing Authorization header"})
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_workspace(server: Server) -> None:
    answer = get(server, "alice", "/workspaces/ws-a")
    found = answer.json()
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert {key: found[key] for key in ("name", "status")} == {"name": "ws-a", "status": "ready"}
    assert found["storage"] == {
        "buckets": [{"name": "ws-a", "discoverable": True, "lifecycle_rules": []}],
        "credentials": {
            "bucketname": "ws-a",
            "access": "AK",
            "secret": "very-secret",
            "endpoint": "https://s3.example",
            "region": "us-east-1",
        },
        "bucket_access_requests": [{"workspace": "ws-a", "bucket": "ws-b", "permission": "ReadWrite"}],
    }
    assert [(row["name"], row["state"], row["ready"]) for row in found["datalab"]["sessions"]] == [
        ("default", "started", False),
        ("idle", "stopped", False),
    ]


def test_a_machine_sees_credentials_and_nothing_else(server: Server) -> None:
    found = get(server, "robot", "/workspaces/ws-a").json()
    assert found["storage"]["credentials"]["access"] == "AK"
    assert found["user"] == {"name": "robot", "permissions": ["VIEW_BUCKET_CREDENTIALS"]}
    parts = (*found["storage"].items(), *found["datalab"].items())
    lists = {name: part for name, part in parts if isinstance(part, list) and name != "available_store_types"}
    assert lists == {"buckets": [], "bucket_access_requests": [], "memberships": [], "stores": [], "sessions": []}
    assert "resource_usage" not in found


def test_the_list_has_started_sessions_of_ones_own_workspaces(server: Server) -> None:
    at = f"{server.url}/workspaces/ws-a/sessions"
    assert get(server, "joe", "/workspaces").json() == [
        {
            "name": "ws-a",
            "url": f"{server.url}/workspaces/ws-a",
            "sessions": [{"name": "default", "url": f"{at}/default", "ready": False}],
            "stopped": [{"name": "idle", "url": f"{at}/idle"}],
            "status": "ready",
            "members": 1,
            "pending": 0,
        }
    ]
    assert [row["name"] for row in get(server, "root", "/workspaces").json()] == ["ws-a", "ws-b"]
    assert get(server, "stranger", "/workspaces").json() == []


def test_the_list_comes_in_pages(server: Server) -> None:
    first = get(server, "root", "/workspaces?limit=1")
    assert [row["name"] for row in first.json()] == ["ws-a"]
    second = get(server, "root", first.links["next"]["url"])
    assert [row["name"] for row in second.json()] == ["ws-b"]
    assert "next" not in second.links


def test_a_browser_gets_a_page_of_the_list(server: Server) -> None:
    answer = get(server, "root", "/workspaces", headers={"Accept": "text/html"})
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "<h1>Workspaces</h1>" in answer.text
    assert f'href="{server.url}/workspaces/ws-b"' in answer.text
    assert "Datalab (default)" in answer.text
    assert "Datalab (idle)" not in answer.text
    assert "<svg" in answer.text


def test_a_stranger_does_not_learn_whether_a_workspace_exists(server: Server) -> None:
    there, absent = (get(server, "stranger", f"/workspaces/{name}") for name in ("ws-a", "ws-zzz"))
    assert (there.status_code, there.json()) == (absent.status_code, absent.json()) == (403, {"detail": "Forbidden"})


def test_an_absent_workspace(server: Server) -> None:
    answer = get(server, "root", "/workspaces/ws-zzz")
    detail = {"error": "Storage 'ws-zzz' not found", "crd": "storages.pkg.internal"}
    assert (answer.status_code, answer.json()) == (404, {"detail": detail})


def test_a_name_that_is_none(server: Server) -> None:
    answer = get(server, "root", "/workspaces/not_a_name")
    (error,) = answer.json()["detail"]
    assert (answer.status_code, error["type"], error["loc"]) == (
        422,
        "string_pattern_mismatch",
        ["path", "workspace_name"],
    )


def test_paths_and_methods(server: Server) -> None:
    with server.as_("root") as client:
        assert client.get("/nothing").json() == {"detail": "Not Found"}
        wrong = client.patch("/workspaces")
        assert (wrong.status_code, wrong.json()) == (405, {"detail": "Method Not Allowed"})
        slash = client.get("/workspaces/?limit=1", follow_redirects=False)
        assert (slash.status_code, slash.headers["Location"]) == (307, f"{server.url}/workspaces?limit=1")
        root = client.get("/", follow_redirects=False)
        assert (root.status_code, root.headers["Location"]) == (302, f"{server.url}/workspaces")
        head = client.head("/workspaces/ws-a")
        assert (head.status_code, head.content) == (200, b"")


def test_a_problem_by_rfc_9457(server: Server) -> None:
    answer = get(server, "root", "/workspaces/ws-zzz", headers={"Accept": "application/problem+json"})
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["status"] == 404
    assert answer.json()["title"] == "Not Found"


def test_each_answer_has_a_request_id(server: Server) -> None:
    assert get(server, "", "/probe", headers={"X-Request-Id": "mine-1"}).headers["X-Request-Id"] == "mine-1"
    assert len(get(server, "", "/probe", headers={"X-Request-Id": "no good"}).headers["X-Request-Id"]) == 32


def test_status_and_debug(server: Server) -> None:
    assert get(server, "joe", "/status").json() == {
        "ok": True,
        "storage_crd_present": True,
        "datalab_crd_present": True,
    }
    shown = get(server, "joe", "/debug", headers={"Cookie": "a=b"}).json()
    assert (shown["headers"]["authorization"], shown["headers"]["cookie"]) == ("<redacted>", "<redacted>")


def test_credentials_are_shown_with_one_line_a_minute(server: Server) -> None:
    for _ in range(2):
        answer = get(server, "joe", "/workspaces/ws-a/credentials")
        assert answer.json()["storage"]["secret"] == "very-secret"
    lines = eventually(lambda: [line for line in server.lines("audit") if line["operation"] == "get_credentials"])
    assert [(line["user"], line["workspace"], line["outcome"]) for line in lines] == [("joe", "ws-a", "allowed")]
    assert "very-secret" not in server.log.read_text()


def test_reads_ask_the_api_server_nothing(server: Server) -> None:
    def requests() -> float:
        lines = get(server, "", "/metrics").text.splitlines()
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in lines
            if line.startswith("rest_client_requests_total{") and 'method="GET"' in line
        )

    with server.as_("root") as client:
        client.get("/workspaces")
        before = requests()
        for _ in range(20):
            assert client.get("/workspaces/ws-a").status_code == 200
    assert requests() - before <= 1  # a watch may end meanwhile, and the Lease is renewed


def test_it_starts_without_an_api_server(issuer: Issuer, tmp_path: Path, cluster: Cluster) -> None:
    text = cluster.kubeconfig.read_text().replace(cluster.url, "https://127.0.0.1:1")
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(text)
    with away(kubeconfig, "workspace", tmp_path / "log", issuer) as server:
        assert get(server, "", "/probe").status_code == 200
        unready = get(server, "", "/readyz")
        assert unready.status_code == 503
        assert "storages.pkg.internal of namespace workspace are not listed" in unready.text
        unknown = get(server, "root", "/workspaces")
        assert unknown.status_code == 503
        assert int(unknown.headers["Retry-After"]) > 0
        code, seconds = server.stop()
    assert (code, seconds < 10) == (0, True)
