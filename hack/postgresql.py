"""Real PostgreSQL servers on 127.0.0.1, each with a repository of base backups and WAL beside it.

    with Servers() as servers:
        server = servers["any-key"]
        server.start()
        server.psql("CREATE DATABASE dev")

The programs are Debian's, or whatever is in `$PATH`. PostgreSQL refuses to run as root: for root it runs as Debian's
user `postgres`.
"""

import datetime
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hack import guarded
from hack.guarded import Guarded
from hack.ports import free_port

USER = "postgres"
START_SECONDS = 60.0

TARGETS = {
    "immediate": "recovery_target",
    "time": "recovery_target_time",
    "name": "recovery_target_name",
    "lsn": "recovery_target_lsn",
    "xid": "recovery_target_xid",
}
"""PostgreSQL's setting for each `--type` of a pgBackRest restore that ends before the last WAL."""


STATUS_LINE = 7
"""Of `postmaster.pid`, counted from nought."""


class PostgreSQLError(Exception):
    """A server or a script failed; the message is what the program said."""


def missing() -> str | None:
    """What is to be installed before a server can run; None if nothing is."""
    absent = [name for name in ("initdb", "postgres", "psql", "pg_basebackup") if _find(name) is None]
    return f"no {', '.join(absent)}: install Debian's postgresql and postgresql-client" if absent else None


