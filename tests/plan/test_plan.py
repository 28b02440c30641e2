from dataclasses import replace
from typing import Any

import pytest

from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import ROTATE, ROTATED, SINCE, USERS_REVISION
from datalabd.lab import Lab, resolve
from datalabd.observed import Observed, Phase, Place, SessionFacts
from datalabd.plan import Plan, Stage, mongodb, plan, postgres, qdrant, redis, rotation
from datalabd.plan.credentials import credentials, login
from datalabd.plan.educates.environment import workshop_environment
from datalabd.plan.educates.sessions import workshop_session
from datalabd.plan.educates.workshop import live_session_policies, workshop
from datalabd.plan.keycloak import Wanted, client_secret, client_secret_copy
from datalabd.plan.network_policies import service_policies, workshop_policies
from datalabd.plan.prune import identity
from datalabd.plan.realm import realm_state
from datalabd.plan.rotation import NewPassword
from datalabd.plan.volumes import data_mount, home
from datalabd.stores import OPERATORS, RESTORED, DatabaseFacts, Role, StoreFacts, Turn
from tests.factories import ADMIN, IAM, KEYS, MADE, NOW, claim, environment, fresh, lab, role, running, session_is

COPY = ("Secret", "lab", "lab-datalab")
CREDENTIALS = ("Secret", "team", "lab-datalab")
LOGIN = ("Secret", "team", "lab-login")
CLIENT = ("Secret", "team", "lab-oauth-client")
CLIENT_COPY = ("Secret", "lab", "lab-oauth2-client")
DELEGATED = environment(
    auth={"type": "delegated"}, ingress={"domain": "lab.example.org", "protection": {"type": "external"}}
)


def stage(of: Lab, seen: Observed, name: str) -> Stage:
    """One stage of a plan."""
    (found,) = [stage for stage in plan(of, seen, fresh()).stages if stage.name == name]
    return found


def test_everything_in_its_order() -> None:
    here = lab()
    seen = running(here)
    policies = [
        policy | {"metadata": policy["metadata"] | {"namespace": "lab"}} for policy in workshop_policies(here, seen)
    ]
    assert plan(here, seen, fresh()) == Plan(
        (
            Stage("login", keeps=(LOGIN,)),
            Stage("client secret", keeps=(CLIENT,)),
            Stage("credentials", (credentials(here, KEYS, seen),), keeps=(COPY,)),
            Stage("runtime", (workshop(here, seen), workshop_environment(here))),
            Stage(
                "workshop namespace",
                (*service_policies(here), *policies, data_mount(here), home(here, seen, "main")),
            ),
            Stage("copy of the client secret", keeps=(CLIENT_COPY,)),
            Stage("session main", (workshop_session(here, seen, "main"),), part="main"),
            Stage(
                "network policies of session main",
                tuple(live_session_policies(here, seen, "main")),
                part="main",
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
            Stage("login", (login(lab(), "fresh-1", Turn()),), create_only=True),
            id="it is made once",
        ),
        pytest.param(
            environment(),
            {"login": None},
            Stage("login", (login(lab(), "fresh-1", Turn()),)),
            id="one without use is written again",
        ),
        pytest.param(DELEGATED, {}, Stage("login"), id="nobody asks"),
        pytest.param(environment(auth={"login": "storage"}), {}, Stage("login"), id="it is made of storage keys"),
    ],
)
def test_login(within: EnvironmentConfig, changes: dict[str, Any], expected: Stage) -> None:
    here = lab(within)
    assert stage(here, running(here, **changes), "login") == expected


IDENTITY = environment(iam=IAM)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, Stage("client secret", (client_secret(lab(), "client-secret", MADE),)), id="it is there"),
        pytest.param(
            {"client_secret": "", "client_secret_exists": False, "client_turn": Turn()},
            Stage("client secret", (client_secret(lab(), "fresh-1", Turn()),), create_only=True),
            id="it is made once",
        ),
        pytest.param(
            {"client_secret": ""},
            Stage("client secret", (client_secret(lab(), "fresh-1", MADE),)),
            id="one without use is written again",
        ),
        pytest.param(
            {"admin": None, "admin_problem": "gone", "identity": None},
            Stage("client secret", (client_secret(lab(), "client-secret", MADE),)),
            id="it stays while Keycloak cannot be reached",
        ),
    ],
)
def test_client_secret(changes: dict[str, Any], expected: Stage) -> None:
    here = lab(IDENTITY)
    assert stage(here, running(here, **changes), "client secret") == replace(expected, part="identity")


