"""Who gets into a session, and what it learns: logins of a real Keycloak by a real oauth2-proxy, before a real nginx.

Live Ingresses and the how-to's configuration of the controller make the one of nginx. The session alone is of this
module.
"""

import asyncio
import base64
import contextlib
import html
import json
import re
import secrets
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml
from aiohttp import web
from jwcrypto import jwk, jwt  # type: ignore[import-untyped]  # it ships no types

from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import Manifest, NamespacedName
from datalabd.keycloak import Access, Keycloak
from datalabd.lab import resolve
from datalabd.plan.realm import realm_state
from hack import oauth2_proxy
from hack.cluster import Cluster
from hack.keycloak import Realm, Server
from hack.oauth2_proxy import OAuth2Proxy
from hack.ports import free_port
from tests.integration.daemon import WEBHOOKS, Daemon, eventually, unregister
from tests.integration.objects import Answer, create, open_namespace, unique
from tests.integration.stage import Stage, standins
from tests.servers import keycloak_server

__all__ = ["keycloak_server"]

pytestmark = [pytest.mark.cluster, pytest.mark.servers("Keycloak", "nginx", "oauth2-proxy"), pytest.mark.timeout(600)]

NGINX = "nginx.ingress.kubernetes.io"
SIGN_IN = "auth.lab.example.org"
CLIENT_ID, CLIENT_SECRET = "proxy", "not-a-secret-either"
CLIENT = {
    "clientId": CLIENT_ID,
    "secret": CLIENT_SECRET,
    "redirectUris": [f"http://{SIGN_IN}/*"],
    "standardFlowEnabled": True,
    "directAccessGrantsEnabled": True,
}
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "protect-ingress.md"
OWNER = ("--as=dave",)
"""An administrator of the lab's own namespace."""
PASSWORD = "not-a-secret"


# --- what stands behind nginx -----------------------------------------------------------------------------------------


class Session:
    """What a session that asks for nothing answers to everybody; it keeps all that it receives."""

    def __init__(self) -> None:
        self.received: list[dict[str, str]] = []
        """Headers of each request, in order."""

    async def answer(self, request: web.Request) -> web.Response:
        """The host that was asked for, and who asks."""
        self.received.append(dict(request.headers))
        return web.json_response(
            {"host": request.host, "user": request.headers.get("X-Auth-Request-Preferred-Username")}
        )


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


def controller_settings() -> tuple[str, str]:
    """Of the controller's own configuration in the how-to: its http-snippet, and the headers that backends receive."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    maps = [
        obj
        for block in blocks
        for obj in yaml.safe_load_all(block)
        if isinstance(obj, dict) and obj.get("kind") == "ConfigMap"
    ]
    by_name = {f"{obj['metadata']['namespace']}/{obj['metadata']['name']}": obj["data"] for obj in maps}
    settings = by_name["ingress-nginx/ingress-nginx-controller"]
    headers = by_name[settings["proxy-set-headers"]]
    return settings["http-snippet"], "".join(f'proxy_set_header {name} "{value}";' for name, value in headers.items())


def location(ingress: Manifest, backend: str, headers: str) -> str:
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
                proxy_set_header X-Auth-Request-Redirect $request_uri;
            }}"""
        asks = "auth_request /_auth; auth_request_set $auth_cookie $upstream_http_set_cookie;"
        asks += "add_header Set-Cookie $auth_cookie;"
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
            location / {{ {asks} proxy_pass {backend}; proxy_set_header Host $host; {passed} {headers} }}{refused}
        }}"""


class Resolved(httpx.HTTPTransport):
    """Finds every host at one port of this machine."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The answer of what listens there, asked for the host that the address names."""
        url = request.url.copy_with(host="127.0.0.1", port=self._port)
        return super().handle_request(
            httpx.Request(request.method, url, headers=request.headers, stream=request.stream)
        )


