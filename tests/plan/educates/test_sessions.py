from dataclasses import replace
from typing import Any

import pytest

from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import Manifest
from datalabd.lab import Lab
from datalabd.observed import STARTED_WITH, Login, Observed, Phase, Place, SessionFacts
from datalabd.plan.educates.sessions import current, outdated, waits, workshop_session
from datalabd.plan.metadata import ours
from datalabd.stores import YOUNG_SECONDS, DatabaseFacts, StoreFacts
from tests.factories import KEYS, environment, lab, running, secret, session_is

DELEGATED = environment(
    auth={"type": "delegated"}, ingress={"domain": "lab.example.org", "protection": {"type": "external"}}
)
UNPROTECTED = environment(auth={"type": "delegated"})
STORAGE_LOGIN = environment(auth={"login": "storage"})


def fresh(of: Lab, **changes: Any) -> Observed:
    """All is ready for a session that is not there yet."""
    return running(of, **{"sessions": {"main": SessionFacts()}} | changes)


@pytest.mark.parametrize(
    ("within", "changes", "expected"),
    [
        pytest.param(environment(), {}, None, id="nothing"),
        pytest.param(environment(), {"sessions": {}}, None, id="nothing, and nothing is known of it"),
        pytest.param(DELEGATED, {"login": None}, None, id="no login where something else asks who comes"),
        pytest.param(
            UNPROTECTED,
            {},
            "nothing protects sessions: set auth.type or ingress.protection.type in the environment",
            id="protection",
        ),
        pytest.param(
            environment(), {"phase": Phase.PENDING}, "the lab's environment is not running yet", id="environment"
        ),
        pytest.param(
            environment(),
            {"place": Place.TERMINATING},
            "the lab's environment is not running yet",
            id="namespace of the environment",
        ),
        pytest.param(environment(), {"credentials": None}, "Secret lab-datalab does not exist yet", id="credentials"),
        pytest.param(
            environment(),
            {"credentials": {"AWS_REGION": "b2xk"}},
            "Secret lab-datalab is not current yet",
            id="current credentials",
        ),
        pytest.param(
            environment(),
            {"storage": None, "storage_known": KEYS},
            None,
            id="nothing: while the storage keys cannot be read, those known before will do",
        ),
        pytest.param(
            environment(),
            {"storage": None, "storage_known": KEYS, "credentials": {"configData": "b2xk"}},
            "Secret lab-datalab is not current yet",
            id="not what else stands beside those known before",
        ),
        pytest.param(
            environment(),
            {"storage": None, "storage_problem": "Secret team/lab does not exist"},
            "Secret team/lab does not exist; Secret lab-datalab has nothing that may be used without it",
            id="storage keys, where those known before will not do",
        ),
        pytest.param(
            environment(),
            {"workshop_config": secret("workshop-config", "lab", other="{}")},
            "Secret workshop-config of the environment is not current yet",
            id="what it downloads",
        ),
        pytest.param(
            environment(),
            {"credentials_copied": False},
            "Secret lab-datalab is not copied into namespace lab yet",
            id="copy of the credentials",
        ),
        pytest.param(environment(), {"login": None}, "the session login does not exist yet", id="login"),
        pytest.param(
            STORAGE_LOGIN, {"login": None}, "the session login does not exist yet", id="login made of storage keys"
        ),
        pytest.param(
            environment(),
            {"workshop_in_use": None},
            "the environment's copy of the Workshop is not current yet",
            id="copy of the Workshop",
        ),
        pytest.param(
            environment(),
            {"workshop_in_use": {"title": "old"}},
            "the environment's copy of the Workshop is not current yet",
            id="current copy of the Workshop",
        ),
        pytest.param(
            environment(),
            {"workshop_in_use": None, "workshop_spec": None},
            "the environment's copy of the Workshop is not current yet",
            id="Workshop",
        ),
        pytest.param(
            environment(),
            {"sessions": {"main": SessionFacts(places={"lab-main": Place.TERMINATING})}},
            "namespace lab-main of the previous run still exists",
            id="namespace of the previous run",
        ),
        pytest.param(
            environment(),
            {"sessions": {"main": SessionFacts(places={"lab-main": Place.ABSENT, "lab-main-vc": Place.TERMINATING})}},
            "namespace lab-main-vc of the previous run still exists",
            id="namespace of the previous virtual cluster",
        ),
        pytest.param(
            environment(),
            {"sessions": {"main": SessionFacts(places={"lab-main": Place.TERMINATING, "lab-main-vc": Place.FOREIGN})}},
            "namespace lab-main-vc exists and is not this lab's",
            id="somebody else's namespace, said first",
        ),
        pytest.param(
            environment(),
            {
                "hosts_taken": {
                    "data-lab-main.lab.example.org": "Ingress shop/a",
                    "lab-b.lab.example.org": "Ingress b/b",
                }
            },
            "Ingress shop/a answers for data-lab-main.lab.example.org",
            id="a host that somebody else answers for",
        ),
        pytest.param(
            environment(),
            {"hosts_taken": {"": "Ingress shop/a"}},
            "Ingress shop/a leads into namespace lab, past what protects sessions",
            id="a way in that is somebody else's",
        ),
    ],
)
def test_a_new_session_waits_for(within: EnvironmentConfig, changes: dict[str, Any], expected: str | None) -> None:
    here = lab(within)
    assert waits(here, fresh(here, **changes), "main") == expected


