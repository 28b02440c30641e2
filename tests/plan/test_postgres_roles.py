import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from datalabd.api.patterns import DATABASE_NAME
from datalabd.plan.postgres_roles import OWNER, init_sql
from datalabd.stores import APPLICATION_ROLES
from hack.postgresql import PostgreSQL, PostgreSQLError
from hack.standins import postgres_objects as pgo
from tests.servers import postgresql

__all__ = ["postgresql"]

pytestmark = pytest.mark.servers("PostgreSQL")

A, B = APPLICATION_ROLES
ODD = ["Dev", "my-db.1", "1", "_", "select", "a..b", "x" * 63]
HOSTILE = 'x"; CREATE ROLE evil; --'


@dataclass
class Server:
    """A server as PGO leaves it, with what the roles log in with."""

    postgresql: PostgreSQL
    passwords: dict[str, str]

    def declare(self, *databases: str, users: tuple[str, ...] = APPLICATION_ROLES) -> None:
        """What PGO does when users and databases of its resource change, before it runs any initial SQL."""
        cluster = {
            "metadata": {"name": "pg0", "namespace": "lab"},
            "spec": {"users": [{"name": user, "databases": list(databases)} for user in users]},
        }
        verifiers = {user: pgo.scram_verifier(self.passwords[user], secrets.token_bytes(16)) for user in users}
        self.postgresql.psql(pgo.database_script(pgo.databases(cluster)))
        self.postgresql.psql(pgo.user_script(cluster, verifiers))

    def initialise(self, *databases: str) -> None:
        self.postgresql.psql(init_sql(databases, superuser=False), stop_on_error=False)

    def run(self, user: str, sql: str, database: str = "dev") -> str:
        """The last line of what a query of that user gives."""
        said = self.postgresql.query(sql, user=user, password=self.passwords[user], database=database)
        return said.strip().rpartition("\n")[2]


@pytest.fixture
def server(postgresql: PostgreSQL) -> Iterator[Server]:
    """A server with databases `dev` and `prod` and both roles."""
    server = Server(postgresql, {user: secrets.token_hex(8) for user in (A, B, "postgres", "jane")})
    server.declare("dev", "prod")
    server.initialise("dev", "prod")
    yield server
    names = postgresql.psql("SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'")
    for name in names.splitlines():
        postgresql.psql(f"DROP DATABASE {pgo.identifier(name)} WITH (FORCE)")
    for role in (A, B, OWNER, "jane"):
        postgresql.psql(f'DROP ROLE IF EXISTS "{role}"')


def test_nothing_is_done_for_a_superuser() -> None:
    assert init_sql(["dev"], superuser=True) == "\\set ON_ERROR_STOP on\n\\connect postgres\n"


def test_every_database_gets_its_part() -> None:
    script = init_sql(["dev", HOSTILE], superuser=False)
    assert script.startswith(init_sql([], superuser=True))
    assert re.findall(r"^\\connect (.*)$", script, re.MULTILINE) == [
        "postgres",
        '"dev"',
        '"x""; CREATE ROLE evil; --"',
    ]


def test_no_member_can_be_called_like_the_owner() -> None:
    pgo_user = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
    assert [role for role in (*APPLICATION_ROLES, OWNER) if not pgo_user.fullmatch(role)] == [OWNER]


