"""Forms of pages: the body that their fields make, and which field an error is about. Pure.

A field is called as its place in the body: `reason`, or `lifecycle_rules.0.target`. What is left blank is left out,
and so is an entry of a list whose first field is blank. `lifecycle_rules[]` makes an empty list where no entry does.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from workspaces.problems import Problem, sentence

DEPTH_MAX = 8
"""Dots of a field's name."""
_INDEX = re.compile(r"[0-9]{0,9}")
"""Which entry of a list; `[]` has none."""
Words = dict[tuple[str | int, ...], str]
"""The field that a place in a body was made of."""


def body(fields: Iterable[tuple[str, str]]) -> tuple[dict[str, Any], Words]:
    """The body that fields make, and what each place in it was made of."""
    tree: dict[str, Any] = {}
    for name, value in fields:
        is_list = name.endswith("[]")
        path = name.removesuffix("[]").split(".", DEPTH_MAX)
        node = tree
        for part in path[:-1]:
            inner = node.setdefault(part, {})
            node = inner if isinstance(inner, dict) else node
        if is_list:
            entries = node.setdefault(path[-1], {})
            if isinstance(entries, dict):
                entries[""] = ""
        elif not isinstance(node.get(path[-1]), dict):
            node[path[-1]] = value
    words: Words = {}
    made = _made(tree, (), "", words)
    return (made if isinstance(made, dict) else {}), words


def _made(node: dict[str, Any], place: tuple[str | int, ...], name: str, words: Words) -> Any:
    if node and all(_INDEX.fullmatch(key) for key in node):
        return _list(node, place, name, words)
    found = {}
    for key, value in node.items():
        inner = f"{name}.{key}" if name else key
        if isinstance(value, dict):
            found[key] = _made(value, (*place, key), inner, words)
        elif value.strip():
            found[key] = value
            words[(*place, key)] = inner
        else:
            words.setdefault((*place, key), inner)
    return found


def _list(node: dict[str, Any], place: tuple[str | int, ...], name: str, words: Words) -> list[Any]:
    found: list[Any] = []
    for key in sorted(filter(None, node), key=int):
        entry, inner = node[key], f"{name}.{key}"
        first = next(iter(entry.values()), "") if isinstance(entry, dict) else entry
        if isinstance(first, str) and not first.strip():
            continue
        if isinstance(entry, dict):
            found.append(_made(entry, (*place, len(found)), inner, words))
        else:
            words[(*place, len(found))] = inner
            found.append(entry)
    return found


@dataclass(frozen=True)
class Attempt:
    """A form that was sent and refused, as it is shown again."""

    form: str
    """Its id."""
    typed: Mapping[str, str]
    problem: str = ""
    """What is wrong with all of it, in the API's words."""
    errors: Mapping[str, str] = field(default_factory=dict)
    """What is wrong with a field, in the API's words, by its name."""
    word: str = ""
    """What is wrong with all of it, in the API's word for programs."""

    @property
    def sentence(self) -> str:
        """All that is wrong with it, in the API's words."""
        return "; ".join(filter(None, (self.problem, *(f"{name}: {error}" for name, error in self.errors.items()))))


def attempt(form: str, typed: Mapping[str, str], words: Words, why: Problem) -> Attempt:
    """The form as it was refused."""
    if not isinstance(why.detail, list):
        word = str(why.detail.get("error", "")) if isinstance(why.detail, dict) else ""
        return Attempt(form, typed, why.sentence, word=word)
    errors: dict[str, list[str]] = {}
    for error in why.detail:
        name, is_exact = _field(tuple(error.get("loc", ())), typed, words)
        message = str(error.get("msg", "")).removeprefix("Value error, ")
        given = error.get("input")
        if not name:
            message = sentence([error | {"msg": message}])
        elif not is_exact and isinstance(given, str) and given:
            message = f"{given}: {message}"
        if message not in (known := errors.setdefault(name, [])):
            known.append(message)
    joined = {name: "; ".join(messages) for name, messages in errors.items()}
    return Attempt(form, typed, joined.pop("", ""), joined)


def _field(place: tuple[str | int, ...], typed: Mapping[str, str], words: Words) -> tuple[str, bool]:
    """The field that a place of a request was made of, or the one that has the longest beginning of it; or none."""
    inner = place[1:]
    for length in range(len(inner), 0, -1):
        name = words.get(inner[:length]) or ".".join(map(str, inner[:length]))
        if name in typed:
            return name, length == len(inner)
    return "", False


@dataclass(frozen=True, repr=False)
class Outcome:
    """What an action answered that is shown at once. No repr: it may have secrets."""

    action: str
    """Its name."""
    body: Mapping[str, Any]
    asked: Mapping[str, str]
    """What it was about: parts of its path, and what was typed."""


class Form:
    """One form of a page, as its template asks for it."""

    def __init__(self, action: str, fixed: Mapping[str, str], refused: Attempt | None, version: str = "") -> None:
        """`fixed` are fields that nobody fills in; `refused` is whichever form of the page was refused, if any was."""
        self.action = action
        self.fixed = dict(fixed)
        self.version = version
        """Of what it is about, where it is to be refused once that is another."""
        self.id = identifier("-".join(("form", action, *self.fixed.values())))
        """Of its element; no other form of the page has it."""
        self._attempt = refused if refused is not None and refused.form == self.id else None

    @property
    def is_refused(self) -> bool:
        """Whether it is shown again."""
        return self._attempt is not None

    @property
    def problem(self) -> str:
        """What is wrong with all of it; empty if nothing is."""
        return self._attempt.problem if self._attempt is not None else ""

    @property
    def word(self) -> str:
        """The same in the API's word for programs, where it has one."""
        return self._attempt.word if self._attempt is not None else ""

    def value(self, name: str, otherwise: str = "") -> str:
        """What stands in a field: what was typed, where it was."""
        return self._attempt.typed.get(name, "") if self._attempt is not None else otherwise

    def entries(self, name: str) -> int:
        """How many entries of a list were typed."""
        typed = self._attempt.typed if self._attempt is not None else {}
        numbers = (field.removeprefix(f"{name}.").partition(".")[0] for field in typed if field.startswith(f"{name}."))
        return max((int(number) + 1 for number in numbers if number and _INDEX.fullmatch(number)), default=0)

    def error(self, name: str) -> str:
        """What is wrong with a field; empty if nothing is."""
        return self._attempt.errors.get(name, "") if self._attempt is not None else ""

    def field_id(self, name: str) -> str:
        """Of the field's element."""
        return f"{self.id}-{identifier(name)}"


def identifier(text: str) -> str:
    """A text as an id: what else could stand in one is spelled out, so that no two texts have the same."""
    return "".join(
        letter if letter.isascii() and (letter.isalnum() or letter == "-") else f"_{ord(letter):x}_" for letter in text
    )
