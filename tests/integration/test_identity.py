"""Labs and their place in Keycloak, with a real one: from the claim to the realm, in bad times, and to the end."""

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from controllers.identity import RESYNC_SECONDS
from controllers.manager import Manager
from datalabd import metrics
from datalabd.api.meta import ACCOUNT, REALM_MARK, Manifest
from datalabd.kube import reflector
from datalabd.kube import resources as kinds
from datalabd.kube.cache import Cache
from datalabd.kube.client import Client
from datalabd.kube.informers import Informers
from datalabd.plan import rights
from datalabd.status import stalled_step
from hack import idle
from hack.account import kubeconfig
from hack.cluster import Cluster
from hack.keycloak import Realm, Server
from tests.integration.daemon import IMPATIENT, Daemon, eventually, running
from tests.integration.gate import Gate
from tests.integration.objects import let_go, open_namespace, unique
from tests.integration.stage import Stage, background, standins
from tests.integration.test_canary import Watcher
from tests.integration.test_crash import ready, run
from tests.servers import keycloak_server

__all__ = ["keycloak_server"]

pytestmark = [pytest.mark.cluster, pytest.mark.servers("Keycloak"), pytest.mark.timeout(600)]

ROTATE = "datalabs.pkg.internal/rotate"
ABANDON = "datalabs.pkg.internal/abandon"
WAIT = 60.0
WRITTEN = ("{lab}-oauth-client", "{lab}-oauth2-client", "{lab}")


@pytest.fixture
def gate(keycloak_server: Server) -> Iterator[Gate]:
    """The way to it, of this test alone."""
    with Gate(keycloak_server.url) as gate:
        yield gate


@pytest.fixture(scope="module")
def datalabd(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running(cluster, tmp_path_factory, DATALABD_LOG_LEVEL="debug") as daemon:
        yield daemon


@pytest.fixture(autouse=True)
def at_work(request: pytest.FixtureRequest, datalabd: Daemon) -> None:
    """The daemon runs, but for tests that make room for controllers of their own."""
    if "room" not in request.fixturenames and not datalabd.started:
        datalabd.start()


@pytest.fixture(scope="module")
def played(cluster: Cluster, datalabd: Daemon) -> Iterator[None]:
    with standins(cluster, installed=False):
        yield


@pytest.fixture(scope="module")
def realm(keycloak_server: Server) -> Realm:
    """A realm with users ann and bob, for labs of all tests."""
    realm = keycloak_server.realm(unique("realm"))
    for user in ("ann", "bob"):
        realm.add_user(user)
    return realm


def open_to_keycloak(cluster: Cluster, namespace: str) -> None:
    """Let datalabd read Secret `admin` of a namespace, and nothing else there."""
    binding = rights.binding(ACCOUNT, "keycloak", namespace)
    rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["list", "watch"], "resourceNames": ["admin"]}]
    role = {"apiVersion": binding["apiVersion"], "kind": "Role", "rules": rules}
    cluster.api.create(role | {"metadata": {"name": "keycloak", "namespace": namespace}})
    cluster.api.create(binding | {"roleRef": binding["roleRef"] | {"kind": "Role"}})


class Labs(Stage):
    """An environment that names a Keycloak, and labs in it."""

    def __init__(self, cluster: Cluster, namespace: str, url: str, realm: Realm, *, secret: bool = True) -> None:
        self.secrets = unique("iam")
        cluster.api.create_namespace(self.secrets)
        self.url = url
        if secret:
            open_to_keycloak(cluster, self.secrets)
            self.admin(cluster, realm)
        super().__init__(cluster, namespace, iam=self.iam(realm.name))

    def iam(self, realm: str) -> Manifest:
        """What the environment says of Keycloak."""
        return {"url": self.url, "realm": realm, "adminSecret": {"namespace": self.secrets, "name": "admin"}}

    def admin(self, cluster: Cluster, realm: Realm, secret: str = "") -> None:
        """Say who manages the realm, with another secret than the right one if that is given."""
        metadata = {"name": "admin", "namespace": self.secrets}
        values = {"client_id": realm.client_id, "client_secret": secret or realm.client_secret}
        cluster.api.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values})

    def status(self, lab: str) -> Manifest:
        """The status of a lab."""
        return dict((self.get("datalab", lab) or {}).get("status") or {})

    def notes(self, lab: str, reason: str) -> list[str]:
        """Notes of the Events of this reason."""
        found = self.cluster.api.list("events.events.k8s.io", self.namespace)
        return [event["note"] for event in found if (event["reason"], event["regarding"]["name"]) == (reason, lab)]


