"""What is registered, on a real API server: by one replica, for all of them, whatever somebody else makes of it."""

import asyncio
import base64
import contextlib
import copy
import datetime
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Self

import pytest
import structlog
from prometheus_client import REGISTRY

from datalabd.api.meta import Manifest
from datalabd.errors import Conflict, NotFound, Unavailable
from datalabd.kube import resources as kinds
from datalabd.kube.cache import Cache
from datalabd.kube.client import Client
from datalabd.kube.informers import EVERYWHERE, Informers
from datalabd.kube.resources import Resource, resource_of
from hack.account import NAMESPACE, kubeconfig
from hack.cluster import Cluster
from hack.deadlines import scaled
from tests.integration.daemon import REGISTERED, unregister
from tests.integration.objects import unique
from webhooks import certificates, registrar
from webhooks.certificates import Bundle
from webhooks.ingress_policies import PLATFORM_HOSTS
from webhooks.registrar import Pauses, Registrar
from webhooks.registration import CLAIMS, INGRESSES, PROTECTED_CLAIMS, Endpoint, claim_webhooks
from webhooks.serving_certificate import CERTIFICATE_SECRET, ServingCertificate, Shared

pytestmark = pytest.mark.cluster

HOSTS = ["datalabd.datalabd.svc", "datalabd.datalabd.svc.cluster.local"]
CRD = "datalabs.pkg.internal"


