"""The OpenAPI document, made of the table of operations and the models that serve them."""

import functools
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
PATHS: dict[str, tuple[str, Schema]] = {
    "w": ("Name of the workspace.", {"pattern": NAME, "maxLength": 253}),
    "m": ("User name of the member.", {}),
    "b": ("Name of the bucket.", {}),
    "workspace": ("Name of the workspace that the bucket is granted to.", {}),
    "type": ("Type of the store.", {"enum": list(models.StoreType)}),
    "name": ("Name of the store.", {}),
    "s": ("Name of the session.", {"pattern": NAME, "maxLength": 253}),
}
"""Parts of paths: what they are, and what is known of their form."""


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
            "401": "No token, or one that is refused",
            "429": "Too many requests; `Retry-After` says when to ask again",
            "431": "The address or a header is too long",
            "503": "Not available now; `Retry-After` says when to ask again",
        }
    if operation.on_workspace or operation.needs is Needs.PLATFORM_ADMIN:
        errors |= {
            "403": "Not allowed, or there is no such workspace",
            "404": "Not found",
            "422": "The request is not valid; `detail` names what is wrong",
        }
    if operation.query:
        errors |= {"422": "The request is not valid; `detail` names what is wrong"}
    if operation.body is not None:
        errors |= {
            "400": "The body names a workspace that does not exist, or a bucket that it never asked for",
            "413": "The body is too large",
        }
    if operation.is_write or operation.name == "issue_token":
        errors |= {"502": "The cluster or the token endpoint refuses the Workspace API"}
    if operation.tag == "Objects":
        errors |= {
            "409": "The workspace has no keys yet, or they are of an object storage that is not listed",
            "502": "The object storage refuses the keys, or is not what it should be",
        }
    if operation.name == "download_object":
        errors |= {"413": "The object is too large to be passed on"}
    if operation.is_write:
        errors |= {"409": "The state of the workspace forbids it", "412": "The workspace has changed since it was read"}
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
    parameters: list[Schema] = []
    for name in re.findall(r"{(\w+)}", operation.path):
        said, form = PATHS[name]
        schema = {"type": "string"} | form
        parameters.append({"name": name, "in": "path", "required": True, "description": said, "schema": schema})
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
    if operation.name == "download_object":
        return {"302": {"description": "`Location` is a link of five minutes to the object storage"}}
    if operation.name != "open_session":
        return {}
    content = {"application/json": {"schema": _starting()}}
    return {"202": {"description": "The session is starting", "content": content}}


def _starting() -> Schema:
    return models.Starting.model_json_schema(by_alias=True)