class Nginx:
    """A server of what was rendered last."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def serve(self, *routes: tuple[Manifest, str]) -> None:
        """Serve these Ingresses, each with what is behind it, and nothing else."""
        self.stop()
        listen = f"127.0.0.1:{self._port}"
        snippet, headers = controller_settings()
        servers = "".join(
            location(ingress, backend, headers).replace("{listen}", listen) for ingress, backend in routes
        )
        temporary = "".join(
            f"{name}_temp_path {self._directory / name};"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        configuration = self._directory / "nginx.conf"
        configuration.write_text(
            f"daemon off; worker_processes 1; pid {self._directory / 'pid'}; error_log {self._directory / 'log'};"
            f"events {{}} http {{ access_log off; {temporary} proxy_buffer_size 64k; proxy_buffers 8 64k;"
            f"proxy_busy_buffers_size 128k; large_client_header_buffers 8 64k;\n{snippet}\n"
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

    def get(self, host: str, token: str = "", **headers: str) -> httpx.Response:
        """What a visitor of this host is answered; redirects are not followed."""
        headers |= {"Host": host} | ({"Authorization": f"Bearer {token}"} if token else {})
        return httpx.get(f"http://127.0.0.1:{self._port}/lab?a=b", headers=headers, trust_env=False, timeout=30)

    def browser(self, trust: ssl.SSLContext) -> httpx.Client:
        """A browser without cookies, to which every host below the labs' domain is this server."""
        return httpx.Client(
            verify=trust,
            mounts={"http://*.lab.example.org": Resolved(self._port)},
            follow_redirects=True,
            timeout=60,
            trust_env=False,
        )

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._directory / "log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0


# --- the stage --------------------------------------------------------------------------------------------------------


@dataclass
class Scene:
    """Two labs of one member, each with a session that runs, and all who take part."""

    stage: Stage
    daemon: Daemon
    lab: str
    other: str
    session: Session
    backend: str
    proxy: OAuth2Proxy
    nginx: Nginx
    trust: ssl.SSLContext
    """Of who signed Keycloak's certificate: its cookies are for encrypted connections alone."""
    member: str
    stranger: str
    """Their tokens."""

    @property
    def host(self) -> str:
        return f"{self.lab}-main.lab.example.org"

    @property
    def other_host(self) -> str:
        return f"{self.other}-main.lab.example.org"

    def live(self) -> None:
        """Have nginx serve the Ingresses that are there now, and oauth2-proxy's."""
        login = {"metadata": {}, "spec": {"rules": [{"host": SIGN_IN}]}}
        found = [
            ingress
            for lab in (self.lab, self.other)
            for ingress in json.loads(self.stage.cluster.kubectl("get", "ingress", "-n", lab, "-o", "json").stdout)[
                "items"
            ]
        ]
        self.nginx.serve((login, self.proxy.url), *((ingress, self.backend) for ingress in found))

    def as_owner(self, *args: str, stdin: str | None = None) -> Answer:
        """What kubectl answers the administrator of the lab's namespace."""
        return self.stage.cluster.kubectl(*args, "-n", self.lab, *OWNER, stdin=stdin, check=False)


@pytest.fixture(scope="module")
def realm(keycloak_server: Server) -> Realm:
    """A realm of two users, with the client by which oauth2-proxy logs them in: its tokens tell their groups."""
    realm = keycloak_server.realm(unique("realm"))
    for user in ("ann", "eve"):
        realm.add_user(user, PASSWORD)
    in_tokens = {"access.token.claim": "true", "id.token.claim": "true"}
    groups = {
        "name": "groups",
        "protocol": "openid-connect",
        "protocolMapper": "oidc-group-membership-mapper",
        "config": in_tokens | {"claim.name": "groups", "full.path": "false"},
    }
    audience = {
        "name": "audience",
        "protocol": "openid-connect",
        "protocolMapper": "oidc-audience-mapper",
        "config": in_tokens | {"included.client.audience": CLIENT_ID},
    }
    realm.request("POST", "/clients", body=CLIENT | {"protocolMappers": [groups, audience]})
    return realm


def token(realm: Realm, user: str) -> str:
    form = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "username": user, "password": PASSWORD}
    form["grant_type"] = "password"
    answer = httpx.post(f"{issuer(realm)}/protocol/openid-connect/token", data=form, verify=trust(realm), timeout=60)
    return str(answer.raise_for_status().json()["access_token"])


def issuer(realm: Realm) -> str:
    return f"{realm.server.secure_url}/realms/{realm.name}"


def trust(realm: Realm) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=realm.server.ca.decode())


