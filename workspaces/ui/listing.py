"""What the list of workspaces shows. Pure."""

from collections.abc import Mapping
from typing import Any

PAGE = 50
"""Workspaces of one page, where nobody says how many."""


def context(more: Mapping[str, Any], query: Mapping[str, str]) -> dict[str, Any]:
    """Rows, how they were chosen, and where the next page begins."""
    return {
        "rows": more["rows"],
        "total": more["total"],
        "name": query.get("name", ""),
        "status": query.get("status", ""),
        "is_filtered": bool(query.get("name") or query.get("status")),
        "is_later": bool(query.get("continue")),
        "following": more["following"],
        "may_create": more["may_create"],
    }