class Replica:
    """The parts of a process that register and are certified, by datalabd's own account."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.written: list[str] = []
        """Requests of the one who leads that are no GET, once they are answered."""
        self.faults: list[Exception] = []
        """What the next of them meet."""
        self.informers = Informers(client)
        self.cache = Cache(self.informers)
        self.certificate = ServingCertificate(Shared(client, NAMESPACE, HOSTS))
        self.registrar = Registrar(
            _Noting(self),
            self.cache,
            "system:admin",
            self.certificate,
            lambda authorities: Endpoint(authorities, service=(NAMESPACE, "datalabd")),
        )
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, cluster: Cluster) -> AsyncIterator[Self]:
        """One that does not lead yet."""
        client = await Client.connect(str(kubeconfig(cluster)))
        replica = cls(client)
        try:
            await replica.certificate.load()
            replica.cache.start()
            replica.registrar.watch()
            replica.certificate.watch(replica.informers, NAMESPACE)
            for work in (replica.informers.run(), replica.certificate.keep(), replica.registrar.follow()):
                replica._tasks.append(asyncio.create_task(work))
            yield replica
        finally:
            for task in replica._tasks:
                task.cancel()
            await asyncio.gather(*replica._tasks, return_exceptions=True)
            await replica.informers.stop()
            await client.close()

    async def lead(self) -> None:
        """Register everything, and go on."""
        self._tasks.append(asyncio.create_task(self.registrar.keep()))
        await asyncio.wait_for(self.registrar.registered.wait(), scaled(30))
        # What guards names below the domains is registered once environments are known.
        await until(lambda: bool(self.informers.store(kinds.VALIDATING_WEBHOOKS).get("", INGRESSES)))
        await until(lambda: all(map(self._stands, self.registrar._desired())))

    def _stands(self, manifest: Manifest) -> bool:
        return self.informers.store(resource_of(manifest)).get("", manifest["metadata"]["name"]) is not None

    def stop_leading(self) -> None:
        """As when the lease is lost."""
        self._tasks.pop().cancel()

    @property
    def authorities(self) -> frozenset[bytes]:
        """The authorities of its newest bundle."""
        return certificates.split(self.certificate.authorities)

    @property
    def serves(self) -> bytes:
        """The certificate that new connections get, PEM."""
        assert self.certificate._served is not None
        return self.certificate._served.certificate


class _Noting(Client):
    """A replica's client, which notes writes and meets faults."""

    def __init__(self, replica: Replica) -> None:
        self.__dict__.update(replica.client.__dict__)
        self._replica = replica

    async def request(self, method: str, path: str, **kwargs: Any) -> Manifest:
        """One request."""
        if method == "GET":
            return await super().request(method, path, **kwargs)
        wrote = True
        try:
            if self._replica.faults:
                raise self._replica.faults.pop(0)
            return await super().request(method, path, **kwargs)
        except Conflict:  # the API server wrote a status in between: nothing was written, and it is tried again
            wrote = False
            raise
        finally:
            if wrote:
                self._replica.written.append(f"{method} {path}")


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Return once it holds."""
    async with asyncio.timeout(scaled(seconds)):
        while not condition():  # noqa: ASYNC110  what is awaited happens in tasks that tell nobody
            await asyncio.sleep(0.02)


@pytest.fixture(autouse=True)
def _alone(cluster: Cluster) -> Iterator[None]:
    """Nothing is registered before and after, and no Secret is there."""
    kubeconfig(cluster)
    _clear(cluster)
    yield
    _clear(cluster)


def _clear(cluster: Cluster) -> None:
    unregister(cluster, REGISTERED)
    if cluster.api.get("secret", CERTIFICATE_SECRET, NAMESPACE):
        cluster.api.delete("secret", CERTIFICATE_SECRET, NAMESPACE)


@pytest.fixture
async def leader(cluster: Cluster) -> AsyncIterator[Replica]:
    """A replica that leads, and has registered everything."""
    async with Replica.running(cluster) as replica:
        await replica.lead()
        yield replica


async def registered(client: Client) -> dict[tuple[str, str], Manifest]:
    """Everything of ours that is registered, by kind and name."""
    found: dict[tuple[str, str], Manifest] = {}
    for kind in registrar.WATCHED:
        for item in (await client.list(kind, labelSelector="app.kubernetes.io/name=datalabd"))[0]:
            found[item["kind"], item["metadata"]["name"]] = item
    found["CustomResourceDefinition", CRD] = await client.get(kinds.CRDS, "", CRD)
    return found


async def authorities(client: Client) -> set[frozenset[bytes]]:
    """The sets of authorities that registrations name; one where all of them agree."""
    found = set()
    for (kind, _), item in (await registered(client)).items():
        if kind == "CustomResourceDefinition":
            configs = [item["spec"]["conversion"]["webhook"]["clientConfig"]]
        else:
            configs = [webhook["clientConfig"] for webhook in item.get("webhooks") or ()]
        found |= {certificates.split(base64.b64decode(config["caBundle"])) for config in configs}
    return found


# --- taking over ------------------------------------------------------------------------------------------------------


async def test_who_leads_next_sends_nothing_that_agrees(cluster: Cluster, leader: Replica, client: Client) -> None:
    before = contents(await registered(client))
    assert leader.written != []
    leader.stop_leading()
    async with Replica.running(cluster) as follower:
        await follower.lead()
        assert follower.written == []
        assert contents(await registered(client)) == before


async def test_a_follower_registers_nothing(cluster: Cluster, leader: Replica) -> None:
    async with Replica.running(cluster) as follower:
        await until(lambda: follower.registrar.was_trusted)
        assert follower.written == []


async def test_what_is_refused_at_takeover_is_sent_again(cluster: Cluster, client: Client) -> None:
    async with Replica.running(cluster) as replica:
        replica.faults += [Unavailable(503, "ServiceUnavailable", "not now")] * 3
        await replica.lead()
        assert replica.faults == []
        assert await authorities(client) == {replica.authorities}


async def test_what_a_file_registered_is_completed(cluster: Cluster, client: Client) -> None:
    """As manifests/webhook registers it: without a caBundle."""
    for manifest in claim_webhooks(Endpoint(b"", service=(NAMESPACE, "datalabd"))):
        await client.create(resource_of(manifest), manifest)
    async with Replica.running(cluster) as replica:
        assert not replica.registrar.was_trusted
        await replica.lead()
        await until(lambda: replica.registrar.was_trusted)
        assert await authorities(client) == {replica.authorities}


async def test_the_url_of_a_stale_local_run_is_replaced(cluster: Cluster, client: Client) -> None:
    stale = certificates.issue(["127.0.0.1"], datetime.datetime.now(datetime.UTC))
    for manifest in claim_webhooks(Endpoint(stale.ca, url="https://127.0.0.1:9")):
        await client.create(resource_of(manifest), manifest)
    async with Replica.running(cluster) as replica:
        await replica.lead()
        for kind in registrar.WEBHOOKS:
            for webhook in (await client.get(kind, "", CLAIMS))["webhooks"]:
                assert webhook["clientConfig"].keys() == {"service", "caBundle"}


# --- what others change -----------------------------------------------------------------------------------------------


def without_authority(live: Manifest) -> None:
    """As `kubectl replace` of the manifests makes it."""
    for webhook in live["webhooks"]:
        del webhook["clientConfig"]["caBundle"]


def each(**changes: Any) -> Callable[[Manifest], None]:
    """A change of each webhook."""

    def change(live: Manifest) -> None:
        for webhook in live["webhooks"]:
            webhook.update(changes)

    return change


def spec(**changes: Any) -> Callable[[Manifest], None]:
    """A change of a policy or binding."""
    return lambda live: live["spec"].update(changes)


NEVER = [{"name": "never", "expression": "false"}]
NOWHERE = {"matchExpressions": [{"key": "nowhere", "operator": "Exists"}]}
EVERY_NAMESPACE = {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "DoesNotExist"}]}
ELSEWHERE = {
    "strategy": "Webhook",
    "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": {"url": "https://127.0.0.1:9/convert"}},
}
HARM = [
    pytest.param(kinds.MUTATING_WEBHOOKS, CLAIMS, without_authority, id="no authority"),
    pytest.param(kinds.VALIDATING_WEBHOOKS, INGRESSES, without_authority, id="no authority for routes"),
    pytest.param(kinds.VALIDATING_WEBHOOKS, CLAIMS, lambda live: live["webhooks"].pop(), id="a webhook removed"),
    pytest.param(kinds.VALIDATING_WEBHOOKS, CLAIMS, lambda live: live.pop("webhooks"), id="all webhooks removed"),
    pytest.param(kinds.VALIDATING_WEBHOOKS, CLAIMS, each(failurePolicy="Ignore"), id="failures ignored"),
    pytest.param(kinds.MUTATING_WEBHOOKS, CLAIMS, each(matchConditions=NEVER), id="never asked"),
    pytest.param(kinds.VALIDATING_WEBHOOKS, CLAIMS, each(namespaceSelector=NOWHERE), id="asked for no namespace"),
    pytest.param(kinds.VALIDATING_WEBHOOKS, CLAIMS, each(namespaceSelector=EVERY_NAMESPACE), id="each one taken out"),
    pytest.param(kinds.VALIDATING_WEBHOOKS, CLAIMS, each(objectSelector=NOWHERE), id="asked about no object"),
    pytest.param(
        kinds.VALIDATING_WEBHOOKS, CLAIMS, lambda live: live["webhooks"][0]["rules"][0].update(operations=["CONNECT"]),
        id="asked about another operation",
    ),
    pytest.param(kinds.ADMISSION_POLICIES, PROTECTED_CLAIMS, spec(matchConditions=NEVER), id="a policy that never is"),
    pytest.param(
        kinds.ADMISSION_POLICIES, PROTECTED_CLAIMS, spec(validations=[{"expression": "true"}]), id="a hollow policy"
    ),
    pytest.param(kinds.ADMISSION_POLICIES, PROTECTED_CLAIMS, spec(failurePolicy="Ignore"), id="a policy ignored"),
    pytest.param(
        kinds.ADMISSION_POLICY_BINDINGS, PROTECTED_CLAIMS, spec(validationActions=["Warn"]), id="a policy that warns"
    ),
    pytest.param(
        kinds.ADMISSION_POLICY_BINDINGS,
        PROTECTED_CLAIMS,
        spec(matchResources={"namespaceSelector": NOWHERE}),
        id="a policy bound nowhere",
    ),
    pytest.param(
        kinds.ADMISSION_POLICIES, PROTECTED_CLAIMS, lambda live: live["metadata"].pop("labels"), id="hidden from us"
    ),
    pytest.param(kinds.CRDS, CRD, spec(conversion=ELSEWHERE), id="conversion elsewhere"),
    pytest.param(kinds.CRDS, CRD, spec(conversion={"strategy": "None"}), id="no conversion"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "harm"), HARM)
async def test_harm_is_put_right(
    leader: Replica, client: Client, kind: Resource, name: str, harm: Callable[[Manifest], Any]
) -> None:
    before = contents(await registered(client))
    leader.written.clear()
    counted = mended(kind, name)
    with structlog.testing.capture_logs() as logs:
        live, changed = await harmed_by(client, kind, name, harm)
        assert content(changed) != content(live)
        await put_right(client, kind, live)
        await until(lambda: mended(kind, name) != counted)  # noted a moment after others can read it
    assert len(leader.written) == 1
    assert contents(await registered(client)) == before
    assert mended(kind, name) == counted + 1
    told = [line for line in logs if line["event"] == "registration mended"]
    assert [(line["kind"], line["name"], line["log_level"]) for line in told] == [(kind.kind, name, "warning")]


def mended(kind: Resource, name: str) -> float:
    """How often an object was put right, by the metric."""
    labels = {"kind": kind.kind, "name": name}
    return REGISTRY.get_sample_value("datalabd_registrations_mended_total", labels) or 0.0


async def harmed_by(
    client: Client, kind: Resource, name: str, harm: Callable[[Manifest], Any]
) -> tuple[Manifest, Manifest]:
    """An object before and after somebody harms it; the API server may write its status in between."""
    while True:
        live = await client.get(kind, "", name)
        harmed = copy.deepcopy(live)
        harm(harmed)
        with contextlib.suppress(Conflict):
            return live, await client.replace(kind, harmed)


def contents(found: dict[tuple[str, str], Manifest]) -> dict[tuple[str, str], Any]:
    """What of all of them others could have harmed; the API server writes the status of policies when it likes."""
    return {key: content(item) for key, item in found.items()}


def content(manifest: Manifest) -> Any:
    """What of an object others could have harmed."""
    return [manifest["metadata"].get("labels"), manifest.get("webhooks"), manifest.get("spec")]


async def put_right(client: Client, kind: Resource, wanted: Manifest) -> None:
    """Return once an object is what it was; within seconds."""
    async with asyncio.timeout(scaled(5)):
        while True:
            with contextlib.suppress(NotFound):
                live = await client.get(kind, "", wanted["metadata"]["name"])
                if content(live) == content(wanted):
                    return
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (kinds.VALIDATING_WEBHOOKS, CLAIMS),
        (kinds.MUTATING_WEBHOOKS, INGRESSES),
        (kinds.ADMISSION_POLICIES, PROTECTED_CLAIMS),
        (kinds.ADMISSION_POLICY_BINDINGS, PROTECTED_CLAIMS),
    ],
    ids=str,
)
async def test_what_is_deleted_is_made_again(leader: Replica, client: Client, kind: Resource, name: str) -> None:
    live = await client.get(kind, "", name)
    await client.delete(kind, "", name, live["metadata"]["uid"])
    await put_right(client, kind, live)


EXCLUDED = {
    "matchExpressions": [
        {"key": "control-plane", "operator": "NotIn", "values": ["true"]},
        {"key": "kubernetes.azure.com/managedby", "operator": "NotIn", "values": ["aks"]},
        {"key": "control-plane", "operator": "DoesNotExist"},
    ]
}


async def test_what_a_provider_adds_stays(leader: Replica, client: Client) -> None:
    """AKS' admissions enforcer takes its own namespaces out of every webhook, and would do so again."""
    live = await client.get(kinds.VALIDATING_WEBHOOKS, "", CLAIMS)
    for webhook in live["webhooks"]:
        webhook["namespaceSelector"] = EXCLUDED
    live["metadata"]["labels"]["provider"] = "aks"
    live["metadata"]["annotations"] = {"provider": "aks"}
    leader.written.clear()
    added = await client.replace(kinds.VALIDATING_WEBHOOKS, live)
    harmed = copy.deepcopy(added)
    without_authority(harmed)
    await client.replace(kinds.VALIDATING_WEBHOOKS, harmed)
    await put_right(client, kinds.VALIDATING_WEBHOOKS, added)
    await until(lambda: leader.written != [])
    assert leader.written == [f"PUT /apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{CLAIMS}"]


