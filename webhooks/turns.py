"""Long work on one event loop: nobody holds it for long, and users who wait are served in turn.

A claim may be large, and a user may write many at once. Work comes in steps; after `SLICE_SECONDS` of them the loop
goes on with what else there is, and the next user has a turn. There is no limit to how much anybody asks for: whoever
asks for much waits for himself, and the others for one slice of his.

A request names its user, and anybody may send one. So turns go to the peers of connections first: whoever is not the
API server makes up as many users as he likes, and has the turns of one peer.
"""

import asyncio
import time
from collections import deque
from typing import TypeVar

from datalabd.steps import Steps

SLICE_SECONDS = 0.005
T = TypeVar("T")


class Turns:
    """Whose turn it is, of those with work on one event loop."""

    def __init__(self, slice_seconds: float = SLICE_SECONDS) -> None:
        self._slice_seconds = slice_seconds
        self._taken = False
        """Whether somebody has the turn, or was just given it."""
        self._waiting: dict[str, dict[str, deque[asyncio.Future[None]]]] = {}
        """Who waits, by peer and user; the first user of the first peer is the next."""

    async def take(self, peer: str, user: str, work: Steps[T]) -> T:
        """Do the work: at once where nobody waits, else in turn with other peers, and with other users of this one."""
        if self._taken:
            await self._given(self._queue(peer, user))
        self._taken = True
        while True:
            try:
                result = _slice(work, self._slice_seconds)
            except _Unfinished:
                mine = self._queue(peer, user)
                # Not at once: whoever came meanwhile is to be in line, and the loop to go round.
                asyncio.get_running_loop().call_soon(self._pass_on)
                await self._given(mine)
            except BaseException:
                self._pass_on()
                raise
            else:
                self._pass_on()
                return result

    def _queue(self, peer: str, user: str) -> asyncio.Future[None]:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(peer, {}).setdefault(user, deque()).append(turn)
        return turn

    def _pass_on(self) -> None:
        """Give the turn to the next user of the next peer; both wait for another after everybody else."""
        while self._waiting:
            peer = next(iter(self._waiting))
            users = self._waiting.pop(peer)
            user = next(iter(users))
            turns = users.pop(user)
            turn = turns.popleft()
            if turns:
                users[user] = turns
            if users:
                self._waiting[peer] = users
            if not turn.done():  # else whoever waited for it has gone
                turn.set_result(None)
                return
        self._taken = False

    async def _given(self, turn: asyncio.Future[None]) -> None:
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._pass_on()
            raise


class _Unfinished(Exception):
    """There is work left for another turn."""


def _slice(work: Steps[T], seconds: float) -> T:
    """Steps for as long as one turn takes, at least one; `_Unfinished` if that was not the last."""
    until = time.perf_counter() + seconds
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: T = end.value
            return result
        if time.perf_counter() >= until:
            raise _Unfinished
