"""A real oauth2-proxy on 127.0.0.1, which logs people in for nginx.

    with OAuth2Proxy(directory, {"provider": "oidc", …}) as proxy:
        httpx.get(f"{proxy.url}/oauth2/auth")

    python -m hack.oauth2_proxy build    build what is missing; prints the program

Go builds it from the module proxy, at the version and the digests that `hack/oauth2proxy` pins, once into
`${XDG_CACHE_HOME:-~/.cache}/datalabd/oauth2-proxy/`.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from hack import cache
from hack.guarded import Guarded
from hack.ports import free_port

MODULE = Path(__file__).resolve().parent / "oauth2proxy"
PACKAGE = "github.com/oauth2-proxy/oauth2-proxy/v7"
START_SECONDS = 60.0


class OAuth2ProxyError(Exception):
    """The program cannot be had, or failed; the message says what to do, or what it said."""


def missing() -> str | None:
    """What is to be installed before it can run; None if nothing is."""
    if not program().exists() and shutil.which("go") is None:
        return "no go, and oauth2-proxy was not built yet: install Go 1.26 or newer (https://go.dev/dl/)"
    return None


def program() -> Path:
    """Where this version is kept; it exists once it is built."""
    pins = hashlib.sha256((MODULE / "go.mod").read_bytes() + (MODULE / "go.sum").read_bytes()).hexdigest()[:12]
    return cache.directory() / "oauth2-proxy" / pins / "oauth2-proxy"


def build() -> Path:
    """That program, which exists then: built by one process at a time, in a minute."""
    kept = program()
    if kept.exists():
        return kept
    if lacking := missing():
        raise OAuth2ProxyError(lacking)
    kept.parent.mkdir(parents=True, exist_ok=True)
    with cache.lock(kept.parent / ".lock", "oauth2-proxy"):
        if not kept.exists():  # another process may have built it while we waited
            unfinished, output = kept.with_suffix(".unfinished"), kept.with_suffix(".log")
            command = ["go", "build", "-mod=readonly", "-trimpath", "-ldflags", "-s -w", "-o", str(unfinished), PACKAGE]
            environment = os.environ | {"CGO_ENABLED": "0", "GOWORK": "off"}
            text = "building oauth2-proxy (first time only, about 60 s) …"
            if cache.run(text, command, output, MODULE, environment) != 0:
                raise OAuth2ProxyError(f"go build of oauth2-proxy failed:\n{output.read_text(errors='replace')}")
            unfinished.replace(kept)
    return kept


class OAuth2Proxy:
    """One server with these settings, of which each is as in its configuration file; it ends with us at the latest."""

    def __init__(
        self, directory: Path, settings: Mapping[str, Any], structured: Mapping[str, Any] | None = None
    ) -> None:
        """`structured` are those of its second file, `--alpha-config`, which some settings need to be in."""
        self._port = free_port()
        self._directory = directory
        self._settings = dict(settings)
        self._structured = structured
        if structured is None:
            self._settings["http_address"] = f"127.0.0.1:{self._port}"
        self._server = Guarded("oauth2-proxy", directory, OAuth2ProxyError, START_SECONDS, stop="TERM")

    @property
    def url(self) -> str:
        """Its address, without a path."""
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        """Return once it answers; raises `OAuth2ProxyError` with the end of its log if it does not."""
        file = self._directory / "oauth2-proxy.toml"
        # Texts, lists of texts and booleans are written alike in JSON and TOML.
        file.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in self._settings.items()))
        file.chmod(0o600)
        command = [str(build()), f"--config={file}"]
        if self._structured is not None:
            more = self._directory / "oauth2-proxy.yaml"
            server = {"bindAddress": f"127.0.0.1:{self._port}"}
            more.write_text(json.dumps(dict(self._structured) | {"server": server}))  # JSON is YAML
            more.chmod(0o600)
            command.append(f"--alpha-config={more}")
        self._server.start(command, self._answers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.stop()

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/ping", timeout=5, trust_env=False).is_success
        except httpx.TransportError:
            return False


def main() -> int:
    """Build it, and print where it is."""
    parser = argparse.ArgumentParser(prog="python -m hack.oauth2_proxy", description=__doc__.splitlines()[0])
    parser.add_argument("verb", choices=("build",))
    parser.parse_args()
    try:
        print(build())
    except OAuth2ProxyError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
