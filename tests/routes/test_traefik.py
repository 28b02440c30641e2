import re
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalabd.routes import traefik
from datalabd.routes.hosts import EVERY
from datalabd.routes.traefik import DEPTH_MAX, HOSTS_MAX, PLAIN, RULE_MAX, TooManyHosts, hosts


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        pytest.param("Host(`a.org`)", ["a.org"], id="one host"),
        pytest.param('Host("a.org")', ["a.org"], id="quoted"),
        pytest.param("HOST(` A.org `)", ["a.org"], id="case and blanks"),
        pytest.param("Host(`a.org`, `b.org`)", ["a.org", "b.org"], id="two hosts in one"),
        pytest.param("HostHeader(`a.org`)", ["a.org"], id="by its other name"),
        pytest.param("HostSNI(`a.org`)", ["a.org"], id="by TLS"),
        pytest.param("HostSNI(`*`)", [EVERY], id="all, by TLS"),
        pytest.param("Host(`a.org`) && PathPrefix(`/b`)", ["a.org"], id="with a path"),
        pytest.param("PathPrefix(`/b`)", [EVERY], id="a path alone"),
        pytest.param("Host(`a.org`) || PathPrefix(`/b`)", ["a.org", EVERY], id="or a path"),
        pytest.param("Host(`a.org`) || Host(`b.org`)", ["a.org", "b.org"], id="or another"),
        pytest.param("Host(`a.org`) && Host(`b.org`)", [], id="both at once"),
        pytest.param("!Host(`a.org`)", [EVERY], id="all but one"),
        pytest.param("!(Host(`a.org`) || Host(`b.org`)) && Host(`a.org`)", [], id="none"),
        pytest.param("!PathPrefix(`/b`) && Host(`a.org`)", ["a.org"], id="without a path"),
        pytest.param("Host(`a.org`) && HostRegexp(`.+`)", ["a.org"], id="a host that fits a pattern"),
        pytest.param("Host(`a.org`) && (Path(`/`) || Host(`b.org`))", ["a.org"], id="grouped"),
        pytest.param("Host(`a.org`) || Host(`b.org`) && Path(`/`)", ["a.org", "b.org"], id="precedence"),
    ],
)
def test_rules(rule: str, expected: list[str]) -> None:
    assert list(hosts(rule)) == expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        pytest.param(r"^.+\.shop\.example\.com$", "*.shop.example.com", id="literal end"),
        pytest.param(r"^(a|b)\.shop\.com$", EVERY, id="alternatives"),
        pytest.param(r"lab|x\.shop\.com$", EVERY, id="alternatives without brackets"),
        pytest.param(r"^.+\.shop\.com", EVERY, id="no end"),
        pytest.param(r".+", EVERY, id="anything"),
        pytest.param(r"^[a-z]+.example.com$", EVERY, id="dots that are patterns"),
        pytest.param(r"\x2dmain\.lab\.org$", EVERY, id="letters in disguise"),
        pytest.param(r"^\Qa.b\E\.shop\.com$", EVERY, id="quotation"),
        pytest.param(r"^[a-z]+example\.com$", "*.com", id="no label of its own"),
        pytest.param(r"^a\.shop\.com$", "*.shop.com", id="literal"),
        pytest.param(r"^a\.s?\.com$", "*.com", id="optional letter"),
        pytest.param(r"{sub:[a-z]+}.shop.com", "*.shop.com", id="template of version 2"),
        pytest.param(r"{sub}.shop.com", "*.shop.com", id="template without a pattern"),
        pytest.param(r"{sub:a|b}.shop.com", EVERY, id="template with alternatives"),
        pytest.param(r"x{sub:.+}.shop.com", EVERY, id="template with something before it"),
    ],
)
def test_patterns(pattern: str, expected: str) -> None:
    assert list(hosts(f"HostRegexp(`{pattern}`)")) == [expected]


def test_a_pattern_that_is_excluded_leaves_all_the_rest() -> None:
    assert EVERY in hosts(r"!HostRegexp(`^.+\.shop\.com$`)")


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        pytest.param(r"HostRegexp(`^.+\.a\.org$`) && Host(`x.a.org`)", ["*.a.org", "x.a.org"], id="within the pattern"),
        pytest.param(r"HostRegexp(`^.+\.a\.org$`) && Host(`x.b.org`)", [], id="outside of it"),
        pytest.param(
            r"HostRegexp(`^.+\.b\.a\.org$`) && HostRegexp(`^.+\.a\.org$`)", ["*.b.a.org", "*.a.org"], id="two patterns"
        ),
    ],
)
def test_patterns_and_hosts(rule: str, expected: list[str]) -> None:
    assert list(hosts(rule)) == expected


