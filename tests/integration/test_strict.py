"""The API server takes what is planned to the letter: nothing unknown, nothing refused, nothing kept otherwise."""

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings

from datalabd.api.crd import custom_resource_definitions
from datalabd.api.environment import EnvironmentConfig
from datalabd.api.meta import FIELD_MANAGER, Manifest
from datalabd.errors import KubeError, NotFound
from datalabd.kube.apply import agrees, describe
from datalabd.kube.client import APPLY_PATCH, Client, path
from datalabd.kube.resources import CRDS, NAMESPACES, Resource, resource_of
from datalabd.lab import Lab, environment_name, resolve
from hack.cluster import Cluster
from hack.deadlines import scaled
from hack.standins import install_crds, install_store_crds
from hack.standins.environment import Settings, variables
from hack.standins.session import Session
from hack.standins.variables import substitute
from tests.plan.test_properties import World
from tests.reference import SHARED
from tests.strategies import labs, stored

pytestmark = pytest.mark.cluster

SAMPLES = Path(__file__).resolve().parents[2] / "manifests" / "samples"
EXAMPLES = 50
SERVICES = Resource("v1", "services", "Service")
STRICT = {"fieldValidation": "Strict", "dryRun": "All", "fieldManager": FIELD_MANAGER}
AT_ONCE = 16


@pytest.fixture(scope="module", autouse=True)
def served(cluster: Cluster) -> None:
    """Every kind a lab consists of: the real definitions where they are at hand."""

    async def install() -> None:
        client = await Client.connect(str(cluster.kubeconfig))
        try:
            directory = SHARED / "crds" if SHARED.exists() else None
            await install_crds(client, directory)
            await install_store_crds(client, directory)
            for crd in custom_resource_definitions():
                try:
                    await client.get(CRDS, "", crd["metadata"]["name"])
                except NotFound:
                    await client.create(CRDS, crd)
        finally:
            await client.close()

    asyncio.run(install())
    cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", f"--timeout={scaled(60):.0f}s")


class Server:
    """The API server, asked what it thinks of objects. Nothing is stored.

    All stand in one namespace, so that no other need exist; the names of the others are asked about as well.
    """

    def __init__(self, client: Client, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def refusals(self, manifests: Iterable[Manifest], *, kept: bool = True) -> list[str]:
        """What is wrong with objects, each written both ways; with `kept`, also what it would keep otherwise."""
        found = await asyncio.gather(
            *(ask(manifest, kept) for manifest in unlike(manifests) for ask in (self._post, self._apply))
        )
        return sorted({refusal for refusal in found if refusal})

    async def refused_namespaces(self, names: Iterable[str]) -> list[str]:
        """What is wrong with these names of namespaces."""
        manifests = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in set(names)]
        found = await asyncio.gather(*(self._ask("POST", path(NAMESPACES), obj, kept=True) for obj in manifests))
        return [refusal for refusal in found if refusal]

    async def _post(self, manifest: Manifest, kept: bool) -> str:
        resource, placed = self._placed(manifest)
        return await self._ask("POST", path(resource, self._namespace), placed, kept=kept)

    async def _apply(self, manifest: Manifest, kept: bool) -> str:
        resource, placed = self._placed(manifest)
        return await self._ask(
            "PATCH",
            path(resource, self._namespace, placed["metadata"]["name"]),
            placed,
            kept=kept,
            params=STRICT | {"force": "true"},
            content_type=APPLY_PATCH,
        )

    def _placed(self, manifest: Manifest) -> tuple[Resource, Manifest]:
        resource = SERVICES if manifest["kind"] == "Service" else resource_of(manifest)
        place = {"namespace": self._namespace} if resource.namespaced else {}
        return resource, manifest | {"metadata": manifest["metadata"] | place}

    async def _ask(self, verb: str, where: str, manifest: Manifest, *, kept: bool, **options: Any) -> str:
        async with self._slots:
            try:
                answer = await self._client.request(verb, where, body=manifest, **({"params": STRICT} | options))
            except KubeError as error:
                return f"{verb} {manifest['kind']} {manifest['metadata']['name']}: {error}"
        return f"{verb} {describe(manifest)}: kept otherwise" if kept and not agrees(answer, manifest) else ""


def unlike(manifests: Iterable[Manifest]) -> list[Manifest]:
    """The objects, those that are the same but for their namespace once."""
    return list(
        {json.dumps(obj | {"metadata": obj["metadata"] | {"namespace": ""}}): obj for obj in manifests}.values()
    )


def settled(lab: Lab) -> World:
    """The world of a lab that is all there."""
    world = World(lab)
    world.settle()
    return world


def of_the_workshop(world: World) -> list[Manifest]:
    """What Educates makes from the Workshop for the environment and every session, variables filled in."""
    lab = world.lab
    environment = world.objects["WorkshopEnvironment", "", lab.name]
    spec = environment["status"]["educates"]["workshop"]["spec"]
    installation = Settings(domain=lab.environment.data.ingress.domain)
    known = variables(environment, lab.name, spec, installation)
    made = [substitute(obj, known) for obj in spec["environment"]["objects"]]
    for (kind, _, _), live in world.objects.items():
        if kind == "WorkshopSession":
            made += Session(live, environment, installation).substitute(spec["session"]["objects"])
    return made


def sample(name: str) -> Lab:
    """The lab of one of the sample claims."""
    environments = {
        manifest["metadata"]["name"]: EnvironmentConfig.parse(manifest)
        for manifest in yaml.safe_load_all((SAMPLES / "environment.yaml").read_text())
    }
    claim = yaml.safe_load((SAMPLES / f"{name}.yaml").read_text())
    claim["metadata"] |= {"uid": "claim-uid", "generation": 1}
    return resolve(stored(claim), environments[environment_name(claim)])


def drawn(count: int) -> list[Lab]:
    """Random labs, the same ones every time."""
    found: list[Lab] = []

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(labs())
    def draw(lab: Lab) -> None:
        found.append(lab)

    draw()
    return found


async def refusals(server: Server, lab: Lab) -> list[str]:
    """Everything the API server has against a lab."""
    world = settled(lab)
    spaces = {obj["metadata"]["namespace"] for obj in world.sent if "namespace" in obj["metadata"]} - {lab.namespace}
    return [
        *await server.refusals(world.sent),
        # Educates writes these once and for all; what the API server makes of them is not looked at again.
        *await server.refusals(of_the_workshop(world), kept=False),
        *await server.refused_namespaces(spaces),
    ]


@pytest.fixture
def server(client: Client, namespace: str) -> Server:
    """The API server, with a namespace for what it is asked about."""
    return Server(client, namespace)


@pytest.mark.parametrize("name", ["s-joe", "s-jeff", "s-jane", "s-john"])
async def test_samples_are_taken_as_they_are_planned(server: Server, name: str) -> None:
    found = await refusals(server, sample(name))
    assert not found, "\n".join(found)


async def test_random_labs_are_taken_as_they_are_planned(server: Server) -> None:
    found = [refusal for lab in drawn(EXAMPLES) for refusal in await refusals(server, lab)]
    assert not found, "\n".join(found)