@pytest.fixture
def labs(cluster: Cluster, played: None, namespace: str, gate: Gate, realm: Realm) -> Labs:
    return Labs(cluster, namespace, gate.url, realm)


@pytest.fixture(scope="module")
def always(keycloak_server: Server) -> Iterator[Gate]:
    """A way to it that is never shut."""
    with Gate(keycloak_server.url) as gate:
        yield gate


@pytest.fixture(scope="module")
def common(cluster: Cluster, played: None, always: Gate, realm: Realm) -> Iterator[tuple[Labs, str]]:
    """A lab of one session, for tests that change it and need not know how the others left it."""
    namespace = open_namespace(cluster)
    labs = Labs(cluster, namespace, always.url, realm)
    yield labs, labs.lab("main", users=["ann", "bob"])
    let_go(cluster, namespace)


def token(realm: Realm, client: str, secret: str) -> httpx.Response:
    """What Keycloak answers to a program that logs in as a client."""
    url = f"{realm.server.url}/realms/{realm.name}/protocol/openid-connect/token"
    login = {"grant_type": "client_credentials", "client_id": client, "client_secret": secret}
    return httpx.post(url, data=login, trust_env=False)


def client_of(realm: Realm, lab: str) -> dict[str, Any]:
    """The client of a lab that has one."""
    client = realm.client(lab)
    assert client is not None
    return client


def let_in(labs: Labs, lab: str, *users: str) -> None:
    """Have the lab be these users'."""
    labs.patch(lab, {"op": "replace", "path": "/spec/users", "value": users})


def test_a_claim_becomes_a_client_and_groups(common: tuple[Labs, str], realm: Realm) -> None:
    labs, lab = common
    let_in(labs, lab, "ann", "bob")
    eventually(lambda: realm.members(lab) == ["ann", "bob"], WAIT)
    labs.until_ready(lab, WAIT)
    assert labs.condition(lab, "IdentityReady")["reason"] == "Available"
    assert labs.status(lab)["realm"] == f"{labs.url}/realms/{realm.name}"
    client = client_of(realm, lab)
    assert client["attributes"][REALM_MARK] == f"{labs.namespace}/{lab}"
    assert f"https://{lab}-main.lab.example.org/*" in client["redirectUris"]
    assert (realm.members(lab), realm.members(f"{lab}-admin")) == (["ann", "bob"], ["ann"])
    own = labs.values(f"{lab}-oauth-client")
    assert own["clientID"] == lab
    assert labs.values(f"{lab}-oauth2-client", lab) == {"client_id": lab, "client_secret": own["clientSecret"]}
    claims = token(realm, lab, own["clientSecret"]).raise_for_status().json()["access_token"].split(".")[1]
    said = json.loads(base64.urlsafe_b64decode(claims + "=="))
    assert said["resource_access"][lab]["roles"] == ["ws_api"]


def test_members_come_and_go_with_the_claim(common: tuple[Labs, str], realm: Realm) -> None:
    labs, lab = common
    let_in(labs, lab, "ann")
    eventually(lambda: realm.members(lab) == ["ann"] == realm.members(f"{lab}-admin"), WAIT)
    labs.until_ready(lab)
    let_in(labs, lab, "bob")
    eventually(lambda: realm.members(lab) == ["bob"] == realm.members(f"{lab}-admin"))
    labs.until_ready(lab)


