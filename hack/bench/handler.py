"""A bare handler: aiohttp over TLS that decodes a review with orjson and allows it. The floor of every admission.

    python -m hack.bench.handler

It prints its port once it serves, and runs until stopped.
"""

import asyncio
import datetime

import orjson
from aiohttp import web

from webhooks import certificates
from webhooks.review import allowed


async def _handle(request: web.Request) -> web.Response:
    review = orjson.loads(await request.read())
    return web.Response(body=orjson.dumps(allowed(review["request"]["uid"])), content_type="application/json")


async def _serve() -> None:
    context = certificates.server_context()
    certificates.load(context, certificates.issue(["127.0.0.1"], datetime.datetime.now(datetime.UTC)))
    app = web.Application(client_max_size=8 * 1024 * 1024)
    app.router.add_post("/", _handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve())
