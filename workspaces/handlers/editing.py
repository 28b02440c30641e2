"""What is changed of workspaces: the decisions stand in the pure modules, the writing in `writes`."""

import asyncio
import contextlib
import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

import structlog
from aiohttp import web
from pydantic import BaseModel

from datalabd.api.workspace import StoreType
from datalabd.api.workspace_bodies import (
    BucketPatch,
    GrantPut,
    MembershipPatch,
    OwnerPut,
    RequestPut,
    SessionCreate,
    SessionPatch,
    StoreAction,
    WorkspaceCreate,
    WorkspaceEdit,
)
from datalabd.kube import resources as kinds
from workspaces import answers, buckets, creation, edits, grants, members, permissions, problems, sessions, stores
from workspaces.call import Call, Handler
from workspaces.handlers import reading
from workspaces.patches import Draft
from workspaces.writes import Pair, Written

log = structlog.get_logger()

Answer = TypeVar("Answer")

FORGET_SECONDS = 10.0
"""How long a deletion or creation waits for what others decided on a workspace to be forgotten."""
OWNERS_MAX = 20
"""Workspaces that a log line or a refusal names."""


async def edited(
    call: Call, apply: Callable[[Draft], Answer], asked: BaseModel | None = None
) -> tuple[Written, Answer]:
    """Make one edit of the workspace of the path; what `apply` returned, on what was there at last."""
    reading.require(call)
    answer: list[Answer] = []

    def decide(pair: Pair) -> Draft:
        if pair.storage is None:
            raise problems.not_found()
        call.require_still()
        draft = Draft(pair.storage, pair.datalab)
        answer[:] = [apply(draft)]
        return draft

    written = await call.services.writer.edit(call.workspace, decide, if_match=call.if_match, dry_run=call.is_dry_run)
    call.warnings = written.warnings
    call.written(written, asked)
    return written, answer[0]


def _answered(call: Call, body: Mapping[str, object]) -> web.StreamResponse:
    """The answer to a change, with what admission has to say of it."""
    warnings = {"warnings": list(call.warnings)} if call.warnings else {}
    return answers.ok({**body, **warnings}, call.operation.status)


def _named(call: Call) -> web.StreamResponse:
    """The usual one: the workspace's name."""
    return _answered(call, {"name": call.workspace})


def _choice(call: Call, parameter: str, choice: str) -> bool:
    """Whether the query makes the one choice that a parameter offers; Problem if it says something else."""
    said = call.query.get(parameter, "")
    if said not in ("", choice):
        raise problems.wrong(("query", parameter), f"must be {choice}", said)
    return said == choice


# ---- Workspaces


async def create_workspace(call: Call) -> web.StreamResponse:
    """Make a workspace."""
    asked = await call.body(WorkspaceCreate)
    reading.require(call)
    cache = call.cache
    made = creation.create(
        asked,
        cache.sharing,
        lambda name: cache.get(kinds.STORAGES, name),
        lambda name: cache.get(kinds.DATALABS, name),
        cache.volumes,
        call.settings,
        datalab_served=cache.has(kinds.DATALABS),
        adopts=_choice(call, "data", "adopt"),
        random=uuid.uuid4().hex,
    )
    storage = None if made.storage_exists else made.storage
    call.workspace = made.name
    writer = call.services.writer
    if storage is not None and not call.is_dry_run and cache.sharing.granters(made.name):
        await writer.create(storage, made.datalab, made.words, dry_run=True)  # nobody's grants end for what is refused
        if left := await _forget(call, made.name):
            raise problems.problem(409, "grants_exist", workspaces=left)
    call.warnings = await writer.create(storage, made.datalab, made.words, dry_run=call.is_dry_run)
    if not call.is_dry_run:
        pair = writer.pair(made.name)
        objects = tuple(obj for obj in (pair.datalab, pair.storage) if obj is not None)
        call.written(Written(pair, objects), asked)
    return _named(call)


async def edit_workspace(call: Call) -> web.StreamResponse:
    """Add to a workspace; all of it or nothing."""
    asked = await call.body(WorkspaceEdit)
    if not permissions.needed(asked, call.workspace) <= call.permissions:
        raise problems.forbidden()
    reading.require(call)
    cache = call.cache

    def decide(pair: Pair) -> Draft:
        if pair.storage is None:
            raise problems.not_found()
        call.require_still()
        return edits.apply(asked, pair.storage, pair.datalab, cache.sharing, reading.offer(call), call.now)

    written = await call.services.writer.edit(call.workspace, decide, if_match=call.if_match, dry_run=call.is_dry_run)
    call.warnings = written.warnings
    call.written(written, asked)
    return _named(call)


async def delete_workspace(call: Call) -> web.StreamResponse:
    """Delete the Datalab, then the Storage."""
    reading.require(call)
    principal = grants.principal_of(call.workspace, call.cache.sharing)
    gone = await call.services.writer.delete(call.workspace, if_match=call.if_match, dry_run=call.is_dry_run)
    if not call.is_dry_run:
        call.services.audit.changed(call.act, gone)
        await _forget(call, principal)
    return web.Response(status=204)


async def _forget(call: Call, principal: str) -> list[str]:
    """Have others forget what they decided on who is gone: whoever is called so next would have it.

    Returns names of workspaces that could not be made to, as many as are told.
    """

    def decide(pair: Pair) -> Draft:
        if pair.storage is None:
            raise problems.not_found()
        draft = Draft(pair.storage, None)
        grants.forget(draft, principal)
        return draft

    sharing, act = call.cache.sharing, call.act
    if set(sharing.of_principal(principal)) - {call.workspace}:
        return []  # it is somebody else's as well
    left = set(owners := sharing.granters(principal)) - {call.workspace}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FORGET_SECONDS):
            for owner in owners:
                with contextlib.suppress(problems.Problem):  # which the writer has logged
                    written = await call.services.writer.edit(owner, decide)
                    left.discard(owner)
                    forgot = replace(act, operation="end_grant", workspace=owner, what={"grantee": call.workspace})
                    call.services.audit.changed(forgot, written.changed, changes=written.changes)
    if left:
        log.warning("grants to a deleted workspace stay", workspace=call.workspace, owners=sorted(left)[:OWNERS_MAX])
    return sorted(left)[:OWNERS_MAX]


