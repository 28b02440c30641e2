"""The files that browsers get: what they weigh, what is another's in them, and whether their colours can be read."""

import gzip
import hashlib
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

UI = Path(__file__).parents[2] / "workspaces" / "ui"
STATIC = UI / "static"
STYLE = (STATIC / "app.css").read_text()
SVG = "{http://www.w3.org/2000/svg}"
OURS = sorted({path.name for path in STATIC.glob("*.js")} - {"idiomorph.js"})
TEXT, CONTROL = 4.5, 3.0
"""Contrast by WCAG 2.2: of text, and of what is no text."""
PAIRS = [
    *((colour, ground, TEXT) for colour in ("text", "muted", "accent", "bad") for ground in ("page", "surface")),
    *((colour, "sunken", TEXT) for colour in ("text", "muted", "accent", "bad")),
    *((colour, f"{colour}-soft", TEXT) for colour in ("ok", "warn", "bad", "idle", "accent")),
    ("on-accent", "accent", TEXT),
    *(("edge", ground, CONTROL) for ground in ("page", "surface", "sunken")),
    *(("accent", ground, CONTROL) for ground in ("page", "surface", "idle-soft", "ok-soft", "warn-soft", "bad-soft")),
]


def packed(*names: str) -> int:
    return sum(len(gzip.compress((STATIC / name).read_bytes(), 9)) for name in names)


def test_scripts_and_style_are_small() -> None:
    assert packed(*OURS, "idiomorph.js") <= 20_000
    assert packed("app.css") <= 12_000
    assert sum(len((STATIC / name).read_text().splitlines()) for name in OURS) <= 700


@pytest.mark.parametrize("name", json.loads((UI / "vendored.json").read_text()))
def test_what_is_anothers_is_as_it_was_released(name: str) -> None:
    of = json.loads((UI / "vendored.json").read_text())[name]
    content = (UI / name).read_text()
    assert content.endswith(of["appended"])
    assert hashlib.sha256(content.removesuffix(of["appended"]).encode()).hexdigest() == of["sha256"]


def test_modules_import_what_is_there() -> None:
    for name in OURS:
        imported = re.findall(r'(?:from|import)[ (]"\./([^"]+)"', (STATIC / name).read_text())
        assert {STATIC / other for other in imported} <= set(STATIC.glob("*.js"))


def test_scripts_write_no_html_but_where_pages_are_parsed() -> None:
    sinks = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|parseFromString|\beval\(|new Function"
    found = [(name, sink) for name in OURS for sink in re.findall(sinks, (STATIC / name).read_text())]
    assert found == [("morph.js", "parseFromString")]


def test_symbols_are_drawn_in_the_colour_of_the_text() -> None:
    sprite = ElementTree.parse(STATIC / "sprite.svg").getroot()
    symbols = [symbol.get("id") for symbol in sprite.findall(f"{SVG}symbol")]
    assert len(symbols) == len(set(symbols)) >= 20
    assert {symbol.get("viewBox") for symbol in sprite.findall(f"{SVG}symbol")} == {"0 0 24 24"}
    coloured = [
        of.tag for symbol in sprite.findall(f"{SVG}symbol") for of in symbol if of.get("fill") or of.get("stroke")
    ]
    assert not coloured


def test_every_property_that_is_used_is_defined() -> None:
    assert set(re.findall(r"var\((--[\w-]+)", STYLE)) == set(re.findall(r"(--[\w-]+):", STYLE))


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_stand_out(scheme: int) -> None:
    colours = {
        name: (light, dark)[scheme]
        for name, light, dark in re.findall(r"--([\w-]+): light-dark\((#\w+), (#\w+)\)", STYLE)
    }
    weak = {
        (colour, ground): round(contrast(colours[colour], colours[ground]), 2)
        for colour, ground, least in PAIRS
        if contrast(colours[colour], colours[ground]) < least
    }
    assert not weak


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    """Relative luminance of `#rrggbb`, 0 to 1."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