@pytest.mark.parametrize(
    "rule",
    [
        "",
        "Host",
        "Host(`a.org`",
        "Host()",
        "Host(`a.org`) Host(`b.org`)",
        "Host(`a.org`) &&",
        "|| Host(`a.org`)",
        "Host(`a.org`) ; drop",
        "Host(`a.org)",
        r'Host("a\x2eorg")',
        "Host(a.org)",
        "Host(`a.org`,)",
        "Host(`a.org`) && " * 1000 + "Path(`/`)",
        "(" * (DEPTH_MAX + 1) + "Host(`a.org`)" + ")" * (DEPTH_MAX + 1),
        "!" * (DEPTH_MAX + 1) + "Host(`a.org`)",
    ],
)
def test_what_cannot_be_read_may_answer_for_any_host(rule: str) -> None:
    assert list(hosts(rule)) == [EVERY]


NAMED = [f"{number}.a.org" for number in range(HOSTS_MAX + 1)]


@pytest.mark.parametrize("separator", ["`, `", "`) || Host(`"], ids=["one matcher", "many matchers"])
def test_a_rule_names_so_many_hosts_at_most(separator: str) -> None:
    assert list(hosts(f"Host(`{separator.join(NAMED[1:])}`)")) == NAMED[1:]
    with pytest.raises(TooManyHosts):
        list(hosts(f"Host(`{separator.join(NAMED)}`)"))


def test_each_part_of_a_rule_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [*(f"Host(`{host}`)" for host in NAMED[1:]), *["P(`a`)"] * 200]
    counted = Mock(side_effect=traefik._or)
    monkeypatch.setattr(traefik, "_or", counted)
    assert list(hosts(" || ".join(parts))) == [*NAMED[1:], EVERY]
    assert counted.call_count <= 3 * len(parts)


HOST = st.sampled_from(["a.org", "b.a.org", "A-1.org"])
MATCHERS = st.one_of(
    st.lists(HOST, min_size=1, max_size=2).map(lambda named: f"Host({', '.join(f'`{host}`' for host in named)})"),
    HOST.map(lambda host: f"HostSNI(`{host}`)"),
    st.sampled_from(["PathPrefix(`/a`)", "HostRegexp(`.+`)", "Header(`a`, `b`)", "HostSNI(`*`)"]),
)
RULES = st.recursive(
    MATCHERS,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(" && ".join),
        st.tuples(inner, inner).map(" || ".join),
        inner.map(lambda rule: f"({rule})"),
        inner.map(lambda rule: f"!{rule}"),
    ),
    max_leaves=6,
)


@given(RULES)
def test_a_plain_rule_answers_for_what_it_names(rule: str) -> None:
    """The API server asks about others only: the shortcut may not let pass what the whole answer would not."""
    if re.search(PLAIN, rule):
        assert all(f"`{host}`" in rule.lower() for host in hosts(rule))


@pytest.mark.parametrize(
    ("rule", "plain"),
    [
        ("Host(`a.org`)", True),
        ("Host(`a.org`, `b.org`) && PathPrefix(`/a`)", True),
        ("Host(`a.org`) && !PathPrefix(`/a`) || HostSNI(`b.org`)", True),
        ("(Host(`a.org`) || Host(`b.org`)) && Header(`a`, `b`)", True),
        ("Host(`a.org`) || PathPrefix(`/a`)", False),
        ("!Host(`a.org`)", False),
        ("HostSNI(`*`)", False),
        ("PathPrefix(`/a`) && Host(`a.org`)", False),
        ("Host(`a.org`) && (PathPrefix(`/a`))", False),
    ],
)
def test_plain_rules(rule: str, plain: bool) -> None:
    assert bool(re.search(PLAIN, rule)) is plain


@given(st.text('`"!&|(),. aHostPathSNIRegexp*$\\{}:', max_size=RULE_MAX + 9))
def test_no_rule_breaks_it(rule: str) -> None:
    assert all(host == host.lower() for host in hosts(rule))
