"""The plain port: whether the process lives, whether it is ready, and its metrics.

Ready means that we can answer: TLS is up with a certificate that was registered, environments and what every lab
consists of are listed, and the API server has answered when asked for the Datalabs, be it with an error. It never means
that they are listed: to list what is stored in an old version, the API server needs a ready replica to convert it.
"""

from collections.abc import Callable, Iterator

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from datalabd.kube import resources as kinds
from datalabd.kube.cache import OPTIONAL_KINDS, RUNTIME_KINDS
from datalabd.kube.informers import Informers

_MAY_COME_LATER = {*OPTIONAL_KINDS, *RUNTIME_KINDS, kinds.DATALABS}


def missing(informers: Informers) -> Iterator[str]:
    """What still has to be known of the cluster before we are ready."""
    yield from (str(kind) for kind in informers.pending() if kind not in _MAY_COME_LATER)
    if informers.unreadable(kinds.ENVIRONMENT_CONFIGS) is not None:
        yield f"{kinds.ENVIRONMENT_CONFIGS} cannot be read"
    if not informers.answered(kinds.DATALABS):
        yield f"{kinds.DATALABS}: the API server has not answered yet"


def application(reasons: Callable[[], list[str]]) -> web.Application:
    """The site; `reasons` says why we are not ready, empty if we are."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        found = reasons()
        return web.Response(status=503 if found else 200, text="\n".join(found or ["ok"]) + "\n")

    async def exposition(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", exposition)
    return app
