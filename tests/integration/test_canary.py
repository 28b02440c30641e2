"""No credential is told to anybody: a lab with recognisable ones goes through good and bad times, all is read after."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from datalabd.api.meta import ROTATE, Manifest
from hack.cluster import Cluster
from hack.standins import STORES
from tests.integration.daemon import Daemon, eventually, running
from tests.integration.objects import unique
from tests.integration.stage import Stage, standins
from tests.strategies import spellings

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

SIZE = {"storage": "1Gi"}
LAB: dict[str, Any] = {
    "databases": {"pg0": {"names": ["dev"], "storage": "2Gi", "backupStorage": "1Gi"}},
    "documentStores": {"docs": SIZE},
    "cacheStores": {"cache": SIZE},
    "vectorStores": {"vectors": SIZE},
}
CREDENTIALS = ("postgres/pg0", "mongodb/docs", "redis/cache", "qdrant/vectors")
GENERATED = ("pg0-pguser-postgres", "docs-mongodb-auth", "cache-redis-auth", "vectors-qdrant-auth")
"""Secrets of the lab's namespace that hold passwords."""
LAST_HANDLED = "kopf.zalando.org/last-handled-configuration"
LOGIN_VARIABLES = ("AUTH_USERNAME", "AUTH_PASSWORD")
SESSION = "training.educates.dev/session.name"
PASSWORDS = ("password", "next", "apiKey", "readApiKey", "verifier")


@pytest.fixture(scope="module")
def datalabd(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running(cluster, tmp_path_factory, DATALABD_LOG_LEVEL="debug") as daemon:
        yield daemon


@pytest.fixture
def stage(cluster: Cluster, datalabd: Daemon, namespace: str) -> Iterator[Stage]:
    with standins(cluster, installed=False, stores=STORES):
        yield Stage(cluster, namespace)


class Watcher:
    """Knows every secret value there ever was, and finds them where they do not belong."""

    def __init__(self, stage: Stage, lab: str) -> None:
        self.stage = stage
        self.lab = lab
        self._known: dict[str, set[str]] = {}
        listed = stage.cluster.kubectl("api-resources", "--verbs=list", "-o", "name").stdout.split()
        self._kinds = ",".join(kind for kind in listed if kind != "secrets")

    def learn(self, what: str, *values: str) -> None:
        """From now on these are secret; failures call them by this name."""
        for value in values:
            assert len(value) >= 12, f"{what} could occur by chance"
            self._known.setdefault(what, set()).update(spellings(value))

    def learn_generated(self) -> None:
        """From now on every password is secret that stands in the lab's Secrets."""
        held = {name: self.stage.values(name, self.lab) for name in GENERATED}
        held["login"] = self.stage.values(f"{self.lab}-login")
        for name, values in held.items():
            found = [value for key, value in values.items() if key in PASSWORDS and value]
            assert found, f"no password in {name}"
            self.learn(name, *found)

    def found_in(self, text: str) -> list[str]:
        """What of it a text gives away."""
        return sorted(what for what, known in self._known.items() if any(spelling in text for spelling in known))

    def found_in_objects(self) -> dict[str, list[str]]:
        """The objects of all kinds but Secrets that give something away, and what."""
        found = {}
        for obj in self.stage.cluster.api.list(self._kinds):
            metadata = obj["metadata"]
            if told := self.found_in(json.dumps(without_login(obj), ensure_ascii=False)):
                found[f"{obj['kind']} {metadata.get('namespace', '')}/{metadata['name']}"] = told
        return found


def without_login(obj: Manifest) -> Manifest:
    """The object without the login of a session where that has to stand.

    Educates reads it from the session's spec and nowhere else, keeps that spec in an annotation once more as every
    operator made with kopf does, and hands it to the session's pods as two variables. Nothing else is left out.
    """
    obj = copy.deepcopy(obj)
    if obj["kind"] == "WorkshopSession":
        session = obj["spec"]["session"]
        obj["metadata"].get("annotations", {}).pop(LAST_HANDLED, None)
        obj["spec"]["session"] = {key: value for key, value in session.items() if key not in ("username", "password")}
    template = obj["spec"].get("template", {}) if obj["kind"] in ("Deployment", "ReplicaSet") else obj
    if obj["kind"] in ("Deployment", "ReplicaSet", "Pod") and SESSION in template["metadata"].get("labels", {}):
        for container in template["spec"]["containers"]:
            container["env"] = [item for item in container.get("env", []) if item["name"] not in LOGIN_VARIABLES]
    return obj


def store_keys(stage: Stage, lab: str, **values: str) -> None:
    """The storage Secret of a lab, with exactly these values."""
    metadata = {"name": lab, "namespace": stage.namespace}
    manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values}
    stage.cluster.kubectl("delete", "secret", lab, "-n", stage.namespace, "--ignore-not-found")
    stage.create(manifest)


