import datetime
from typing import Any

import pytest

from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import BACKUP, RESTORE, ROTATE, Manifest
from datalabd.lab import DatabaseServer, Lab, resolve
from datalabd.plan import backups
from datalabd.plan.backups import Restore, restores
from datalabd.plan.metadata import digest, ours
from datalabd.plan.postgres import initialisation, postgres_cluster, route
from datalabd.plan.postgres_roles import init_sql
from datalabd.stores import ACTIVE_ROLE, INITIALISED, RESTORED, DatabaseFacts, Job, Size, Turn
from tests.factories import claim, environment, lab, role

SERVER = DatabaseServer("pg0", ("prod", "dev"), "1Gi", "3Gi", "fast", "slow")
ASKED_TO_RESTORE = {"enabled": True, "repoName": "repo1"}
NEW = DatabaseFacts()
THERE = DatabaseFacts(age_seconds=600.0, has_backups=True)
ROLES = environment(database={"superuser": False})
DATABASES = ["prod", "dev"]
SCRIPT = "\\set ON_ERROR_STOP on\n\\connect postgres\n"
APPLICATION = init_sql(DATABASES, superuser=False)


def annotated(annotations: dict[str, str], within: EnvironmentConfig | None = None) -> Lab:
    """The lab of a claim with these annotations."""
    written = claim()
    return resolve(written | {"metadata": written["metadata"] | {"annotations": annotations}}, within or environment())


@pytest.mark.parametrize(
    ("within", "expected"),
    [pytest.param(environment(), SCRIPT, id="nothing for the superuser"), pytest.param(ROLES, APPLICATION, id="roles")],
)
def test_initialisation(within: EnvironmentConfig, expected: str) -> None:
    here = lab(within)
    metadata = {"name": "pg0-init-sql", "namespace": "lab"}
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"init.sql": expected}}
    assert initialisation(here, SERVER) == ours(here, manifest)


def volume(size: Size) -> Manifest:
    """Spec of a volume claim."""
    spec: Manifest = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size.storage}}}
    return spec | ({"storageClassName": size.storage_class} if size.storage_class else {})


DATA, BACKUPS = Size("1Gi", "fast"), Size("3Gi", "slow")
SUPERUSER = [{"name": "postgres", "databases": DATABASES}]
RUNS: dict[str, Any] = {"databaseInitSQL": {"name": "pg0-init-sql", "key": "init.sql"}}


def cluster(
    of: Lab,
    data: Size = DATA,
    backup: Size = BACKUPS,
    annotations: dict[str, str] | None = None,
    pgbackrest: Manifest | None = None,
    **spec: Any,
) -> Manifest:
    """A PostgresCluster of ours."""
    usual: Manifest = {
        "postgresVersion": 17,
        "postGISVersion": "3.5",
        "instances": [{"name": "primary", "replicas": 1, "dataVolumeClaimSpec": volume(data)}],
        "backups": {
            "pgbackrest": {
                "global": {
                    "repo1-retention-full-type": "count",
                    "repo1-retention-full": "4",
                    "repo1-path": "/pgbackrest/repo1",
                },
                "repos": [
                    {
                        "name": "repo1",
                        "schedules": {"full": "0 1 * * 0", "differential": "0 1 * * 1-6"},
                        "volume": {"volumeClaimSpec": volume(backup)},
                    }
                ],
            }
            | (pgbackrest or {})
        },
        "users": [*SUPERUSER, {"name": "ann"}],
    }
    metadata = {"name": "pg0", "namespace": "lab"} | ({"annotations": annotations} if annotations else {})
    manifest = {"apiVersion": "postgres-operator.crunchydata.com/v1", "kind": "PostgresCluster", "metadata": metadata}
    return ours(of, manifest | {"spec": usual | spec})


def test_postgres_cluster() -> None:
    assert postgres_cluster(lab(), SERVER, NEW) == cluster(lab(), **RUNS)


def test_the_clusters_default_classes() -> None:
    server = DatabaseServer("pg0", ("prod", "dev"), "1Gi", "3Gi", None, None)
    assert postgres_cluster(lab(), server, NEW) == cluster(lab(), Size("1Gi", None), Size("3Gi", None), **RUNS)


