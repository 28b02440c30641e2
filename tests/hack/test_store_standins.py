"""Operators of stores, gateway and csi-rclone are played as the real ones behave, their unkind sides included."""

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from datalabd.api.meta import Manifest
from datalabd.errors import Forbidden, Invalid
from datalabd.kube.client import Client, path
from datalabd.kube.resources import CRDS, SECRETS, SERVICE_ACCOUNTS, STATEFUL_SETS, VOLUME_CLAIMS, VOLUMES, Resource
from hack.cluster import Cluster
from hack.deadlines import scaled
from hack.redis_server import Redis, RedisError, Servers
from hack.standins import (
    STORES,
    GatewayController,
    Kubelet,
    MongoDBOperator,
    QdrantOperator,
    RedisOperator,
    install_store_crds,
    store_crds,
)
from hack.standins.csi_rclone import provisions
from hack.standins.gateway import GATEWAYS, TLS_ROUTES
from hack.standins.kubelet import PODS, Trouble
from hack.standins.mongodb import MONGODB, NOT_READY, SERVICE_ACCOUNT, scram_credentials
from hack.standins.qdrant import QDRANT
from hack.standins.redis import REDIS, SKIP
from hack.standins.statefulsets import SERVICES, merged, values
from tests.hack.test_standins import GARBAGE_SECONDS, Condition, Lab
from tests.reference import SHARED
from tests.servers import redis_servers

__all__ = ["redis_servers"]
RESYNC_SECONDS = 0.5
PATIENCE_SECONDS = 60.0
STORAGE_CLASSES = Resource("storage.k8s.io/v1", "storageclasses", "StorageClass", namespaced=False)


@dataclass
class Place(Lab):
    """A namespace, and what is tried in it; its name is the namespace's."""

    async def make(self, resource: Resource, name: str, spec: Manifest, **metadata: Any) -> Manifest:
        """A new object with that spec."""
        return await self.client.create(
            resource,
            {
                "apiVersion": resource.api_version,
                "kind": resource.kind,
                "metadata": {"name": name, "namespace": self.name} | metadata,
                "spec": spec,
            },
        )

    async def edit(self, resource: Resource, name: str, body: Manifest) -> Manifest:
        """The object after a merge patch."""
        return await self.client.patch(resource, self.name, name, body)

    async def sees(self, resource: Resource, name: str, condition: Condition = lambda _: True) -> Manifest:
        """The object once the condition holds."""
        return await self.until(resource, self.name, name, condition, PATIENCE_SECONDS)

    async def ready(self, pod: str) -> Manifest:
        """The pod once it is Ready."""
        return await self.sees(PODS, pod, is_ready)

    async def names(self, resource: Resource) -> set[str]:
        """The names of all objects here."""
        return {obj["metadata"]["name"] for obj in (await self.client.list(resource, self.name))[0]}

    async def contents(self, name: str, condition: Condition = lambda _: True) -> dict[str, str]:
        """The decoded contents of a Secret once the condition holds for them."""
        return values(await self.sees(SECRETS, name, lambda found: condition(values(found))))

    async def playing(self, standins: AsyncExitStack, *, trouble: Trouble = lambda _: None) -> None:
        """Enter the kubelet and all operators of stores."""
        await standins.enter_async_context(Kubelet(self.client, trouble))
        for operator in (MongoDBOperator, QdrantOperator, RedisOperator):
            await standins.enter_async_context(operator(self.client, RESYNC_SECONDS))


def is_ready(pod: Manifest) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def waits_with(reason: str) -> Condition:
    """Whether the first container of a pod waits for that reason."""
    return lambda pod: (
        (pod.get("status", {}).get("containerStatuses") or [{}])[0].get("state") == {"waiting": {"reason": reason}}
    )


def phase(wanted: str, message: str = "") -> Condition:
    return lambda obj: (
        (status := obj.get("status") or {}).get("phase") == wanted and message in status.get("message", "")
    )


def instructs(version: str) -> Condition:
    """Whether MongoDB's agents are told to run that version."""
    return lambda found: version in found["cluster-config.json"]


async def refused(cluster: Cluster, offset: int, fragment: str) -> None:
    """Return once the API server has refused a change of such a path twice, told by its log since that many bytes.

    At the second refusal whoever tries is done with what it does after the first.
    """
    async with asyncio.timeout(scaled(PATIENCE_SECONDS)):
        while True:
            lines = cluster.audit_log.read_bytes()[offset:].splitlines(keepends=True)
            entries = [json.loads(line) for line in lines if line.endswith(b"\n") and fragment.encode() in line]
            changes = [entry for entry in entries if entry["verb"] == "patch" and fragment in entry["requestURI"]]
            if sum(entry["responseStatus"]["code"] in (403, 422) for entry in changes) >= 2:
                return
            await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
def installed(cluster: Cluster) -> Cluster:
    """The cluster with the kinds of stores and of the gateway."""

    async def run() -> None:
        client = await Client.connect(str(cluster.kubeconfig))
        await install_store_crds(client, SHARED / "crds")
        await client.close()

    asyncio.run(run())
    return cluster


@pytest.fixture
async def place(installed: Cluster, client: Client, namespace: str) -> AsyncIterator[Place]:
    """A namespace ready for pods; stores left in it are finalised, or they would keep it from going."""
    place = Place(client, namespace)
    await place.sees(SERVICE_ACCOUNTS, "default")
    yield place
    for resource in (REDIS, QDRANT):
        for obj in (await client.list(resource, namespace))[0]:
            await client.patch(resource, namespace, obj["metadata"]["name"], {"metadata": {"finalizers": None}})


@pytest.fixture
async def standins() -> AsyncIterator[AsyncExitStack]:
    """What is entered here plays until the test ends."""
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def played(place: Place, standins: AsyncExitStack) -> Place:
    """A namespace in which everything plays."""
    await place.playing(standins)
    return place


@pytest.fixture
async def growing(client: Client) -> AsyncIterator[str]:
    """A storage class whose volumes may grow."""
    name = f"growing-{uuid.uuid4().hex[:6]}"
    manifest = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name}}
    created = await client.create(
        STORAGE_CLASSES, manifest | {"provisioner": "standin.csi.example.org", "allowVolumeExpansion": True}
    )
    yield name
    await client.delete(STORAGE_CLASSES, "", name, created["metadata"]["uid"])


def claim_spec(size: str = "1Gi", storage_class: str = "any") -> Manifest:
    return {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": size}},
        "storageClassName": storage_class,
    }


def bound(size: str) -> Condition:
    return lambda claim: claim.get("status", {}).get("capacity") == {"storage": size}


