"""The stand-ins do what Educates was seen to do, its unkind sides included."""

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from datalabd.api.meta import Manifest
from datalabd.errors import Denied, NotFound
from datalabd.kube.client import Client, path
from datalabd.kube.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    INGRESSES,
    NAMESPACES,
    SECRETS,
    VOLUME_CLAIMS,
    WORKSHOP_ENVIRONMENTS,
    WORKSHOP_SESSIONS,
    WORKSHOPS,
    Resource,
)
from hack import schemas
from hack.cluster import Cluster
from hack.deadlines import scaled
from hack.schemas.__main__ import drifted
from hack.standins import TROUBLE, Educates, Kubelet, Timing, install, secrets_manager
from hack.standins.budget import limits
from hack.standins.educates import LAST_HANDLED
from hack.standins.kubelet import PODS, VOLUMES
from hack.standins.secret_copier import COPIED_FROM, SECRET_COPIERS
from hack.standins.variables import substitute
from tests.reference import SHARED

QUICK = replace(Timing().scaled(1 / 60), environment_deadline=1.5)
"""A minute is a second."""
SCHEMAS = Path(schemas.__file__).parent
LABEL = "training.educates.dev"
SERVICES = Resource("v1", "services", "Service")
SERVICE_ACCOUNTS = Resource("v1", "serviceaccounts", "ServiceAccount")
ROLE_BINDINGS = Resource("rbac.authorization.k8s.io/v1", "rolebindings", "RoleBinding")
QUOTAS = Resource("v1", "resourcequotas", "ResourceQuota")
LIMIT_RANGES = Resource("v1", "limitranges", "LimitRange")
GARBAGE_SECONDS = 90.0
"""The garbage collector learns of new kinds only every half minute."""

Condition = Callable[[Manifest], object]


def phase(wanted: str) -> Condition:
    return lambda obj: educates(obj).get("phase") == wanted


def educates(obj: Manifest) -> Manifest:
    """`status.educates`."""
    found: Manifest = (obj.get("status") or {}).get("educates") or {}
    return found


def config_map(name: str, **metadata: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name} | metadata, "data": {"key": "value"}}


@dataclass
class Lab:
    """A unique name, what is created under it, and patience."""

    client: Client
    name: str = field(default_factory=lambda: f"lab-{uuid.uuid4().hex[:6]}")
    copying: Client = field(init=False)
    """Of the account that copies Secrets; where Educates is played."""

    async def workshop(self, name: str = "", **spec: Any) -> Manifest:
        return await self.client.create(
            WORKSHOPS,
            {
                "apiVersion": WORKSHOPS.api_version,
                "kind": "Workshop",
                "metadata": {"name": name or self.name},
                "spec": {"title": "A lab", "description": "A lab."} | spec,
            },
        )

    async def environment(self, name: str = "", workshop: str = "", **spec: Any) -> Manifest:
        return await self.client.create(
            WORKSHOP_ENVIRONMENTS,
            {
                "apiVersion": WORKSHOP_ENVIRONMENTS.api_version,
                "kind": "WorkshopEnvironment",
                "metadata": {"name": name or self.name},
                "spec": {"workshop": {"name": workshop or self.name}} | spec,
            },
        )

    async def session(self, id: str = "s", metadata: Manifest | None = None, **session: Any) -> Manifest:
        return await self.client.create(
            WORKSHOP_SESSIONS,
            {
                "apiVersion": WORKSHOP_SESSIONS.api_version,
                "kind": "WorkshopSession",
                "metadata": {"name": f"{self.name}-{id}"} | (metadata or {}),
                "spec": {"environment": {"name": self.name}, "session": {"id": id} | session},
            },
        )

    async def environment_is(self, wanted: str, name: str = "") -> Manifest:
        return await self.until(WORKSHOP_ENVIRONMENTS, "", name or self.name, phase(wanted))

    async def session_is(self, wanted: str, id: str = "s") -> Manifest:
        return await self.until(WORKSHOP_SESSIONS, "", f"{self.name}-{id}", phase(wanted))

    async def running(self, id: str = "s", **workshop: Any) -> Manifest:
        """A running session of a Workshop with such a spec."""
        await self.workshop(**workshop)
        await self.environment()
        await self.environment_is("Running")
        await self.session(id)
        return await self.session_is("Running", id)

    async def here(self, resource: Resource, name: str) -> Manifest:
        """An object in the workshop namespace."""
        return await self.client.get(resource, self.name, name)

    async def pod(self, id: str = "s") -> Manifest:
        """The pod spec of a session's Deployment."""
        deployment = await self.here(DEPLOYMENTS, f"{self.name}-{id}")
        spec: Manifest = deployment["spec"]["template"]["spec"]
        return spec

    async def read(self, resource: Resource, namespace: str, name: str) -> Manifest | None:
        try:
            return await self.client.get(resource, namespace, name)
        except NotFound:
            return None

    async def until(
        self, resource: Resource, namespace: str, name: str, condition: Condition, seconds: float = 20
    ) -> Manifest:
        """The object once the condition holds; the test fails after the deadline."""
        found: Manifest | None = None
        try:
            async with asyncio.timeout(scaled(seconds)):
                while True:
                    found = await self.read(resource, namespace, name)
                    if found is not None and condition(found):
                        return found
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(f"{resource} {namespace}/{name} is not so within {seconds} s: {json.dumps(found)}")

    async def gone(self, resource: Resource, namespace: str, name: str, seconds: float = GARBAGE_SECONDS) -> None:
        deadline = asyncio.get_running_loop().time() + scaled(seconds)
        while await self.read(resource, namespace, name) is not None:
            assert asyncio.get_running_loop().time() < deadline, f"{resource} {namespace}/{name} is still there"
            await asyncio.sleep(0.1)

    async def delete(self, resource: Resource, namespace: str, name: str) -> None:
        live = await self.client.get(resource, namespace, name)
        await self.client.delete(resource, namespace, name, live["metadata"]["uid"])

    async def namespace(self, name: str) -> Manifest:
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        return await self.client.create(NAMESPACES, manifest)

    async def secret(self, namespace: str, name: str, **data: str) -> Manifest:
        metadata = {"name": name, "namespace": namespace}
        return await self.client.create(
            SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}
        )

    async def sentinel(self) -> None:
        """Return after everything that happened before has had its chance: a later environment runs."""
        name = f"{self.name}-later"
        await self.workshop(name)
        await self.environment(name, name)
        await self.environment_is("Running", name)


@pytest.fixture(scope="module")
def installed(cluster: Cluster) -> Cluster:
    """The cluster with Educates' kinds."""

    async def run() -> None:
        client = await Client.connect(str(cluster.kubeconfig))
        await install(client, SHARED)
        await client.close()

    asyncio.run(run())
    return cluster