async def test_another_version_may_bring_its_schema(leader: Replica, client: Client) -> None:
    """Manifests are applied before the version that they belong to leads: its fields must not be taken out again."""
    live = await client.get(kinds.CRDS, "", CRD)
    newer = copy.deepcopy(live)
    schema = newer["spec"]["versions"][1]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    schema["later"] = {"type": "string"}
    leader.written.clear()
    await client.replace(kinds.CRDS, newer)
    harmed = await client.get(kinds.CRDS, "", CRD)
    harmed["spec"]["conversion"] = ELSEWHERE
    with contextlib.suppress(Exception):
        harmed = await client.replace(kinds.CRDS, harmed)
    await put_right(client, kinds.CRDS, newer)
    leader.stop_leading()
    await client.replace(kinds.CRDS, live | {"metadata": (await client.get(kinds.CRDS, "", CRD))["metadata"]})


async def test_a_fight_slows_down(leader: Replica, client: Client) -> None:
    """Somebody takes the authority out each time: five writes of ours in the seconds in which he makes hundreds."""
    leader.written.clear()
    ends = asyncio.get_running_loop().time() + 8
    while asyncio.get_running_loop().time() < ends:
        live = await client.get(kinds.MUTATING_WEBHOOKS, "", CLAIMS)
        if "caBundle" in live["webhooks"][0]["clientConfig"]:
            without_authority(live)
            await client.replace(kinds.MUTATING_WEBHOOKS, live)
        await asyncio.sleep(0.05)
    assert 3 <= len(leader.written) <= 5  # at 0, 1, 3 and 7 seconds