class TestMerging:
    def test_lists_of_named_things_are_merged(self) -> None:
        base = [{"name": "a", "image": "i"}, {"metadata": {"name": "b"}, "spec": {"x": 1}}]
        custom = [{"metadata": {"name": "b"}, "spec": {"y": 2}}, {"name": "a", "env": []}, {"name": "c"}]
        assert merged(base, custom) == [
            {"name": "a", "image": "i", "env": []},
            {"metadata": {"name": "b"}, "spec": {"x": 1, "y": 2}},
            {"name": "c"},
        ]

    def test_other_lists_are_replaced(self) -> None:
        assert merged({"modes": ["a"], "size": 1}, {"modes": ["b"]}) == {"modes": ["b"], "size": 1}


class TestScram:
    def test_the_salt_decides(self) -> None:
        known = scram_credentials("user", "pencil", {})
        assert scram_credentials("user", "pencil", known) == known
        assert scram_credentials("user", "pencil", {}) != known

    def test_the_password_decides(self) -> None:
        known = scram_credentials("user", "pencil", {})
        assert scram_credentials("user", "pen", known)["sha-256-stored-key"] != known["sha-256-stored-key"]


class TestProvisioning:
    COMPLETE: Manifest = {"data": {"remote": "eA==", "remotePath": "Lw==", "configData": "eA=="}}  # noqa: RUF012

    @pytest.mark.parametrize(
        ("storage_class", "secret", "expected"),
        [
            pytest.param("any", None, True, id="another class needs no Secret"),
            pytest.param("csi-rclone", COMPLETE, True, id="complete"),
            pytest.param("csi-rclone", None, False, id="no Secret"),
            pytest.param("csi-rclone", {"data": {"remote": "eA=="}}, False, id="a key is absent"),
            pytest.param("csi-rclone", {"data": COMPLETE["data"] | {"remote": ""}}, False, id="a key is empty"),
        ],
    )
    def test_csi_rclone(self, storage_class: str, secret: Manifest | None, expected: bool) -> None:
        assert provisions({"spec": {"storageClassName": storage_class}}, secret) is expected


@pytest.mark.cluster
class TestKinds:
    @pytest.mark.parametrize("crd", store_crds(), ids=lambda crd: crd["spec"]["names"]["kind"])
    async def test_our_definitions_are_accepted(self, place: Place, crd: Manifest) -> None:
        group = f"own.{crd['spec']['group']}"  # beside the real one, which this would not be a version of
        metadata = crd["metadata"] | {"name": f"{crd['spec']['names']['plural']}.{group}"}
        await place.client.create(
            CRDS, crd | {"metadata": metadata, "spec": crd["spec"] | {"group": group}}, dry_run=True
        )

    async def test_every_store_is_among_those_a_person_runs(self, place: Place) -> None:
        async with AsyncExitStack() as stack:
            for store in STORES:
                await stack.enter_async_context(store(place.client))

    async def test_a_kind_that_went_and_came_back_is_served_again(self, played: Place) -> None:
        crd = await played.client.get(CRDS, "", QDRANT.crd)
        await played.client.delete(CRDS, "", QDRANT.crd, crd["metadata"]["uid"])
        await played.gone(CRDS, "", QDRANT.crd)
        await install_store_crds(played.client, SHARED / "crds", QDRANT.kind)
        await played.make(QDRANT, "again", qdrant())
        await played.ready("qdrant-again-0")


@pytest.mark.cluster
class TestTrouble:
    async def test_what_was_created_while_an_operator_was_down_is_made(self, place: Place) -> None:
        async with Kubelet(place.client):
            await place.make(REDIS, "r", redis())
            async with RedisOperator(place.client, RESYNC_SECONDS):
                await place.ready("r-0")

    @pytest.mark.parametrize("reason", ["ImagePullBackOff", "CrashLoopBackOff"])
    async def test_a_pod_that_never_gets_ready(self, place: Place, standins: AsyncExitStack, reason: str) -> None:
        def trouble(obj: Manifest) -> str | None:
            return reason if obj["kind"] == "Pod" and obj["metadata"]["namespace"] == place.name else None

        await place.playing(standins, trouble=trouble)
        await place.make(REDIS, "r", redis())
        await place.sees(PODS, "r-0", waits_with(reason))

    async def test_a_class_that_nobody_provisions(self, place: Place, standins: AsyncExitStack) -> None:
        def trouble(obj: Manifest) -> str | None:
            return "ProvisioningFailed" if obj["spec"].get("storageClassName") == "absent" else None

        await place.playing(standins, trouble=trouble)
        await place.make(REDIS, "r", redis(storage_class="absent"))
        pod = await place.sees(PODS, "r-0", lambda pod: pod.get("status", {}).get("conditions"))
        assert pod["status"]["conditions"][0]["reason"] == "Unschedulable"
        claim = await place.sees(VOLUME_CLAIMS, "r-r-0", lambda claim: claim.get("status"))
        assert claim["status"]["phase"] == "Pending"


# ---- MongoDB


def mongodb(members: int = 1, size: str = "1Gi", **stateful_set: Any) -> Manifest:
    templates = [{"metadata": {"name": "data-volume"}, "spec": claim_spec(size)}]
    spec = {"volumeClaimTemplates": templates} | stateful_set.pop("spec", {})
    return {
        "members": members,
        "type": "ReplicaSet",
        "version": "8.0.12",
        "security": {"authentication": {"modes": ["SCRAM"], "ignoreUnknownUsers": True}},
        "users": [
            {
                "name": "app",
                "db": "admin",
                "passwordSecretRef": {"name": "auth", "key": "password"},
                "roles": [{"name": "readWrite", "db": "docs"}],
                "scramCredentialsSecretName": "scram",
            }
        ],
        "statefulSet": {"spec": spec} | stateful_set,
    }


