"""How workspaces are named and made: a Storage, and a Datalab where the cluster serves them. Pure."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from datalabd.api import storage as storages
from datalabd.api.meta import ENVIRONMENT, V1BETA2, Manifest
from datalabd.api.workspace_bodies import WorkspaceCreate
from datalabd.live import annotations, dig
from workspaces.problems import RETRY_AFTER_SECONDS, Location, Problem, problem, wrong
from workspaces.settings import Settings
from workspaces.sharing import Sharing

SLUG_MAX = 32
NAME_MAX = 63
RESERVED_ENDINGS = ("-datalab", "-login", "-oauth-client")
"""What the names of Secrets of another workspace end with."""
VOLUMES_MAX = 20
"""Volumes that a refusal names."""
_GAPS = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True)
class Creation:
    """A workspace to be made."""

    name: str
    owner: str
    storage: Manifest
    datalab: Manifest | None
    """None where the cluster serves none."""
    storage_exists: bool
    """Whether a creation that was interrupted left the Storage, and the Datalab alone is to be made."""

    @property
    def words(self) -> dict[Location, Location]:
        """Where the body said what now stands in one of the objects."""
        return {("metadata", "name"): ("preferred_name",), ("spec", "users"): ("default_owner",)}


def slug(name: str) -> str:
    """Lower-case ASCII letters and digits, with single dashes for the rest; at most 32 characters, perhaps none."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return _GAPS.sub("-", plain).strip("-")[:SLUG_MAX].strip("-")


def owner(name: str) -> str:
    """The user name that is meant: Keycloak keeps them in lower case."""
    return name.strip().lower()


def name_of(preferred: str, prefix: str, random: str) -> str:
    """What a workspace is called: as preferred, else `random` after a letter; below the prefix, even one with it."""
    chosen = slug(preferred) or f"w{slug(random)}"
    return (f"{prefix}-{chosen}" if prefix else chosen)[:NAME_MAX].rstrip("-")


def create(
    asked: WorkspaceCreate,
    sharing: Sharing,
    storage_of: Callable[[str], Manifest | None],
    datalab_of: Callable[[str], Manifest | None],
    volumes_of: Callable[[str], Sequence[str]],
    settings: Settings,
    *,
    datalab_served: bool,
    adopts: bool,
    random: str,
) -> Creation:
    """What is to be written for a workspace; Problem if its name, or that of its bucket or principal, is taken.

    `volumes_of` names the volume claims of a workspace's own namespace. A workspace that was deleted leaves them, and
    the next of its name has them, whoever owns it: it is made only if it `adopts` them.
    """
    name, owned_by = name_of(asked.preferred_name, settings.prefix, random), owner(asked.default_owner)
    if name.endswith(RESERVED_ENDINGS):
        endings = ", ".join(RESERVED_ENDINGS)
        raise wrong(("body", "preferred_name"), f"must not end with {endings}", asked.preferred_name)
    known, lab = storage_of(name), datalab_of(name)
    exists = known is not None
    if any("deletionTimestamp" in dig(obj, "metadata") for obj in (known, lab)):
        raise Problem(409, {"error": "being_deleted"}, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
    if lab is not None or (known is not None and not (datalab_served and _was_interrupted(known, owned_by))):
        raise problem(422, "Workspace with this name already exists")
    if set(sharing.owners(name)) - {name}:
        raise problem(409, "bucket_exists", bucket=name)
    if set(sharing.of_principal(name)) - {name}:
        raise problem(409, "principal_exists", principal=name)
    if datalab_served and not adopts and (kept := volumes_of(name)):
        raise problem(409, "data_exists", volumes=sorted(kept)[:VOLUMES_MAX])
    return Creation(
        name,
        owned_by,
        storage(name, owned_by, settings),
        datalab(name, owned_by, settings) if datalab_served else None,
        exists,
    )


def _was_interrupted(known: Manifest, owned_by: str) -> bool:
    """Whether a Storage without a Datalab was made for this owner."""
    return annotations(known).get(storages.CREATED_FOR) == owned_by


def storage(name: str, owned_by: str, settings: Settings) -> Manifest:
    """The Storage of a new workspace. Without the label, controllers would not look at its grants."""
    return {
        "apiVersion": storages.API_VERSION,
        "kind": storages.KIND,
        "metadata": {
            "name": name,
            "namespace": settings.namespace,
            "labels": {storages.DISCOVERABLE: "true"},
            "annotations": {storages.ENVIRONMENT: settings.environment, storages.CREATED_FOR: owned_by},
        },
        "spec": {"principal": name, "buckets": [{"bucketName": name, "discoverable": True}]},
    }


def datalab(name: str, owned_by: str, settings: Settings) -> Manifest:
    """The Datalab of a new workspace."""
    sessions = default_sessions(settings)
    spec = {"users": [owned_by] if owned_by else [], "secretName": name, "vcluster": settings.use_vcluster}
    return {
        "apiVersion": V1BETA2,
        "kind": "Datalab",
        "metadata": {
            "name": name,
            "namespace": settings.namespace,
            "annotations": {ENVIRONMENT: settings.environment},
        },
        "spec": spec
        | ({"sessions": sessions} if sessions else {})
        | ({} if settings.disable_registry else {"registry": {"enabled": True}}),
    }


def default_sessions(settings: Settings) -> list[dict[str, str]]:
    """Sessions that a new workspace declares."""
    states = {"on": "started", "auto": "stopped"}
    if settings.session_mode not in states or settings.max_sessions < 1:
        return []
    return [{"name": "default", "state": states[settings.session_mode]}]
