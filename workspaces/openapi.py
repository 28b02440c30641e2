"""The OpenAPI document, made of the table of operations and the models that serve them; and a page of it."""

import functools
import html
import json
import re
import typing
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from datalabd.api import workspace as models
from workspaces.call import NAME
from workspaces.operations import OPERATIONS, PARAMETERS, Needs, Operation

REF = "#/components/schemas/{model}"
Schema = dict[str, Any]
PATHS: dict[str, Schema] = {
    "w": {"pattern": NAME, "maxLength": 253},
    "s": {"pattern": NAME, "maxLength": 253},
    "type": {"enum": list(models.StoreType)},
}
"""What is known of parts of paths."""


@functools.cache
def document() -> Schema:
    """OpenAPI 3.1."""
    used: set[type[BaseModel]] = {models.ErrorDetail, models.Problem}
    for operation in OPERATIONS:
        used |= {model for model in (operation.body, _model(operation.answer)) if model is not None}
    ordered = sorted(used, key=lambda model: model.__name__)
    names, schemas = models_json_schema([(model, "validation") for model in ordered], by_alias=True, ref_template=REF)
    refs = {model: names[model, "validation"] for model in ordered}
    paths: dict[str, Schema] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, refs)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Workspace API",
            "version": "1",
            "description": "Workspaces, their members, buckets, grants, stores and sessions.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def text() -> str:
    """The document as it is committed and printed."""
    return json.dumps(document(), indent=1, sort_keys=True) + "\n"


def _model(answer: Any) -> type[BaseModel] | None:
    """The model of an answer that is one, or a list of one."""
    inner = typing.get_args(answer)[0] if typing.get_args(answer) else answer
    return inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None


def _operation(operation: Operation, refs: dict[type[BaseModel], Schema]) -> Schema:
    errors: dict[str, str] = {}
    if operation.needs is not Needs.NOTHING:
        errors = {
            "401": "Nobody knows who asks",
            "429": "Asked too often",
            "431": "The address or a header is too long",
            "503": "Not known at the moment",
        }
    if operation.on_workspace or operation.needs is Needs.PLATFORM_ADMIN:
        errors |= {"403": "Not allowed, or not there", "404": "Not there", "422": "Something of it is wrong"}
    if operation.query:
        errors |= {"422": "Something of it is wrong"}
    if operation.body is not None:
        errors |= {"400": "Another workspace that is named is none", "413": "The body is too large"}
    if operation.is_write or operation.name == "issue_token":
        errors |= {"502": "The cluster, or the token endpoint, refuses this process"}
    if operation.is_write:
        errors |= {"409": "The state of the workspace forbids it", "412": "It has changed since it was read"}
    found: Schema = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": f"Needs {operation.needs}.",
        "responses": {str(operation.status): _answer(operation, refs)} | _more(operation, refs),
    }
    for code, said in errors.items():
        content = {
            "application/json": {"schema": refs[models.ErrorDetail]},
            "application/problem+json": {"schema": refs[models.Problem]},
        }
        found["responses"].setdefault(code, {"description": said, "content": content})
    parameters: list[Schema] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"} | PATHS.get(name, {})}
        for name in re.findall(r"{(\w+)}", operation.path)
    ]
    parameters += [{"name": name, "in": "query", **PARAMETERS[name]} for name in operation.query]
    if operation.is_write:
        said = "Value of `ETag`: the write is refused if the workspace has changed since."
        parameters.append({"name": "If-Match", "in": "header", "description": said, "schema": {"type": "string"}})
    if parameters:
        found["parameters"] = parameters
    if operation.body is not None:
        content = {"application/json": {"schema": refs[operation.body]}}
        found["requestBody"] = {"required": True, "content": content}
    if operation.needs is not Needs.NOTHING:
        found["security"] = [{"bearer": []}]
    return found


def _answer(operation: Operation, refs: dict[type[BaseModel], Schema]) -> Schema:
    found: Schema = {"description": operation.summary}
    if (model := _model(operation.answer)) is not None:
        schema = refs[model]
        if typing.get_origin(operation.answer) is list:
            schema = {"type": "array", "items": schema}
        found["content"] = {"application/json": {"schema": schema}}
    return found


def _more(operation: Operation, refs: dict[type[BaseModel], Schema]) -> Schema:
    if operation.name != "open_session":
        return {}
    content = {"application/json": {"schema": _starting()}}
    return {"202": {"description": "It is on its way", "content": content}}


def _starting() -> Schema:
    return models.Starting.model_json_schema(by_alias=True)


def page() -> str:
    """The document for people: one page, made here, without a script."""
    sections = "".join(
        f"<h2>{html.escape(operation.method)} <code>{html.escape(operation.path)}</code></h2>"
        f"<p>{html.escape(operation.summary)}. Needs {html.escape(operation.needs)}.</p>"
        + (f"<p>Body: {_link(operation.body)}</p>" if operation.body else "")
        + (f"<p>{operation.status}: {_link(model)}</p>" if (model := _model(operation.answer)) else "")
        for operation in OPERATIONS
    )
    schemas = "".join(
        f'<h3 id="{html.escape(name)}">{html.escape(name)}</h3><pre>{html.escape(json.dumps(schema, indent=1))}</pre>'
        for name, schema in document()["components"]["schemas"].items()
    )
    return f'{sections}<h2>Models</h2>{schemas}<p><a href="openapi.json">openapi.json</a></p>'


def _link(model: type[BaseModel]) -> str:
    return f'<a href="#{html.escape(model.__name__)}">{html.escape(model.__name__)}</a>'