@pytest.mark.cluster
class TestMongoDB:
    @pytest.fixture
    async def account(self, played: Place) -> Place:
        """A namespace that MongoDB's pods may run in, with a password."""
        await self.make_account(played)
        await played.secret(played.name, "auth", password="a/b@c")
        return played

    async def make_account(self, place: Place) -> None:
        metadata = {"name": SERVICE_ACCOUNT, "namespace": place.name}
        await place.client.create(
            SERVICE_ACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
        )

    @pytest.fixture
    async def running(self, account: Place) -> Place:
        """A replica set `m` that runs."""
        await account.make(MONGODB, "m", mongodb(), labels={"mine": "yes"}, annotations={"mine": "yes"})
        await account.sees(MONGODB, "m", phase("Running"))
        return account

    async def test_runs(self, running: Place) -> None:
        live = await running.sees(MONGODB, "m", phase("Running"))
        assert live["status"] == {
            "phase": "Running",
            "version": "8.0.12",
            "currentMongoDBMembers": 1,
            "currentStatefulSetReplicas": 1,
            "mongoUri": f"mongodb://m-0.m-svc.{running.name}.svc.cluster.local:27017/?replicaSet=m",
        }

    async def test_makes_its_secrets(self, running: Place) -> None:
        await running.sees(SECRETS, "m-admin-app")
        made = {"m-agent-password", "m-keyfile", "m-config", "scram-scram-credentials", "m-admin-app"}
        assert made <= await running.names(SECRETS)

    async def test_makes_a_headless_service(self, running: Place) -> None:
        service = await running.here(SERVICES, "m-svc")
        assert service["spec"]["clusterIP"] == "None"
        assert service["spec"]["selector"] == {"app": "m-svc"}

    async def test_claims_are_for_data_and_for_logs(self, running: Place) -> None:
        claims, _ = await running.client.list(VOLUME_CLAIMS, running.name)
        sizes = {claim["metadata"]["name"]: claim["spec"]["resources"]["requests"]["storage"] for claim in claims}
        assert sizes == {"data-volume-m-0": "1Gi", "logs-volume-m-0": "2G"}

    async def test_notes_its_last_success(self, running: Place) -> None:
        last = "mongodb.com/v1.lastAppliedMongoDBVersion"
        await running.sees(MONGODB, "m", lambda live: live["metadata"]["annotations"].get(last) == "8.0.12")

    async def test_hands_no_labels_or_annotations_on(self, running: Place) -> None:
        stateful_set = await running.here(STATEFUL_SETS, "m")
        assert "labels" not in stateful_set["metadata"]
        assert "mine" not in stateful_set["metadata"].get("annotations", {})
        pod = await running.here(PODS, "m-0")
        assert pod["metadata"]["labels"]["app"] == "m-svc"
        assert "mine" not in pod["metadata"]["labels"]

    async def test_what_is_said_of_the_stateful_set_reaches_it(self, account: Place) -> None:
        limits = {"limits": {"memory": "1Gi"}}
        template = {
            "metadata": {"labels": {"pod": "x"}},
            "spec": {"containers": [{"name": "mongod", "resources": limits}]},
        }
        await account.make(MONGODB, "m", mongodb(spec={"template": template}, metadata={"labels": {"set": "y"}}))
        stateful_set = await account.sees(STATEFUL_SETS, "m")
        assert stateful_set["metadata"]["labels"] == {"set": "y"}
        pod = await account.ready("m-0")
        assert pod["metadata"]["labels"]["pod"] == "x"
        containers = {container["name"]: container for container in pod["spec"]["containers"]}
        assert set(containers) == {"mongodb-agent", "mongod"}
        assert containers["mongod"]["resources"]["limits"] == {"memory": "1Gi"}

    async def test_tells_how_to_connect(self, running: Place) -> None:
        domain = f"m-svc.{running.name}.svc.cluster.local"
        assert await running.contents("m-admin-app") == {
            "username": "app",
            "password": "a/b@c",
            "connectionString.standard": (f"mongodb://app:a%2Fb%40c@m-0.{domain}:27017/admin?replicaSet=m&ssl=false"),
            "connectionString.standardSrv": f"mongodb+srv://app:a%2Fb%40c@{domain}/admin?replicaSet=m&ssl=false",
        }

    async def test_a_changed_password_changes_what_is_made_of_it(self, running: Place) -> None:
        before = await running.contents("scram-scram-credentials")
        encoded = base64.b64encode(b"other").decode()
        await running.edit(SECRETS, "auth", {"data": {"password": encoded}})
        await running.contents("m-admin-app", lambda found: found["password"] == "other")
        assert await running.contents("scram-scram-credentials") != before
        await running.sees(MONGODB, "m", phase("Running"))

    async def test_a_lost_password_leaves_the_stored_credentials(self, running: Place) -> None:
        before = await running.contents("scram-scram-credentials")
        await running.sees(SECRETS, "m-admin-app")
        await running.delete(SECRETS, running.name, "auth")
        await running.edit(MONGODB, "m", {"spec": {"version": "8.0.13"}})
        await running.sees(MONGODB, "m", lambda live: live["status"].get("version") == "8.0.13")
        assert await running.contents("scram-scram-credentials") == before

    async def test_a_foreign_connection_secret_stays_as_it_is(self, account: Place) -> None:
        await account.secret(account.name, "m-admin-app", username="somebody")
        await account.make(MONGODB, "m", mongodb())
        last = "mongodb.com/v1.lastAppliedMongoDBVersion"
        await account.sees(MONGODB, "m", lambda live: last in live["metadata"].get("annotations", {}))
        assert await account.contents("m-admin-app") == {"username": "somebody"}

    async def test_without_its_account_it_stays_pending(self, played: Place) -> None:
        await played.secret(played.name, "auth", password="p")
        await played.make(MONGODB, "m", mongodb())
        await played.sees(MONGODB, "m", phase("Pending", NOT_READY))
        assert "m-0" not in await played.names(PODS)
        await self.make_account(played)
        await played.sees(MONGODB, "m", phase("Running"))

    async def test_without_its_password_it_fails_until_there_is_one(self, played: Place) -> None:
        await self.make_account(played)
        await played.make(MONGODB, "m", mongodb())
        message = f"user password secret: {played.name}/auth and scram secret"
        await played.sees(MONGODB, "m", phase("Failed", message))
        await played.secret(played.name, "auth", password="p")
        await played.sees(MONGODB, "m", phase("Running"))

    async def test_a_secret_without_the_key_makes_it_fail(self, played: Place) -> None:
        await played.secret(played.name, "auth", other="p")
        await played.make(MONGODB, "m", mongodb())
        await played.sees(MONGODB, "m", phase("Failed", 'key "password" not present in the Secret'))

    async def test_a_changed_claim_template_makes_it_fail_until_changed_back(self, running: Place) -> None:
        await running.edit(MONGODB, "m", {"spec": mongodb(size="2Gi")})
        failed = await running.sees(MONGODB, "m", phase("Failed"))
        assert failed["status"]["message"].startswith(
            "Error deploying MongoDB ReplicaSet: error creating/updating StatefulSet: "
            'StatefulSet.apps "m" is invalid: spec: Forbidden: updates to statefulset spec for fields other than'
        )
        await running.edit(MONGODB, "m", {"spec": mongodb()})
        assert "message" not in (await running.sees(MONGODB, "m", phase("Running")))["status"]

    async def test_nothing_reaches_a_set_whose_pod_is_not_ready(self, place: Place, standins: AsyncExitStack) -> None:
        def trouble(obj: Manifest) -> str | None:
            return "ImagePullBackOff" if obj["kind"] == "Pod" else None

        await place.playing(standins, trouble=trouble)
        await self.make_account(place)
        await place.secret(place.name, "auth", password="p")
        await place.make(MONGODB, "m", mongodb())
        await place.sees(PODS, "m-0", waits_with("ImagePullBackOff"))
        before = await place.here(STATEFUL_SETS, "m")
        for version in ("8.0.13", "8.0.14"):  # when it is at the second it is done with the first
            await place.edit(MONGODB, "m", {"spec": {"version": version}})
            await place.contents("m-config", instructs(version))
        await place.sees(MONGODB, "m", phase("Pending", NOT_READY))
        assert (await place.here(STATEFUL_SETS, "m"))["spec"] == before["spec"]

    async def test_it_cannot_have_no_members(self, running: Place) -> None:
        await running.edit(MONGODB, "m", {"spec": {"members": 0}})
        await running.sees(MONGODB, "m", phase("Failed", "At least one member must not be an arbiter"))
        assert (await running.here(STATEFUL_SETS, "m"))["spec"]["replicas"] == 1

    async def test_scaling_by_hand_is_reverted(self, running: Place) -> None:
        scaled = await running.edit(STATEFUL_SETS, "m", {"spec": {"replicas": 0}})
        generation = scaled["metadata"]["generation"]
        await running.sees(
            STATEFUL_SETS, "m", lambda s: s["spec"]["replicas"] == 1 and s["metadata"]["generation"] > generation
        )

    async def test_its_claims_outlive_it(self, running: Place) -> None:
        await running.delete(MONGODB, running.name, "m")
        await running.gone(STATEFUL_SETS, running.name, "m", GARBAGE_SECONDS)
        assert await running.names(VOLUME_CLAIMS) == {"data-volume-m-0", "logs-volume-m-0"}
        assert "auth" in await running.names(SECRETS)


