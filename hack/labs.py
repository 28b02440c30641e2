"""Many labs at once, for benchmarks and the idle proof."""

import json
import time
from collections.abc import Sequence
from typing import Any

import yaml

from datalabd.api.v1beta2 import Database, DatalabSpec, File
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


def full(name: str) -> dict[str, Any]:
    """One claim with two started sessions and a server or store of every kind."""
    store = {"storage": "1Gi"}
    stores: dict[str, Any] = {
        "databases": {"pg0": {"names": ["dev", "prod"], "storage": "1Gi", "backupStorage": "1Gi"}},
        "documentStores": {"docs": store},
        "cacheStores": {"cache": store},
        "vectorStores": {"vectors": store},
    }
    made = claim(name)
    return made | {"spec": made["spec"] | {"sessions": [{"name": "main"}, {"name": "side"}]} | stores}


def largest(name: str) -> dict[str, Any]:
    """One claim with as much of everything as the schema allows."""
    most = {str(field.alias): _most(field.metadata) for field in DatalabSpec.model_fields.values()}
    users = [f"user-{number:03}@{'example.' * 5}org" for number in range(most["users"])]
    stores = {
        field: {f"{field[0]}{number:02}{'x' * 20}": {"storage": "1Gi"} for number in range(most[field])}
        for field in ("documentStores", "cacheStores", "vectorStores")
    }
    databases = {
        f"pg{number:02}{'x' * 20}": {
            "names": [f"database_{index:02}" for index in range(_most(Database.model_fields["names"].metadata))],
            "storage": "1Gi",
            "backupStorage": "1Gi",
        }
        for number in range(most["databases"])
    }
    globs = [f"/directory-{index:02}/*.txt" for index in range(_most(File.model_fields["include_paths"].metadata))]
    files = [
        {"path": f"files-{number}", "http": {"url": f"https://example.org/{number}"}, "includePaths": globs}
        for number in range(most["files"])
    ]
    made = claim(name)
    made["spec"] |= stores | {
        "users": users,
        "userOverrides": {user: {"role": "admin", "grantedAt": "2026-01-31T12:00:00Z"} for user in users},
        "sessions": [{"name": f"session-{number:02}"} for number in range(most["sessions"])],
        "databases": databases,
        "files": files,
        "vcluster": True,
        "registry": {"enabled": True},
    }
    return made


def _most(constraints: Sequence[Any]) -> int:
    return next((int(one.max_length) for one in constraints if hasattr(one, "max_length")), 0)


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
