"""The OpenAPI document as a page for people, without a script. Pure."""

import html
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any]
JSON = "application/json"
LAST = "System"
"""The part that people look for last."""

_INTRODUCTION = """<p>{description} For programs there is <a href="openapi.json">openapi.json</a>.</p>
<p>Send an access token, as <code>Authorization: Bearer …</code>, wherever an operation needs anything. Permissions are
those on the workspace of the path. An error is an <a href="#ErrorDetail"><code>ErrorDetail</code></a>, or a
<a href="#Problem"><code>Problem</code></a> if you accept <code>application/problem+json</code>.</p>"""


def body(document: Schema) -> str:
    """What the page says, as HTML."""
    tags: dict[str, list[tuple[str, str, Schema]]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            tags.setdefault(operation["tags"][0], []).append((method.upper(), path, operation))
    ordered = sorted(tags, key=lambda tag: tag == LAST)
    schemas = document["components"]["schemas"]
    contents = "".join(_contents(tag, tags[tag]) for tag in ordered)
    sections = "".join(_heading(2, tag, tag) + "".join(_operation(*entry) for entry in tags[tag]) for tag in ordered)
    models = "".join(_model(name, schema) for name, schema in sorted(schemas.items()))
    introduction = _INTRODUCTION.format(description=html.escape(document["info"]["description"]))
    return f"{introduction}<nav>{contents}</nav>{sections}{_heading(2, 'Models', 'Models')}{models}"


def _contents(tag: str, entries: Sequence[tuple[str, str, Schema]]) -> str:
    rows = "".join(
        f'<tr><td><a href="#{operation["operationId"]}">{_call(method, path)}</a></td>'
        f"<td>{html.escape(operation['summary'])}</td></tr>"
        for method, path, operation in entries
    )
    return f'<h2><a href="#{tag}">{tag}</a></h2><div><table>{rows}</table></div>'


def _call(method: str, path: str) -> str:
    """A method and a path, which may break at each slash."""
    return f"<code><b>{method}</b> {html.escape(path).replace('/', '/<wbr>')}</code>"


def _heading(level: int, anchor: str, inner: str) -> str:
    """A heading that can be linked to."""
    return f'<h{level} id="{anchor}">{inner} <a href="#{anchor}" aria-label="link to here">#</a></h{level}>'


# ---- Operations


def _operation(method: str, path: str, operation: Schema) -> str:
    said = [
        _heading(3, operation["operationId"], _call(method, path)),
        f"<p>{html.escape(operation['summary'])}. {_needs(operation['description'])}</p>",
    ]
    if parameters := operation.get("parameters"):
        rows = [
            [_code(one["name"]), one["in"], in_words(one["schema"]), _text(one.get("description", ""))]
            for one in parameters
        ]
        said.append(_table(["Parameter", "In", "Type", "Meaning"], rows))
    if "requestBody" in operation:
        said.append(f"<p>Body: {in_words(_content(operation['requestBody']))}</p>")
    answers = operation["responses"]
    said += [_success(code, answer, operation["summary"]) for code, answer in answers.items() if code < "400"]
    if errors := {code: answer for code, answer in sorted(answers.items()) if code >= "400"}:
        rows = [[code, _text(answer["description"])] for code, answer in errors.items()]
        table = _table(["Error", "Meaning"], rows)
        said.append(f"<details><summary>Errors: {', '.join(errors)}</summary>{table}</details>")
    return "".join(said)


def _success(code: str, answer: Schema, summary: str) -> str:
    """What comes where all is well; its meaning, where that is not what the operation is about anyway."""
    meaning = "" if answer["description"] == summary else _text(answer["description"])
    content = in_words(_content(answer)) if _content(answer) else ""
    return f"<p>Answer: <b>{code}</b> {', '.join(filter(None, [content, meaning]))}</p>"


def _needs(sentence: str) -> str:
    """What an operation needs; a permission is code."""
    return re.sub(r"\b[A-Z]+(?:_[A-Z]+)+\b", lambda found: _code(found[0]), html.escape(sentence))


def _content(part: Schema) -> Schema:
    """The schema of a body; empty where there is none."""
    found: Schema = part.get("content", {}).get(JSON, {}).get("schema", {})
    return found


# ---- Models


def _model(name: str, schema: Schema) -> str:
    said = _heading(3, name, _code(name)) + f"<p>{_text(schema.get('description', ''))}</p>"
    if "properties" not in schema:
        return said + f"<p>{in_words(schema)}</p>"
    required = schema.get("required", ())
    rows = [
        [
            _code(member),
            in_words(of),
            "yes" if member in required else "",
            _text(of.get("description", "")) + _default(of),
        ]
        for member, of in schema["properties"].items()
    ]
    return said + _table(["Member", "Type", "Required", "Meaning"], rows)


def _default(schema: Schema) -> str:
    """What stands where a member is left out, if it is worth telling."""
    value = schema.get("default")
    return "" if value in (None, "", [], {}) else f" Default: {_code(json.dumps(value))}."


def in_words(schema: Schema) -> str:
    """What a value is, in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#{name}">{_code(name)}</a>'
    if several := schema.get("anyOf", schema.get("oneOf")):
        return " or ".join(dict.fromkeys(in_words(one) for one in several if one.get("type") != "null"))
    if "enum" in schema:
        return ", ".join(_code(str(value)) for value in schema["enum"])
    if "const" in schema:
        return _code(str(schema["const"]))
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {in_words(schema.get('items', {}))}{_bounds(schema, 'Items', 'entries')}"
    if kind == "object":
        inner = schema.get("additionalProperties")
        return f"object of {in_words(inner)}" if isinstance(inner, dict) and inner else "object"
    if kind == "string":
        what = "time" if schema.get("format") == "date-time" else "text"
        pattern = f", {_code(schema['pattern'])}" if "pattern" in schema else ""
        return what + pattern + _bounds(schema, "Length", "characters")
    if kind == "integer" and "maximum" in schema:
        return f"integer, {schema.get('minimum', 0)} to {schema['maximum']}"
    return html.escape(str(kind))


def _bounds(schema: Schema, what: str, unit: str) -> str:
    """How many there may be, as `, 1 to 255 characters`; empty where that is not limited."""
    least, most = schema.get(f"min{what}"), schema.get(f"max{what}")
    if most is None:
        return "" if least is None else f", at least {least} {unit}"
    return f", at most {most} {unit}" if not least else f", {least} to {most} {unit}"


# ---- Pieces


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; what is in no row is no column. The first cell of a row names it."""
    kept = [at for at in range(len(heads)) if at == 0 or any(row[at] for row in rows)]
    head = "".join(f'<th scope="col">{heads[at]}</th>' for at in kept)
    lines = "".join("<tr>" + "".join(f"<td>{row[at]}</td>" for at in kept) + "</tr>" for row in rows)
    return f"<div><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>"


def _code(text: str) -> str:
    return f"<code>{html.escape(text)}</code>"


def _text(text: str) -> str:
    """Sentences; what is in backticks is code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(text))
