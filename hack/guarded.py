"""A server of somebody else's on 127.0.0.1, as one process that never outlives ours."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

STOP_SECONDS = 20.0

# Our end of a pipe closes when we stop the server, and when anything ends us: either way the server is stopped.
_GUARD = """\
exec 3<&0
stop=$1; shift
"$@" 3<&- & server=$!
{ read -r _ <&3; kill -$stop $server; } & reader=$!
wait $server
kill $reader 2>/dev/null
"""


class Guarded:
    """One server, which can be started again once it is stopped. Its log is in its directory."""

    def __init__(
        self, name: str, directory: Path, error: type[Exception], start_seconds: float, *, stop: str = "INT"
    ) -> None:
        self._name = name
        self._directory = directory
        self._error = error
        self._start_seconds = start_seconds
        self._stop = stop
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped since; it may not answer yet."""
        return self._process is not None

    def start(self, command: Sequence[str], is_ready: Callable[[], bool], **popen: Any) -> None:
        """Return once it is ready; `popen` are further arguments of `subprocess.Popen`.

        Raises the error with the end of its log if it ends instead, or is not ready in time.
        """
        assert self._process is None, "it runs already"
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _GUARD, "sh", self._stop, *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in our terminal leaves it to us to stop it in order
                **popen,
            )
        try:
            self._wait(self._process, is_ready)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Disconnect its clients and end it. Without effect on a stopped one."""
        if self._process is None:
            return
        process, self._process = self._process, None
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _wait(self, process: subprocess.Popen[bytes], is_ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self._start_seconds
        while not is_ready():
            ended = process.poll() is not None
            if ended or time.monotonic() > deadline:
                log = (self._directory / "log").read_text(errors="replace").splitlines()[-15:]
                what = "ended" if ended else f"is not ready after {self._start_seconds:.0f} s"
                raise self._error("\n".join([f"{self._name} {what}; the end of its log:", *log]))
            time.sleep(0.03)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
