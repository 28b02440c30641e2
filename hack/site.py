"""The pages as people meet them: a control plane with datalabd, two replicas of the Workspace API, nginx before them.

with Site.started(directory) as site:
    site.url
"""

import base64
import contextlib
import json
import re
import secrets
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

from datalabd.api.meta import Manifest
from hack import keycloak, playground
from hack.cluster import Cluster, ClusterError
from hack.deadlines import scaled
from hack.minio import MinIO
from hack.nginx import Nginx
from hack.playground import ADMIN, ENVIRONMENT, NAMESPACE, SAMPLES
from hack.ports import free_port

REPLICAS = 2
SLOW = "slow"
"""The end of names of sessions that never answer."""
SESSIONS = """server {
    listen 127.0.0.1:PORT;
    location ~ SLOW$ { return 503; }
    location / { return 204; }
}""".replace("SLOW", SLOW)
"""What answers for sessions."""
READY_SECONDS = 60.0
SECRET = re.compile("secret|password|token|private|ur[il]$", re.IGNORECASE)
"""Keys of Secrets whose values nobody else is to know; an address without a password is none."""
SECRET_LEAST = 12
TOKEN_SECONDS = 30.0
"""For how long `ask` uses a token again: less than any lives."""
PEOPLE = (ADMIN, "olga", "adam", "mia", "stan", "nell")
"""The platform admin; owner, admin and member of `WORKSPACE`, a stranger to it, who owns `OTHER`, and a member of none.
"""
WORKSPACE, OTHER = "ws-delta", "ws-stan"
MACHINE = f"service-account-{WORKSPACE}"
"""What uses the client of the workspace, without a browser: it has no login, but tokens."""


