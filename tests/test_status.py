import datetime
import functools
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datalabd import status as status_module
from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import BACKUP, RESTORE, ROTATE, Manifest
from datalabd.api.v1beta2 import CONDITIONS, Datalab, DatalabStatus
from datalabd.errors import (
    ClaimInvalid,
    Conflict,
    Contested,
    DatalabdError,
    Denied,
    EnvironmentInvalid,
    Foreign,
    InternalError,
    Unreadable,
)
from datalabd.identity import Outcome
from datalabd.lab import Lab, resolve
from datalabd.observed import Observed, Phase, Place, SessionFacts
from datalabd.plan import plan
from datalabd.plan.educates.healing import repairs
from datalabd.status import deleting, lost_since, refused, stalled_step, status, until_stalled, unwritable
from datalabd.stores import DatabaseFacts, Job, StoreFacts, Turn
from datalabd.text import MESSAGE_MAX
from tests.factories import IAM, MADE, NOW, claim, environment, fresh, lab, running, session_is

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
    return status(written, here, seen, plan(here, seen, fresh()), repairs(here, seen), problem, now)


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
        "credentials": {"login/lab": {"since": "2026-02-01T00:00:00Z"}},
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
            STORAGE_PROBLEM | {"credentials": None},
            "StorageReady",
            ("StorageSecret", "Secret team/lab does not exist"),
            "Reconciling",
            id="no storage Secret",
        ),
        pytest.param(
            STORAGE_PROBLEM,
            "StorageReady",
            ("StorageSecret", "Secret team/lab does not exist; sessions go on with the credentials known before"),
            "Reconciling",
            id="the storage Secret is gone",
        ),
        pytest.param(
            {"storage": None, "storage_problem": "another endpoint", "endpoint_refused": True},
            "StorageReady",
            ("EndpointNotAllowed", "another endpoint; sessions go on with the credentials known before"),
            "Stalled",
            id="an endpoint that is not listed",
        ),
        pytest.param(
            {"credentials": None},
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


def test_files_whose_secrets_no_download_finds_are_named() -> None:
    """The lab's own Secret is found; that others are not does not hide that a session has to restart."""
    files = [{"http": {"url": "https://example.org", "secretRef": {"name": name}}} for name in ("lab-datalab", "mine")]
    here = lab(files=files)
    well = running(here)
    message = "downloads find no Secret but lab-datalab, so these fail: spec.files[1].http.secretRef"
    found = said(of(here, well))
    assert (found["SessionsReady"], found["Ready"][0]) == (("True", "FilesSecret", message), "True")
    assert said(of(here, session_is(well, started_with="older")))["SessionsReady"][1] == "RestartNeeded"


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
WITH_KEYCLOAK = lab(environment(iam=IAM))
KNOWN = running(WITH_KEYCLOAK)
REALM = "https://id.example.org/realms/labs"
HELD = KNOWN.identity or Outcome()


def identity(status: str, reason: str, message: str = "", generation: int = 3) -> dict[str, Any]:
    """A status that says this of identity."""
    return {"conditions": [condition("IdentityReady", status, reason, message) | {"observedGeneration": generation}]}


@pytest.mark.parametrize(
    ("changes", "before", "expected", "abnormal"),
    [
        pytest.param({}, {}, ("True", "Available", ""), None, id="all is well"),
        pytest.param(
            {"identity": replace(HELD, users={"eve": "no user of that name"})},
            {},
            ("True", "UsersMissing", "not members yet: eve; status.users says why"),
            None,
            id="an unknown user blocks nobody",
        ),
        pytest.param(
            {"identity": replace(HELD, users=dict.fromkeys("edcba", "unknown"))},
            {},
            ("True", "UsersMissing", "not members yet: a, b, c and 2 more; status.users says why"),
            None,
            id="many unknown users",
        ),
        pytest.param(
            {"identity": replace(HELD, reason="KeycloakUnavailable", message="it does not answer")},
            {},
            ("False", "KeycloakUnavailable", "it does not answer"),
            "Reconciling",
            id="Keycloak is away",
        ),
        pytest.param(
            {"identity": Outcome(reason="NameTaken", message="client lab exists", stalled=True)},
            {},
            ("False", "NameTaken", "client lab exists"),
            "Stalled",
            id="somebody else's client",
        ),
        pytest.param(
            {"admin": None, "admin_problem": "Secret iam/admin does not exist", "identity": None},
            identity("True", "Available"),
            ("False", "IamSecret", "Secret iam/admin does not exist"),
            "Reconciling",
            id="no credentials",
        ),
        pytest.param(
            {"client_secret": "other"},
            {},
            ("False", "Creating", "Keycloak is being told of the change"),
            "Reconciling",
            id="a change",
        ),
        pytest.param(
            {"identity": None},
            {},
            ("False", "Creating", "Keycloak has not been asked yet"),
            "Reconciling",
            id="nobody knows, nor did anybody",
        ),
        pytest.param(
            {"identity": None},
            identity("True", "Available", "as it was"),
            ("True", "Available", "as it was"),
            None,
            id="nobody knows, but somebody did",
        ),
        pytest.param(
            {"identity": None, "admin": None},
            identity("False", "KeycloakForbidden", "as it was"),
            ("False", "KeycloakForbidden", "as it was"),
            "Reconciling",
            id="the Secrets are being read",
        ),
        pytest.param(
            {"identity": None},
            identity("True", "Available", generation=2),
            ("False", "Creating", "Keycloak has not been asked yet"),
            "Reconciling",
            id="what was known was of another generation",
        ),
        pytest.param(
            {"identity": None},
            identity("Unknown", "Disabled"),
            ("False", "Creating", "Keycloak has not been asked yet"),
            "Reconciling",
            id="there was no Keycloak before",
        ),
    ],
)
def test_identity(
    changes: dict[str, Any], before: Manifest, expected: tuple[str, str, str], abnormal: str | None
) -> None:
    found = said(of(WITH_KEYCLOAK, replace(KNOWN, **changes), before=before))
    assert found["IdentityReady"] == expected
    assert {kind: found[kind] for kind in ("Stalled", "Reconciling") if kind in found} == (
        {abnormal: ("True", *expected[1:])} if abnormal else {}
    )
    assert found["Ready"][0] == expected[0]


UNKNOWN = {"eve": {"message": "no user of that name"}}


@pytest.mark.parametrize(
    ("here", "changes", "before", "expected"),
    [
        pytest.param(WITH_KEYCLOAK, {}, {}, {"realm": REALM}, id="it is there"),
        pytest.param(
            WITH_KEYCLOAK,
            {"identity": replace(HELD, users={"eve": "no user of that name"})},
            {},
            {"realm": REALM, "users": UNKNOWN},
            id="a user is not",
        ),
        pytest.param(
            WITH_KEYCLOAK,
            {"identity": None},
            {"realm": "https://old.example.org/realms/labs", "users": UNKNOWN},
            {"realm": "https://old.example.org/realms/labs", "users": UNKNOWN},
            id="nobody knows, but somebody did",
        ),
        pytest.param(WITH_KEYCLOAK, {"identity": None}, {}, {}, id="nobody knows"),
        pytest.param(HERE, {}, {"realm": REALM, "users": UNKNOWN}, {"realm": REALM}, id="it is left as it is"),
    ],
)
def test_realm_and_users(here: Lab, changes: dict[str, Any], before: Manifest, expected: Manifest) -> None:
    found = of(here, running(here, **changes), before=before)
    assert {key: found[key] for key in ("realm", "users") if key in found} == expected


def test_a_realm_that_nobody_keeps_any_more() -> None:
    message = f"{NO_KEYCLOAK}; the lab's client and groups in {REALM} stay as they are"
    assert said(of(HERE, WELL, before={"realm": REALM}))["IdentityReady"] == ("Unknown", "Disabled", message)


TURNED = replace(MADE, rotated="2")


@pytest.mark.parametrize(
    ("changes", "before", "expected"),
    [
        pytest.param({"client_turn": TURNED}, {}, {"rotation": "2"}, id="done"),
        pytest.param(
            {"client_turn": TURNED, "client_secret": "new"}, {}, {"rotating": "2"}, id="Keycloak does not have it yet"
        ),
        pytest.param({"client_turn": TURNED, "identity": None}, {}, {"rotating": "2"}, id="nobody knows"),
        pytest.param(
            {"client_turn": TURNED, "identity": None},
            {"credentials": {"client/lab": {"rotation": "2"}}},
            {"rotation": "2"},
            id="nobody knows, but somebody did",
        ),
        pytest.param({}, {}, {"rotating": "2"}, id="asked for"),
    ],
)
def test_how_far_the_rotation_of_a_client_is(
    changes: dict[str, Any], before: Manifest, expected: dict[str, str]
) -> None:
    asking = claim(sessions=[{"name": "main"}])
    asking["metadata"]["annotations"] = {ROTATE: "client/lab/2"}
    here = resolve(asking, WITH_KEYCLOAK.environment)
    found = of(here, running(here, **changes), before=before)
    assert found["credentials"]["client/lab"] == {"since": MADE.since} | expected


WAITING = DatabaseFacts("its server is not ready yet")
MISSING_OPERATOR = DatabaseFacts("install it", stalled=True)


@pytest.mark.parametrize(
    ("databases", "expected", "abnormal"),
    [
        pytest.param({}, ("True", "Available", ""), None, id="ready"),
        pytest.param(
            {"pg0": WAITING},
            ("False", "Creating", "database server pg0: its server is not ready yet"),
            "Reconciling",
            id="one is not ready",
        ),
        pytest.param(
            {"pg0": WAITING, "pg1": WAITING},
            ("False", "Creating", "database server pg0: its server is not ready yet; 1 more not ready"),
            "Reconciling",
            id="two are not ready",
        ),
        pytest.param(
            {"pg0": WAITING, "pg1": MISSING_OPERATOR},
            ("False", "OperatorMissing", "database server pg1: install it; 1 more not ready"),
            "Stalled",
            id="what a person must mend is said first",
        ),
    ],
)
def test_databases(databases: dict[str, DatabaseFacts], expected: tuple[str, str, str], abnormal: str | None) -> None:
    here = lab(databases={"pg0": DATABASE, "pg1": DATABASE})
    well = running(here)
    found = said(of(here, replace(well, databases={**well.databases, **databases})))
    assert found["DatabasesReady"] == expected
    assert [kind for kind in ("Reconciling", "Stalled") if kind in found] == ([abnormal] if abnormal else [])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, ("True", "Available", ""), id="ready"),
        pytest.param(
            {"document_stores": {"a": StoreFacts("phase Pending")}},
            ("False", "Creating", "document store a: phase Pending"),
            id="document store",
        ),
        pytest.param(
            {"cache_stores": {"a": StoreFacts("0 of 1 pods are ready")}},
            ("False", "Creating", "cache store a: 0 of 1 pods are ready"),
            id="cache store",
        ),
        pytest.param(
            {"vector_stores": {"a": StoreFacts("install it", stalled=True)}},
            ("False", "OperatorMissing", "vector store a: install it"),
            id="vector store",
        ),
        pytest.param(
            {
                "document_stores": {"a": StoreFacts("x")},
                "cache_stores": {"a": StoreFacts("y")},
                "vector_stores": {"a": StoreFacts("z", stalled=True)},
            },
            ("False", "OperatorMissing", "vector store a: z; 2 more not ready"),
            id="all of them",
        ),
    ],
)
def test_stores(changes: dict[str, Any], expected: tuple[str, str, str]) -> None:
    here = lab(documentStores={"a": STORE}, cacheStores={"a": STORE}, vectorStores={"a": STORE})
    assert said(of(here, running(here, **changes)))["StoresReady"] == expected


