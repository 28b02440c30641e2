"""The provider of Storages is played: keys by principal, conditions, and their end with the Storage."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import yaml

from datalabd.api.meta import Manifest
from datalabd.api.storage import API_VERSION, KIND
from datalabd.errors import Invalid, NotFound
from datalabd.kube.client import Client
from datalabd.kube.resources import SECRETS, STORAGES, Resource
from datalabd.live import condition, text
from hack.deadlines import scaled
from hack.standins import StorageProvider, install_storage_crd, storage_crd
from hack.standins.statefulsets import values
from hack.standins.storage import NOT_READY
from tests.reference import shared

PATIENCE_SECONDS = 30.0


def test_the_definition_is_the_real_one() -> None:
    """But for descriptions: what it takes, refuses, fills in and keeps apart."""
    real = yaml.load(shared("crds/storages.pkg.internal.yaml").read_text(), Loader=yaml.CSafeLoader)
    assert _spec(storage_crd()) == _undescribed(_spec(real))


def _spec(crd: Manifest) -> Manifest:
    found: Manifest = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return found


def _undescribed(value: object) -> object:
    if isinstance(value, dict):
        return {key: _undescribed(item) for key, item in value.items() if key != "description"}
    return [_undescribed(item) for item in value] if isinstance(value, list) else value


def storage(name: str, namespace: str, **spec: object) -> Manifest:
    """A Storage with one bucket."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"principal": name, "buckets": [{"bucketName": name}]} | spec,
    }


@pytest.fixture
async def played(client: Client) -> AsyncIterator[None]:
    """Storages are provided for."""
    await install_storage_crd(client)
    async with StorageProvider(client):
        yield


async def until(
    client: Client, resource: Resource, namespace: str, name: str, holds: Callable[[Manifest | None], bool]
) -> Manifest | None:
    """The object, None if it is absent, once that holds."""
    async with asyncio.timeout(scaled(PATIENCE_SECONDS)):
        while True:
            try:
                live: Manifest | None = await client.get(resource, namespace, name)
            except NotFound:
                live = None
            if holds(live):
                return live
            await asyncio.sleep(0.05)


def is_ready(live: Manifest | None) -> bool:
    """Whether a Storage says so."""
    return text(condition(live, "Ready", "status"), "status") == "True"


@pytest.mark.cluster
@pytest.mark.usefixtures("played")
async def test_a_storage_gets_keys_and_conditions_and_takes_the_keys_along(client: Client, namespace: str) -> None:
    await client.create(STORAGES, storage("joe", namespace, principal="joe-p"))
    live = await until(client, STORAGES, namespace, "joe", is_ready)
    keys = values(await client.get(SECRETS, namespace, "joe-p"))
    assert keys == {
        "AWS_ACCESS_KEY_ID": "joe-p-1",
        "AWS_SECRET_ACCESS_KEY": keys["AWS_SECRET_ACCESS_KEY"],
        "AWS_ENDPOINT_URL": "https://s3.example.org",
        "AWS_REGION": "eu-central-1",
        "AWS_S3_FORCE_PATH_STYLE": "true",
    }
    assert text(condition(live, "Synced", "status"), "status") == "True"

    await client.patch(STORAGES, namespace, "joe", {"spec": {"buckets": []}})
    await client.patch(SECRETS, namespace, "joe-p", {"data": {"AWS_REGION": None}})
    await until(client, SECRETS, namespace, "joe-p", lambda secret: values(secret or {}) == keys)

    await client.request("DELETE", f"/apis/{API_VERSION}/namespaces/{namespace}/storages/joe")
    await until(client, SECRETS, namespace, "joe-p", lambda secret: secret is None)


@pytest.mark.cluster
@pytest.mark.usefixtures("played")
async def test_a_storage_in_trouble_gets_no_keys(client: Client, namespace: str) -> None:
    wanted = storage("ann", namespace)
    wanted["metadata"]["annotations"] = {NOT_READY: "the backend is away"}
    await client.create(STORAGES, wanted)
    live = await until(client, STORAGES, namespace, "ann", lambda live: bool(condition(live, "Ready", "status")))
    said = condition(live, "Ready", "status")
    assert (said["status"], said["message"]) == ("False", "the backend is away")
    with pytest.raises(NotFound):
        await client.get(SECRETS, namespace, "ann")


@pytest.mark.cluster
async def test_the_definition_refuses_what_the_real_one_does(client: Client, namespace: str) -> None:
    await install_storage_crd(client)
    rule = {"target": "tmp/*", "mode": "Delete", "minAge": "1d", "at": "2026-01-01T00:00:00Z"}
    with pytest.raises(Invalid, match="exactly one of minAge or at") as caught:
        await client.create(
            STORAGES, storage("ben", namespace, buckets=[{"bucketName": "ben", "lifecycleRules": [rule]}])
        )
    assert [field for field, _ in caught.value.causes] == ["spec.buckets[0].lifecycleRules[0]"]
