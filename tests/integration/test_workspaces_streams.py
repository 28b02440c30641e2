"""Streams of the Workspace API: what a client is told as it happens."""

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from hack.cluster import Cluster
from hack.issuer import Issuer
from tests.integration.daemon import eventually
from tests.integration.workspace_server import Server, new_namespace, serving, workspace

pytestmark = pytest.mark.cluster


@pytest.fixture
def server(cluster: Cluster, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    namespace = new_namespace(cluster)
    for name in ("ws-a", "ws-b"):
        workspace(cluster, namespace, name, sessions=[{"name": "default", "state": "started"}])
    with serving(cluster, namespace, tmp_path_factory.mktemp("workspaces") / "log", issuer) as server:
        with server.as_("root") as client:
            eventually(lambda: len(client.get("/workspaces").json()) == 2, 10)
        yield server


@contextlib.contextmanager
def listening(server: Server, user: str, where: str, last: str = "") -> Iterator[Iterator[dict[str, str]]]:
    """The events of a stream, fields by name."""
    headers = {"Last-Event-ID": last} if last else {}
    with server.as_(user) as client, client.stream("GET", where, headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["X-Accel-Buffering"] == "no"
        yield _events(answer)


def _events(answer: httpx.Response) -> Iterator[dict[str, str]]:
    event: dict[str, str] = {}
    with contextlib.suppress(httpx.RemoteProtocolError):
        for line in answer.iter_lines():
            if not line:
                if "data" in event:
                    yield event
                event = {}
            elif not line.startswith(":"):
                name, _, value = line.partition(": ")
                event[name] = value


def edit(server: Server, name: str, body: Any) -> None:
    with server.as_("root") as client:
        assert client.put(f"/workspaces/{name}", json=body).status_code == 202


def test_a_workspace_is_sent_whole_and_again_with_each_change(server: Server) -> None:
    with listening(server, "joe", "/workspaces/ws-a/events") as events:
        first = next(events)
        found = json.loads(first["data"])
        assert (first["event"], found["name"]) == ("snapshot", "ws-a")
        assert "credentials" not in found["storage"]
        assert "very-secret" not in first["data"]
        edit(server, "ws-a", {"add_memberships": [{"member": "carol"}]})
        second = next(events)
        assert [row["member"] for row in json.loads(second["data"])["datalab"]["memberships"]] == ["alice", "carol"]
    with listening(server, "joe", "/workspaces/ws-a/events", second["id"]) as events:
        edit(server, "ws-a", {"add_memberships": [{"member": "dan"}]})
        third = next(events)  # and no snapshot of what is known already
        assert third["id"] != second["id"]
        assert len(json.loads(third["data"])["datalab"]["memberships"]) == 3


def test_the_list_tells_of_ones_own_workspaces_alone(server: Server) -> None:
    with listening(server, "joe", "/events") as events:
        first = next(events)
        assert [row["name"] for row in json.loads(first["data"])] == ["ws-a"]
        edit(server, "ws-b", {"add_memberships": [{"member": "carol"}]})
        edit(server, "ws-a", {"add_memberships": [{"member": "carol"}]})
        change = next(events)
        assert (change["event"], json.loads(change["data"])["workspace"]) == ("changed", "ws-a")
        assert json.loads(change["data"])["parts"] == ["members"]


def test_a_request_of_another_is_told_at_once(server: Server) -> None:
    with listening(server, "alice", "/workspaces/ws-a/events") as events:
        next(events)
        with server.as_("bob") as client:
            assert client.put("/workspaces/ws-b/requests/ws-a", json={"permission": "ReadOnly"}).status_code == 202
        rows = json.loads(next(events)["data"])["storage"]["bucket_access_requests"]
        assert [row["workspace"] for row in rows if row["bucket"] == "ws-a"] == ["ws-b"]


def test_whoever_may_not_see_gets_no_stream(server: Server) -> None:
    with server.as_("stranger") as client:
        assert client.get("/workspaces/ws-a/events").status_code == 403


def test_a_member_who_is_removed_hears_no_more(server: Server) -> None:
    edit(server, "ws-a", {"add_memberships": [{"member": "joe"}]})
    with listening(server, "joe", "/workspaces/ws-a/events") as events:
        next(events)
        with server.as_("root") as client:
            assert client.delete("/workspaces/ws-a/members/joe").status_code == 204
        assert [event["event"] for event in events] == ["gone"]


def test_a_stream_ends_with_its_token(server: Server, issuer: Issuer) -> None:
    now = time.time()
    token = issuer.sign(issuer.claims("joe") | {"exp": int(now) + 2, "iat": int(now)})
    with (
        httpx.Client(base_url=server.url, trust_env=False, timeout=30) as client,
        client.stream("GET", "/events", headers={"Authorization": f"Bearer {token}"}) as answer,
    ):
        assert [event["event"] for event in _events(answer)] == ["snapshot"]
    assert time.time() - now < 10


def test_a_user_has_eight_streams_at_most(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(listening(server, "joe", "/events")) for _ in range(8)]
        for events in streams:
            next(events)
        with server.as_("joe") as client:
            assert client.get("/events").status_code == 429
        next(stack.enter_context(listening(server, "alice", "/events")))


def test_streams_of_pages_that_a_user_has_left_count_no_longer(server: Server) -> None:
    """However fast somebody goes from page to page: nothing is written meanwhile by which that would be noticed."""
    for _ in range(24):
        with listening(server, "joe", "/events") as events:
            next(events)


def test_streams_end_when_the_server_stops(server: Server) -> None:
    with listening(server, "joe", "/events") as events:
        next(events)
        code, seconds = server.stop()
        assert (code, seconds < 10) == (0, True)
        assert list(events) == []
