"""How half an edit is taken back, and which state a write is meant for."""

import datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from datalabd.api.meta import Manifest
from tests.kube.scripted import Reply, status
from tests.workspaces.api import Api, serving
from tests.workspaces.objects import applied, datalab, grant, storage
from workspaces import writes
from workspaces.patches import patch
from workspaces.permissions import CAPS, Role, with_cap
from workspaces.problems import Problem
from workspaces.writes import Pair, changes, inverse, require_match


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"users": ["alice", "carol"]}, id="an entry more"),
        pytest.param({"users": []}, id="an entry less"),
        pytest.param({"sessions": [{"name": "default", "state": "started"}]}, id="a field more"),
        pytest.param({"userOverrides": {"alice": {"role": "admin"}}, "users": ["alice", "dan"]}, id="two fields"),
    ],
)
def test_what_takes_a_patch_back(change: dict[str, object]) -> None:
    before = datalab("ws-a")
    after = before | {"spec": before["spec"] | change}
    operations = patch(before, after)
    written = applied(operations, before)
    assert written == after
    assert applied(inverse(before, written, operations), written) == before


def test_annotations_are_taken_back_one_by_one() -> None:
    before = storage("ws-a", {"other/kept": "yes"})
    changed = {"other/kept": "yes", "storages.pkg.internal/grant-expiry": "{}"}
    after = before | {"metadata": before["metadata"] | {"annotations": changed}}
    operations = patch(before, after)
    back = inverse(before, after, operations)
    assert [operation["path"] for operation in back] == [
        "/metadata/annotations/storages.pkg.internal~1grant-expiry",
    ] * 2
    assert applied(back, after) == before


def test_what_others_changed_meanwhile_is_not_taken_back() -> None:
    before = datalab("ws-a")
    after = before | {"spec": before["spec"] | {"users": ["alice", "carol"]}}
    operations = patch(before, after)
    later = before | {"spec": before["spec"] | {"users": ["alice", "carol", "dan"]}}
    with pytest.raises(AssertionError):
        applied(inverse(before, after, operations), later)


@pytest.mark.parametrize("said", ["", "*", "{tag}", "W/{tag}", '"other", {tag}'])
def test_a_write_that_is_meant_for_this_state(said: str) -> None:
    pair = Pair(storage(), datalab())
    require_match(pair, said.format(tag=pair.tag))


def test_a_write_that_is_meant_for_another_state() -> None:
    pair = Pair(storage(), datalab())
    with pytest.raises(Problem) as refused:
        require_match(Pair(storage("ws-b"), datalab()), pair.tag)
    assert refused.value.status == 412


def test_status_alone_is_no_other_state() -> None:
    pair, later = Pair(storage(), datalab()), datalab() | {"status": {"phase": "Ready"}}
    later["metadata"]["resourceVersion"] = "10"
    assert Pair(storage(), later).tag == pair.tag


def test_what_is_told_of_a_patch() -> None:
    before = datalab("ws-a", sessions=[{"name": "default", "state": "started"}])
    sessions = [{"name": "default", "state": "stopped"}]
    after = before | {"spec": before["spec"] | {"users": ["alice", "carol"], "sessions": sessions}}
    assert changes(patch(before, after)) == [
        {"path": "/spec/sessions/0/state", "before": "started", "after": "stopped"},
        {"path": "/spec/users/-", "after": "carol"},
    ]


def saying(obj: Manifest) -> Reply:
    """The API server's answer with one object."""

    async def reply(_: web.Request) -> web.Response:
        return web.json_response(obj)

    return reply


LAB = datalab("ws-a", userOverrides={"bob": {"role": "admin"}}, users=["alice", "bob"])
HIDE: dict[str, Any] = {"json": {"discoverable": False}}


def asked_for(api: Api) -> list[tuple[str, str]]:
    """Method and kind of what the API server was asked for of `ws-a`."""
    return [
        (request.method, request.path.split("/")[-2])
        for request in api.server.requests
        if request.path.endswith("/ws-a")
    ]


async def test_a_change_of_the_storage_alone_is_decided_on_the_datalab_of_now(tmp_path: Path) -> None:
    """Another replica has removed an administrator: ours does not know it yet, and asks."""
    now = datetime.datetime.now(datetime.UTC)
    removed = datalab("ws-a", {CAPS: with_cap(LAB, "bob", Role.NONE, now)}, users=["alice"])
    removed["metadata"] |= {"resourceVersion": "12", "generation": 4}
    live = [saying(removed), saying(storage()), saying(removed)]
    async with serving(tmp_path, storages=[storage()], datalabs=[LAB], scripts={"ws-a": live}) as api:
        bob: dict[str, Any] = {"user": "bob", "roles": {"ws-a": "ws_admin"}}
        answer = await api.ask("PATCH", "/workspaces/ws-a/buckets/ws-a", **bob, **HIDE)
        assert (answer.status, await answer.json()) == (403, {"detail": "Forbidden"})
        assert asked_for(api) == [("GET", "datalabs"), ("GET", "storages"), ("GET", "datalabs")]


