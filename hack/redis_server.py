"""Real Redis servers on 127.0.0.1, each with an access list that it reads when it starts, and never again.

    with Servers() as servers:
        server = servers["any-key"]
        server.start("user default on >open ~* +@all\\n")
        server.query("PING", password="open")

The programs are Debian's `redis-server` and `redis-cli`, or whatever is in `$PATH`.
"""

import os
import shutil
import socket
import subprocess
from pathlib import Path

from hack import guarded
from hack.deadlines import scaled
from hack.guarded import Guarded
from hack.ports import free_port

START_SECONDS = 30.0
QUERY_SECONDS = 20.0


class RedisError(Exception):
    """A server or a query failed; the message is what the program said."""


def missing() -> str | None:
    """What is to be installed before a server can run; None if nothing is."""
    absent = [name for name in ("redis-server", "redis-cli") if shutil.which(name) is None]
    return f"no {', '.join(absent)}: install Debian's redis-server and redis-tools" if absent else None


class Redis:
    """One server, all of whose files are in one directory. Its port is known before it starts, and never changes."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._directory = directory
        self._server = Guarded("Redis", directory, RedisError, START_SECONDS)

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped since; it may not answer yet."""
        return self._server.running

    def start(self, acl: str) -> None:
        """Return once it answers, with this access list and what it held when it was stopped.

        Raises `RedisError` with the end of its log if it ends instead, or does not answer in time.
        """
        self._directory.mkdir(mode=0o700, exist_ok=True)
        (self._directory / "user.acl").write_text(acl)
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self._directory),
            "aclfile": str(self._directory / "user.acl"),
            "appendonly": "yes",
            "appendfsync": "no",  # nothing here outlives the machine
            "save": "",
        }
        options = [word for key, value in settings.items() for word in (f"--{key}", value)]
        self._server.start(["redis-server", *options], self._answers)

    def stop(self) -> None:
        """Disconnect its clients and end it; `start` brings back what it held. Without effect on a stopped one."""
        self._server.stop()

    def query(self, *command: str, password: str) -> str:
        """What a client gets who logs in with a password; `RedisError` if that or the command is refused."""
        try:
            done = subprocess.run(
                ["redis-cli", "-e", "-h", "127.0.0.1", "-p", str(self.port), *command],
                env=os.environ | {"REDISCLI_AUTH": password},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=scaled(QUERY_SECONDS),  # it has none of its own
            )
        except subprocess.TimeoutExpired as error:
            raise RedisError(f"no answer within {scaled(QUERY_SECONDS):.0f} s") from error
        if done.returncode != 0:
            raise RedisError((done.stderr or done.stdout).strip())
        return done.stdout.removesuffix("\n")

    def admits(self, password: str) -> bool:
        """Whether the running server lets a client in by a password."""
        try:
            return self.query("PING", password=password) == "PONG"
        except RedisError as error:
            if "WRONGPASS" in str(error):
                return False
            raise

    def _answers(self) -> bool:
        """Whether it is done with loading; it says so even to those it does not know."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False


class Servers(guarded.Servers[Redis]):
    """Redis servers by any key."""

    def __init__(self) -> None:
        super().__init__("redis", Redis)
