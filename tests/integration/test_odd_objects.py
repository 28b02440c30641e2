"""What Kubernetes takes and nobody expects, on a real API server: a lab goes on, and follows its claim."""

from collections.abc import Iterator

import pytest

from datalabd.api.meta import Manifest
from hack.cluster import Cluster
from hack.standins import STORES
from tests.integration.daemon import Daemon, eventually
from tests.integration.objects import unique
from tests.integration.stage import Stage, standins

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

TENTH = "1181116006400m"
"""1.1Gi, as the API server keeps it."""


@pytest.fixture(scope="module", autouse=True)
def playing(cluster: Cluster) -> Iterator[None]:
    with standins(cluster, installed=False, stores=STORES):
        yield


@pytest.fixture
def stage(cluster: Cluster, datalabd: Daemon, namespace: str) -> Stage:
    return Stage(cluster, namespace)


@pytest.fixture
def growing(cluster: Cluster) -> Iterator[str]:
    """A storage class whose volumes can grow."""
    name = unique("growing")
    cluster.api.apply(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": name},
            "provisioner": "standin.csi.example.org",
            "allowVolumeExpansion": True,
        }
    )
    yield name
    cluster.api.delete("storageclass", name)


def follows(stage: Stage, lab: str) -> None:
    """Fail unless an edit of the claim is acted upon, and nothing stands in its way."""
    stage.patch(lab, {"op": "add", "path": "/spec/security", "value": {"externalEgress": False}})
    stage.until(lab, "Synced", "True")
    live = stage.get("datalab", lab)
    assert live is not None
    assert live["status"]["observedGeneration"] == live["metadata"]["generation"]
    assert live["status"]["effective"]["security"]["externalEgress"] is False


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"ports": [{"name": "", "protocol": "TCP"}]}, id="without a port"),
        pytest.param({"addressType": "FQDN", "endpoints": [{"addresses": ["api.example.org"]}]}, id="of names"),
    ],
)
def test_an_odd_endpoint_slice_of_the_api_server_stops_no_lab(stage: Stage, changes: Manifest) -> None:
    lab = stage.lab()
    stage.until_ready(lab)
    name = unique("odd")
    slice_ = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.7"]}],
        "ports": [{"name": "https", "port": 6443}],
    }
    stage.create(slice_ | changes)
    try:
        follows(stage, lab)
        new = stage.lab()
        stage.until_ready(new)
    finally:
        stage.cluster.api.delete("endpointslice", name, "default")


def test_a_home_that_was_grown_by_a_tenth_stops_no_lab(stage: Stage, growing: str) -> None:
    lab = stage.lab("main", persistence={"storageClassName": growing})
    stage.until_ready(lab, 60)
    home = f"{lab}-main-persistent"
    bigger = {"spec": {"resources": {"requests": {"storage": "1.1Gi"}}}}
    stage.cluster.api.patch("persistentvolumeclaim", home, bigger, lab)
    follows(stage, lab)
    stage.delete(lab)
    stage.lab("main", name=lab, persistence={"storageClassName": growing})
    stage.until_ready(lab, 90)
    kept = stage.get("persistentvolumeclaim", home, lab)
    assert kept is not None
    assert kept["spec"]["resources"]["requests"]["storage"] == TENTH


def size(stage: Stage, lab: str) -> object:
    live = stage.get("redis", "cache", lab) or {}
    return live["spec"]["storage"]["volumeClaimTemplate"]["spec"]["resources"]["requests"]["storage"]


def test_a_size_told_as_a_number_stops_no_lab(stage: Stage) -> None:
    lab = stage.lab(cacheStores={"cache": {"storage": "1Gi"}})
    stage.until_ready(lab, 60)
    spec = {"resources": {"requests": {"storage": 2147483648}}}
    stage.cluster.api.patch("redis", "cache", {"spec": {"storage": {"volumeClaimTemplate": {"spec": spec}}}}, lab)
    eventually(lambda: size(stage, lab) == 2147483648)
    follows(stage, lab)
    assert str(size(stage, lab)) == "2147483648"  # it never shrinks
