"""What is deleted to be made anew, and what only seems to need it: against an API server that says what it is told."""

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from controllers.datalab import DatalabReconciler
from controllers.identity import IdentityReconciler
from controllers.workqueue import Workqueue
from datalabd.api.meta import Manifest, NamespacedName
from datalabd.errors import EnvironmentInvalid
from datalabd.kube.cache import Cache
from datalabd.kube.events import Recorder
from datalabd.kube.informers import Informers
from datalabd.observed import Phase
from datalabd.plan.educates.healing import Delete
from datalabd.status import refused
from tests.factories import claim, lab, running, session_is
from tests.kube.scripted import Scripted, listing, serve, text

WEDGED = Delete("WorkshopSession", "lab-main", "uid-main", "it does not come up")


def session(phase: str, **metadata: Any) -> Manifest:
    return {"metadata": {"name": "lab-main", "uid": "uid-main"} | metadata, "status": {"educates": {"phase": phase}}}


DEPLOYMENT: Manifest = {"metadata": {"name": "lab-main"}}


@pytest.mark.parametrize(
    ("seen", "answers", "deleted"),
    [
        pytest.param(Phase.PENDING, [[session("Pending")]], True, id="it is Pending still"),
        pytest.param(Phase.PENDING, [[session("Running")]], False, id="it runs by now"),
        pytest.param(Phase.PENDING, [[]], False, id="it is gone by now"),
        pytest.param(Phase.FAILED, [[session("Failed")]], True, id="it failed"),
        pytest.param(Phase.RUNNING, [[session("Running")], []], True, id="its Deployment is gone"),
        pytest.param(Phase.RUNNING, [[session("Running")], [DEPLOYMENT]], False, id="its Deployment is there"),
        pytest.param(
            Phase.RUNNING,
            [[session("Running")], [{"metadata": {"name": "lab-main", "deletionTimestamp": "2026-03-01T12:00:00Z"}}]],
            True,
            id="its Deployment is going",
        ),
        pytest.param(
            Phase.RUNNING,
            [[session("Running", deletionTimestamp="2026-03-01T12:00:00Z")]],
            False,
            id="it is being deleted by now",
        ),
    ],
)
async def test_a_session_goes_only_if_the_api_server_agrees(
    tmp_path: Path, seen: Phase, answers: list[list[Manifest]], deleted: bool
) -> None:
    here = lab()
    server = Scripted(*(listing("1", *items) for items in answers), text(200, "{}"))
    async with serve(server, tmp_path) as client:
        cache = Cache(Informers(client))
        identity = IdentityReconciler(Workqueue("identity"), lambda _: None)
        reconciler = DatalabReconciler(client, cache, Recorder(client), identity)
        await reconciler._heal(here, session_is(running(here), phase=seen), [WEDGED])
    asked = [request.method for request in server.requests]
    assert asked == ["GET"] * len(answers) + ["DELETE"] * deleted


async def test_a_lab_that_waits_for_what_may_come_is_looked_at_when_that_is_overdue(tmp_path: Path) -> None:
    written = claim()
    missing = EnvironmentInvalid("courses", "EnvironmentNotFound", "no such environment")
    wanted = refused(written, missing, datetime.datetime.now(datetime.UTC))
    asked: list[tuple[NamespacedName, float]] = []
    server = Scripted(text(200, json.dumps(written | {"status": wanted})), text(201, "{}"))
    async with serve(server, tmp_path) as client:
        cache = Cache(Informers(client))
        identity = IdentityReconciler(Workqueue("identity"), lambda _: None)
        reconciler = DatalabReconciler(client, cache, Recorder(client), identity, lambda *wait: asked.append(wait))
        await reconciler._write_status(written, wanted)
    news, overdue = 60.0, 120.0
    assert [(key, round(seconds, -1)) for key, seconds in asked] == [(lab().key, news), (lab().key, overdue)]
