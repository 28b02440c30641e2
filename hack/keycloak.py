"""A real Keycloak on 127.0.0.1, in memory, with HTTP and HTTPS, and realms as an operator would set them up.

    with OwnServer() as server:
        realm = server.realm("acme")
        realm.add_user("ann", password="…")

    python -m hack.keycloak build    fetch and build what is missing; prints its directory
    python -m hack.keycloak run      a server with one realm, until Ctrl-C; prints how to reach it

Keycloak comes from Maven Central by `mvn`, is checked against a pinned digest, and is built once into
`${XDG_CACHE_HOME:-~/.cache}/datalabd/keycloak/`. It needs Java 17 or later.
"""

import argparse
import contextlib
import datetime
import fcntl
import functools
import hashlib
import json
import os
import secrets
import shutil
import signal
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from hack import cache
from hack.guarded import Guarded
from hack.ports import free_port
from webhooks.certificates import issue

VERSION = "26.7.3"
SHA256 = "77657f30b7e90d70f727712ce1c967f430fd6a5e9f458d32d8c6df0635345f47"
PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
OPTIONS = ("--db=dev-mem", "--health-enabled=false", "--metrics-enabled=false")
# Starts in two thirds of the CPU time, and nobody runs it for long.
JAVA = "-XX:TieredStopAtLevel=1 -XX:-UseG1GC -XX:+UseSerialGC"
START_SECONDS = 300.0  # of twelve on an idle machine
ADMIN = "datalabd"
ROLES = ("manage-clients", "manage-users")
WORKSPACE_CLIENT = "workspace-api"

Json = dict[str, Any]


class KeycloakServerError(Exception):
    """A server cannot be had, or failed; the message says what to do, or what it said."""


def missing() -> str | None:
    """What is to be installed before a server can run; None if nothing is."""
    if shutil.which("java") is None:
        return "no java: install Java 17 or later (on Debian, openjdk-17-jre-headless) for Keycloak"
    if not cache_directory().exists() and shutil.which("mvn") is None:
        return "no mvn, and Keycloak was not fetched yet: install Maven (on Debian, maven)"
    return None


# ---- Distribution


def cache_directory() -> Path:
    """Where this version, built with these options, is kept; it exists once it is whole."""
    options = hashlib.sha256("\0".join(OPTIONS).encode()).hexdigest()[:12]
    return cache.directory() / "keycloak" / f"{VERSION}-{options}"


def build() -> Path:
    """That directory, which exists then: fetched and built by one process at a time, a minute and 176 MB."""
    kept = cache_directory()
    if kept.exists():
        return kept
    if lacking := missing():
        raise KeycloakServerError(lacking)
    kept.parent.mkdir(parents=True, exist_ok=True)
    with cache.lock(kept.parent / ".lock", "Keycloak"):
        if not kept.exists():  # another process may have built it while we waited
            with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=kept.parent) as unfinished:
                _build(Path(unfinished)).replace(kept)
    return kept


def _build(scratch: Path) -> Path:
    artifact = f"org.keycloak:keycloak-quarkus-dist:{VERSION}:tar.gz"
    fetch = ["mvn", "-B", "-C", f"{PLUGIN}:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={scratch}"]
    _run(f"fetching Keycloak {VERSION} (first time only, 176 MB) …", fetch, scratch)
    archive = scratch / f"keycloak-quarkus-dist-{VERSION}.tar.gz"
    with archive.open("rb") as file:
        if (found := hashlib.file_digest(file, "sha256").hexdigest()) != SHA256:
            raise KeycloakServerError(f"what was fetched as Keycloak {VERSION} has digest {found}, not {SHA256}")
    with tarfile.open(archive) as packed:
        packed.extractall(scratch, filter="tar")
    home = scratch / f"keycloak-{VERSION}"
    _run("building Keycloak (first time only, about 45 s) …", [str(home / "bin" / "kc.sh"), "build", *OPTIONS], scratch)
    return home


