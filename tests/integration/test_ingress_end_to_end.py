"""Who gets into a session: tokens of a real Keycloak, asked for by a real nginx that live Ingresses configure.

Only the session behind it, and the small service that nginx asks, are of this module.
"""

import asyncio
import contextlib
import json
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from aiohttp import web
from jwcrypto import jwk, jwt  # type: ignore[import-untyped]  # it ships no types

from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import Manifest, NamespacedName
from datalabd.keycloak import Access, Keycloak
from datalabd.lab import resolve
from datalabd.plan.realm import realm_state
from hack.cluster import Cluster
from hack.keycloak import Realm, Server
from tests.integration.daemon import WEBHOOKS, Daemon, eventually, unregister
from tests.integration.objects import Answer, create, open_namespace, unique
from tests.integration.stage import Stage, standins
from tests.servers import keycloak_server

__all__ = ["keycloak_server"]

pytestmark = [pytest.mark.cluster, pytest.mark.servers("Keycloak", "nginx"), pytest.mark.timeout(600)]

NGINX = "nginx.ingress.kubernetes.io"
OWNER = ("--as=dave",)
"""An administrator of the lab's own namespace."""
PASSWORD = "not-a-secret"


# --- what nginx asks, and what stands behind it -----------------------------------------------------------------------