def proxy_settings(issuer: str, ca: Path) -> dict[str, object]:
    """oauth2-proxy as the how-to says, with all that its answers can hold: what leaks from there would show."""
    return {
        "provider": "oidc",
        "oidc_issuer_url": issuer,
        "provider_ca_files": [str(ca)],
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "redirect_url": f"http://{SIGN_IN}/oauth2/callback",
        "cookie_secret": secrets.token_hex(16),
        "cookie_domains": [".lab.example.org"],
        "cookie_secure": False,
        "whitelist_domains": [".lab.example.org"],
        "email_domains": ["*"],
        "reverse_proxy": True,
        "skip_provider_button": True,
        "skip_jwt_bearer_tokens": True,
        "set_xauthrequest": True,
        "set_authorization_header": True,
        "pass_access_token": True,
        "upstreams": ["static://202"],
    }


@pytest.fixture(scope="module")
def scene(
    cluster: Cluster, datalabd: Daemon, realm: Realm, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    if shutil.which("nginx") is None:
        pytest.skip("no nginx: install it (on Debian, nginx-light)")
    if lacking := oauth2_proxy.missing():
        pytest.skip(lacking)
    namespace = open_namespace(cluster)
    with contextlib.ExitStack() as stack:
        directory = tmp_path_factory.mktemp("oauth2-proxy")
        (directory / "ca.pem").write_bytes(realm.server.ca)
        settings = proxy_settings(issuer(realm), directory / "ca.pem")
        proxy = stack.enter_context(OAuth2Proxy(directory, settings))
        session = Session()
        backend = stack.enter_context(served(session.answer))
        stack.enter_context(standins(cluster, installed=False))
        stage = Stage(cluster, namespace, auth={"type": "delegated"}, iam={"realm": realm.name})
        protection = {
            "type": "nginx",
            "authURL": f"{proxy.url}/oauth2/auth?allowed_groups={{group}}",
            "signinURL": f"http://{SIGN_IN}/oauth2/start?rd=http://$host$escaped_request_uri",
            "responseHeaders": ["X-Auth-Request-Preferred-Username", "Authorization", "X-Auth-Request-Access-Token"],
        }
        patch = json.dumps({"data": {"ingress": {"protection": protection}}})
        cluster.kubectl("patch", "environmentconfig", stage.environment, "--type=merge", "-p", patch)
        labs = [stage.lab("main") for _ in range(2)]
        for lab in labs:
            stage.until_ready(lab, 120)
            converge(stage, lab, realm)
        cluster.kubectl("create", "rolebinding", "owner", "-n", labs[0], "--clusterrole=admin", "--user=dave")
        nginx = Nginx(tmp_path_factory.mktemp("nginx"))
        stack.callback(nginx.stop)
        tokens = token(realm, "ann"), token(realm, "eve")
        yield Scene(stage, datalabd, labs[0], labs[1], session, backend, proxy, nginx, trust(realm), *tokens)


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
            assert answer.headers["Location"] == f"http://{SIGN_IN}/oauth2/start?rd=http://{host}/lab?a=b"


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
    scene.nginx.serve((ingress | {"metadata": ingress["metadata"] | {"annotations": {}}}, scene.backend))
    assert scene.nginx.get(scene.host).status_code == 200


def test_members_alone_get_in(scene: Scene) -> None:
    only_members_get_in(scene)


# --- what a session learns --------------------------------------------------------------------------------------------


def log_in(scene: Scene, browser: httpx.Client) -> None:
    """Open a session as a member who logs in on the way."""
    page = browser.get(f"http://{scene.host}/lab")
    form = re.search(r'<form[^>]* action="([^"]+)"', page.text)
    assert form, page.text
    opened = browser.post(html.unescape(form[1]), data={"username": "ann", "password": PASSWORD})
    assert (opened.status_code, opened.url.host) == (200, scene.host), opened.text
    assert opened.json() == {"host": scene.host, "user": "ann"}


def login_cookies(browser: httpx.Client) -> list[str]:
    """The cookies of its login, as it sends them."""
    return [
        f"{cookie.name}={cookie.value}" for cookie in browser.cookies.jar if cookie.name.startswith("_oauth2_proxy")
    ]


def pieces(received: list[dict[str, str]]) -> set[str]:
    """Everything in what a session received that could be a credential: values, and their parts."""
    values = {value for headers in received for value in headers.values()}
    words = {word for value in values for word in re.split(r"[\s;,]+", value) if word}
    return values | words | {word.partition("=")[2] for word in words if "=" in word}


def openings(piece: str) -> list[dict[str, str]]:
    """The headers by which one could try to get in with it."""
    basic = base64.b64encode(f"ann:{piece}".encode()).decode()
    return [
        {"Cookie": piece},
        {"Cookie": f"_oauth2_proxy={piece}"},
        {"Authorization": piece},
        {"Authorization": f"Bearer {piece}"},
        {"Authorization": f"Basic {basic}"},
    ]


def admitted(scene: Scene, headers: dict[str, str]) -> list[str]:
    """Where these headers open something: the other lab, oauth2-proxy."""
    opened = [scene.other_host] if scene.nginx.get(scene.other_host, **headers).status_code == 200 else []
    for path in ("auth", "userinfo"):
        answer = httpx.get(f"{scene.proxy.url}/oauth2/{path}", headers=headers, trust_env=False, timeout=30)
        opened += [f"oauth2-proxy, {path}"] if answer.is_success else []
    return opened


def test_nothing_that_a_session_receives_opens_another_lab(scene: Scene) -> None:
    scene.live()
    scene.session.received.clear()
    with scene.nginx.browser(scene.trust) as browser:
        log_in(scene, browser)
        browser.cookies.set("workshop-session-id", "its-own", domain=scene.host)
        assert browser.get(f"http://{scene.host}/lab").status_code == 200
        assert browser.get(f"http://{scene.other_host}/lab").status_code == 200, "one login is for all labs"
        cookies = login_cookies(browser)
    everywhere = [scene.other_host, "oauth2-proxy, auth", "oauth2-proxy, userinfo"]
    basic = base64.b64encode(f"ann:{scene.member}".encode()).decode()
    for genuine in (
        {"Cookie": "; ".join(cookies)},
        {"Authorization": f"Bearer {scene.member}"},
        {"Authorization": f"Basic {basic}"},
    ):
        assert admitted(scene, genuine) == everywhere, "what is tried below is refused for what it is"
        assert scene.nginx.get(scene.host, **genuine).status_code == 200
    received = [headers for headers in scene.session.received if headers["Host"] == scene.host]
    assert len(received) == 5
    assert received[1]["Cookie"] == "workshop-session-id=its-own"
    opened = {
        piece: where
        for piece in pieces(received)
        for headers in openings(piece)
        if piece.isprintable() and (where := admitted(scene, headers))
    }
    assert opened == {}


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        pytest.param({"Cookie": "a=1; _oauth2_proxy_0=x; b=2; _oauth2_proxy_1=y; c=3"}, "a=1; b=2; c=3", id="between"),
        pytest.param({"Cookie": "_oauth2_proxy=x"}, None, id="alone"),
        pytest.param({"Cookie": "a=_oauth2_proxy; _oauth2_proxy_csrf=x"}, "a=_oauth2_proxy;", id="a value alike"),
        pytest.param(
            {"Cookie": "a=1; " + "; ".join(f"_oauth2_proxy_{n}=x" for n in range(5))},
            None,
            id="more than are taken out",
        ),
        pytest.param({"Cookie": "a=1;_oauth2_proxy=x;b=2"}, "a=1;b=2", id="no spaces"),
    ],
)
def test_cookies_of_a_session_arrive_without_those_of_the_login(
    scene: Scene, sent: dict[str, str], arrives: str | None
) -> None:
    scene.live()
    assert scene.nginx.get(scene.host, scene.member, **sent).status_code == 200
    assert scene.session.received[-1].get("Cookie") == arrives


# --- what its owner may do --------------------------------------------------------------------------------------------


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
    create(scene.stage.cluster, fresh(ingress))  # as Educates would, for whatever comes after


def fresh(live: Manifest) -> Manifest:
    """The object as somebody would make it anew."""
    kept = {key: live["metadata"][key] for key in ("name", "namespace", "labels", "annotations")}
    return {key: live[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": kept}