@pytest.fixture
async def lab(installed: Cluster, client: Client) -> AsyncIterator[Lab]:
    """A lab; its environments and sessions are deleted at the end."""
    async with secrets_manager(client, installed.kubeconfig) as copying:
        lab = Lab(client)
        lab.copying = copying
        yield lab
    for resource in (WORKSHOP_SESSIONS, WORKSHOP_ENVIRONMENTS, WORKSHOPS):
        for obj in (await client.list(resource))[0]:
            if obj["metadata"]["name"].startswith(lab.name):
                await client.delete(resource, "", obj["metadata"]["name"], obj["metadata"]["uid"])


@pytest.fixture
async def played(lab: Lab) -> AsyncIterator[Educates]:
    """Educates, sixty times as fast."""
    async with Educates(lab.client, lab.copying, timing=QUICK) as educates:
        yield educates


@pytest.fixture
async def kubelet(lab: Lab) -> AsyncIterator[Kubelet]:
    async with Kubelet(lab.client) as kubelet:
        yield kubelet


class TestVariables:
    def test_unknown_names_stay(self) -> None:
        assert substitute("$(known) $(unknown)", {"known": "a"}) == "a $(unknown)"

    def test_values_may_contain_variables(self) -> None:
        assert substitute("$(a)", {"a": "$(b)", "b": "c"}) == "c"

    def test_lookups_end_after_six_rounds(self) -> None:
        chain = {f"v{number}": f"$(v{number + 1})" for number in range(9)}
        assert substitute("$(v0)", chain) == "$(v6)"

    def test_a_value_that_is_wholly_base64_is_encoded(self) -> None:
        assert substitute("$(base64($(a)))", {"a": "text"}) == base64.b64encode(b"text").decode()

    def test_base64_amid_a_value_is_not(self) -> None:
        assert substitute("x $(base64(y))", {}) == "x $(base64(y))"

    def test_keys_are_left_alone(self) -> None:
        assert substitute({"$(a)": ["$(a)", 1, None]}, {"a": "b"}) == {"$(a)": ["b", 1, None]}


