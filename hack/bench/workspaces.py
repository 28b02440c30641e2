"""What it costs to tell of one workspace of 500: beside the same answer by hand, and beside reading the whole list."""

import base64
import datetime
import itertools
import time
from collections.abc import Callable

import orjson
from aiohttp.test_utils import make_mocked_request

from datalabd.api.meta import Manifest
from datalabd.api.storage import read
from datalabd.api.workspace import StoreType
from datalabd.api.workspace_bodies import NewMembership
from datalabd.kube import resources as kinds
from hack.bench.table import Table
from workspaces import members, reads
from workspaces.claims import Identity
from workspaces.overviews import Overviews
from workspaces.patches import Draft
from workspaces.permissions import EVERYTHING
from workspaces.reads import Pieces
from workspaces.settings import Settings
from workspaces.sharing import Sharing
from workspaces.stores import Offer
from workspaces.streams import Stream

NAMESPACE = "workspace"
WORKSPACES, BUCKETS, DISCOVERABLE, SHARED = 500, 4, 200, 1000
"""How many there are, buckets of each, buckets that can be found, and requests of which half are granted."""
USERS, MEMBERS = 25, 10
"""How many own all of them, and members of each, of whom nobody is in more than 20."""
STREAMS = 200
ROUNDS = 300
SETTINGS = Settings(auth_mode="no", host="127.0.0.1")
OFFER = Offer(True, tuple(StoreType))
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
_AT = "2026-01-01T00:00:00Z"


