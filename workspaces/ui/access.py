"""Requests for buckets and what was decided on them, as pages tell of them. Pure."""

from collections.abc import Mapping
from typing import Any

from datalabd.api import storage

WAITS, GRANTED, DENIED = "waits", "granted", "denied"
"""How a request is. A bucket that nobody asked for, and that could be, has no state."""


def rows(view: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Requests and grants of a workspace on both sides, each with its `state`, and with a reason without the level."""
    return [
        row | {"state": state(row), "reason": storage.words(row.get("reason", ""))}
        for row in view["storage"]["bucket_access_requests"]
    ]


def state(row: Mapping[str, Any]) -> str:
    """How a request is; empty for none."""
    if row.get("denied_timestamp"):
        return DENIED
    if row.get("grant_timestamp"):
        return GRANTED
    return WAITS if row.get("request_timestamp") else ""