STORE = {"storage": "1Gi"}
DATABASE = {"names": ["dev"], "storage": "1Gi", "backupStorage": "1Gi"}


@pytest.mark.parametrize(
    ("spec", "changes", "expected"),
    [
        pytest.param(
            {"databases": {"pg0": DATABASE}},
            {"databases": {"pg0": DatabaseFacts("it is not created yet")}},
            "database server pg0 is being set up",
            id="a database server",
        ),
        pytest.param(
            {"databases": {"pg0": DATABASE}},
            {"databases": {"pg0": DatabaseFacts("it hangs", age_seconds=YOUNG_SECONDS)}},
            None,
            id="no database server that takes too long: what was known of it stays",
        ),
        pytest.param(
            {"documentStores": {"a": STORE}},
            {"document_stores": {"a": StoreFacts()}},
            "document store a is being set up",
            id="a document store",
        ),
        pytest.param(
            {"cacheStores": {"a": STORE}},
            {"cache_stores": {"a": StoreFacts()}},
            "cache store a is being set up",
            id="a cache store",
        ),
        pytest.param(
            {"vectorStores": {"a": STORE}},
            {"vector_stores": {"a": StoreFacts()}},
            "vector store a is being set up",
            id="a vector store",
        ),
        pytest.param(
            {"vectorStores": {"a": STORE}},
            {},
            None,
            id="no store whose keys are there, whether it runs or not",
        ),
    ],
)
def test_a_new_session_waits_for_what_it_reads_when_it_starts(
    spec: dict[str, Any], changes: dict[str, Any], expected: str | None
) -> None:
    here = lab(**spec)
    assert waits(here, fresh(here, **changes), "main") == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, None, id="it is kept current whatever has become of the rest"),
        pytest.param({"credentials": None, "credentials_copied": False}, None, id="without credentials"),
        pytest.param({"phase": Phase.PENDING}, None, id="without environment"),
        pytest.param({"login": None}, "the session login does not exist yet", id="but never written without its login"),
    ],
)
@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.RUNNING, Phase.FAILED])
def test_a_session_that_exists(phase: Phase, changes: dict[str, Any], expected: str | None) -> None:
    here = lab()
    assert waits(here, replace(session_is(running(here), phase=phase), **changes), "main") == expected


def test_a_session_that_exists_is_not_opened_to_everybody() -> None:
    """Protection was taken away: one that is still Pending would start without any."""
    here = lab(UNPROTECTED)
    assert waits(here, session_is(running(here), phase=Phase.PENDING), "main") is not None


def test_a_session_on_its_way_out_is_awaited() -> None:
    here = lab()
    seen = session_is(running(here), phase=Phase.DELETING)
    assert waits(here, seen, "main") == "session main is being deleted"