def test_an_unknown_user_is_told_of_and_blocks_nobody(common: tuple[Labs, str], realm: Realm) -> None:
    labs, lab = common
    let_in(labs, lab, "ann", "nobody")
    told = labs.until(lab, "IdentityReady", "True", "UsersMissing", WAIT)
    labs.until_ready(lab)
    assert told["message"] == "not members yet: nobody; status.users says why"
    assert list(labs.status(lab)["users"]) == ["nobody"]
    assert realm.members(lab) == ["ann"]
    let_in(labs, lab, "ann")
    labs.until(lab, "IdentityReady", "True", "Available")
    assert "users" not in labs.status(lab)


def test_the_secret_of_a_client_is_replaced_on_request(common: tuple[Labs, str], realm: Realm) -> None:
    labs, lab = common
    labs.until_ready(lab, WAIT)
    old = labs.values(f"{lab}-oauth-client")["clientSecret"]
    labs.annotate(lab, ROTATE, f"client/{lab}/one")
    eventually(lambda: labs.status(lab)["credentials"][f"client/{lab}"].get("rotation") == "one", WAIT)
    new = labs.values(f"{lab}-oauth-client")["clientSecret"]
    assert new != old
    assert token(realm, lab, new).is_success
    assert not token(realm, lab, old).is_success
    eventually(lambda: labs.values(f"{lab}-oauth2-client", lab)["client_secret"] == new)
    assert "rotating" not in labs.status(lab)["credentials"][f"client/{lab}"]


def sent_in_all(gate: Gate) -> int:
    """How many bytes Keycloak was sent, once none are under way any more; 0 while some are."""
    before = gate.sent
    time.sleep(1)
    return before if gate.sent == before else 0


def test_nothing_is_sent_while_nothing_changes(common: tuple[Labs, str], always: Gate) -> None:
    """Through the way of this lab alone: labs that other tests left are still being closed."""
    labs, lab = common
    labs.until_ready(lab, WAIT)
    before = eventually(lambda: sent_in_all(always))
    labs.patch(lab, {"op": "add", "path": "/spec/quota", "value": {"memory": "3Gi"}})
    labs.until(lab, "SessionsReady", "True", "RestartNeeded", WAIT)
    assert always.sent == before


def requests(datalabd: Daemon) -> float:
    """How many requests it has sent to Keycloak."""
    found = datalabd.metrics().items()
    return sum(value for series, value in found if series.startswith("datalabd_keycloak_requests_total"))


def test_a_restart_takes_nothing_back(common: tuple[Labs, str], realm: Realm, datalabd: Daemon) -> None:
    labs, lab = common
    labs.until_ready(lab, WAIT)
    before = {kind: labs.condition(lab, kind) for kind in ("Ready", "IdentityReady")}
    datalabd.restart()
    eventually(lambda: requests(datalabd) > 0, WAIT)
    series = 'datalabd_reconcile_total{controller="identity",result="requeue_after"}'
    eventually(lambda: datalabd.metrics().get(series, 0) > 0, WAIT)
    # A condition that was False for a moment would have another time of transition.
    assert {kind: labs.condition(lab, kind) for kind in before} == before
    assert labs.status(lab)["realm"] == f"{labs.url}/realms/{realm.name}"


def test_a_keycloak_that_is_away_delays_nothing_else(labs: Labs, realm: Realm, gate: Gate) -> None:
    lab = labs.lab(users=["ann"])
    labs.until_ready(lab, WAIT)
    secret = labs.values(f"{lab}-oauth-client")
    gate.shut()
    labs.patch(lab, {"op": "replace", "path": "/spec/users", "value": ["ann", "bob"]})
    told = labs.until(lab, "IdentityReady", "False", "KeycloakUnavailable")
    assert f"Keycloak at {labs.url} cannot be reached" in told["message"]
    labs.annotate(lab, ROTATE, f"client/{lab}/away")

    other = Stage(labs.cluster, labs.namespace)
    without = other.lab("main")
    other.until_ready(without, WAIT)
    new = labs.lab("main", users=["bob"])
    labs.until(new, "SessionsReady", "True", "Running", WAIT)
    assert labs.condition(new, "IdentityReady")["reason"] == "KeycloakUnavailable"
    eventually(lambda: labs.values(f"{lab}-oauth-client") != secret)
    copied = labs.values(f"{lab}-oauth2-client", lab)["client_secret"]
    assert copied == secret["clientSecret"]  # Keycloak does not know the new one
    assert labs.status(lab)["credentials"][f"client/{lab}"]["rotating"] == "away"

    gate.open()
    for name in (lab, new):
        labs.until_ready(name, 90)
    assert realm.members(lab) == ["ann", "bob"]
    assert realm.members(new) == ["bob"]
    eventually(lambda: labs.values(f"{lab}-oauth2-client", lab)["client_secret"] != copied)
    assert token(realm, lab, labs.values(f"{lab}-oauth-client")["clientSecret"]).is_success


