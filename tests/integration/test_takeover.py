"""Two replicas behind their Service, and what goes wrong with the one that leads, the API server, etcd, certificates.

Somebody writes claims and Ingresses throughout. Each test leaves the replicas as it found them.
"""

import base64
import datetime
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from datalabd.api.meta import CLAIM_NAME
from datalabd.config import Settings
from hack.account import NAMESPACE
from hack.cluster import Cluster
from hack.deadlines import scaled
from tests.integration import audit
from tests.integration.daemon import WEBHOOKS, eventually
from tests.integration.objects import open_namespace, read, unique
from tests.integration.replicas import Replica, Service, replicated, trusted
from tests.integration.stage import Stage
from tests.integration.writer import WHAT, Writer, writing
from webhooks import certificates
from webhooks.certificates import Bundle
from webhooks.serving_certificate import CERTIFICATE_SECRET

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

LEASE_SECONDS = 15
STILL_SECONDS = 30
BURST = 6
ROUNDS = 3
HOSTS = [f"{Settings().service}.{NAMESPACE}.svc", f"{Settings().service}.{NAMESPACE}.svc.cluster.local"]
OWNED = (
    "workshops,workshopenvironments,workshopsessions,secrets,configmaps,persistentvolumeclaims,networkpolicies,"
    "roles,rolebindings,services,secretcopiers"
)


