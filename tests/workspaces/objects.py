"""Storages, Datalabs and Secrets as tests of the Workspace API write them."""

import base64
import copy
import datetime
import sys
from collections.abc import Callable, Mapping
from typing import Any

from datalabd.api.meta import SINCE, V1BETA2, Manifest
from datalabd.api.storage import API_VERSION, KIND
from workspaces.patches import Operation
from workspaces.settings import Settings

NOW = datetime.datetime(2026, 5, 5, 20, 0, tzinfo=datetime.UTC)
TODAY = "2026-05-05T20:00:00Z"
"""The same as the API writes it."""
BEFORE, LATER = "2026-01-01T00:00:00Z", "2026-09-09T00:00:00Z"
SETTINGS = Settings(auth_mode="no", host="127.0.0.1")


def storage(name: str = "ws-a", /, annotations: Mapping[str, str] | None = None, **spec: Any) -> Manifest:
    """A Storage whose bucket can be found."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {
            "name": name,
            "namespace": "workspace",
            "uid": f"uid-of-{name}",
            "resourceVersion": "7",
            "generation": 2,
            "creationTimestamp": BEFORE,
        }
        | ({"annotations": dict(annotations)} if annotations else {}),
        "spec": {"principal": name, "buckets": [{"bucketName": name, "discoverable": True}]} | spec,
    }


def datalab(name: str = "ws-a", /, annotations: Mapping[str, str] | None = None, **spec: Any) -> Manifest:
    """A Datalab that alice owns."""
    return {
        "apiVersion": V1BETA2,
        "kind": "Datalab",
        "metadata": {
            "name": name,
            "namespace": "workspace",
            "uid": f"uid-of-lab-{name}",
            "resourceVersion": "9",
            "generation": 3,
            "creationTimestamp": BEFORE,
        }
        | ({"annotations": dict(annotations)} if annotations else {}),
        "spec": {"users": ["alice"]} | spec,
    }


def secret(name: str = "ws-a", /, since: str = "", **values: str) -> Manifest:
    """A Secret of these values."""
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    metadata = {"name": name, "namespace": "workspace", "annotations": {SINCE: since} if since else {}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}


KEYS = {"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "SK", "AWS_ENDPOINT_URL": "https://s3.example"}


def request(bucket: str, reason: str = "", at: str = BEFORE) -> Manifest:
    """An entry of `bucketAccessRequests`."""
    return {"bucketName": bucket, "requestedAt": at} | ({"reason": reason} if reason else {})


def grant(bucket: str, grantee: str, permission: str = "ReadWrite", at: str = BEFORE) -> Manifest:
    """An entry of `bucketAccessGrants`."""
    return {"bucketName": bucket, "grantee": grantee, "permission": permission, "grantedAt": at}


def applied(operations: list[Operation], before: Any) -> Any:
    """What a JSON Patch makes of an object, by RFC 6902; AssertionError if a test of it fails."""
    found = copy.deepcopy(before)
    for operation in operations:
        *path, last = (part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:])
        place = found
        for part in path:
            place = place[int(part)] if isinstance(place, list) else place[part]
        key = (len(place) if last == "-" else int(last)) if isinstance(place, list) else last
        match operation["op"]:
            case "test":
                assert place[key] == operation["value"], operation
            case "remove":
                del place[key]
            case "add" if isinstance(place, list):
                place.insert(key, operation["value"])
            case "replace" if isinstance(place, list):
                place[key] = operation["value"]
            case "add" | "replace":
                place[key] = operation["value"]
    return found


def changes(operations: list[Operation]) -> list[Operation]:
    """A JSON Patch without its tests."""
    return [operation for operation in operations if operation["op"] != "test"]


def steps_of(act: Callable[[], object]) -> int:
    """How many lines of Python something runs, each turn of a loop counted: its cost, whatever the machine."""
    count = 0

    def tell(_: object, event: str, __: object) -> Callable[..., Any]:
        nonlocal count
        count += event in ("call", "line")
        return tell

    before = sys.gettrace()
    sys.settrace(tell)
    try:
        act()
    finally:
        sys.settrace(before)
    return count
