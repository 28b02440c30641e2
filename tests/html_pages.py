"""A page as it was answered, read strictly: what it shows, where it leads, and which forms it has."""

import re
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element

import html5lib
import httpx

LABELLED = ("input", "select", "textarea")
UNLABELLED = ("hidden", "submit", "button")
NAMED_BY_ATTRIBUTE = ("aria-label", "title", "alt", "placeholder", "data-offline", "data-stale", "data-unsent")
DATA = ("bdi", "code", "time", "data", "script", "style")
"""Elements that hold no text of ours."""


@dataclass(frozen=True)
class PageForm:
    """One form, with what its fields hold."""

    element: Element
    fields: dict[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Where it is sent to."""
        return self.element.get("action", "")


class Page:
    """An answer that has to be a well-formed page."""

    def __init__(self, answer: httpx.Response) -> None:
        """AssertionError for what is no page, has an id twice, a field without a label, or a reference to nothing."""
        self.answer = answer
        self.status = answer.status_code
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8", answer.text[:500]
        parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
        self.root: Any = parser.parse(answer.text)
        self._parents = {child: parent for parent in self.root.iter() for child in parent}
        ids = [element.get("id") for element in self.root.iter() if element.get("id")]
        assert sorted(ids) == sorted(set(ids)), "an id stands there twice"
        self.ids = set(ids)
        self._require_references()
        self._require_labels()

    # ---- What it shows

    @property
    def heading(self) -> str:
        """The one heading of the page."""
        (found,) = self.root.iter("h1")
        return shown(found)

    @property
    def headings(self) -> list[str]:
        """All headings in order."""
        return [shown(element) for element in self.root.iter() if re.fullmatch("h[1-6]", str(element.tag))]

    @property
    def text(self) -> str:
        """All of its text."""
        return shown(next(self.root.iter("body")))

    @property
    def messages(self) -> list[str]:
        """What is announced."""
        return [shown(element) for element in self.root.iter() if element.get("data-announce") is not None]

    def errors(self) -> dict[str, str]:
        """What is wrong with the fields of its forms, by name; with a whole form by the empty name."""
        found: dict[str, str] = {}
        for element in self.root.iter():
            if element.get("aria-invalid") == "true":
                ids = element.get("aria-describedby", "").split()
                (error,) = [self.by_id(one) for one in ids if one.endswith("-error")]
                assert "error" in error.get("class", "")
                found[element.get("name")] = shown(error)
            elif element.get("role") == "alert":
                found[""] = shown(element)
        return found

    def by_id(self, name: str) -> Any:
        """The element of that id."""
        return next(element for element in self.root.iter() if element.get("id") == name)

    def links(self) -> dict[str, str]:
        """Addresses of links by their text or, where they have one, their label."""
        return {element.get("aria-label") or shown(element): element.get("href", "") for element in self.root.iter("a")}

    def form(self, action: str, **fields: str) -> PageForm:
        """The form of an action; of several, the one whose fields hold these values."""
        for element in self.root.iter("form"):
            values = {
                control.get("name"): _value(control)
                for tag in LABELLED
                for control in element.iter(tag)
                if control.get("name") and not (control.get("type") == "checkbox" and control.get("checked") is None)
            }
            if values.get("action") == action and fields.items() <= values.items():
                return PageForm(element, values)
        raise AssertionError(f"no form {action} with {fields}")

    def has_form(self, action: str) -> bool:
        """Whether it has a form of that action."""
        try:
            self.form(action)
        except AssertionError:
            return False
        return True

    def unmarked(self) -> list[str]:
        """Texts that are no data and that the pseudo-language does not mark: they are in no catalogue."""
        found: list[str] = []
        self._look(self.root, "", found)
        return found

    def _look(self, element: Any, around: str, found: list[str]) -> None:
        if not isinstance(element.tag, str):
            return  # a comment
        is_data = element.tag in DATA or element.get("translate") == "no"
        is_data = is_data or (element.tag != "html" and element.get("lang") is not None)
        for name in NAMED_BY_ATTRIBUTE:
            text = element.get(name)
            if text and not text.startswith("⟦"):
                found.append(f"{element.tag}[{name}]: {text}")
        if is_data:
            return
        # What stands between the marks of one text may have elements in it.
        text, is_open = "", False
        for part in self._parts(element):
            if isinstance(part, str):
                for letter in part:
                    is_open = letter == "⟦" or (is_open and letter != "⟧")
                    if not is_open and letter != "⟧":
                        text += letter
            elif not is_open:
                self._look(part, element.tag, found)
        if re.search(r"[^\W\d_]", text.replace("UTC", "")):
            found.append(f"{element.tag}: {text.strip()}")

    @staticmethod
    def _parts(element: Any) -> list[Any]:
        parts: list[Any] = [element.text or ""]
        for child in element:
            parts += [child, child.tail or ""]
        return parts

    # ---- What has to be right of any page

    def _require_references(self) -> None:
        for element in self.root.iter():
            for name in ("for", "aria-labelledby", "aria-describedby", "aria-controls", "data-opens"):
                for one in (element.get(name) or "").split():
                    assert one in self.ids, f"{name} leads to {one}, which is not there"
            if (href := element.get("href") or "").startswith("#"):
                assert href[1:] in self.ids, href
            assert element.get("style") is None, "a policy forbids styles of elements"
            assert not any(str(name).startswith("on") for name in element.attrib), "a policy forbids handlers"

    def _require_labels(self) -> None:
        labelled = {element.get("for") for element in self.root.iter("label")}
        for tag in LABELLED:
            for control in self.root.iter(tag):
                if control.get("type") in UNLABELLED:
                    continue
                inside = any(ancestor.tag == "label" for ancestor in self._ancestors(control))
                assert inside or control.get("id") in labelled or control.get("aria-label"), control.attrib
        for control in (*self.root.iter("button"), *self.root.iter("a")):
            assert shown(control) or control.get("aria-label"), control.attrib

    def _ancestors(self, element: Any) -> list[Any]:
        found = []
        while (element := self._parents.get(element)) is not None:
            found.append(element)
        return found


def shown(element: Any) -> str:
    """The text of an element, with single spaces."""
    return " ".join("".join(element.itertext()).split())


def _value(control: Any) -> str:
    if control.tag == "textarea":
        return str(control.text or "")
    if control.tag == "select":
        options = list(control.iter("option"))
        chosen = [option for option in options if option.get("selected") is not None] or options[:1]
        return str(chosen[0].get("value", "")) if chosen else ""
    return str(control.get("value", ""))
