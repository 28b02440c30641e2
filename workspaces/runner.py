"""Serves an application as aiohttp does, with longer headers, and with answers that repeat nothing of a broken request.

What aiohttp says of a header that is too long, or of bytes that are no HTTP, holds their beginning: in the answer, and
in a log with its stack. Both may be a token.
"""

from typing import Any

import orjson
import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from workspaces.tokens import TOKEN_MAX

log = structlog.get_logger()

FIELD_MAX = TOKEN_MAX + 256
"""Bytes of a header's name and value."""


class _Connection(web.RequestHandler):
    """One connection of a client."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        log.info("request could not be read", error=type(exc).__name__, peer=request.remote)
        code, detail = (431, "Request header too large") if isinstance(exc, LineTooLong) else (400, "Bad request")
        answer = web.Response(status=code, body=orjson.dumps({"detail": detail}), content_type="application/json")
        answer.force_close()
        return answer


class _Server(web.Server):
    """All connections of clients."""

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """Runs an application."""

    def __init__(self, app: web.Application, **options: Any) -> None:
        """Options are those of `web.AppRunner`."""
        super().__init__(app, access_log=None, max_field_size=FIELD_MAX, **options)

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(made.request_handler, request_factory=made.request_factory, **self._kwargs)
