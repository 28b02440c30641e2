"""Answers as they leave: JSON, errors in the shape that the client asks for, bodies and parameters as they come in."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import orjson
from aiohttp import hdrs, web
from pydantic import BaseModel, ValidationError

from datalabd.serving import Bodies
from datalabd.text import ENTRY_MAX, bounded
from workspaces import problems
from workspaces.problems import Problem

BODY_MAX = 1024 * 1024
"""Bytes of a request's body."""
ROOM = 8 * BODY_MAX
"""Bytes of large bodies at once."""
BODIES = web.AppKey("bodies", Bodies)
NO_STORE = "no-store"
NONE: Mapping[str, str] = MappingProxyType({})
PROBLEM_JSON = "application/problem+json"

FORM_MAX = 256 * 1024
"""Bytes of a form."""
FIELDS_MAX = 2000
"""Of a form."""

Model = TypeVar("Model", bound=BaseModel)
Parsed = TypeVar("Parsed")


def ok(
    body: Any, status: int = 200, headers: Mapping[str, str] = NONE, content_type: str = "application/json"
) -> web.Response:
    """JSON that nobody keeps. Models leave out what is null; ready-made bytes go out as they are."""
    data = body if isinstance(body, bytes) else encode(body)
    return web.Response(status=status, body=data, content_type=content_type, headers=headers)


def encode(body: Any) -> bytes:
    """A model, list of models or plain value as JSON."""
    return orjson.dumps(plain(body))


def plain(body: Any) -> Any:
    """The same without models: of JSON's own kinds, and times."""
    if isinstance(body, BaseModel):
        return body.model_dump(mode="json", exclude_none=True, by_alias=True)
    if isinstance(body, list | tuple):
        return [plain(item) for item in body]
    return body


def error(
    request: web.BaseRequest, status: int, detail: problems.Detail, headers: Mapping[str, str] = NONE, said: str = ""
) -> web.Response:
    """An error as upstream has it, or by RFC 9457 for whoever asks for that."""
    as_problem = PROBLEM_JSON in request.headers.get(hdrs.ACCEPT, "")
    kind = PROBLEM_JSON if as_problem else "application/json"
    return ok(problems.body(status, detail, as_problem=as_problem, said=said), status, headers, kind)


def warning(text: str) -> str:
    """A header `Warning` that says it (RFC 7234, section 5.5), in ASCII."""
    plain = "".join(letter if " " <= letter <= "~" and letter not in '"\\' else "?" for letter in text)
    return f'299 - "{plain}"'


async def body_of(request: web.Request, parse: Callable[[bytes], Parsed]) -> Parsed:
    """The request's body, parsed while there is room for it; `Problem` for one that is too large."""
    try:
        async with request.app[BODIES].read(request) as data:
            return parse(data)
    except web.HTTPRequestEntityTooLarge:
        raise Problem(413, "Request body too large") from None
    except web.HTTPServiceUnavailable:
        raise problems.unavailable("Too many large requests at once", 1) from None


def form(data: bytes) -> tuple[tuple[str, str], ...]:
    """A body as the fields of a form, in order; `Problem` for what is none."""
    if len(data) > FORM_MAX:
        raise Problem(413, "The form is too large")
    try:
        return tuple(parse_qsl(data.decode(), keep_blank_values=True, max_num_fields=FIELDS_MAX))
    except UnicodeDecodeError:
        raise Problem(400, "The form is no UTF-8") from None
    except ValueError:
        raise Problem(413, "The form has too many fields") from None


def json_object(answer: web.StreamResponse) -> dict[str, Any]:
    """The JSON object of an answer of ours; empty where it is none."""
    data = answer.body if isinstance(answer, web.Response) else None
    found = orjson.loads(data) if isinstance(data, bytes) and data else {}
    return found if isinstance(found, dict) else {}


def parsed(data: bytes, model: type[Model]) -> Model:
    """A body as a model; `Problem` for anything else. A body that is not there is an empty one."""
    try:
        said = orjson.loads(data) if data else {}
    except ValueError as problem:
        entry = {"type": "json_invalid", "loc": ["body"], "msg": "JSON decode error", "input": {}}
        raise Problem(422, [entry | {"ctx": {"error": bounded(str(problem), ENTRY_MAX)}}]) from None
    try:
        return model.model_validate_json(data or b"{}") if isinstance(said, dict) else model.model_validate(said)
    except ValidationError as problem:
        raise problems.invalid("body", problem) from None


def query_flag(query: Mapping[str, str], name: str) -> bool:
    """A parameter that is true or false; absent is false."""
    said = query.get(name, "false").lower()
    if said not in ("true", "false", "1", "0", ""):
        raise problems.wrong(("query", name), "Input should be a valid boolean", said, "bool_parsing")
    return said in ("true", "1", "")


def query_number(query: Mapping[str, str], name: str, least: int, most: int) -> int | None:
    """A parameter that is a whole number; None where it is absent."""
    if (said := query.get(name)) is None:
        return None
    if not (said.isascii() and said.isdigit() and len(said) < 10 and least <= int(said) <= most):
        raise problems.wrong(("query", name), f"must be a whole number from {least} to {most}", said)
    return int(said)


def wants_html(request: web.Request) -> bool:
    """Whether the client is a browser that shows pages."""
    return "text/html" in request.headers.get(hdrs.ACCEPT, "").lower()
