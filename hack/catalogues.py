"""Catalogues of the pages: one for each language but English, which is what stands in the sources.

    python -m hack.catalogues            read the texts out of the sources anew, keep what is translated, compile
    python -m hack.catalogues --check    write nothing; fail, and say why, unless all are complete and current

Translate in `workspaces/ui/locale/<language>/LC_MESSAGES/workspaces.po`, then run it again.
"""

import argparse
import io
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from babel.messages import extract
from babel.messages.catalog import Catalog, Message
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from workspaces.ui.languages import DEFAULT, LANGUAGES
from workspaces.ui.render import DOMAIN, HERE

METHODS = [("**/templates/**.html", "jinja2"), ("**.py", "python")]
OPTIONS = {"**/templates/**.html": {"newstyle_gettext": "true", "silent": "false"}}
KEYWORDS = {**extract.DEFAULT_KEYWORDS, "N_": None}
PLURALS = {"fr": "(n > 1)"}
"""Which plural counts where not `(n != 1)` does: those of any number that a page has."""
HEADER = "# Texts of the workspaces' pages. Written by hack/catalogues.py; translate here and run it again."
PLACE = re.compile(r"%\(\w+\)[sd]|\{\w+\}|</?\w+>")
"""What stands for something else in a text, or marks a part of it."""


class Texts(Catalog):
    """A catalogue whose file changes with its texts alone: without dates and versions of tools."""

    num_plurals = 2

    @property
    def plural_expr(self) -> str:
        """Number of the plural for a number `n`."""
        return PLURALS.get(str(self.locale), "(n != 1)")

    @property  # type: ignore[misc]  # nobody sets them
    def mime_headers(self) -> list[tuple[str, str]]:
        """What `gettext` has to know."""
        return [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Transfer-Encoding", "8bit"),
            ("Language", str(self.locale or "")),
            ("Plural-Forms", self.plural_forms),
        ]


def _empty(language: str | None) -> Texts:
    return Texts(language, domain=DOMAIN, header_comment=HEADER, fuzzy=False)


def sources() -> Texts:
    """Every text of the pages."""
    found = _empty(None)
    for _, _, message, _, context in extract.extract_from_dir(HERE, METHODS, OPTIONS, KEYWORDS):
        found.add(message, None, context=context)
    return found


def path(language: str, suffix: str = "po", locale: Path = HERE / "locale") -> Path:
    """Where a catalogue is; `mo` is what is read at run time."""
    return locale / language / "LC_MESSAGES" / f"{DOMAIN}.{suffix}"


def current(language: str, template: Catalog, text: str | None) -> Texts:
    """A catalogue with the texts of a template, as far as `text`, which it was before, has translated them."""
    found = _empty(language)
    known: Catalog = found if text is None else read_po(io.StringIO(text), locale=language)
    for message in template:
        if message.id:
            before = known.get(_key(message))
            is_same = before is not None and before.id == message.id
            string, flags = (before.string, before.flags) if before is not None and is_same else (None, set[str]())
            found.add(message.id, string).flags |= flags
    return found


def problems(catalogue: Catalog) -> Iterator[str]:
    """What is to be mended in a catalogue before readers see it."""
    for message in catalogue:
        if message.id:
            yield from (f"{_key(message)!r} {problem}" for problem in _problems(message, catalogue.num_plurals))


def _problems(message: Message, plurals: int) -> Iterator[str]:
    *_, wanted = _forms(message.id)
    forms = _forms(message.string)
    if message.fuzzy:
        yield "is marked as fuzzy"
    if not any(forms):
        yield "is not translated"
        return
    if not all(forms) or (message.pluralizable and len(forms) != plurals):
        yield "lacks a plural"
        return
    for form in forms:
        if Counter(PLACE.findall(form)) != Counter(PLACE.findall(wanted)):
            yield f"has other placeholders or marks in {form!r}"
        if form != form.strip():
            yield f"has spaces around {form!r}"


def _forms(texts: str | Sequence[str | None] | None) -> list[str]:
    """A text, or that for one and those for several."""
    return [texts or ""] if texts is None or isinstance(texts, str) else [text or "" for text in texts]


def _key(message: Message) -> str:
    return _forms(message.id)[0]


def written(catalogue: Catalog) -> bytes:
    """A catalogue as its file has it."""
    found = io.BytesIO()
    write_po(found, catalogue, width=100, no_location=True, sort_output=True, ignore_obsolete=True)
    return found.getvalue()


def compiled(catalogue: Catalog) -> bytes:
    """A catalogue as it is read at run time."""
    found = io.BytesIO()
    write_mo(found, catalogue)
    return found.getvalue()


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Bring the catalogues of the pages up to date.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail unless they are complete and current")
    arguments = parser.parse_args()
    template, failed = sources(), False
    for language in LANGUAGES:
        if language == DEFAULT:
            continue
        place = path(language)
        catalogue = current(language, template, place.read_text() if place.is_file() else None)
        for problem in problems(catalogue):
            failed = True
            print(f"{language}: {problem}")
        for file, data in ((place, written(catalogue)), (path(language, "mo"), compiled(catalogue))):
            if file.is_file() and file.read_bytes() == data:
                continue
            if arguments.check:
                failed = True
                print(f"{language}: {file.name} is not current: run `make texts`")
            else:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
