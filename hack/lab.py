"""The lab that the pictures of the documentation show: the same in each run, but for the times when it was made."""

import datetime
from typing import Any

from hack.playground import ADMIN, NAMESPACE
from hack.site import OTHER, SLOW, WORKSPACE, Site
from hack.standins.storage import NOT_READY

OWNER, COLLEAGUE = "ingrid.berg", "lena.vogt"
LAB = "glacier-dynamics"
PARTNER, SHARED, NEW = "coastal-erosion", "permafrost-network", "sea-level-2026"
"""A workspace of the colleague; one of both; one that waits for its storage."""
BATCH = f"batch-{SLOW}"
"""A session that starts for as long as the pictures are taken."""
MEBIBYTE = 2**20
OBJECTS = {
    "2025/jakobshavn_velocity_2025q4.tif": 6 * MEBIBYTE,
    "2026/jakobshavn_velocity_2026q1.tif": 6 * MEBIBYTE,
    "tmp/mosaic_preview.png": 300_000,
    "README.md": 3_210,
    "calving_fronts_1985_2026.gpkg": 9 * MEBIBYTE,
    "jakobshavn_flowlines.geojson": 182_400,
    "terminus_positions.parquet": 2 * MEBIBYTE,
    "velocity_timeseries.nc": 24 * MEBIBYTE,
}
"""In the bucket that is looked into."""


def bucket(word: str = "velocity") -> str:
    """Name of a bucket of the lab."""
    return f"{LAB}-{word}"


def build(site: Site) -> None:
    """Make it; returns once all of it is in place."""
    for name in (WORKSPACE, OTHER):  # those that every site has, which are not to be seen
        site.ask(ADMIN, "PATCH", f"/workspaces/{name}/buckets/{name}", {"discoverable": False})
    for name, owner in ((LAB, OWNER), (PARTNER, COLLEAGUE), (SHARED, COLLEAGUE), (NEW, OWNER)):
        site.ask(ADMIN, "POST", "/workspaces", {"preferred_name": name, "default_owner": owner})
    site.cluster.api.annotate("storage", NEW, {NOT_READY: "Creating the bucket: the object storage is full"}, NAMESPACE)
    site.until(lambda: not site.has_status(NEW, "ready"), "a workspace that waits")
    site.until(lambda: all(site.has_status(name, "ready") for name in (LAB, PARTNER, SHARED)), "the other workspaces")
    _add_members(site, LAB, {"tomas.silva": "admin", "mei.lin": "user", "a.okafor": "user"})
    _add_members(site, SHARED, {OWNER: "admin", "mei.lin": "user"})
    _add_members(site, PARTNER, {"j.haddad": "user"})
    _furnish(site)
    _share(site)
    site.until(lambda: _are_ready(site, "stores"), "stores of the lab")
    default, namespace = f"/workspaces/{LAB}/sessions/default", f"{LAB}-default"
    site.ask(OWNER, "PATCH", default, {"state": "stopped"})  # it started before there were stores
    site.until(lambda: site.cluster.api.get("namespaces", namespace) is None, "a session that stops")
    site.ask(OWNER, "PATCH", default, {"state": "started"})
    site.until(lambda: _are_ready(site, "sessions"), "sessions of the lab")


def _are_ready(site: Site, parts: str) -> bool:
    """Whether its stores, or its sessions that are started, are as they are to be, and have nothing to say."""
    found = site.ask(OWNER, "GET", f"/workspaces/{LAB}")["datalab"][parts]
    return all(one.get("ready") and not one.get("message") for one in found if one.get("state") != "stopped")


def _add_members(site: Site, workspace: str, roles: dict[str, str]) -> None:
    added = [{"member": member, "role": role} for member, role in roles.items()]
    site.ask(ADMIN, "PUT", f"/workspaces/{workspace}", {"add_memberships": added})


def _furnish(site: Site) -> None:
    """Stores, buckets with objects, and sessions."""
    own = f"/workspaces/{LAB}"
    stores = [
        {"name": "catalogue", "type": "database", "storage": "20Gi", "backup_storage": "40Gi"},
        {"name": "tiles", "type": "cache", "storage": "2Gi"},
        {"name": "embeddings", "type": "vector", "storage": "10Gi"},
        {"name": "fieldnotes", "type": "document", "storage": "5Gi"},
    ]
    rules = [
        {"target": "tmp/*", "mode": "Delete", "min_age": "2w"},
        {"target": "*", "mode": "Notify", "min_age": "365d"},
    ]
    buckets: list[dict[str, Any]] = [
        {"name": bucket(), "discoverable": True, "lifecycle_rules": rules},
        {"name": bucket("elevation"), "discoverable": True},
        {"name": bucket("insar"), "discoverable": False},
    ]
    site.ask(OWNER, "PUT", own, {"add_buckets": buckets})
    site.ask(OWNER, "PUT", own, {"add_stores": stores})
    site.ask(OWNER, "POST", f"{own}/sessions", {"name": "notebooks", "state": "stopped"})
    site.ask(OWNER, "POST", f"{own}/sessions", {"name": BATCH, "state": "started"})
    for workspace, words in ((PARTNER, ("tides", "shorelines")), (SHARED, ("boreholes",))):
        added = [{"name": f"{workspace}-{word}", "discoverable": True} for word in words]
        site.ask(COLLEAGUE, "PUT", f"/workspaces/{workspace}", {"add_buckets": added})
    minio = site.minio
    assert minio is not None, "pictures of objects need an object storage"
    made = [f"/{one['name']}" for one in buckets]
    site.until(lambda: all(minio.ask("HEAD", path).is_success for path in made), "buckets at the object storage")
    for key, size in OBJECTS.items():
        minio.ask("PUT", f"/{bucket()}/{key}", content=bytes(size)).raise_for_status()
    minio.fill(bucket("elevation"), [f"arctic_dem_{tile:03}.tif" for tile in range(148)], bytes(40_000))
    minio.fill(bucket("insar"), [f"2026/pair_{pair:03}.h5" for pair in range(36)], bytes(90_000))


def _share(site: Site) -> None:
    """What others ask of the lab, and the lab of others."""
    own, partner, shared = (f"/workspaces/{name}" for name in (LAB, PARTNER, SHARED))
    _ask(site, COLLEAGUE, partner, bucket(), "ReadOnly", "Calving fronts for the shoreline model, as agreed in March")
    _ask(site, COLLEAGUE, shared, bucket("elevation"), "ReadOnly", "Slope of the borehole sites")
    _ask(site, COLLEAGUE, partner, bucket("elevation"), "ReadWrite", "Corrected tiles of the coast")
    ends = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=5, hours=6)).isoformat()
    granted = {"permission": "ReadOnly", "expires": ends}
    site.ask(OWNER, "PUT", f"{own}/grants/{bucket('elevation')}/{SHARED}", granted)
    denied = {"permission": "None", "reason": "Send us the tiles, we check them first"}
    site.ask(OWNER, "PUT", f"{own}/grants/{bucket('elevation')}/{PARTNER}", denied)
    _ask(site, OWNER, own, f"{PARTNER}-tides", "ReadOnly", "Tides at the terminus, hourly")
    _ask(site, OWNER, own, f"{SHARED}-boreholes", "ReadOnly", "Temperatures below the ice")
    site.ask(COLLEAGUE, "PUT", f"{shared}/grants/{SHARED}-boreholes/{LAB}", {"permission": "ReadOnly"})


def _ask(site: Site, who: str, workspace: str, name: str, level: str, reason: str) -> None:
    site.ask(who, "PUT", f"{workspace}/requests/{name}", {"permission": level, "reason": reason})