def test_what_may_come_is_named_before_what_goes_on_and_after_what_needs_a_person() -> None:
    found = said(of(HERE, running(HERE, **STORAGE_PROBLEM, phase=Phase.PENDING)))
    assert (found["Reconciling"][1], found["Ready"][1]) == ("StorageSecret", "StorageSecret")
    found = said(of(HERE, running(HERE, **STORAGE_PROBLEM, phase=Phase.ABSENT, runtime_served=False)))
    assert (found["Stalled"][1], found["Ready"][1]) == ("RuntimeMissing", "StorageSecret")


def test_what_does_not_come_stalls_after_two_minutes_without_change() -> None:
    here, seen = claim(), running(HERE, **STORAGE_PROBLEM)

    def after(seconds: float, seen: Observed = seen, generation: int = 3) -> str:
        now = NOW + datetime.timedelta(seconds=seconds)
        here["metadata"]["generation"] = generation
        here["status"] = status(here, HERE, seen, plan(HERE, seen, str), [], None, now)
        kinds = [item["type"] for item in here["status"]["conditions"]]
        (found,) = [kind for kind in ("Stalled", "Reconciling") if kind in kinds]
        pause = until_stalled(here["status"], now)
        return found if pause is None else f"{found}, {pause:.0f} s to go"

    assert after(0) == "Reconciling, 120 s to go"
    assert after(119) == "Reconciling, 1 s to go"
    assert after(120) == "Stalled"
    assert after(1000) == "Stalled"
    other = replace(seen, storage_problem="Secret team/lab has no value for AWS_ACCESS_KEY_ID")
    assert after(1001, other) == "Reconciling, 120 s to go"
    assert after(1100, other) == "Reconciling, 21 s to go"
    assert after(1101, other, generation=4) == "Reconciling, 120 s to go"