MADE_COPY = client_secret_copy(lab(), "client-secret")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, {"objects": (MADE_COPY,)}, id="Keycloak knows it"),
        pytest.param(
            {"client_secret_copied": False, "identity": None}, {"objects": (MADE_COPY,)}, id="there is none yet"
        ),
        pytest.param(
            {"client_secret_copied": False, "phase": Phase.PENDING},
            {"objects": (MADE_COPY,), "waits": "the lab's environment is not running yet"},
            id="nor a namespace",
        ),
        pytest.param({"client_secret": "other"}, {"keeps": (CLIENT_COPY,)}, id="Keycloak has another one"),
        pytest.param({"identity": None}, {"keeps": (CLIENT_COPY,)}, id="nobody knows whether Keycloak has it"),
        pytest.param({"admin": None}, {"keeps": (CLIENT_COPY,)}, id="Keycloak cannot be told"),
        pytest.param({"client_secret": ""}, {"keeps": (CLIENT_COPY,)}, id="its source is gone"),
        pytest.param(
            {"client_secret": "", "client_secret_copied": False},
            {"keeps": (CLIENT_COPY,), "waits": "the client secret is being written"},
            id="neither is there",
        ),
    ],
)
def test_copy_of_the_client_secret(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    here = lab(IDENTITY)
    wanted = Stage("copy of the client secret", part="identity", **expected)
    assert stage(here, running(here, **changes), "copy of the client secret") == wanted


def test_keycloak_is_told_what_the_realm_is_to_hold() -> None:
    here = lab(IDENTITY)
    told = plan(here, running(here), fresh()).realm
    assert told == Wanted("https://id.example.org", ADMIN, realm_state(here), "client-secret")


def test_the_client_secret_is_replaced_in_one_step() -> None:
    asking = claim(sessions=[{"name": "main"}])
    asking["metadata"]["annotations"] = {ROTATE: "client/lab/2"}
    here = resolve(asking, IDENTITY)
    seen = running(here, now=NOW)
    assert stage(here, seen, "client secret").objects == (client_secret(here, "fresh-1", NOW_DONE),)
    done = replace(seen, client_secret="fresh-1", client_turn=NOW_DONE)
    assert stage(here, done, "client secret").objects == (client_secret(here, "fresh-1", NOW_DONE),)
    assert rotation.turns(here, done)["client/lab"] == NOW_DONE


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
    assert [(stage.name, stage.part) for stage in plan(here, running(here), fresh()).stages[6:]] == [
        ("session a", "a"),
        ("network policies of session a", "a"),
        ("session c", "c"),
        ("network policies of session c", "c"),
    ]


def test_a_session_waits_for_itself_alone() -> None:
    here = lab(sessions=SESSIONS)
    seen = session_is(running(here), "a", phase=Phase.DELETING)
    assert [stage.waits for stage in plan(here, seen, fresh()).stages[6:]] == [
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
    made = {identity(obj) for stage in plan(here, well, fresh()).stages for obj in stage.objects}
    nothing = replace(
        well,
        storage=None,
        phase=Phase.PENDING,
        place=Place.ABSENT,
        sessions={"main": SessionFacts()},
        credentials=None,
    )
    assert plan(here, nothing, fresh()).wanted == made | {COPY, CREDENTIALS, LOGIN, CLIENT, CLIENT_COPY}


def test_what_is_no_longer_declared_is_not_wanted() -> None:
    here = lab()
    less = lab(sessions=[], data={"enabled": False})
    gone = plan(here, running(here), fresh()).wanted - plan(less, running(less), fresh()).wanted
    assert {(kind, name) for kind, _, name in gone if kind != "NetworkPolicy"} == {
        ("WorkshopSession", "lab-main"),
        ("PersistentVolumeClaim", "lab-datalab"),
        ("PersistentVolumeClaim", "lab-main-persistent"),
    }


def test_a_stopped_session_keeps_its_home() -> None:
    here = lab(sessions=[{"name": "main", "state": "stopped"}])
    assert ("PersistentVolumeClaim", "lab", "lab-main-persistent") in plan(here, running(here), fresh()).wanted


def test_nothing_seen_is_no_obstacle_to_planning() -> None:
    here = lab(sessions=SESSIONS)
    assert [
        stage.name for stage in plan(here, Observed(), fresh()).stages if stage.waits is None and stage.objects
    ] == [
        "login",
        "runtime",
    ]


# --- databases and stores ---------------------------------------------------------------------------------------------

GATEWAY = {"parentName": "default", "parentNamespace": "gateways", "sectionName": "postgres"}
EXPOSED = environment(database={"gateway": GATEWAY})
STORE = {"storage": "1Gi"}
DATABASE = {"names": ["dev"], "storage": "1Gi", "backupStorage": "1Gi"}
EVERYTHING: dict[str, Any] = {
    "sessions": [],
    "databases": {"pg0": DATABASE},
    "documentStores": {"a": STORE},
    "cacheStores": {"b": STORE},
    "vectorStores": {"c": STORE},
}
NOT_THERE: dict[str, Any] = {"databases": {}, "document_stores": {}, "cache_stores": {}, "vector_stores": {}}
STAMP = "2026-03-01T12:00:00Z"


def test_databases_and_stores_that_are_there() -> None:
    """What they are opened with is never planned anew: it only stays."""
    here = lab(EXPOSED, **EVERYTHING)
    seen = running(here)
    (server,), (document,), (cache,), (vector,) = (
        here.databases,
        here.document_stores,
        here.cache_stores,
        here.vector_stores,
    )
    cached = seen.cache_stores["b"]
    assert plan(here, seen, fresh()).stages[6:] == (
        Stage(
            "database pg0",
            (postgres.initialisation(here, server), postgres.postgres_cluster(here, server, seen.databases["pg0"])),
            part="database pg0",
        ),
        Stage("route of database pg0", (postgres.route(here, server),), part="database pg0"),
        Stage("document stores", tuple(mongodb.prerequisites(here)), part="document stores"),
        Stage("credentials of document store a", keeps=(("Secret", "lab", "a-mongodb-auth"),), part="document store a"),
        Stage(
            "document store a",
            (mongodb.mongodb(here, document, seen.document_stores["a"].volumes),),
            part="document store a",
        ),
        Stage("credentials of cache store b", keeps=(("Secret", "lab", "b-redis-auth"),), part="cache store b"),
        Stage(
            "cache store b",
            (redis.acl(here, cache, cached.auth), redis.redis(here, cache, cached)),
            part="cache store b",
        ),
        Stage("credentials of vector store c", keeps=(("Secret", "lab", "c-qdrant-auth"),), part="vector store c"),
        Stage("vector store c", (qdrant.qdrant(here, vector, seen.vector_stores["c"]),), part="vector store c"),
    )


WRITTEN = "its credentials are being written"


def test_databases_and_stores_that_are_not_there() -> None:
    """First what a store is opened with, so that its operator finds it; every password is another one."""
    here = lab(**EVERYTHING)
    seen = running(here, **NOT_THERE)
    (document,), (cache,), (vector,) = here.document_stores, here.cache_stores, here.vector_stores
    keys = {"apiKey": "fresh-3", "readApiKey": "fresh-4"}
    stages = {stage.name: stage for stage in plan(here, seen, fresh()).stages}
    assert {name: stage.waits for name, stage in stages.items() if stage.part} == {
        "database pg0": None,
        "document stores": None,
        "credentials of document store a": None,
        "document store a": WRITTEN,
        "credentials of cache store b": None,
        "cache store b": WRITTEN,
        "credentials of vector store c": None,
        "vector store c": WRITTEN,
    }
    assert [stage for name, stage in stages.items() if name.startswith("credentials of ")] == [
        Stage(
            "credentials of document store a",
            (mongodb.auth(here, document, "fresh-1", Turn()),),
            part="document store a",
            create_only=True,
        ),
        Stage(
            "credentials of cache store b",
            (redis.auth(here, cache, {"password": "fresh-2"}, Turn()),),
            part="cache store b",
            create_only=True,
        ),
        Stage(
            "credentials of vector store c",
            (qdrant.auth(here, vector, keys, Turn()),),
            part="vector store c",
            create_only=True,
        ),
    ]


@pytest.mark.parametrize(
    "served", [frozenset(OPERATORS), frozenset[str]()], ids=["with operators", "without operators"]
)
def test_databases_and_stores_wait_for_the_namespace(served: frozenset[str]) -> None:
    here = lab(EXPOSED, **EVERYTHING)
    stages = plan(here, running(here, **NOT_THERE, phase=Phase.PENDING, served=served), fresh()).stages
    assert {stage.waits for stage in stages if stage.part} == {"the lab's environment is not running yet"}


def test_databases_and_stores_wait_for_their_operators() -> None:
    here = lab(EXPOSED, **EVERYTHING)
    stages = plan(here, running(here, served=frozenset()), fresh()).stages
    assert {stage.name: stage.waits for stage in stages if stage.waits} == {
        name: f"the cluster does not know {kind}; install {OPERATORS[kind]}"
        for name, kind in (
            ("database pg0", "PostgresCluster"),
            ("route of database pg0", "TLSRoute"),
            ("document store a", "MongoDBCommunity"),
            ("cache store b", "Redis"),
            ("vector store c", "QdrantCluster"),
        )
    }


def test_a_store_of_an_earlier_claim_keeps_its_password() -> None:
    """Its auth Secret is written once more, the same but for whose it is."""
    here = lab(**EVERYTHING)
    known = {"password": "known"}
    left = StoreFacts(auth=known, auth_exists=True, auth_adopted=False, turn=MADE)
    seen = running(here, document_stores={"a": left}, cache_stores={"b": left})
    (document,), (cache,) = here.document_stores, here.cache_stores
    assert [stage(here, seen, f"credentials of {name}") for name in ("document store a", "cache store b")] == [
        Stage(
            "credentials of document store a", (mongodb.auth(here, document, "known", MADE),), part="document store a"
        ),
        Stage("credentials of cache store b", (redis.auth(here, cache, known, MADE),), part="cache store b"),
    ]


def test_an_auth_secret_without_use_is_written_again() -> None:
    here = lab(**EVERYTHING)
    emptied = StoreFacts(auth_exists=True, auth_adopted=True)
    found = stage(here, running(here, vector_stores={"c": emptied}), "credentials of vector store c")
    assert (len(found.objects), found.create_only) == (1, False)


def test_what_document_stores_run_by_stays_while_one_is_kept() -> None:
    here = lab(sessions=[])
    found = stage(here, running(here, keeps_document_stores=True), "document stores")
    assert found.objects == tuple(mongodb.prerequisites(here))


def test_nothing_of_stores_where_none_is_declared() -> None:
    assert not any(stage.part for stage in plan(lab(sessions=[]), running(lab(sessions=[])), fresh()).stages)


# --- rotation ---------------------------------------------------------------------------------------------------------


def asked(text: str, within: EnvironmentConfig | None = None, **spec: Any) -> Lab:
    """The lab of a claim that asks for these credentials to be replaced."""
    written = claim(**EVERYTHING | spec)
    written["metadata"]["annotations"] = {ROTATE: text}
    return resolve(written, within or environment())


NOW_DONE = Turn("2", "", STAMP)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("login/lab/1", {"login/lab": "1"}, id="one"),
        pytest.param("login/lab/1, redis/b/x.y-z_2", {"login/lab": "1", "redis/b": "x.y-z_2"}, id="several"),
        pytest.param("redis/b/1,redis/b/2", {"redis/b": "2"}, id="the last of several for one"),
        pytest.param("", {}, id="none"),
        pytest.param("redis/b,redis//1,/b/1,redis/B/1,redis/b/1/2,redis/b/a b", {}, id="what is no request"),
    ],
)
def test_requests(text: str, expected: dict[str, str]) -> None:
    assert rotation.requests({ROTATE: text}) == expected


