from typing import Any

import pytest

from datalabd.observed import Observed, Phase, Place
from datalabd.plan.educates.content import workshop_config
from datalabd.plan.educates.healing import (
    NO_DEPLOYMENT_SECONDS,
    PENDING_SECONDS,
    WEDGED_SECONDS,
    Delete,
    Patch,
    Repair,
    Stuck,
    look_again,
    repairs,
)
from datalabd.plan.educates.workshop import workshop_spec
from datalabd.stores import YOUNG_SECONDS, DatabaseFacts
from tests.factories import lab, running, secret, session_is

HERE = lab()
WELL = running(HERE)
OWN = {"lab-main": Place.OURS, "lab-main-vc": Place.ABSENT}
NO_NAMESPACE = {"lab-main": Place.ABSENT, "lab-main-vc": Place.ABSENT}


def seen(session: dict[str, Any] | None = None, **changes: Any) -> Observed:
    """A lab where all is well but for this."""
    return session_is(running(HERE, **changes), **session or {})


GONE = "namespace lab is gone, and what was in it: the lab begins anew"


def environment_again(why: str) -> list[Repair]:
    """The environment is made anew."""
    return [Delete("WorkshopEnvironment", "lab", "environment-uid", why)]


def session_again(why: str) -> list[Repair]:
    """The session is made anew."""
    return [Delete("WorkshopSession", "lab-main", "main-uid", why)]


FAILED: dict[str, Any] = {"phase": Phase.FAILED, "message": "object refused"}


@pytest.mark.parametrize(
    ("observed", "expected"),
    [
        pytest.param(WELL, [], id="all is well"),
        pytest.param(Observed(), [], id="nothing is there"),
        pytest.param(seen(phase=Phase.PENDING), [], id="environment on its way"),
        pytest.param(seen(phase=Phase.DELETING, place=Place.ABSENT), [], id="environment being deleted"),
        pytest.param(
            seen(place=Place.ABSENT),
            environment_again(GONE),
            id="running without its namespace",
        ),
        pytest.param(seen(place=Place.TERMINATING), [], id="its namespace is being deleted"),
        pytest.param(
            seen(**FAILED, place=Place.ABSENT),
            environment_again("it failed: object refused"),
            id="failed without namespace",
        ),
        pytest.param(
            seen(**FAILED), environment_again("it failed: object refused"), id="failed with nothing durable in it"
        ),
        pytest.param(seen(phase=Phase.FAILED), environment_again("it failed: without a message"), id="failed silently"),
        pytest.param(
            seen(**FAILED, holds_durable=True),
            [
                Stuck(
                    "the environment failed (object refused) and its namespace lab holds volumes; "
                    "save what is needed, then delete WorkshopEnvironment lab"
                )
            ],
            id="failed with something durable in it",
        ),
        pytest.param(seen(**FAILED, place=Place.FOREIGN), [], id="failed, the namespace is somebody else's"),
        pytest.param(seen(**FAILED, place=Place.TERMINATING), [], id="failed, the namespace is going"),
        pytest.param(
            seen({"phase": Phase.FAILED}, place=Place.ABSENT),
            environment_again(GONE),
            id="the environment before its sessions",
        ),
    ],
)
def test_repairs_of_the_environment(observed: Observed, expected: list[Repair]) -> None:
    assert repairs(HERE, observed) == expected