def test_a_realm_that_is_lost_gets_everything_back(
    cluster: Cluster, played: None, namespace: str, always: Gate, keycloak_server: Server
) -> None:
    realm = keycloak_server.realm(unique("lost"))
    realm.add_user("ann")
    labs = Labs(cluster, namespace, always.url, realm)
    lab = labs.lab()
    labs.until_ready(lab, WAIT)
    secret = labs.values(f"{lab}-oauth-client")["clientSecret"]
    keycloak_server.request("DELETE", f"/{realm.name}")
    labs.patch(lab, {"op": "replace", "path": "/spec/users", "value": ["bob"]})
    told = labs.until(lab, "IdentityReady", "False", "RealmMissing")
    assert f"has no realm {realm.name}: create it" in told["message"]
    assert labs.condition(lab, "Stalled")["reason"] == "RealmMissing"
    again = keycloak_server.realm(realm.name)
    again.add_user("bob")
    labs.admin(labs.cluster, again)
    labs.until_ready(lab, WAIT)
    assert again.members(lab) == ["bob"]
    assert token(again, lab, secret).is_success


def test_a_client_of_somebody_else_is_left_alone(labs: Labs, realm: Realm) -> None:
    name = unique()
    mark = {REALM_MARK: "secret-team/theirs"}
    realm.request("POST", "/clients", body={"clientId": name, "attributes": mark, "rootUrl": "https://theirs"})
    lab = labs.lab(name=name)
    told = labs.until(lab, "IdentityReady", "False", "NameTaken")
    assert f'client "{lab}" of realm {realm.name} exists and is not this lab\'s' in told["message"]
    assert "theirs" not in json.dumps(labs.get("datalab", lab))
    labs.delete(lab)
    assert client_of(realm, name)["rootUrl"] == "https://theirs"
    assert realm.group(name) is None


def finalizers_of(labs: Stage, lab: str) -> list[str]:
    """What holds the end of the session of a lab up."""
    live = labs.get("workshopsession", f"{lab}-main", "") or {}
    return list(live["metadata"].get("finalizers") or ())


def hold_up(labs: Stage, lab: str, finalizers: list[str]) -> None:
    """Have these, and no others, hold it up."""
    labs.cluster.api.patch("workshopsession", f"{lab}-main", {"metadata": {"finalizers": finalizers}})


def test_access_closes_before_anything_else_goes(labs: Labs, realm: Realm) -> None:
    lab = labs.lab("main")
    labs.until_ready(lab, WAIT)
    hold = finalizers_of(labs, lab)
    hold_up(labs, lab, [*hold, "example.org/slow"])
    secret = labs.values(f"{lab}-oauth-client")["clientSecret"]
    labs.delete(lab, wait=False)

    def going() -> bool:
        live = labs.get("workshopsession", f"{lab}-main", "") or {}
        return "deletionTimestamp" in live["metadata"]

    eventually(going, WAIT)
    assert client_of(realm, lab)["enabled"] is False
    assert (realm.members(lab), realm.members(f"{lab}-admin")) == ([], [])
    assert not token(realm, lab, secret).is_success
    left = [finalizer for finalizer in finalizers_of(labs, lab) if finalizer != "example.org/slow"]
    hold_up(labs, lab, left)
    labs.gone("datalab", lab, labs.namespace)
    assert realm.client(lab) is None
    assert [realm.group(group) for group in (lab, f"{lab}-admin")] == [None, None]


