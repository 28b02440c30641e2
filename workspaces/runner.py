"""Serves the Workspace API: headers may be as long as a token."""

from typing import Any

from aiohttp import web

from datalabd import serving
from workspaces.tokens import TOKEN_MAX

FIELD_MAX = TOKEN_MAX + 256
"""Bytes of a header's name and value."""
HEAD_MAX = 96 * 1024
"""Bytes of a request line and its headers."""


class Runner(serving.Runner):
    """Runs an application."""

    def __init__(self, app: web.Application, **options: Any) -> None:
        """Options are those of `web.AppRunner`."""
        super().__init__(app, serving.Bounds(field_max=FIELD_MAX, head_max=HEAD_MAX), **options)
