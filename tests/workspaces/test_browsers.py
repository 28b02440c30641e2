"""What a browser says of a request."""

import pytest

from workspaces.browsers import is_cross_site, is_forged, is_navigation, is_unasked, local_path
from workspaces.proxies import Origin

ORIGIN = Origin("https", "ws.example.org", "/sub")
OURS = {"Origin": "https://ws.example.org"}


@pytest.mark.parametrize(
    ("method", "headers", "forged"),
    [
        ("GET", {}, False),
        ("HEAD", {"Sec-Fetch-Site": "cross-site"}, False),
        ("POST", OURS, False),
        ("POST", OURS | {"Sec-Fetch-Site": "same-origin"}, False),
        ("POST", OURS | {"Sec-Fetch-Site": "same-site"}, True),
        ("DELETE", {}, True),
        ("PUT", {"Origin": "null"}, True),
        ("PATCH", {"Origin": "https://evil.example.org"}, True),
        ("POST", {"Origin": "http://ws.example.org"}, True),
        ("POST", {"Sec-Fetch-Site": "same-origin"}, True),
        ("POST", {"Origin": "null", "Sec-Fetch-Site": "same-origin"}, False),
        ("POST", {"Origin": "null", "Sec-Fetch-Site": "cross-site"}, True),
        ("POST", {"Origin": "null", "Sec-Fetch-Site": "none"}, True),
        ("POST", {"Origin": "https://evil.example.org", "Sec-Fetch-Site": "same-origin"}, True),
    ],
)
def test_a_change_by_cookie_comes_from_a_page_of_ours(method: str, headers: dict[str, str], forged: bool) -> None:
    assert is_forged(method, headers, ORIGIN) is forged


@pytest.mark.parametrize(
    ("method", "headers", "is_other"),
    [
        ("POST", {}, False),
        ("POST", {"Origin": "https://ws.example.org"}, False),
        ("POST", {"Origin": "https://seen.example.org", "X-Forwarded-Host": "a, seen.example.org"}, False),
        ("POST", {"Origin": "https://evil.example.org"}, True),
        ("POST", {"Origin": "https://ws.example.org:444"}, True),
        ("POST", {"Origin": "null"}, True),
        ("POST", {"Origin": "null", "Host": ""}, True),
        ("POST", {"Origin": "null", "Sec-Fetch-Site": "same-origin"}, False),
        ("POST", {"Origin": "https://ws.example.org", "Sec-Fetch-Site": "same-site"}, True),
        ("POST", {"Sec-Fetch-Site": "none"}, False),
        ("GET", {"Origin": "https://evil.example.org", "Sec-Fetch-Site": "cross-site"}, False),
    ],
)
def test_what_a_page_of_another_site_sends_to_a_gateway(method: str, headers: dict[str, str], is_other: bool) -> None:
    assert is_cross_site(method, {"Host": "ws.example.org"} | headers) is is_other


@pytest.mark.parametrize(
    ("headers", "unasked"),
    [
        ({}, False),
        ({"Sec-Purpose": "prefetch;prerender"}, True),
        ({"Purpose": "prefetch"}, True),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, True),
        ({"Sec-Fetch-Site": "same-site"}, True),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, False),
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}, False),
        ({"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, False),
    ],
)
def test_nobody_waits_for_what_a_browser_fetches_by_itself(headers: dict[str, str], unasked: bool) -> None:
    assert is_unasked(headers) is unasked


@pytest.mark.parametrize(
    ("method", "headers", "navigates"),
    [
        ("GET", {"Accept": "text/html,*/*"}, True),
        ("GET", {"Accept": "TEXT/HTML", "Sec-Fetch-Dest": "document"}, True),
        ("GET", {"Accept": "text/html", "Sec-Fetch-Dest": "iframe"}, False),
        ("GET", {"Accept": "application/json"}, False),
        ("GET", {}, False),
        ("POST", {"Accept": "text/html"}, False),
    ],
)
def test_a_person_looks_at_pages(method: str, headers: dict[str, str], navigates: bool) -> None:
    assert is_navigation(method, headers) is navigates


@pytest.mark.parametrize("path", ["/workspaces/a?x=1#y", "/", "/a/?to=//b/../c", "/a.b/..c", "/#//"])
def test_a_path_of_ours_is_kept(path: str) -> None:
    assert local_path(path, "/d") == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "//evil",
        "https://evil",
        "/\\evil",
        "/.//evil",
        "/a/..//evil",
        "/a/%2E%2e/b",
        "/a//b?c",
        "/./",
        "/a\nSet-Cookie: b",
        "/ü",
        "/a b",
        "\\\\evil",
        "javascript:1",
        "/" + "a" * 2048,
    ],
)
def test_anything_that_leads_elsewhere_is_not(path: str) -> None:
    assert local_path(path, "/d") == "/d"