class TestBudget:
    @pytest.mark.parametrize("name", ["default", "custom", "unheard-of"])
    def test_no_limits_for(self, name: str) -> None:
        assert limits(name, {}, "n") == []

    def test_a_budget_is_a_limit_range_and_three_quotas(self) -> None:
        assert [obj["metadata"]["name"] for obj in limits("small", {}, "n")] == [
            "resource-limits",
            "compute-resources",
            "compute-resources-timebound",
            "object-counts",
        ]

    def test_a_workshop_may_override_limits_of_containers(self) -> None:
        pod, container, _ = limits("small", {"max": {"cpu": "3"}}, "n")[0]["spec"]["limits"]
        assert (pod["max"]["cpu"], container["max"]) == ("1", {"cpu": "3", "memory": "1Gi"})

    def test_limits(self) -> None:
        total = {"cpu": "4", "memory": "4Gi"}
        bounds = {"min": {"cpu": "1m", "memory": "1M"}, "max": total}
        defaults = {"default": {"cpu": "500m", "memory": "512Mi"}, "defaultRequest": {"cpu": "50m", "memory": "128Mi"}}
        quota = {"hard": {"limits.cpu": "4", "limits.memory": "4Gi"}}
        counts = {"persistentvolumeclaims": "12", "replicationcontrollers": "25", "secrets": "35", "services": "20"}
        assert [obj["spec"] for obj in limits("large", {}, "n")] == [
            {
                "limits": [
                    {"type": "Pod"} | bounds,
                    {"type": "Container"} | bounds | defaults,
                    {"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "10Gi"}},
                ]
            },
            quota | {"scopes": ["NotTerminating"]},
            quota | {"scopes": ["Terminating"]},
            {"hard": counts},
        ]


def test_schema_files_are_current() -> None:
    assert drifted() == {}


@pytest.mark.cluster
class TestKinds:
    def test_our_definitions_are_accepted(self, installed: Cluster) -> None:
        answer = installed.kubectl(
            "apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", str(SCHEMAS)
        )
        assert answer.stdout.count("serverside-applied") == len(list(SCHEMAS.glob("*.yaml")))

    async def test_status_is_no_subresource(self, lab: Lab, played: Educates) -> None:
        await lab.workshop()
        await lab.environment()
        await lab.environment_is("Running")
        with pytest.raises(NotFound):
            await played.patch(WORKSHOP_ENVIRONMENTS, "", lab.name, {"status": {"x": "y"}}, "status")

    async def test_session_roles_do_not_reach_network_policies(self, lab: Lab) -> None:
        for role in ("view", "edit", "admin"):
            found = await lab.client.request(
                "GET", f"/apis/rbac.authorization.k8s.io/v1/clusterroles/educates-{role}-session-role"
            )
            resources = {name for rule in found["rules"] for name in rule["resources"]}
            assert "ingresses" in resources
            assert "networkpolicies" not in resources


@pytest.mark.cluster
class TestEnvironment:
    async def test_runs_with_a_copy_of_the_workshop(self, lab: Lab, played: Educates) -> None:
        workshop = await lab.workshop(environment={"objects": [config_map("$(workshop_name)")]})
        await lab.environment()
        status = educates(await lab.environment_is("Running"))
        assert status["namespace"] == lab.name
        assert status["workshop"] == {
            "name": lab.name,
            "uid": workshop["metadata"]["uid"],
            "generation": 1,
            "spec": workshop["spec"],
        }

    async def test_runs_soon(self, lab: Lab) -> None:
        async with Educates(lab.client, lab.copying):
            await lab.workshop()
            await lab.environment()
            await lab.until(WORKSHOP_ENVIRONMENTS, "", lab.name, phase("Running"), seconds=3)

    async def test_owns_the_namespace(self, lab: Lab, played: Educates) -> None:
        await lab.workshop()
        environment = await lab.environment()
        await lab.environment_is("Running")
        owners = (await lab.client.get(NAMESPACES, "", lab.name))["metadata"]["ownerReferences"]
        assert [owner["uid"] for owner in owners] == [environment["metadata"]["uid"]]

    async def test_labels_the_namespace(self, lab: Lab, played: Educates) -> None:
        await lab.workshop()
        environment = await lab.environment()
        await lab.environment_is("Running")
        assert (await lab.client.get(NAMESPACES, "", lab.name))["metadata"]["labels"] == {
            "kubernetes.io/metadata.name": lab.name,
            f"{LABEL}/component": "environment",
            f"{LABEL}/workshop.name": lab.name,
            f"{LABEL}/portal.name": "",
            f"{LABEL}/portal.uid": "",
            f"{LABEL}/environment.name": lab.name,
            f"{LABEL}/environment.uid": environment["metadata"]["uid"],
            f"{LABEL}/policy.engine": "pod-security-standards",
            f"{LABEL}/policy.name": "privileged",
            "pod-security.kubernetes.io/enforce": "privileged",
        }

    async def test_makes_four_secret_copiers_owned_by_the_namespace(self, lab: Lab, played: Educates) -> None:
        await lab.workshop()
        await lab.environment()
        await lab.environment_is("Running")
        namespace = await lab.client.get(NAMESPACES, "", lab.name)
        for kind in ("ingress-secret", "workshop-secrets", "environment-secrets", "website-theme"):
            copier = await lab.client.get(SECRET_COPIERS, "", f"educates-{kind}-{lab.name}")
            assert copier["metadata"]["ownerReferences"][0]["uid"] == namespace["metadata"]["uid"]

    async def test_makes_its_service_account_and_cluster_role(self, lab: Lab, played: Educates) -> None:
        await lab.workshop()
        await lab.environment()
        await lab.environment_is("Running")
        await lab.here(SERVICE_ACCOUNTS, "educates-services")
        role = f"/apis/rbac.authorization.k8s.io/v1/clusterroles/educates-web-console-{lab.name}"
        assert (await lab.client.request("GET", role))["metadata"]["ownerReferences"][0]["kind"] == "Namespace"

    async def test_configures_downloads(self, lab: Lab, played: Educates) -> None:
        files = [{"git": {"url": "https://example.org/a"}}, {"http": {"url": "https://example.org/b"}}]
        packages = [{"name": "tool", "files": [{"image": {"url": "example.org/tool"}}]}]
        await lab.workshop(workshop={"files": files, "packages": packages})
        await lab.environment()
        await lab.environment_is("Running")
        config = (await lab.here(SECRETS, "workshop-config"))["data"]
        assert set(config) == {
            "workshop.yaml",
            "vendir-assets-01.yaml",
            "vendir-assets-02.yaml",
            "vendir-packages.yaml",
        }
        assert b"/opt/packages/tool" in base64.b64decode(config["vendir-packages.yaml"])

    async def test_objects_go_to_its_namespace_with_variables_filled_in(self, lab: Lab, played: Educates) -> None:
        listed = config_map("listed") | {"data": {"domain": "$(ingress_domain)", "unknown": "$(unknown)"}}
        await lab.workshop(environment={"objects": [listed]})
        await lab.environment()
        await lab.environment_is("Running")
        assert (await lab.here(CONFIG_MAPS, "listed"))["data"] == {
            "domain": "lab.example.org",
            "unknown": "$(unknown)",
        }

    async def test_objects_inherit_the_labels_of_the_namespace(self, lab: Lab, played: Educates) -> None:
        await lab.workshop(environment={"objects": [config_map("listed")]})
        await lab.environment()
        await lab.environment_is("Running")
        namespace = await lab.client.get(NAMESPACES, "", lab.name)
        assert (await lab.here(CONFIG_MAPS, "listed"))["metadata"]["labels"] == namespace["metadata"]["labels"]

    async def test_its_own_objects_are_made_too(self, lab: Lab, played: Educates) -> None:
        await lab.workshop()
        await lab.environment(environment={"objects": [config_map("own")]})
        await lab.environment_is("Running")
        await lab.here(CONFIG_MAPS, "own")

    async def test_a_missing_workshop_makes_it_pending(self, lab: Lab) -> None:
        async with Educates(lab.client, lab.copying):
            await lab.environment()
            status = educates(await lab.environment_is("Pending"))
        assert status["message"] == f"Workshop {lab.name} is not available."

    async def test_a_workshop_that_comes_is_found_at_the_next_try(self, lab: Lab, played: Educates) -> None:
        await lab.environment()
        await lab.environment_is("Pending")
        await lab.workshop()
        assert "message" not in educates(await lab.environment_is("Running"))

    async def test_a_workshop_that_comes_is_not_noticed_earlier(self, lab: Lab) -> None:
        async with Educates(lab.client, lab.copying):
            await lab.environment()
            await lab.environment_is("Pending")
            await lab.workshop()
            await lab.sentinel()
            assert educates(await lab.client.get(WORKSHOP_ENVIRONMENTS, "", lab.name))["phase"] == "Pending"

    async def test_a_missing_workshop_makes_it_fail_for_good(self, lab: Lab, played: Educates) -> None:
        await lab.environment()
        failed = await lab.environment_is("Failed")
        assert educates(failed)["message"] == f"Workshop {lab.name} is not available."
        assert LAST_HANDLED in failed["metadata"]["annotations"]

    async def test_a_foreign_namespace_makes_it_pending_then_failed(self, lab: Lab, played: Educates) -> None:
        await lab.namespace(lab.name)
        await lab.workshop()
        await lab.environment()
        message = f"Namespace {lab.name} already exists."
        assert educates(await lab.environment_is("Pending"))["message"] == message
        assert educates(await lab.environment_is("Failed"))["message"] == message
        assert await lab.read(SECRETS, lab.name, "workshop-config") is None

    @pytest.mark.parametrize(
        "obj",
        [
            pytest.param(config_map("Not-A-Name"), id="an invalid name"),
            pytest.param({"apiVersion": "v1", "kind": "Nonsense", "metadata": {"name": "x"}}, id="an unknown kind"),
            pytest.param({"apiVersion": "no.group/v1", "kind": "X", "metadata": {"name": "x"}}, id="an unknown group"),
            pytest.param({"apiVersion": "v1", "kind": "ConfigMap"}, id="no metadata"),
            pytest.param({"metadata": {"name": "x"}}, id="no kind"),
            pytest.param(config_map("x", namespace="absent"), id="an absent namespace"),
        ],
    )
    async def test_a_refused_object_makes_it_fail_for_good(self, lab: Lab, played: Educates, obj: Manifest) -> None:
        await lab.workshop(environment={"objects": [obj]})
        await lab.environment()
        failed = await lab.environment_is("Failed")
        assert str(obj.get("kind")) in educates(failed)["message"]
        assert LAST_HANDLED in failed["metadata"]["annotations"]

    async def test_every_status_raises_the_generation(self, lab: Lab, played: Educates) -> None:
        await lab.environment()
        await lab.environment_is("Pending")
        await lab.workshop()
        assert (await lab.environment_is("Running"))["metadata"]["generation"] > 2

    async def test_kopf_keeps_its_progress_in_status(self, lab: Lab, played: Educates) -> None:
        await lab.environment()
        pending = await lab.environment_is("Pending")
        assert "workshopenvironment_create" in pending["status"]["kopf"]["progress"]

    async def test_writes_under_a_manager_of_its_own(self, lab: Lab, played: Educates) -> None:
        await lab.workshop()
        await lab.environment()
        running = await lab.environment_is("Running")
        assert "session-manager" in {entry["manager"] for entry in running["metadata"]["managedFields"]}

    async def test_edits_change_nothing(self, lab: Lab, played: Educates) -> None:
        await lab.workshop()
        await lab.environment()
        before = educates(await lab.environment_is("Running"))
        added = {"spec": {"environment": {"objects": [config_map("added")]}}}
        await lab.client.patch(WORKSHOPS, "", lab.name, added)
        await lab.client.patch(WORKSHOP_ENVIRONMENTS, "", lab.name, added)
        await lab.sentinel()
        assert await lab.read(CONFIG_MAPS, lab.name, "added") is None
        assert educates(await lab.client.get(WORKSHOP_ENVIRONMENTS, "", lab.name)) == before

    async def test_deleted_and_edited_children_are_left_so(self, lab: Lab, played: Educates) -> None:
        await lab.workshop(environment={"objects": [config_map("one"), config_map("two")]})
        await lab.environment()
        await lab.environment_is("Running")
        await lab.delete(CONFIG_MAPS, lab.name, "one")
        await lab.client.patch(CONFIG_MAPS, lab.name, "two", {"data": {"key": "edited"}})
        await lab.sentinel()
        assert await lab.read(CONFIG_MAPS, lab.name, "one") is None
        assert (await lab.here(CONFIG_MAPS, "two"))["data"] == {"key": "edited"}

    async def test_what_was_created_while_it_was_down_is_handled(self, lab: Lab) -> None:
        await lab.workshop()
        await lab.environment()
        async with Educates(lab.client, lab.copying, timing=QUICK):
            await lab.environment_is("Running")

    async def test_what_was_finished_before_a_restart_is_not_handled_again(self, lab: Lab) -> None:
        await lab.workshop(environment={"objects": [config_map("listed")]})
        await lab.environment()
        async with Educates(lab.client, lab.copying, timing=QUICK):
            before = await lab.environment_is("Running")
        await lab.delete(CONFIG_MAPS, lab.name, "listed")
        async with Educates(lab.client, lab.copying, timing=QUICK):
            await lab.sentinel()
        after = await lab.client.get(WORKSHOP_ENVIRONMENTS, "", lab.name)
        assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
        assert await lab.read(CONFIG_MAPS, lab.name, "listed") is None

    async def test_the_age_of_a_pending_one_counts_over_a_restart(self, lab: Lab) -> None:
        async with Educates(lab.client, lab.copying):
            await lab.environment()
            began = (await lab.environment_is("Pending"))["status"]["kopf"]["progress"]
        async with Educates(lab.client, lab.copying, timing=QUICK):
            again = (await lab.client.get(WORKSHOP_ENVIRONMENTS, "", lab.name))["status"]["kopf"]["progress"]
        handler = "workshopenvironment_create"
        assert again[handler]["started"] == began[handler]["started"]


@pytest.mark.cluster
class TestSession:
    async def test_runs_with_its_url(self, lab: Lab, played: Educates) -> None:
        assert educates(await lab.running()) == {
            "phase": "Running",
            "url": f"https://{lab.name}-s.lab.example.org",
            "sshd": {"enabled": False, "tunnel": {"enabled": False}},
        }

    async def test_runs_soon(self, lab: Lab) -> None:
        async with Educates(lab.client, lab.copying):
            await lab.workshop()
            await lab.environment()
            await lab.environment_is("Running")
            await lab.session()
            await lab.until(WORKSHOP_SESSIONS, "", f"{lab.name}-s", phase("Running"), seconds=3)

    async def test_owns_its_namespace(self, lab: Lab, played: Educates) -> None:
        session = await lab.running()
        namespace = await lab.client.get(NAMESPACES, "", f"{lab.name}-s")
        assert [o["uid"] for o in namespace["metadata"]["ownerReferences"]] == [session["metadata"]["uid"]]
        assert namespace["metadata"]["labels"][f"{LABEL}/component"] == "session"
        assert namespace["metadata"]["labels"][f"{LABEL}/session.name"] == f"{lab.name}-s"

    async def test_its_runtime_is_in_the_workshop_namespace_owned_by_its_own(self, lab: Lab, played: Educates) -> None:
        await lab.running()
        namespace = await lab.client.get(NAMESPACES, "", f"{lab.name}-s")
        for resource in (DEPLOYMENTS, SERVICES, INGRESSES, SERVICE_ACCOUNTS):
            found = await lab.here(resource, f"{lab.name}-s")
            assert found["metadata"]["ownerReferences"][0]["uid"] == namespace["metadata"]["uid"]

    async def test_its_service_leads_to_the_gateway(self, lab: Lab, played: Educates) -> None:
        await lab.running()
        port = (await lab.here(SERVICES, f"{lab.name}-s"))["spec"]["ports"][0]
        assert (port["port"], port["targetPort"]) == (80, 10080)

    @pytest.mark.parametrize("suffix", ["-token", "-session", "-ssh-keys"])
    async def test_has_secret(self, lab: Lab, played: Educates, suffix: str) -> None:
        await lab.running()
        await lab.here(SECRETS, f"{lab.name}-s{suffix}")

    async def test_the_registry_ingress_has_no_class(self, lab: Lab, played: Educates) -> None:
        await lab.running(session={"applications": {"registry": {"enabled": True}}})
        ingress = await lab.here(INGRESSES, f"{lab.name}-s-registry")
        assert "ingressClassName" not in ingress["spec"]
        assert ingress["metadata"]["labels"][f"{LABEL}/application"] == "registry"
        assert ingress["spec"]["rules"][0]["host"] == f"registry-{lab.name}-s.lab.example.org"
        assert ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"] == "512m"

    async def test_a_registry_is_five_objects_and_a_pull_secret(self, lab: Lab, played: Educates) -> None:
        await lab.running(session={"applications": {"registry": {"enabled": True}}})
        for resource in (DEPLOYMENTS, SERVICES, INGRESSES, VOLUME_CLAIMS, CONFIG_MAPS):
            await lab.here(resource, f"{lab.name}-s-registry")
        await lab.client.get(SECRETS, f"{lab.name}-s", "educates-registry-credentials")

    async def test_hosts_come_in_order(self, lab: Lab, played: Educates) -> None:
        applications = {"console": {"enabled": True}, "editor": {"enabled": True}}
        await lab.running(session={"applications": applications, "ingresses": [{"name": "data", "port": 8888}]})
        rules = (await lab.here(INGRESSES, f"{lab.name}-s"))["spec"]["rules"]
        main = f"{lab.name}-s"
        assert [rule["host"].removesuffix(".lab.example.org") for rule in rules] == [
            main,
            *(f"console-{main}", f"{main}-console"),
            *(f"editor-{main}", f"{main}-editor"),
            *(f"data-{main}", f"{main}-data"),
        ]

    async def test_the_ingress_has_class_annotations_and_labels(self, lab: Lab, played: Educates) -> None:
        await lab.running()
        ingress = await lab.here(INGRESSES, f"{lab.name}-s")
        assert ingress["spec"]["ingressClassName"] == "nginx"
        assert "tls" not in ingress["spec"]
        nginx = "nginx.ingress.kubernetes.io"
        assert ingress["metadata"]["annotations"] == {
            f"{nginx}/enable-cors": "true",
            f"{nginx}/proxy-send-timeout": "3600",
            f"{nginx}/proxy-read-timeout": "3600",
            f"{nginx}/ssl-redirect": "true",
            f"{nginx}/force-ssl-redirect": "true",
            "ingress.kubernetes.io/force-ssl-redirect": "true",
            "projectcontour.io/websocket-routes": "/",
            "projectcontour.io/response-timeout": "3600s",
        }
        labels = ingress["metadata"]["labels"]
        assert labels[f"{LABEL}/component"] == "session"
        assert labels[f"{LABEL}/application"] == "workshop"
        assert labels["kubernetes.io/metadata.name"] == f"{lab.name}-s"
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"

    async def test_one_tls_entry_lists_all_hosts(self, lab: Lab) -> None:
        await lab.secret("educates", lab.name, **{"tls.crt": "x", "tls.key": "y"})
        async with Educates(lab.client, lab.copying, ingress_secret=lab.name, timing=QUICK):
            await lab.running(session={"ingresses": [{"name": "data"}]})
        spec = (await lab.here(INGRESSES, f"{lab.name}-s"))["spec"]
        assert spec["tls"] == [{"hosts": [rule["host"] for rule in spec["rules"]], "secretName": lab.name}]

    async def test_the_pod_is_marked(self, lab: Lab, played: Educates) -> None:
        await lab.running(session={"applications": {"editor": {"enabled": True}, "terminal": {"enabled": False}}})
        deployment = await lab.here(DEPLOYMENTS, f"{lab.name}-s")
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert labels["deployment"] == f"{lab.name}-s"
        assert labels[f"{LABEL}/application"] == "workshop"
        assert labels[f"{LABEL}/session.applications.editor"] == "true"
        assert f"{LABEL}/session.applications.terminal" not in labels

    @pytest.mark.parametrize(
        ("login", "env"),
        [
            pytest.param({"username": "joe", "password": "x"}, {"AUTH_USERNAME": "joe", "AUTH_PASSWORD": "x"}, id="a"),
            pytest.param({"username": "*", "password": ""}, {}, id="a star turns it off"),
            pytest.param({"username": "", "password": "x"}, {}, id="an empty name is none"),
            pytest.param({}, {}, id="none"),
        ],
    )
    async def test_login(self, lab: Lab, played: Educates, login: dict[str, Any], env: dict[str, str]) -> None:
        await lab.workshop()
        await lab.environment()
        await lab.environment_is("Running")
        await lab.session(**login)
        await lab.session_is("Running")
        found = {entry["name"]: entry.get("value") for entry in (await lab.pod())["containers"][0]["env"]}
        assert {name: value for name, value in found.items() if name.startswith("AUTH_")} == env

    async def test_its_variables_win_over_the_workshops(self, lab: Lab, played: Educates) -> None:
        await lab.workshop(session={"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "$(session_id)"}]})
        await lab.environment()
        await lab.environment_is("Running")
        await lab.session(env=[{"name": "A", "value": "2"}])
        await lab.session_is("Running")
        found = {entry["name"]: entry.get("value") for entry in (await lab.pod())["containers"][0]["env"]}
        assert (found["A"], found["B"]) == ("2", "s")

    async def test_a_named_volume_is_the_home_and_storage_is_ignored(self, lab: Lab, played: Educates) -> None:
        volume = {"name": "$(session_name)-persistent"}
        await lab.running(session={"resources": {"volume": volume, "storage": "1Gi"}})
        claims = [v["persistentVolumeClaim"] for v in (await lab.pod())["volumes"] if "persistentVolumeClaim" in v]
        assert claims == [{"claimName": f"{lab.name}-s-persistent"}]
        assert await lab.read(VOLUME_CLAIMS, lab.name, f"{lab.name}-s") is None

    async def test_storage_makes_a_claim_owned_by_the_session(self, lab: Lab, played: Educates) -> None:
        await lab.running(session={"resources": {"storage": "1Gi"}})
        claim = await lab.here(VOLUME_CLAIMS, f"{lab.name}-s")
        assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
        assert claim["metadata"]["ownerReferences"][0]["name"] == f"{lab.name}-s"

    @pytest.mark.parametrize(
        ("application", "memory"),
        [pytest.param({}, "512Mi", id="alone"), pytest.param({"editor": {"enabled": True}}, "1Gi", id="with editor")],
    )
    async def test_default_memory(self, lab: Lab, played: Educates, application: Manifest, memory: str) -> None:
        await lab.running(session={"applications": application})
        resources = (await lab.pod())["containers"][0]["resources"]
        assert resources == {"requests": {"memory": memory}, "limits": {"memory": memory}}

    async def test_docker_is_a_privileged_sidecar(self, lab: Lab, played: Educates) -> None:
        await lab.running(session={"applications": {"docker": {"enabled": True, "storage": "20Gi"}}})
        sidecar = (await lab.pod())["containers"][1]
        assert (sidecar["name"], sidecar["securityContext"]["privileged"]) == ("docker", True)
        claim = await lab.here(VOLUME_CLAIMS, f"{lab.name}-s-docker")
        assert claim["spec"]["resources"]["requests"]["storage"] == "20Gi"

    async def test_patches_merge_lists_by_name(self, lab: Lab, played: Educates) -> None:
        patches = {"containers": [{"name": "workshop", "tty": True}], "hostname": "box"}
        await lab.running(session={"patches": patches})
        pod = await lab.pod()
        assert (pod["hostname"], len(pod["containers"]), pod["containers"][0]["tty"]) == ("box", 1, True)
        assert pod["containers"][0]["image"]

    @pytest.mark.parametrize("role", ["admin", "edit", "view"])
    async def test_role(self, lab: Lab, played: Educates, role: str) -> None:
        await lab.running(session={"namespaces": {"role": role}})
        binding = await lab.client.get(ROLE_BINDINGS, f"{lab.name}-s", "educates-session-role")
        assert binding["roleRef"]["name"] == f"educates-{role}-session-role"
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": f"{lab.name}-s", "namespace": lab.name}]

    async def test_an_unknown_role_is_the_least(self, lab: Lab, played: Educates) -> None:
        await lab.running(session={"namespaces": {"role": "owner"}})
        binding = await lab.client.get(ROLE_BINDINGS, f"{lab.name}-s", "educates-session-role")
        assert binding["roleRef"]["name"] == "educates-view-session-role"

    async def test_role_custom_binds_none(self, lab: Lab, played: Educates) -> None:
        await lab.running(session={"namespaces": {"role": "custom"}})
        assert await lab.read(ROLE_BINDINGS, f"{lab.name}-s", "educates-session-role") is None

    @pytest.mark.parametrize(
        ("policy", "enforced"),
        [(None, "restricted"), ("baseline", "baseline"), ("nonroot", "restricted"), ("custom", "privileged")],
    )
    async def test_policy(self, lab: Lab, played: Educates, policy: str | None, enforced: str) -> None:
        await lab.running(session={"namespaces": {"security": {"policy": policy} if policy else {}}})
        labels = (await lab.client.get(NAMESPACES, "", f"{lab.name}-s"))["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == enforced

    async def test_budget_limits_its_namespace_only(self, lab: Lab, played: Educates) -> None:
        await lab.running(session={"namespaces": {"budget": "medium"}})
        await lab.client.get(LIMIT_RANGES, f"{lab.name}-s", "resource-limits")
        counts = await lab.client.get(QUOTAS, f"{lab.name}-s", "object-counts")
        assert counts["spec"]["hard"] == {
            "persistentvolumeclaims": "6",
            "replicationcontrollers": "15",
            "secrets": "25",
            "services": "10",
        }
        assert counts["status"]["used"]["services"] == "0"  # counted, so that nothing is refused for want of it
        assert (await lab.client.list(QUOTAS, lab.name))[0] == []

    @pytest.mark.parametrize(("enabled", "mounted"), [(True, True), (False, False)])
    async def test_token(self, lab: Lab, played: Educates, enabled: bool, mounted: bool) -> None:
        await lab.running(session={"namespaces": {"security": {"token": {"enabled": enabled}}}})
        names = {volume["name"] for volume in (await lab.pod())["volumes"]}
        assert ("token" in names) is mounted

    async def test_a_vcluster_has_a_namespace_and_a_kubeconfig(self, lab: Lab, played: Educates) -> None:
        inside = config_map("inside", namespace="$(session_namespace)-vc")
        vcluster = {"vcluster": {"enabled": True, "version": "1.34"}}
        await lab.running(session={"applications": vcluster, "objects": [inside]})
        namespace = await lab.client.get(NAMESPACES, "", f"{lab.name}-s-vc")
        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "baseline"
        await lab.client.get(CONFIG_MAPS, f"{lab.name}-s-vc", "inside")
        await lab.until(SECRETS, lab.name, f"{lab.name}-s-vc-kubeconfig", lambda _: True)
        volumes = {volume["name"] for volume in (await lab.pod())["volumes"]}
        assert "kubeconfig" in volumes
        assert "token" not in volumes

    async def test_objects_default_to_its_own_namespace(self, lab: Lab, played: Educates) -> None:
        listed = config_map("listed") | {"data": {"url": "$(session_url)"}}
        await lab.running(session={"objects": [listed]})
        found = await lab.client.get(CONFIG_MAPS, f"{lab.name}-s", "listed")
        assert found["data"] == {"url": f"https://{lab.name}-s.lab.example.org"}
        assert found["metadata"]["ownerReferences"][0]["kind"] == "Namespace"

    async def test_a_portal_label_leaves_the_phase_to_the_portal(self, lab: Lab, played: Educates) -> None:
        await lab.workshop()
        await lab.environment()
        await lab.environment_is("Running")
        await lab.session(metadata={"labels": {f"{LABEL}/portal.name": "portal"}})
        found = await lab.until(WORKSHOP_SESSIONS, "", f"{lab.name}-s", lambda obj: educates(obj).get("url"))
        assert "phase" not in educates(found)

    async def test_waits_for_its_environment_without_a_message(self, lab: Lab, played: Educates) -> None:
        await lab.session()
        assert educates(await lab.session_is("Pending")) == {"phase": "Pending"}
        await lab.workshop()
        await lab.environment()
        await lab.session_is("Running")

    async def test_waits_for_an_environment_that_is_not_running(self, lab: Lab, played: Educates) -> None:
        await lab.environment()
        await lab.environment_is("Pending")
        await lab.session()
        await lab.session_is("Pending")
        assert await lab.read(NAMESPACES, "", f"{lab.name}-s") is None

    async def test_waits_for_a_secret_without_a_message(self, lab: Lab, played: Educates) -> None:
        await lab.workshop(environment={"secrets": [{"name": "wanted", "namespace": f"{lab.name}-src"}]})
        await lab.environment()
        await lab.environment_is("Running")
        await lab.session()
        assert educates(await lab.session_is("Pending")) == {"phase": "Pending"}
        await lab.namespace(f"{lab.name}-src")
        await lab.secret(f"{lab.name}-src", "wanted", key="value")
        await lab.session_is("Running")

    async def test_waits_while_its_namespace_exists(self, lab: Lab, played: Educates) -> None:
        await lab.workshop()
        await lab.environment()
        await lab.environment_is("Running")
        await lab.namespace(f"{lab.name}-s")
        await lab.session()
        assert educates(await lab.session_is("Pending")) == {"phase": "Pending"}
        await lab.delete(NAMESPACES, "", f"{lab.name}-s")
        await lab.session_is("Running")

    async def test_a_refused_object_makes_it_fail_for_good(self, lab: Lab, played: Educates) -> None:
        await lab.workshop(session={"objects": [config_map("Not-A-Name")]})
        await lab.environment()
        await lab.environment_is("Running")
        await lab.session()
        failed = await lab.session_is("Failed")
        assert "ConfigMap Not-A-Name" in educates(failed)["message"]
        assert LAST_HANDLED in failed["metadata"]["annotations"]

    async def test_a_leftover_vcluster_namespace_makes_it_fail_for_good(self, lab: Lab, played: Educates) -> None:
        await lab.workshop(session={"applications": {"vcluster": {"enabled": True}}})
        await lab.environment()
        await lab.environment_is("Running")
        await lab.namespace(f"{lab.name}-s-vc")
        await lab.session()
        failed = await lab.session_is("Failed")
        assert f"Namespace {lab.name}-s-vc" in educates(failed)["message"]
        assert LAST_HANDLED in failed["metadata"]["annotations"]

    @pytest.mark.parametrize("kind", ["Deployment", "Service", "Ingress"])
    async def test_a_refused_runtime_wedges_it(self, lab: Lab, played: Educates, kind: str) -> None:
        await lab.workshop()
        await lab.environment()
        await lab.environment_is("Running")
        container = {"name": "c", "image": "i"}
        template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container]}}
        version, spec = {
            "Deployment": ("apps/v1", {"selector": {"matchLabels": {"a": "b"}}, "template": template}),
            "Service": ("v1", {"ports": [{"port": 80}]}),
            "Ingress": ("networking.k8s.io/v1", {"rules": [{"host": "a.example.org"}]}),
        }[kind]
        metadata = {"name": f"{lab.name}-s", "namespace": lab.name}
        await played.create({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec})
        await lab.session()
        failed = await lab.session_is("Failed")
        assert "message" not in educates(failed)
        pending = await lab.session_is("Pending")
        assert "message" not in educates(pending)
        assert LAST_HANDLED not in (pending["metadata"].get("annotations") or {})

    async def test_reads_the_workshop_from_the_environment(self, lab: Lab, played: Educates) -> None:
        await lab.workshop(session={"objects": [config_map("old")]})
        await lab.environment()
        await lab.environment_is("Running")
        await lab.client.patch(WORKSHOPS, "", lab.name, {"spec": {"session": {"objects": [config_map("new")]}}})
        await lab.session()
        await lab.session_is("Running")
        await lab.client.get(CONFIG_MAPS, f"{lab.name}-s", "old")
        assert await lab.read(CONFIG_MAPS, f"{lab.name}-s", "new") is None

    async def test_a_changed_copy_reaches_the_next_session(self, lab: Lab, played: Educates) -> None:
        await lab.running()
        copy = {"title": "x", "description": "y", "session": {"objects": [config_map("new")]}}
        operation = {"op": "replace", "path": "/status/educates/workshop/spec", "value": copy}
        await lab.client.patch(WORKSHOP_ENVIRONMENTS, "", lab.name, [operation], "application/json-patch+json")
        await lab.session("t")
        await lab.session_is("Running", "t")
        await lab.client.get(CONFIG_MAPS, f"{lab.name}-t", "new")
        assert await lab.read(CONFIG_MAPS, f"{lab.name}-s", "new") is None


@pytest.mark.cluster
class TestSecretCopying:
    @pytest.fixture
    async def source(self, lab: Lab, played: Educates) -> Lab:
        """A running environment with a copied Secret `wanted`."""
        await lab.namespace(f"{lab.name}-src")
        await lab.secret(f"{lab.name}-src", "wanted", key="one")
        secrets = [{"name": "wanted", "namespace": f"{lab.name}-src"}]
        await lab.workshop(environment={"secrets": secrets})
        await lab.environment()
        await lab.environment_is("Running")
        await lab.until(SECRETS, lab.name, "wanted", lambda _: True)
        return lab

    async def test_it_is_done_by_an_account_that_may_do_nothing_else(self, source: Lab, installed: Cluster) -> None:
        """Policies tell it from the one that makes sessions."""
        entries = [json.loads(line) for line in installed.audit_log.read_bytes().splitlines() if b'"secrets"' in line]
        copied = ("create", source.name, "wanted")
        of = [(entry["verb"], *map(entry["objectRef"].get, ("namespace", "name"))) for entry in entries]
        by = {entry["user"]["username"] for entry, what in zip(entries, of, strict=True) if what == copied}
        assert by == {"system:serviceaccount:educates:secrets-manager"}
        with pytest.raises(Denied):
            await source.copying.list(WORKSHOP_SESSIONS)

    async def test_a_change_arrives(self, source: Lab) -> None:
        await source.client.patch(SECRETS, f"{source.name}-src", "wanted", {"data": {"key": "dHdv", "more": "eA=="}})
        await source.until(SECRETS, source.name, "wanted", lambda s: s["data"] == {"key": "dHdv", "more": "eA=="})

    async def test_a_removed_key_goes(self, source: Lab) -> None:
        await source.client.patch(SECRETS, f"{source.name}-src", "wanted", {"data": {"key": None, "other": "eA=="}})
        await source.until(SECRETS, source.name, "wanted", lambda s: s["data"] == {"other": "eA=="})

    async def test_a_deleted_copy_comes_back_with_the_timer(self, source: Lab) -> None:
        first = await source.here(SECRETS, "wanted")
        await source.delete(SECRETS, source.name, "wanted")
        again = await source.until(SECRETS, source.name, "wanted", lambda _: True)
        assert again["metadata"]["uid"] != first["metadata"]["uid"]

    async def test_the_copy_outlives_its_source(self, source: Lab) -> None:
        await source.delete(SECRETS, f"{source.name}-src", "wanted")
        await source.sentinel()
        await source.here(SECRETS, "wanted")

    @pytest.mark.parametrize(("marks", "kept"), [({COPIED_FROM: "else/where"}, {"own": "eA=="}), ({}, {"key": "b25l"})])
    async def test_a_copy_of_something_else_is_not_overwritten(
        self, lab: Lab, played: Educates, marks: dict[str, str], kept: dict[str, str]
    ) -> None:
        metadata = {"name": "wanted", "annotations": marks}
        own = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"own": "eA=="}}
        secrets = [{"name": "wanted", "namespace": f"{lab.name}-src"}]
        await lab.namespace(f"{lab.name}-src")
        await lab.workshop(environment={"objects": [own], "secrets": secrets})
        await lab.environment()
        await lab.environment_is("Running")
        await lab.secret(f"{lab.name}-src", "wanted", key="one")
        await lab.sentinel()
        await lab.until(SECRETS, lab.name, "wanted", lambda s: s["data"] == kept)

    async def test_an_edited_copier_copies_more(self, source: Lab) -> None:
        await source.secret(f"{source.name}-src", "second", key="two")
        copier = await source.client.get(SECRET_COPIERS, "", f"educates-workshop-secrets-{source.name}")
        rule = copier["spec"]["rules"][0]
        second = rule | {"sourceSecret": rule["sourceSecret"] | {"name": "second"}, "targetSecret": {}}
        rules = {"spec": {"rules": [rule, second]}}
        await source.client.patch(SECRET_COPIERS, "", copier["metadata"]["name"], rules)
        await source.until(SECRETS, source.name, "second", lambda _: True)


