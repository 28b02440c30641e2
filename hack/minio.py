"""A real MinIO on 127.0.0.1: the object storage of tests.

    with MinIO(directory) as minio:
        minio.endpoint, minio.root

    python -m hack.minio build    build what is missing; prints the program

Go builds it from the module proxy, at the version and the digests that `hack/minioserver` pins, once into
`${XDG_CACHE_HOME:-~/.cache}/datalabd/minio/`. It is under the AGPL, and no longer
kept: nothing but tests runs it.
"""

import argparse
import datetime
import hashlib
import io
import os
import secrets
import shutil
import sys
import tarfile
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpx

from hack import cache
from hack.deadlines import scaled
from hack.guarded import Guarded
from hack.ports import free_port
from workspaces.signatures import EMPTY, Keys, signed

MODULE = Path(__file__).resolve().parent / "minioserver"
PACKAGE = "github.com/minio/minio"
REGION = "us-east-1"
USER, PASSWORD = "MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"
"""Variables of its environment, and of whoever is to have the same rights."""
START_SECONDS = 60.0
FILL_SECONDS = 60.0
NONE: Mapping[str, str] = MappingProxyType({})


class MinIOError(Exception):
    """The program cannot be had, or failed; the message says what to do, or what it said."""


def missing() -> str | None:
    """What is to be installed before it can run; None if nothing is."""
    if not program().exists() and shutil.which("go") is None:
        return "no go, and MinIO was not built yet: install Go 1.26 or newer (https://go.dev/dl/)"
    return None


def program() -> Path:
    """Where this version is kept; it exists once it is built."""
    pins = hashlib.sha256((MODULE / "go.mod").read_bytes() + (MODULE / "go.sum").read_bytes()).hexdigest()[:12]
    return cache.directory() / "minio" / pins / "minio"


def build() -> Path:
    """That program, which exists then: built by one process at a time, in some minutes."""
    kept = program()
    if kept.exists():
        return kept
    if lacking := missing():
        raise MinIOError(lacking)
    kept.parent.mkdir(parents=True, exist_ok=True)
    with cache.lock(kept.parent / ".lock", "MinIO"):
        if not kept.exists():  # another process may have built it while we waited
            unfinished, output = kept.with_suffix(".unfinished"), kept.with_suffix(".log")
            command = ["go", "build", "-mod=readonly", "-trimpath", "-ldflags", "-s -w", "-o", str(unfinished), PACKAGE]
            environment = os.environ | {"CGO_ENABLED": "0", "GOWORK": "off"}
            text = "building MinIO (first time only, about 5 min) …"
            if cache.run(text, command, output, MODULE, environment) != 0:
                raise MinIOError(f"go build of MinIO failed:\n{output.read_text(errors='replace')}")
            unfinished.replace(kept)
    return kept


class Account:
    """A server that runs, and keys that may do everything there."""

    def __init__(self, endpoint: str, root: Keys) -> None:
        self.endpoint = endpoint
        """Its address, without a path."""
        self.root = root

    @classmethod
    def of_environment(cls, endpoint: str) -> Self:
        """The one that this process was told the keys of."""
        return cls(endpoint, Keys(os.environ[USER], os.environ[PASSWORD], REGION))

    @property
    def environ(self) -> dict[str, str]:
        """What tells another process the keys."""
        return {USER: self.root.access, PASSWORD: self.root.secret}

    def ask(
        self, method: str, path: str, query: Mapping[str, str] = NONE, content: bytes = b"", keys: Keys | None = None
    ) -> httpx.Response:
        """Its answer to one request, signed with these keys or those that may do everything."""
        return self._send(method, path, query, content, keys or self.root, NONE, 10)

    def fill(self, bucket: str, keys: Iterable[str], content: bytes = b"x") -> None:
        """Store objects of these keys, all with the same content, by one request: each takes a millisecond."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for key in keys:
                entry = tarfile.TarInfo(key)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        unpacks = {"X-Amz-Meta-Snowball-Auto-Extract": "true"}
        path = f"/{bucket}/all.tar"
        answer = self._send("PUT", path, NONE, packed.getvalue(), self.root, unpacks, scaled(FILL_SECONDS))
        if not answer.is_success:
            raise MinIOError(f"{path}: {answer.status_code}: {answer.text[:500]}")

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        content: bytes,
        keys: Keys,
        more: Mapping[str, str],
        seconds: float,
    ) -> httpx.Response:
        parts = urlsplit(self.endpoint)
        origin = (parts.scheme, parts.hostname or "", parts.port or 0)
        digest = hashlib.sha256(content).hexdigest() if content else EMPTY
        now = datetime.datetime.now(datetime.UTC)
        url, headers = signed(method, origin, path, query, keys, now, digest=digest)
        # There is no TLS, so that no certificates need be read.
        return httpx.request(
            method, url, headers={**headers, **more}, content=content, timeout=seconds, trust_env=False, verify=False
        )


class MinIO(Account):
    """One server, with all it holds in a directory; it ends with us at the latest."""

    def __init__(self, directory: Path) -> None:
        self._port = free_port()
        self._directory = directory
        super().__init__(f"http://127.0.0.1:{self._port}", Keys("root", secrets.token_urlsafe(24), REGION))
        self._server = Guarded("MinIO", directory, MinIOError, START_SECONDS, stop="TERM")

    def start(self) -> None:
        """Return once it answers, with what it held when it was stopped."""
        self._directory.mkdir(parents=True, exist_ok=True)
        environment = self.environ | {
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
            "MINIO_CALLHOME_ENABLE": "off",
        }
        data = self._directory / "data"
        command = [str(build()), "server", "--quiet", "--address", f"127.0.0.1:{self._port}", str(data)]
        self._server.start(command, self._answers, env=os.environ | environment)

    def paused(self) -> AbstractContextManager[None]:
        """Have it answer nothing, while the context lasts."""
        return self._server.paused()

    def stop(self) -> None:
        """End it. Without effect on a stopped one."""
        self._server.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _answers(self) -> bool:
        """Whether it lists buckets: it says that it is ready before that."""
        try:
            return self.ask("GET", "/").is_success
        except httpx.TransportError:
            return False


def main() -> int:
    """Build it, and print where it is."""
    parser = argparse.ArgumentParser(prog="python -m hack.minio", description=__doc__.splitlines()[0])
    parser.add_argument("verb", choices=("build",))
    parser.parse_args()
    try:
        print(build())
    except MinIOError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