def test_a_wait_whose_begin_cannot_be_read_is_over() -> None:
    before = of(HERE, running(HERE, **STORAGE_PROBLEM))
    for item in before["conditions"]:
        item["lastTransitionTime"] = "long ago"
    assert said(of(HERE, running(HERE, **STORAGE_PROBLEM), before=before))["Stalled"][1] == "StorageSecret"


def test_what_is_on_its_way_does_not_stall() -> None:
    assert until_stalled(of(HERE, running(HERE, phase=Phase.PENDING)), NOW) is None


def test_what_stalls_later_does_not_hide_why_the_lab_is_not_ready() -> None:
    here = lab(databases={"pg0": DATABASE})
    seen = running(here, databases={"pg0": MISSING_OPERATOR})
    found = said(of(here, session_is(seen, phase=Phase.FAILED)))
    assert (found["Ready"][1], found["Stalled"][1]) == ("SessionFailed", "OperatorMissing")


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
            "Reconciling",
            id="environment",
        ),
        pytest.param(
            Foreign("Workshop lab", "another lab"),
            ("NameTaken", "Workshop lab exists and belongs to another lab"),
            "Stalled",
            id="somebody else's object",
        ),
        pytest.param(
            Denied("forbidden", "ann", "create networkpolicies", "lab-main"),
            (
                "RightsMissing",
                "datalabd may not create networkpolicies in namespace lab-main; where it should, say: "
                "kubectl create rolebinding datalabd-session -n lab-main --clusterrole=datalabd-session --user=ann",
            ),
            "Stalled",
            id="rights",
        ),
        pytest.param(
            Unreadable("redis.redis.redis.opstreelabs.in", Conflict(500, "InternalError", "conversion failed")),
            ("KindUnreadable", "redis.redis.redis.opstreelabs.in cannot be read: conversion failed"),
            "Reconciling",
            id="a kind that cannot be read",
        ),
        pytest.param(
            Contested("Secret lab/lab-datalab", "field manager flux"),
            (
                "Contested",
                "Secret lab/lab-datalab does not stay as it is applied: field manager flux sets it back each time; "
                "it is put right with growing pauses until that ends",
            ),
            "Stalled",
            id="a fight",
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


# --- credentials, backups and restores --------------------------------------------------------------------------------

EVERYTHING: dict[str, Any] = {
    "databases": {"pg0": DATABASE},
    "documentStores": {"a": STORE},
    "cacheStores": {"b": STORE},
    "vectorStores": {"c": STORE},
}
MADE_LONG_AGO = {"since": "2026-02-01T00:00:00Z"}


def annotated(annotations: dict[str, str]) -> Lab:
    """The lab of a claim with everything and these annotations."""
    written = claim(**EVERYTHING)
    return resolve(written | {"metadata": written["metadata"] | {"annotations": annotations}}, environment())


def test_age_of_every_credential() -> None:
    here = lab(**EVERYTHING)
    assert of(here, running(here))["credentials"] == {
        "login/lab": MADE_LONG_AGO,
        "mongodb/a": MADE_LONG_AGO,
        "postgres/pg0": MADE_LONG_AGO,
        "qdrant/c": MADE_LONG_AGO,
        "redis/b": MADE_LONG_AGO,
    }


def test_credentials_that_do_not_exist_have_no_age() -> None:
    here = lab(**EVERYTHING)
    nothing = running(here, login=None, databases={"pg0": DatabaseFacts()}, document_stores={"a": StoreFacts()})
    seen = replace(nothing, cache_stores={}, vector_stores={})
    assert of(here, seen).get("credentials", {}) == {}


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        pytest.param(
            Turn(since="2026-01-02T03:04:05Z"), {"since": "2026-01-02T03:04:05Z", "rotating": "2"}, id="asked for"
        ),
        pytest.param(Turn(since="yesterday"), {"rotating": "2"}, id="since a time that is none"),
        pytest.param(
            Turn("1", "2", "2026-01-02T04:04:05.6+01:00"),
            {"since": "2026-01-02T03:04:05Z", "rotation": "1", "rotating": "2"},
            id="under way",
        ),
        pytest.param(
            Turn("2", "", "2026-01-02T03:04:05Z"), {"since": "2026-01-02T03:04:05Z", "rotation": "2"}, id="done"
        ),
    ],
)
def test_how_far_a_rotation_is(turn: Turn, expected: dict[str, str]) -> None:
    here = annotated({ROTATE: "redis/b/2"})
    seen = running(here)
    seen = replace(seen, cache_stores={"b": replace(seen.cache_stores["b"], turn=turn)})
    assert of(here, seen)["credentials"]["redis/b"] == expected


