import datetime
from typing import Any

import pytest

from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import Manifest
from datalabd.api.v1beta2 import Datalab
from datalabd.errors import ClaimInvalid, Conflict, DatalabdError, EnvironmentInvalid, Foreign
from datalabd.lab import Lab
from datalabd.observed import Observed, Phase, Place, SessionFacts
from datalabd.plan import plan
from datalabd.plan.educates.healing import repairs
from datalabd.status import deleting, refused, status
from tests.factories import NOW, claim, environment, lab, running, session_is

STAMP = "2026-03-01T12:00:00Z"
EARLIER = "2026-02-01T00:00:00Z"
LATER = NOW + datetime.timedelta(hours=1)
HERE = lab()
WELL = running(HERE)
DELEGATED = environment(auth={"type": "delegated"})


def condition(kind: str, value: str, reason: str, message: str = "", since: str = STAMP, of: int = 3) -> Manifest:
    """A condition as stored."""
    return {
        "type": kind,
        "status": value,
        "reason": reason,
        "message": message,
        "observedGeneration": of,
        "lastTransitionTime": since,
    }


def of(
    here: Lab,
    seen: Observed,
    problem: DatalabdError | None = None,
    before: Manifest | None = None,
    now: datetime.datetime = NOW,
) -> Manifest:
    """The status of a lab; `before` is the one it had."""
    written = claim() | ({"status": before} if before else {})
    return status(written, here, seen, plan(here, seen, "fresh"), repairs(here, seen), problem, now)


def said(found: Manifest) -> dict[str, tuple[str, str, str]]:
    """Conditions by type: status, reason, message."""
    return {item["type"]: (item["status"], item["reason"], item["message"]) for item in found["conditions"]}


NO_KEYCLOAK = "environment courses names no Keycloak (iam.url)"


def test_all_is_well() -> None:
    assert of(HERE, WELL) == {
        "observedGeneration": 3,
        "conditions": [
            condition("Ready", "True", "Available", "the lab can be used"),
            condition("Synced", "True", "ReconcileSuccess"),
            condition("StorageReady", "True", "Available"),
            condition("RuntimeReady", "True", "Running"),
            condition("SessionsReady", "True", "Running"),
            condition("DatabasesReady", "True", "NoneDeclared"),
            condition("StoresReady", "True", "NoneDeclared"),
            condition("IdentityReady", "Unknown", "Disabled", NO_KEYCLOAK),
        ],
        "environment": "courses",
        "started": "1/1",
        "sessions": {
            "main": {"state": "started", "phase": "Running", "url": "https://lab-main.lab.example.org"},
        },
        "effective": HERE.effective(),
    }


def test_nothing_is_there_yet() -> None:
    assert of(HERE, Observed(storage=WELL.storage)) == {
        "observedGeneration": 3,
        "conditions": [
            condition("Ready", "False", "Creating", "the lab's credentials are being written"),
            condition("Synced", "True", "ReconcileSuccess"),
            condition("StorageReady", "False", "Creating", "the lab's credentials are being written"),
            condition("RuntimeReady", "False", "Creating", "the lab's environment is being set up"),
            condition("SessionsReady", "False", "Starting", "session main: the session login does not exist yet"),
            condition("DatabasesReady", "True", "NoneDeclared"),
            condition("StoresReady", "True", "NoneDeclared"),
            condition("IdentityReady", "Unknown", "Disabled", NO_KEYCLOAK),
            condition("Reconciling", "True", "Creating", "the lab's credentials are being written"),
        ],
        "environment": "courses",
        "started": "0/1",
        "sessions": {"main": {"state": "started", "message": "the session login does not exist yet"}},
        "effective": HERE.effective(),
    }


STORAGE_PROBLEM = {"storage": None, "storage_problem": "Secret team/lab does not exist"}
FAILED: dict[str, Any] = {"phase": Phase.FAILED, "message": "no such object"}