@pytest.mark.parametrize(
    ("live", "expected"),
    [
        pytest.param(
            (Size("2Gi", "other"), Size("9Gi", None)), (Size("2Gi", "other"), Size("9Gi", None)), id="never shrinks"
        ),
        pytest.param(
            (Size("500Mi", None), Size("1Gi", "other")), (Size("1Gi", None), Size("3Gi", "other")), id="grows"
        ),
    ],
)
def test_volumes_that_exist(live: tuple[Size, Size], expected: tuple[Size, Size]) -> None:
    seen = DatabaseFacts(data=live[0], backup=live[1])
    assert postgres_cluster(lab(), SERVER, seen) == cluster(lab(), *expected, **RUNS)


def test_users_that_the_operator_would_refuse_get_no_role() -> None:
    here = lab(users=["ann", "jane.doe@x", "bob", "ann", "postgres"])
    users = [*SUPERUSER, {"name": "ann"}, {"name": "bob"}]
    assert postgres_cluster(here, SERVER, NEW) == cluster(here, users=users, **RUNS)


def test_route() -> None:
    gateway = {"parentName": "default", "parentNamespace": "gateways", "sectionName": "postgres"}
    here = lab(environment(database={"gateway": gateway}))
    assert route(here, SERVER) == ours(
        here,
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "TLSRoute",
            "metadata": {"name": "pg0", "namespace": "lab"},
            "spec": {
                "parentRefs": [{"name": "default", "namespace": "gateways", "sectionName": "postgres"}],
                "hostnames": ["pg0-lab.lab.example.org"],
                "rules": [{"backendRefs": [{"name": "pg0-primary", "port": 5432}]}],
            },
        },
    )


# --- application roles ------------------------------------------------------------------------------------------------

HANDED = [{"name": "datalab-a", "databases": DATABASES}, {"name": "datalab-b", "databases": DATABASES}]
CURRENT = digest(APPLICATION)
FIRST = {INITIALISED: CURRENT, ACTIVE_ROLE: "datalab-a"}


def of_roles(active: str = "datalab-a", **changes: Any) -> DatabaseFacts:
    """A server of which the lab has an application role, initialised as it should be."""
    facts: dict[str, Any] = {"age_seconds": 600.0, "initialised": True, "initialised_for": CURRENT}
    known = {name: role(SERVER, name) for name in ("datalab-a", "datalab-b")}
    return DatabaseFacts(**facts | {"roles": known, "active": active} | changes)


def test_a_member_called_as_an_application_role_has_a_role_where_the_lab_is_superuser() -> None:
    here = lab(users=["ann", "datalab-a"])
    users = [{"name": "postgres", "databases": DATABASES}, {"name": "ann"}, {"name": "datalab-a"}]
    assert postgres_cluster(here, SERVER, NEW) == cluster(here, users=users, **RUNS)


def test_application_roles() -> None:
    here = lab(ROLES, users=["ann", "datalab-a"])
    seen = DatabaseFacts(active="datalab-a")
    users = [*HANDED, {"name": "ann"}]
    assert postgres_cluster(here, SERVER, seen) == cluster(here, annotations=FIRST, users=users, **RUNS)