def test_a_delegated_login_is_none_of_ours() -> None:
    within = environment(
        auth={"type": "delegated"}, ingress={"domain": "lab.example.org", "protection": {"type": "external"}}
    )
    here = lab(within)
    assert of(here, running(here)).get("credentials", {}) == {}


@pytest.mark.parametrize(
    ("asked", "facts", "expected"),
    [
        pytest.param({}, {}, {}, id="nothing is asked for"),
        pytest.param({BACKUP: "other/2"}, {}, {}, id="of another server"),
        pytest.param({BACKUP: "pg0/2"}, {}, {"backup": ("2", "Requested")}, id="backup asked for"),
        pytest.param(
            {BACKUP: "pg0/2"}, {"backed_up": Job("1", "Succeeded")}, {"backup": ("2", "Requested")}, id="the next"
        ),
        pytest.param({BACKUP: "pg0/2"}, {"backed_up": Job("2", "Running")}, {"backup": ("2", "Running")}, id="running"),
        pytest.param({BACKUP: "pg0/2"}, {"backed_up": Job("2", "Failed")}, {"backup": ("2", "Failed")}, id="failed"),
        pytest.param({RESTORE: "pg0/2"}, {}, {"restore": ("2", "Requested")}, id="restore asked for"),
        pytest.param(
            {RESTORE: "pg0/2"}, {"restoring": Job("2", "Running")}, {"restore": ("2", "Running")}, id="being restored"
        ),
        pytest.param({RESTORE: "pg0/2"}, {"restored": "2"}, {"restore": ("2", "Succeeded")}, id="restored"),
        pytest.param({RESTORE: "pg0=old/2"}, {}, {}, id="what a new server starts from is no job"),
        pytest.param(
            {BACKUP: "pg0/1", RESTORE: "pg0/2"},
            {"restored": "2"},
            {"backup": ("1", "Requested"), "restore": ("2", "Succeeded")},
            id="both",
        ),
    ],
)
def test_backups_and_restores(
    asked: dict[str, str], facts: dict[str, Any], expected: dict[str, tuple[str, str]]
) -> None:
    here = annotated(asked)
    seen = running(here)
    seen = replace(seen, databases={"pg0": replace(seen.databases["pg0"], **facts)})
    jobs = {what: {"nonce": nonce, "state": state} for what, (nonce, state) in expected.items()}
    assert of(here, seen).get("databases", {}) == ({"pg0": jobs} if jobs else {})


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
            condition("Reconciling", "True", "EnvironmentNotFound", "no such environment"),
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
    assert refused(claim() | {"status": once}, MISSING, NOW + datetime.timedelta(seconds=100)) == once
    stalled = refused(claim() | {"status": once}, MISSING, LATER)
    assert "Stalled" in said(stalled)
    assert refused(claim() | {"status": stalled}, MISSING, LATER) == stalled