def measure(table: Table) -> None:
    """Print the figures."""
    storages = [storage_of(number) for number in range(WORKSPACES)]
    pieces = [
        Pieces(storages[number], datalab_of(number), secrets_of(number).get, [], []) for number in range(WORKSPACES)
    ]
    sharing = Sharing(storages)
    turns = itertools.cycle(range(WORKSPACES))
    whole = orjson.dumps(storages)
    answer = _view(pieces[0], sharing)
    size = f"{len(orjson.dumps(answer)) // 1024} KiB of JSON"

    by_hand = _milliseconds(lambda: orjson.dumps(answer))
    listed = _milliseconds(lambda: orjson.loads(whole), ROUNDS // 10)
    view = _milliseconds(lambda: orjson.dumps(_view(pieces[next(turns)], sharing)))
    rows = _milliseconds(lambda: orjson.dumps(_rows(pieces, sharing)), ROUNDS // 10)
    taken_up = _milliseconds(lambda: sharing.put(storages[next(turns)]))
    edited = _milliseconds(lambda: _edit(pieces[next(turns)]))
    table.row("CPU to write a workspace as JSON by hand", by_hand, "ms", note=size)
    what = "as upstream does for each workspace; the floor of the next three"
    table.row(f"CPU to read {WORKSPACES} Storages as text", listed, "ms", note=what)
    table.row("CPU to tell of a workspace", view, "ms", floor=listed, goal=2)
    table.row(f"CPU to list {WORKSPACES} workspaces for the first time", rows, "ms", floor=listed, goal=15)
    overviews = Overviews(sharing, SETTINGS)
    _listed_again(overviews, pieces, 0)
    again = _milliseconds(lambda: _listed_again(overviews, pieces, next(turns)), ROUNDS // 10)
    table.row("CPU to list them again after a Storage changed", again, "ms", floor=listed, goal=15)
    table.row("CPU to take up a changed Storage", taken_up, "ms", floor=listed)
    table.row("CPU to decide on an edit", edited, "ms", floor=by_hand, goal=5, note="beside the JSON by hand")
    names = sorted(sharing.names)[:STREAMS]
    listening = [_stream({name}) for name in names]
    noted = _milliseconds(lambda: _note(listening, sharing))
    once = _milliseconds(lambda: {name: {"buckets"} for name in names})
    what = f"CPU to note in {STREAMS} streams what {WORKSPACES} workspaces see"
    table.row(what, noted, "ms", floor=once, goal=1, note="beside a note of a name for each")


def _note(streams: list[Stream], sharing: Sharing) -> None:
    for stream in streams:
        stream.note(sharing.names, ("buckets",))


def _stream(workspaces: set[str]) -> Stream:
    return Stream(make_mocked_request("GET", "/"), Identity("alice"), workspaces)


def _view(pieces: Pieces, sharing: Sharing) -> reads.View:
    return reads.view(pieces, sharing, OFFER, SETTINGS, EVERYTHING, "alice")


def _rows(pieces: list[Pieces], sharing: Sharing) -> list[reads.View]:
    found = []
    for one in pieces:
        overview = reads.overview(one, sharing, SETTINGS)
        found.append(reads.row(one.storage["metadata"]["name"], overview, EVERYTHING, "https://api.example.org"))
    return found


def _listed_again(overviews: Overviews, pieces: list[Pieces], number: int) -> bytes:
    versions = [read(pieces[number].storage)] * 2
    overviews.changed(kinds.STORAGES, pieces[number].storage, pieces[number].storage, versions)
    found = []
    for one in pieces:
        name = one.storage["metadata"]["name"]
        found.append(reads.row(name, overviews.of(one), EVERYTHING, "https://api.example.org"))
    return orjson.dumps(found)


def _edit(pieces: Pieces) -> object:
    draft = Draft(pieces.storage, pieces.datalab)
    members.add(draft, [NewMembership(member="somebody", role="user", creation_timestamp=None)], NOW)
    return orjson.dumps([draft.storage_patch, draft.datalab_patch])


def _milliseconds(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """CPU for once."""
    began = time.process_time()
    for _ in range(rounds):
        work()
    return (time.process_time() - began) / rounds * 1000


def name_of(number: int) -> str:
    """The name of a workspace."""
    return f"ws-{number:03}"


def members_of(number: int) -> list[str]:
    """Users of a workspace, its owner first."""
    return [f"user-{number % USERS + USERS * step:03}" for step in range(MEMBERS)]


def owner_of(user: int) -> str:
    """The name of one of those who own workspaces."""
    return members_of(user)[0]


def workspaces_of(user: int) -> range:
    """Workspaces that somebody owns."""
    return range(user, WORKSPACES, USERS)


def storage_of(number: int) -> Manifest:
    """A Storage with its buckets, requests and grants."""
    name = name_of(number)
    discoverable = WORKSPACES * BUCKETS // DISCOVERABLE
    buckets = [
        {
            "bucketName": f"{name}-{bucket}",
            "discoverable": (number * BUCKETS + bucket) % discoverable == 0,
            "lifecycleRules": [{"target": "tmp/*", "mode": "Delete", "minAge": "2w"}],
        }
        for bucket in range(BUCKETS)
    ]
    others = [(number + step) % WORKSPACES for step in range(1, 1 + SHARED // WORKSPACES)]
    asking = [(number - step) % WORKSPACES for step in range(1, 1 + SHARED // WORKSPACES)]
    return {
        "apiVersion": "pkg.internal/v1beta1",
        "kind": "Storage",
        "metadata": _metadata(number),
        "spec": {
            "principal": name,
            "buckets": buckets,
            "bucketAccessRequests": [
                {"bucketName": f"{name_of(other)}-0", "reason": "ReadOnly: maps", "requestedAt": _AT}
                for other in others
            ],
            "bucketAccessGrants": [
                {"bucketName": f"{name}-0", "grantee": name_of(other), "permission": "ReadOnly", "grantedAt": _AT}
                for other in asking
            ],
        },
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }


def _metadata(number: int) -> Manifest:
    """What the API server says of both objects of a workspace."""
    return {
        "name": name_of(number),
        "namespace": NAMESPACE,
        "uid": f"00000000-0000-0000-0000-{number:012}",
        "resourceVersion": str(number),
        "generation": 1,
        "creationTimestamp": _AT,
    }


def datalab_of(number: int) -> Manifest:
    """The Datalab beside it."""
    users = members_of(number)
    return {
        "apiVersion": "pkg.internal/v1beta2",
        "kind": "Datalab",
        "metadata": _metadata(number),
        "spec": {
            "users": users,
            "userOverrides": {user: {"role": "admin", "grantedAt": _AT} for user in users[:3]},
            "sessions": [{"name": "default", "state": "started"}],
            "databases": {"pg0": {"names": ["dev", "prod"], "storage": "1Gi", "backupStorage": "10Gi"}},
            "cacheStores": {"cache": {"storage": "1Gi"}},
        },
        "status": {"sessions": {"default": {"url": "https://default.example.org", "state": "started"}}},
    }


def secrets_of(number: int) -> dict[str, Manifest]:
    """Its Secrets by name."""
    name = name_of(number)
    values = {
        "AWS_ACCESS_KEY_ID": f"{name}-1",
        "AWS_SECRET_ACCESS_KEY": "x" * 64,
        "AWS_ENDPOINT_URL": "https://s3.example.org",
        "AWS_REGION": "eu-central-1",
        **{f"POSTGRES_PG0_{part}": "x" * 20 for part in ("HOST", "PORT", "USER", "PASSWORD", "DEV_URL", "PROD_URL")},
        **{f"REDIS_CACHE_{part}": "x" * 20 for part in ("HOST", "PORT", "USER", "PASSWORD", "URL")},
    }
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    metadata = {"name": f"{name}-datalab", "namespace": NAMESPACE}
    return {metadata["name"]: {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}}


def usage_of(number: int) -> tuple[Manifest, Manifest]:
    """What limits its lab, and what its lab takes: a quota and a volume claim of its own namespace."""
    metadata = {"name": "lab", "namespace": name_of(number)}
    hard = {"requests.memory": "4Gi", "requests.storage": "20Gi"}
    volume = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}}, "storageClassName": ""}
    return (
        {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard}},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": volume},
    )