@pytest.mark.parametrize(
    ("within", "seen", "told", "remembered"),
    [
        pytest.param(ROLES, of_roles(), True, CURRENT, id="it has run"),
        pytest.param(ROLES, of_roles(initialised=False), True, CURRENT, id="it is about to run"),
        pytest.param(ROLES, of_roles(initialised_for="earlier"), False, "earlier", id="another was run: forget that"),
        pytest.param(
            ROLES, of_roles(initialised_for="earlier", initialised=False), True, CURRENT, id="that is forgotten"
        ),
        pytest.param(ROLES, of_roles(initialised_for=""), False, None, id="the superuser's was run: forget that"),
        pytest.param(
            ROLES, of_roles(initialised_for="", initialised=False), True, CURRENT, id="the superuser's is forgotten"
        ),
        pytest.param(environment(), THERE, True, None, id="the superuser's never changes"),
        pytest.param(
            environment(),
            of_roles("postgres", roles={"postgres": role(SERVER)}),
            False,
            CURRENT,
            id="the superuser's again: forget the other",
        ),
        pytest.param(
            environment(),
            of_roles("postgres", roles={"postgres": role(SERVER)}, initialised=False),
            True,
            digest(SCRIPT),
            id="the superuser's again",
        ),
    ],
)
def test_what_runs_once_runs_again_when_it_changes(
    within: EnvironmentConfig, seen: DatabaseFacts, told: bool, remembered: str | None
) -> None:
    """PGO runs it once; only if it is told of nothing does it forget that."""
    made = postgres_cluster(lab(within), SERVER, seen)
    assert ("databaseInitSQL" in made["spec"], made["metadata"]["annotations"].get(INITIALISED)) == (told, remembered)


REQUEST = {ROTATE: "postgres/pg0/2"}
ASKED = Turn("2", "", "2026-03-01T12:00:00Z")


@pytest.mark.parametrize(
    ("annotations", "idle", "expected"),
    [
        pytest.param({}, role(SERVER, "datalab-b"), "datalab-a", id="nothing is asked for"),
        pytest.param(REQUEST, None, "datalab-a", id="there is no other yet"),
        pytest.param(REQUEST, role(SERVER, "datalab-b"), "datalab-a", id="the other has no new password yet"),
        pytest.param(
            REQUEST,
            role(SERVER, "datalab-b", turn=ASKED, settled=False),
            "datalab-a",
            id="the server does not know it yet",
        ),
        pytest.param(REQUEST, role(SERVER, "datalab-b", turn=ASKED), "datalab-b", id="the other takes over"),
    ],
)
def test_the_role_that_a_lab_has(annotations: dict[str, str], idle: Any, expected: str) -> None:
    here = annotated(annotations, ROLES)
    known = {"datalab-a": role(SERVER, "datalab-a")} | ({"datalab-b": idle} if idle else {})
    made = postgres_cluster(here, SERVER, of_roles(roles=known))
    assert made["metadata"]["annotations"][ACTIVE_ROLE] == expected


def test_a_role_that_took_over_stays() -> None:
    here = annotated(REQUEST, ROLES)
    known = {"datalab-a": role(SERVER, "datalab-a"), "datalab-b": role(SERVER, "datalab-b", turn=ASKED)}
    made = postgres_cluster(here, SERVER, of_roles("datalab-b", roles=known))
    assert made["metadata"]["annotations"][ACTIVE_ROLE] == "datalab-b"


# --- backups and restores ---------------------------------------------------------------------------------------------

PGO = "postgres-operator.crunchydata.com"
MANUAL = {"manual": {"repoName": "repo1", "options": ["--type=full"]}}
OPTIONS = ["--type=time", '--target="2026-02-01 10:30:00+00"']


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("pg0/1", {"pg0": "1"}, id="one"),
        pytest.param("pg0/1, pg1/x.y-z_2", {"pg0": "1", "pg1": "x.y-z_2"}, id="several"),
        pytest.param("", {}, id="none"),
        pytest.param("pg0,pg0/,/1,PG0/1,pg0/a b,pg0/1/2", {}, id="what is no request"),
        pytest.param("pg0/1,pg0/2", {"pg0": "2"}, id="the last of several for one"),
    ],
)
def test_requests_of_backups(text: str, expected: dict[str, str]) -> None:
    assert backups.backups({BACKUP: text}) == expected