@pytest.mark.parametrize(
    ("changes", "kind", "expected", "abnormal"),
    [
        pytest.param(
            STORAGE_PROBLEM | {"credentials_exist": False},
            "StorageReady",
            ("StorageSecret", "Secret team/lab does not exist"),
            "Stalled",
            id="no storage Secret",
        ),
        pytest.param(
            STORAGE_PROBLEM,
            "StorageReady",
            ("StorageSecret", "Secret team/lab does not exist; sessions go on with the credentials known before"),
            "Stalled",
            id="the storage Secret is gone",
        ),
        pytest.param(
            {"credentials_exist": False},
            "StorageReady",
            ("Creating", "the lab's credentials are being written"),
            "Reconciling",
            id="credentials to be written",
        ),
        pytest.param(
            {"phase": Phase.ABSENT, "place": Place.ABSENT},
            "RuntimeReady",
            ("Creating", "the lab's environment is being set up"),
            "Reconciling",
            id="no environment yet",
        ),
        pytest.param(
            {"phase": Phase.PENDING, "message": "Workshop lab is not available."},
            "RuntimeReady",
            ("Creating", "Workshop lab is not available."),
            "Reconciling",
            id="environment on its way",
        ),
        pytest.param(
            {"phase": Phase.RUNNING, "place": Place.ABSENT},
            "RuntimeReady",
            ("Creating", "the lab's environment is being set up"),
            "Reconciling",
            id="namespace of the environment is gone",
        ),
        pytest.param(
            {"phase": Phase.DELETING},
            "RuntimeReady",
            ("Creating", "the environment is being deleted"),
            "Reconciling",
            id="environment being deleted",
        ),
        pytest.param(
            {"phase": Phase.ABSENT, "place": Place.TERMINATING},
            "RuntimeReady",
            ("Creating", "namespace lab is still being deleted"),
            "Reconciling",
            id="namespace of an earlier lab",
        ),
        pytest.param(
            {"phase": Phase.ABSENT, "place": Place.FOREIGN},
            "RuntimeReady",
            ("NamespaceTaken", "namespace lab exists and is not this lab's; remove it or rename the lab"),
            "Stalled",
            id="somebody else's namespace",
        ),
        pytest.param(
            FAILED | {"place": Place.FOREIGN},
            "RuntimeReady",
            ("NamespaceTaken", "namespace lab exists and is not this lab's; remove it or rename the lab"),
            "Stalled",
            id="failed for somebody else's namespace",
        ),
        pytest.param(
            FAILED, "RuntimeReady", ("EnvironmentFailed", "no such object"), "Reconciling", id="failed, being healed"
        ),
        pytest.param(
            FAILED | {"holds_durable": True},
            "RuntimeReady",
            (
                "EnvironmentFailed",
                "the environment failed (no such object) and its namespace lab holds volumes; "
                "save what is needed, then delete WorkshopEnvironment lab",
            ),
            "Stalled",
            id="failed with something durable",
        ),
        pytest.param(
            {"phase": Phase.ABSENT, "place": Place.ABSENT, "runtime_served": False},
            "RuntimeReady",
            (
                "RuntimeMissing",
                "the cluster does not know the kinds of training.educates.dev/v1beta1; install Educates",
            ),
            "Stalled",
            id="no runtime",
        ),
    ],
)
def test_what_is_not_ready(changes: dict[str, Any], kind: str, expected: tuple[str, str], abnormal: str) -> None:
    """The first concern that is not ready says why the lab is not; only what a person must mend stalls it."""
    found = said(of(HERE, running(HERE, **changes)))
    assert (found[kind], found["Ready"], found[abnormal]) == (
        ("False", *expected),
        ("False", *expected),
        ("True", *expected),
    )


SECOND = [{"name": "main"}, {"name": "second"}]