LOST = (
    "no such environment; nothing new starts; what there is stays as environment courses had it, and the lab reaches "
    "nothing outside from {} on"
)


def test_a_lab_without_its_environment_is_held_by_the_last_one() -> None:
    held = replace(HERE, lost=MISSING)
    first = status(claim() | {"status": BEFORE}, held, WELL, plan(held, WELL, fresh()), [], MISSING, NOW)
    assert first["conditions"][-1] == condition(
        "EnvironmentLost", "True", "EnvironmentNotFound", LOST.format("2026-03-01T12:10:00Z")
    )
    assert (said(first)["Synced"][0], said(first)["Ready"][0], said(first)["SessionsReady"][0]) == (
        "False",
        "False",
        "True",
    )
    assert first["effective"]["environment"] == "courses"
    again = claim() | {"status": first}
    second = status(again, held, WELL, plan(held, WELL, fresh()), [], MISSING, LATER)
    assert second["conditions"][-1] == first["conditions"][-1]
    assert (lost_since(again, LATER), lost_since(claim(), LATER)) == (NOW, LATER)
    # The last one is gone as well: what is applied stays.
    refusal = refused(again, MISSING, LATER, MISSING)
    assert refusal["conditions"][-1] == first["conditions"][-1]


@pytest.mark.parametrize(
    "problem", [InternalError("plan.py:1"), Denied("no", "datalabd", "list secrets", "team")], ids=["defect", "denial"]
)
def test_another_failure_does_not_begin_the_time_without_an_environment_anew(problem: DatalabdError) -> None:
    held = replace(HERE, lost=MISSING)
    first = status(claim() | {"status": BEFORE}, held, WELL, plan(held, WELL, fresh()), [], MISSING, NOW)
    failed = refused(claim() | {"status": first}, problem, LATER)
    assert lost_since(claim() | {"status": failed}, LATER) == NOW
    valid = ClaimInvalid("spec.users", "wrong")
    assert "EnvironmentLost" not in said(refused(claim() | {"status": first}, valid, LATER))