class Site:
    """Running, and its people with passwords at Keycloak, or without any at `hack.issuer`."""

    def __init__(
        self,
        cluster: Cluster,
        nginx: Nginx,
        issuer: str,
        realm: keycloak.Realm | None,
        password: str,
        minio: MinIO | None,
    ) -> None:
        self.cluster = cluster
        self.minio = minio
        self.issuer = issuer
        self.realm = realm
        self.password = password
        """Of each of its people."""
        self.secrets: set[str] = {password}
        """What no page may show unasked; `look` adds those that the cluster holds."""
        self._nginx = nginx
        self._tokens: dict[str, tuple[float, str]] = {}
        self.trust = ssl.create_default_context(cafile=str(nginx.ca))
        self._environs: dict[str, dict[str, str]] = {}
        """Of each replica."""

    @property
    def url(self) -> str:
        """Where people open it."""
        return self._nginx.url

    @property
    def certificate(self) -> bytes:
        """What nginx shows, PEM."""
        return self._nginx.ca.with_name("tls.crt").read_bytes()

    @property
    def replicas(self) -> list[str]:
        """Names of the processes that answer."""
        return list(self._environs)

    @classmethod
    @contextlib.contextmanager
    def started(
        cls, directory: Path, server: keycloak.Server | None = None, minio: MinIO | None = None, **settings: str
    ) -> Iterator[Self]:
        """It, while the context lasts, with both workspaces ready; its people are those of the Keycloak, if given.

        Buckets are at the MinIO, which has to run; without one there are none, and pages say so. Settings are
        variables of the Workspace API's environment.
        """
        cluster = playground.start(directory / "control-plane", minio=minio)
        with contextlib.ExitStack() as stack:
            stack.callback(cluster.stop)
            cluster.api.create_namespace(NAMESPACE)
            probed = free_port()
            ports = [free_port() for _ in range(REPLICAS)]
            (directory / "nginx").mkdir()
            behind = [f"http://127.0.0.1:{port}" for port in ports]
            sessions = SESSIONS.replace("PORT", str(probed))
            nginx = stack.enter_context(Nginx(directory / "nginx", *behind, servers=sessions))
            _create_environment(cluster, minio)
            (directory / "cookie-key").write_text(secrets.token_urlsafe(48))
            environ = {
                "SESSION_PROBE": f"http://127.0.0.1:{probed}/{{session}}",
                "COOKIE_KEY_FILE": str(directory / "cookie-key"),
                "TRUSTED_PROXIES": "127.0.0.0/8",
                "RATE_LIMITS": "off",
                "UI_MODE": "ui",
                **({"ENDPOINT": minio.endpoint} if minio is not None else {}),
                **settings,
            }
            password = secrets.token_urlsafe(12)
            if server is None:
                realm, issuer = None, playground.start_issuer(cluster)
            else:
                realm = server.realm(f"site-{secrets.token_hex(4)}")
                issuer = realm.issuer
                environ |= playground.manage_realm(cluster, realm, nginx.url, dict.fromkeys(PEOPLE, password))
            site = cls(cluster, nginx, issuer, realm, password, minio)
            if file := environ.get("OIDC_CLIENT_SECRET_FILE"):
                site.secrets.add(Path(file).read_text())
            for number, port in enumerate(ports):
                site._environs[f"workspaces-{number}"] = environ | {"WORKSPACE_PORT": str(port)}
            for name in site.replicas:
                site.start(name)
            site._add_people()
            yield site

    def start(self, name: str) -> None:
        """Start a replica, at its port; returns when it is ready."""
        playground.run_workspaces(self.cluster, self.issuer, name=name, **self._environs[name])

    def kill(self, name: str) -> None:
        """End a replica as a machine that fails does; returns when it is gone."""
        self.cluster.end(name, killed=True)

    def log(self, name: str) -> Path:
        """What a process of it wrote."""
        return self.cluster.directory / "logs" / f"{name}.log"

    # ---- People and what they have

    def _add_people(self) -> None:
        for name, owner in ((WORKSPACE, "olga"), (OTHER, "stan")):
            self.ask(ADMIN, "POST", "/workspaces", {"preferred_name": name, "default_owner": owner})
        self.until(lambda: self.has_status(WORKSPACE, "ready") and self.has_status(OTHER, "ready"), "its workspaces")
        if self.realm is None:
            self._add_client(WORKSPACE)
        members = [{"member": "adam", "role": "admin"}, {"member": "mia", "role": "user"}]
        self.ask(ADMIN, "PUT", f"/workspaces/{WORKSPACE}", {"add_memberships": members})
        if self.realm is not None:
            realm = self.realm
            self.until(lambda: realm.members(WORKSPACE) == ["adam", "mia", "olga"], "its members in the realm")
        self.look()

    def _add_client(self, workspace: str) -> None:
        """Have a client of a workspace's own, as datalabd makes one in a realm."""
        values = {"client_id": workspace, "client_secret": secrets.token_urlsafe(24)}
        metadata = {"name": f"{workspace}-oauth-client", "namespace": NAMESPACE}
        self.cluster.api.create({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values})

    def has_status(self, workspace: str, status: str) -> bool:
        """Whether the API says so of a workspace."""
        return bool(self.ask(ADMIN, "GET", f"/workspaces/{workspace}")["status"] == status)

    def token(self, user: str) -> str:
        """A new access token, of a person or of the machine."""
        if user == MACHINE:
            return str(self.ask(ADMIN, "GET", f"/workspaces/{WORKSPACE}/token")["access_token"])
        if self.realm is None:
            return playground.WorkspaceApi(self.url, self.issuer, self.log(self.replicas[0])).token(user)
        secret = Path(self._environs[self.replicas[0]]["OIDC_CLIENT_SECRET_FILE"]).read_text()
        client = {"client_id": keycloak.WORKSPACE_CLIENT, "client_secret": secret}
        answer = self.realm.token(grant_type="password", username=user, password=self.password, **client)
        return str(answer.raise_for_status().json()["access_token"])

    def ask(self, user: str, method: str, path: str, body: Any = None) -> Any:
        """What the API answers a user, parsed; raises `httpx.HTTPStatusError` with its text as a note."""
        until, token = self._tokens.get(user, (0.0, ""))
        if time.monotonic() > until:
            token = self.token(user)
            self._tokens[user] = time.monotonic() + TOKEN_SECONDS, token
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        with httpx.Client(verify=self.trust, trust_env=False, timeout=scaled(30)) as client:
            answer = client.request(method, f"{self.url}{path}", json=body, headers=headers)
        try:
            answer.raise_for_status()
        except httpx.HTTPStatusError as error:
            error.add_note(answer.text)
            raise
        return answer.json() if answer.content else None

    def look(self) -> None:
        """Learn the credentials that the cluster holds for people by now."""
        for secret in self.cluster.api.list("secrets", NAMESPACE):
            for key, value in (secret.get("data") or {}).items():
                text = base64.b64decode(value).decode(errors="replace")
                if SECRET.search(key) and len(text) >= SECRET_LEAST and not text.startswith("http"):
                    self.secrets.add(text)

    def until(self, condition: Callable[[], object], what: str, seconds: float = READY_SECONDS) -> None:
        """Return once that is so; `ClusterError` after the deadline, scaled to the machine."""
        deadline = time.monotonic() + scaled(seconds)
        while not condition():
            if time.monotonic() > deadline:
                raise ClusterError(f"{what}: not within {scaled(seconds):.0f} s")
            time.sleep(0.2)


def _create_environment(cluster: Cluster, minio: MinIO | None) -> None:
    """The environment of new workspaces, from the samples."""
    found = yaml.safe_load_all((SAMPLES / "environment.yaml").read_text())
    environment: Manifest = next(one for one in found if one["metadata"]["name"] == ENVIRONMENT)
    if minio is not None:
        environment["data"]["storage"]["endpoints"] = [minio.endpoint]
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(environment))