def test_nothing_is_requested() -> None:
    assert rotation.requests({}) == {}


@pytest.mark.parametrize(
    ("within", "expected"),
    [
        pytest.param(
            environment(), ["postgres/pg0", "mongodb/a", "redis/b", "qdrant/c", "login/lab"], id="with a login"
        ),
        pytest.param(DELEGATED, ["postgres/pg0", "mongodb/a", "redis/b", "qdrant/c"], id="without a login"),
    ],
)
def test_what_can_be_replaced(within: EnvironmentConfig, expected: list[str]) -> None:
    here = lab(within, **EVERYTHING)
    assert list(rotation.turns(here, running(here))) == expected


def test_replacing_credentials() -> None:
    here = asked("login/lab/2,mongodb/a/2,redis/b/2,qdrant/c/2")
    seen = running(here, now=NOW)
    (document,), (cache,), (vector,) = here.document_stores, here.cache_stores, here.vector_stores
    both = {"password": "b-password", "next": "fresh-3"}
    keys = {"apiKey": "fresh-4", "readApiKey": "fresh-5"}
    coming = replace(MADE, rotating="2")
    stages = plan(here, seen, fresh()).stages
    assert [stage for stage in stages if stage.name == "login" or stage.name.startswith("credentials of")] == [
        Stage("login", (login(here, "fresh-1", NOW_DONE),)),
        Stage(
            "credentials of document store a",
            (mongodb.auth(here, document, "fresh-2", NOW_DONE),),
            part="document store a",
        ),
        Stage("credentials of cache store b", (redis.auth(here, cache, both, coming),), part="cache store b"),
        Stage("credentials of vector store c", (qdrant.auth(here, vector, keys, coming),), part="vector store c"),
    ]


