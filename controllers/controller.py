"""Take a key, reconcile it, decide when to look again; the one place that counts and logs it."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from controllers.workqueue import Workqueue
from datalabd import defects, metrics
from datalabd.api.meta import NamespacedName
from datalabd.errors import (
    ClaimInvalid,
    Conflict,
    DatalabdError,
    Denied,
    EnvironmentInvalid,
    Foreign,
    InternalError,
    KeycloakForeign,
    KubeError,
    NotYet,
)

log = structlog.get_logger()

FOREIGN_RETRY_SECONDS = 60.0
"""An object of somebody else's is watched only if it is of a kind and label we watch, and rights are not: look again
slowly."""

STACK_AGAIN_SECONDS = 3600.0
"""One defect can meet every lab with every retry: its stack is logged once, and again after this."""


@dataclass(frozen=True)
class Result:
    """What a reconcile did, and the latest moment to look again (seconds; None: only when something changes)."""

    requeue_after: float | None = None
    created: int = 0
    applied: int = 0
    pruned: int = 0
    unchanged: int = 0
    idle: bool = False
    """Whether all was in order already."""


Reconcile = Callable[[NamespacedName], Awaitable[Result]]


async def _at_once() -> None:
    """Return."""


class Controller:
    """Workers over one queue. A failure of one key never delays another."""

    def __init__(
        self,
        name: str,
        reconcile: Reconcile,
        queue: Workqueue[NamespacedName],
        workers: int = 8,
        until_current: Callable[[], Awaitable[None]] = _at_once,
    ) -> None:
        self._name = name
        self._until_current = until_current
        """Returns when what is known can be worked by; awaited before each key."""
        self._reconcile = reconcile
        self._queue = queue
        self._workers = workers
        self._stacks: dict[str, float] = {}
        """When the stack of a defect was logged last, by its place."""

    async def run(self) -> None:
        """Work until cancelled; a write in progress is finished first."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._work())

    async def _work(self) -> None:
        active = metrics.ACTIVE_WORKERS.labels(controller=self._name)
        while True:
            key = await self._queue.get()
            try:
                await self._until_current()
                with active.track_inprogress():
                    await self._once(key)
            finally:
                self._queue.done(key)

    async def _once(self, key: NamespacedName) -> None:
        """One pass over a key."""
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(
            controller=self._name, namespace=key.namespace, name=key.name, reconcile_id=uuid.uuid4().hex[:8]
        )
        began = time.monotonic()
        try:
            result = await self._reconcile(key)
        except Exception as error:  # the worker is the one place where any failure becomes a retry
            outcome = self._failed(key, error)
        else:
            outcome = "success" if result.requeue_after is None else "requeue_after"
            self._queue.forget(key)
            if result.requeue_after is not None:
                self._queue.add_after(key, result.requeue_after)
            changed = result.created or result.applied or result.pruned
            (log.info if changed else log.debug)(
                "reconciled",
                created=result.created,
                applied=result.applied,
                pruned=result.pruned,
                unchanged=result.unchanged,
                seconds=round(time.monotonic() - began, 3),
            )
        metrics.RECONCILES.labels(controller=self._name, result=outcome).inc()
        metrics.RECONCILE_SECONDS.labels(controller=self._name).observe(time.monotonic() - began)

    def _failed(self, key: NamespacedName, error: Exception) -> str:
        """Log, count and requeue a failure; returns its name in the metrics."""
        match error:
            case ClaimInvalid() | EnvironmentInvalid():
                # Only a change of the claim or its environment can mend it, and both are watched.
                self._queue.forget(key)
                metrics.RECONCILE_TERMINAL.labels(controller=self._name).inc()
                log.info("waits for a person", error=str(error))
                return "terminal_error"
            case NotYet():
                self._queue.forget(key)
                self._queue.add_after(key, error.retry_after)
                log.debug("not yet", what=str(error))
                return "requeue_after"
            case Foreign() | Denied() | KeycloakForeign():
                self._queue.forget(key)
                self._queue.add_after(key, FOREIGN_RETRY_SECONDS)
                metrics.RECONCILE_TERMINAL.labels(controller=self._name).inc()
                log.info("waits for a person", error=str(error))
                return "terminal_error"
        metrics.RECONCILE_ERRORS.labels(controller=self._name).inc()
        delay = self._queue.retry(key, (isinstance(error, KubeError) and error.retry_after) or 0.0)
        if isinstance(error, InternalError) or not isinstance(error, DatalabdError):
            self._log_defect(error, delay)
        elif isinstance(error, Conflict):
            log.debug("conflict", error=str(error), retry_seconds=round(delay, 1))
        else:
            log.warning("reconcile failed", error=str(error), retry_seconds=round(delay, 1))
        return "error"

    def _log_defect(self, error: Exception, delay: float) -> None:
        """Without what the error says: that may hold what is secret."""
        metrics.RECONCILE_PANICS.labels(controller=self._name).inc()
        cause = error.__cause__ if isinstance(error, InternalError) and error.__cause__ is not None else error
        where, now = defects.place(cause), time.monotonic()
        told: dict[str, object] = {"error": where, "retry_seconds": round(delay, 1)}
        if now - self._stacks.get(where, -STACK_AGAIN_SECONDS) >= STACK_AGAIN_SECONDS:
            self._stacks = {known: at for known, at in self._stacks.items() if now - at < STACK_AGAIN_SECONDS}
            self._stacks[where] = now
            told["stack"] = defects.stack(cause)
        log.error("reconcile failed", **told)