@pytest.mark.cluster
class TestDeletion:
    async def test_a_session_takes_its_runtime_along_but_not_our_claim(self, lab: Lab, played: Educates) -> None:
        await lab.running(session={"resources": {"volume": {"name": "$(session_name)-persistent"}}})
        metadata = {"name": f"{lab.name}-s-persistent", "namespace": lab.name}
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}
        await lab.client.create(VOLUME_CLAIMS, claim)
        await lab.delete(WORKSHOP_SESSIONS, "", f"{lab.name}-s")
        assert await lab.read(WORKSHOP_SESSIONS, "", f"{lab.name}-s") is None
        await lab.gone(NAMESPACES, "", f"{lab.name}-s")
        for resource in (DEPLOYMENTS, SERVICES, INGRESSES):
            await lab.gone(resource, lab.name, f"{lab.name}-s")
        await lab.here(VOLUME_CLAIMS, f"{lab.name}-s-persistent")

    async def test_an_environment_leaves_its_sessions_running_without_a_deployment(
        self, lab: Lab, played: Educates
    ) -> None:
        await lab.running()
        await lab.delete(WORKSHOP_ENVIRONMENTS, "", lab.name)
        await lab.gone(NAMESPACES, "", lab.name)
        assert educates(await lab.client.get(WORKSHOP_SESSIONS, "", f"{lab.name}-s"))["phase"] == "Running"
        assert await lab.read(NAMESPACES, "", f"{lab.name}-s") is not None
        assert await lab.read(DEPLOYMENTS, lab.name, f"{lab.name}-s") is None
        await lab.environment()
        await lab.environment_is("Running")
        assert await lab.read(DEPLOYMENTS, lab.name, f"{lab.name}-s") is None

    async def test_a_session_owned_by_its_environment_goes_with_it(self, lab: Lab, played: Educates) -> None:
        await lab.workshop()
        environment = await lab.environment()
        await lab.environment_is("Running")
        owner = {key: environment[key] for key in ("apiVersion", "kind")}
        owner |= {key: environment["metadata"][key] for key in ("name", "uid")}
        await lab.session(metadata={"ownerReferences": [owner]})
        await lab.session_is("Running")
        await lab.delete(WORKSHOP_ENVIRONMENTS, "", lab.name)
        await lab.gone(WORKSHOP_SESSIONS, "", f"{lab.name}-s")
        await lab.gone(NAMESPACES, "", f"{lab.name}-s")

    async def test_a_pending_session_that_is_deleted_is_forgotten(self, lab: Lab, played: Educates) -> None:
        await lab.session()
        await lab.session_is("Pending")
        await lab.delete(WORKSHOP_SESSIONS, "", f"{lab.name}-s")
        await lab.session(username="joe")
        assert educates(await lab.session_is("Pending")) == {"phase": "Pending"}