def test_pauses_grow_and_end() -> None:
    now = [0.0]
    pauses = Pauses(lambda: now[0])
    key = (kinds.CRDS, "a")
    waited = []
    for _ in range(9):
        waited.append(max(0.0, pauses.left(key)))
        now[0] += waited[-1]
        pauses.mended(key)
    assert waited == [0, 1, 2, 4, 8, 16, 32, 60, 60]
    assert pauses.left((kinds.CRDS, "b")) == 0
    now[0] += registrar.QUIET_SECONDS + 1
    assert pauses.left(key) <= 0
    pauses.mended(key)
    assert pauses.left(key) == 1


# --- environments -----------------------------------------------------------------------------------------------------


async def test_what_is_guarded_follows_the_domains_of_environments(
    leader: Replica, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain = f"{unique()}.example.org"

    async def guards() -> set[bool]:
        webhooks = (await client.get(kinds.VALIDATING_WEBHOOKS, "", INGRESSES))["webhooks"]
        return {domain in webhook["matchConditions"][-1]["expression"] for webhook in webhooks}

    for domains, expected in (({"courses": domain}, True), ({}, False)):
        leader.written.clear()
        monkeypatch.setattr(leader.cache, "domains", lambda domains=domains: domains)
        leader.registrar._to_keep.set()
        async with asyncio.timeout(scaled(20)):
            while await guards() != {expected}:  # noqa: ASYNC110  what is awaited stands in the API server
                await asyncio.sleep(0.02)
        # The registrations of one name are more than one object.
        await until(lambda: {path.rpartition("/")[2] for path in leader.written} >= {INGRESSES, PLATFORM_HOSTS})
        assert {path.rpartition("/")[2] for path in leader.written} == {INGRESSES, PLATFORM_HOSTS}


async def test_what_is_guarded_stays_while_environments_are_not_known(leader: Replica, client: Client) -> None:
    """As when the API server says for a moment that there is no such kind."""
    leader.written.clear()
    leader.informers.store(kinds.ENVIRONMENT_CONFIGS).drop(EVERYWHERE)
    live = await client.get(kinds.MUTATING_WEBHOOKS, "", CLAIMS)
    harmed = copy.deepcopy(live)
    without_authority(harmed)
    await client.replace(kinds.MUTATING_WEBHOOKS, harmed)
    await put_right(client, kinds.MUTATING_WEBHOOKS, live)
    await until(lambda: leader.written != [])
    assert leader.written == [f"PUT /apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{CLAIMS}"]


# --- certificates -----------------------------------------------------------------------------------------------------


async def secret(client: Client) -> Manifest:
    """The Secret that replicas share."""
    return await client.get(kinds.SECRETS, NAMESPACE, CERTIFICATE_SECRET)


def spoil(name: str) -> Callable[[Manifest], None]:
    """Break one value of the Secret."""
    return lambda stored: stored["data"].update({name: base64.b64encode(b"nonsense").decode()})


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(None, id="deleted"),
        pytest.param(lambda stored: stored.pop("data"), id="emptied"),
        *(pytest.param(spoil(name), id=f"{name} spoilt") for name in certificates.SECRET_KEYS),
    ],
)
async def test_what_is_valid_is_stored_again(
    cluster: Cluster, leader: Replica, client: Client, harm: Callable[[Manifest], Any] | None
) -> None:
    async with Replica.running(cluster) as follower:
        before = await secret(client)
        leader.written.clear()
        if harm is None:
            await client.delete(kinds.SECRETS, NAMESPACE, CERTIFICATE_SECRET, before["metadata"]["uid"])
        else:
            harmed = copy.deepcopy(before)
            harm(harmed)
            await client.replace(kinds.SECRETS, harmed)
        async with asyncio.timeout(scaled(10)):
            while True:
                with contextlib.suppress(NotFound):
                    if (await secret(client)).get("data") == before["data"]:
                        break
                await asyncio.sleep(0.02)
        assert leader.serves == follower.serves
        assert leader.written == []
        assert await authorities(client) == {leader.authorities}


