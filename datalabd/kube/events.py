"""Kubernetes Events about a claim: what happened, told once."""

import datetime
import os
import time
import uuid

import structlog

from datalabd.api.meta import FIELD_MANAGER, Manifest
from datalabd.errors import KubeError
from datalabd.kube.client import Client
from datalabd.kube.resources import EVENTS
from datalabd.text import bounded

log = structlog.get_logger()

REPEAT_AFTER_SECONDS = 600
BURST = 100
"""Different Events about one object at once."""
SECONDS = 10.0
"""For each further one. Events are kept for an hour, in etcd, and listed whole."""
OBJECTS_MAX = 1000
"""Of which it is known how many Events they may still have; others may have all."""


class Recorder:
    """Writes Events; the same one about the same object at most every ten minutes, and few different ones.

    A refused Event is only logged.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._told: dict[tuple[str, str, str], float] = {}
        self._whole_at: dict[str, float] = {}
        """When an object may have as many Events as at the beginning, by its uid."""
        self._instance = os.environ.get("HOSTNAME", "datalabd")

    async def emit(self, about: Manifest, kind: str, reason: str, action: str, note: str) -> None:
        """Record that `action` on `about` led to `reason`; `kind` is Normal or Warning, `note` a sentence."""
        metadata = about["metadata"]
        note = bounded(note)
        key = (metadata["uid"], reason, note)
        now = time.monotonic()
        while self._told and now - next(iter(self._told.values())) >= REPEAT_AFTER_SECONDS:
            del self._told[next(iter(self._told))]  # the oldest comes first
        if key in self._told:
            return
        if not self._may_have_another(metadata["uid"], now):
            log.warning("event not recorded", reason=reason, error="too many Events about this object")
            return
        self._told[key] = now
        namespace = metadata.get("namespace") or "default"
        event = {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": f"{metadata['name']}.{uuid.uuid4().hex[:16]}", "namespace": namespace},
            "eventTime": datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "reportingController": f"pkg.internal/{FIELD_MANAGER}",
            "reportingInstance": self._instance,
            "type": kind,
            "reason": reason,
            "action": action,
            "note": note,
            "regarding": {
                "apiVersion": about["apiVersion"],
                "kind": about["kind"],
                "name": metadata["name"],
                "namespace": metadata.get("namespace", ""),
                "uid": metadata["uid"],
            },
        }
        try:
            await self._client.create(EVENTS, event)
        except KubeError as error:
            log.warning("event not recorded", reason=reason, error=str(error))

    def _may_have_another(self, uid: str, now: float) -> bool:
        whole_at = max(now, self._whole_at.get(uid, now)) + SECONDS
        if whole_at - now > BURST * SECONDS:
            return False
        self._whole_at[uid] = whole_at
        if len(self._whole_at) > OBJECTS_MAX:
            self._whole_at = {uid: at for uid, at in self._whole_at.items() if at > now + SECONDS}
        return True