@pytest.mark.parametrize(
    ("session", "expected"),
    [
        pytest.param({}, ("True", "Running", ""), id="ready"),
        pytest.param(
            {"phase": Phase.FAILED, "message": "no quota"},
            ("False", "SessionFailed", "session main: no quota"),
            id="failed",
        ),
        pytest.param({"phase": Phase.FAILED}, ("False", "SessionFailed", "session main: phase Failed"), id="silently"),
        pytest.param(
            {"phase": Phase.PENDING, "available": False},
            ("False", "Starting", "session main: phase Pending"),
            id="pending",
        ),
        pytest.param(
            {"phase": Phase.DELETING},
            ("False", "Starting", "session main: session main is being deleted"),
            id="being deleted",
        ),
        pytest.param(
            {"available": False}, ("False", "Starting", "session main: its pod is not ready yet"), id="pod is not ready"
        ),
        pytest.param(
            {"available": False, "waiting_reason": "exceeded quota"},
            ("False", "Starting", "session main: exceeded quota"),
            id="pod is refused",
        ),
        pytest.param(
            {"phase": Phase.ABSENT, "places": {}},
            ("False", "Starting", "session main: phase unknown"),
            id="about to be made",
        ),
        pytest.param(
            {"phase": Phase.ABSENT, "places": {"lab-main": Place.TERMINATING}},
            ("False", "Starting", "session main: namespace lab-main of the previous run still exists"),
            id="its last run still goes",
        ),
        pytest.param(
            {"started_with": "something older"},
            ("True", "RestartNeeded", "stop and start to take over what changed since they started: main"),
            id="outdated",
        ),
    ],
)
def test_sessions(session: dict[str, Any], expected: tuple[str, str, str]) -> None:
    assert said(of(HERE, session_is(WELL, **session)))["SessionsReady"] == expected


def test_the_first_session_that_is_not_ready_says_why() -> None:
    here = lab(sessions=SECOND)
    seen = session_is(running(here), "second", phase=Phase.FAILED, message="no quota")
    assert said(of(here, seen))["SessionsReady"] == ("False", "SessionFailed", "session second: no quota")


@pytest.mark.parametrize(
    "sessions",
    [
        pytest.param([], id="none declared"),
        pytest.param([{"name": "main", "state": "stopped"}], id="all stopped"),
    ],
)
@pytest.mark.parametrize("within", [environment(), DELEGATED])
def test_no_session_is_to_run(within: EnvironmentConfig, sessions: list[Manifest]) -> None:
    here = lab(within, sessions=sessions)
    assert said(of(here, running(here)))["SessionsReady"] == ("True", "NoneStarted", "no session is started")


def test_sessions_that_nothing_protects() -> None:
    here = lab(DELEGATED)
    found = said(of(here, running(here, sessions={})))
    expected = (
        "Unprotected",
        "nothing protects sessions, so none is started: set auth.type to credentials or ingress.protection.type to "
        "what protects them, in environment courses",
    )
    assert (found["SessionsReady"], found["Stalled"]) == (("False", *expected), ("True", *expected))


STORE = {"storage": "1Gi"}
DATABASE = {"names": ["dev"], "storage": "1Gi", "backupStorage": "1Gi"}
ADMIN = {"namespace": "iam", "name": "admin"}


@pytest.mark.parametrize(
    ("within", "spec", "kind", "expected"),
    [
        pytest.param(
            environment(),
            {"databases": {"pg1": DATABASE, "pg0": DATABASE}},
            "DatabasesReady",
            "this version of datalabd does not provide PostgreSQL yet: pg0, pg1",
            id="databases",
        ),
        pytest.param(
            environment(),
            {"documentStores": {"d": STORE}, "cacheStores": {"c": STORE, "b": STORE}, "vectorStores": {"v": STORE}},
            "StoresReady",
            "this version of datalabd does not provide stores yet: "
            "document store d, cache store b, cache store c, vector store v",
            id="stores",
        ),
        pytest.param(
            environment(iam={"url": "https://iam.example.org", "adminSecret": ADMIN}),
            {},
            "IdentityReady",
            "this version of datalabd does not manage Keycloak yet",
            id="identity",
        ),
    ],
)
def test_what_is_not_provided_stalls(within: EnvironmentConfig, spec: dict[str, Any], kind: str, expected: str) -> None:
    here = lab(within, **spec)
    found = said(of(here, running(here)))
    assert (found[kind], found["Stalled"]) == (
        ("False", "NotProvided", expected),
        ("True", "NotProvided", expected),
    )


def test_what_stalls_is_named_before_what_goes_on() -> None:
    found = said(of(HERE, running(HERE, **STORAGE_PROBLEM, phase=Phase.PENDING)))
    assert found["Stalled"][1] == "StorageSecret"
    assert "Reconciling" not in found


