"""The ports that we listen on."""

import contextlib
import ssl
from collections.abc import AsyncIterator

import structlog
from aiohttp import web

from datalabd.errors import StartupError
from datalabd.serving import Bounds, Runner

log = structlog.get_logger()

DRAIN_SECONDS = 5.0
"""How long the API server keeps sending admission calls to a replica that is no longer ready, and how long what it sent
may take."""


@contextlib.asynccontextmanager
async def site(
    name: str, app: web.Application, host: str, port: int, tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Serve an application while the context lasts; gives its port, a free one where 0 was asked for."""
    runner = Runner(app, Bounds(), shutdown_timeout=DRAIN_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, ssl_context=tls).start()
    except OSError as error:
        await runner.cleanup()
        raise StartupError(f"cannot listen on {host}:{port} for {name}: {error.strerror}") from error
    bound: int = runner.addresses[0][1]
    log.info("listening", site=name, host=host, port=bound)
    try:
        yield bound
    finally:
        await runner.cleanup()
