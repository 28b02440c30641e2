import pytest

from datalabd.routes.hosts import EVERY, HOST_MAX, canonical, covers, is_broad, reaches_below


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        pytest.param("a.org", ("a.org",), id="a name"),
        pytest.param("A.Org", ("a.org",), id="case"),
        pytest.param(" a.org\n", ("a.org",), id="white space"),
        pytest.param("a.org.", ("a.org",), id="dot at the end"),
        pytest.param("a.org..", ("a.org",), id="dots at the end"),
        pytest.param("a.org:8443", ("a.org",), id="port"),
        pytest.param("a.org.:8443", ("a.org",), id="port after a dot"),
        pytest.param("a.org:*", ("a.org",), id="any port, as Envoy has it"),
        pytest.param("a_b.org", ("a_b.org",), id="underscore"),
        pytest.param("*.a.org", ("*.a.org",), id="wildcard"),
        pytest.param("*.A.org.", ("*.a.org",), id="wildcard with a dot at the end"),
        pytest.param("*a.org", ("*a.org",), id="star without a dot"),
        pytest.param("*-main.a.org", ("*-main.a.org",), id="star within a label"),
        pytest.param("x*.a.org", ("*.a.org",), id="star after a letter"),
        pytest.param("*.*.a.org", ("*.a.org",), id="two stars"),
        pytest.param(".a.org", ("a.org", "*.a.org"), id="leading dot"),
        pytest.param("www.a.*", (EVERY,), id="star at the end"),
        pytest.param("*", (EVERY,), id="star alone"),
        pytest.param("", (EVERY,), id="empty"),
        pytest.param(None, (EVERY,), id="none"),
        pytest.param(".", (EVERY,), id="a dot"),
        pytest.param("~^a.org$", (EVERY,), id="regular expression of nginx"),
        pytest.param("{sub:.+}.a.org", (EVERY,), id="template"),
        pytest.param("[::1]", (EVERY,), id="address in brackets"),
        pytest.param("bücher.example", ("xn--bcher-kva.example",), id="IDNA"),
        pytest.param("BÜCHER.example.", ("xn--bcher-kva.example",), id="IDNA in capitals, with a dot"),
        pytest.param("*.bücher.example", ("*.xn--bcher-kva.example",), id="IDNA after a star"),
        pytest.param("a。org", ("a.org",), id="ideographic full stop"),
        pytest.param("ａ.org", ("a.org",), id="full width"),
        pytest.param("straße.example", (EVERY,), id="a letter that IDNA has two names for"),
        pytest.param(f"{'ü' * 64}.org", (EVERY,), id="a label that is no IDNA"),
        pytest.param("ü" * (HOST_MAX + 1), (EVERY,), id="longer than a host"),
        pytest.param("xn--BCHER-kva.example", ("xn--bcher-kva.example",), id="punycode"),
    ],
)
def test_one_form(host: object, expected: tuple[str, ...]) -> None:
    assert canonical(host) == expected
    assert all(canonical(again) == (again,) for again in expected)


@pytest.mark.parametrize(
    ("host", "below"),
    [
        pytest.param("x.lab.org", True, id="name below"),
        pytest.param("x.y.lab.org", True, id="name deep below"),
        pytest.param("lab.org", False, id="the domain itself"),
        pytest.param("xlab.org", False, id="longer name"),
        pytest.param("lab.org.example", False, id="the domain as a beginning"),
        pytest.param("*.lab.org", True, id="wildcard of the domain"),
        pytest.param("*.x.lab.org", True, id="wildcard below"),
        pytest.param("*.org", True, id="wildcard above"),
        pytest.param("*org", True, id="star without a dot above"),
        pytest.param("*ab.org", True, id="star within the domain"),
        pytest.param("*-x.lab.org", True, id="star within a label below"),
        pytest.param("*x.org", False, id="star elsewhere"),
        pytest.param("*.other.org", False, id="wildcard elsewhere"),
        pytest.param(EVERY, True, id="every host"),
    ],
)
def test_what_reaches_below_a_domain(host: str, below: bool) -> None:
    assert reaches_below(host, "lab.org") is below


@pytest.mark.parametrize(
    ("host", "other", "expected"),
    [
        pytest.param("a.org", "a.org", True, id="itself"),
        pytest.param("a.org", "b.org", False, id="another"),
        pytest.param("*.a.org", "x.a.org", True, id="name by a wildcard"),
        pytest.param("*.a.org", "a.org", False, id="the domain of a wildcard"),
        pytest.param("*a.org", "a.org", True, id="star without a dot"),
        pytest.param("*.a.org", "*.b.a.org", True, id="wildcard by a wider one"),
        pytest.param("*.b.a.org", "*.a.org", False, id="wildcard by a narrower one"),
        pytest.param("*.a.org", EVERY, False, id="every host by a wildcard"),
        pytest.param(EVERY, "*.a.org", True, id="wildcard by every host"),
        pytest.param(EVERY, EVERY, True, id="every host by every host"),
    ],
)
def test_what_a_host_covers(host: str, other: str, expected: bool) -> None:
    assert covers(host, other) is expected


def test_what_stands_for_more_than_one_name() -> None:
    assert [is_broad(host) for host in (EVERY, "*.a.org", "*a", "a.org")] == [True, True, True, False]