def _run(text: str, command: Sequence[str], scratch: Path) -> None:
    output = scratch / "log"
    if cache.run(text, command, output, scratch) != 0:
        end = "\n".join(output.read_text(errors="replace").splitlines()[-30:])
        raise KeycloakServerError(f"{command[0]} failed; the end of what it said:\n{end}")


# ---- Server


class Server:
    """One server that somebody started, as its first administrator."""

    def __init__(self, url: str, secure_url: str, ca: str, password: str) -> None:
        self.url = url
        self.secure_url = secure_url
        self.ca = ca.encode()
        """What signed its certificate, PEM."""
        self._password = password
        self._admin = httpx.Client(base_url=url, timeout=START_SECONDS)  # a new realm may take as long
        self._renew_at = 0.0

    def close(self) -> None:
        """Close every connection."""
        self._admin.close()

    def request(self, method: str, path: str, *, body: Any = None, **params: Any) -> httpx.Response:
        """An answer of the Admin API to its first administrator; raises `httpx.HTTPStatusError` for a refusal."""
        if time.monotonic() > self._renew_at:
            login = {"grant_type": "password", "client_id": "admin-cli", "username": "admin"}
            answer = self._admin.post(
                "/realms/master/protocol/openid-connect/token", data=login | {"password": self._password}
            ).raise_for_status()
            self._admin.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
            self._renew_at = time.monotonic() + answer.json()["expires_in"] / 2
        content = {} if body is None else {"json": body}
        return self._admin.request(method, f"/admin/realms{path}", params=params, **content).raise_for_status()

    def realm(self, name: str, roles: Sequence[str] = ROLES, **settings: Any) -> "Realm":
        """A new realm with an admin client whose service account holds these roles of `realm-management`."""
        self.request("POST", "", body={"realm": name, "enabled": True, "components": _keys()} | settings)
        made = Realm(self, name)
        client = {"clientId": ADMIN, "secret": made.client_secret, "serviceAccountsEnabled": True}
        made.request("POST", "/clients", body=client | {"publicClient": False, "standardFlowEnabled": False})
        made.grant(*roles)
        return made


@functools.cache
def _keys() -> Json:
    """Key providers of a realm, with RSA keys of ours: to find its own takes Keycloak two seconds of a core."""
    return {
        "org.keycloak.keys.KeyProvider": [
            {"name": "rsa", "providerId": "rsa", "config": _rsa_key()},
            # One key for both would have one id: who looks it up to check a token might get the other use of it.
            {"name": "rsa-enc", "providerId": "rsa-enc", "config": _rsa_key() | {"algorithm": ["RSA-OAEP"]}},
            {"name": "hmac", "providerId": "hmac-generated", "config": {"algorithm": ["HS512"]}},
            {"name": "aes", "providerId": "aes-generated", "config": {}},
        ]
    }


def _rsa_key() -> Json:
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {"priority": ["100"], "privateKey": [key.decode()]}


