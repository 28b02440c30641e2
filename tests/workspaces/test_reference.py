"""The page of the API: what each schema is called in words, and that the whole of the document is on it."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from workspaces import openapi, pages, reference
from workspaces.operations import OPERATIONS


class Page(HTMLParser):
    """The page as a browser reads it: anchors, and whether every element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: list[str] = []
        self.targets: list[str] = []
        self.words: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if "id" in found:
            self.anchors.append(str(found["id"]))
        if str(found.get("href", "")).startswith("#"):
            self.targets.append(str(found["href"])[1:])
        if tag not in ("meta", "wbr"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def page() -> str:
    return pages.page("Workspace API", reference.body(openapi.document()), pages.REFERENCE)


def test_everything_is_on_it_and_links_lead_somewhere() -> None:
    read = Page()
    read.feed(page())
    models = openapi.document()["components"]["schemas"]
    tags = {operation.tag for operation in OPERATIONS}
    assert sorted(read.anchors) == sorted([*(one.name for one in OPERATIONS), *models, *tags, "Models"])
    assert set(read.targets) == set(read.anchors)
    said = "".join(read.words)
    for name, model in models.items():
        for member in model.get("properties", ()):
            assert member in said, (name, member)


def test_it_runs_no_script_and_loads_nothing() -> None:
    assert "<script" not in page()
    assert not re.findall(r'(?:src|href)="https?:', page())


def test_its_styles_are_those_that_the_policy_allows() -> None:
    policy = pages.answer(page()).headers["Content-Security-Policy"]
    for style in re.findall(r"<style>(.*?)</style>", page()):
        assert pages._source(style) in policy


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({}, "anything"),
        ({"type": "boolean"}, "boolean"),
        ({"type": "integer"}, "integer"),
        ({"type": "integer", "minimum": 1, "maximum": 500}, "integer, 1 to 500"),
        ({"type": "string", "format": "date-time"}, "time"),
        ({"type": "string", "maxLength": 9}, "text, at most 9 characters"),
        ({"type": "string", "minLength": 1}, "text, at least 1 characters"),
        ({"type": "string", "minLength": 1, "maxLength": 9}, "text, 1 to 9 characters"),
        ({"type": "string", "pattern": "^<$"}, "text, <code>^&lt;$</code>"),
        ({"const": "x"}, "<code>x</code>"),
        ({"enum": ["x", "y"]}, "<code>x</code>, <code>y</code>"),
        ({"$ref": "#/components/schemas/Bucket"}, '<a href="#Bucket"><code>Bucket</code></a>'),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "text"),
        ({"oneOf": [{"type": "string"}, {"type": "boolean"}]}, "text or boolean"),
        ({"type": "array", "items": {"type": "string"}, "maxItems": 2}, "list of text, at most 2 entries"),
        ({"type": "object"}, "object"),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "object of text"),
    ],
)
def test_what_a_schema_is_in_words(schema: dict[str, Any], words: str) -> None:
    assert reference.in_words(schema) == words
