"""What tests share: one control plane for the whole run, a client of it, and a namespace for each test."""

import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from datalabd.kube.client import Client
from hack.account import open_to_claims
from hack.cluster import Cluster
from tests.rights import Rights


def pytest_configure(config: pytest.Config) -> None:
    """Watch over what the tested process may do."""
    config.pluginmanager.register(Rights(config), "rights")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane; names of cluster-scoped objects have to be unique to their test."""
    with Cluster.start(tmp_path_factory.mktemp("control-plane")) as cluster:
        yield cluster


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[Client]:
    """The product's client, as administrator."""
    client = await Client.connect(str(cluster.kubeconfig))
    yield client
    await client.close()


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A fresh namespace, where claims may be made; its deletion is asked for and not awaited."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    cluster.api.create_namespace(name)
    open_to_claims(cluster, name)
    yield name
    cluster.api.delete("namespace", name)
