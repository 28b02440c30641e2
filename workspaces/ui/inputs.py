"""What every screen is made of. Pure."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workspaces.permissions import Permissions
from workspaces.ui.forms import Outcome

Context = dict[str, Any]
"""What a template is given beside `view`, `allowed`, `query` and `parts`."""


@dataclass(frozen=True)
class Inputs:
    """What a screen is made of."""

    view: Mapping[str, Any]
    """The workspace as its viewer may see it, without credentials; empty on a screen that is about none."""
    more: Mapping[str, Any]
    """What `loads.LOADS` has for the screen beside that."""
    allowed: Permissions
    query: Mapping[str, str]
    parts: Mapping[str, str]
    """Of the path."""
    now: datetime.datetime
    outcome: Outcome | None = None