TIME = datetime.datetime(2026, 2, 1, 10, 30, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("pg0/1", {"pg0": Restore(None, "1", None)}, id="in place"),
        pytest.param("pg1=pg0/1", {"pg1": Restore("pg0", "1", None)}, id="from another"),
        pytest.param("pg0/1@2026-02-01T10:30:00Z", {"pg0": Restore(None, "1", TIME)}, id="up to a time"),
        pytest.param("pg0/1@2026-02-01T12:30:00+02:00", {"pg0": Restore(None, "1", TIME)}, id="of another zone"),
        pytest.param("pg0/1@2026-02-31T10:30:00Z", {}, id="up to a day that is none"),
        pytest.param("pg0/1@2026-02-01", {}, id="up to a day"),
        pytest.param("pg0/1@2026-02-01T10:30:00", {}, id="of no zone"),
        pytest.param('pg0/1";ls', {}, id="what a shell would run"),
        pytest.param("", {}, id="none"),
    ],
)
def test_requests_of_restores(text: str, expected: dict[str, Restore]) -> None:
    assert restores({RESTORE: text}) == expected


def test_nobody_asks() -> None:
    assert (backups.backups({}), restores({})) == ({}, {})


@pytest.mark.parametrize(
    ("asked", "seen", "annotations", "pgbackrest"),
    [
        pytest.param({BACKUP: "pg0/1"}, THERE, {f"{PGO}/pgbackrest-backup": "1"}, MANUAL, id="backup"),
        pytest.param({BACKUP: "pg1/1"}, THERE, {}, {}, id="backup of another"),
        pytest.param(
            {RESTORE: "pg0/1"},
            THERE,
            {f"{PGO}/pgbackrest-restore": "1"},
            {"restore": {"enabled": True, "repoName": "repo1"}},
            id="restore of all there is",
        ),
        pytest.param(
            {RESTORE: "pg0/1@2026-02-01T10:30:00Z"},
            THERE,
            {f"{PGO}/pgbackrest-restore": "1"},
            {"restore": {"enabled": True, "repoName": "repo1", "options": OPTIONS}},
            id="restore up to a time",
        ),
        pytest.param({RESTORE: "pg0/1"}, NEW, {RESTORED: "1"}, {}, id="no restore of one that is only being made"),
        pytest.param(
            {RESTORE: "pg0/1"}, DatabaseFacts(age_seconds=60.0), {}, {}, id="no restore of one that has no backups"
        ),
        pytest.param(
            {RESTORE: "pg0/1"},
            DatabaseFacts(has_backups=True, age_seconds=60.0, restored=("1", "2")),
            {RESTORED: "1,2"},
            {},
            id="no restore that was heeded long ago",
        ),
        pytest.param(
            {},
            DatabaseFacts(age_seconds=60.0, restoring=Job("3", "Running"), restore_asked=ASKED_TO_RESTORE),
            {f"{PGO}/pgbackrest-restore": "3"},
            {"restore": ASKED_TO_RESTORE},
            id="one under way is not withdrawn",
        ),
        pytest.param(
            {RESTORE: "pg0/1"},
            DatabaseFacts(has_backups=True, age_seconds=60.0, restored=("1",)),
            {RESTORED: "1"},
            {},
            id="no restore twice",
        ),
        pytest.param(
            {RESTORE: "pg0/2"},
            DatabaseFacts(has_backups=True, age_seconds=60.0, restored=("1",)),
            {f"{PGO}/pgbackrest-restore": "2", RESTORED: "1"},
            {"restore": {"enabled": True, "repoName": "repo1"}},
            id="the next restore",
        ),
    ],
)
def test_what_the_operator_is_asked_for(
    asked: dict[str, str], seen: DatabaseFacts, annotations: dict[str, str], pgbackrest: Manifest
) -> None:
    here = annotated(asked)
    assert postgres_cluster(here, SERVER, seen) == cluster(here, annotations=annotations, pgbackrest=pgbackrest, **RUNS)


@pytest.mark.parametrize(
    ("asked", "more"),
    [
        pytest.param("pg0=old/1", {}, id="all there is"),
        pytest.param("pg0=old/1@2026-02-01T10:30:00Z", {"options": OPTIONS}, id="up to a time"),
    ],
)
def test_a_server_from_the_backups_of_another(asked: str, more: Manifest) -> None:
    here = annotated({RESTORE: asked})
    source = {"postgresCluster": {"clusterName": "old", "repoName": "repo1"} | more}
    assert postgres_cluster(here, SERVER, NEW) == cluster(here, **RUNS, dataSource=source)