def test_a_claim_that_never_had_an_environment_has_lost_none() -> None:
    assert "EnvironmentLost" not in said(refused(claim(), MISSING, NOW, MISSING))


def test_an_environment_that_cannot_be_read_for_a_while_is_not_lost() -> None:
    unread = EnvironmentInvalid("courses", "KindUnreadable", "cannot be read")
    held = replace(HERE, lost=unread)
    found = status(claim(), held, WELL, plan(held, WELL, fresh()), [], unread, NOW)
    assert (said(found)["Synced"][1], "EnvironmentLost" in said(found)) == ("KindUnreadable", False)
    assert "EnvironmentLost" not in said(refused(claim() | {"status": BEFORE}, unread, NOW, unread))


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


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param(deleting(claim(), "waits for x: y", True, NOW, step="storage"), "storage", id="stalled at a step"),
        pytest.param(deleting(claim(), "waits for x", False, NOW, step="storage"), "", id="not stalled"),
        pytest.param(deleting(claim(), "deleting storage", True, NOW), "", id="stalled at none"),
        pytest.param(deleting(claim(), "no right: deleting storage: x", True, NOW), "", id="of another thing"),
        pytest.param(refused(claim(), MISSING, NOW), "", id="not being deleted"),
        pytest.param({}, "", id="nothing known"),
    ],
)
def test_stalled_step(status: Manifest, expected: str) -> None:
    assert stalled_step(claim() | {"status": status}) == expected


def test_the_step_of_a_deletion_stands_first() -> None:
    found = deleting(claim(), "waits for x", True, NOW, step="storage")
    assert {condition["message"] for condition in found["conditions"]} == {"deleting storage: waits for x"}


def test_deleting_what_never_had_a_status() -> None:
    assert set(deleting(claim(), "x", False, NOW)) == {"observedGeneration", "conditions"}


ASKED = annotated({ROTATE: "redis/b/2", BACKUP: "pg0/2", RESTORE: "pg0/2"})


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(of(HERE, WELL), id="well"),
        pytest.param(of(ASKED, running(ASKED)), id="well, with databases and stores"),
        pytest.param(of(HERE, Observed(sessions={"main": SessionFacts()}), MISSING), id="not well"),
        pytest.param(refused(claim(), MISSING, NOW), id="refused"),
        pytest.param(refused(claim() | {"status": BEFORE}, MISSING, NOW, MISSING), id="without its environment"),
        pytest.param(deleting(claim(), "x", True, NOW), id="being deleted"),
    ],
)
def test_every_status_is_one_that_the_api_accepts(found: Manifest) -> None:
    parsed = Datalab.parse(claim() | {"status": found}).status
    assert [item.type for item in parsed.conditions] == [item["type"] for item in found["conditions"]]
    assert {item.type for item in parsed.conditions} <= set(CONDITIONS)