class PostgreSQL:
    """One server, all of whose files are in one directory. Its port is known before it starts, and never changes."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._directory = directory
        self._data = directory / "data"
        self._archive = directory / "archive"
        self._backups = directory / "backups"
        self._server = Guarded("PostgreSQL", directory, PostgreSQLError, START_SECONDS)

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped since."""
        return self._server.running

    def start(self) -> None:
        """Return once it can be written to; its data are made if need be. Without effect on a running one.

        Raises `PostgreSQLError` with the end of its log if it ends instead, or is not ready in time.
        """
        if self.running:
            return
        if not self._data.exists():
            self._make_directories()
            # As PGO has it: the superuser comes in by the socket alone, everybody else needs a password.
            auth = ["--auth-local=trust", "--auth-host=scram-sha-256", f"--username={USER}"]
            small = ["--wal-segsize=1", "--no-sync"]  # MB: a segment is copied whole, however little it holds
            self._run("initdb", f"--pgdata={self._data}", "--encoding=UTF8", "--no-locale", *small, *auth)
        self._boot()

    def stop(self) -> None:
        """Disconnect its clients and end it; `start` brings back what it held. Without effect on a stopped one."""
        self._server.stop()

    def psql(self, script: str, *, database: str = USER, stop_on_error: bool = True) -> str:
        """What a script prints, as bare values; run by the superuser through the socket, as PGO runs its own."""
        checked = ["--set=ON_ERROR_STOP=on"] if stop_on_error else []
        return self._run("psql", "-XwAtq", *self._socket(), f"--dbname={database}", *checked, "--file=-", stdin=script)

    def query(self, sql: str, *, user: str, password: str, database: str) -> str:
        """What a client gets who logs in with a password; `PostgreSQLError` if that or the query is refused."""
        login = ["--host=127.0.0.1", f"--port={self.port}", f"--username={user}", f"--dbname={database}"]
        checked = ["--set=ON_ERROR_STOP=on", "--file=-"]
        return self._run("psql", "-XwAtq", *login, *checked, stdin=sql, environ={"PGPASSWORD": password})

    # ---- Repository

    def backup(self) -> None:
        """Put a base backup of the running server into its repository."""
        unfinished = self._directory / "unfinished"
        flags = ["--checkpoint=fast", "--wal-method=none", "--no-sync", "--no-manifest", "--no-password"]
        self._run("pg_basebackup", *self._socket(), *flags, f"--pgdata={unfinished}")
        unfinished.rename(self._backups / str(time.time_ns()))

    def restore(self, source: "PostgreSQL", options: Sequence[str] = ()) -> None:
        """Replace all data by what is in the repository of `source`, itself or another server; it is stopped then.

        `options` are pgBackRest's; without any, all WAL that was archived is replayed. Raises `PostgreSQLError` where
        there is no backup to begin with, or the target is never reached: then there are no data to start with either.
        """
        given = dict(word.removeprefix("--").partition("=")[::2] for text in options for word in shlex.split(text))
        kind, target = given.pop("type", "default"), given.pop("target", "immediate")
        if given.keys() - {"delta"} or (kind != "default" and kind not in TARGETS):
            raise PostgreSQLError(f"restore options that are not played: {' '.join(options)}")
        self.stop()  # a clean stop archives the last WAL
        backup = source._backup_before(target if kind == "time" else None)
        if self._data.exists():
            self._run("rm", "-r", str(self._data))
        self._make_directories()
        self._run("cp", "-a", str(backup), str(self._data))
        self._run("touch", str(self._data / "recovery.signal"))
        settings = [f"restore_command=cp {shlex.quote(str(source._archive))}/%f %p", "recovery_target_action=promote"]
        self._boot(*settings, *([] if kind == "default" else [f"{TARGETS[kind]}={target}"]))
        self.stop()

    def _backup_before(self, moment: str | None) -> Path:
        """The newest backup that ended before the moment; the newest of all for None."""
        limit = float("inf")
        if moment is not None:
            at = datetime.datetime.fromisoformat(moment)
            limit = (at if at.tzinfo else at.replace(tzinfo=datetime.UTC)).timestamp() * 1e9
        ended = [int(path.name) for path in (self._backups.iterdir() if self._backups.exists() else ())]
        if not (fitting := [label for label in ended if label < limit]):
            raise PostgreSQLError("no backup set found to restore")
        return self._backups / str(max(fitting))

    # ---- Process

    def _make_directories(self) -> None:
        for directory in (self._directory, self._archive, self._backups):
            directory.mkdir(mode=0o700, exist_ok=True)
            if os.geteuid() == 0:
                shutil.chown(directory, USER, USER)

    def _boot(self, *settings: str) -> None:
        archive = shlex.quote(str(self._archive))
        options = [
            "listen_addresses=127.0.0.1",
            f"port={self.port}",
            f"unix_socket_directories={self._directory}",
            "timezone=UTC",
            "fsync=off",  # nothing here outlives the machine
            "archive_mode=on",
            f"archive_command=cp %p {archive}/%f.part && mv {archive}/%f.part {archive}/%f",
            *settings,
        ]
        command = [str(_program("postgres")), "-D", str(self._data), *(f"--{option}" for option in options)]
        # Ready once recovery is over too.
        self._server.start(command, self._is_writable, cwd=self._directory, **_account())

    def _is_writable(self) -> bool:
        """Whether it takes connections, which its file tells for less than a question costs, and recovery is over."""
        try:
            told = (self._data / "postmaster.pid").read_text().splitlines()
            if len(told) <= STATUS_LINE or told[STATUS_LINE].strip() != "ready":
                return False
            return self.psql("SELECT pg_catalog.pg_is_in_recovery()").strip() == "f"
        except (FileNotFoundError, PostgreSQLError):
            return False

    def _socket(self) -> list[str]:
        return [f"--host={self._directory}", f"--port={self.port}", f"--username={USER}"]

    def _run(self, name: str, *args: str, stdin: str = "", environ: dict[str, str] | None = None) -> str:
        done: subprocess.CompletedProcess[str] = subprocess.run(
            [str(_program(name)), *args],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=self._directory,
            env=os.environ | (environ or {}),
            **_account(),
        )
        if done.returncode != 0:
            raise PostgreSQLError(f"{name}: {done.stderr.strip()}")
        return done.stdout


class Servers(guarded.Servers[PostgreSQL]):
    """PostgreSQL servers by any key."""

    def __init__(self) -> None:
        super().__init__("postgresql", PostgreSQL)
        self.directory.chmod(0o711)  # for user `postgres` to reach its own directories below


def _account() -> dict[str, Any]:
    """Arguments of `subprocess` that keep a program of PostgreSQL from running as root."""
    return {"user": USER, "group": USER, "extra_groups": []} if os.geteuid() == 0 else {}


def _program(name: str) -> Path:
    if (found := _find(name)) is None:
        raise PostgreSQLError(f"{name} is not installed")
    return found


def _find(name: str) -> Path | None:
    """The program of the newest version that Debian has here, else the one in `$PATH`."""
    installed = Path("/usr/lib/postgresql").glob(f"*/bin/{name}")
    newest = max(installed, key=lambda path: float(path.parts[-3]), default=None)
    path = shutil.which(name)
    return newest or (Path(path) if path else None)
