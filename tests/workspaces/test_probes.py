"""Probes of sessions: one at a time of each, and none holds up another's."""

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.workspaces.web import silent
from workspaces.probes import ANSWER_SECONDS, Probes


class Clock:
    """Stands still until it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_session_that_says_nothing_holds_up_no_other() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.router.add_get("/", answer)
    probes = Probes()
    async with silent() as (url, held, arrived), TestServer(app) as other:
        waiting = [asyncio.create_task(probes.answers(url)) for _ in range(300)]
        await asyncio.wait_for(arrived.wait(), 10)
        assert await probes.answers(str(other.make_url("/")))
        assert not any(task.done() for task in waiting)
        assert len(held) == 1
        await probes.close()
        await asyncio.gather(*waiting, return_exceptions=True)


@pytest.mark.parametrize(("status", "expected"), [(200, True), (302, True), (401, True), (503, False)])
async def test_an_answer_counts_for_a_second(status: int, expected: bool) -> None:
    asked = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.method)
        return web.Response(status=status, headers={"Location": "/login"})

    app = web.Application()
    app.router.add_get("/", answer)
    clock = Clock()
    probes = Probes(clock)
    async with TestServer(app) as server:
        url = str(server.make_url("/"))
        assert [await probes.answers(url) for _ in range(3)] == [expected] * 3
        assert asked == ["HEAD"]
        clock.now = ANSWER_SECONDS
        assert await probes.answers(url) is expected
        assert asked == ["HEAD", "HEAD"]
        await probes.close()


async def test_an_address_where_nobody_is_does_not_answer() -> None:
    probes = Probes()
    assert not await probes.answers("http://127.0.0.1:1/")
    assert not await probes.answers("no address")
    await probes.close()
