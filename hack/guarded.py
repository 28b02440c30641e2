"""Servers of somebody else's on 127.0.0.1, each as one process that never outlives ours."""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Generic, Protocol, Self, TypeVar

from hack.deadlines import scaled
from hack.ports import bound

STOP_SECONDS = 20.0

# The other end of a pipe closes when its owner stops the server, and when anything ends the owner: either way the
# server is stopped.
_GUARD = """\
exec 3<&0
stop=$1; shift
"$@" 3<&- & server=$!
{ read -r _ <&3; kill -$stop $server; } & reader=$!
wait $server
kill $reader 2>/dev/null
"""


class Lifeline:
    """What servers of several processes hang on: they are stopped once it is closed, or whoever made it ends.

    It is a named pipe in a directory of its own. Whose end it waits for holds a lock of it.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._pipe = directory / "lifeline"
        os.mkfifo(self._pipe)
        self._held = os.open(self._pipe, os.O_RDWR)  # nobody need read it yet

    @staticmethod
    def hang_on(directory: Path) -> BinaryIO:
        """The end for a server's guard, of the lifeline in this directory."""
        end = (directory / "lifeline").open("rb", buffering=0)
        fcntl.flock(end, fcntl.LOCK_SH)
        return end

    @staticmethod
    def note(directory: Path, group: int) -> None:
        """Know a guard's process group, in case that it does not end when told."""
        with (directory / "groups").open("a") as groups:
            groups.write(f"{group}\n")

    def close(self) -> None:
        """Stop all servers, and return when they have ended."""
        waiting = os.open(self._pipe, os.O_RDONLY | os.O_NONBLOCK)
        os.close(self._held)
        deadline = time.monotonic() + scaled(STOP_SECONDS)
        try:
            while not _locked(waiting):
                if time.monotonic() > deadline:
                    for group in (self._pipe.parent / "groups").read_text().split():
                        with contextlib.suppress(ProcessLookupError):
                            os.killpg(int(group), signal.SIGKILL)
                    return
                time.sleep(0.03)
        finally:
            os.close(waiting)


class Guarded:
    """One server, which can be started again once it is stopped. Its log is in its directory.

    It never outlives us, or where it has the directory of a `Lifeline` what made that.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        error: type[Exception],
        start_seconds: float,
        *,
        stop: str = "INT",
        lifeline: Path | None = None,
    ) -> None:
        self._name = name
        self._directory = directory
        self._error = error
        self._start_seconds = start_seconds
        self._stop = stop
        self._lifeline = lifeline
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped since; it may not answer yet."""
        return self._process is not None

    def start(self, command: Sequence[str], is_ready: Callable[[], bool], **popen: Any) -> None:
        """Return once it is ready; `popen` are further arguments of `subprocess.Popen`.

        Raises the error with the end of its log if it ends instead, or is not ready in time.
        """
        bound(lambda: self._start(command, is_ready, **popen), self._error)

    def _start(self, command: Sequence[str], is_ready: Callable[[], bool], **popen: Any) -> None:
        assert self._process is None, "it runs already"
        with contextlib.ExitStack() as opened:
            log = opened.enter_context((self._directory / "log").open("wb"))
            hung = self._lifeline and opened.enter_context(Lifeline.hang_on(self._lifeline))
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _GUARD, "sh", self._stop, *command],
                stdin=hung or subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in our terminal leaves it to us to stop it in order
                **popen,
            )
        if self._lifeline is not None:
            Lifeline.note(self._lifeline, self._process.pid)
        try:
            self._wait(self._process, is_ready)
        except BaseException:
            self.stop()
            raise

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Have it take connections and answer none, while the context lasts."""
        assert self._process is not None, "it does not run"
        os.killpg(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self._process.pid, signal.SIGCONT)

    def leave(self) -> None:
        """Leave a started one to its lifeline."""
        assert self._process is not None, "it does not run"
        assert self._lifeline is not None, "nobody would stop it"
        self._process.returncode = 0  # as if it had ended: `Popen` would complain that nobody waits for it
        self._process = None

    def stop(self) -> None:
        """Disconnect its clients and end it. Without effect on a stopped one."""
        if self._process is None:
            return
        process, self._process = self._process, None
        if process.stdin is not None:
            process.stdin.close()
        else:
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(scaled(STOP_SECONDS))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _wait(self, process: subprocess.Popen[bytes], is_ready: Callable[[], bool]) -> None:
        seconds = scaled(self._start_seconds)
        deadline = time.monotonic() + seconds
        while not is_ready():
            ended = process.poll() is not None
            if ended or time.monotonic() > deadline:
                log = (self._directory / "log").read_text(errors="replace").splitlines()[-15:]
                what = "ended" if ended else f"is not ready after {seconds:.0f} s"
                raise self._error("\n".join([f"{self._name} {what}; the end of its log:", *log]))
            time.sleep(0.03)


class Stoppable(Protocol):
    """A server that keeps what it holds in a directory."""

    def stop(self) -> None:
        """End it. Without effect on a stopped one."""


S = TypeVar("S", bound=Stoppable)


class Servers(Generic[S]):
    """Servers by any key, made when they are asked for; leaving the context ends and removes them."""

    def __init__(self, name: str, make: Callable[[Path], S]) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=f"datalabd-{name}-"))
        self._make = make
        self._servers: dict[str, S] = {}

    def __getitem__(self, key: str) -> S:
        if key not in self._servers:
            self._servers[key] = self._make(self.directory / key)
        return self._servers[key]

    def remove(self, key: str) -> None:
        """End a server, with all it holds. Without effect where there is none."""
        if (server := self._servers.pop(key, None)) is not None:
            server.stop()
            shutil.rmtree(self.directory / key, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for key in list(self._servers):
            self.remove(key)
        self.directory.rmdir()


def _locked(end: int) -> bool:
    """Whether nobody else holds a lock of it."""
    try:
        fcntl.flock(end, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
