"""The provider of Storages is played: keys by principal, conditions, and their end with the Storage."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import yaml

from datalabd.api.meta import Manifest
from datalabd.api.storage import API_VERSION, DISCOVERABLE, KIND
from datalabd.errors import Invalid, NotFound
from datalabd.kube.client import Client
from datalabd.kube.resources import SECRETS, STORAGES, Resource
from datalabd.live import condition, text
from hack.deadlines import scaled
from hack.minio import MinIO
from hack.standins import StorageProvider, install_storage_crd, storage_crd
from hack.standins.statefulsets import values
from hack.standins.storage import NOT_READY
from tests.reference import shared
from tests.servers import minio_server as minio_server
from workspaces.signatures import Keys

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
@pytest.mark.servers("MinIO")
async def test_with_a_minio_buckets_are_made_and_shared_there(
    client: Client, namespace: str, minio_server: MinIO
) -> None:
    """Both sides have to say so, and a bucket with objects outlives its Storage."""
    joe, ann = (f"{name}-{namespace}" for name in ("joe", "ann"))
    await install_storage_crd(client)
    async with StorageProvider(client, minio=minio_server, poll_seconds=0.2):
        given = {"bucketName": joe, "grantee": ann, "permission": "ReadOnly", "grantedAt": "2026-01-01T00:00:00Z"}
        owner = storage(joe, namespace, bucketAccessGrants=[given])
        owner["metadata"]["labels"] = {DISCOVERABLE: "true"}
        await client.create(STORAGES, owner)
        await client.create(STORAGES, storage(ann, namespace))
        keys = {}
        for name in (joe, ann):
            await until(client, STORAGES, namespace, name, is_ready)
            held = values(await client.get(SECRETS, namespace, name))
            keys[name] = Keys(held["AWS_ACCESS_KEY_ID"], held["AWS_SECRET_ACCESS_KEY"], held["AWS_REGION"])
            assert held["AWS_ENDPOINT_URL"] == minio_server.endpoint

        async def answers(method: str, path: str, name: str, expected: int) -> None:
            async with asyncio.timeout(scaled(PATIENCE_SECONDS)):
                while True:
                    answer = await asyncio.to_thread(minio_server.ask, method, path, content=b"", keys=keys[name])
                    if answer.status_code == expected:
                        return
                    await asyncio.sleep(0.05)

        await answers("PUT", f"/{joe}/k", joe, 200)
        await answers("GET", f"/{joe}/k", ann, 403)
        asked = {"bucketName": joe, "requestedAt": "2026-01-01T00:00:00Z"}
        await client.patch(STORAGES, namespace, ann, {"spec": {"bucketAccessRequests": [asked]}})
        await answers("GET", f"/{joe}/k", ann, 200)
        await answers("PUT", f"/{joe}/other", ann, 403)
        await client.patch(STORAGES, namespace, joe, {"spec": {"bucketAccessGrants": [given | {"permission": "None"}]}})
        await answers("GET", f"/{joe}/k", ann, 403)
        for name in (ann, joe):
            await client.request("DELETE", f"/apis/{API_VERSION}/namespaces/{namespace}/storages/{name}")
            await until(client, SECRETS, namespace, name, lambda secret: secret is None)
        await answers("GET", f"/{joe}/k", joe, 403)
        keys["root"] = minio_server.root
        await answers("HEAD", f"/{ann}", "root", 404)
        await answers("HEAD", f"/{joe}", "root", 200)


@pytest.mark.cluster
async def test_the_definition_refuses_what_the_real_one_does(client: Client, namespace: str) -> None:
    await install_storage_crd(client)
    rule = {"target": "tmp/*", "mode": "Delete", "minAge": "1d", "at": "2026-01-01T00:00:00Z"}
    with pytest.raises(Invalid, match="exactly one of minAge or at") as caught:
        await client.create(
            STORAGES, storage("ben", namespace, buckets=[{"bucketName": "ben", "lifecycleRules": [rule]}])
        )
    assert [field for field, _ in caught.value.causes] == ["spec.buckets[0].lifecycleRules[0]"]
