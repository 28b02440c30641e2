"""Quantities of memory and storage: the positive whole-byte subset of Kubernetes' notation, as text and as numbers.

That is what claims and environments may say; `held` reads what any object holds, by the API server's own grammar.
"""

import functools
import re
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, Field

# Without `m`, `u` and `n`, and without a sign: a fraction of a byte is a slip of the pen (`512m` for `512Mi`).
PATTERN = r"^[0-9]+(\.[0-9]+)?(k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][0-9]{1,2})?$"
MAX_LENGTH = 20
LARGEST = 2**63 - 1
"""What Kubernetes counts to."""
_PARTS = re.compile(r"([0-9]+(?:\.[0-9]+)?)(?:(k|[MGTPE]|[KMGTPE]i)|[eE]([0-9]{1,2}))?", re.ASCII)
_DECIMAL = {suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", start=1)}
_BINARY = {f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)}
_FACTORS = _DECIMAL | _BINARY

# `apimachinery/pkg/api/resource`: a sign, a dot at either end, fractions of a byte, exponents with a sign.
_HELD = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?[0-9]+))?", re.ASCII)
_FRACTIONS = {suffix: Decimal(1000) ** -power for power, suffix in enumerate("mun", start=1)}
_HELD_MAX = 64
"""Characters; an API server writes far fewer."""
_EXPONENT_MAX = 100


def held(value: object) -> Decimal | None:
    """Bytes of a quantity that a live object holds, as text or as a number; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float) or len(text := str(value)) > _HELD_MAX:
        return None
    parts = _HELD.fullmatch(text)
    if parts is None:
        return None
    number, suffix, exponent = parts.groups()
    if exponent and abs(int(exponent)) > _EXPONENT_MAX:
        return None
    factor = (_FACTORS | _FRACTIONS)[suffix] if suffix else Decimal(10) ** int(exponent or 0)
    return Decimal(number) * factor


@functools.lru_cache(maxsize=1024)
def parse(text: str) -> Decimal:
    """Bytes that a quantity such as `1.5Gi` stands for; ValueError if it is none."""
    parts = _PARTS.fullmatch(text)
    if parts is None or len(text) > MAX_LENGTH:
        raise ValueError("must be a quantity of bytes such as 512Mi, 1.5Gi or 10G")
    number, suffix, exponent = parts.groups()
    factor = _FACTORS[suffix] if suffix else Decimal(10) ** int(exponent or 0)
    return Decimal(number) * factor


def _positive(text: str) -> str:
    if parse(text) <= 0:
        raise ValueError("must be greater than zero")
    if parse(text) > LARGEST:
        raise ValueError("must be less than 8Ei")  # the API server would keep it as that
    if parse(text) % 1:
        raise ValueError("must be a whole number of bytes")  # the API server would keep it as milli-bytes
    return text


Quantity = Annotated[
    str,
    AfterValidator(_positive),
    Field(
        max_length=MAX_LENGTH,
        json_schema_extra={
            "pattern": PATTERN,
            "x-kubernetes-validations": [
                {
                    # What is no quantity has failed the pattern, and is told of once.
                    "rule": "!isQuantity(self) || quantity(self).isGreaterThan(quantity('0'))",
                    "message": "must be greater than zero",
                },
            ],
        },
    ),
]
"""A quantity as written, at most 20 characters and greater than zero; numbers are not accepted in place of text."""