class Scene:
    """The replicas and who uses them."""

    def __init__(self, service: Service, stage: Stage, writer: Writer, pattern: str) -> None:
        self.service = service
        self.replicas = service.replicas
        self.stage = stage
        self.cluster = stage.cluster
        self.writer = writer
        self.pattern = pattern
        """A lab that was made in peace."""
        self.labs: list[str] = []
        """Those that were made since."""
        self._offset = 0
        """Bytes of the audit log before the test."""

    def begin(self) -> None:
        """Have both replicas ready, and look at nothing that was before."""
        self._offset = self.cluster.audit_log.stat().st_size
        self.settle()

    def leader(self) -> Replica:
        """Who holds the Lease, and runs."""
        return eventually(self._leader, 60)

    def other(self, replica: Replica) -> Replica:
        """Its companion."""
        return next(each for each in self.replicas if each is not replica)

    def lab(self) -> str:
        """A new lab; whoever makes it tries until it is taken."""
        name = unique()
        eventually(lambda: self._made(name), 60)
        self.labs.append(name)
        return name

    def refused(self, since: float) -> list[str]:
        """What was refused of the writes begun since then."""
        return [f"{write.began - since:+.1f} s: {write}" for write in self.writer.refused(since)]

    def settle(self) -> None:
        """Have both replicas ready and every lab Ready; nothing was made twice, nothing is missing.

        And whoever lost the Lease wrote no more.
        """
        for replica in self.replicas:
            if not replica.is_running:
                replica.kill()
                replica.start(ready=False)
        eventually(lambda: len(self.service.endpoints()) == len(self.replicas), 60)
        self.leader()
        for lab in self.labs:
            self.stage.until_ready(lab, 90)
        healthy = time.time()
        eventually(lambda: self.writer.done(healthy) == set(WHAT) and self.writer.answered(healthy))
        writes = audit.written(self.cluster.audit_log, self.replicas, self._offset)
        assert audit.of_former_leaders(writes) == []
        assert audit.made_twice(writes) == []
        whole = self.inventory(self.pattern)
        assert {lab: self.inventory(lab) for lab in self.labs} == dict.fromkeys(self.labs, whole)

    def inventory(self, lab: str) -> list[str]:
        """Kind, namespace and name of all that carries a lab's label, with `N` for its name."""
        return sorted(
            "/".join([one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]]).replace(lab, "N")
            for one in self.stage.list(OWNED, f"{CLAIM_NAME}={lab}")
        )

    def _leader(self) -> Replica | None:
        holder = read(self.cluster, "lease", "datalabd", NAMESPACE)["spec"].get("holderIdentity")
        return next((replica for replica in self.replicas if replica.is_running and replica.identity == holder), None)

    def _made(self, name: str) -> bool:
        try:
            self.stage.lab("main", name=name)
        except httpx.HTTPError:
            return False
        return True


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A control plane with two ready replicas, a lab that is Ready, and somebody who writes."""
    with replicated(tmp_path_factory.mktemp("replicas")) as service:
        stage = Stage(service.cluster, open_namespace(service.cluster))
        pattern = stage.lab("main")
        stage.until_ready(pattern, 90)
        with writing(stage, pattern) as writer:
            yield Scene(service, stage, writer, pattern)


@pytest.fixture
def scene(shared: Scene) -> Scene:
    """Both replicas are ready, whatever a test before left."""
    shared.begin()
    return shared


def test_a_leader_that_is_killed_is_followed(scene: Scene) -> None:
    leader = scene.leader()
    moment = time.time()
    leader.kill()
    scene.lab()
    assert eventually(scene.leader, 60) is scene.other(leader)
    scene.settle()
    assert scene.refused(moment + scaled(5)) == []


def test_a_leader_that_is_terminated_hands_over(scene: Scene) -> None:
    leader = scene.leader()
    moment = time.time()
    assert leader.stop() == 0
    scene.lab()
    assert scene.leader() is scene.other(leader)
    scene.settle()
    refused = scene.writer.refused(moment)
    assert not refused or refused[-1].ended - refused[0].began <= scaled(2), scene.refused(moment)


def test_a_leader_that_stands_still_is_followed_and_writes_no_more(scene: Scene) -> None:
    leader = scene.leader()
    moment = time.time()
    leader.pause()
    try:
        scene.lab()
        eventually(lambda: scene.leader() is not leader, 60)
        time.sleep(max(0.0, moment + STILL_SECONDS - time.time()))
    finally:
        leader.resume()
    scene.settle()
    assert scene.refused(moment + LEASE_SECONDS) == []


# An API server that starts answers before it has read its roles.
@pytest.mark.denied("get", "list", "watch", "create", "update", "patch")
def test_an_api_server_that_restarts_amid_a_burst_is_followed(scene: Scene) -> None:
    with ThreadPoolExecutor(BURST) as pool:
        making = [pool.submit(scene.lab) for _ in range(BURST)]
        scene.cluster.stop_apiserver()
        scene.cluster.start_apiserver()
        back = time.time()
        for made in making:
            made.result()
    scene.settle()
    assert scene.refused(back + scaled(5)) == []


@pytest.mark.denied("get", "list", "watch", "create", "update", "patch")
def test_an_etcd_that_is_restored_is_listed_anew(scene: Scene, tmp_path: Path) -> None:
    kept, deleted = scene.lab(), scene.lab()
    for lab in (kept, deleted):
        scene.stage.until_ready(lab, 90)
    scene.cluster.snapshot(tmp_path / "snapshot")
    later = scene.lab()
    scene.labs.remove(later)
    scene.stage.until_ready(later, 90)
    scene.stage.patch(kept, {"op": "add", "path": "/spec/users/-", "value": "eve"})
    scene.stage.until_ready(kept)
    scene.stage.delete(deleted)
    scene.cluster.restore(tmp_path / "snapshot")
    back = time.time()
    assert read(scene.cluster, "datalab", kept, scene.stage.namespace)["spec"]["users"] == ["ann"]
    assert scene.stage.get("datalab", later) is None
    scene.settle()
    assert scene.inventory(later) == []
    assert scene.refused(back + scaled(5)) == []


# --- certificates -----------------------------------------------------------------------------------------------------


@pytest.fixture
def guarded(scene: Scene) -> Iterator[Scene]:
    """The API server connects anew for almost every question, and so meets each certificate at once."""
    scene.writer.before_each = scene.service.end_answered
    yield scene
    scene.writer.before_each = None


def stored(cluster: Cluster) -> Bundle:
    """What the Secret of the certificate holds."""
    return Bundle.from_secret(read(cluster, "secret", CERTIFICATE_SECRET, NAMESPACE))


def store(cluster: Cluster, bundle: Bundle) -> None:
    """Have the Secret hold this."""
    data = bundle.secret(NAMESPACE, CERTIFICATE_SECRET)["data"]
    cluster.api.patch("secret", CERTIFICATE_SECRET, {"data": data}, NAMESPACE)


def is_stored_again(cluster: Cluster, bundle: Bundle) -> bool:
    """Whether the Secret holds it, as before somebody laid hands on it."""
    live = cluster.api.get("secret", CERTIFICATE_SECRET, NAMESPACE)
    return live is not None and live.get("data") == bundle.secret(NAMESPACE, CERTIFICATE_SECRET)["data"]


def is_served(scene: Scene) -> bool:
    """Whether both replicas show what is stored, and every registration trusts its authority and no dead one."""
    bundle = stored(scene.cluster)
    return all(replica.certificate() == bundle.certificate for replica in scene.replicas) and all(
        certificates.split(bundle.ca) <= certificates.split(base64.b64decode(text))
        for text in trusted(scene.cluster).values()
    )


def without_refusals(scene: Scene, moment: float) -> None:
    """Every write is done that begins five seconds after the moment, for as long as each replica is asked of each."""
    after = moment + scaled(5)
    eventually(lambda: scene.writer.rounds(after) >= ROUNDS, 60)
    scene.settle()
    assert scene.refused(after) == []


def test_a_certificate_that_was_deleted_is_stored_again(guarded: Scene) -> None:
    before = stored(guarded.cluster)
    moment = time.time()
    guarded.cluster.api.delete("secret", CERTIFICATE_SECRET, NAMESPACE)
    eventually(lambda: is_stored_again(guarded.cluster, before))
    without_refusals(guarded, moment)


def test_a_certificate_that_was_corrupted_is_stored_again(guarded: Scene) -> None:
    before = stored(guarded.cluster)
    moment = time.time()
    guarded.cluster.api.patch("secret", CERTIFICATE_SECRET, {"data": {"tls.crt": "bm9uZQ=="}}, NAMESPACE)
    eventually(lambda: is_stored_again(guarded.cluster, before))
    without_refusals(guarded, moment)


def test_a_certificate_that_has_expired_is_renewed(guarded: Scene) -> None:
    before = stored(guarded.cluster)
    past = datetime.datetime.now(datetime.UTC) - certificates.LIFETIME - datetime.timedelta(days=1)
    expired = certificates.renew(certificates.renew(before, ["elsewhere"], past), HOSTS, past)
    assert expired.expires < datetime.datetime.now(datetime.UTC)
    moment = time.time()
    store(guarded.cluster, expired)
    eventually(lambda: stored(guarded.cluster).certificate not in (expired.certificate, before.certificate))
    eventually(lambda: is_served(guarded))
    assert stored(guarded.cluster).ca == before.ca
    without_refusals(guarded, moment)


def test_an_authority_that_the_follower_finds_due_is_trusted_before_it_is_served(guarded: Scene) -> None:
    """The leader alone registers it; that it stands still for a moment makes the other the first to look."""
    now = datetime.datetime.now(datetime.UTC)
    lifetime = certificates.CA_LIFETIME + certificates.CLOCK_SKEW
    yesterday = now - datetime.timedelta(days=1)
    first = certificates.issue(HOSTS, now - datetime.timedelta(hours=1) - lifetime * 2 / 3)
    due = certificates.renew(first, HOSTS, yesterday)
    assert due.ca == first.ca
    leader = guarded.leader()
    moment = time.time()
    leader.pause()
    try:
        store(guarded.cluster, due)
        eventually(lambda: stored(guarded.cluster).certificate != due.certificate)
        renewed = time.time()
        eventually(lambda: guarded.writer.done(renewed))  # by the follower, whose new authority nobody trusts yet
    finally:
        leader.resume()
    eventually(lambda: is_served(guarded))
    assert guarded.leader() is leader
    assert certificates.split(due.ca) < certificates.split(stored(guarded.cluster).ca)
    without_refusals(guarded, moment)
    assert [write for write in guarded.refused(moment) if "x509" in write] == []


def test_a_registration_whose_authority_was_taken_out_is_put_right(guarded: Scene) -> None:
    before = trusted(guarded.cluster)
    moment = time.time()
    for kind in WEBHOOKS:
        for registered in guarded.cluster.api.list(kind, selector="app.kubernetes.io/name=datalabd"):
            blank = [
                {"op": "remove", "path": f"/webhooks/{number}/clientConfig/caBundle"}
                for number, _ in enumerate(registered["webhooks"])
            ]
            guarded.cluster.api.patch(kind, registered["metadata"]["name"], blank)
    path = "/spec/conversion/webhook/clientConfig/caBundle"
    guarded.cluster.api.patch("crd", "datalabs.pkg.internal", [{"op": "remove", "path": path}])
    eventually(lambda: trusted(guarded.cluster) == before)
    without_refusals(guarded, moment)
