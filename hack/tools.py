"""Programs and libraries that people take their credentials to, for the tests of what we write for each.

    python -m hack.tools build    install what is missing; prints where its programs are

They are those of `requirements-tools.in`, at the versions and digests of the lock file beside it, in a virtual
environment of their own: nothing of ours needs them, and they would hold back versions of what we need. It is made
once, in `${XDG_CACHE_HOME:-~/.cache}/datalabd/tools/`.
"""

import argparse
import hashlib
import sys
from pathlib import Path

from hack import cache

LOCK = Path(__file__).resolve().parents[1] / "requirements-tools.lock"


class ToolsError(Exception):
    """They cannot be had; the message says what pip said."""


def directory() -> Path:
    """Where these versions are kept; it is whole once it has `.installed`."""
    return cache.directory() / "tools" / hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]


def build() -> Path:
    """The directory of their programs, `python` among them: made by one process at a time, in half a minute."""
    kept = directory()
    programs, done = kept / "bin", kept / ".installed"
    if done.exists():
        return programs
    kept.mkdir(parents=True, exist_ok=True)
    with cache.lock(kept / ".lock", "tools that credentials are for"):
        if not done.exists():  # another process may have made it while we waited
            log = kept / ".log"
            install = [str(programs / "python"), "-m", "pip", "install", "--disable-pip-version-check", "--no-deps"]
            locked = ["--only-binary=:all:", "--require-hashes", f"--requirement={LOCK}"]
            for text, command in (
                (
                    "making an environment for tools that credentials are for …",
                    [sys.executable, "-m", "venv", str(kept)],
                ),
                ("installing these tools (first time only, about 30 s) …", [*install, *locked]),
            ):
                if cache.run(text, command, log, kept) != 0:
                    raise ToolsError(f"tools that credentials are for:\n{log.read_text(errors='replace')[-2000:]}")
            done.touch()
    return programs


def main() -> int:
    """Install them, and print where they are."""
    parser = argparse.ArgumentParser(prog="python -m hack.tools", description=__doc__.splitlines()[0])
    parser.add_argument("verb", choices=("build",))
    parser.parse_args()
    try:
        print(build())
    except ToolsError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
