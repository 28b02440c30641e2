"""What writers may do, as an API server says that is asked by one client."""

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from datalabd.errors import Unavailable
from datalabd.kube.client import Client
from datalabd.serving import Room
from tests.kube.scripted import Reply, Scripted, serve, status
from webhooks import authorizer
from webhooks.authorizer import CACHE_MAX, CACHE_SECONDS, Authorizer
from webhooks.lookups import Lookups

RIGHT = ("route", "pkg.internal", "environmentconfigs")
ANN = {"username": "ann", "uid": "1", "groups": ["dev", "system:authenticated"], "extra": {"scopes": ["a"]}}


class Clock:
    """Time that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def lookups(client: Client) -> Lookups:
    return Lookups(client, Room(1, seconds=5), "")


def answer(*, allowed: bool, bodies: list[Any] | None = None) -> Reply:
    async def reply(request: web.Request) -> web.StreamResponse:
        if bodies is not None:
            bodies.append(json.loads(await request.text()))
        return await status(201, status={"allowed": allowed})(request)

    return reply


async def test_the_whole_user_is_asked_about(tmp_path: Path) -> None:
    bodies: list[Any] = []
    async with serve(Scripted(answer(allowed=True, bodies=bodies)), tmp_path) as client:
        assert await Authorizer().allows(lookups(client), ANN, RIGHT)
    assert bodies == [
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "metadata": {},
            "spec": {
                "user": "ann",
                "uid": "1",
                "groups": ["dev", "system:authenticated"],
                "extra": {"scopes": ["a"]},
                "resourceAttributes": {"verb": "route", "group": "pkg.internal", "resource": "environmentconfigs"},
            },
        }
    ]


@pytest.mark.parametrize("allowed", [True, False])
async def test_an_answer_counts_for_a_moment(tmp_path: Path, allowed: bool) -> None:
    server, clock = Scripted(answer(allowed=allowed), answer(allowed=not allowed)), Clock()
    async with serve(server, tmp_path) as client:
        asked = Authorizer(clock)
        assert await asked.allows(lookups(client), ANN, RIGHT) is allowed
        clock.now += CACHE_SECONDS - 0.1
        assert await asked.allows(lookups(client), dict(reversed(ANN.items())), RIGHT) is allowed
        assert len(server.requests) == 1
        clock.now += 0.1
        assert await asked.allows(lookups(client), ANN, RIGHT) is not allowed


async def test_users_and_rights_are_told_apart(tmp_path: Path) -> None:
    server = Scripted(*(answer(allowed=allowed) for allowed in (True, False, False)))
    async with serve(server, tmp_path) as client:
        asked = Authorizer()
        assert await asked.allows(lookups(client), ANN, RIGHT)
        assert not await asked.allows(lookups(client), ANN | {"groups": ["dev"]}, RIGHT)
        assert not await asked.allows(lookups(client), ANN, ("create", "training.educates.dev", "workshopsessions"))


async def test_so_many_answers_are_kept_at_most(tmp_path: Path) -> None:
    server, clock = Scripted(*(answer(allowed=True) for _ in range(CACHE_MAX + 2))), Clock()
    async with serve(server, tmp_path) as client:
        asked = Authorizer(clock)
        for number in range(CACHE_MAX + 1):
            await asked.allows(lookups(client), {"username": f"user-{number}"}, RIGHT)
        await asked.allows(lookups(client), {"username": f"user-{CACHE_MAX}"}, RIGHT)
        assert len(server.requests) == CACHE_MAX + 1
        await asked.allows(lookups(client), {"username": "user-0"}, RIGHT)  # the oldest had to go
        assert len(server.requests) == CACHE_MAX + 2


async def test_an_error_is_no_answer(tmp_path: Path) -> None:
    server = Scripted(status(500), answer(allowed=True))
    async with serve(server, tmp_path) as client:
        asked = Authorizer()
        with pytest.raises(Unavailable):
            await asked.allows(lookups(client), ANN, RIGHT)
        assert await asked.allows(lookups(client), ANN, RIGHT)


async def test_silence_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authorizer, "TIMEOUT_SECONDS", 0.05)
    async with serve(Scripted(), tmp_path) as client:
        with pytest.raises(Unavailable, match="did not say in time"):
            await Authorizer().allows(lookups(client), ANN, RIGHT)