def test_what_was_replaced_is_not_replaced_again() -> None:
    here = asked("login/lab/2,mongodb/a/2,redis/b/2,qdrant/c/2")
    seen = running(here)
    done = replace(
        seen,
        login_turn=NOW_DONE,
        document_stores={"a": replace(seen.document_stores["a"], turn=NOW_DONE)},
        cache_stores={"b": replace(seen.cache_stores["b"], turn=NOW_DONE)},
        vector_stores={"c": replace(seen.vector_stores["c"], turn=NOW_DONE)},
    )
    found = plan(here, done, fresh()).stages
    assert [stage.objects for stage in found if stage.name == "login" or stage.name.startswith("credentials of")] == [
        (),
        (),
        (),
        (),
    ]


DONE = {ROTATED: "2", SINCE: STAMP}


def given(name: str, password: str, **annotations: str) -> NewPassword:
    """A password for the operator of databases, for one role of server `pg0`."""
    return NewPassword(f"pg0-pguser-{name}", f"{name}-uid", "5", password, annotations | {USERS_REVISION: "r0"})


def of_roles(*known: Role, **changes: Any) -> DatabaseFacts:
    """What is seen of server `pg0`, with these logins; the lab has the first."""
    roles = {role.name: role for role in known}
    return DatabaseFacts(roles=roles, active=known[0].name, users_revision="r0", **changes)


