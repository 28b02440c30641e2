"""Tokens of workspaces' own clients, for machines: had from the token endpoint with the client's secret."""

import json
from typing import Any

import aiohttp
import orjson
import structlog
from aiohttp import web

from datalabd.api.meta import Manifest
from workspaces import answers, problems
from workspaces.call import Call, Handler
from workspaces.claims import TokenRefused, is_audience
from workspaces.credentials import decoded
from workspaces.handlers import reading
from workspaces.tokens import parse

log = structlog.get_logger()

ID_KEYS = ("clientID", "client_id", "CLIENT_ID")
SECRET_KEYS = ("clientSecret", "client_secret", "CLIENT_SECRET")
ANSWER_MAX = 256 * 1024


async def issue_token(call: Call) -> web.StreamResponse:
    """A token of the workspace's client; no refresh token is handed on."""
    endpoint = call.settings.token_endpoint
    if not endpoint:
        raise problems.problem(503, "token_broker_not_configured", config="TOKEN_BROKER_TOKEN_ENDPOINT")
    reading.require_secrets(call)
    name = f"{call.workspace}-oauth-client"
    client_id, secret = credentials(call.cache.secret(name), name)
    if call.is_head:
        return web.Response()
    found = await _exchange(call, endpoint, client_id, secret)
    try:
        body = checked(found, call.workspace, call.settings.auth_audience)
    except ValueError as error:
        raise problems.problem(502, "token_validation_failed", message=str(error)) from None
    call.services.audit.shown(call.act)
    return answers.ok(body, headers={"Pragma": "no-cache"})


def credentials(secret: Manifest | None, name: str) -> tuple[str, str]:
    """Id and secret of the client, that stand in a Secret or in a JSON object within it; Problem otherwise."""
    if secret is None or not secret.get("data"):
        raise problems.problem(404, "oauth_client_secret_not_found", secret=name)
    if (values := decoded(secret)) is None:
        raise problems.problem(502, "oauth_client_secret_invalid", secret=name)
    said: dict[str, Any] = dict(values)
    for value in values.values():
        try:
            inner = json.loads(value) if value.lstrip().startswith("{") else None
        except (ValueError, RecursionError):
            continue
        if isinstance(inner, dict):
            said = inner | said
    found = [
        next((said[key] for key in keys if isinstance(said.get(key), str) and said[key]), "")
        for keys in (ID_KEYS, SECRET_KEYS)
    ]
    if not all(found):
        raise problems.problem(502, "oauth_client_secret_missing_fields", secret=name)
    return found[0], found[1]


async def _exchange(call: Call, endpoint: str, client_id: str, secret: str) -> Any:
    """What the token endpoint answers."""
    form = {"grant_type": "client_credentials", "audience": call.settings.auth_audience}
    timeout = aiohttp.ClientTimeout(total=call.settings.token_timeout_seconds)
    headers = {"Accept": "application/json"}
    try:
        login = aiohttp.BasicAuth(client_id, secret, "utf-8")
        async with call.services.http.post(
            endpoint, data=form, auth=login, headers=headers, timeout=timeout, allow_redirects=False
        ) as response:
            content = await response.content.read(ANSWER_MAX)
            status = response.status
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
        log.warning("token endpoint not reached", error=type(error).__name__)
        raise problems.problem(502, "token_endpoint_unreachable") from None
    if status != 200:
        raise problems.problem(502, "token_endpoint_error", status=status)
    try:
        return orjson.loads(content)
    except ValueError:
        raise problems.problem(502, "token_endpoint_invalid_json") from None


def checked(found: Any, workspace: str, audience: str) -> dict[str, Any]:
    """The answer, once its token is one for this API and has the role of machines; ValueError with what it lacks."""
    if not isinstance(found, dict):
        raise problems.problem(502, "token_endpoint_invalid_json")
    token, kind = found.get("access_token"), found.get("token_type", "Bearer")
    if not isinstance(token, str) or not token:
        raise problems.problem(502, "token_endpoint_missing_access_token")
    try:
        _, claims = parse(token)
    except TokenRefused:
        raise ValueError("the token is no JWT") from None
    if not is_audience(claims, audience):
        raise ValueError(f"the token is not for audience {audience}")
    access = claims.get("resource_access")
    granted = access.get(workspace) if isinstance(access, dict) else None
    roles = granted.get("roles") if isinstance(granted, dict) else None
    if not isinstance(roles, list) or "ws_api" not in roles:
        raise ValueError(f"the token lacks role ws_api of client {workspace}")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise ValueError("the token is no bearer token")
    seconds, scope = found.get("expires_in"), found.get("scope")
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds < 2**31
    return {
        "access_token": token,
        "token_type": kind,
        "expires_in": int(seconds) if is_number else None,  # type: ignore[arg-type]  # a number, as just seen
        "scope": scope if isinstance(scope, str) else None,
    }


HANDLERS: dict[str, Handler] = {"issue_token": issue_token}
