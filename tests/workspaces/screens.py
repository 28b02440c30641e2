"""What screens are made of, for tests."""

import datetime
from collections.abc import Mapping
from typing import Any

from workspaces.permissions import EVERYTHING, Permissions
from workspaces.ui.forms import Outcome
from workspaces.ui.inputs import Inputs

NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)


def inputs(
    view: Mapping[str, Any],
    more: Mapping[str, Any] | None = None,
    allowed: Permissions = EVERYTHING,
    *,
    query: Mapping[str, str] | None = None,
    outcome: Outcome | None = None,
    **parts: str,
) -> Inputs:
    """What a screen is made of: a view, what is read beside it, and who looks at it."""
    return Inputs(view, more or {}, allowed, query or {}, parts, NOW, outcome)
