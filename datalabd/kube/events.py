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


class Recorder:
    """Writes Events; the same one about the same object at most every ten minutes. A refused Event is only logged."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._told: dict[tuple[str, str, str], float] = {}
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
