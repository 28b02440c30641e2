"""Catalogues of the pages: complete, with the placeholders of their texts, and compiled."""

import gettext
import io

import pytest

from hack import catalogues
from workspaces.ui.languages import DEFAULT, LANGUAGES
from workspaces.ui.render import Renderer

OTHERS = [language for language in LANGUAGES if language != DEFAULT]
PLURAL = ("%(num)d file of {name}", "%(num)d files of {name}")


def template() -> catalogues.Texts:
    found = catalogues.Texts(None)
    for text in ("<b>Hello</b> %(name)s", PLURAL):
        found.add(text)
    return found


def german(text: str, one: str, several: str, before: str = "") -> catalogues.Texts:
    plural = f'msgid "{PLURAL[0]}"\nmsgid_plural "{PLURAL[1]}"\nmsgstr[0] "{one}"\nmsgstr[1] "{several}"\n'
    source = f'{before}msgid "<b>Hello</b> %(name)s"\nmsgstr "{text}"\n\n{plural}'
    return catalogues.current("de", template(), source)


GOOD = ("%(name)s, <b>hallo</b>", "%(num)d Datei von {name}", "%(num)d Dateien von {name}")


def test_what_is_translated_is_kept_and_compiled() -> None:
    found = german(*GOOD)
    assert list(catalogues.problems(found)) == []
    again = catalogues.current("de", template(), catalogues.written(found).decode())
    assert catalogues.written(again) == catalogues.written(found)
    read = gettext.GNUTranslations(io.BytesIO(catalogues.compiled(found)))
    assert read.gettext("<b>Hello</b> %(name)s") == GOOD[0]
    assert [read.ngettext(*PLURAL, number) for number in (0, 1, 2)] == [GOOD[2], GOOD[1], GOOD[2]]


def test_what_is_in_no_source_any_more_leaves_and_what_is_new_is_asked_for() -> None:
    before = 'msgid "gone"\nmsgstr "fort"\n\nmsgid "%(num)d file of {name}"\nmsgstr "one text for all numbers"\n'
    found = catalogues.current("de", template(), before)
    assert "gone" not in [message.id for message in found]
    assert [problem.partition("' ")[2] for problem in catalogues.problems(found)] == ["is not translated"] * 2
    assert list(catalogues.problems(catalogues.current("de", template(), None))) == list(catalogues.problems(found))


@pytest.mark.parametrize(
    ("texts", "before", "expected"),
    [
        (("", *GOOD[1:]), "", "is not translated"),
        ((GOOD[0], GOOD[1], ""), "", "lacks a plural"),
        (GOOD, "#, fuzzy\n", "is marked as fuzzy"),
        (("<b>hallo</b> %(nam)s", *GOOD[1:]), "", "has other placeholders or marks in '<b>hallo</b> %(nam)s'"),
        (("<b>hallo %(name)s", *GOOD[1:]), "", "has other placeholders or marks in '<b>hallo %(name)s'"),
        ((GOOD[0], GOOD[1], "%(num)d {}"), "", "has other placeholders or marks in '%(num)d {}'"),
        ((f"{GOOD[0]} ", *GOOD[1:]), "", f"has spaces around '{GOOD[0]} '"),
    ],
)
def test_what_is_to_be_mended(texts: tuple[str, str, str], before: str, expected: str) -> None:
    (found,) = catalogues.problems(german(*texts, before=before))
    assert found.partition("' ")[2] == expected


def test_texts_of_templates_and_of_code_are_found() -> None:
    found = {message.id for message in catalogues.sources()}
    assert {"Stores", "Add members …", "The member is removed."} <= found
    assert ("%(num)d workspace", "%(num)d workspaces") in found


@pytest.mark.parametrize("language", OTHERS)
def test_pages_speak_every_language(language: str) -> None:
    assert Renderer().text(language)("Credentials") != "Credentials"


@pytest.mark.parametrize(("language", "expected"), [("fr", "%(num)d volume"), ("de", "%(num)d Volumes")])
def test_which_plural_nothing_has(language: str, expected: str) -> None:
    read = gettext.GNUTranslations(io.BytesIO(catalogues.path(language, "mo").read_bytes()))
    assert read.ngettext("%(num)d volume", "%(num)d volumes", 0) == expected
