"""Events of a workspace: asked for once a second at most, and told without names to whom may not see members."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, cast

import pytest
from aiohttp.test_utils import make_mocked_request
from aiohttp.web import Response

from datalabd.api.meta import Manifest
from datalabd.kube.client import Client
from tests.workspaces.objects import TODAY, datalab, storage
from workspaces.activities import MEMORY_SECONDS, Activities
from workspaces.call import REQUEST_ID, Call
from workspaces.claims import Identity
from workspaces.handlers import reading
from workspaces.identity import CALLER
from workspaces.operations import BY_NAME
from workspaces.permissions import ROLE_PERMISSIONS, Role
from workspaces.reads import Pieces

OBJECTS = storage(), datalab()


def event(kind: str, note: str, uid: str = "uid-of-lab-ws-a") -> Manifest:
    about = {"kind": kind, "name": "ws-a", "uid": uid}
    return {"type": "Normal", "reason": "ChangedByRequest", "note": note, "regarding": about, "eventTime": TODAY}


def row(note: str) -> dict[str, Any]:
    about = {"reason": "ChangedByRequest", "message": note, "object": "Datalab", "count": 1}
    return {"time": TODAY, "type": "Normal"} | about


class Lists:
    """Counts what is asked of an API server; only `list` is ever called."""

    asked = 0

    async def list(self, *_: object, keep: Callable[[Manifest], Manifest], **__: object) -> tuple[list[Manifest], str]:
        self.asked += 1
        await asyncio.sleep(0)
        earlier = [event("Datalab", "member ann", uid) for uid in ("uid-of-an-earlier-one", "")]
        return [keep(one) for one in (event("Datalab", "member bob"), event("Pod", "other"), *earlier)], ""


async def test_events_are_asked_for_once_a_second_at_most() -> None:
    lists, now = Lists(), [0.0]
    activities = Activities(cast(Client, lists), "workspace", lambda: now[0])
    assert await asyncio.gather(*(activities.of("ws-a", OBJECTS) for _ in range(20))) == [[row("member bob")]] * 20
    assert (await activities.of("ws-a", OBJECTS), lists.asked) == ([row("member bob")], 1)
    now[0] = MEMORY_SECONDS
    await activities.of("ws-a", OBJECTS)
    await activities.of("ws-b", OBJECTS)
    assert lists.asked == 3
    await activities.close()


@pytest.mark.parametrize(("role", "note"), [(Role.API, ""), (Role.ACCESS, "member bob"), (Role.ADMIN, "member bob")])
async def test_notes_are_told_to_who_may_see_members(role: Role, note: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "known", lambda _: Pieces(*OBJECTS, lambda _: None))
    services = type("Serving", (), {"activities": Activities(cast(Client, Lists()), "workspace")})()
    request = make_mocked_request("GET", "/workspaces/ws-a/activity")
    asking = {"request": request, "query": request.query, "workspace": "ws-a"}
    call = type("Asking", (), asking | {"services": services, "permissions": ROLE_PERMISSIONS[role]})()
    answer = await reading.list_activity(cast(Call, call))
    assert json.loads(cast(bytes, cast(Response, answer).body)) == {"items": [row(note)]}


def test_a_change_says_whom_its_body_is_about() -> None:
    request = make_mocked_request("PUT", "/workspaces/ws-a/owner", match_info={"w": "ws-a"})
    request[CALLER], request[REQUEST_ID] = Identity("joe"), "id"
    call = Call.__new__(Call)
    call.operation, call.request, call.workspace = BY_NAME["hand_over"], request, "ws-a"
    call.parts, call.about = request.match_info, {"member": "bob"}
    assert (call.act.operation, call.act.what) == ("hand_over", {"member": "bob"})