@pytest.mark.cluster
class TestKubelet:
    @pytest.fixture
    def place(self, namespace: str, installed: Cluster) -> str:
        """A namespace, in a cluster where Kubelet can run beside Educates."""
        return namespace

    def pod(self, namespace: str, **spec: Any) -> Manifest:
        metadata = {"name": "pod", "namespace": namespace, "annotations": spec.pop("annotations", {})}
        container = {"name": "c", "image": "i"} | spec.pop("container", {})
        pod = {"containers": [container], "terminationGracePeriodSeconds": 30} | spec
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod}

    def claim(self, namespace: str) -> Manifest:
        spec = {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "any",
            "resources": {"requests": {"storage": "1Gi"}},
        }
        metadata = {"name": "claim", "namespace": namespace}
        return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}

    async def ready_account(self, lab: Lab, namespace: str) -> None:
        await lab.until(SERVICE_ACCOUNTS, namespace, "default", lambda _: True)

    async def test_a_session_becomes_available(self, lab: Lab, played: Educates, kubelet: Kubelet) -> None:
        await lab.running(session={"resources": {"storage": "1Gi"}})
        await lab.until(
            DEPLOYMENTS, lab.name, f"{lab.name}-s", lambda d: d.get("status", {}).get("availableReplicas") == 1
        )

    async def test_a_claim_is_bound(self, lab: Lab, kubelet: Kubelet, place: str) -> None:
        await lab.client.create(VOLUME_CLAIMS, self.claim(place))
        bound = await lab.until(VOLUME_CLAIMS, place, "claim", lambda c: c["status"].get("phase") == "Bound")
        assert bound["status"]["capacity"] == {"storage": "1Gi"}

    @pytest.mark.parametrize(("policy", "stays"), [("Delete", False), ("Retain", True)])
    async def test_a_volume_goes_with_its_claim_unless_retained(
        self, lab: Lab, kubelet: Kubelet, place: str, policy: str, stays: bool
    ) -> None:
        await lab.client.create(VOLUME_CLAIMS, self.claim(place))
        bound = await lab.until(VOLUME_CLAIMS, place, "claim", lambda c: c["status"].get("phase") == "Bound")
        volume = bound["spec"]["volumeName"]
        await lab.client.patch(VOLUMES, "", volume, {"spec": {"persistentVolumeReclaimPolicy": policy}})
        await lab.delete(VOLUME_CLAIMS, place, "claim")
        if stays:
            await lab.until(VOLUMES, "", volume, lambda v: v["status"]["phase"] == "Released")
        else:
            await lab.gone(VOLUMES, "", volume, 20)

    async def test_a_pod_waits_for_its_claim(self, lab: Lab, kubelet: Kubelet, place: str) -> None:
        await self.ready_account(lab, place)
        volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "claim"}}]
        await lab.client.create(PODS, self.pod(place, volumes=volumes))
        waiting = await lab.until(PODS, place, "pod", lambda p: p["status"].get("conditions"))
        assert waiting["status"]["conditions"][0]["reason"] == "Unschedulable"
        await lab.client.create(VOLUME_CLAIMS, self.claim(place))
        await lab.until(PODS, place, "pod", lambda p: p["status"]["phase"] == "Running")

    async def test_a_pod_waits_for_its_secret(self, lab: Lab, kubelet: Kubelet, place: str) -> None:
        await self.ready_account(lab, place)
        await lab.client.create(PODS, self.pod(place, container={"envFrom": [{"secretRef": {"name": "late"}}]}))
        waiting = await lab.until(PODS, place, "pod", lambda p: p["status"].get("containerStatuses"))
        reason = waiting["status"]["containerStatuses"][0]["state"]["waiting"]["reason"]
        assert reason == "CreateContainerConfigError"
        await lab.secret(place, "late", key="value")
        await lab.until(PODS, place, "pod", lambda p: p["status"]["phase"] == "Running")

    async def test_an_annotated_pod_stays_pending(self, lab: Lab, kubelet: Kubelet, place: str) -> None:
        await self.ready_account(lab, place)
        await lab.client.create(PODS, self.pod(place, annotations={TROUBLE: "ImagePullBackOff"}))
        waiting = await lab.until(PODS, place, "pod", lambda p: p["status"].get("containerStatuses"))
        assert waiting["status"]["phase"] == "Pending"
        assert waiting["status"]["containerStatuses"][0]["state"] == {"waiting": {"reason": "ImagePullBackOff"}}

    async def test_trouble_may_be_a_function(self, lab: Lab, place: str) -> None:
        await self.ready_account(lab, place)

        def trouble(obj: Manifest) -> str | None:
            return "Unschedulable" if obj["metadata"]["namespace"] == place else None

        async with Kubelet(lab.client, trouble):
            await lab.client.create(VOLUME_CLAIMS, self.claim(place))
            await lab.client.create(PODS, self.pod(place))
            waiting = await lab.until(PODS, place, "pod", lambda p: p["status"].get("conditions"))
        assert "nodeName" not in waiting["spec"]
        claim = await lab.client.get(VOLUME_CLAIMS, place, "claim")
        assert claim["status"]["phase"] == "Pending"

    async def test_a_deleted_pod_is_finalised(self, lab: Lab, kubelet: Kubelet, place: str) -> None:
        await self.ready_account(lab, place)
        await lab.client.create(PODS, self.pod(place))
        await lab.until(PODS, place, "pod", lambda p: p["status"]["phase"] == "Running")
        await lab.client.request("DELETE", path(PODS, place, "pod"))
        await lab.gone(PODS, place, "pod", 10)
