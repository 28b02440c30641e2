"""What the list of workspaces shows. Pure."""

from workspaces.ui.inputs import Context, Inputs

PAGE = 50
"""Workspaces of one page, where nobody says how many."""


def context(inputs: Inputs) -> Context:
    """Rows, how they were chosen, and where the next page begins."""
    more, query = inputs.more, inputs.query
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