class ForwardAuth:
    """Approves a request whose token the realm has signed for a member of the group that the address allows."""

    def __init__(self, issuer: str) -> None:
        self._issuer = issuer
        certificates = httpx.get(f"{issuer}/protocol/openid-connect/certs", timeout=60).raise_for_status()
        self._keys = jwk.JWKSet.from_json(certificates.text)

    async def approve(self, request: web.Request) -> web.Response:
        """202 for a member, 403 for somebody else, 401 for nobody."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        try:
            if scheme != "Bearer":
                raise ValueError("no token")
            claims = {"iss": self._issuer, "exp": None}
            signed = jwt.JWT(jwt=token, key=self._keys, check_claims=claims, algs=["RS256"])
            said = json.loads(signed.claims)
        except (ValueError, jwt.JWException, jwk.JWException) as error:
            return web.Response(status=401, text=f"{error}\n")
        if request.query["allowed_groups"] not in said.get("groups", []):
            return web.Response(status=403)
        return web.Response(status=202, headers={"X-Auth-Request-User": said["preferred_username"]})


async def session(request: web.Request) -> web.Response:
    """What a session that asks for nothing answers to everybody."""
    return web.json_response({"host": request.host, "user": request.headers.get("X-Auth-Request-User")})


@contextlib.contextmanager
def served(handler: Callable[[web.Request], object]) -> Iterator[str]:
    """The address of a server of its own thread that has every GET answered by the handler."""
    addresses: list[str] = []
    ready, stopping = threading.Event(), []

    async def serve() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        stopping.append(lambda: loop.call_soon_threadsafe(stop.set))
        app = web.Application()
        app.router.add_get("/{path:.*}", handler)  # type: ignore[arg-type]
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        addresses.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="server")
    thread.start()
    assert ready.wait(30)
    try:
        yield addresses[0]
    finally:
        stopping[0]()
        thread.join(30)


# --- nginx, as ingress-nginx would configure it -----------------------------------------------------------------------


def location(ingress: Manifest, backend: str) -> str:
    """The `server` of an Ingress: open, but for what its annotations ask for."""
    annotations = ingress["metadata"].get("annotations") or {}
    hosts = " ".join(rule["host"] for rule in ingress["spec"]["rules"])
    asks, refused, passed = "", "", ""
    if url := annotations.get(f"{NGINX}/auth-url"):
        refused = f"""
            location = /_auth {{
                internal;
                proxy_pass {url};
                proxy_pass_request_body off;
                proxy_set_header Content-Length "";
            }}"""
        asks = "auth_request /_auth;"
        for header in filter(None, annotations.get(f"{NGINX}/auth-response-headers", "").split(",")):
            variable = re.sub("[^a-z]", "_", header.lower())
            asks += f"auth_request_set $auth_{variable} $upstream_http_{variable};"
            passed += f"proxy_set_header {header} $auth_{variable};"
        if sign_in := annotations.get(f"{NGINX}/auth-signin"):
            asks += "error_page 401 = @sign_in;"
            refused += f"location @sign_in {{ return 302 {sign_in.replace('$escaped_request_uri', '$request_uri')}; }}"
    return f"""
        server {{
            listen {{listen}};
            server_name {hosts};
            location / {{ {asks} proxy_pass {backend}; proxy_set_header Host $host; {passed} }}{refused}
        }}"""


class Nginx:
    """A server of what was rendered last."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    def serve(self, ingresses: list[Manifest], backend: str) -> None:
        """Serve these Ingresses and nothing else."""
        self.stop()
        listen = f"127.0.0.1:{self._port}"
        servers = "".join(location(ingress, backend).replace("{listen}", listen) for ingress in ingresses)
        temporary = "".join(
            f"{name}_temp_path {self._directory / name};"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        configuration = self._directory / "nginx.conf"
        configuration.write_text(
            f"daemon off; worker_processes 1; pid {self._directory / 'pid'}; error_log {self._directory / 'log'};"
            f"events {{}} http {{ access_log off; {temporary}"
            f"server {{ listen {listen} default_server; return 404; }}{servers} }}"
        )
        command = ["nginx", "-p", str(self._directory), "-c", str(configuration)]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        eventually(lambda: self._answers() or None)

    def stop(self) -> None:
        """End it. Without effect if it does not run."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def get(self, host: str, token: str = "") -> httpx.Response:
        """What a visitor of this host is answered; redirects are not followed."""
        headers = {"Host": host} | ({"Authorization": f"Bearer {token}"} if token else {})
        return httpx.get(f"http://127.0.0.1:{self._port}/lab?a=b", headers=headers, trust_env=False)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._directory / "log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0


# --- the stage --------------------------------------------------------------------------------------------------------


@dataclass
class Scene:
    """A lab whose one session runs, and all who take part."""

    stage: Stage
    daemon: Daemon
    lab: str
    backend: str
    nginx: Nginx
    member: str
    stranger: str
    """Their tokens."""

    @property
    def host(self) -> str:
        return f"{self.lab}-main.lab.example.org"

    def live(self) -> None:
        """Have nginx serve the Ingresses that are there now."""
        answer = self.stage.cluster.kubectl("get", "ingress", "-n", self.lab, "-o", "json")
        self.nginx.serve(json.loads(answer.stdout)["items"], self.backend)

    def as_owner(self, *args: str, stdin: str | None = None) -> Answer:
        """What kubectl answers the administrator of the lab's namespace."""
        return self.stage.cluster.kubectl(*args, "-n", self.lab, *OWNER, stdin=stdin, check=False)


@pytest.fixture(scope="module")
def realm(keycloak_server: Server) -> Realm:
    """A realm of two users, with the client by which a proxy would log them in: its tokens tell their groups."""
    realm = keycloak_server.realm(unique("realm"))
    for user in ("ann", "eve"):
        realm.add_user(user, PASSWORD)
    groups = {"claim.name": "groups", "full.path": "false", "access.token.claim": "true"}
    mapper = {"name": "groups", "protocol": "openid-connect", "protocolMapper": "oidc-group-membership-mapper"}
    client = {"clientId": "proxy", "publicClient": True, "directAccessGrantsEnabled": True}
    realm.request("POST", "/clients", body=client | {"protocolMappers": [mapper | {"config": groups}]})
    return realm


def token(realm: Realm, user: str) -> str:
    form = {"grant_type": "password", "client_id": "proxy", "username": user, "password": PASSWORD}
    return str(realm.token(**form).raise_for_status().json()["access_token"])


@pytest.fixture(scope="module")
def scene(
    cluster: Cluster, datalabd: Daemon, realm: Realm, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    if shutil.which("nginx") is None:
        pytest.skip("no nginx: install it (on Debian, nginx-light)")
    issuer = f"{realm.server.url}/realms/{realm.name}"
    namespace = open_namespace(cluster)
    with contextlib.ExitStack() as stack:
        asked = stack.enter_context(served(ForwardAuth(issuer).approve))
        backend = stack.enter_context(served(session))
        stack.enter_context(standins(cluster, installed=False))
        stage = Stage(cluster, namespace, auth={"type": "delegated"}, iam={"realm": realm.name})
        protection = {
            "type": "nginx",
            "authURL": f"{asked}/?allowed_groups={{group}}",
            "signinURL": f"{asked}/start?rd=https://$host$escaped_request_uri",
            "responseHeaders": ["X-Auth-Request-User"],
        }
        patch = json.dumps({"data": {"ingress": {"protection": protection}}})
        cluster.kubectl("patch", "environmentconfig", stage.environment, "--type=merge", "-p", patch)
        lab = stage.lab("main")
        stage.until_ready(lab, 120)
        converge(stage, lab, realm)
        cluster.kubectl("create", "rolebinding", "owner", "-n", lab, "--clusterrole=admin", "--user=dave")
        nginx = Nginx(tmp_path_factory.mktemp("nginx"))
        stack.callback(nginx.stop)
        yield Scene(stage, datalabd, lab, backend, nginx, token(realm, "ann"), token(realm, "eve"))


def converge(stage: Stage, lab: str, realm: Realm) -> None:
    """Have the realm hold what the plan says of the lab: its group has the members of the claim."""
    claim, environment = stage.get("datalab", lab), stage.get("environmentconfig", stage.environment, "")
    assert claim is not None
    assert environment is not None
    state = realm_state(resolve(claim, EnvironmentConfig.parse(environment)))

    async def run() -> None:
        access = Access(realm.server.url, realm.name, realm.client_id, realm.client_secret, None)
        keycloak = Keycloak(access, timeout_seconds=60)
        try:
            await keycloak.converge(state, "not-a-secret", NamespacedName(stage.namespace, lab))
        finally:
            await keycloak.aclose()

    asyncio.run(run())
    assert realm.members(lab) == ["ann"]


# --- who gets in ------------------------------------------------------------------------------------------------------


def only_members_get_in(scene: Scene) -> None:
    scene.live()
    for host in (scene.host, f"editor-{scene.host}"):
        answer = scene.nginx.get(host, scene.member)
        assert (answer.status_code, answer.json()) == (200, {"host": host, "user": "ann"})
        assert scene.nginx.get(host, scene.stranger).status_code == 403
        for nobody in ("", "not.a.token", forged(scene.member)):
            answer = scene.nginx.get(host, nobody)
            assert answer.status_code == 302
            assert answer.headers["Location"].endswith(f"/start?rd=https://{host}/lab?a=b")


def forged(genuine: str) -> str:
    """The claims of a genuine token, signed by somebody else."""
    key = jwk.JWK.generate(kty="RSA", size=2048)
    claims = jwt.JWT(jwt=genuine, check_claims={})
    claims.token.objects["valid"] = True  # its claims are wanted, whoever signed them
    made = jwt.JWT(header={"alg": "RS256"}, claims=claims.token.objects["payload"].decode())
    made.make_signed_token(key)
    return str(made.serialize())


def test_without_annotations_everybody_would_get_in(scene: Scene) -> None:
    """What stands behind nginx asks for nothing: it is the annotations that do."""
    ingress = scene.stage.get("ingress", f"{scene.lab}-main", scene.lab)
    assert ingress is not None
    scene.nginx.serve([ingress | {"metadata": ingress["metadata"] | {"annotations": {}}}], scene.backend)
    assert scene.nginx.get(scene.host).status_code == 200


def test_members_alone_get_in(scene: Scene) -> None:
    only_members_get_in(scene)


def attempts(scene: Scene) -> list[Answer]:
    """Everything by which the owner of the namespace could try to open the session, and what was answered."""
    name = f"{scene.lab}-main"
    live = scene.stage.get("ingress", name, scene.lab)
    assert live is not None
    bare = {
        "apiVersion": live["apiVersion"],
        "kind": "Ingress",
        "metadata": {"name": unique("open"), "namespace": scene.lab},
        "spec": live["spec"],
    }
    marked = bare | {"metadata": bare["metadata"] | {"name": unique("open"), "labels": live["metadata"]["labels"]}}
    keys = [key for key in live["metadata"]["annotations"] if "/auth-" in key or key.startswith("datalabs.")]
    assert len(keys) == 4
    return [
        scene.as_owner("annotate", "ingress", name, *(f"{key}-" for key in keys)),
        scene.as_owner("annotate", "--overwrite", "ingress", name, f"{NGINX}/auth-url={scene.backend}"),
        scene.as_owner("annotate", "ingress", name, f"{NGINX}/configuration-snippet=satisfy any; allow all;"),
        scene.as_owner("label", "ingress", name, "training.educates.dev/application-"),
        scene.as_owner("patch", "ingress", name, "--type=merge", "-p", '{"spec": {"ingressClassName": "other"}}'),
        scene.as_owner("create", "-f", "-", stdin=json.dumps(bare)),
        scene.as_owner("create", "-f", "-", stdin=json.dumps(marked)),
    ]


def test_nobody_opens_it_while_we_are_there(scene: Scene) -> None:
    stripped, other, *refused = attempts(scene)
    # The first two are undone before they are stored, by the webhook.
    assert (stripped.returncode, other.returncode) == (0, 0), (stripped.stderr, other.stderr)
    assert all(answer.returncode != 0 for answer in refused), refused
    only_members_get_in(scene)


def test_nobody_opens_it_while_we_are_gone(scene: Scene) -> None:
    """The process is killed, and its webhooks are taken away: what is left is the API server's own."""
    scene.daemon.kill()
    unregister(scene.stage.cluster, WEBHOOKS)
    probe = ("annotate", "ingress", f"{scene.lab}-main", "probe=yes", "--dry-run=server")
    # The API server reads its registrations with a moment's delay.
    eventually(lambda: "failed calling webhook" not in scene.as_owner(*probe).stderr)
    for answer in attempts(scene):
        assert answer.returncode != 0, answer
        assert "ValidatingAdmissionPolicy" in answer.stderr
    only_members_get_in(scene)
    ingress = scene.stage.get("ingress", f"{scene.lab}-main", scene.lab)
    assert ingress is not None
    assert scene.as_owner("delete", "ingress", f"{scene.lab}-main").returncode == 0
    assert create(scene.stage.cluster, fresh(ingress), *OWNER, check=False).returncode != 0
    scene.live()
    assert scene.nginx.get(scene.host).status_code == 404
    scene.daemon.start()


def fresh(live: Manifest) -> Manifest:
    """The object as somebody would make it anew."""
    kept = {key: live["metadata"][key] for key in ("name", "namespace", "labels", "annotations")}
    return {key: live[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": kept}
