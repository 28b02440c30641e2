"""Many labs at once, for benchmarks and the idle proof."""

import json
import time
from typing import Any

import yaml

from hack.cluster import Cluster, ClusterError
from hack.deadlines import scaled
from hack.playground import SAMPLES

SECRETS = "datalab-storage"


def prepare(cluster: Cluster, names: list[str]) -> None:
    """The sample environments, and a storage Secret for each of these labs."""
    cluster.kubectl("apply", "-f", str(SAMPLES / "environment.yaml"))
    objects: list[dict[str, Any]] = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SECRETS}}]
    objects += [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "namespace": SECRETS,
                "annotations": {"datalabs.pkg.internal/claim": f"default/{name}"},
            },
            "stringData": {"AWS_ACCESS_KEY_ID": f"key-{name}", "AWS_SECRET_ACCESS_KEY": f"not-a-secret-{name}"},
        }
        for name in names
    ]
    cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))


def claims(names: list[str]) -> str:
    """YAML of one claim each, with one started session and files from git."""
    return yaml.safe_dump_all(claim(name) for name in names)


def claim(name: str) -> dict[str, Any]:
    """One claim with one started session and files from git."""
    git = {"git": {"url": "https://github.com/versioneer-tech/datalab-example", "ref": "origin/main"}}
    return {
        "apiVersion": "pkg.internal/v1beta2",
        "kind": "Datalab",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"users": ["ann"], "sessions": [{"name": "main"}], "files": [git]},
    }


def wait_ready(cluster: Cluster, count: int, seconds: float = 180.0) -> None:
    """Return when so many labs are Ready; `ClusterError` if they are not in time."""
    seconds = scaled(seconds)
    deadline = time.monotonic() + seconds
    while True:
        items = json.loads(cluster.kubectl("get", "datalabs", "-A", "-o", "json").stdout)["items"]
        ready = sum(map(is_ready, items))
        if ready >= count:
            return
        if time.monotonic() > deadline:
            raise ClusterError(f"{ready} of {count} labs are ready after {seconds:.0f} s")
        time.sleep(0.5)


def is_ready(claim: dict[str, Any]) -> bool:
    """Whether a claim says that its lab is Ready."""
    conditions = (claim.get("status") or {}).get("conditions") or ()
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def resident_mib(cluster: Cluster, name: str = "datalabd") -> float:
    """Resident memory of a process of the cluster, MiB."""
    process = cluster.processes()[name]
    if process is None:
        raise ClusterError(f"{name} is not running")
    return float(process.memory_info().rss) / 2**20