async def test_what_was_decided_on_a_deleted_workspace_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is called so next has nothing of it. A workspace whose decision cannot be written holds nobody up."""
    monkeypatch.setattr(writes, "GONE_SECONDS", 0.01)
    granted = [grant("ws-a", "p-b"), grant("ws-a", "ws-c")]
    storages = [
        storage("ws-a", bucketAccessGrants=granted),
        storage("ws-b", principal="p-b"),
        storage("ws-c", bucketAccessGrants=[grant("ws-c", "p-b")]),
    ]
    patches: list[Any] = []

    async def patched(request: web.Request) -> web.Response:
        patches.append(await request.json())
        return web.json_response(storage("ws-a", bucketAccessGrants=granted[1:]))

    scripts: dict[str, list[Reply]] = {
        "ws-a": [patched],
        "ws-b": [saying(storages[1]), saying(datalab("ws-b")), *[saying({})] * 4],
        "ws-c": [status(403, "Forbidden", message="a policy refuses it")],
        "events": [saying({})] * 5,
    }
    async with serving(tmp_path, storages=storages, datalabs=[datalab("ws-b")], scripts=scripts) as api:
        answer = await api.ask("DELETE", "/workspaces/ws-b", "root", roles={"workspace-api": "admin"})
        assert answer.status == 204, await answer.text()
        assert [[part["path"] for part in patch if part["op"] != "test"] for patch in patches] == [
            ["/spec/bucketAccessGrants/0"]
        ]
        deleted = [request.path.split("/")[-2] for request in api.server.requests if request.method == "DELETE"]
        assert deleted == ["datalabs", "storages"] * 2


async def test_what_was_decided_on_a_principal_of_others_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writes, "GONE_SECONDS", 0.01)
    storages = [
        storage("ws-a", bucketAccessGrants=[grant("ws-a", "p")]),
        *(storage(one, principal="p") for one in "bc"),
    ]
    scripts = {"b": [saying(storages[1]), status(404, "NotFound"), saying({}), saying({})], "events": [saying({})]}
    async with serving(tmp_path, storages=storages, scripts=scripts) as api:
        answer = await api.ask("DELETE", "/workspaces/b", "root", roles={"workspace-api": "admin"})
        assert answer.status == 204, await answer.text()
        assert asked_for(api) == []


async def test_a_write_of_the_storage_that_is_meant_for_another_datalab_is_refused(tmp_path: Path) -> None:
    changed = LAB | {"metadata": LAB["metadata"] | {"resourceVersion": "12", "generation": 4}}
    live = [saying(changed), saying(storage()), saying(changed)]
    async with serving(tmp_path, storages=[storage()], datalabs=[LAB], scripts={"ws-a": live}) as api:
        headers = {"If-Match": Pair(storage(), LAB).tag}
        alice: dict[str, Any] = {"user": "alice", "roles": {"ws-a": "ws_admin"}, "headers": headers}
        answer = await api.ask("PATCH", "/workspaces/ws-a/buckets/ws-a", **alice, **HIDE)
        assert (answer.status, await answer.json()) == (412, {"detail": {"error": "precondition_failed"}})


async def test_a_datalab_whose_status_alone_has_changed_costs_one_read(tmp_path: Path) -> None:
    later = LAB | {"metadata": LAB["metadata"] | {"resourceVersion": "12"}, "status": {"started": "1/1"}}
    hidden = storage("ws-a", buckets=[{"bucketName": "ws-a", "discoverable": False}])
    hidden["metadata"]["resourceVersion"] = "13"
    live = [saying(later), saying(hidden)]
    async with serving(tmp_path, storages=[storage()], datalabs=[LAB], scripts={"ws-a": live}) as api:
        alice: dict[str, Any] = {"user": "alice", "roles": {"ws-a": "ws_admin"}}
        answer = await api.ask("PATCH", "/workspaces/ws-a/buckets/ws-a", **alice, **HIDE)
        assert answer.status == 202, await answer.text()
        assert asked_for(api) == [("GET", "datalabs"), ("PATCH", "storages")]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "sessions", {"name": "more"}, 201),
        ("PATCH", "sessions/default", {"state": "stopped"}, 202),
        ("DELETE", "sessions/default", None, 204),
        ("DELETE", "members/bob", None, 204),
        ("PATCH", "members/bob", {"role": "user"}, 202),
    ],
)
@pytest.mark.parametrize("query", ["", "?dry_run=true"])
async def test_what_admission_says_is_told(
    tmp_path: Path, method: str, path: str, body: Any, status: int, query: str
) -> None:
    async def warns(_: web.Request) -> web.Response:
        return web.json_response(lab, headers={"Warning": '299 - "it is \u201clate\u201d"'})

    lab = datalab("ws-a", users=["alice", "bob"], sessions=["default"], userOverrides={"bob": {"role": "admin"}})
    scripts: dict[str, list[Reply]] = {"ws-a": [warns], "events": [saying({})]}
    async with serving(tmp_path, storages=[storage()], datalabs=[lab], scripts=scripts) as api:
        where = f"/workspaces/ws-a/{path}{query}"
        answer = await api.ask(method, where, "alice", roles={"ws-a": "ws_admin"}, json=body)
        assert answer.status == status, await answer.text()
        if status == 204:
            assert answer.headers.getall("Warning") == ['299 - "it is ?late?"']
        else:
            assert (await answer.json())["warnings"] == ["it is \u201clate\u201d"]
