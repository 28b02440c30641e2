"""What proxies say of the request that they received, and whose word counts."""

import ipaddress

import pytest
from multidict import CIMultiDict

from workspaces.proxies import Origin, Proxies, is_loopback

PROXIES = Proxies([ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")])
FORWARDED = {
    "Host": "pod:8181",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "ws.example.org",
    "X-Forwarded-Prefix": "/sub/",
}


def origin(peer: str | None, **headers: str) -> Origin:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return PROXIES.origin(peer, "http", CIMultiDict(FORWARDED | named))


@pytest.mark.parametrize("peer", ["10.1.2.3", "fd00::1", "::ffff:10.1.2.3"])
def test_a_trusted_proxy_is_believed(peer: str) -> None:
    assert origin(peer) == Origin("https", "ws.example.org", "/sub")


@pytest.mark.parametrize("peer", ["192.0.2.1", "::1", "", None, "no address"])
def test_nobody_else_is_believed(peer: str | None) -> None:
    assert origin(peer) == Origin("http", "pod:8181", "")


@pytest.mark.parametrize(
    ("header", "value", "expected"),
    [
        pytest.param("X_Forwarded_Proto", "javascript", Origin("http", "ws.example.org", "/sub"), id="scheme"),
        pytest.param(
            "X_Forwarded_Proto", "http, https", Origin("https", "ws.example.org", "/sub"), id="several schemes"
        ),
        pytest.param("X_Forwarded_Host", "a b", Origin("https", "pod:8181", "/sub"), id="host"),
        pytest.param("X_Forwarded_Host", "evil/x", Origin("https", "pod:8181", "/sub"), id="host with a path"),
        pytest.param("X_Forwarded_Host", "evil, ws:8443", Origin("https", "ws:8443", "/sub"), id="several hosts"),
        pytest.param("X_Forwarded_Host", "[::1]:80", Origin("https", "[::1]:80", "/sub"), id="IPv6"),
        pytest.param("X_Forwarded_Prefix", "//evil", Origin("https", "ws.example.org"), id="prefix that is a host"),
        pytest.param("X_Forwarded_Prefix", "/a/../b", Origin("https", "ws.example.org"), id="prefix that goes up"),
        pytest.param("X_Forwarded_Prefix", "sub", Origin("https", "ws.example.org"), id="prefix without a slash"),
        pytest.param("X_Forwarded_Prefix", "/a/b", Origin("https", "ws.example.org", "/a/b"), id="two levels"),
        pytest.param("X_Forwarded_Prefix", "/", Origin("https", "ws.example.org"), id="no prefix"),
    ],
)
def test_what_is_not_well_formed_is_as_if_it_were_not_there(header: str, value: str, expected: Origin) -> None:
    assert origin("10.1.2.3", **{header: value}) == expected


def test_a_host_that_is_none_is_not_repeated() -> None:
    assert PROXIES.origin("192.0.2.1", "http", {"Host": "a<b"}) == Origin("http", "localhost")


@pytest.mark.parametrize(
    ("host", "is_local"),
    [("localhost:8181", True), ("127.0.0.1", True), ("[::1]:80", True), ("[::1]", True), ("example.org", False)],
)
def test_loopback_is_told_by_the_host(host: str, is_local: bool) -> None:
    assert Origin("http", host).is_loopback is is_local


def test_origin_reads_as_browsers_write_it() -> None:
    known = Origin("https", "ws.example.org", "/sub")
    assert (str(known), known.url) == ("https://ws.example.org", "https://ws.example.org/sub")


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", "203.0.113.9", "192.0.2.1"),
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "1.1.1.1, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("10.0.0.1", "evil", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        (None, "203.0.113.9", ""),
    ],
)
def test_client_is_the_last_that_is_no_proxy_of_ours(peer: str | None, forwarded: str, client: str) -> None:
    assert PROXIES.client(peer, {"X-Forwarded-For": forwarded}) == client


def test_a_line_that_a_proxy_adds_counts_before_that_of_the_client() -> None:
    headers = CIMultiDict({"Host": "pod"})
    for name, said, added in (
        ("x-forwarded-proto", "http", "https"),
        ("X-Forwarded-Host", "evil", "ws.example.org"),
        ("X-Forwarded-Prefix", "/evil", "/sub"),
        ("X-Forwarded-For", "1.1.1.1", "203.0.113.9"),
    ):
        headers.add(name, said)
        headers.add(name, added)
    assert PROXIES.origin("10.0.0.1", "http", headers) == Origin("https", "ws.example.org", "/sub")
    assert PROXIES.client("10.0.0.1", headers) == "203.0.113.9"


def test_peers_are_remembered_within_bounds() -> None:
    proxies = Proxies([ipaddress.ip_network("10.0.0.0/8")])
    assert sum(proxies.trusts(f"10.0.{high}.{low}") for high in range(6) for low in range(256)) == 1536
    assert is_loopback("no address") is False
