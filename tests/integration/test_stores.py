"""Document, cache and vector stores through a claim's life: made, ready, rotated, removed, found again."""

from collections.abc import Iterator
from typing import Any

import pytest

from hack.cluster import Cluster
from hack.standins import STORES
from tests.integration.daemon import Daemon, eventually
from tests.integration.stage import Stage, standins

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

SIZE = {"storage": "1Gi"}


@pytest.fixture(scope="module", autouse=True)
def playing(cluster: Cluster) -> Iterator[None]:
    with standins(cluster, installed=False, stores=STORES):
        yield


@pytest.fixture
def stage(cluster: Cluster, datalabd: Daemon, namespace: str) -> Stage:
    return Stage(cluster, namespace)


def test_a_lab_with_stores_gets_ready(stage: Stage) -> None:
    lab = stage.lab("main", documentStores={"docs": SIZE}, cacheStores={"cache": SIZE}, vectorStores={"vectors": SIZE})
    stage.until_ready(lab, 90)
    known = stage.values(f"{lab}-datalab")
    for kind, store, variable in (("mongodb", "docs", "MONGO_DOCS"), ("redis", "cache", "REDIS_CACHE")):
        password = stage.values(f"{store}-{kind}-auth", lab)["password"]
        assert known[f"{variable}_PASSWORD"] == password
    assert known["QDRANT_VECTORS_API_KEY"] == stage.values("vectors-qdrant-auth", lab)["apiKey"]
    assert stage.condition(lab, "SessionsReady")["reason"] == "Running"  # it started with all credentials


@pytest.mark.parametrize(
    ("kind", "field", "store", "secret", "variable"),
    [
        ("mongodb", "documentStores", "docs", "docs-mongodb-auth", "MONGO_DOCS_PASSWORD"),
        ("redis", "cacheStores", "cache", "cache-redis-auth", "REDIS_CACHE_PASSWORD"),
        ("qdrant", "vectorStores", "vectors", "vectors-qdrant-auth", "QDRANT_VECTORS_API_KEY"),
    ],
)
def test_rotation(stage: Stage, kind: str, field: str, store: str, secret: str, variable: str) -> None:
    declared: dict[str, Any] = {field: {store: SIZE}}
    lab = stage.lab("main", **declared)
    stage.until_ready(lab, 90)
    before = stage.values(f"{lab}-datalab")[variable]
    stage.annotate(lab, "datalabs.pkg.internal/rotate", f"{kind}/{store}/first")

    def rotated() -> bool:
        status = (stage.get("datalab", lab) or {})["status"]["credentials"][f"{kind}/{store}"]
        return bool(status.get("rotation") == "first" and "rotating" not in status)

    eventually(rotated, 60)
    after = eventually(lambda: (now := stage.values(f"{lab}-datalab")[variable]) != before and now, 20)
    assert after in stage.values(secret, lab).values()
    assert before not in stage.values(secret, lab).values()
    stage.until(lab, "SessionsReady", "True", "RestartNeeded")
    stage.until_ready(lab, 60)
    settled = stage.values(secret, lab)
    stage.annotate(lab, "team.example.org/looked-at", "true")  # another pass, the same nonce
    stage.until_ready(lab, 60)
    assert stage.values(secret, lab) == settled


def test_a_removed_store_is_kept_and_found_again(stage: Stage) -> None:
    lab = stage.lab(documentStores={"docs": SIZE})
    stage.until_ready(lab, 90)
    password = stage.values("docs-mongodb-auth", lab)
    stage.patch(lab, {"op": "remove", "path": "/spec/documentStores/docs"})

    def kept() -> bool:
        live = stage.get("mongodbcommunity", "mongodb-docs", lab)
        return bool(live and live["metadata"]["labels"].get("datalabs.pkg.internal/retained") == "true")

    eventually(kept)
    assert stage.get("serviceaccount", "mongodb-kubernetes-appdb", lab)
    stage.patch(lab, {"op": "add", "path": "/spec/documentStores/docs", "value": SIZE})
    eventually(lambda: not kept())
    stage.until_ready(lab, 60)
    assert stage.values("docs-mongodb-auth", lab) == password
