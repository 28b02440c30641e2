from decimal import Decimal

import pytest
from pydantic import TypeAdapter, ValidationError

from datalabd.api.quantity import Quantity, held, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("1", 1, id="bytes"),
        pytest.param("2k", 2000, id="decimal kilo is lower case"),
        pytest.param("1Gi", 2**30, id="binary"),
        pytest.param("1.5Gi", 3 * 2**29, id="fraction"),
        pytest.param("1E", 10**18, id="exa is not an exponent"),
        pytest.param("12e3", 12_000, id="exponent"),
        pytest.param("1E2", 100, id="upper-case exponent"),
        pytest.param("0", 0, id="zero"),
    ],
)
def test_parse(text: str, expected: int) -> None:
    assert parse(text) == Decimal(expected)


@pytest.mark.parametrize(
    "text", ["", "Gi", "512m", "1 Gi", "-1Gi", "+1", "1K", "1gi", "1Gi\n", "٣Gi", "1" * 21, ".5Gi", "1e"]
)
def test_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="must be a quantity"):
        parse(text)


def test_what_the_api_server_would_keep_in_milli_bytes_is_refused() -> None:
    check = TypeAdapter(Quantity).validate_python
    assert check("1.5Gi") == "1.5Gi"
    with pytest.raises(ValidationError, match="must be a whole number of bytes"):
        check("0.1Gi")


@pytest.mark.parametrize("text", ["8Ei", "1e19", "1e99", "99999999999999999Ei"])
def test_what_the_api_server_cannot_count_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="must be less than 8Ei"):
        TypeAdapter(Quantity).validate_python(text)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("1Gi", 2**30, id="as claims say it"),
        pytest.param("1181116006400m", Decimal("1181116006.4"), id="1.1Gi as the API server keeps it"),
        pytest.param("100n", Decimal("1e-7"), id="nano"),
        pytest.param("-1k", -1000, id="signed"),
        pytest.param("+.5Ki", 512, id="a dot first"),
        pytest.param("5.", 5, id="a dot last"),
        pytest.param("1E", 10**18, id="exa"),
        pytest.param("1e-3", Decimal("0.001"), id="a negative exponent"),
        pytest.param(2147483648, 2147483648, id="a number"),
        pytest.param(1.5, Decimal("1.5"), id="a fraction"),
        pytest.param(True, None, id="a boolean"),
        pytest.param(None, None, id="null"),
        pytest.param("", None, id="nothing"),
        pytest.param("1Zi", None, id="an unknown suffix"),
        pytest.param("1Gi\n", None, id="a line"),
        pytest.param("1e999999999", None, id="beyond counting"),
        pytest.param("1" * 65, None, id="longer than any"),
        pytest.param(["1Gi"], None, id="a list"),
    ],
)
def test_held(value: object, expected: Decimal | int | None) -> None:
    assert held(value) == expected