class OwnServer(Server):
    """A server that is started here. Its ports are known before; what it holds is gone once it is stopped.

    Without the directory of a `Lifeline` it ends with us.
    """

    def __init__(self, lifeline: Path | None = None) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="datalabd-keycloak-", dir=lifeline))
        port, secure_port = free_port(), free_port()
        certificate = issue(["127.0.0.1"], datetime.datetime.now(datetime.UTC))
        (self._directory / "tls.crt").write_bytes(certificate.certificate)
        (self._directory / "tls.key").write_bytes(certificate.key)
        self.address = {
            "url": f"http://127.0.0.1:{port}",
            "secure_url": f"https://127.0.0.1:{secure_port}",
            "ca": certificate.ca.decode(),
            "password": secrets.token_urlsafe(16),
        }
        """All that one has to know to be its administrator."""
        super().__init__(**self.address)
        self._server = Guarded(
            "Keycloak", self._directory, KeycloakServerError, START_SECONDS, stop="TERM", lifeline=lifeline
        )
        self._options = [
            "--optimized",
            "--cache=local",  # no cluster to join, and no port for one
            "--http-enabled=true",
            "--http-host=127.0.0.1",
            f"--http-port={port}",
            f"--https-port={secure_port}",
            f"--https-certificate-file={self._directory / 'tls.crt'}",
            f"--https-certificate-key-file={self._directory / 'tls.key'}",
            "--hostname-strict=false",
        ]

    def start(self) -> None:
        """Return once it answers, empty; raises `KeycloakServerError` if it does not."""
        home = self._directory / "home"
        if not home.exists():
            built = build()
            (home / "bin").mkdir(parents=True)
            # The script finds everything from where it is itself, and writes beside it.
            shutil.copy(built / "bin" / "kc.sh", home / "bin")
            for part in ("conf", "lib", "providers", "themes"):
                (home / part).symlink_to(built / part)
        environ = os.environ | {
            "KC_BOOTSTRAP_ADMIN_USERNAME": "admin",
            "KC_BOOTSTRAP_ADMIN_PASSWORD": self._password,
            "JAVA_OPTS_APPEND": JAVA,
        }
        self._renew_at = 0.0
        self._server.start([str(home / "bin" / "kc.sh"), "start", *self._options], self._answers, env=environ)

    def stop(self) -> None:
        """End it, and what it held. Without effect on a stopped one."""
        self._server.stop()

    def leave(self) -> None:
        """Leave it to its lifeline."""
        self._server.leave()
        self.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        self.stop()
        self.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            return self._admin.get("/realms/master", timeout=5).is_success
        except httpx.TransportError:
            return False