def due(stored: Bundle) -> Bundle:
    """A bundle whose authority is due to be replaced, and whose certificate is not."""
    now = datetime.datetime.now(datetime.UTC)
    lifetime = certificates.CA_LIFETIME + certificates.CLOCK_SKEW
    first = certificates.issue(HOSTS, now - lifetime * 2 / 3 + datetime.timedelta(hours=1))
    return certificates.renew(first, HOSTS, now - datetime.timedelta(minutes=1))


def expired(stored: Bundle) -> Bundle:
    """A bundle that nobody should trust any more."""
    now = datetime.datetime.now(datetime.UTC)
    return certificates.issue(HOSTS, now - certificates.CA_LIFETIME - datetime.timedelta(days=1))


def another(stored: Bundle) -> Bundle:
    """A whole bundle of an authority that nobody has heard of, as a restored Secret has it."""
    return certificates.issue(HOSTS, datetime.datetime.now(datetime.UTC))


async def put(client: Client, make: Callable[[Bundle], Bundle]) -> Bundle:
    """Have the Secret hold another bundle."""
    stored = await secret(client)
    bundle = make(Bundle.from_secret(stored))
    await client.replace(kinds.SECRETS, stored | {"data": bundle.secret(NAMESPACE, CERTIFICATE_SECRET)["data"]})
    return bundle


