"""Workspaces in every state that a page shows, each made so by what is in the cluster."""

import datetime
from typing import Any

from datalabd.api.meta import Manifest
from hack.playground import ADMIN, NAMESPACE
from hack.site import OTHER, SLOW, WORKSPACE, Site
from hack.standins.storage import NOT_READY

EMPTY, HINDERED, ODD, MANY = "ws-empty", "ws-hindered", "ws-odd", "ws-many"
"""Further workspaces of olga that every screen is looked at with; `MANY` has as many members and buckets as may be."""
GONE = "ws-gone"
"""The one that a test deletes. Its members are those of `WORKSPACE`."""
FREE = "ws-free"
"""The one that tests may change: the others are as they were for everybody. Its members are those of `WORKSPACE`."""
LONG = "a" * 63
"""The longest label."""
LONGEST = "s" * 40
"""About the longest name of a session: those of its objects are made of it."""
ODD_TEXT = "<script>alert('x')</script> & \"q\" שלום e\u0301\u0323 \U0001f52c"
ODD_MEMBERS = (
    "<script>alert(1)</script>",
    "מרים",
    "zoe\u0301\u0323",
    'o\'neil&amp;"x"',
    f"{LONG}@{LONG}.example.org",
)
TROUBLE = "The quota of the tenant is used up."
MEMBERS, BUCKETS = 500, 300


def build(site: Site) -> None:
    """Make them; returns once they are in these states."""
    own, others = f"/workspaces/{WORKSPACE}", f"/workspaces/{OTHER}"
    for name in (EMPTY, HINDERED, ODD, MANY, GONE, FREE):
        site.ask(ADMIN, "POST", "/workspaces", {"preferred_name": name, "default_owner": "olga"})
    site.cluster.api.annotate("storage", HINDERED, {NOT_READY: TROUBLE}, NAMESPACE)
    site.until(lambda: not site.has_status(HINDERED, "ready"), "a workspace that waits")
    stores = [
        {"name": "dev", "type": "database", "storage": "1Gi"},
        {"name": "cache", "type": "cache", "storage": "1Gi"},
        {"name": "vectors", "type": "vector", "storage": "1Gi"},
        {"name": "docs", "type": "document", "storage": "1Gi"},
    ]
    rules = [
        {"target": "tmp/*", "mode": "Delete", "min_age": "2w"},
        {"target": "*", "mode": "Notify", "min_age": "90d"},
    ]
    buckets = [{"name": f"{WORKSPACE}-results", "discoverable": True, "lifecycle_rules": rules}]
    buckets += [{"name": f"{WORKSPACE}-{word}", "discoverable": True} for word in ("maps", "models", "tiles")]
    site.ask(ADMIN, "PUT", own, {"add_stores": stores, "add_buckets": buckets})
    site.ask(ADMIN, "POST", f"{own}/sessions", {"name": "analysis", "state": "stopped"})
    for name in (WORKSPACE, GONE):
        site.ask(ADMIN, "POST", f"/workspaces/{name}/sessions", {"name": SLOW, "state": "started"})
    site.ask(ADMIN, "POST", f"/workspaces/{ODD}/sessions", {"name": LONGEST, "state": "stopped"})
    for session in site.ask(ADMIN, "GET", f"/workspaces/{EMPTY}/sessions"):
        site.ask(ADMIN, "DELETE", f"/workspaces/{EMPTY}/sessions/{session['name']}")
    site.ask(ADMIN, "PUT", others, {"add_buckets": [{"name": f"{OTHER}-open", "discoverable": True}]})
    site.until(lambda: len(site.ask(ADMIN, "GET", own)["storage"]["buckets"]) >= 4, "its buckets")
    asked = {"permission": "ReadOnly", "reason": ODD_TEXT}
    for word in ("results", "maps", "models"):
        site.ask(ADMIN, "PUT", f"{others}/requests/{WORKSPACE}-{word}", asked)
    ends = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=5)).isoformat()
    grants = f"{own}/grants"
    site.ask(ADMIN, "PUT", f"{grants}/{WORKSPACE}-maps/{OTHER}", {"permission": "ReadOnly", "expires": ends})
    site.ask(ADMIN, "PUT", f"{grants}/{WORKSPACE}-models/{OTHER}", {"permission": "None", "reason": "not yet"})
    site.ask(ADMIN, "PUT", f"{own}/requests/{OTHER}-open", {"permission": "ReadWrite", "reason": "to compare"})
    members = [{"member": "adam", "role": "admin"}, {"member": "mia", "role": "user"}]
    for name in (GONE, FREE):
        site.ask(ADMIN, "PUT", f"/workspaces/{name}", {"add_memberships": members})
    _edit_members(site, ODD, ODD_MEMBERS)
    _edit_members(site, MANY, [f"member-{number:03}" for number in range(MEMBERS - 1)])
    _add_buckets(site, ODD, [f"{ODD}-{'b' * (62 - len(ODD))}"])
    _add_buckets(site, MANY, [f"{MANY}-{number:03}" for number in range(BUCKETS - 1)])
    site.until(lambda: site.has_status(FREE, "ready"), "the workspace that tests change")
    if (realm := site.realm) is not None:
        site.until(lambda: realm.members(FREE) == ["adam", "mia", "olga"], "its members in the realm")
        site.until(lambda: realm.members(GONE) == ["adam", "mia", "olga"], "those of the one that is deleted")
        groups = [f"{name}-admin" for name in (EMPTY, HINDERED, ODD, MANY)]
        site.until(lambda: all("olga" in realm.members(group) for group in groups), "the owner in the realm")
    site.look()


def _edit_members(site: Site, name: str, members: Any) -> None:
    """Give a workspace more members, as `kubectl edit` would."""
    live = site.cluster.api.get("datalab", name, NAMESPACE)
    assert live is not None
    users = [*live["spec"]["users"], *members]
    site.cluster.api.patch("datalab", name, {"spec": {"users": users}}, NAMESPACE)


def _add_buckets(site: Site, name: str, buckets: list[str]) -> None:
    live = site.cluster.api.get("storage", name, NAMESPACE)
    assert live is not None
    added: list[Manifest] = [{"bucketName": bucket, "discoverable": False} for bucket in buckets]
    site.cluster.api.patch("storage", name, {"spec": {"buckets": [*live["spec"]["buckets"], *added]}}, NAMESPACE)
