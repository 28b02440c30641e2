"""How late the event loop of a process is: an idle one, or datalabd's.

    python -m hack.bench.lag FILE                    an event loop that does nothing else
    python -m hack.bench.lag FILE run --local …      datalabd, with these arguments

FILE gets a line each time: seconds of the machine's monotonic clock, and how many of them the loop was late.
"""

import asyncio
import contextlib
import math
import sys
import time
from pathlib import Path

from datalabd import __main__, app

PERIOD_SECONDS = 0.02
"""Often enough for a percentile, and seldom enough not to be work of its own."""


async def _measure(path: Path) -> None:
    with path.open("w", buffering=1) as file:
        while True:
            due = time.monotonic() + PERIOD_SECONDS
            await asyncio.sleep(PERIOD_SECONDS)
            file.write(f"{due:.4f} {time.monotonic() - due:.5f}\n")


class _Process(app.Process):
    """datalabd with one task more."""

    async def run(self) -> None:
        meter = asyncio.create_task(_measure(Path(sys.argv[1])))
        try:
            await super().run()
        finally:
            meter.cancel()


def percentile(path: Path, since: float, until: float, share: float = 0.99) -> float:
    """Seconds that the loop was late at most in that share of the measurements between two times; NaN without any."""
    lags = []
    for line in path.read_text().splitlines():
        with contextlib.suppress(ValueError):  # the last line may be half written
            due, lag = map(float, line.split())
            if since <= due <= until:
                lags.append(lag)
    return sorted(lags)[min(int(len(lags) * share), len(lags) - 1)] if lags else math.nan


def main() -> int:
    """Run until stopped."""
    _, path, *arguments = sys.argv
    if not arguments:
        asyncio.run(_measure(Path(path)))
    app.Process = _Process  # type: ignore[misc]  # what `run` makes
    return __main__.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