# --- what goes wrong unforeseen, and texts of others ------------------------------------------------------------------


def test_a_defect_stands_beside_what_was_known() -> None:
    before = claim() | {"status": of(HERE, WELL)}
    problem = InternalError("TypeError at datalabd/stores.py:1, in _size")
    message = f"a defect of datalabd: {problem.place}; please report it with the stack in its log"
    after = refused(before, problem, NOW)
    found = {known["type"]: known for known in after["conditions"]}
    assert found["Synced"] == condition("Synced", "False", "InternalError", message)
    assert found["Ready"] == condition("Ready", "False", "InternalError", message)
    assert found["Stalled"] == condition("Stalled", "True", "InternalError", message)
    assert found["SessionsReady"] == condition("SessionsReady", "True", "Running")
    assert after["sessions"] == before["status"]["sessions"]


def test_a_refused_write_names_its_object() -> None:
    problem = Conflict(409, "Conflict", "injected")
    problem.about = "NetworkPolicy lab/deny-egress"
    found = {known["type"]: known for known in refused(claim(), problem, NOW)["conditions"]}
    assert found["Synced"] == condition("Synced", "False", "ReconcileError", "NetworkPolicy lab/deny-egress: injected")


def test_the_least_a_status_says() -> None:
    problem = Conflict(409, "Conflict", "status is too large")
    assert unwritable(claim() | {"status": of(HERE, WELL)}, problem, NOW) == {
        "observedGeneration": 3,
        "conditions": [
            condition("Ready", "False", "ReconcileError", "status is too large"),
            condition("Synced", "False", "ReconcileError", "status is too large"),
            condition("Reconciling", "True", "ReconcileError", "status is too large"),
        ],
    }


# --- hosts of others --------------------------------------------------------------------------------------------------

MAIN_TAKEN = {"lab-main.lab.example.org": "Ingress shop/a"}


def test_a_host_that_somebody_else_answers_for_is_told_of_while_the_session_goes_on() -> None:
    found = of(HERE, replace(WELL, hosts_taken=MAIN_TAKEN))
    told = "Ingress shop/a answers for lab-main.lab.example.org, and is not this lab's"
    assert said(found) == said(of(HERE, WELL)) | {"HostsTaken": ("True", "RouteElsewhere", told)}


def test_a_session_that_is_not_there_does_not_start_at_a_host_of_somebody_else() -> None:
    found = said(of(HERE, replace(WELL, sessions={}, hosts_taken=MAIN_TAKEN)))
    told = (
        "session main: Ingress shop/a answers for lab-main.lab.example.org; have that route removed, or name the"
        " session otherwise"
    )
    assert found["SessionsReady"] == ("False", "HostTaken", told)
    assert found["Stalled"] == ("True", "HostTaken", told)


def test_a_route_that_leads_into_the_lab_is_told_of_and_starts_no_session() -> None:
    led = {"": "Ingress shop/a"}
    told = "Ingress shop/a leads into namespace lab, past what protects sessions"
    assert said(of(HERE, replace(WELL, hosts_taken=led)))["HostsTaken"] == (
        "True",
        "RouteElsewhere",
        f"{told}, and is not this lab's",
    )
    waits = ("False", "HostTaken", f"session main: {told}; have that route removed")
    assert said(of(HERE, replace(WELL, sessions={}, hosts_taken=led)))["SessionsReady"] == waits


def test_of_many_hosts_the_first_is_told() -> None:
    here = lab(sessions=[{"name": "main", "state": "started"}, {"name": "b", "state": "stopped"}])
    taken = MAIN_TAKEN | {"lab-b.lab.example.org": "HTTPRoute shop/b", "data-lab-b.lab.example.org": "HTTPRoute shop/b"}
    found = said(of(here, replace(running(here), hosts_taken=taken)))
    assert found["HostsTaken"][2].endswith("lab-main.lab.example.org, and is not this lab's; 1 more sessions")


def test_every_condition_that_is_written_is_known_for_ours() -> None:
    """Of others' conditions none is taken away, nor is a status written again for their sake."""
    code = Path(status_module.__file__).read_text()
    assert set(re.findall(r'Condition\(\s*"(\w+)"', code)) <= set(CONDITIONS)