def test_no_credential_is_told(stage: Stage, datalabd: Daemon) -> None:
    lab = unique()
    watcher = Watcher(stage, lab)
    access, first, second, broken = (unique(f"canary-{part}") for part in ("access", "first", "second", "broken"))
    first, second = f"{first}:/+ä", f'{second}"\\%&'
    for what, value in (("access key", access), ("first key", first), ("second key", second), ("broken key", broken)):
        watcher.learn(what, value)

    # Created.
    store_keys(stage, lab, AWS_ACCESS_KEY_ID=access, AWS_SECRET_ACCESS_KEY=first)
    stage.lab("main", name=lab, storage=False, **LAB)
    stage.until_ready(lab, 120)
    watcher.learn_generated()
    assert watcher.found_in_objects() == {}

    # Everything replaced.
    wanted = [*CREDENTIALS, f"login/{lab}"]
    stage.annotate(lab, ROTATE, ",".join(f"{credential}/new" for credential in wanted))
    store_keys(stage, lab, AWS_ACCESS_KEY_ID=access, AWS_SECRET_ACCESS_KEY=second)

    def replaced() -> bool:
        watcher.learn_generated()
        told = (stage.get("datalab", lab) or {})["status"]["credentials"]
        rotated = all(told.get(credential, {}).get("rotation") == "new" for credential in wanted)
        return rotated and stage.values(f"{lab}-datalab", lab).get("AWS_SECRET_ACCESS_KEY") == second

    eventually(replaced, 90)
    stage.until_ready(lab, 60)
    watcher.learn_generated()
    assert watcher.found_in_objects() == {}

    # An edit refused.
    smaller = [{"op": "replace", "path": "/spec/databases/pg0/storage", "value": "1Gi"}]
    where = ["datalab", lab, "-n", stage.namespace]
    refused = stage.cluster.kubectl("patch", *where, "--type=json", "-p", json.dumps(smaller), check=False)
    assert "volumes cannot shrink" in refused.stderr
    assert watcher.found_in(refused.stdout + refused.stderr) == []

    # A Secret that is no use, in two ways.
    for values in (
        {"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": f"{broken}\nacl = {broken}"},
        {"AWS_ACCESS_KEY_ID": access, "AWS_SECRET": broken},
    ):
        store_keys(stage, lab, **values)
        reason = "line break" if "AWS_SECRET_ACCESS_KEY" in values else "no value for AWS_SECRET_ACCESS_KEY"
        eventually(lambda reason=reason: reason in stage.condition(lab, "StorageReady").get("message", ""))  # type: ignore[misc]
        assert watcher.found_in_objects() == {}
        shown = stage.cluster.kubectl("describe", *where).stdout
        assert watcher.found_in(shown) == []

    # Gone.
    stage.delete(lab)
    assert watcher.found_in_objects() == {}
    assert watcher.found_in(datalabd.log.read_text()) == []
    assert any(line["event"] == "reconciled" for line in datalabd.log_lines())
    assert watcher.found_in(httpx.get(f"{datalabd.url}/metrics", trust_env=False).raise_for_status().text) == []


def test_a_credential_would_be_found(stage: Stage) -> None:
    """The one above can fail: what it looks for is found in an object, however it is spelled there."""
    watcher = Watcher(stage, "none")
    value = unique("canary-planted") + "/+x"
    watcher.learn("planted", value)
    for number, text in enumerate(sorted(spellings(value))):
        metadata = {"name": f"planted-{number}", "namespace": stage.namespace}
        stage.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"x": f"<{text}>"}})
    found = watcher.found_in_objects()
    assert set(found) == {f"ConfigMap {stage.namespace}/planted-{number}" for number in range(len(spellings(value)))}
