"""What is made once and kept for every later run, by whichever process comes first."""

import contextlib
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self


def directory() -> Path:
    """Where it is kept; it may not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "datalabd"


@contextlib.contextmanager
def lock(path: Path, what: str) -> Iterator[None]:
    """One process at a time; who waits is told for what."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another process builds {what}: waiting for it", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run(text: str, command: Sequence[str], output: Path, cwd: Path, environ: Mapping[str, str] = os.environ) -> int:
    """Exit code of a command that takes long, whose output goes into a file; says on stderr how long it takes."""
    with output.open("w") as log:
        process = subprocess.Popen(command, cwd=cwd, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            with Progress(text) as progress:
                while process.poll() is None:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(timeout=progress.interval_seconds)
                    progress.beat()
        finally:
            process.terminate()
            process.wait()
    return process.returncode


class Progress:
    """A line on stderr with the seconds so far: rewritten on a terminal, else repeated as a heartbeat."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.terminal = sys.stderr.isatty()
        self.interval_seconds = 1.0 if self.terminal else 30.0
        self.began = time.monotonic()

    def beat(self) -> None:
        """Show the seconds so far."""
        end = "" if self.terminal else "\n"
        start = "\r" if self.terminal else ""
        print(f"{start}{self.text} {time.monotonic() - self.began:.0f} s", end=end, file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        if not self.terminal:
            print(self.text, file=sys.stderr, flush=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self.terminal:
            print(file=sys.stderr, flush=True)
