"""Pages for browsers, as text."""

from workspaces import pages


def test_the_list_without_workspaces() -> None:
    assert "No workspaces available." in pages.workspaces([])


def test_names_are_escaped() -> None:
    page = pages.workspaces([{"name": "<b>", "url": 'https://x/"><script>', "sessions": []}])
    assert "<b>" not in page
    assert "<script>" not in page


def test_the_waiting_page_asks_its_own_address_and_never_the_session() -> None:
    page = pages.waiter("ws-a", "default")
    assert "location.replace(body.url)" in page
    assert page.count("fetch(") == 1
    assert "fetch(address" in page
    assert "HEAD" not in page


def test_a_page_allows_its_own_script_alone() -> None:
    answer = pages.answer(pages.waiter("ws-a", "default"))
    policy = answer.headers["Content-Security-Policy"]
    assert "script-src 'sha256-" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["Cache-Control"] == "no-store"
