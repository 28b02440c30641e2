from dataclasses import replace
from typing import Any

import pytest

from datalabd.api.environment import EnvironmentConfig
from datalabd.lab import Lab
from datalabd.observed import Observed, Phase, Place, SessionFacts
from datalabd.plan import Plan, Stage, plan
from datalabd.plan.credentials import credentials, login
from datalabd.plan.educates.environment import workshop_environment
from datalabd.plan.educates.sessions import workshop_session
from datalabd.plan.educates.workshop import live_session_policies, workshop
from datalabd.plan.network_policies import workshop_policies
from datalabd.plan.prune import identity
from datalabd.plan.volumes import data_mount, home
from tests.factories import KEYS, environment, lab, running, session_is

COPY = ("Secret", "lab", "lab-datalab")
CREDENTIALS = ("Secret", "team", "lab-datalab")
LOGIN = ("Secret", "team", "lab-login")
DELEGATED = environment(
    auth={"type": "delegated"}, ingress={"domain": "lab.example.org", "protection": {"type": "external"}}
)


def stage(of: Lab, seen: Observed, name: str) -> Stage:
    """One stage of a plan."""
    (found,) = [stage for stage in plan(of, seen, "fresh").stages if stage.name == name]
    return found


def test_everything_in_its_order() -> None:
    here = lab()
    seen = running(here)
    policies = [
        policy | {"metadata": policy["metadata"] | {"namespace": "lab"}} for policy in workshop_policies(here, seen)
    ]
    assert plan(here, seen, "fresh") == Plan(
        (
            Stage("login", keeps=(LOGIN,)),
            Stage("credentials", (credentials(here, KEYS),), keeps=(COPY,)),
            Stage("runtime", (workshop(here, seen), workshop_environment(here))),
            Stage("workshop namespace", (*policies, data_mount(here), home(here, seen, "main"))),
            Stage("session main", (workshop_session(here, seen, "main"),), session="main"),
            Stage(
                "network policies of session main",
                tuple(live_session_policies(here, seen, "main")),
                session="main",
            ),
        )
    )


@pytest.mark.parametrize(
    ("within", "changes", "expected"),
    [
        pytest.param(environment(), {}, Stage("login", keeps=(LOGIN,)), id="it is there"),
        pytest.param(
            environment(),
            {"login": None, "login_exists": False},
            Stage("login", (login(lab(), "fresh"),), create_only=True),
            id="it is made once",
        ),
        pytest.param(
            environment(),
            {"login": None},
            Stage("login", (login(lab(), "fresh"),)),
            id="one without use is written again",
        ),
        pytest.param(DELEGATED, {}, Stage("login"), id="nobody asks"),
        pytest.param(environment(auth={"login": "storage"}), {}, Stage("login"), id="it is made of storage keys"),
    ],
)
def test_login(within: EnvironmentConfig, changes: dict[str, Any], expected: Stage) -> None:
    here = lab(within)
    assert stage(here, running(here, **changes), "login") == expected


def test_credentials_stay_when_their_source_is_gone() -> None:
    here = lab()
    seen = running(here, storage=None, storage_problem="Secret team/lab does not exist")
    assert stage(here, seen, "credentials") == Stage(
        "credentials", waits="Secret team/lab does not exist", keeps=(COPY, CREDENTIALS)
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, None, id="running"),
        pytest.param({"phase": Phase.ABSENT, "place": Place.ABSENT}, None, id="nothing is there"),
        pytest.param({"phase": Phase.PENDING, "place": Place.FOREIGN}, None, id="it is there: kept current"),
        pytest.param({"phase": Phase.FAILED}, None, id="failed: healing is another matter"),
        pytest.param(
            {"runtime_served": False},
            "the cluster does not know the kinds of training.educates.dev/v1beta1; install Educates",
            id="no runtime",
        ),
        pytest.param(
            {"phase": Phase.ABSENT, "place": Place.TERMINATING},
            "namespace lab is still being deleted",
            id="namespace of an earlier lab",
        ),
        pytest.param(
            {"phase": Phase.ABSENT, "place": Place.FOREIGN},
            "namespace lab exists and is not this lab's",
            id="somebody else's namespace",
        ),
        pytest.param({"phase": Phase.DELETING}, "the environment is being deleted", id="being deleted"),
    ],
)
def test_the_runtime_waits_for(changes: dict[str, Any], expected: str | None) -> None:
    here = lab()
    assert stage(here, running(here, **changes), "runtime").waits == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, None, id="running"),
        pytest.param({"phase": Phase.PENDING}, "the lab's environment is not running yet", id="environment"),
        pytest.param({"place": Place.FOREIGN}, "the lab's environment is not running yet", id="its own namespace"),
    ],
)
def test_the_workshop_namespace_waits_for(changes: dict[str, Any], expected: str | None) -> None:
    here = lab()
    assert stage(here, running(here, **changes), "workshop namespace").waits == expected


