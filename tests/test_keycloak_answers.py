"""Whatever a Keycloak answers, or what stands in its place: a pass ends well, or with an error that says of whom.

What plays Keycloak here answers as Keycloak 26 does, but for what a test alters; a real one cannot be made to.
"""

import asyncio
import contextlib
import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from datalabd.api.meta import REALM_MARK, NamespacedName
from datalabd.errors import KeycloakError, KeycloakUnavailable
from datalabd.keycloak import Access, Converged, Keycloak
from datalabd.plan.realm import realm_state
from tests.factories import environment, lab
from tests.plan.test_live_objects import GONE, ODD, altered, places

OWNER = NamespacedName("team", "lab")
STATE = realm_state(lab(environment(iam={"realm": "labs"}), users=["ann", "bob"]))
ROLES = [{"id": f"role-{name}", "name": name} for name in STATE.roles]
GROUP = {
    "id": "group",
    "name": "lab",
    "attributes": {REALM_MARK: ["team/lab"]},
    "clientRoles": {"lab": ["user"], "elsewhere": ["reader"]},
    "realmRoles": ["everybody"],
}
CLIENT = {
    "id": "client",
    "clientId": "lab",
    "attributes": {REALM_MARK: "team/lab"},
    "redirectUris": ["https://old.example.org/*"],
    "protocolMappers": [
        {"id": "mapper", "name": "lab", "protocolMapper": "oidc-audience-mapper", "config": {"a": "b"}}
    ],
}
ANSWERS: dict[str, Any] = {
    r"clients/[^/]+/service-account-user": {"id": "account", "username": "service-account-lab"},
    r"clients/[^/]+/scope-mappings/clients/[^/]+": [],
    r"clients/[^/]+/roles": ROLES,
    r"clients/[^/]+": CLIENT,
    r"clients": [{"id": "client", "clientId": "lab"}],
    r"group-by-path/.*": GROUP,
    r"groups/[^/]+/members": [{"id": "ann", "username": "ann"}, {"id": "eve", "username": "eve"}],
    r"groups/[^/]+/role-mappings/.*": ROLES,
    r"users/[^/]+/role-mappings/clients/[^/]+": ROLES,
    r"users": [{"id": "bob", "username": "bob"}],
}
"""By the path below that of the realm."""


class Odd:
    """What plays Keycloak."""

    def __init__(self) -> None:
        self.answers = ANSWERS
        self.writes = 0

    async def token(self, _: web.Request) -> web.Response:
        """A token for everybody."""
        return web.json_response({"access_token": "x", "expires_in": 300, "token_type": "Bearer"})

    async def answer(self, request: web.Request) -> web.Response:
        """What the test has it say."""
        asked = request.match_info["path"]
        if request.method != "GET":
            self.writes += 1
            makes = request.method == "POST" and re.fullmatch(r"clients|groups|clients/[^/]+/roles", asked)
            headers = {"Location": f"{request.url}/made"} if makes else {}
            return web.Response(status=201 if makes else 204, headers=headers)
        found = next(answer for pattern, answer in self.answers.items() if re.fullmatch(pattern, asked))
        return web.Response(text=json.dumps(found), content_type="application/json")


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """A loop for all examples of a test."""
    with asyncio.Runner() as made:
        yield made


@pytest.fixture(scope="module")
def odd() -> Odd:
    return Odd()


@pytest.fixture(scope="module")
def keycloak(runner: asyncio.Runner, odd: Odd) -> Iterator[Keycloak]:
    """A client of what plays Keycloak."""
    app = web.Application()
    app.router.add_post("/realms/labs/protocol/openid-connect/token", odd.token)
    app.router.add_route("*", "/admin/realms/labs/{path:.*}", odd.answer)

    async def start() -> tuple[TestServer, Keycloak]:
        server = TestServer(app)
        await server.start_server()
        return server, Keycloak(Access(str(server.make_url("")), "labs", "manager", "manager-secret", None))

    async def stop(server: TestServer, client: Keycloak) -> None:
        await client.aclose()
        await server.close()

    started = runner.run(start())
    yield started[1]
    runner.run(stop(*started))


def converged(runner: asyncio.Runner, keycloak: Keycloak) -> Converged:
    return runner.run(keycloak.converge(STATE, "secret", OWNER))


def test_what_plays_keycloak_is_understood(runner: asyncio.Runner, keycloak: Keycloak, odd: Odd) -> None:
    odd.answers, odd.writes = ANSWERS, 0
    assert "members of group lab" in converged(runner, keycloak).changed
    assert odd.writes > 0


@st.composite
def alterations(draw: st.DrawFn) -> dict[str, Any]:
    """The answers, one to three of which have something odd at some place, or as a whole."""
    answers = copy.deepcopy(ANSWERS)
    for _ in range(draw(st.integers(1, 3))):
        pattern = draw(st.sampled_from(sorted(answers)))
        whole = {"answer": answers[pattern]}
        path = draw(st.sampled_from(list(places(whole))))
        answers[pattern] = altered(whole, path, draw(st.one_of(ODD, st.just(GONE)))).get("answer")
    return answers


@seed(20261130)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(answers=alterations())
def test_a_pass_ends_well_or_says_of_whom(
    runner: asyncio.Runner, keycloak: Keycloak, odd: Odd, answers: dict[str, Any]
) -> None:
    odd.answers = answers
    with contextlib.suppress(KeycloakError):
        converged(runner, keycloak)


@pytest.mark.parametrize(
    ("pattern", "answer"),
    [
        pytest.param(r"clients", {"clientId": "lab"}, id="an object for a list"),
        pytest.param(r"clients/[^/]+", [CLIENT], id="a list for an object"),
        pytest.param(r"clients/[^/]+/roles", [{"id": "x"}], id="a role without a name"),
        pytest.param(r"clients/[^/]+/roles", [None], id="null for a role"),
        pytest.param(r"group-by-path/.*", {"name": "lab"}, id="a group without an id"),
        pytest.param(r"groups/[^/]+/members", [{"id": 1, "username": "ann"}], id="a number for an id"),
        pytest.param(r"users", "nobody", id="a text for a list"),
    ],
)
def test_an_answer_of_another_form_is_not_keycloaks(
    runner: asyncio.Runner, keycloak: Keycloak, odd: Odd, pattern: str, answer: Any
) -> None:
    odd.answers = ANSWERS | {pattern: answer}
    with pytest.raises(KeycloakUnavailable, match="is not Keycloak"):
        converged(runner, keycloak)