# ---- Redis


def redis(size: str = "1Gi", storage_class: str = "any", **spec: Any) -> Manifest:
    config = {"image": "quay.io/opstree/redis:v7.0.15"} | spec.pop("kubernetesConfig", {})
    storage = {"volumeClaimTemplate": {"spec": claim_spec(size, storage_class)}} | spec.pop("storage", {})
    return {"kubernetesConfig": config, "storage": storage} | spec


@pytest.mark.cluster
class TestRedis:
    async def test_makes_a_server_and_no_more(self, played: Place) -> None:
        secrets = await played.names(SECRETS)
        await played.make(REDIS, "r", redis())
        await played.ready("r-0")
        await played.sees(SERVICES, "r-additional")
        assert await played.names(STATEFUL_SETS) == {"r"}
        assert await played.names(SERVICES) == {"r", "r-headless", "r-additional"}
        assert await played.names(VOLUME_CLAIMS) == {"r-r-0"}
        assert await played.names(SECRETS) == secrets
        assert "status" not in await played.here(REDIS, "r")

    async def test_the_additional_service_may_be_turned_off(self, played: Place) -> None:
        await played.make(REDIS, "r", redis(kubernetesConfig={"service": {"additional": {"enabled": False}}}))
        await played.sees(SERVICES, "r")
        await played.ready("r-0")
        assert await played.names(SERVICES) == {"r", "r-headless"}

    async def test_its_variables_reach_the_server(self, played: Place) -> None:
        await played.secret(played.name, "auth", password="p")
        await played.make(
            REDIS,
            "r",
            redis(
                env=[{"name": "CHECKSUM", "value": "1"}],
                kubernetesConfig={"redisSecret": {"name": "auth", "key": "password"}},
            ),
        )
        pod = await played.ready("r-0")
        env = pod["spec"]["containers"][0]["env"]
        assert {"name": "CHECKSUM", "value": "1"} in env
        assert {
            "name": "REDIS_PASSWORD",
            "valueFrom": {"secretKeyRef": {"name": "auth", "key": "password"}},
        } in env

    async def test_changed_variables_restart_it(self, played: Place) -> None:
        await played.make(REDIS, "r", redis())
        first = await played.ready("r-0")
        await played.edit(REDIS, "r", {"spec": {"env": [{"name": "CHECKSUM", "value": "2"}]}})
        await played.sees(PODS, "r-0", lambda pod: pod["metadata"]["uid"] != first["metadata"]["uid"] and is_ready(pod))

    async def test_hands_labels_and_annotations_on(self, played: Place) -> None:
        await played.make(REDIS, "r", redis(), labels={"mine": "yes"}, annotations={"note": "this"})
        await played.ready("r-0")
        await played.sees(SERVICES, "r")
        for resource, name in ((STATEFUL_SETS, "r"), (PODS, "r-0"), (VOLUME_CLAIMS, "r-r-0"), (SERVICES, "r")):
            metadata = (await played.here(resource, name))["metadata"]
            assert metadata["labels"]["mine"] == "yes", name
            assert metadata["annotations"]["note"] == "this", name

    async def test_only_its_own_labels_select(self, played: Place) -> None:
        await played.make(REDIS, "r", redis(), labels={"mine": "yes"})
        stateful_set = await played.sees(STATEFUL_SETS, "r")
        own = {"app": "r", "redis_setup_type": "standalone", "role": "standalone"}
        assert stateful_set["spec"]["selector"] == {"matchLabels": own}

    async def test_ignored_annotations_reach_services_only(self, played: Place) -> None:
        config = {"ignoreAnnotations": ["note"]}
        await played.make(REDIS, "r", redis(kubernetesConfig=config), annotations={"note": "this"})
        await played.ready("r-0")
        for resource, name in ((STATEFUL_SETS, "r"), (PODS, "r-0"), (VOLUME_CLAIMS, "r-r-0")):
            assert "note" not in (await played.here(resource, name))["metadata"]["annotations"], name
        await played.sees(SERVICES, "r", lambda service: service["metadata"]["annotations"]["note"] == "this")

    async def test_a_changed_label_restarts_it(self, played: Place) -> None:
        await played.make(REDIS, "r", redis(), labels={"mine": "yes"})
        first = await played.ready("r-0")
        await played.edit(REDIS, "r", {"metadata": {"labels": {"mine": "no"}}})
        await played.sees(PODS, "r-0", lambda pod: pod["metadata"]["uid"] != first["metadata"]["uid"] and is_ready(pod))

    async def test_waits_for_its_access_list(self, played: Place) -> None:
        await played.make(REDIS, "r", redis(acl={"secret": {"secretName": "acl"}}))
        await played.sees(PODS, "r-0", waits_with("ContainerCreating"))
        await played.secret(played.name, "acl", **{"user.acl": "user default on >p ~* +@all\n"})
        await played.ready("r-0")

    async def test_the_init_container_is_as_asked(self, played: Place) -> None:
        init = {"enabled": True, "image": "i", "command": ["sh", "-c"], "args": ["true"]}
        await played.make(REDIS, "r", redis(initContainer=init))
        pod = await played.ready("r-0")
        (container,) = pod["spec"]["initContainers"]
        assert (container["name"], container["command"], container["args"]) == ("initr", ["sh", "-c"], ["true"])

    async def test_a_claim_grows_without_a_restart(self, played: Place, growing: str) -> None:
        await played.make(REDIS, "r", redis(storage_class=growing))
        pod = await played.ready("r-0")
        await played.edit(REDIS, "r", {"spec": redis(size="2Gi", storage_class=growing)})
        await played.sees(VOLUME_CLAIMS, "r-r-0", bound("2Gi"))
        stateful_set = await played.sees(
            STATEFUL_SETS, "r", lambda s: s["metadata"]["annotations"].get("storageCapacity") == str(2 * 2**30)
        )
        template = stateful_set["spec"]["volumeClaimTemplates"][0]
        assert template["spec"]["resources"]["requests"] == {"storage": "1Gi"}
        assert (await played.here(PODS, "r-0"))["metadata"]["uid"] == pod["metadata"]["uid"]

    async def test_once_grown_a_smaller_size_is_ignored(self, played: Place, growing: str) -> None:
        await played.make(REDIS, "r", redis(storage_class=growing))
        await played.ready("r-0")
        await played.edit(REDIS, "r", {"spec": redis(size="3Gi", storage_class=growing)})
        await played.sees(VOLUME_CLAIMS, "r-r-0", bound("3Gi"))
        changed = redis(size="2Gi", storage_class=growing, kubernetesConfig={"image": "new"})
        await played.edit(REDIS, "r", {"spec": changed})
        await played.sees(PODS, "r-0", lambda pod: pod["spec"]["containers"][0]["image"] == "new")
        await played.sees(VOLUME_CLAIMS, "r-r-0", bound("3Gi"))

    @pytest.mark.parametrize("size", ["2Gi", "512Mi"])
    async def test_a_refused_resizing_keeps_all_other_changes_out(
        self, played: Place, installed: Cluster, size: str
    ) -> None:
        await played.make(REDIS, "r", redis())
        await played.ready("r-0")
        offset = installed.audit_log.stat().st_size
        await played.edit(REDIS, "r", {"spec": redis(size=size, kubernetesConfig={"image": "new"})})
        await refused(installed, offset, path(VOLUME_CLAIMS, played.name, "r-r-0"))
        stateful_set = await played.here(STATEFUL_SETS, "r")
        assert stateful_set["spec"]["template"]["spec"]["containers"][0]["image"].startswith("quay.io/")
        await played.sees(VOLUME_CLAIMS, "r-r-0", bound("1Gi"))

    @pytest.mark.parametrize("kept", [False, True])
    async def test_deletion_takes_the_claim_along_unless_kept(self, played: Place, kept: bool) -> None:
        await played.make(REDIS, "r", redis(storage={"keepAfterDelete": kept}))
        await played.ready("r-0")
        await played.delete(REDIS, played.name, "r")
        await played.gone(REDIS, played.name, "r")
        claim = await played.read(VOLUME_CLAIMS, played.name, "r-r-0")
        assert bool(claim and not claim["metadata"].get("deletionTimestamp")) is kept

    async def test_deletion_waits_for_the_operator(self, place: Place) -> None:
        async with Kubelet(place.client):
            async with RedisOperator(place.client, RESYNC_SECONDS):
                await place.make(REDIS, "r", redis())
                await place.ready("r-0")
            await place.delete(REDIS, place.name, "r")
            assert (await place.here(REDIS, "r"))["metadata"]["finalizers"] == ["redisFinalizer"]
            async with RedisOperator(place.client, RESYNC_SECONDS):
                await place.gone(REDIS, place.name, "r")

    async def test_scaling_by_hand_is_reverted(self, played: Place) -> None:
        await played.make(REDIS, "r", redis())
        await played.ready("r-0")
        scaled = await played.edit(STATEFUL_SETS, "r", {"spec": {"replicas": 0}})
        generation = scaled["metadata"]["generation"]
        await played.sees(
            STATEFUL_SETS, "r", lambda s: s["spec"]["replicas"] == 1 and s["metadata"]["generation"] > generation
        )

    async def test_scaling_by_hand_holds_while_it_is_told_to_look_away(self, played: Place) -> None:
        await played.make(REDIS, "r", redis())
        await played.ready("r-0")
        await played.edit(REDIS, "r", {"metadata": {"annotations": {SKIP: "true"}}})
        await played.make(REDIS, "later", redis())
        await played.ready("later-0")
        await played.edit(STATEFUL_SETS, "r", {"spec": {"replicas": 0}})
        await played.gone(PODS, played.name, "r-0")
        await played.make(REDIS, "last", redis())
        await played.ready("last-0")
        assert "r-0" not in await played.names(PODS)
        await played.edit(REDIS, "r", {"metadata": {"annotations": {SKIP: None}}})
        await played.ready("r-0")

    async def test_a_lost_stateful_set_comes_back(self, played: Place) -> None:
        await played.make(REDIS, "r", redis())
        first = await played.sees(STATEFUL_SETS, "r")
        await played.delete(STATEFUL_SETS, played.name, "r")
        await played.sees(STATEFUL_SETS, "r", lambda s: s["metadata"]["uid"] != first["metadata"]["uid"])