def test_a_deletion_waits_for_keycloak_unless_told_not_to(
    labs: Labs, realm: Realm, gate: Gate, datalabd: Daemon
) -> None:
    lab, patient = labs.lab("main"), labs.lab()
    for each in (lab, patient):
        labs.until_ready(each, WAIT)
    gate.shut()
    for each in (lab, patient):
        labs.delete(each, wait=False)

    def waits(lab: str) -> bool:
        message: str = labs.condition(lab, "Ready").get("message", "")
        return message.startswith(f"deleting access: waits for Keycloak at {labs.url} cannot be reached")

    for each in (lab, patient):
        eventually(lambda each=each: waits(each), WAIT)  # type: ignore[misc]
    session = labs.get("workshopsession", f"{lab}-main", "") or {}
    assert "deletionTimestamp" not in session["metadata"]
    datalabd.restart(before=IMPATIENT)
    try:
        for step, asked in (("access", "access"), ("identity", "access,identity")):
            eventually(lambda step=step: stalled_step(labs.get("datalab", lab) or {}) == step, WAIT)  # type: ignore[misc]
            labs.annotate(lab, ABANDON, asked)
        labs.gone("datalab", lab, labs.namespace)
    finally:
        datalabd.restart()
    assert client_of(realm, lab)["enabled"] is True
    assert labs.get("datalab", patient) is not None
    gate.open()
    labs.gone("datalab", patient, labs.namespace, 90)
    assert realm.client(patient) is None


def test_a_lab_that_never_had_identity_goes_without(labs: Labs, realm: Realm, gate: Gate) -> None:
    other = Stage(labs.cluster, labs.namespace)
    lab = other.lab("main")
    other.until_ready(lab, WAIT)
    gate.shut()
    held = finalizers_of(other, lab)
    hold_up(other, lab, [*held, "example.org/slow"])
    other.delete(lab, wait=False)
    eventually(lambda: "deleting sessions" in other.condition(lab, "Ready").get("message", ""), WAIT)
    other.edit_environment({"iam": labs.iam(realm.name)})
    hold_up(other, lab, held)
    other.gone("datalab", lab, other.namespace)


def test_a_realm_that_is_nobodys_to_keep_stays_as_it_is(labs: Labs, realm: Realm) -> None:
    lab = labs.lab()
    labs.until_ready(lab, WAIT)
    secrets = labs.values(f"{lab}-oauth-client"), labs.values(f"{lab}-oauth2-client", lab)
    labs.edit_environment({"iam": {"url": None, "adminSecret": None}})
    told = labs.until(lab, "IdentityReady", "Unknown", "Disabled")
    left = f"{labs.url}/realms/{realm.name}"
    assert told["message"].endswith(f"the lab's client and groups in {left} stay as they are")
    labs.until_ready(lab)
    assert (labs.values(f"{lab}-oauth-client"), labs.values(f"{lab}-oauth2-client", lab)) == secrets
    labs.delete(lab)
    assert client_of(realm, lab)["enabled"] is True
    assert labs.notes(lab, "RealmLeft") == [
        f"the lab's client and groups in {left} stay: its environment names another realm, or none"
    ]


def test_another_realm_is_filled_and_the_old_one_left(labs: Labs, realm: Realm, keycloak_server: Server) -> None:
    lab = labs.lab()
    labs.until_ready(lab, WAIT)
    other = keycloak_server.realm(unique("realm"))
    other.add_user("ann")
    before = labs.status(lab)["realm"]
    labs.admin(labs.cluster, other)
    labs.edit_environment({"iam": labs.iam(other.name)})
    eventually(lambda: labs.status(lab)["realm"].endswith(f"/realms/{other.name}"), WAIT)
    labs.until_ready(lab, WAIT)
    assert other.members(lab) == ["ann"]
    assert realm.members(lab) == ["ann"]
    (note,) = labs.notes(lab, "RealmLeft")
    assert f"those in {before} stay as they are" in note


