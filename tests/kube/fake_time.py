"""An event loop on which hours pass at once: where nothing is left to do, its clock moves to the next timer."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.SelectSelector):
    """Waits for nothing but time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> Any:
        """What can be read at once; else the time has passed."""
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "nothing will ever happen again"
            self.now += timeout
        return ready


class FakeTimeLoop(asyncio.SelectorEventLoop):
    """For what makes no request, and reads the time from its loop."""

    def __init__(self) -> None:
        self._fake = _Selector()
        super().__init__(self._fake)

    def time(self) -> float:
        """Seconds, which pass as nothing is to be done."""
        return self._fake.now

    def stop_time(self, seconds: float) -> None:
        """Have time pass in which nobody here runs, as after SIGSTOP."""
        self._fake.now += seconds


def run(main: Callable[[FakeTimeLoop], Coroutine[Any, Any, T]]) -> T:
    """What `main` returns, given a loop of this kind."""
    with asyncio.Runner(loop_factory=FakeTimeLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, FakeTimeLoop)
        return runner.run(main(loop))
