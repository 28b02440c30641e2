"""What the screen of members shows, and what its form for new ones asks for. Pure."""

import re
from collections.abc import Iterable
from itertools import islice
from typing import Any

from datalabd.api.workspace_bodies import LIST_MAX
from workspaces.permissions import Permission
from workspaces.ui import paging
from workspaces.ui.forms import Words
from workspaces.ui.inputs import Context, Inputs

_NAME = re.compile(r"[^,;\n\r]+")
NAMES = "names"
"""The field that takes several names at once."""


def context(inputs: Inputs) -> Context:
    """Rows of members, and what may be done with them."""
    lab = inputs.view["datalab"]
    rows, text = lab["memberships"], paging.wanted(inputs.query)
    page = paging.part([row for row in rows if text in row["member"].lower()], inputs.query)
    return {
        **paging.filtering(inputs.query, len(rows)),
        "rows": page.rows,
        "list": page,
        "may_manage": Permission.MANAGE_MEMBERS in inputs.allowed and lab["available"],
        "may_hand_over": bool(inputs.more["owns"]),
        "unknown": sum("problem" in row for row in rows),
    }


def added(fields: Iterable[tuple[str, str]]) -> tuple[dict[str, Any], Words]:
    """An edit that adds each name of a list, with one role for all; of a list that is too long, one more than fit."""
    values = dict(fields)
    found = (name[0].strip() for name in _NAME.finditer(values.get(NAMES, "")))
    names = list(islice(filter(None, found), LIST_MAX + 1))
    role = {"role": values["role"]} if values.get("role") else {}
    words: Words = {("add_memberships",): NAMES}
    words |= {("add_memberships", at, "role"): "role" for at in range(len(names))}
    words |= {("add_memberships", at): NAMES for at in range(len(names))}
    return {"add_memberships": [{"member": name} | role for name in names or [""]]}, words