# ---- A real Redis behind it


def access(*passwords: str) -> str:
    """An access list of one user."""
    return f"user default on {' '.join(f'>{password}' for password in passwords)} ~* +@all\n"


class TestRedisServer:
    def test_lets_in_who_was_listed_when_it_started(self, redis_servers: Servers) -> None:
        server = redis_servers["r"]
        server.start(access("old", "new"))
        assert [server.admits(password) for password in ("old", "new", "none")] == [True, True, False]
        server.query("SET", "note", "kept", password="old")
        server.stop()
        server.start(access("new"))
        assert [server.admits(password) for password in ("old", "new")] == [False, True]
        assert server.query("GET", "note", password="new") == "kept"

    def test_says_why_it_does_not_start(self, redis_servers: Servers) -> None:
        with pytest.raises(RedisError, match=r"Redis ended; the end of its log:\n(.*\n)*.*user\.acl"):
            redis_servers["r"].start("user default on +@nothing\n")
        assert not redis_servers["r"].running

    def test_says_why_it_refuses(self, redis_servers: Servers) -> None:
        server = redis_servers["r"]
        server.start("user default on >open ~* -@all +ping\n")
        with pytest.raises(RedisError, match="NOPERM"):
            server.query("GET", "note", password="open")

    def test_one_that_is_removed_is_gone_with_what_it_held(self, redis_servers: Servers) -> None:
        server = redis_servers["r"]
        server.start(access("open"))
        server.query("SET", "note", "kept", password="open")
        redis_servers.remove("r")
        with pytest.raises(RedisError, match="Connection refused"):
            server.admits("open")
        redis_servers["r"].start(access("open"))
        assert redis_servers["r"].query("GET", "note", password="open") == ""


