"""The table that a run of the benchmarks makes, on the screen and as a reference page."""

import os
import platform
from dataclasses import dataclass, field
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "performance.md"

_HEAD = """# Performance

What datalabd costs, as `make bench` measured it and wrote it here, in one run on a control plane with Educates and pods
played beside it: {cpus} CPUs, {machine}, Python {python}. Times depend on the machine and on what else it does. Compare
a figure with the bare writer or handler of the same run, which does what cannot be done with less.

| Figure | Measured | Goal | |
|---|---|---|---|
"""


@dataclass(frozen=True)
class Row:
    """One figure, what it should be at most, and what it compares with."""

    what: str
    figure: str
    goal: str = ""
    note: str = ""


@dataclass
class Table:
    """Rows in the order in which they were measured."""

    rows: list[Row] = field(default_factory=list)

    def row(self, what: str, figure: str, note: str = "", goal: str = "") -> None:
        """Print one line, and keep it."""
        self.rows.append(Row(what, figure, goal, note))
        print(f"{what:58} {figure:>12}  {goal:12}  {note}".rstrip(), flush=True)

    def page(self) -> str:
        """The rows as a reference page."""
        head = _HEAD.format(cpus=os.cpu_count(), machine=platform.machine(), python=platform.python_version())
        return head + "".join(f"| {row.what} | {row.figure} | {row.goal} | {row.note} |\n" for row in self.rows)
