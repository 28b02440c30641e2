"""Sizes for people, in their language. Pure."""

from collections.abc import Callable

from datalabd.api.quantity import held
from workspaces.ui.languages import N_

UNITS = (N_("B"), N_("KiB"), N_("MiB"), N_("GiB"), N_("TiB"), N_("PiB"))


def size(count: int, decimal: str, text: Callable[[str], str]) -> str:
    """Bytes in a unit that is easy to read; `decimal` and `text` are the language's decimal sign and catalogue."""
    value, unit = float(count), 0
    while value >= 1000 and unit < len(UNITS) - 1:
        value, unit = value / 1024, unit + 1
    number = f"{value:.1f}".removesuffix(".0") if value < 100 else f"{value:.0f}"
    return f"{number.replace('.', decimal)} {text(UNITS[unit])}"


def quantity(written: str, decimal: str, text: Callable[[str], str]) -> str:
    """The same of a quantity as Kubernetes writes it; as it is written, if it is none."""
    count = held(written)
    return written if count is None else size(int(count), decimal, text)
