"""PostgreSQL servers through a claim's life, with a real PostgreSQL behind each: every address logs in."""

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from datalabd.kube.client import Client
from hack.cluster import Cluster
from hack.postgresql import Servers, missing
from hack.standins import GatewayController
from hack.standins.postgres import PostgresOperator
from tests.integration.daemon import Daemon, eventually
from tests.integration.stage import Stage, standins

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

SERVER = {"names": ["dev", "prod"], "storage": "1Gi", "backupStorage": "1Gi"}


@pytest.fixture(scope="module", autouse=True)
def playing(cluster: Cluster) -> Iterator[None]:
    if lacking := missing():
        pytest.skip(lacking)

    def operator(client: Client) -> PostgresOperator:
        # Long enough to notice whoever hands a login out that the server does not know yet.
        return PostgresOperator(client, servers, exec_seconds=0.5)

    with Servers() as servers, standins(cluster, installed=False, stores=[operator, GatewayController]):
        yield


@pytest.fixture
def stage(cluster: Cluster, datalabd: Daemon, namespace: str) -> Stage:
    return Stage(cluster, namespace)


def psql(url: str, sql: str = "SELECT current_user") -> str:
    """What a client gets that uses the address as it is; PGHOSTADDR stands in for the cluster's DNS."""
    done = subprocess.run(
        ["psql", "-XwAtq", url, "--command", sql],
        env=os.environ | {"PGHOSTADDR": "127.0.0.1", "PGCONNECT_TIMEOUT": "5"},
        capture_output=True,
        text=True,
    )
    return done.stdout.strip() if done.returncode == 0 else f"refused: {done.stderr}"


def from_within(url: str, port: str) -> str:
    """An external address as it reaches the server itself: by that port, and without the query, which asks for TLS.

    No gateway passes traffic on here, the server has no TLS, and psql before 17 does not know `sslnegotiation`.
    """
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{port}", query="").geturl()


def known(stage: Stage, lab: str, name: str) -> str:
    """A variable of the lab's sessions."""
    return stage.values(f"{lab}-datalab").get(name, "")


def state(stage: Stage, lab: str, job: str) -> str:
    """How far a backup or restore is that was asked for."""
    databases = (stage.get("datalab", lab) or {})["status"].get("databases") or {}
    return str(((databases.get("pg0") or {}).get(job) or {}).get("state"))


def rotate(stage: Stage, lab: str, nonce: str) -> str:
    """The address of database `dev` once the rotation is done."""
    before = known(stage, lab, "POSTGRES_PG0_DEV_URL")
    stage.annotate(lab, "datalabs.pkg.internal/rotate", f"postgres/pg0/{nonce}")

    def done() -> bool:
        credentials = (stage.get("datalab", lab) or {})["status"]["credentials"]["postgres/pg0"]
        return bool(credentials.get("rotation") == nonce)

    eventually(done, 60)
    return str(eventually(lambda: (now := known(stage, lab, "POSTGRES_PG0_DEV_URL")) != before and now, 30))


@contextlib.contextmanager
def logging_in(stage: Stage, lab: str, name: str) -> Iterator[list[str]]:
    """Logins with the address that this variable has at that moment, one after the other while the context lasts."""
    answers: list[str] = []
    stop = threading.Event()

    def repeat() -> None:
        while not stop.is_set():
            answers.append(psql(known(stage, lab, name)))

    thread = threading.Thread(target=repeat, name="logins")
    thread.start()
    try:
        yield answers
    finally:
        stop.set()
        thread.join(30)


def test_every_address_logs_in_before_and_after_a_rotation(stage: Stage) -> None:
    lab = stage.lab(databases={"pg0": SERVER})
    stage.until_ready(lab, 120)
    before = known(stage, lab, "POSTGRES_PG0_DEV_URL")
    assert psql(before) == psql(known(stage, lab, "POSTGRES_PG0_PROD_URL")) == "postgres"
    after = rotate(stage, lab, "first")
    eventually(lambda: psql(after) == "postgres", 20)
    assert psql(known(stage, lab, "POSTGRES_PG0_PROD_URL")) == "postgres"
    assert psql(before).startswith("refused")
    stage.until_ready(lab, 30)


def test_application_roles_take_turns(cluster: Cluster, datalabd: Daemon, namespace: str) -> None:
    stage = Stage(cluster, namespace, database={"superuser": False})
    lab = stage.lab(databases={"pg0": SERVER})
    stage.until_ready(lab, 120)
    first = known(stage, lab, "POSTGRES_PG0_DEV_URL")
    eventually(lambda: psql(first, "CREATE TABLE notes (line text)") == "", 20)
    assert psql(first, "SELECT usesuper FROM pg_user WHERE usename = session_user") == "f"
    with logging_in(stage, lab, "POSTGRES_PG0_DEV_URL") as answers:
        second = rotate(stage, lab, "first")
        assert psql(second, "INSERT INTO notes VALUES ('kept'); SELECT line FROM notes") == "kept"
        assert psql(first, "SELECT line FROM notes") == "kept"  # what runs goes on
        third = rotate(stage, lab, "second")
        assert psql(third) == "datalab_owner"
    assert len(answers) > 5
    assert set(answers) == {"datalab_owner"}
    assert psql(third, "ALTER TABLE notes ADD COLUMN author text; SELECT line FROM notes") == "kept"
    assert psql(second, "SELECT line FROM notes") == "kept"
    assert psql(first).startswith("refused")
    stage.patch(lab, {"op": "add", "path": "/spec/databases/pg0/names/-", "value": "later"})
    later = eventually(lambda: known(stage, lab, "POSTGRES_PG0_LATER_URL"), 60)
    eventually(lambda: psql(later, "CREATE TABLE IF NOT EXISTS fresh (line text)") == "", 60)