def test_what_stalls_later_does_not_hide_why_the_lab_is_not_ready() -> None:
    here = lab(databases={"pg": DATABASE})
    found = said(of(here, session_is(running(here), phase=Phase.FAILED)))
    assert (found["Ready"][1], found["Stalled"][1]) == ("SessionFailed", "NotProvided")


# --- what went wrong in the pass --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("problem", "expected", "abnormal"),
    [
        pytest.param(
            ClaimInvalid("spec.vcluster", "not here"),
            ("ClaimInvalid", "spec.vcluster: not here"),
            "Stalled",
            id="claim",
        ),
        pytest.param(
            EnvironmentInvalid("courses", "EnvironmentNotFound", "no such environment"),
            ("EnvironmentNotFound", "no such environment"),
            "Stalled",
            id="environment",
        ),
        pytest.param(
            Foreign("Workshop lab", "another lab"),
            ("NameTaken", "Workshop lab exists and belongs to another lab"),
            "Stalled",
            id="somebody else's object",
        ),
        pytest.param(
            Conflict(409, "Conflict", "it changed"), ("ReconcileError", "it changed"), "Reconciling", id="any other"
        ),
    ],
)
def test_problem(problem: DatalabdError, expected: tuple[str, str], abnormal: str) -> None:
    """It comes before all concerns, which are said all the same."""
    found = said(of(HERE, WELL, problem))
    assert (found["Synced"], found["Ready"], found[abnormal], found["RuntimeReady"]) == (
        ("False", *expected),
        ("False", *expected),
        ("True", *expected),
        ("True", "Running", ""),
    )


# --- sessions by name -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("session", "expected"),
    [
        pytest.param({}, {"phase": "Running", "url": "https://lab-main.lab.example.org"}, id="ready"),
        pytest.param(
            {"message": "hello"},
            {"phase": "Running", "url": "https://lab-main.lab.example.org", "message": "hello"},
            id="ready, with a word of the runtime",
        ),
        pytest.param(
            {"started_with": "older"},
            {
                "phase": "Running",
                "url": "https://lab-main.lab.example.org",
                "message": "runs with what was set when it started; stop and start it to take over the change",
            },
            id="outdated",
        ),
        pytest.param(
            {"available": False},
            {
                "phase": "Running",
                "url": "https://lab-main.lab.example.org",
                "message": "its pod is not ready yet",
            },
            id="not ready",
        ),
        pytest.param({"url": ""}, {"phase": "Running"}, id="without an address"),
        pytest.param(
            {"phase": Phase.FAILED, "message": "no quota"}, {"phase": "Failed", "message": "no quota"}, id="failed"
        ),
        pytest.param({"phase": Phase.ABSENT, "places": {}}, {"message": "phase unknown"}, id="absent"),
    ],
)
def test_a_started_session(session: dict[str, Any], expected: Manifest) -> None:
    assert of(HERE, session_is(WELL, **session))["sessions"] == {"main": {"state": "started"} | expected}


def test_a_stopped_session_says_nothing_else() -> None:
    here = lab(sessions=[{"name": "main", "state": "stopped"}])
    seen = running(here, sessions={"main": WELL.sessions["main"]})
    assert of(here, seen)["sessions"] == {"main": {"state": "stopped"}}


def test_a_session_never_seen() -> None:
    assert of(HERE, running(HERE, sessions={}))["sessions"] == {
        "main": {"state": "started", "message": "phase unknown"}
    }


def test_started_counts_what_can_be_used_among_all_declared() -> None:
    here = lab(sessions=[*SECOND, {"name": "third", "state": "stopped"}])
    seen = session_is(running(here), "second", available=False)
    assert of(here, seen)["started"] == "1/3"


# --- time -------------------------------------------------------------------------------------------------------------


def test_nothing_changes_when_nothing_changed() -> None:
    before = of(HERE, WELL)
    assert of(HERE, WELL, before=before, now=LATER) == before


def test_time_of_transition_changes_with_the_status_alone() -> None:
    before = of(HERE, WELL)
    after = of(HERE, session_is(WELL, phase=Phase.FAILED), before=before, now=LATER)
    changed = {item["type"] for item in after["conditions"] if item["lastTransitionTime"] == "2026-03-01T13:00:00Z"}
    assert changed == {"Ready", "SessionsReady", "Reconciling"}


