"""Leading: doing something while, and only while, the Lease is held.

The election runs in a thread with a loop and a connection of its own, so that nothing the process does on its main loop
delays a renewal. Losing the lease closes the fence at once, from that thread; the work on the main loop is cancelled
next, and the lease is asked for again only when that has ended.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable

import structlog

from datalabd.kube.client import Client
from datalabd.kube.lease import CLIENT_GO, Fence, Lease, LeaseLost, Times

log = structlog.get_logger()


async def until_first(*work: Awaitable[None]) -> None:
    """Do all of this at once until one ends or fails; return as that did, once the others are cancelled."""
    tasks = [asyncio.ensure_future(part) for part in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        failed = [task for task in done if task.cancelled() or task.exception() is not None]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in failed or done:
        task.result()


class Leader:
    """One candidate for a Lease; `remedy` as `Lease` takes it."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Client]],
        namespace: str,
        name: str,
        identity: str,
        fence: Fence,
        times: Times = CLIENT_GO,
        remedy: str = "",
    ) -> None:
        self._connect = connect
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._fence = fence
        self._times = times
        self._remedy = remedy

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work` whenever the lease is held, until cancelled or until the work ends; the lease is then released.

        Raises what the work or the election raised. Errors of the API server in the election are waited out.
        """
        async with self._election() as election:
            while True:
                await election.acquired()
                doing = asyncio.ensure_future(work())
                lost = asyncio.ensure_future(election.lost())
                try:
                    await asyncio.wait([doing, lost], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    ended = doing.done()
                    for task in (doing, lost):
                        task.cancel()
                    await asyncio.gather(doing, lost, return_exceptions=True)
                if ended:
                    return doing.result()
                log.warning("no longer leading", error=lost.result())
                election.stand_again()

    @contextlib.asynccontextmanager
    async def _election(self) -> AsyncIterator["_Election"]:
        election = _Election(asyncio.get_running_loop())
        thread = threading.Thread(target=self._in_thread, args=(election,), name="election", daemon=True)
        thread.start()
        try:
            yield election
        finally:
            self._fence.close()
            election.stop()
            await asyncio.shield(election.ended.wait())
            thread.join()

    def _in_thread(self, election: "_Election") -> None:
        try:
            asyncio.run(self._elect(election))
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # whatever it is, it ends the work on the main loop
            election.report(error)
        finally:
            self._fence.close()
            election.report_end()

    async def _elect(self, election: "_Election") -> None:
        election.begin()
        client = await self._connect()
        lease = Lease(client, self._namespace, self._name, self._identity, self._fence, self._times, self._remedy)
        try:
            while True:
                await lease.acquire()
                election.report(None)
                try:
                    await lease.hold()
                except LeaseLost as lost:
                    election.report(lost)
                await election.wanted()
        finally:
            await lease.release()
            await client.close()


class _Election:
    """What the two threads tell each other."""

    def __init__(self, main: asyncio.AbstractEventLoop) -> None:
        self._main = main
        self._reports: asyncio.Queue[BaseException | None] = asyncio.Queue()
        """None: acquired; LeaseLost: lost; any other error ended the election."""
        self.ended = asyncio.Event()
        """On the main loop: whether the thread has done its work."""
        self._lock = threading.Lock()
        self._stopped = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._again = asyncio.Event()

    # --- on the main loop

    async def acquired(self) -> None:
        """Return once the lease is held."""
        if (report := await self._reports.get()) is not None:
            raise report

    async def lost(self) -> str:
        """Why the lease is held no longer, once that is so."""
        report = await self._reports.get()
        if not isinstance(report, LeaseLost):
            raise report or AssertionError("acquired twice")
        return str(report)

    def stand_again(self) -> None:
        """Have the thread ask for the lease again."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._again.set)

    def stop(self) -> None:
        """Have the thread release the lease and end."""
        with self._lock:
            self._stopped = True
            if self._task is not None and self._loop is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._task.cancel)

    # --- in the thread

    def begin(self) -> None:
        """Say which task stands for the election."""
        with self._lock:
            if self._stopped:
                raise asyncio.CancelledError
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()

    async def wanted(self) -> None:
        """Return once the lease is to be asked for again."""
        await self._again.wait()
        self._again.clear()

    def report(self, report: BaseException | None) -> None:
        """Tell the main loop."""
        self._main.call_soon_threadsafe(self._reports.put_nowait, report)

    def report_end(self) -> None:
        """Tell the main loop that nothing more follows."""
        with self._lock:
            self._task = None
        self._main.call_soon_threadsafe(self.ended.set)