(SERVER,) = lab(databases={"pg0": DATABASE}).databases
BOSS = role(SERVER)
A, B = role(SERVER, "datalab-a"), role(SERVER, "datalab-b")
TOLD = replace(BOSS, told_after="r1")


@pytest.mark.parametrize(
    ("text", "facts", "expected"),
    [
        pytest.param("", of_roles(BOSS), (), id="nothing is asked for"),
        pytest.param("postgres/pg0/2", DatabaseFacts(), (), id="there is no login yet"),
        pytest.param("postgres/pg0/2", of_roles(BOSS), (given("postgres", "fresh-1", **DONE),), id="superuser"),
        pytest.param("postgres/pg0/2", of_roles(replace(BOSS, turn=NOW_DONE)), (), id="superuser, done"),
        pytest.param("postgres/pg0/2", of_roles(replace(BOSS, settled=False)), (), id="one after the other"),
        pytest.param("postgres/pg0/2", of_roles(A, B), (given("datalab-b", "fresh-1", **DONE),), id="the idle role"),
        pytest.param("postgres/pg0/2", of_roles(A, replace(B, turn=NOW_DONE)), (), id="the idle role, done"),
        pytest.param("postgres/pg0/2", of_roles(replace(B, turn=NOW_DONE), A), (), id="it has taken over"),
        pytest.param(
            "",
            of_roles(BOSS, restored=("r1",)),
            (given("postgres", "postgres-secret", **{RESTORED: "r1"}),),
            id="restored",
        ),
        pytest.param("", of_roles(TOLD, restored=("r1",)), (), id="restored, told"),
        pytest.param(
            "", of_roles(replace(BOSS, settled=False), restored=("r1",)), (), id="restored, about to be told anyway"
        ),
        pytest.param(
            "postgres/pg0/2",
            of_roles(BOSS, restored=("r1",)),
            (given("postgres", "fresh-1", **DONE, **{RESTORED: "r1"}),),
            id="restored and to be replaced",
        ),
    ],
)
def test_passwords_that_the_operator_of_databases_is_given(
    text: str, facts: DatabaseFacts, expected: tuple[NewPassword, ...]
) -> None:
    here = asked(text, documentStores={}, cacheStores={}, vectorStores={})
    seen = running(here, databases={"pg0": facts}, now=NOW)
    assert plan(here, seen, fresh()).new_passwords == expected


def test_a_server_never_seen_is_given_no_password() -> None:
    here = asked("postgres/pg0/2")
    assert plan(here, running(here, databases={}), fresh()).new_passwords == ()


def test_what_is_given_does_not_show() -> None:
    assert "secret-value" not in repr(given("postgres", "secret-value"))
