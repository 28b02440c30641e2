"""The table that a run of the benchmarks makes, on the screen and as a reference page."""

import contextlib
import os
import platform
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "performance.md"

_HEAD = """# Performance

What datalabd costs, as `make bench` measured it and wrote it here: in one run, on a control plane with Educates and
pods played beside it. The machine: {cpus} × {processor}, {memory} GiB of memory, {system} on {machine}, Python
{python}.

| Figure | Measured | × the floor | Goal, at most | Met | |
|---|---|---|---|---|---|
"""

_FOOT = """
## What the figures mean

- Times depend on the machine and on what else it does. The column "× the floor" compares each with the same run's
  floor, which does what cannot be done with less. For reconciling that is a bare writer: aiohttp and orjson, one POST
  of an object of 2 KB, its answer decoded. For admission it is a bare handler: aiohttp over TLS, the same reviews
  decoded and allowed. Claims made one after the other stand beside a dry-run create of a ConfigMap, Keycloak's rows
  beside a client made and deleted by hand. Any other floor is named in its row.
- CPU is that of datalabd's own process (`/proc/PID/task/*/schedstat`), admission included. The API server, etcd and
  the stand-ins are left out, and so is what an idle process spends meanwhile on measuring its own loop.
- Processes find our modules compiled, as they do where datalabd is installed.
- A burst is that many claims written at once. Its figures count until nothing is reconciled any more, so that they
  contain all that comes after Ready. Figures are the median of {rounds} measurements, or of as many parts of the
  requests. Each burst of the larger number has a control plane of its own.
- Passes are `datalabd_reconcile_total`. Requests are counted in the API server's audit log: lists, watches that begin
  and Events are among them, renewals of the lease are not.
- How late the event loop is, is measured every 20 ms in datalabd's own process, and in an idle one beside it.
- An admission is a call of the mutating webhook and one of the validating webhook. Each of its requests differs from
  the one before in a value.
- The Workspace API has 500 workspaces with 2,000 buckets, 1,000 requests and as many grants, and a quota and a volume
  claim of each. Two replicas run, of which one is measured. Readers bring tokens of members; upstream is
  rm-workspace-api, and what it asks of the API server is asked by hand beside ours.
- Pages are loaded by Debian's Chromium over loopback, each in a browser that knows nothing. The static page has the
  same bytes and headers, nothing of it runs, and it is sent from memory. Bytes are as sent, with headers; the stream is
  left out. Upstream's first page has 439 kB packed without its fonts.

## Run it yourself

`make bench` measures all of it again, and writes this page. It takes about a quarter of an hour, on a machine that
does nothing else. Standard error says what is measured now. A row that fails says why; the others go on, and the
command ends with 1. Figures of Keycloak need Java and Maven, those of pages Chromium.
"""


@dataclass(frozen=True)
class Row:
    """One figure, as a multiple of its floor, what it should be at most, whether it is, and what else is to be said."""

    what: str
    figure: str
    times: str = ""
    goal: str = ""
    met: str = ""
    note: str = ""


@dataclass
class Table:
    """Rows in the order in which they were measured."""

    rows: list[Row] = field(default_factory=list)
    failed: bool = False
    _began: float = field(default_factory=time.monotonic)

    def row(
        self,
        what: str,
        value: float,
        unit: str = "",
        *,
        floor: float | None = None,
        goal: float | None = None,
        note: str = "",
    ) -> None:
        """Print one figure, and keep it. The floor is in the same unit; the goal is the most that is good."""
        times = "" if floor is None else f"{_number(value / floor)}×"
        aim = "" if goal is None else _with(unit, f"{goal:g}")
        self._add(Row(what, _with(unit, _number(value)), times, aim, _met(value, goal, unit), note))

    @contextlib.contextmanager
    def part(self, what: str) -> Iterator[None]:
        """Measure something: says so on standard error. Where that fails, a row says why, and the next part goes on."""
        self.tell(what)
        try:
            yield
        except Exception as error:  # whatever went wrong, the other rows are worth having
            traceback.print_exc()
            self.failed = True
            self._add(Row(what, "failed", note=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"))

    def tell(self, what: str) -> None:
        """Say on standard error what is measured now."""
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        print(f"[{minutes:2}:{seconds:02}] {what} …", file=sys.stderr, flush=True)

    def page(self, rounds: int) -> str:
        """The rows as a reference page."""
        head = _HEAD.format(
            cpus=os.cpu_count(),
            processor=_processor(),
            memory=round(psutil.virtual_memory().total / 2**30),
            system=platform.system(),
            machine=platform.machine(),
            python=platform.python_version(),
        )
        return head + "".join(map(_line, self.rows)) + _FOOT.format(rounds=rounds)

    def _add(self, row: Row) -> None:
        self.rows.append(row)
        line = f"{row.what:66} {row.figure:>10} {row.times:>8}  {row.goal:8} {row.met:18} {row.note}"
        print(line.rstrip(), flush=True)


def _line(row: Row) -> str:
    cells = (row.what, row.figure, row.times, row.goal, row.met, row.note)
    return "".join("| " + cell.replace("|", "\\|") + " " for cell in cells) + "|\n"


def _met(value: float, goal: float | None, unit: str) -> str:
    if goal is None:
        return ""
    if value <= goal:
        return "yes"
    by = _with(unit, _number(value - goal))
    return f"missed by {by}" + (f" ({(value / goal - 1) * 100:.0f} %)" if goal else "")


def _number(value: float) -> str:
    if float(value).is_integer() or abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) < 0.1:
        return f"{value:.2g}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _with(unit: str, number: str) -> str:
    return f"{number}{unit}" if unit == "×" else f"{number} {unit}".rstrip()


def _processor() -> str:
    """What the kernel calls the first CPU."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"