def test_another_reason_is_no_transition() -> None:
    before = of(HERE, session_is(WELL, phase=Phase.PENDING, available=False))
    after = of(HERE, session_is(WELL, phase=Phase.FAILED), before=before, now=LATER)
    assert {item["lastTransitionTime"] for item in after["conditions"]} == {STAMP}


# --- claims that cannot be resolved, and those that go ----------------------------------------------------------------

BEFORE = {
    "observedGeneration": 2,
    "conditions": [
        condition("Ready", "True", "Available", "the lab can be used", EARLIER, of=2),
        condition("Synced", "True", "ReconcileSuccess", "", EARLIER, of=2),
        condition("StorageReady", "True", "Available", "", EARLIER, of=2),
        condition("RuntimeReady", "True", "Running", "", EARLIER, of=2),
        condition("Reconciling", "True", "Creating", "", EARLIER, of=2),
        condition("Custom", "True", "SomebodyElse", "", EARLIER, of=2),
    ],
    "environment": "courses",
    "started": "1/1",
    "sessions": {"main": {"state": "started", "phase": "Running"}},
    "effective": {"auth": "credentials"},
}
MISSING = EnvironmentInvalid("courses", "EnvironmentNotFound", "no such environment")


def test_refused_keeps_what_was_known() -> None:
    assert refused(claim() | {"status": BEFORE}, MISSING, NOW) == {
        "observedGeneration": 3,
        "conditions": [
            condition("Ready", "False", "EnvironmentNotFound", "no such environment"),
            condition("Synced", "False", "EnvironmentNotFound", "no such environment"),
            condition("StorageReady", "True", "Available", "", EARLIER, of=2),
            condition("RuntimeReady", "True", "Running", "", EARLIER, of=2),
            condition("Stalled", "True", "EnvironmentNotFound", "no such environment"),
        ],
        "environment": "courses",
        "started": "1/1",
        "sessions": {"main": {"state": "started", "phase": "Running"}},
        "effective": {"auth": "credentials"},
    }


def test_refused_at_first_sight() -> None:
    assert refused(claim(), ClaimInvalid("spec.vcluster", "not here"), NOW) == {
        "observedGeneration": 3,
        "conditions": [
            condition("Ready", "False", "ClaimInvalid", "spec.vcluster: not here"),
            condition("Synced", "False", "ClaimInvalid", "spec.vcluster: not here"),
            condition("Stalled", "True", "ClaimInvalid", "spec.vcluster: not here"),
        ],
    }


def test_refused_again_changes_nothing() -> None:
    once = refused(claim() | {"status": BEFORE}, MISSING, NOW)
    assert refused(claim() | {"status": once}, MISSING, LATER) == once


@pytest.mark.parametrize(("stalled", "abnormal"), [(False, "Reconciling"), (True, "Stalled")])
def test_deleting(stalled: bool, abnormal: str) -> None:
    assert deleting(claim() | {"status": BEFORE}, "sessions are being deleted", stalled, NOW) == {
        "observedGeneration": 3,
        "conditions": [
            condition("Synced", "True", "Deleting", "sessions are being deleted", EARLIER),
            condition("Ready", "False", "Deleting", "sessions are being deleted"),
            condition(
                abnormal,
                "True",
                "Deleting",
                "sessions are being deleted",
                STAMP if stalled else EARLIER,
            ),
        ],
        "environment": "courses",
        "started": "1/1",
        "sessions": {"main": {"state": "started", "phase": "Running"}},
        "effective": {"auth": "credentials"},
    }


def test_deleting_what_never_had_a_status() -> None:
    assert set(deleting(claim(), "x", False, NOW)) == {"observedGeneration", "conditions"}


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(of(HERE, WELL), id="well"),
        pytest.param(of(HERE, Observed(sessions={"main": SessionFacts()}), MISSING), id="not well"),
        pytest.param(refused(claim(), MISSING, NOW), id="refused"),
        pytest.param(deleting(claim(), "x", True, NOW), id="being deleted"),
    ],
)
def test_every_status_is_one_that_the_api_accepts(found: Manifest) -> None:
    parsed = Datalab.parse(claim() | {"status": found}).status
    assert [item.type for item in parsed.conditions] == [item["type"] for item in found["conditions"]]