@pytest.mark.cluster
class TestRedisWithAServer:
    @pytest.fixture
    async def running(self, place: Place, standins: AsyncExitStack, redis_servers: Servers) -> tuple[Place, Redis]:
        """A namespace with a Redis `r`, whose access list is Secret `acl`, and the server behind it."""
        await standins.enter_async_context(Kubelet(place.client))
        await standins.enter_async_context(RedisOperator(place.client, RESYNC_SECONDS, servers=redis_servers))
        await place.secret(place.name, "acl", **{"user.acl": access("old")})
        live = await place.make(REDIS, "r", redis(acl={"secret": {"secretName": "acl"}}))
        await place.ready("r-0")
        return place, redis_servers[live["metadata"]["uid"]]

    async def listed(self, place: Place, acl: str) -> None:
        data = {"user.acl": base64.b64encode(acl.encode()).decode()}
        await place.edit(SECRETS, "acl", {"data": data})

    async def restart(self, place: Place, variable: str) -> Manifest:
        """The pod that came after the present one, as soon as it is there."""
        before = (await place.here(PODS, "r-0"))["metadata"]["uid"]
        await place.edit(REDIS, "r", {"spec": {"env": [{"name": "CHECKSUM", "value": variable}]}})
        return await place.sees(PODS, "r-0", lambda pod: pod["metadata"]["uid"] != before)

    async def test_reads_its_access_list_when_the_pod_starts(self, running: tuple[Place, Redis]) -> None:
        place, server = running
        assert server.admits("old")
        server.query("SET", "note", "kept", password="old")
        await self.listed(place, access("new"))
        assert server.admits("old")
        assert not server.admits("new")
        await self.restart(place, "2")
        await place.ready("r-0")
        assert server.admits("new")
        assert not server.admits("old")
        assert server.query("GET", "note", password="new") == "kept"

    async def test_one_that_does_not_start_is_not_ready_until_it_can(self, running: tuple[Place, Redis]) -> None:
        place, server = running
        await self.listed(place, "user default on +@nothing\n")
        await self.restart(place, "2")
        await place.sees(PODS, "r-0", waits_with("ContainerCreating"))
        await self.listed(place, access("new"))
        await place.ready("r-0")
        assert server.admits("new")

    async def test_ends_with_its_redis(self, running: tuple[Place, Redis]) -> None:
        place, server = running
        await place.delete(REDIS, place.name, "r")
        await place.gone(REDIS, place.name, "r")
        assert not server.running

    async def test_one_without_an_access_list_is_only_played(
        self, running: tuple[Place, Redis], redis_servers: Servers
    ) -> None:
        place, _ = running
        live = await place.make(REDIS, "s", redis())
        await place.ready("s-0")
        assert not redis_servers[live["metadata"]["uid"]].running


# ---- Qdrant


def qdrant(tag: str = "v1.13.4", size: str = "1Gi", storage_class: str = "any", **spec: Any) -> Manifest:
    return {
        "image": {"repository": "qdrant/qdrant", "tag": tag, "pullPolicy": "IfNotPresent"},
        "persistence": {"size": size, "storageClassName": storage_class},
        "antiAffinity": True,
    } | spec


KEYS: dict[str, Any] = {
    key: {"enabled": True, "secret": {"name": "auth", "key": key}} for key in ("apiKey", "readApiKey")
}


