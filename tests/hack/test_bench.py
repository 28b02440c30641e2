"""The table of the benchmarks says what was met, what was missed and what could not be measured."""

import pytest

from hack.bench.table import Row, Table


def test_a_figure_stands_beside_its_floor_and_its_goal() -> None:
    table = Table()
    table.row("CPU per lab", 90.0, "ms", floor=0.25, goal=60)
    table.row("passes", 8, goal=8)
    table.row("the import", 1.854, "×", goal=1.6, note="its libraries alone 0.31 s")
    table.row("writes", 3, goal=0)
    table.row("seconds", 12.34, "s")
    assert table.rows == [
        Row("CPU per lab", "90 ms", "360×", "60 ms", "missed by 30 ms (50 %)"),
        Row("passes", "8", "", "8", "yes"),
        Row("the import", "1.85×", "", "1.6×", "missed by 0.25× (16 %)", "its libraries alone 0.31 s"),
        Row("writes", "3", "", "0", "missed by 3"),
        Row("seconds", "12.3 s"),
    ]
    assert not table.failed


def test_what_fails_says_why_and_the_others_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table()
    with table.part("bursts"):
        raise RuntimeError("3 of 30 labs\nare ready | no more")
    with table.part("restarts"):
        table.row("CPU", 1, "s")
    assert table.rows == [
        Row("bursts", "failed", note="RuntimeError: 3 of 30 labs are ready | no more"),
        Row("CPU", "1 s"),
    ]
    assert table.failed
    said = capsys.readouterr()
    assert "] bursts …\n" in said.err
    assert "] restarts …\n" in said.err
    assert "raise RuntimeError" in said.err
    assert "| bursts | failed |  |  |  | RuntimeError: 3 of 30 labs are ready \\| no more |\n" in table.page(3)
