"""A real nginx on 127.0.0.1, with TLS, before a server of ours: as a reverse proxy that ends TLS would be.

with Nginx(directory, "http://127.0.0.1:8181") as nginx:
    httpx.get(f"{nginx.url}/sub/workspaces", verify=str(nginx.ca))

It may stand before several replicas: `Nginx(directory, "http://127.0.0.1:8181", "http://127.0.0.1:8182")`.
"""

import datetime
import shutil
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

from hack.guarded import Guarded
from hack.ports import free_port
from webhooks.certificates import issue

START_SECONDS = 20.0
BUFFERS = "large_client_header_buffers 8 64k;"
LOCATION = """location {path} {{
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-Host $http_host;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_buffer_size 16k;
    proxy_buffers 8 16k;
    proxy_read_timeout 1h;
    proxy_set_header X-Forwarded-Prefix {prefix};
    proxy_pass {behind};
}}
"""
"""What `docs/how-to/workspaces-identity.md` prints, for a path, its prefix, and the address behind it."""


class NginxError(Exception):
    """It failed; the message has the end of its log."""


def missing() -> str | None:
    """What is to be installed before it can run; None if nothing is."""
    return None if shutil.which("nginx") else "no nginx: install it (on Debian, nginx-light)"


class Nginx:
    """One server, which leads `/` and, without the prefix, `/sub/` to what is behind it.

    Of several servers each gets every other request; one that does not answer is asked again a second later.
    """

    def __init__(self, directory: Path, *behind: str, servers: str = "") -> None:
        """`servers` are further ones, as its configuration has them."""
        self._directory = directory
        self._behind = behind
        self._servers = servers
        self._port = free_port()
        self._server = Guarded("nginx", directory, NginxError, START_SECONDS, stop="TERM")
        self.ca = directory / "ca.crt"
        """File with what signed its certificate."""

    @property
    def url(self) -> str:
        """Its address, without a path."""
        return f"https://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        """Return once it answers; raises `NginxError` if it does not."""
        certificate = issue(["127.0.0.1"], datetime.datetime.now(datetime.UTC))
        for name, content in (
            ("tls.crt", certificate.certificate),
            ("tls.key", certificate.key),
            ("ca.crt", certificate.ca),
        ):
            (self._directory / name).write_bytes(content)
        temporary = " ".join(
            f"{name}_temp_path {self._directory / name};"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        replicas = " ".join(f"server {url.removeprefix('http://')} fail_timeout=1s;" for url in self._behind)
        configuration = self._directory / "nginx.conf"
        configuration.write_text(
            f"""daemon off; worker_processes 1; pid {self._directory / "pid"}; error_log stderr;
events {{}}
http {{
    access_log off; {temporary}
    {BUFFERS}
    upstream replicas {{ {replicas} }}
    {self._servers}
    server {{
        listen 127.0.0.1:{self._port} ssl;
        ssl_certificate {self._directory / "tls.crt"};
        ssl_certificate_key {self._directory / "tls.key"};
{LOCATION.format(path="/", prefix='""', behind="http://replicas")}
{LOCATION.format(path="/sub/", prefix="/sub", behind="http://replicas/")}
    }}
}}
"""
        )
        self._server.start(["nginx", "-p", str(self._directory), "-c", str(configuration)], self._answers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.stop()

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0