@pytest.mark.cluster
class TestQdrant:
    async def test_everything_has_one_name(self, played: Place) -> None:
        await played.make(QDRANT, "q", qdrant())
        await played.ready("qdrant-q-0")
        assert await played.names(STATEFUL_SETS) == {"qdrant-q"}
        assert await played.names(SERVICES) == {"qdrant-q", "qdrant-q-headless"}
        assert await played.names(VOLUME_CLAIMS) == {"qdrant-storage-qdrant-q-0"}
        assert "qdrant-q" in await played.names(SERVICE_ACCOUNTS)

    async def test_serves_three_ports(self, played: Place) -> None:
        await played.make(QDRANT, "q", qdrant())
        service = await played.sees(SERVICES, "qdrant-q")
        assert {port["name"]: port["port"] for port in service["spec"]["ports"]} == {
            "http": 6333,
            "grpc": 6334,
            "tcp-p2p": 6335,
        }

    async def test_hands_no_labels_or_annotations_on(self, played: Place) -> None:
        await played.make(QDRANT, "q", qdrant(), labels={"mine": "yes"}, annotations={"mine": "yes"})
        await played.ready("qdrant-q-0")
        own = {
            "app": "qdrant-q",
            "app.kubernetes.io/instance": "q",
            "app.kubernetes.io/name": "q",
            "app.kubernetes.io/version": "v1.13.4",
            "app.kubernetes.io/managed-by": "qdrant-operator",
        }
        stateful_set = await played.here(STATEFUL_SETS, "qdrant-q")
        assert stateful_set["spec"]["selector"] == {"matchLabels": own}
        for resource, name in (
            (STATEFUL_SETS, "qdrant-q"),
            (PODS, "qdrant-q-0"),
            (VOLUME_CLAIMS, "qdrant-storage-qdrant-q-0"),
        ):
            metadata = (await played.here(resource, name))["metadata"]
            assert own.items() <= metadata["labels"].items(), name
            assert "mine" not in metadata["labels"], name
            assert "mine" not in metadata.get("annotations", {}), name

    async def test_keys_come_from_the_named_secret(self, played: Place) -> None:
        await played.secret(played.name, "auth", apiKey="w", readApiKey="r")
        await played.make(QDRANT, "q", qdrant(**KEYS))
        pod = await played.ready("qdrant-q-0")
        references = {
            entry["name"]: entry["valueFrom"]["secretKeyRef"] for entry in pod["spec"]["containers"][0]["env"]
        }
        assert references == {
            "QDRANT__SERVICE__API_KEY": {"name": "auth", "key": "apiKey"},
            "QDRANT__SERVICE__READ_ONLY_API_KEY": {"name": "auth", "key": "readApiKey"},
        }
        assert await played.contents("auth") == {"apiKey": "w", "readApiKey": "r"}

    async def test_a_missing_secret_is_generated(self, played: Place) -> None:
        live = await played.make(QDRANT, "q", qdrant(**KEYS))
        await played.ready("qdrant-q-0")
        assert set(await played.contents("auth")) == {"apiKey", "readApiKey"}
        owners = (await played.here(SECRETS, "auth"))["metadata"]["ownerReferences"]
        assert [owner["uid"] for owner in owners] == [live["metadata"]["uid"]]

    async def test_a_missing_key_is_generated_beside_what_is_there(self, played: Place) -> None:
        await played.secret(played.name, "auth", apiKey="w")
        await played.make(QDRANT, "q", qdrant(**KEYS))
        found = await played.contents("auth", lambda found: "readApiKey" in found)
        assert found["apiKey"] == "w"
        assert "ownerReferences" not in (await played.here(SECRETS, "auth"))["metadata"]

    async def test_its_status_tells_nothing(self, played: Place) -> None:
        await played.make(QDRANT, "q", qdrant())
        await played.ready("qdrant-q-0")
        assert "status" not in await played.here(QDRANT, "q")

    async def test_a_new_tag_is_refused_for_good(self, played: Place, installed: Cluster) -> None:
        await played.make(QDRANT, "q", qdrant())
        await played.ready("qdrant-q-0")
        offset = installed.audit_log.stat().st_size
        await played.edit(QDRANT, "q", {"spec": qdrant(tag="v1.14.0")})
        await refused(installed, offset, path(STATEFUL_SETS, played.name, "qdrant-q"))
        stateful_set = await played.here(STATEFUL_SETS, "qdrant-q")
        assert stateful_set["spec"]["template"]["spec"]["containers"][0]["image"] == "qdrant/qdrant:v1.13.4"
        assert "status" not in await played.here(QDRANT, "q")

    async def test_resources_are_not_as_elsewhere(self, place: Place) -> None:
        with pytest.raises(Invalid, match="must be of type object"):
            await place.make(QDRANT, "q", qdrant(resources={"limits": {"memory": "1Gi"}}))

    async def test_it_may_have_no_replicas(self, played: Place) -> None:
        await played.make(QDRANT, "q", qdrant())
        await played.ready("qdrant-q-0")
        await played.edit(QDRANT, "q", {"spec": {"replicas": 0}})
        await played.gone(PODS, played.name, "qdrant-q-0")
        assert await played.names(VOLUME_CLAIMS) == {"qdrant-storage-qdrant-q-0"}
        await played.edit(QDRANT, "q", {"spec": {"replicas": 1}})
        await played.ready("qdrant-q-0")

    async def test_a_claim_grows_without_a_restart(self, played: Place, growing: str) -> None:
        await played.make(QDRANT, "q", qdrant(storage_class=growing))
        pod = await played.ready("qdrant-q-0")
        await played.edit(QDRANT, "q", {"spec": qdrant(size="2Gi", storage_class=growing)})
        await played.sees(VOLUME_CLAIMS, "qdrant-storage-qdrant-q-0", bound("2Gi"))
        template = (await played.here(STATEFUL_SETS, "qdrant-q"))["spec"]["volumeClaimTemplates"][0]
        assert template["spec"]["resources"]["requests"] == {"storage": "1Gi"}
        assert (await played.here(PODS, "qdrant-q-0"))["metadata"]["uid"] == pod["metadata"]["uid"]

    async def test_a_class_that_cannot_grow_refuses(self, played: Place, installed: Cluster) -> None:
        await played.make(QDRANT, "q", qdrant())
        await played.ready("qdrant-q-0")
        offset = installed.audit_log.stat().st_size
        await played.edit(QDRANT, "q", {"spec": qdrant(size="2Gi")})
        await refused(installed, offset, path(VOLUME_CLAIMS, played.name, "qdrant-storage-qdrant-q-0"))
        await played.sees(VOLUME_CLAIMS, "qdrant-storage-qdrant-q-0", bound("1Gi"))

    async def test_its_claims_outlive_it(self, played: Place) -> None:
        await played.make(QDRANT, "q", qdrant())
        await played.ready("qdrant-q-0")
        await played.delete(QDRANT, played.name, "q")
        await played.gone(QDRANT, played.name, "q")
        assert await played.names(SERVICES) == set()
        assert await played.names(STATEFUL_SETS) == set()
        assert await played.names(VOLUME_CLAIMS) == {"qdrant-storage-qdrant-q-0"}

    async def test_a_lost_headless_service_stays_lost(self, played: Place) -> None:
        await played.make(QDRANT, "q", qdrant())
        await played.ready("qdrant-q-0")
        await played.delete(SERVICES, played.name, "qdrant-q-headless")
        await played.edit(QDRANT, "q", {"spec": {"replicas": 2}})
        await played.ready("qdrant-q-1")
        assert await played.names(SERVICES) == {"qdrant-q"}
        await played.delete(SERVICES, played.name, "qdrant-q")
        await played.sees(SERVICES, "qdrant-q-headless")


# ---- The gateway


def verdict(kind: str, status: str, reason: str) -> Condition:
    """Whether the first parent of a route says so."""
    return lambda route: any(
        (condition["type"], condition["status"], condition["reason"]) == (kind, status, reason)
        for condition in ((route.get("status") or {}).get("parents") or [{"conditions": []}])[0]["conditions"]
    )