ODD_MESSAGES = st.one_of(
    st.text(st.characters(), max_size=50),  # halves of characters included
    st.sampled_from(["x" * 200_000, "\u00e9" * 100_000, "\x1b[2J\x00", "\\" * 100_000, '"' * 100_000, "\ud800"]),
)


@st.composite
def problems(draw: st.DrawFn) -> DatalabdError:
    """Everything that a pass may be stopped by, in others' words."""
    words = functools.partial(draw, ODD_MESSAGES)
    error = Conflict(409, words(), words())
    error.about = f"Secret lab/{words()}"
    return draw(
        st.sampled_from(
            [
                error,
                Unreadable(words(), error),
                Denied(words(), words(), words(), draw(st.sampled_from(["", "lab", "team"]))),
                Foreign(words(), words()),
                ClaimInvalid(words(), words()),
                EnvironmentInvalid(words(), "EnvironmentInvalid", words()),
                Contested(words(), words(), 3),
                InternalError(words()),
            ]
        )
    )


@given(
    problem=problems(),
    outcome=st.builds(
        Outcome,
        users=st.dictionaries(st.sampled_from(["ann", "bob"]), ODD_MESSAGES),
        reason=st.sampled_from(["", "KeycloakError"]),
        message=ODD_MESSAGES,
    ),
    said=ODD_MESSAGES,
    since=ODD_MESSAGES,
)
@settings(max_examples=60, deadline=None)
def test_whatever_others_say_a_status_can_be_written(
    problem: DatalabdError, outcome: Outcome, said: str, since: str
) -> None:
    here = lab(environment(iam=IAM), users=["ann", "bob"], databases={"pg0": DATABASE}, cacheStores={"a": STORE})
    seen = session_is(running(here), phase=Phase.FAILED, message=said, waiting_reason=said)
    seen = replace(
        seen,
        identity=outcome,
        login_turn=Turn(said, said, since),
        databases={"pg0": DatabaseFacts(said, restoring=Job(said, "Running"))},
        cache_stores={"a": StoreFacts(said)},
        message=said,
    )
    written = status(claim(), here, seen, plan(here, seen, fresh()), repairs(here, seen), problem, NOW)
    before = claim() | {"status": written}
    for found in (
        written,
        refused(before, problem, NOW),
        unwritable(before, problem, NOW),
        deleting(before, said, stalled=True, now=NOW),
    ):
        text = json.dumps(found, ensure_ascii=False).encode()  # half a character could not be encoded
        assert len(text) < 64 * 1024
        DatalabStatus.model_validate_json(text, strict=True)
        assert max(len(known["message"].encode()) for known in found["conditions"]) <= MESSAGE_MAX


# --- sessions that do not stop ----------------------------------------------------------------------------------------

HELD_UP = "namespace lab-main is held by example.org/hold"
TAKE_OFF = "; whoever put a finalizer there has to take it off, or an operator does by kubectl edit"


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        pytest.param({"main": "stopped"}, ("True", "Stopping", f"session main: {HELD_UP}{TAKE_OFF}"), id="none else"),
        pytest.param(
            {"main": "stopped", "other": "started"},
            ("True", "Stopping", f"session main: {HELD_UP}{TAKE_OFF}"),
            id="another runs",
        ),
        pytest.param(
            {"main": "started"},
            (
                "False",
                "Starting",
                f"session main: namespace lab-main of the previous run still exists; {HELD_UP}{TAKE_OFF}",
            ),
            id="it is to run again",
        ),
    ],
)
def test_a_session_that_does_not_stop_says_what_holds_it(
    states: dict[str, str], expected: tuple[str, str, str]
) -> None:
    here = lab(sessions=[{"name": name, "state": state} for name, state in states.items()])
    well = running(here)
    gone = SessionFacts(places={"lab-main": Place.TERMINATING}, held_by=HELD_UP)
    found = of(here, replace(well, sessions={**well.sessions, "main": gone}))
    assert said(found)["SessionsReady"] == expected
    entry = found["sessions"]["main"]
    assert entry["message"].startswith(HELD_UP if states["main"] == "stopped" else "namespace lab-main of the previous")
    assert entry.get("phase") == ("Deleting" if states["main"] == "stopped" else None)