class TestBoth:
    @pytest.mark.parametrize(
        ("made", "used"),
        [
            pytest.param("CREATE TABLE t (i int)", "INSERT INTO t VALUES (1)", id="write"),
            pytest.param("CREATE TABLE t (i int)", "ALTER TABLE t ADD j int", id="alter"),
            pytest.param("CREATE TABLE t (i int)", "DROP TABLE t", id="drop"),
            pytest.param("CREATE SCHEMA s", "CREATE TABLE s.t ()", id="create in a schema"),
            pytest.param("CREATE SCHEMA s; CREATE TABLE s.t ()", "DROP SCHEMA s CASCADE", id="drop a schema"),
            pytest.param("CREATE SEQUENCE q", "SELECT nextval('q')", id="sequence"),
            pytest.param("CREATE VIEW v AS SELECT 1", "CREATE OR REPLACE VIEW v AS SELECT 2", id="view"),
            pytest.param(
                "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
                "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2'",
                id="function",
            ),
            pytest.param("CREATE TYPE e AS ENUM ('a')", "ALTER TYPE e ADD VALUE 'b'", id="type"),
            pytest.param("CREATE EXTENSION pgcrypto", "DROP EXTENSION pgcrypto", id="trusted extension"),
            pytest.param("DISCARD ALL; CREATE TABLE t (i int)", "DROP TABLE t", id="after a pooler's reset"),
            pytest.param("RESET ROLE; CREATE TABLE t (i int)", "DROP TABLE t", id="after RESET ROLE"),
        ],
    )
    def test_what_one_makes_is_the_others_too(self, server: Server, made: str, used: str) -> None:
        for maker, other, database in ((A, B, "dev"), (B, A, "prod")):
            server.run(maker, made, database)
            server.run(other, used, database)

    @pytest.mark.parametrize(("maker", "other"), [(A, B), (B, A)])
    def test_stray_objects_are_handed_over_when_it_runs_again(self, server: Server, maker: str, other: str) -> None:
        server.run(maker, "CREATE SCHEMA s; GRANT ALL ON SCHEMA s TO PUBLIC")
        server.run(maker, "SET ROLE NONE; CREATE TABLE s.t (i int)")
        with pytest.raises(PostgreSQLError, match="permission denied for table t"):
            server.run(other, "INSERT INTO s.t VALUES (1)")
        server.initialise("dev", "prod")
        server.run(other, "INSERT INTO s.t VALUES (1); DROP TABLE s.t")


class TestLimits:
    @pytest.mark.parametrize(
        "sql",
        [
            pytest.param("CREATE ROLE more", id="create a role"),
            pytest.param("CREATE DATABASE more", id="create a database"),
            pytest.param("SET ROLE postgres", id="become superuser"),
            pytest.param("SET SESSION AUTHORIZATION postgres", id="pretend to be superuser"),
            pytest.param("COPY (SELECT 1) TO PROGRAM 'true'", id="run a program"),
            pytest.param("SELECT pg_read_file('/etc/passwd')", id="read a file"),
            pytest.param("CREATE EXTENSION file_fdw", id="untrusted extension"),
            pytest.param("DROP DATABASE prod", id="drop a database"),
            pytest.param("ALTER ROLE postgres PASSWORD 'x'", id="superuser's password"),
            pytest.param(f"ALTER ROLE {OWNER} SUPERUSER", id="raise the owner"),
        ],
    )
    def test_refused(self, server: Server, sql: str) -> None:
        for before in ("", "SET ROLE NONE; "):
            with pytest.raises(PostgreSQLError, match=r"permission denied|must be|cannot"):
                server.run(A, before + sql)

    def test_other_members_reach_nothing(self, server: Server) -> None:
        server.declare("dev", "prod")
        server.postgresql.psql(f"CREATE ROLE jane LOGIN PASSWORD '{server.passwords['jane']}'")
        server.run(A, "CREATE TABLE t (i int)")
        for sql in ("SELECT * FROM t", "CREATE TABLE mine ()", f"SET ROLE {OWNER}"):
            with pytest.raises(PostgreSQLError, match="permission denied"):
                server.run("jane", sql)

    def test_the_owner_cannot_log_in(self, server: Server) -> None:
        server.postgresql.psql(f"ALTER ROLE {OWNER} PASSWORD 'x'")
        with pytest.raises(PostgreSQLError, match="is not permitted to log in"):
            server.postgresql.query("SELECT 1", user=OWNER, password="x", database="dev")

    def test_a_former_superuser_password_is_of_no_use(self, server: Server) -> None:
        server.declare("dev", users=("postgres",))
        assert server.run("postgres", "SELECT 1") == "1"
        server.initialise("dev", "prod")
        with pytest.raises(PostgreSQLError, match="password authentication failed"):
            server.run("postgres", "SELECT 1")
        assert server.postgresql.psql("SELECT 1").strip() == "1"