SESSIONS = [{"name": "a"}, {"name": "b", "state": "stopped"}, {"name": "c"}]


def test_every_declared_session_has_a_home() -> None:
    here = lab(sessions=SESSIONS, data={"enabled": False})
    objects = stage(here, running(here), "workshop namespace").objects
    assert [obj for obj in objects if obj["kind"] == "PersistentVolumeClaim"] == [
        home(here, running(here), name) for name in "abc"
    ]


def test_only_started_sessions_run() -> None:
    here = lab(sessions=SESSIONS)
    assert [(stage.name, stage.session) for stage in plan(here, running(here), "fresh").stages[4:]] == [
        ("session a", "a"),
        ("network policies of session a", "a"),
        ("session c", "c"),
        ("network policies of session c", "c"),
    ]


def test_a_session_waits_for_itself_alone() -> None:
    here = lab(sessions=SESSIONS)
    seen = session_is(running(here), "a", phase=Phase.DELETING)
    assert [stage.waits for stage in plan(here, seen, "fresh").stages[4:]] == [
        "session a is being deleted",
        "session a is not running yet",
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("vcluster", "changes", "expected"),
    [
        pytest.param(False, {}, None, id="running"),
        pytest.param(True, {}, None, id="running with a virtual cluster"),
        pytest.param(False, {"phase": Phase.PENDING}, "session main is not running yet", id="pending"),
        pytest.param(
            False,
            {"places": {"lab-main": Place.TERMINATING}},
            "session main is not running yet",
            id="its namespace is not there",
        ),
        pytest.param(
            True,
            {"places": {"lab-main": Place.OURS, "lab-main-vc": Place.ABSENT}},
            "session main is not running yet",
            id="the namespace of its virtual cluster is not there",
        ),
    ],
)
def test_policies_of_a_session_wait_for(vcluster: bool, changes: dict[str, Any], expected: str | None) -> None:
    here = lab(vcluster=vcluster)
    seen = session_is(running(here), **changes)
    assert stage(here, seen, "network policies of session main").waits == expected


def test_policies_of_a_session_never_seen_wait() -> None:
    here = lab()
    seen = running(here, sessions={})
    assert stage(here, seen, "network policies of session main").waits == "session main is not running yet"


def test_wanted_is_all_that_is_planned_or_kept_whatever_it_waits_for() -> None:
    here = lab()
    well = running(here)
    made = {identity(obj) for stage in plan(here, well, "fresh").stages for obj in stage.objects}
    nothing = replace(
        well,
        storage=None,
        phase=Phase.PENDING,
        place=Place.ABSENT,
        sessions={"main": SessionFacts()},
        credentials_exist=False,
    )
    assert plan(here, nothing, "fresh").wanted == made | {COPY, CREDENTIALS, LOGIN}


def test_what_is_no_longer_declared_is_not_wanted() -> None:
    here = lab()
    less = lab(sessions=[], data={"enabled": False})
    gone = plan(here, running(here), "fresh").wanted - plan(less, running(less), "fresh").wanted
    assert {(kind, name) for kind, _, name in gone if kind != "NetworkPolicy"} == {
        ("WorkshopSession", "lab-main"),
        ("PersistentVolumeClaim", "lab-datalab"),
        ("PersistentVolumeClaim", "lab-main-persistent"),
    }


def test_a_stopped_session_keeps_its_home() -> None:
    here = lab(sessions=[{"name": "main", "state": "stopped"}])
    assert ("PersistentVolumeClaim", "lab", "lab-main-persistent") in plan(here, running(here), "fresh").wanted


def test_nothing_seen_is_no_obstacle_to_planning() -> None:
    here = lab(sessions=SESSIONS)
    assert [stage.name for stage in plan(here, Observed(), "fresh").stages if stage.waits is None] == [
        "login",
        "runtime",
    ]
