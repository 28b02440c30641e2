"""What is told of a request to whoever sends it, and what it may ask."""

import json
from typing import cast

import pytest
from aiohttp.test_utils import make_mocked_request

from workspaces.call import Call
from workspaces.handlers import reading, system
from workspaces.identity import ORIGIN
from workspaces.problems import Problem
from workspaces.proxies import Origin

PLAIN = {"host": "ws.example.org", "user-agent": "curl", "x-forwarded-for": "192.0.2.1", "sec-fetch-site": "none"}
CREDENTIALS = (
    *("authorization", "cookie", "x-goog-iap-jwt-assertion", "x-api-key", "x-userinfo", "x-forwarded-uri"),
    *("cf-authorization", "referer"),
)


async def test_only_headers_that_hold_no_credentials_are_shown() -> None:
    request = make_mocked_request("GET", "/debug", headers=PLAIN | dict.fromkeys(CREDENTIALS, "sekret"))
    request[ORIGIN] = Origin("https", "ws.example.org")
    call = type("Asking", (), {"request": request, "url": request[ORIGIN].url})()
    answer = await system.debug(cast(Call, call))
    assert json.loads(cast(bytes, answer.body)) == {  # type: ignore[attr-defined]  # it has one
        "scheme": "https",
        "baseurl": "https://ws.example.org/",
        "headers": PLAIN | dict.fromkeys(CREDENTIALS, "<redacted>"),
    }


async def test_a_status_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    request = make_mocked_request("GET", "/workspaces?status=Ready")
    call = type("Asking", (), {"request": request, "query": request.query})()
    with pytest.raises(Problem) as caught:
        await reading.list_workspaces(cast(Call, call))
    expected = "Value error, must be one of ready, provisioning"
    assert (caught.value.status, caught.value.detail) == (
        422,
        [{"type": "value_error", "loc": ["query", "status"], "msg": expected, "input": "Ready"}],
    )