@pytest.mark.cluster
class TestGateway:
    @pytest.fixture
    async def gateway(self, place: Place, standins: AsyncExitStack) -> Place:
        """A namespace with a controller, and a Service `db-primary`."""
        await standins.enter_async_context(GatewayController(place.client))
        await place.make(SERVICES, "db-primary", {"ports": [{"port": 5432}]})
        return place

    async def parent(self, place: Place, name: str = "front", **listener: Any) -> None:
        everywhere = {"namespaces": {"from": "All"}}
        found = {"name": "sql", "port": 5432, "protocol": "TLS", "tls": {"mode": "Passthrough"}}
        listeners = [found | {"allowedRoutes": everywhere} | listener]
        await place.make(GATEWAYS, name, {"gatewayClassName": "any", "listeners": listeners})

    async def route(
        self, place: Place, name: str = "db", parent: str = "front", section: str = "sql", backend: str = "db-primary"
    ) -> None:
        await place.make(
            TLS_ROUTES,
            name,
            {
                "parentRefs": [{"name": parent, "namespace": place.name, "sectionName": section}],
                "hostnames": ["db.lab.example.org"],
                "rules": [{"backendRefs": [{"name": backend, "port": 5432}]}],
            },
        )

    async def test_accepts_a_route(self, gateway: Place) -> None:
        await self.parent(gateway)
        await self.route(gateway)
        await gateway.sees(TLS_ROUTES, "db", verdict("Accepted", "True", "Accepted"))
        await gateway.sees(TLS_ROUTES, "db", verdict("ResolvedRefs", "True", "ResolvedRefs"))

    async def test_says_nothing_of_a_parent_that_is_absent(self, gateway: Place) -> None:
        await self.route(gateway)
        await self.parent(gateway, "back")
        await self.route(gateway, "later", parent="back")
        await gateway.sees(TLS_ROUTES, "later", verdict("Accepted", "True", "Accepted"))
        assert "status" not in await gateway.here(TLS_ROUTES, "db")
        await self.parent(gateway)
        await gateway.sees(TLS_ROUTES, "db", verdict("Accepted", "True", "Accepted"))

    @pytest.mark.parametrize(
        ("listener", "section", "reason"),
        [
            pytest.param({}, "other", "NoMatchingParent", id="unknown section"),
            pytest.param(
                {"protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "any"}]}},
                "sql",
                "NotAllowedByListeners",
                id="not a TLS listener",
            ),
            pytest.param(
                {"allowedRoutes": {"namespaces": {"from": "Selector", "selector": {"matchLabels": {"a": "b"}}}}},
                "sql",
                "NotAllowedByListeners",
                id="namespace not selected",
            ),
            pytest.param({"hostname": "*.example.com"}, "sql", "NoMatchingListenerHostname", id="other hosts"),
        ],
    )
    async def test_refuses(self, gateway: Place, listener: Manifest, section: str, reason: str) -> None:
        await self.parent(gateway, **listener)
        await self.route(gateway, section=section)
        await gateway.sees(TLS_ROUTES, "db", verdict("Accepted", "False", reason))

    @pytest.mark.parametrize(
        "listener",
        [
            pytest.param({"allowedRoutes": {"namespaces": {"from": "Same"}}}, id="its own namespace"),
            pytest.param({"hostname": "*.lab.example.org"}, id="a wildcard"),
            pytest.param({"hostname": "db.lab.example.org"}, id="its host"),
        ],
    )
    async def test_lets_in(self, gateway: Place, listener: Manifest) -> None:
        await self.parent(gateway, **listener)
        await self.route(gateway)
        await gateway.sees(TLS_ROUTES, "db", verdict("Accepted", "True", "Accepted"))

    async def test_a_selected_namespace_is_let_in(self, gateway: Place) -> None:
        labels = {"kubernetes.io/metadata.name": gateway.name}
        rule = {"namespaces": {"from": "Selector", "selector": {"matchLabels": labels}}}
        await self.parent(gateway, allowedRoutes=rule)
        await self.route(gateway)
        await gateway.sees(TLS_ROUTES, "db", verdict("Accepted", "True", "Accepted"))

    async def test_another_namespace_is_not_let_in_by_itself(self, gateway: Place, cluster: Cluster) -> None:
        elsewhere = f"{gateway.name}-front"
        await gateway.namespace(elsewhere)
        listeners = [{"name": "sql", "port": 5432, "protocol": "TLS", "tls": {"mode": "Passthrough"}}]
        spec = {"gatewayClassName": "any", "listeners": listeners}
        await Place(gateway.client, elsewhere).make(GATEWAYS, "front", spec)
        await gateway.make(
            TLS_ROUTES,
            "db",
            {
                "parentRefs": [{"name": "front", "namespace": elsewhere}],
                "hostnames": ["db.lab.example.org"],
                "rules": [{"backendRefs": [{"name": "db-primary", "port": 5432}]}],
            },
        )
        await gateway.sees(TLS_ROUTES, "db", verdict("Accepted", "False", "NotAllowedByListeners"))
        cluster.kubectl("delete", "namespace", elsewhere, "--wait=false")

    async def test_a_backend_that_is_absent_is_not_resolved_until_it_comes(self, gateway: Place) -> None:
        await self.parent(gateway)
        await self.route(gateway, backend="late")
        await gateway.sees(TLS_ROUTES, "db", verdict("ResolvedRefs", "False", "BackendNotFound"))
        await gateway.sees(TLS_ROUTES, "db", verdict("Accepted", "True", "Accepted"))
        await gateway.make(SERVICES, "late", {"ports": [{"port": 5432}]})
        await gateway.sees(TLS_ROUTES, "db", verdict("ResolvedRefs", "True", "ResolvedRefs"))


# ---- Volumes


@pytest.mark.cluster
class TestVolumes:
    @pytest.fixture
    async def kubelet(self, place: Place, standins: AsyncExitStack) -> Place:
        await standins.enter_async_context(Kubelet(place.client))
        return place

    async def test_a_claim_of_object_storage_waits_for_its_secret(self, kubelet: Place) -> None:
        await kubelet.make(VOLUME_CLAIMS, "lab", claim_spec("1Mi", "csi-rclone"))
        await kubelet.make(VOLUME_CLAIMS, "other", claim_spec())
        await kubelet.sees(VOLUME_CLAIMS, "other", bound("1Gi"))
        claim = await kubelet.here(VOLUME_CLAIMS, "lab")
        assert await kubelet.read(VOLUMES, "", f"pvc-{claim['metadata']['uid']}") is None
        await kubelet.secret(kubelet.name, "lab", remote="r", remotePath="/", configData="[r]\n")
        await kubelet.sees(VOLUME_CLAIMS, "lab", bound("1Mi"))

    async def test_a_volume_grows_with_its_claim(self, kubelet: Place, growing: str) -> None:
        await kubelet.make(VOLUME_CLAIMS, "c", claim_spec("1Gi", growing))
        await kubelet.sees(VOLUME_CLAIMS, "c", bound("1Gi"))
        await kubelet.edit(VOLUME_CLAIMS, "c", {"spec": {"resources": {"requests": {"storage": "2Gi"}}}})
        claim = await kubelet.sees(VOLUME_CLAIMS, "c", bound("2Gi"))
        volume = await kubelet.client.get(VOLUMES, "", claim["spec"]["volumeName"])
        assert volume["spec"]["capacity"] == {"storage": "2Gi"}

    async def test_a_claim_of_another_class_cannot_grow(self, kubelet: Place) -> None:
        await kubelet.make(VOLUME_CLAIMS, "c", claim_spec())
        await kubelet.sees(VOLUME_CLAIMS, "c", bound("1Gi"))
        with pytest.raises(Forbidden, match="must support resize"):
            await kubelet.edit(VOLUME_CLAIMS, "c", {"spec": {"resources": {"requests": {"storage": "2Gi"}}}})
