"""Ends grants when their time has come; only the holder of the Lease does."""

import asyncio
import datetime
import time
import uuid

import structlog

from datalabd.kube import resources as kinds
from datalabd.kube.resources import Resource
from workspaces import grants
from workspaces.audit import Act, Audit
from workspaces.cache import Cache
from workspaces.claims import Identity
from workspaces.patches import Draft
from workspaces.problems import Problem, not_found
from workspaces.writes import Pair, Writer

log = structlog.get_logger()

OURSELVES = Identity("datalabd-workspaces")
AGAIN_SECONDS = 2.0
"""When to try once more what could not be written."""
SETTLE_SECONDS = 0.2
IDLE_SECONDS = 60.0


class Expiry:
    """Looks at grants whenever a Storage changes, and when the next one ends."""

    def __init__(self, writer: Writer, cache: Cache, audit: Audit) -> None:
        self._writer = writer
        self._cache = cache
        self._audit = audit

    async def run(self) -> None:
        """End grants until cancelled."""
        changed = asyncio.Event()

        def noted(kind: Resource, *_: object) -> None:
            if kind == kinds.STORAGES:
                changed.set()

        stop = self._cache.on_change(noted)
        try:
            while True:
                changed.clear()
                wait = await self._end_due()
                try:
                    async with asyncio.timeout(wait):
                        await changed.wait()
                    await asyncio.sleep(SETTLE_SECONDS)
                except TimeoutError:
                    pass
        finally:
            stop()

    async def _end_due(self) -> float:
        """End what is due; seconds until there may be more."""
        now = datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
        wait = IDLE_SECONDS
        for name in grants.due(self._cache.sharing, now):
            try:
                written = await self._writer.edit(name, lambda pair: ended(pair, now))
            except Problem as problem:
                log.warning("grant not ended yet", workspace=name, status=problem.status)
                wait = min(wait, AGAIN_SECONDS)
                continue
            act = Act("expire_grants", name, OURSELVES, uuid.uuid4().hex)
            self._audit.changed(act, written.changed, changes=written.changes)
        if (soonest := grants.next_due(self._cache.sharing)) is not None:
            wait = min(wait, max((soonest - now).total_seconds(), 0.05) if soonest > now else AGAIN_SECONDS)
        return wait


def ended(pair: Pair, now: datetime.datetime) -> Draft:
    """The objects with every grant ended that is due."""
    if pair.storage is None:
        raise not_found()
    draft = Draft(pair.storage, None)
    grants.end_due(draft, now)
    return draft
