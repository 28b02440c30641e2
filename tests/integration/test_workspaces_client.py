"""The typed client against a running server: every method does what it says, and refusals are told."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from datalabd import client as module
from datalabd.api.storage import Permission
from datalabd.api.v1beta2 import Role, State
from datalabd.api.workspace import Status, StoreType
from datalabd.api.workspace_bodies import (
    BucketPatch,
    GrantPut,
    RequestPut,
    WorkspaceEdit,
)
from datalabd.client import WorkspaceClient, WorkspaceError
from datalabd.kube.client import Client
from hack.cluster import Cluster
from hack.deadlines import scaled
from hack.issuer import Issuer
from hack.standins import install_store_crds
from tests.integration.workspace_server import Server, new_namespace, serving, workspace

pytestmark = pytest.mark.cluster


@pytest.fixture
def server(cluster: Cluster, issuer: Issuer, tmp_path: Path) -> Iterator[Server]:
    """A server with workspaces ws-a and ws-b."""
    namespace = new_namespace(cluster)
    for name, owner in (("ws-a", "alice"), ("ws-b", "bob")):
        workspace(cluster, namespace, name, users=[owner], sessions=[{"name": "default", "state": "started"}])
    with serving(cluster, namespace, tmp_path / "log", issuer) as server:
        yield server


@pytest.fixture
async def alice(server: Server) -> AsyncIterator[WorkspaceClient]:
    async with WorkspaceClient(server.url, server.issuer.access_token("alice")) as client:
        yield client


@pytest.fixture
async def bob(server: Server) -> AsyncIterator[WorkspaceClient]:
    async def token() -> str:
        return server.issuer.access_token("bob")

    async with WorkspaceClient(server.url + "/", token) as client:
        yield client


async def test_members_come_and_go(alice: WorkspaceClient) -> None:
    edit = WorkspaceEdit.model_validate({"add_memberships": [{"member": "carol"}]})
    assert (await alice.dry_run().edit("ws-a", edit)).name == "ws-a"
    found, version = await alice.workspace("ws-a")
    assert [member.member for member in found.datalab.memberships] == ["alice"]
    await alice.edit("ws-a", edit, version=version)
    with pytest.raises(WorkspaceError) as caught:
        await alice.change_member("ws-a", "carol", Role.ADMIN, version=version)
    assert caught.value.status == 412
    await alice.change_member("ws-a", "carol", Role.ADMIN)
    await alice.dry_run().hand_over("ws-a", "carol")
    found, _ = await alice.workspace("ws-a")
    assert next(member.member for member in found.datalab.memberships if member.role == "owner") == "alice"
    await alice.hand_over("ws-a", "carol")
    found, _ = await alice.workspace("ws-a")
    assert [(member.member, member.role) for member in found.datalab.memberships] == [
        ("carol", "owner"),
        ("alice", "admin"),
    ]
    with pytest.raises(WorkspaceError) as caught:
        await alice.remove_member("ws-a", "zoe")
    assert (caught.value.status, caught.value.error) == (404, "member_not_found")


async def test_buckets_are_shared(alice: WorkspaceClient, bob: WorkspaceClient) -> None:
    await alice.edit("ws-a", WorkspaceEdit.model_validate({"add_buckets": [{"name": "ws-a-data"}]}))
    await alice.change_bucket("ws-a", "ws-a-data", BucketPatch(discoverable=True, lifecycle_rules=None))
    await bob.request_access("ws-b", "ws-a-data", RequestPut(permission=Permission.READ_ONLY, reason="maps"))
    waits = next(row for row in await alice.workspaces() if row.name == "ws-a")
    assert waits.pending == 1
    await alice.grant_access("ws-a", "ws-a-data", "ws-b", GrantPut.model_validate({"permission": "ReadOnly"}))
    found, _ = await bob.workspace("ws-b")
    row = next(row for row in found.storage.bucket_access_requests if row.bucket == "ws-a-data")
    assert (row.permission, row.grant_timestamp is not None) == ("ReadOnly", True)
    with pytest.raises(WorkspaceError, match="bucket_in_use"):
        await alice.remove_bucket("ws-a", "ws-a-data")
    await alice.end_grant("ws-a", "ws-a-data", "ws-b")
    await bob.withdraw_request("ws-b", "ws-a-data")
    await alice.remove_bucket("ws-a", "ws-a-data", revoke_grants=True)
    found, _ = await alice.workspace("ws-a")
    assert [bucket.name for bucket in found.storage.buckets] == ["ws-a"]


async def test_sessions_come_and_go(alice: WorkspaceClient) -> None:
    assert (await alice.create_session("ws-a", "analysis")).state is State.STOPPED
    assert (await alice.change_session("ws-a", "analysis", State.STARTED)).ready is False
    assert await alice.open_session("ws-a", "analysis") is None
    assert [session.name for session in await alice.sessions("ws-a")] == ["default", "analysis"]
    await alice.remove_session("ws-a", "analysis")
    assert [session.name for session in await alice.sessions("ws-a")] == ["default"]


async def test_stores_are_cared_for(cluster: Cluster, server: Server, alice: WorkspaceClient) -> None:
    connection = await Client.connect(str(cluster.kubeconfig))
    try:
        await install_store_crds(connection, None, "Redis")
    finally:
        await connection.close()
    async with asyncio.timeout(scaled(20)):
        while True:
            found, _ = await alice.workspace("ws-a")
            if StoreType.CACHE in found.datalab.available_store_types:
                break
            await asyncio.sleep(0.2)
    await alice.edit("ws-a", WorkspaceEdit.model_validate({"add_stores": [{"name": "c", "type": "cache"}]}))
    assert await alice.ask_store("ws-a", StoreType.CACHE, "c", "rotate")
    await alice.dry_run().remove_store("ws-a", StoreType.CACHE, "c")
    found, _ = await alice.workspace("ws-a")
    assert [one.name for one in found.datalab.stores] == ["c"]


async def test_what_is_read(alice: WorkspaceClient, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = (await alice.credentials("ws-a")).storage
    assert keys is not None
    assert (keys.access, keys.region) == ("AK", "us-east-1")
    assert (await alice.activity("ws-a")).continue_ is None
    with pytest.raises(WorkspaceError) as caught:
        await alice.token("ws-a")
    assert (caught.value.status, caught.value.error) == (503, "token_broker_not_configured")
    with pytest.raises(WorkspaceError) as caught:
        await alice.workspace("ws-b")
    assert (caught.value.status, caught.value.detail, caught.value.error) == (403, "Forbidden", "")
    monkeypatch.setattr(module, "PAGE", 1)
    async with WorkspaceClient(server.url, server.issuer.access_token("root")) as root:
        assert [row.name for row in await root.workspaces()] == ["ws-a", "ws-b"]
        assert [row.name for row in await root.workspaces(name="b", status=Status.READY)] == ["ws-b"]


async def test_a_workspace_is_made_watched_and_deleted(server: Server) -> None:
    async with WorkspaceClient(server.url, server.issuer.access_token("root")) as root:
        name = await root.create("New one", "dave")
        assert name == "new-one"
        stream = root.watch(name)
        first = await anext(stream)
        await root.create_session(name, "extra")
        async with asyncio.timeout(scaled(20)):
            async for seen in stream:
                if len(seen.datalab.sessions) == 2:
                    break
        assert [session.name for session in first.datalab.sessions] == ["default"]
        await root.delete(name)
        with pytest.raises(WorkspaceError) as caught:
            async for _ in root.watch(name):
                pass
        assert caught.value.status == 404