@contextlib.contextmanager
def shared(directory: Path) -> Iterator[Server]:
    """The one server of all processes that name this directory of a `Lifeline`, with which it ends.

    Who comes first starts it, while the others wait.
    """
    address = directory / "keycloak.json"
    with (directory / "keycloak.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not address.exists():
            started = OwnServer(directory)
            started.start()
            started.leave()
            address.write_text(json.dumps(started.address))
    with contextlib.closing(Server(**json.loads(address.read_text()))) as server:
        yield server


class Realm:
    """One realm, as its administrator."""

    def __init__(self, server: Server, name: str) -> None:
        self.server = server
        self.name = name
        self.client_id = ADMIN
        self.client_secret = secrets.token_urlsafe(16)

    @property
    def issuer(self) -> str:
        """What its tokens call it, and where it is found."""
        return f"{self.server.url}/realms/{self.name}"

    @property
    def token_endpoint(self) -> str:
        """Where tokens are asked for."""
        return f"{self.issuer}/protocol/openid-connect/token"

    def request(self, method: str, path: str, *, body: Any = None, **params: Any) -> httpx.Response:
        """As `Server.request`, with a path below the realm."""
        return self.server.request(method, f"/{self.name}{path}", body=body, **params)

    def get(self, path: str, **params: Any) -> Any:
        """What a GET answers, decoded."""
        return self.request("GET", path, **params).json()

    def client(self, client_id: str) -> Json | None:
        """The client of that id, None if there is none."""
        found: list[Json] = self.get("/clients", clientId=client_id)
        return found[0] if found else None

    def group(self, name: str) -> Json | None:
        """The top-level group of that name, None if there is none."""
        found: list[Json] = self.get("/groups", search=name, exact="true", briefRepresentation="false")
        return next((group for group in found if group["name"] == name), None)

    def members(self, group: str) -> list[str]:
        """User names of the first thousand members of a group, sorted; none of a group that is not there."""
        live = self.group(group)
        return sorted(user["username"] for user in self.get(f"/groups/{live['id']}/members", max=1000)) if live else []

    def add_workspace_client(self, *redirects: str) -> str:
        """Secret of a new client `workspace-api`, as `docs/how-to/workspaces-identity.md` has it made.

        Its tokens carry its users' roles of all clients, which need full scope, and have it as their audience.
        """
        secret = secrets.token_urlsafe(16)
        audience = {
            "name": "audience workspace-api",
            "protocol": "openid-connect",
            "protocolMapper": "oidc-audience-mapper",
            "config": {"included.client.audience": WORKSPACE_CLIENT, "access.token.claim": "true"},
        }
        client = {
            "clientId": WORKSPACE_CLIENT,
            "secret": secret,
            "redirectUris": list(redirects),
            "standardFlowEnabled": True,
            "directAccessGrantsEnabled": True,
            "fullScopeAllowed": True,
            "attributes": {"pkce.code.challenge.method": "S256"},
            "protocolMappers": [audience],
        }
        made = self.request("POST", "/clients", body=client).headers["Location"].rpartition("/")[2]
        self.request("POST", f"/clients/{made}/roles", body={"name": "admin"})
        return secret

    def give_role(self, user: str, client_id: str, role: str) -> None:
        """Give a user a role of a client, both of which are there."""
        client = self.client(client_id)
        assert client is not None, f"there is no client {client_id}"
        given = self.get(f"/clients/{client['id']}/roles/{role}")
        self.request("POST", f"/users/{self.user_id(user)}/role-mappings/clients/{client['id']}", body=[given])

    def add_user(self, name: str, password: str | None = None) -> str:
        """Id of a new user, complete enough to log in with the password."""
        user: Json = {"username": name, "enabled": True, "firstName": "A", "lastName": "B", "emailVerified": True}
        user["email"] = f"{secrets.token_hex(8)}@example.org"
        if password is not None:
            user["credentials"] = [{"type": "password", "value": password, "temporary": False}]
        return self.request("POST", "/users", body=user).headers["Location"].rpartition("/")[2]

    def user_id(self, name: str) -> str:
        """Id of a user who is there."""
        (found,) = self.get("/users", username=name, exact="true")
        return str(found["id"])

    def sessions(self, user: str) -> set[str]:
        """Ids of the sessions that a user has."""
        return {session["id"] for session in self.get(f"/users/{self.user_id(user)}/sessions")}

    def end_session(self, session: str) -> None:
        """End one session, as an administrator does."""
        self.request("DELETE", f"/sessions/{session}")

    def grant(self, *roles: str, method: str = "POST") -> None:
        """Give the admin client roles of `realm-management`; with DELETE, take them."""
        account, management = self._admin()
        given = [role for role in self.get(f"/clients/{management}/roles") if role["name"] in roles]
        self.request(method, f"/users/{account}/role-mappings/clients/{management}", body=given)

    def _admin(self) -> tuple[str, str]:
        """Ids of the admin client's service account, and of client `realm-management`."""
        (admin,), (management,) = (self.get("/clients", clientId=name) for name in (ADMIN, "realm-management"))
        return self.get(f"/clients/{admin['id']}/service-account-user")["id"], management["id"]

    def token(self, **form: str) -> httpx.Response:
        """What the token endpoint answers to a form."""
        return httpx.post(self.token_endpoint, data=form, timeout=60)


# ---- Command line


def main() -> int:
    """Build, or run until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m hack.keycloak", description=__doc__.splitlines()[0])
    parser.add_argument("verb", choices=("build", "run"))
    try:
        if parser.parse_args().verb == "build":
            print(build())
            return 0
        with OwnServer() as server:
            realm = server.realm("datalab")
            realm.add_user("ann", password="ann")
            print(f"url: {server.url}\nrealm: {realm.name}\nclient_id: {realm.client_id}")
            print(f"client_secret: {realm.client_secret}\nuser: ann, password ann", flush=True)
            while True:
                time.sleep(3600)
    except KeycloakServerError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())
