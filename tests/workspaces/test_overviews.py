"""Overviews are kept until something changes that they are made of."""

from dataclasses import replace

import pytest

from datalabd.api.meta import Manifest
from datalabd.api.storage import read
from datalabd.api.workspace import Status
from datalabd.kube import resources as kinds
from datalabd.kube.resources import Resource
from tests.workspaces.objects import KEYS, SETTINGS, datalab, request, secret, storage
from workspaces.overviews import Overviews
from workspaces.reads import Overview, Pieces
from workspaces.sharing import Sharing


class World:
    """A workspace `ws-a`, its overview, and another workspace."""

    def __init__(self) -> None:
        self.secrets: dict[str, Manifest] = {}
        self.storage = storage()
        self.datalab = datalab(sessions=["default"])
        self.sharing = Sharing([self.storage, storage("ws-b")])
        self.overviews = Overviews(self.sharing, SETTINGS)

    @property
    def pieces(self) -> Pieces:
        """What the workspace is made of now."""
        return Pieces(self.storage, self.datalab, self.secrets.get)

    def change(self, kind: Resource, obj: Manifest) -> None:
        """Have an object be another, as the cache tells of it."""
        storages = []
        if kind == kinds.STORAGES:
            storages = [found for found in (self.sharing.get(obj["metadata"]["name"]), read(obj)) if found]
            self.sharing.put(obj)
        self.overviews.changed(kind, None, obj, storages)


def test_what_an_overview_is_made_of_changes_it() -> None:
    world = World()
    assert world.overviews.of(world.pieces) == Overview(Status.PROVISIONING, (("default", False),), (), 1, 0)

    world.datalab = datalab(users=["alice", "joe"])
    world.change(kinds.DATALABS, world.datalab)
    assert world.overviews.of(world.pieces) == Overview(Status.PROVISIONING, (), (), 2, 0)

    world.secrets["ws-a"] = secret("ws-a", **KEYS)
    world.change(kinds.SECRETS, world.secrets["ws-a"])
    assert world.overviews.of(world.pieces) == Overview(Status.READY, (), (), 2, 0)

    world.change(kinds.STORAGES, storage("ws-b", bucketAccessRequests=[request("ws-a")]))
    assert world.overviews.of(world.pieces) == Overview(Status.READY, (), (), 2, 1)

    world.overviews.changed(kinds.DATALABS, world.datalab, None, ())
    world.datalab = datalab(users=[])
    assert world.overviews.of(world.pieces).members == 0


@pytest.mark.parametrize(
    ("kind", "obj"),
    [
        pytest.param(kinds.DATALABS, datalab("ws-b"), id="another's Datalab"),
        pytest.param(kinds.SECRETS, secret("ws-b-datalab"), id="another's Secret"),
        pytest.param(kinds.STORAGES, storage("ws-b", buckets=[]), id="another's Storage, which asks for nothing of it"),
        pytest.param(kinds.RESOURCE_QUOTAS, {"metadata": {"name": "ws-a"}}, id="its quota"),
        pytest.param(kinds.VOLUME_CLAIMS, {"metadata": {"name": "ws-a"}}, id="its volumes"),
    ],
)
def test_other_objects_leave_it(kind: Resource, obj: Manifest) -> None:
    world = World()
    first = world.overviews.of(world.pieces)
    world.change(kind, obj)
    assert world.overviews.of(world.pieces) is first


def test_where_names_of_secrets_follow_a_template_any_may_be_its_own() -> None:
    world = World()
    world.overviews = Overviews(world.sharing, replace(SETTINGS, storage_secret="keys-of-<principal>"))
    assert world.overviews.of(world.pieces).status is Status.PROVISIONING
    world.secrets["keys-of-ws-a"] = secret("keys-of-ws-a", **KEYS)
    world.change(kinds.SECRETS, world.secrets["keys-of-ws-a"])
    assert world.overviews.of(world.pieces).status is Status.READY