class TestDatabases:
    def test_names_may_be_odd(self, server: Server) -> None:
        assert all(re.fullmatch(DATABASE_NAME, name) for name in ODD)
        server.declare(*ODD)
        server.initialise(*ODD)
        for name in ODD:
            server.run(A, "CREATE TABLE t (i int); CREATE SCHEMA s", database=name)
            server.run(B, "DROP TABLE t; DROP SCHEMA s", database=name)

    def test_a_name_cannot_run_anything(self, server: Server) -> None:
        server.declare(HOSTILE)
        server.initialise(HOSTILE)
        server.run(A, "CREATE TABLE t (i int)", database=HOSTILE)
        assert server.postgresql.psql("SELECT FROM pg_roles WHERE rolname = 'evil'") == ""

    def test_the_superusers_own_database_may_be_one(self, server: Server) -> None:
        server.declare("dev", "postgres")
        server.initialise("dev", "postgres")
        server.run(A, "CREATE TABLE t (i int)", database="postgres")
        server.run(B, "DROP TABLE t", database="postgres")
        server.postgresql.psql(f'REVOKE ALL ON DATABASE postgres FROM {OWNER}, "{A}", "{B}"; DROP OWNED BY {OWNER}')

    def test_a_later_one_is_like_the_others(self, server: Server) -> None:
        server.declare("dev", "prod", "later")
        with pytest.raises(PostgreSQLError, match="permission denied"):
            server.run(A, "CREATE SCHEMA s", database="later")
        server.initialise("dev", "prod", "later")
        server.run(A, "CREATE SCHEMA s", database="later")
        server.run(B, "DROP SCHEMA s", database="later")

    def test_running_again_keeps_everything(self, server: Server) -> None:
        server.run(A, "CREATE TABLE t (i int); INSERT INTO t VALUES (1)")
        server.initialise("dev", "prod")
        assert server.run(B, "SELECT i FROM t") == "1"

    def test_a_schema_public_that_was_dropped_is_no_obstacle(self, server: Server) -> None:
        server.postgresql.psql("DROP SCHEMA public", database="dev")
        server.initialise("dev", "prod")
        server.run(A, "CREATE SCHEMA s")

    def test_an_absent_one_fails_the_script(self, server: Server) -> None:
        with pytest.raises(PostgreSQLError, match='database "absent" does not exist'):
            server.initialise("dev", "absent")


def test_a_session_goes_on_while_the_other_role_takes_over(server: Server) -> None:
    """An open session of the one role works through a rotation, which changes the other's password only."""
    command = ["psql", "-XwAtq", "-h", "127.0.0.1", "-p", str(server.postgresql.port), "-U", A, "dev"]
    environ = os.environ | {"PGPASSWORD": server.passwords[A]}
    session = subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    stdin, stdout = session.stdin, session.stdout
    assert stdin is not None
    assert stdout is not None

    def ask(sql: str) -> str:
        stdin.write(f"{sql}\n")
        stdin.flush()
        return stdout.readline().strip()

    with session:
        assert ask("CREATE TABLE t (i int); SELECT session_user, current_user;") == f"{A}|{OWNER}"
        server.passwords[B] = secrets.token_hex(8)
        server.declare("dev", "prod")
        server.run(B, "INSERT INTO t VALUES (1); ALTER TABLE t ADD j int; CREATE TABLE mine (i int)")
        assert ask("INSERT INTO mine SELECT i FROM t RETURNING i;") == "1"
        assert server.run(A, "SELECT count(*) FROM mine") == "1"
