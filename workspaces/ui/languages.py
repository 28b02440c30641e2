"""Languages of the pages: which there are, and which one somebody reads. Pure."""

import gettext
import re
from collections.abc import Collection

LANGUAGES = {"en": "English", "de": "Deutsch", "fr": "Français", "es": "Español", "it": "Italiano"}
"""Names of the languages in themselves. Texts in the source are English; every other one has a catalogue."""
DECIMAL_POINT = frozenset({"en", "qps"})
"""Languages whose decimal sign is a point; that of others is a comma."""
PSEUDO = "qps"
"""Shows which texts are in catalogues, and what becomes of a page whose texts are twice as long."""
DEFAULT = "en"
COOKIE = "language"

_RANGE = re.compile(r"\s*([A-Za-z]{1,8})(?:-[A-Za-z0-9]{1,8})*\s*(?:;\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*)?")
RANGES_MAX = 20


def N_(text: str) -> str:
    """The text itself: it is one of the catalogues', and translated where it is shown."""
    return text


def chosen(cookie: str, accept: str, offered: Collection[str]) -> str:
    """The language of a cookie, else the one that a header `Accept-Language` wants most, else English."""
    if cookie in offered:
        return cookie
    wanted: list[tuple[float, int, str]] = []
    for at, entry in enumerate(accept.split(",")[:RANGES_MAX]):
        if (found := _RANGE.fullmatch(entry)) is not None and (weight := float(found[2] or 1)) > 0:
            wanted.append((-weight, at, found[1].lower()))
    return next((language for *_, language in sorted(wanted) if language in offered and language != PSEUDO), DEFAULT)


class Pseudo(gettext.NullTranslations):
    """Marks every text, and makes it twice as long."""

    def gettext(self, message: str) -> str:
        """The text, marked."""
        return marked(message)

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        """The text for that number, marked."""
        return marked(super().ngettext(msgid1, msgid2, n))


def marked(text: str) -> str:
    """A text as the pseudo-language has it."""
    filler = "lorem ipsum " * (len(text) // 12 + 1)
    return f"⟦{text} {filler[: len(text)].strip()}⟧"
