"""Templates as HTML: everything is escaped, a name that nobody set is an error, texts are in the reader's language."""

import functools
import gettext
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import BytecodeCache, Environment, FileSystemLoader, StrictUndefined
from jinja2.bccache import Bucket
from pydantic import BaseModel

from datalabd.api import workspace
from datalabd.text import moment, timestamp
from workspaces.ui.forms import identifier
from workspaces.ui.languages import DECIMAL_POINT, DEFAULT, LANGUAGES, PSEUDO, Pseudo
from workspaces.ui.sizes import quantity, size

HERE = Path(__file__).parent
DOMAIN = "workspaces"


class Renderer:
    """All templates, in every language."""

    def __init__(self, *, pseudo: bool = False, locale: Path = HERE / "locale") -> None:
        """With `pseudo` there is the pseudo-language too."""
        self.languages: Mapping[str, str] = LANGUAGES | ({PSEUDO: "⟦⟧"} if pseudo else {})
        """Names of all that are offered."""
        self._locale = locale
        self._environment = functools.cache(self._made)

    def compile(self) -> None:
        """Compile all templates for every language: 0.2 s of CPU, and for a single one up to 50 ms."""
        for language in self.languages:
            environment = self._environment(language)
            for name in environment.list_templates():
                environment.get_template(name)

    def page(self, template: str, language: str, context: Mapping[str, Any]) -> str:
        """A template with what it is made of."""
        return self._environment(language).get_template(template).render(context)

    def text(self, language: str) -> Callable[[str], str]:
        """What translates a text into that language."""
        return self._catalogue(language).gettext

    def _catalogue(self, language: str) -> gettext.NullTranslations:
        if language == PSEUDO:
            return Pseudo()
        if language == DEFAULT:
            return gettext.NullTranslations()
        return gettext.translation(DOMAIN, self._locale, [language])

    def _made(self, language: str) -> Environment:
        found = _Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            extensions=["jinja2.ext.i18n"],
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
            bytecode_cache=_COMPILED,
        )
        catalogue = self._catalogue(language)
        decimal = "." if language in DECIMAL_POINT else ","
        for name, of in (("size", size), ("quantity", quantity)):
            found.filters[name] = functools.partial(of, decimal=decimal, text=catalogue.gettext)
        found.filters |= {"identifier": identifier, "stamp": _stamp, "local": _local, "minutes": _minutes}
        found.install_gettext_callables(catalogue.gettext, catalogue.ngettext, newstyle=True)  # type: ignore[attr-defined]  # of its extension
        return found


OPTIONAL = frozenset(
    field.alias or name
    for model in vars(workspace).values()
    if isinstance(model, type) and issubclass(model, BaseModel)
    for name, field in model.model_fields.items()
    if not field.is_required()
)
"""Members that answers leave out where there is nothing to say."""


class _Environment(Environment):
    """Reads JSON: a key goes before a method of its name, and a member that may be left out is none where it is."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        """What `obj.attribute` is in a template."""
        if isinstance(obj, dict):
            if attribute in obj:
                return obj[attribute]
            if attribute in OPTIONAL:
                return None
        return super().getattr(obj, attribute)


class _Compiled(BytecodeCache):
    """Compiled templates, which all languages have alike."""

    def __init__(self) -> None:
        self._code: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        """Take up what is there."""
        if (code := self._code.get(bucket.key)) is not None:
            bucket.bytecode_from_string(code)

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep what was compiled."""
        self._code[bucket.key] = bucket.bytecode_to_string()


_COMPILED = _Compiled()


def _stamp(value: str) -> str:
    """A time as `datetime` of `<time>`: UTC, in whole seconds; empty for what is none."""
    found = moment(value)
    return "" if found is None else timestamp(found)


def _local(value: str | None) -> str:
    """The same as the value of a field for a date and a time, without seconds where there are none."""
    return _stamp(value or "").removesuffix("Z").removesuffix(":00")


def _minutes(value: str) -> str:
    """The same for people who have no script that tells it in their words."""
    return _stamp(value)[:16].replace("T", " ")
