"""Tokens that the Workspace API hands out, and how it looks whether a session answers."""

import base64
import contextlib
import http.server
import json
import threading
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import httpx
import pytest

from datalabd.api.meta import Manifest
from datalabd.kube.client import MERGE_PATCH, path
from datalabd.kube.resources import DATALABS
from hack.cluster import Cluster
from hack.issuer import Issuer
from tests.integration.daemon import eventually
from tests.integration.workspace_server import USERS, Server, new_namespace, secret, serving, workspace
from workspaces.probes import ANSWER_SECONDS

pytestmark = pytest.mark.cluster


class Endpoint(http.server.BaseHTTPRequestHandler):
    """A token endpoint and a session: answers what it is told to, and keeps what it was asked."""

    status: ClassVar[int] = 200
    body: ClassVar[bytes] = b"{}"
    asked: ClassVar[list[tuple[str, str, str, str]]] = []

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        said = self.rfile.read(length).decode()
        self.asked.append(("POST", self.path, said, self.headers.get("Authorization", "")))
        self._answer(self.body)

    def do_HEAD(self) -> None:
        self.asked.append(("HEAD", self.path, "", ""))
        self._answer(b"")

    def _answer(self, body: bytes) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        if self.status == 302:
            self.send_header("Location", "https://login.example.org/")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> str:
    name = new_namespace(cluster)
    workspace(cluster, name, "ws-a", sessions=[{"name": "default", "state": "started"}])
    return name


@pytest.fixture(scope="module")
def server(
    cluster: Cluster, namespace: str, endpoint: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    environ = {
        "TOKEN_BROKER_TOKEN_ENDPOINT": f"{endpoint}/token",
        "SESSION_PROBE": f"{endpoint}/{{workspace}}/{{session}}",
    }
    log = tmp_path_factory.mktemp("workspaces") / "log"
    with Issuer(USERS) as issuer, serving(cluster, namespace, log, issuer, **environ) as server:
        yield server


@contextlib.contextmanager
def client_secret(cluster: Cluster, server: Server, manifest: Manifest) -> Iterator[None]:
    """A Secret of the workspace's client, which the server knows."""
    cluster.api.create(manifest)
    try:
        missing = {"detail": {"error": "oauth_client_secret_not_found", "secret": "ws-a-oauth-client"}}
        eventually(lambda: token(server).json() != missing, 10)
        Endpoint.asked.clear()
        yield
    finally:
        cluster.api.delete("secrets", "ws-a-oauth-client", server.namespace)
        eventually(lambda: token(server).json() == missing, 10)


def token(server: Server, user: str = "alice") -> httpx.Response:
    with server.as_(user) as client:
        return client.get("/workspaces/ws-a/token")


def issued(**claims: Any) -> str:
    """A token whose signature nobody looks at."""
    said = {"aud": ["workspace-api"], "resource_access": {"ws-a": {"roles": ["ws_api"]}}} | claims
    parts = (json.dumps(part).encode() for part in ({"alg": "none"}, said))
    return ".".join([*(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts), ""])


def answer_with(status: int = 200, **body: Any) -> None:
    Endpoint.status, Endpoint.body = status, json.dumps(body).encode()


def test_a_token_is_exchanged(cluster: Cluster, server: Server) -> None:
    made = secret(server.namespace, "ws-a-oauth-client", clientID="ws-a", clientSecret="s3cr3t")
    with client_secret(cluster, server, made):
        handed = issued()
        answer_with(access_token=handed, token_type="Bearer", expires_in=60, refresh_token="never")
        answer = token(server)
        assert answer.status_code == 200, answer.text
        assert answer.json() == {"access_token": handed, "token_type": "Bearer", "expires_in": 60, "scope": None}
        assert (answer.headers["Cache-Control"], answer.headers["Pragma"]) == ("no-store", "no-cache")
        basic = "Basic " + base64.b64encode(b"ws-a:s3cr3t").decode()
        form = "grant_type=client_credentials&audience=workspace-api"
        assert Endpoint.asked == [("POST", "/token", form, basic)]
        with server.as_("alice") as client:
            assert client.head("/workspaces/ws-a/token").status_code == 200
        assert len(Endpoint.asked) == 1
    assert "s3cr3t" not in server.log.read_text()
    assert handed not in server.log.read_text()


def test_a_secret_in_json(cluster: Cluster, server: Server) -> None:
    inner = json.dumps({"client_id": "ws-a", "client_secret": "other"})
    with client_secret(cluster, server, secret(server.namespace, "ws-a-oauth-client", client=inner)):
        answer_with(access_token=issued())
        assert token(server).status_code == 200
        assert Endpoint.asked[-1][3] == "Basic " + base64.b64encode(b"ws-a:other").decode()


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (500, {}, {"error": "token_endpoint_error", "status": 500}),
        (302, {}, {"error": "token_endpoint_error", "status": 302}),
        (200, {}, {"error": "token_endpoint_missing_access_token"}),
        (200, {"access_token": "no JWT"}, "token_validation_failed"),
        (200, {"access_token": issued(aud="other")}, "token_validation_failed"),
        (200, {"access_token": issued(resource_access={"ws-a": {"roles": "ws_api"}})}, "token_validation_failed"),
        (200, {"access_token": issued(), "token_type": "mac"}, "token_validation_failed"),
    ],
)
def test_answers_that_are_no_good(cluster: Cluster, server: Server, status: int, body: Any, error: Any) -> None:
    made = secret(server.namespace, "ws-a-oauth-client", clientID="ws-a", clientSecret="s3cr3t")
    with client_secret(cluster, server, made):
        answer_with(status, **body)
        answer = token(server)
        detail = answer.json()["detail"]
        assert (answer.status_code, detail if isinstance(error, dict) else detail["error"]) == (502, error)


def test_only_an_admin_gets_one(server: Server) -> None:
    assert [token(server, user).status_code for user in ("joe", "robot", "bob", "stranger")] == [403] * 4


@pytest.mark.parametrize(
    ("status", "code"),
    [
        pytest.param(200, 200, id="ready"),
        pytest.param(302, 200, id="leads to a login"),
        pytest.param(404, 200, id="answers at all"),
        pytest.param(503, 202, id="broken"),
    ],
)
def test_a_session_is_looked_at(cluster: Cluster, namespace: str, server: Server, status: int, code: int) -> None:
    said = {"status": {"sessions": {"default": {"state": "started", "url": "https://lab.example"}}}}
    cluster.api.request("PATCH", path(DATALABS, namespace, "ws-a", "status"), said, MERGE_PATCH)
    with server.as_("joe") as client:
        eventually(lambda: client.get("/workspaces/ws-a/sessions").json()[0].get("url"), 10)
        time.sleep(ANSWER_SECONDS)  # as long as the answer of the case before counts
        answer_with(status)
        Endpoint.asked.clear()
        answer = client.get("/workspaces/ws-a/sessions/default")
    assert (answer.status_code, answer.json()["url"]) == (code, "https://lab.example")
    assert Endpoint.asked == [("HEAD", "/ws-a/default", "", "")]