def test_an_outdated_copy_of_the_workshop_is_replaced() -> None:
    assert repairs(HERE, running(HERE, workshop_in_use={"title": "old"})) == [
        Patch(
            "WorkshopEnvironment",
            "",
            "lab",
            (
                {"op": "test", "path": "/metadata/uid", "value": "environment-uid"},
                {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
                {"op": "replace", "path": "/status/educates/workshop/spec", "value": WELL.workshop_spec},
            ),
            "new sessions are to follow the changed claim",
        )
    ]


@pytest.mark.parametrize(
    "observed",
    [
        pytest.param(seen(workshop_in_use={"title": "old"}, phase=Phase.PENDING), id="the environment does not run"),
        pytest.param(seen(workshop_in_use=None), id="there is no copy to replace"),
        pytest.param(seen(workshop_spec=None), id="there is no Workshop"),
    ],
)
def test_the_copy_is_left_alone(observed: Observed) -> None:
    assert repairs(HERE, observed) == []


CONFIG = secret("workshop-config", "lab")
CONFIG["metadata"] |= {"uid": "config-uid", "resourceVersion": "9"}


def test_outdated_contents_are_replaced() -> None:
    assert repairs(HERE, running(HERE, workshop_config=CONFIG)) == [
        Patch(
            "Secret",
            "lab",
            "workshop-config",
            (
                {"op": "test", "path": "/metadata/uid", "value": "config-uid"},
                {"op": "test", "path": "/metadata/resourceVersion", "value": "9"},
                {"op": "replace", "path": "/data", "value": workshop_config(HERE, workshop_spec(HERE, WELL))},
            ),
            "new sessions are to follow the changed claim",
        )
    ]


CURRENT = CONFIG | {"data": workshop_config(HERE, workshop_spec(HERE, WELL))}


@pytest.mark.parametrize(
    "observed",
    [
        pytest.param(seen(workshop_config=CURRENT), id="they are current"),
        pytest.param(seen(workshop_config=None), id="there are none"),
        pytest.param(seen(workshop_config=CONFIG, phase=Phase.PENDING), id="the environment does not run"),
    ],
)
def test_the_contents_are_left_alone(observed: Observed) -> None:
    assert repairs(HERE, observed) == []


def test_contents_do_not_show() -> None:
    (patch,) = repairs(HERE, running(HERE, workshop_config=CONFIG))
    assert "workshop.yaml" not in repr(patch)


PENDING = {"phase": Phase.PENDING, "available": False, "has_deployment": False}
BARE = {"has_deployment": False, "available": False}


@pytest.mark.parametrize(
    ("session", "expected"),
    [
        pytest.param({"available": False}, [], id="its pod is not ready: that is its own affair"),
        pytest.param({"phase": Phase.FAILED, "message": "no quota"}, session_again("it failed: no quota"), id="failed"),
        pytest.param(
            {"phase": Phase.FAILED},
            session_again("it failed: without a message, as when its Ingress is refused"),
            id="failed silently",
        ),
        pytest.param(
            PENDING | {"places": NO_NAMESPACE, "age_seconds": PENDING_SECONDS - 1}, [], id="pending, not long"
        ),
        pytest.param(
            PENDING | {"places": NO_NAMESPACE, "age_seconds": PENDING_SECONDS},
            session_again(f"it is Pending for more than {PENDING_SECONDS:.0f} s"),
            id="pending, long",
        ),
        pytest.param(
            PENDING | {"places": OWN, "age_seconds": WEDGED_SECONDS - 1}, [], id="pending with a namespace, not long"
        ),
        pytest.param(
            PENDING | {"places": OWN, "age_seconds": WEDGED_SECONDS},
            session_again(f"it is Pending for more than {WEDGED_SECONDS:.0f} s"),
            id="pending with a namespace",
        ),
        pytest.param(BARE | {"age_seconds": NO_DEPLOYMENT_SECONDS - 1}, [], id="running without Deployment, not long"),
        pytest.param(
            BARE | {"age_seconds": NO_DEPLOYMENT_SECONDS},
            session_again("its Deployment is gone"),
            id="running without Deployment",
        ),
        pytest.param({"phase": Phase.DELETING}, [], id="being deleted"),
        pytest.param({"phase": Phase.ABSENT}, [], id="absent"),
    ],
)
def test_repairs_of_a_session(session: dict[str, Any], expected: list[Repair]) -> None:
    assert repairs(HERE, seen(session)) == expected


def test_a_session_that_is_to_be_stopped_is_not_repaired() -> None:
    here = lab(sessions=[{"name": "main", "state": "stopped"}])
    assert repairs(here, running(here, sessions={"main": WELL.sessions["main"]})) == []


def test_every_wedged_session_is_repaired() -> None:
    here = lab(sessions=[{"name": "a"}, {"name": "b"}, {"name": "c"}])
    observed = session_is(session_is(running(here), "a", phase=Phase.FAILED), "c", phase=Phase.FAILED)
    assert [repair.name for repair in repairs(here, observed) if isinstance(repair, Delete)] == ["lab-a", "lab-c"]


def test_the_copy_is_replaced_while_sessions_are_repaired() -> None:
    found = repairs(HERE, seen({"phase": Phase.FAILED}, workshop_in_use={"title": "old"}))
    assert [type(repair) for repair in found] == [Patch, Delete]


@pytest.mark.parametrize(
    ("session", "expected"),
    [
        pytest.param({}, None, id="all is well"),
        pytest.param({"phase": Phase.FAILED}, None, id="failed: there is nothing to wait for"),
        pytest.param(
            PENDING | {"places": NO_NAMESPACE, "age_seconds": 10.0},
            WEDGED_SECONDS - 10,
            id="pending: its namespace may have come by then",
        ),
        pytest.param(
            PENDING | {"places": NO_NAMESPACE, "age_seconds": 100.0}, PENDING_SECONDS - 100, id="pending for long"
        ),
        pytest.param(
            PENDING | {"places": OWN, "age_seconds": 10.0}, WEDGED_SECONDS - 10, id="pending with a namespace"
        ),
        pytest.param(BARE | {"age_seconds": 10.0}, NO_DEPLOYMENT_SECONDS - 10, id="running without Deployment"),
        pytest.param(PENDING | {"places": OWN, "age_seconds": 500.0}, 1.0, id="overdue"),
    ],
)
def test_look_again(session: dict[str, Any], expected: float | None) -> None:
    assert look_again(HERE, seen(session)) == expected


def test_look_again_at_the_first_of_several() -> None:
    here = lab(sessions=[{"name": "a"}, {"name": "b"}])
    pending = PENDING | {"places": NO_NAMESPACE}
    observed = session_is(session_is(running(here), "a", **pending, age_seconds=10.0), "b", **pending, age_seconds=20.0)
    assert look_again(here, observed) == WEDGED_SECONDS - 20


def test_nothing_is_awaited_of_a_session_not_seen_yet() -> None:
    assert look_again(HERE, running(HERE, sessions={})) is None


DATABASE = {"names": ["dev"], "storage": "1Gi", "backupStorage": "1Gi"}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param(DatabaseFacts("no login yet", age_seconds=20.0), YOUNG_SECONDS - 20, id="young"),
        pytest.param(DatabaseFacts("no login yet", age_seconds=YOUNG_SECONDS), None, id="not young any more"),
        pytest.param(DatabaseFacts("it is not created yet"), None, id="not there"),
    ],
)
def test_look_again_at_a_database_server(facts: DatabaseFacts, expected: float | None) -> None:
    """Sessions start without its login when it takes too long."""
    here = lab(databases={"pg0": DATABASE})
    assert look_again(here, running(here, databases={"pg0": facts})) == expected
