"""Events of workspaces' Storages and Datalabs: asked of the API server, for each workspace once a second at most."""

import time
from collections.abc import Callable, Iterable
from typing import Any

from datalabd.api.meta import Manifest
from datalabd.api.workspace import stamp
from datalabd.kube import resources as kinds
from datalabd.kube.client import Client
from datalabd.live import dig, integer, text
from datalabd.text import moment
from workspaces.recent import Recent

MEMORY_SECONDS = 1.0
MEMORY_MAX = 20_000
"""Events that are remembered."""

Row = dict[str, Any]
"""An `Activity` as JSON."""


class Activities:
    """What happened to each workspace."""

    def __init__(self, client: Client, namespace: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._namespace = namespace
        self._recent = Recent(self._ask, MEMORY_SECONDS, MEMORY_MAX, clock, lambda rows: 1 + len(rows))

    async def close(self) -> None:
        """Stop asking."""
        await self._recent.close()

    async def of(self, workspace: str, objects: Iterable[Manifest]) -> list[Row]:
        """Events of its objects, newest first; raises KubeError. Those of earlier objects of the name are left out."""
        uids = {text(obj, "metadata", "uid") for obj in objects} - {""}
        return [row for uid, row in await self._recent.get(workspace) if uid in uids]

    async def _ask(self, workspace: str) -> list[tuple[str, Row]]:
        """Events of all objects of that name, each with the uid of what it is about."""
        fields = f"regarding.name={workspace}"
        found, _ = await self._client.list(kinds.EVENTS, self._namespace, keep=_kept, fieldSelector=fields)
        rows = [(event["uid"], event["row"]) for event in found if event]
        return sorted(rows, key=lambda about: about[1]["time"] or "", reverse=True)


def _kept(event: Manifest) -> Manifest:
    """What is kept of an Event: nothing of one about anything else."""
    if text(event, "regarding", "kind") not in ("Storage", "Datalab"):
        return {}
    return {"uid": text(event, "regarding", "uid"), "row": _row(event)}


def _row(event: Manifest) -> Row:
    times = (
        dig(event, "series").get("lastObservedTime"),
        event.get("deprecatedLastTimestamp"),
        event.get("eventTime"),
        dig(event, "metadata").get("creationTimestamp"),
    )
    time = next((at for value in times if (at := moment(value)) is not None), None)
    return {
        "time": None if time is None else stamp(time),
        "type": text(event, "type"),
        "reason": text(event, "reason"),
        "message": text(event, "note"),
        "object": text(event, "regarding", "kind"),
        "count": integer(event, "series", "count") or integer(event, "deprecatedCount") or 1,
    }


def without_names(rows: list[Row]) -> list[Row]:
    """The same for whoever may not see members: notes name them."""
    return [row | {"message": ""} for row in rows]
