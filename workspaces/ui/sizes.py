"""Sizes for people. Pure."""

from datalabd.api.quantity import held

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def size(count: int) -> str:
    """Bytes in a unit that is easy to read."""
    value, unit = float(count), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    written = f"{value:.1f}".removesuffix(".0") if value < 100 else f"{value:.0f}"
    return f"{written} {_UNITS[unit]}"


def readable(quantity: str) -> str:
    """A quantity of bytes in a unit that is easy to read; as it is written, if it is none."""
    count = held(quantity)
    return quantity if count is None else size(int(count))