def test_killed_in_the_middle_it_goes_on_where_it_was(labs: Labs, realm: Realm, datalabd: Daemon) -> None:
    lab = labs.lab(users=["ann", "bob"])
    eventually(lambda: realm.client(lab) is not None, WAIT)
    datalabd.kill()
    secret = labs.values(f"{lab}-oauth-client")["clientSecret"]
    datalabd.start()
    labs.until_ready(lab, WAIT)
    assert (realm.members(lab), realm.members(f"{lab}-admin")) == (["ann", "bob"], ["ann"])
    assert labs.values(f"{lab}-oauth-client")["clientSecret"] == secret
    assert token(realm, lab, secret).is_success
    labs.delete(lab, wait=False)
    eventually(lambda: realm.client(lab) is None or client_of(realm, lab)["enabled"] is False, WAIT)
    datalabd.kill()
    datalabd.start()
    labs.gone("datalab", lab, labs.namespace)
    assert realm.client(lab) is None
    assert [realm.group(group) for group in (lab, f"{lab}-admin")] == [None, None]


def test_no_secret_is_told(labs: Labs, realm: Realm, gate: Gate, datalabd: Daemon) -> None:
    lab = unique()
    watcher = Watcher(labs, lab)
    watcher.learn("admin", realm.client_secret)
    labs.lab("main", name=lab, users=["ann", "nobody"])
    labs.until_ready(lab, WAIT)
    watcher.learn("first", labs.values(f"{lab}-oauth-client")["clientSecret"])
    assert watcher.found_in_objects() == {}

    gate.shut()
    labs.annotate(lab, ROTATE, f"client/{lab}/one")
    labs.until(lab, "IdentityReady", "False", "KeycloakUnavailable")
    watcher.learn("second", labs.values(f"{lab}-oauth-client")["clientSecret"])
    assert watcher.found_in_objects() == {}
    gate.open()
    labs.until_ready(lab, 90)

    wrong = unique("canary-wrong-secret")
    watcher.learn("wrong", wrong)
    labs.admin(labs.cluster, realm, wrong)
    labs.patch(lab, {"op": "replace", "path": "/spec/users", "value": ["ann"]})
    labs.until(lab, "IdentityReady", "False", "KeycloakForbidden")
    assert watcher.found_in_objects() == {}
    labs.admin(labs.cluster, realm)
    labs.until_ready(lab, WAIT)

    labs.delete(lab)
    assert watcher.found_in_objects() == {}
    assert watcher.found_in(datalabd.log.read_text()) == []
    assert any(line.get("controller") == "identity" for line in datalabd.log_lines())
    exposed = httpx.get(f"{datalabd.url}/metrics", trust_env=False).raise_for_status().text
    assert "datalabd_keycloak_requests_total" in exposed
    assert watcher.found_in(exposed) == []


# --- without the daemon -----------------------------------------------------------------------------------------------


@pytest.fixture
def room(datalabd: Daemon) -> None:
    """The daemon makes room for controllers of the test's own; it is started again for the first test that needs it."""
    if datalabd.started:
        datalabd.stop()


@pytest.fixture
def alone(room: None, labs: Labs) -> Labs:
    return labs


@contextlib.contextmanager
def leading(cluster: Cluster, resync_seconds: float = RESYNC_SECONDS) -> Iterator[None]:
    """datalabd's controllers, in a thread of their own; they look at realms as often as this."""

    @contextlib.asynccontextmanager
    async def led() -> AsyncIterator[None]:
        client = await Client.connect(str(kubeconfig(cluster, confined=True)))
        informers = Informers(client)
        manager = Manager(client, cache := Cache(informers), 2, resync_seconds)
        cache.start()
        try:
            await informers.until_synced(kinds.DATALABS)
            work = asyncio.create_task(manager.lead())
            yield
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
        finally:
            await informers.stop()
            await client.close()

    with background("leading", led):
        yield