@pytest.mark.parametrize("make", [another, expired])
async def test_a_new_authority_is_registered_beside_the_old_before_anybody_serves_it(
    cluster: Cluster, leader: Replica, client: Client, make: Callable[[Bundle], Bundle]
) -> None:
    async with Replica.running(cluster) as follower:
        await until(lambda: follower.registrar.was_trusted)
        before, served = leader.authorities, leader.serves
        held, released = asyncio.Event(), asyncio.Event()
        follower.certificate.subscribe(held.set)
        register = leader.registrar._pass

        async def register_once_released() -> float | None:
            await released.wait()
            return await register()

        leader.registrar._pass = register_once_released  # type: ignore[method-assign]
        await put(client, make)
        await asyncio.wait_for(held.wait(), scaled(10))
        await until(lambda: leader.authorities == follower.authorities != before)
        assert (leader.serves, follower.serves) == (served, served)
        assert await authorities(client) == {before}
        released.set()
        await until(lambda: leader.serves == follower.serves != served)
        assert await authorities(client) == {leader.authorities | before}


async def test_an_authority_due_on_a_follower_is_registered_by_the_leader(
    cluster: Cluster, leader: Replica, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The follower renews first, and serves when the leader has registered it: routes included."""
    async with Replica.running(cluster) as follower:
        bundle = await put(client, due)
        await until(lambda: leader.authorities == follower.authorities == certificates.split(bundle.ca))
        await until(lambda: leader.serves == follower.serves == bundle.certificate)
        later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=2)
        monkeypatch.setattr("webhooks.serving_certificate._now", lambda: later)
        follower.certificate._look_again.set()
        await until(lambda: follower.authorities > certificates.split(bundle.ca))
        await until(lambda: leader.serves == follower.serves != bundle.certificate)
        assert follower.written == []
        assert all(found > certificates.split(bundle.ca) for found in await authorities(client))


async def test_a_new_authority_waits_for_no_environment(leader: Replica, client: Client) -> None:
    """Environments and Datalabs may be known only after it is served: for the conversion of what is stored."""
    guards = (await client.get(kinds.VALIDATING_WEBHOOKS, "", INGRESSES))["webhooks"]
    leader.informers.store(kinds.DATALABS).drop(EVERYWHERE)
    bundle = await put(client, another)
    await until(lambda: leader.serves == bundle.certificate)
    assert all(found >= certificates.split(bundle.ca) for found in await authorities(client))
    after = (await client.get(kinds.VALIDATING_WEBHOOKS, "", INGRESSES))["webhooks"]
    for webhook in (*guards, *after):
        del webhook["clientConfig"]["caBundle"]
    assert after == guards


async def test_an_authority_nobody_serves_any_more_is_taken_out(
    leader: Replica, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registrar, "OVERLAP_SECONDS", 0.5)
    before = leader.authorities
    bundle = await put(client, another)
    await until(lambda: leader.serves == bundle.certificate)
    async with asyncio.timeout(scaled(10)):
        while await authorities(client) != {certificates.split(bundle.ca)}:  # noqa: ASYNC110  as above
            await asyncio.sleep(0.05)
    assert certificates.split(bundle.ca).isdisjoint(before)


async def test_a_new_leader_keeps_registered_what_others_may_serve(
    cluster: Cluster, leader: Replica, client: Client
) -> None:
    """Whatever it knew before: its bundle names an authority that the one who led had not registered yet."""
    before = leader.authorities
    leader.stop_leading()
    bundle = await put(client, another)
    async with Replica.running(cluster) as follower:
        await follower.lead()
        assert await authorities(client) == {before | certificates.split(bundle.ca)}
        await until(lambda: leader.serves == bundle.certificate)


async def test_of_two_that_start_at_once_both_serve_one_authority(cluster: Cluster) -> None:
    async with Replica.running(cluster) as one, Replica.running(cluster) as other:
        await until(lambda: one.serves == other.serves)
        assert one.authorities == other.authorities