def test_addresses_through_the_gateway_log_in(cluster: Cluster, datalabd: Daemon, namespace: str) -> None:
    listener = {
        "name": "sql",
        "port": 443,
        "protocol": "TLS",
        "tls": {"mode": "Passthrough"},
        "allowedRoutes": {"namespaces": {"from": "All"}},
    }
    gateway = {"parentName": "outer", "parentNamespace": namespace, "sectionName": "sql"}
    stage = Stage(cluster, namespace, database={"gateway": gateway})
    stage.create(
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "outer", "namespace": namespace},
            "spec": {"gatewayClassName": "any", "listeners": [listener]},
        }
    )
    lab = stage.lab(databases={"pg0": SERVER})
    stage.until_ready(lab, 120)
    (route,) = stage.list("tlsroutes", "", lab)
    for database in ("dev", "prod"):
        url = known(stage, lab, f"POSTGRES_PG0_{database.upper()}_URL_EXTERNAL")
        assert [urlsplit(url).hostname] == route["spec"]["hostnames"]
        assert (urlsplit(url).port, urlsplit(url).query) == (443, "sslmode=require&sslnegotiation=direct")
        within = from_within(url, known(stage, lab, "POSTGRES_PG0_PORT"))
        assert psql(within, "SELECT current_user, current_database()") == f"postgres|{database}"


def test_backup_and_restore(stage: Stage) -> None:
    lab = stage.lab(databases={"pg0": SERVER})
    stage.until_ready(lab, 120)
    url = known(stage, lab, "POSTGRES_PG0_DEV_URL")
    assert psql(url, "CREATE TABLE notes (line text); INSERT INTO notes VALUES ('saved')") == ""
    stage.annotate(lab, "datalabs.pkg.internal/backup", "pg0/one")

    eventually(lambda: state(stage, lab, "backup") == "Succeeded", 60)
    moment = psql(url, "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')")
    assert psql(url, "SELECT pg_sleep(1.1); DROP TABLE notes; SELECT pg_switch_wal()") is not None
    stage.annotate(lab, "datalabs.pkg.internal/restore", f"pg0/back@{moment}")
    eventually(lambda: state(stage, lab, "restore") == "Succeeded", 120)
    eventually(lambda: psql(known(stage, lab, "POSTGRES_PG0_DEV_URL"), "SELECT line FROM notes") == "saved", 60)
    stage.until_ready(lab, 60)


def test_a_new_server_starts_from_the_backups_of_another(stage: Stage) -> None:
    lab = stage.lab(databases={"pg0": SERVER})
    stage.until_ready(lab, 120)
    url = known(stage, lab, "POSTGRES_PG0_DEV_URL")
    assert psql(url, "CREATE TABLE notes (line text); INSERT INTO notes VALUES ('saved')") == ""
    stage.annotate(lab, "datalabs.pkg.internal/backup", "pg0/one")
    eventually(lambda: state(stage, lab, "backup") == "Succeeded", 60)
    stage.annotate(lab, "datalabs.pkg.internal/restore", "pg1=pg0/copy")
    stage.patch(lab, {"op": "add", "path": "/spec/databases/pg1", "value": SERVER})
    copied = eventually(lambda: known(stage, lab, "POSTGRES_PG1_DEV_URL"), 120)
    eventually(lambda: psql(copied, "SELECT line FROM notes") == "saved", 60)
    assert psql(url, "SELECT line FROM notes") == "saved"


def test_a_removed_server_is_kept_without_running_and_found_again(stage: Stage) -> None:
    lab = stage.lab(databases={"pg0": SERVER})
    stage.until_ready(lab, 120)
    url = known(stage, lab, "POSTGRES_PG0_DEV_URL")
    assert psql(url, "CREATE TABLE notes (line text); INSERT INTO notes VALUES ('saved')") == ""
    stage.patch(lab, {"op": "remove", "path": "/spec/databases/pg0"})
    eventually(lambda: ((stage.get("postgrescluster", "pg0", lab) or {}).get("spec") or {}).get("shutdown"), 30)
    eventually(lambda: psql(url).startswith("refused"), 30)
    stage.patch(lab, {"op": "add", "path": "/spec/databases/pg0", "value": SERVER})
    eventually(lambda: psql(url, "SELECT line FROM notes") == "saved", 60)
    stage.until_ready(lab, 60)
