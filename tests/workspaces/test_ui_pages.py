"""Headers, languages, files and templates of pages."""

import gzip
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from workspaces.proxies import Origin
from workspaces.ui import headers, languages
from workspaces.ui.assets import Assets
from workspaces.ui.render import Renderer

HTTPS, HTTP = Origin("https", "ws.example.org", "/sub"), Origin("http", "localhost:8000")


def test_a_page_is_confined_to_its_own_origin() -> None:
    assert headers.of_page(HTTP, "", "/ui") == {
        "Cache-Control": "no-store",
        "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types morph",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


def test_of_other_origins_the_issuers_and_that_of_files_are_allowed() -> None:
    found = headers.of_page(HTTPS, "https://id.example.org/realms/x", "https://cdn.example.org:8443/ui")
    policy = found["Content-Security-Policy"]
    assert "script-src 'self' https://cdn.example.org:8443; style-src 'self' https://cdn.example.org:8443;" in policy
    assert "form-action 'self' https://id.example.org;" in policy
    assert "connect-src 'self';" in policy
    assert found["Strict-Transport-Security"] == "max-age=31536000"


@pytest.mark.parametrize(
    ("cookie", "accept", "language"),
    [
        ("de", "fr", "de"),
        ("xx", "fr, de;q=0.9", "fr"),
        ("", "it;q=0.5, de-AT;q=0.8, *;q=0.1", "de"),
        ("", "de;q=0, en", "en"),
        ("", "xx, fr;q=1.000", "fr"),
        ("", "", "en"),
        ("", "é, de;q=7, ;;, fr;q=0.x", "en"),
        ("", ",".join(["xx"] * 20 + ["de"]), "en"),
        ("", "qps", "en"),
        ("qps", "de", "qps"),
    ],
)
def test_the_language_is_the_one_that_is_chosen_else_wanted(cookie: str, accept: str, language: str) -> None:
    assert languages.chosen(cookie, accept, {"en", "de", "fr", "qps"}) == language


def test_the_pseudo_language_marks_texts_and_makes_them_longer() -> None:
    pseudo = languages.Pseudo()
    assert pseudo.gettext("Members") == "⟦Members lorem i⟧"
    assert pseudo.ngettext("%(num)d day", "%(num)d days", 2) == "⟦%(num)d days lorem ipsum⟧"
    assert languages.N_("Members") == "Members"


def test_files_are_named_by_their_content(tmp_path: Path) -> None:
    (tmp_path / "app.css").write_text("p { color: red }")
    (tmp_path / "README").write_text("not served")
    one = Assets("/ui/", tmp_path)
    assert one.address("app.css", "/sub") == f"/sub/ui/{one.digest}/app.css"
    assert (one.is_below("/ui/x"), one.is_below("/uix"), one.is_below("/ui")) == (True, False, False)
    away = Assets("https://cdn.example.org/ui", tmp_path)
    assert away.address("app.css", "/sub") == f"https://cdn.example.org/ui/{one.digest}/app.css"
    assert away.address("sprite.svg", "/sub", here=True) == f"/sub/ui/{one.digest}/sprite.svg"
    (tmp_path / "app.css").write_text("p { color: blue }")
    assert Assets("/ui", tmp_path).digest != one.digest


def test_files_are_packed_the_same_each_time(tmp_path: Path) -> None:
    (tmp_path / "live.js").write_text("x" * 1000)
    packed = [Assets("/ui", tmp_path)._files["live.js"].packed for _ in range(2)]
    assert packed[0] == packed[1]
    assert gzip.decompress(packed[0]) == b"x" * 1000


@pytest.mark.parametrize(
    ("encodings", "accepts"),
    [("gzip, br", True), ("*", True), ("br;q=1.0, GZIP;q=0.5", True), ("gzip;q=0", False), ("br", False), ("", False)],
)
def test_who_unpacks_gzip_says_so(encodings: str, accepts: bool) -> None:
    assert headers.accepts_gzip({"Accept-Encoding": encodings} if encodings else {}) is accepts


@pytest.mark.parametrize(
    ("method", "site", "encodings", "may_be"),
    [
        ("GET", "same-origin", "gzip", True),
        ("GET", "none", "gzip", True),
        ("GET", "cross-site", "gzip", False),
        ("GET", "same-site", "gzip", False),
        ("GET", "", "gzip", False),
        ("GET", "same-origin", "br", False),
        ("POST", "same-origin", "gzip", False),
        ("HEAD", "same-origin", "gzip", False),
    ],
)
def test_a_page_is_packed_where_nobody_else_has_it_asked_for(
    method: str, site: str, encodings: str, may_be: bool
) -> None:
    asked = {"Accept-Encoding": encodings} | ({"Sec-Fetch-Site": site} if site else {})
    assert headers.may_be_packed(method, asked) is may_be


def test_templates_are_compiled_before_they_are_asked_for() -> None:
    renderer = Renderer()
    renderer.compile()
    for language in renderer.languages:
        environment = renderer._environment(language)
        assert environment.cache is not None
        assert {name for _, name in environment.cache} == set(environment.list_templates())


def test_members_that_the_api_leaves_out_are_none_and_other_names_are_errors() -> None:
    environment = Renderer()._environment("en")
    row = {"items": 1, "name": "<b>"}
    shown = environment.from_string("{{ row.name }} {{ row.items }} {{ row.problem }}").render(row=row)
    assert shown == "&lt;b&gt; 1 None"
    with pytest.raises(UndefinedError):
        environment.from_string("{{ row.probelm }}").render(row=row)
    with pytest.raises(UndefinedError):
        environment.from_string("{{ rwo }}").render(row=row)


def test_times_are_shown_in_utc_and_what_is_none_is_not() -> None:
    environment = Renderer()._environment("en")
    shown = environment.from_string("{{ '2026-01-02T03:04:05.6+01:00'|stamp }} {{ '2026-01-02T03:04:05Z'|minutes }}")
    assert shown.render() == "2026-01-02T02:04:05Z 2026-01-02 03:04"
    assert environment.from_string("{{ 'soon'|stamp }}{{ 'soon'|minutes }}{{ none|local }}").render() == ""
    local = environment.from_string("{{ '2026-01-02T03:04:05.6Z'|local }} {{ '2026-01-02T04:00:00+01:00'|local }}")
    assert local.render() == "2026-01-02T03:04:05 2026-01-02T03:00"


def test_languages_that_are_offered() -> None:
    assert "qps" not in Renderer().languages
    assert Renderer(pseudo=True).languages["qps"]
    assert Renderer(pseudo=True).page("error.html", "qps", _FRAME).count("⟦There is nothing here") == 2


_FRAME: dict[str, object] = {
    "page": {
        "language": "qps",
        "now": "2026-01-01T00:00:00Z",
        "screen": None,
        "workspace": "",
        "events": "",
        "user": "",
        "login": "",
        "logout": "",
        "navigation": [],
        "languages": {"en": "English"},
        "here": "/x",
        "kept": "",
    },
    "asset": lambda name: f"/ui/{name}",
    "sprite": "/ui/sprite.svg",
    "to": lambda name: f"/{name}",
    "done": "",
    "warnings": (),
    "stale_since": "",
    "failure": type("Failure", (), {"title": "There is nothing here", "advice": "Look elsewhere."}),
    "status": 404,
    "sentence": "",
    "login": "",
    "request_id": "",
}