# ---- Members


async def change_member(call: Call) -> web.StreamResponse:
    """Give a member another role."""
    asked = await call.body(MembershipPatch)
    await edited(call, lambda draft: members.change(draft, call.part("m"), asked.role, call.now), asked)
    return _named(call)


async def remove_member(call: Call) -> web.StreamResponse:
    """Remove a member."""
    await edited(call, lambda draft: members.remove(draft, call.part("m"), call.now))
    return web.Response(status=204)


async def hand_over(call: Call) -> web.StreamResponse:
    """Make a member the owner."""
    asked = await call.body(OwnerPut)
    call.about["member"] = asked.member

    def apply(draft: Draft) -> None:
        is_admin = call.caller.is_platform_admin
        if not (is_admin or permissions.owns(call.caller, call.workspace, draft.read_datalab)):
            raise problems.forbidden()  # handed over meanwhile
        members.hand_over(draft, asked.member, call.now)

    await edited(call, apply, asked)
    return _named(call)


# ---- Buckets, requests, grants


async def change_bucket(call: Call) -> web.StreamResponse:
    """Change a bucket."""
    asked = await call.body(BucketPatch)
    await edited(call, lambda draft: buckets.change(draft, call.part("b"), asked), asked)
    return _named(call)


async def remove_bucket(call: Call) -> web.StreamResponse:
    """Remove a bucket."""
    revoke = _choice(call, "grants", "revoke")
    await edited(call, lambda draft: buckets.remove(draft, call.part("b"), revoke=revoke))
    return web.Response(status=204)


async def request_access(call: Call) -> web.StreamResponse:
    """Ask for a bucket of another workspace."""
    asked = await call.body(RequestPut)
    sharing = call.cache.sharing
    await edited(call, lambda draft: grants.request(draft, call.part("b"), asked, sharing, call.now), asked)
    return _named(call)


async def withdraw_request(call: Call) -> web.StreamResponse:
    """Ask no longer."""
    await edited(call, lambda draft: grants.withdraw(draft, call.part("b")))
    return web.Response(status=204)


async def grant_access(call: Call) -> web.StreamResponse:
    """Decide what another workspace gets of a bucket."""
    asked = await call.body(GrantPut)
    bucket, other, sharing = call.part("b"), call.part("workspace"), call.cache.sharing
    await edited(call, lambda draft: grants.grant(draft, bucket, other, asked, sharing, call.now), asked)
    return _named(call)


async def end_grant(call: Call) -> web.StreamResponse:
    """End a grant."""
    sharing = call.cache.sharing
    await edited(call, lambda draft: grants.end(draft, call.part("b"), call.part("workspace"), sharing))
    return web.Response(status=204)


# ---- Stores


def _type(call: Call) -> StoreType:
    said = call.part("type")
    try:
        return StoreType(said)
    except ValueError:
        raise problems.wrong(("path", "type"), f"must be one of {', '.join(StoreType)}", said) from None


async def remove_store(call: Call) -> web.StreamResponse:
    """Remove a store."""
    kind = _type(call)
    await edited(call, lambda draft: stores.remove(draft, kind, call.part("name")))
    return _named(call)


def _asking(action: str) -> Handler:
    async def ask(call: Call) -> web.StreamResponse:
        """Ask for something of a store, once for a nonce."""
        kind, asked, nonce = _type(call), await call.body(StoreAction), secrets.token_hex(4)
        name = call.part("name")
        await edited(call, lambda draft: stores.ask(draft, kind, name, action, nonce, asked.time), asked)
        return _answered(call, {"name": name, "nonce": nonce})

    return ask


# ---- Sessions


async def create_session(call: Call) -> web.StreamResponse:
    """Declare a session."""
    asked = await call.body(SessionCreate)
    reading.datalab(call)
    most = call.settings.max_sessions
    _, answer = await edited(call, lambda draft: sessions.create(draft, asked, most), asked)
    return _answered(call, answer)


async def change_session(call: Call) -> web.StreamResponse:
    """Start or stop a session."""
    asked = await call.body(SessionPatch)
    reading.datalab(call)
    _, answer = await edited(call, lambda draft: sessions.change(draft, call.part("s"), asked.state), asked)
    return _answered(call, answer)


async def remove_session(call: Call) -> web.StreamResponse:
    """Remove a session."""
    reading.datalab(call)
    await edited(call, lambda draft: sessions.remove(draft, call.part("s")))
    return web.Response(status=204)


HANDLERS: dict[str, Handler] = {
    "create_workspace": create_workspace,
    "edit_workspace": edit_workspace,
    "delete_workspace": delete_workspace,
    "change_member": change_member,
    "remove_member": remove_member,
    "hand_over": hand_over,
    "change_bucket": change_bucket,
    "remove_bucket": remove_bucket,
    "request_access": request_access,
    "withdraw_request": withdraw_request,
    "grant_access": grant_access,
    "end_grant": end_grant,
    "remove_store": remove_store,
    "rotate_store": _asking("rotate"),
    "backup_store": _asking("backup"),
    "restore_store": _asking("restore"),
    "create_session": create_session,
    "change_session": change_session,
    "remove_session": remove_session,
}