def of_keycloak() -> float:
    """How many requests this process has sent to Keycloak."""
    (family,) = metrics.KEYCLOAK_REQUESTS.collect()
    return sum(sample.value for sample in family.samples if sample.name.endswith("_total"))


@pytest.mark.denied("list secrets")  # the rights come later as well
@pytest.mark.usefixtures("room", "played")
def test_credentials_may_come_later(
    cluster: Cluster, namespace: str, gate: Gate, realm: Realm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reflector, "DENIED_SECONDS", 0.0)  # nothing is refused by mistake here
    labs = Labs(cluster, namespace, gate.url, realm, secret=False)
    with leading(cluster):
        credentials_come_later(labs, realm)


def credentials_come_later(labs: Labs, realm: Realm) -> None:
    lab = labs.lab()
    told = labs.until(lab, "IdentityReady", "False", "IamSecret", WAIT)
    assert told["message"].startswith(
        f"datalabd may not list secrets in namespace {labs.secrets}; where it should, say"
    )
    open_to_keycloak(labs.cluster, labs.secrets)
    eventually(lambda: "does not exist" in labs.condition(lab, "IdentityReady")["message"], WAIT)
    told = labs.condition(lab, "IdentityReady")
    assert told["message"] == (
        f"Secret {labs.secrets}/admin does not exist; create it with client_id and client_secret"
    )
    labs.until(lab, "RuntimeReady", "True")
    labs.admin(labs.cluster, realm)
    labs.until_ready(lab, WAIT)
    labs.cluster.api.delete("secret", "admin", labs.secrets)
    labs.until(lab, "IdentityReady", "False", "IamSecret")
    assert labs.values(f"{lab}-oauth-client") != {}
    assert labs.values(f"{lab}-oauth2-client", lab) != {}
    assert realm.members(lab) == ["ann"]


def test_what_somebody_changes_in_the_realm_is_put_right(alone: Labs, realm: Realm) -> None:
    with leading(alone.cluster, resync_seconds=0.3):
        lab = alone.lab(users=["ann", "carl"])
        alone.until(lab, "IdentityReady", "True", "UsersMissing", WAIT)
        realm.add_user("carl")
        alone.until(lab, "IdentityReady", "True", "Available")
        eventually(lambda: realm.members(lab) == ["ann", "carl"])
        assert "users" not in alone.status(lab)

        client = client_of(realm, lab)
        realm.request("PUT", f"/clients/{client['id']}", body=client | {"redirectUris": ["https://evil.example.org/*"]})
        group = realm.group(lab)
        assert group is not None
        realm.request("PUT", f"/users/{realm.user_id('bob')}/groups/{group['id']}")
        eventually(lambda: client_of(realm, lab)["redirectUris"] == [f"https://{lab}.lab.example.org/*"], WAIT)
        eventually(lambda: realm.members(lab) == ["ann", "carl"], WAIT)

        alone.until_ready(lab)
        audit_log = alone.cluster.audit_log
        asked, offset = of_keycloak(), audit_log.stat().st_size
        eventually(lambda: of_keycloak() > asked + 20, WAIT)
        # Labs that other tests left are still going.
        sent = [each for each in idle.requests(audit_log, offset) if alone.namespace in each[1] or lab in each[1]]
        assert sent == []


def test_killed_after_a_write_it_goes_on_where_it_was(alone: Labs, realm: Realm) -> None:
    async def killed(lab: str, written: str) -> None:
        whole = ready(alone.namespace, lab)
        assert await run(alone.cluster, lab, whole, fatal=written), written
        assert not await run(alone.cluster, lab, whole), written

    async def all_at_once() -> None:
        await asyncio.gather(*(killed(lab, written) for lab, written in writes.items()))

    writes = {(lab := alone.lab()): written.format(lab=lab) for written in WRITTEN}
    asyncio.run(all_at_once())
    for lab, written in writes.items():
        secret = alone.values(f"{lab}-oauth-client")["clientSecret"]
        assert alone.values(f"{lab}-oauth2-client", lab)["client_secret"] == secret, written
        assert token(realm, lab, secret).is_success, written
        assert realm.members(lab) == ["ann"], written