def session(of: Lab, started_with: str, **spec: Any) -> Manifest:
    """A WorkshopSession of ours."""
    owner = {
        "apiVersion": "training.educates.dev/v1beta1",
        "kind": "WorkshopEnvironment",
        "name": "lab",
        "uid": "environment-uid",
    }
    return ours(
        of,
        {
            "apiVersion": "training.educates.dev/v1beta1",
            "kind": "WorkshopSession",
            "metadata": {
                "name": "lab-main",
                "annotations": {STARTED_WITH: started_with},
                "ownerReferences": [owner],
            },
            "spec": {
                "environment": {"name": "lab"},
                "session": {
                    "id": "main",
                    "ingress": {"domain": "lab.example.org", "secret": "wildcard-tls"},
                    "env": [{"name": "SESSION_NAME", "value": "lab-main"}, {"name": "FRAME_ANCESTORS", "value": ""}],
                }
                | spec,
            },
        },
    )


@pytest.mark.parametrize(
    ("within", "login", "expected"),
    [
        pytest.param(
            environment(),
            Login("lab", "login-password"),
            {"username": "lab", "password": "login-password"},
            id="login of the lab",
        ),
        pytest.param(
            STORAGE_LOGIN,
            Login(KEYS.access_key, KEYS.secret_key),
            {"username": "access", "password": "storage-secret"},
            id="keys of the storage",
        ),
        pytest.param(DELEGATED, None, {"username": "*", "password": ""}, id="none where something else asks"),
    ],
)
def test_workshop_session(within: EnvironmentConfig, login: Login | None, expected: dict[str, str]) -> None:
    here = lab(within)
    seen = fresh(here, login=login)
    assert workshop_session(here, seen, "main") == session(here, current(here, seen, "main"), **expected)


def test_variables_with_a_virtual_cluster() -> None:
    here = lab(vcluster=True)
    assert workshop_session(here, running(here), "main")["spec"]["session"]["env"] == [
        {"name": "SESSION_NAME", "value": "lab-main"},
        {"name": "FRAME_ANCESTORS", "value": ""},
        {"name": "KUBECONFIG", "value": "/opt/kubeconfig/config"},
    ]


def test_what_a_living_session_started_with_is_remembered() -> None:
    here = lab()
    made = workshop_session(here, session_is(running(here), started_with="before"), "main")
    assert made["metadata"]["annotations"][STARTED_WITH] == "before"


CHANGED_LOGIN = {"login": Login("lab", "rotated")}


@pytest.mark.parametrize(
    ("spec", "changes", "expected"),
    [
        pytest.param({}, {}, [], id="nothing changed"),
        pytest.param({"quota": {"memory": "4Gi"}}, {}, ["main"], id="the Workshop changed"),
        pytest.param({"vcluster": True}, {}, ["main"], id="its variables changed"),
        pytest.param({}, CHANGED_LOGIN, ["main"], id="its login changed"),
        pytest.param({"vectorStores": {"a": STORE}}, {}, ["main"], id="its credentials changed"),
        pytest.param({}, {"storage": replace(KEYS, secret_key="new")}, ["main"], id="the storage keys changed"),
        pytest.param({}, {"storage": None}, [], id="the storage keys cannot be read"),
        pytest.param(
            {}, {"storage": None, "credentials": None}, ["main"], id="the storage keys and the credentials are gone"
        ),
        pytest.param({"security": {"externalEgress": False}}, {}, [], id="policies do not need a restart"),
        pytest.param({"quota": {"memory": "4Gi"}}, {"sessions": {}}, [], id="it is not there yet"),
        pytest.param({"sessions": []}, CHANGED_LOGIN, [], id="it is no longer declared"),
        pytest.param(
            {"sessions": [{"name": "main", "state": "stopped"}]}, CHANGED_LOGIN, [], id="it is to be stopped anyway"
        ),
    ],
)
def test_outdated(spec: dict[str, Any], changes: dict[str, Any], expected: list[str]) -> None:
    before = lab()
    assert outdated(lab(**spec), replace(running(before), **changes)) == expected


def test_one_that_says_nothing_of_its_start_is_not_called_outdated() -> None:
    here = lab(quota={"memory": "4Gi"})
    assert outdated(here, session_is(running(here), started_with=None)) == []
