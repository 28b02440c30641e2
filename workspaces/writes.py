"""Writes to the Datalab and Storage of a workspace: all of an edit or nothing of it, and no edit of others is lost."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakValueDictionary

import orjson
import structlog

from datalabd.api.meta import Manifest
from datalabd.errors import Conflict, Denied, Invalid, KubeError, NotFound
from datalabd.kube import resources as kinds
from datalabd.kube.client import JSON_PATCH, Client, path, warnings_told
from datalabd.kube.resources import Resource
from datalabd.live import text
from datalabd.text import ENTRY_MAX, bounded
from workspaces import buckets, problems
from workspaces.cache import Cache
from workspaces.names import BucketNames
from workspaces.patches import Draft
from workspaces.problems import Problem, Words
from workspaces.reads import etag

log = structlog.get_logger()

TRIES = 5
PAUSE_SECONDS = (0.01, 0.15)
GONE_SECONDS = 2.0
"""How long the end of what was deleted is waited for."""
CHANGES_MAX = 100
"""Operations of a patch that are told."""
DRY_RUN = {"dryRun": "All", "fieldManager": "datalabd"}

TEST_FAILED = "the server rejected our request due to an error in our request"
"""All that the API server says when the test of a patch found something else."""

Patch = Sequence[Mapping[str, Any]]
"""Operations of a JSON Patch."""


@dataclass(frozen=True)
class Pair:
    """The two objects of a workspace, as they were read."""

    storage: Manifest | None
    datalab: Manifest | None

    @property
    def tag(self) -> str:
        """The value of `ETag`; empty without a Storage."""
        return "" if self.storage is None else etag(self.storage, self.datalab)

    @property
    def version(self) -> int:
        """The later of their resourceVersions; 0 where there are none."""
        known = (text(obj, "metadata", "resourceVersion") for obj in (self.storage, self.datalab))
        return max((int(version) for version in known if version.isdecimal()), default=0)

    def of(self, kind: Resource) -> Manifest | None:
        """One of them."""
        return self.storage if kind == kinds.STORAGES else self.datalab


@dataclass(frozen=True)
class Written:
    """What came of an edit."""

    pair: Pair
    """The objects afterwards; of a dry run, as they would be."""
    changed: tuple[Manifest, ...]
    """Those that were written."""
    changes: tuple[dict[str, str], ...] = ()
    """What of them changed: paths, each with what stood there and what does."""
    warnings: tuple[str, ...] = ()
    """What has no effect, and what admission has to say."""


Decide = Callable[[Pair], Draft]
"""Says what is to change of the objects as they are, or raises `Problem`."""


class Writer:
    """Makes edits. Those of one workspace that come to this replica come one after the other."""

    def __init__(self, client: Client, cache: Cache) -> None:
        self._client = client
        self._cache = cache
        self._names = BucketNames(client, cache)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def pair(self, workspace: str) -> Pair:
        """The two objects, as the cache has them."""
        return Pair(self._cache.get(kinds.STORAGES, workspace), self._cache.get(kinds.DATALABS, workspace))

    async def edit(self, workspace: str, decide: Decide, *, if_match: str = "", dry_run: bool = False) -> Written:
        """Make an edit; raises `Problem`. Where others were faster, it is decided again on what they left."""
        async with self._lock(workspace):
            pair = self.pair(workspace)
            for attempt in range(TRIES):
                require_match(pair, if_match)
                try:
                    return await self._decided(pair, decide, dry_run, is_live=attempt > 0)
                except _Outdated as outdated:
                    await asyncio.sleep(random.uniform(*PAUSE_SECONDS) * (attempt + 1))
                    before, pair = pair, await self._live(workspace)
                    if outdated.refusal is not None and _versions(before) == _versions(pair):
                        raise _refusal(outdated.refusal, outdated.words) from outdated
        raise problems.problem(409, "conflict")

    def _lock(self, workspace: str) -> asyncio.Lock:
        if (lock := self._locks.get(workspace)) is None:
            lock = self._locks[workspace] = asyncio.Lock()
        return lock

    async def _live(self, workspace: str) -> Pair:
        """The two objects, as the API server has them."""
        return Pair(await self._read(kinds.STORAGES, workspace), await self._read(kinds.DATALABS, workspace))

    async def _read(self, kind: Resource, name: str) -> Manifest | None:
        """An object as the API server has it; the cache then knows as well."""
        if not self._cache.has(kind):
            return None
        try:
            live = await self._client.get(kind, self._cache.namespace, name)
        except NotFound:
            return None
        except KubeError as error:
            raise _refusal(error) from error
        self._cache.informers.store(kind).observe(live)
        return live

    # --- edits

    async def _decided(self, pair: Pair, decide: Decide, dry_run: bool, *, is_live: bool) -> Written:
        """Make an edit of these very objects; names of new buckets are claimed, once nothing else is in the way."""
        edit = decide(pair)
        if not is_live:
            await self._require_current_datalab(pair, edit)
        if dry_run or pair.storage is None or not (names := buckets.added(edit)):
            return await self._apply(pair, edit, dry_run)
        await self._apply(pair, edit, dry_run=True)
        try:
            async with self._names.claimed(pair.storage, names) as storage:
                pair = replace(pair, storage=storage)
                return await self._apply(pair, decide(pair), dry_run)
        except KubeError as error:
            raise (_Outdated(None) if _is_outdated(error) else _refusal(error)) from error

    async def _require_current_datalab(self, pair: Pair, edit: Draft) -> None:
        """Raise `_Outdated` if a change of the Storage alone was decided on a Datalab that is another by now.

        It says who was removed, and is a part of what `If-Match` names, but no patch of a Storage can test it.
        """
        if edit.read_datalab is None or edit.datalab_patch or not edit.storage_patch:
            return
        live = await self._read(kinds.DATALABS, edit.name)
        if replace(pair, datalab=live).tag != pair.tag:
            raise _Outdated(None)

    async def _apply(self, pair: Pair, edit: Draft, dry_run: bool) -> Written:
        touched = [kind for kind in (kinds.DATALABS, kinds.STORAGES) if patch_of(edit, kind)]
        told = tuple(change for kind in touched for change in changes(patch_of(edit, kind)))
        done: dict[Resource, Manifest] = {}
        with warnings_told() as warnings:
            if dry_run or len(touched) > 1:
                for kind in touched:
                    done[kind] = await self._patch(kind, pair, edit, dry_run=True)
            if dry_run:
                return Written(_with(pair, done), tuple(done.values()), told, (*edit.warnings, *warnings))
            done.clear()
            warnings.clear()
            for kind in touched:
                try:
                    done[kind] = await self._patch(kind, pair, edit)
                except (Problem, _Outdated):
                    for earlier, written in done.items():
                        await self._take_back(earlier, pair, edit, written)
                    raise
            return Written(_with(pair, done), tuple(done.values()), told, (*edit.warnings, *warnings))

    async def _patch(self, kind: Resource, pair: Pair, edit: Draft, *, dry_run: bool = False) -> Manifest:
        before = pair.of(kind)
        assert before is not None  # seen above
        try:
            return await self._send(kind, before["metadata"]["name"], patch_of(edit, kind), dry_run=dry_run)
        except KubeError as error:
            if not _is_outdated(error):
                raise _refusal(error, edit.words) from error
            # A patch that is no good is refused in the same words as one whose test failed.
            log.debug("write conflicts with another: it is decided again", kind=kind.kind, error=str(error))
            raise _Outdated(None if isinstance(error, Conflict) else error, edit.words) from error

    async def _send(self, kind: Resource, name: str, patch: Patch, *, dry_run: bool = False) -> Manifest:
        """The object after a patch, which the cache then knows as well."""
        namespace = self._cache.namespace
        if dry_run:
            where = path(kind, namespace, name)
            return await self._client.request("PATCH", where, params=DRY_RUN, body=patch, content_type=JSON_PATCH)
        after = await self._client.patch(kind, namespace, name, list(patch), JSON_PATCH)
        self._cache.informers.store(kind).observe(after)
        return after

    async def _take_back(self, kind: Resource, pair: Pair, edit: Draft, written: Manifest) -> None:
        """Undo a write whose other half failed, unless somebody has changed the same fields since."""
        before = pair.of(kind)
        assert before is not None
        patch = inverse(before, written, patch_of(edit, kind))
        for attempt in range(TRIES):
            try:
                await self._send(kind, before["metadata"]["name"], patch)
                return
            except KubeError as error:
                log.warning("half of an edit is not taken back yet", kind=kind.kind, error=str(error))
                if _is_outdated(error) or isinstance(error, NotFound):
                    break
                await asyncio.sleep(0.2 * 2**attempt)
        other = kinds.DATALABS if kind == kinds.STORAGES else kinds.STORAGES
        raise problems.problem(502, "partly_applied", written=kind.kind, not_written=other.kind)

    # --- creation and deletion

    async def create(
        self, storage: Manifest | None, datalab: Manifest | None, words: Words, *, dry_run: bool = False
    ) -> tuple[str, ...]:
        """Make a workspace: the Storage, unless it is there, then the Datalab, if the cluster has such a kind.

        Returns what admission has to say of them.
        """
        with warnings_told() as warnings:
            await self._make(storage, datalab, words, dry_run=dry_run)
            return tuple(warnings)

    async def _make(self, storage: Manifest | None, datalab: Manifest | None, words: Words, *, dry_run: bool) -> None:
        if datalab is not None:
            await self._create(kinds.DATALABS, datalab, words, dry_run=True)
        if storage is not None and dry_run:
            await self._create(kinds.STORAGES, storage, words, dry_run=True)
        if dry_run:
            return
        made = await self._create(kinds.STORAGES, storage, words) if storage is not None else None
        name = (storage or datalab or {})["metadata"]["name"]
        try:
            await self._require_free(name)
        except Problem:
            if made is not None:
                await self._remove(kinds.STORAGES, made)
            raise
        if datalab is None:
            return
        try:
            await self._create(kinds.DATALABS, datalab, words)
        except Problem as problem:
            # Where there is one by now, the same request to another replica has completed what we began.
            if made is not None and not isinstance(problem.__cause__, Conflict):
                await self._remove(kinds.STORAGES, made)
            raise

    async def _require_free(self, bucket: str) -> None:
        """Raise `Problem` where another Storage than that of the same name has a bucket, or is about to."""
        try:
            await self._names.require_free({bucket}, bucket)
        except KubeError as error:
            raise _refusal(error) from error

    async def _create(self, kind: Resource, manifest: Manifest, words: Words, *, dry_run: bool = False) -> Manifest:
        name = manifest["metadata"]["name"]
        try:
            made = await self._client.create(kind, manifest, dry_run=dry_run)
        except Conflict as error:
            raise problems.problem(422, "Workspace with this name already exists") from error
        except KubeError as error:
            refused = _refusal(error, words)
            if refused.status == 502:
                refused = problems.problem(502, f"Failed to create {kind.kind} '{name}'")
            raise refused from error
        if not dry_run:
            self._cache.informers.store(kind).observe(made)
        return made

    async def delete(self, workspace: str, *, if_match: str = "", dry_run: bool = False) -> tuple[Manifest, ...]:
        """Delete the Datalab, then the Storage; both are asked for first. What was deleted; raises `Problem`."""
        async with self._lock(workspace):
            pair = await self._live(workspace)
            if pair.storage is None:
                raise problems.not_found()
            require_match(pair, if_match)
            there = [(kind, obj) for kind in (kinds.DATALABS, kinds.STORAGES) if (obj := pair.of(kind)) is not None]
            for kind, obj in there:
                await self._remove(kind, obj, dry_run=True)
            if not dry_run:
                for kind, obj in there:
                    await self._remove(kind, obj)
            return tuple(obj for _, obj in there)

    async def _remove(self, kind: Resource, obj: Manifest, *, dry_run: bool = False) -> None:
        metadata = obj["metadata"]
        options: Manifest = {"preconditions": {"uid": metadata["uid"]}, "propagationPolicy": "Background"}
        where = path(kind, self._cache.namespace, metadata["name"])
        try:
            await self._client.request("DELETE", where, body=options | ({"dryRun": ["All"]} if dry_run else {}))
        except (NotFound, Conflict):
            return  # it went, or is another by now
        except KubeError as error:
            raise _refusal(error) from error
        if not dry_run:
            await self._until_gone(kind, metadata["name"], metadata["uid"])

    async def _until_gone(self, kind: Resource, name: str, uid: str) -> None:
        """Return when the cache knows that an object is deleted, or is being so."""
        store = self._cache.informers.store(kind)

        def is_there() -> bool:
            live = store.get(self._cache.namespace, name)
            return live is not None and live["metadata"]["uid"] == uid and not live["metadata"].get("deletionTimestamp")

        changed = asyncio.Event()
        stop = self._cache.on_change(lambda *_: changed.set())
        try:
            async with asyncio.timeout(GONE_SECONDS):
                while is_there():
                    changed.clear()
                    await changed.wait()
        except TimeoutError:
            log.info("deletion is not seen yet", kind=kind.kind, name=name)
        finally:
            stop()


def _refusal(error: KubeError, words: Words | None = None) -> Problem:
    """What the client is told; the operator is told what to mend."""
    if isinstance(error, Denied):
        log.error("not granted to this account", account=error.account, what=error.what, namespace=error.namespace)
    else:
        log.warning("write not taken", error=str(error))
    return problems.refused(error, words or {})


def _is_outdated(error: KubeError) -> bool:
    """Whether a write was refused since the object is not as it was read."""
    return isinstance(error, Conflict) or (isinstance(error, Invalid) and TEST_FAILED in error.message)


def changes(patch: Patch) -> list[dict[str, str]]:
    """What a patch changes, for people: each path with what stood there and what is to, as far as there is either."""
    before = {part["path"]: part["value"] for part in patch if part["op"] == "test"}
    found = []
    for part in patch[:CHANGES_MAX]:
        if part["op"] != "test":
            change = {"path": part["path"]}
            if part["op"] != "add" and part["path"] in before:
                change["before"] = _shown(before[part["path"]])
            if "value" in part:
                change["after"] = _shown(part["value"])
            found.append(change)
    return found


def _shown(value: Any) -> str:
    return bounded(value if isinstance(value, str) else orjson.dumps(value).decode(), ENTRY_MAX)


def _versions(pair: Pair) -> list[str]:
    return [obj["metadata"]["resourceVersion"] if obj else "" for obj in (pair.storage, pair.datalab)]


def patch_of(edit: Draft, kind: Resource) -> Patch:
    """What an edit changes of one of the objects."""
    return edit.storage_patch if kind == kinds.STORAGES else edit.datalab_patch


class _Outdated(Exception):
    """The objects are not as they were read; `refusal` is what was wrong if they are, after all."""

    def __init__(self, refusal: KubeError | None, words: Words | None = None) -> None:
        super().__init__()
        self.refusal = refusal
        self.words = words


def require_match(pair: Pair, if_match: str) -> None:
    """Refuse a write that is meant for another state than this one."""
    if not if_match or if_match.strip() == "*":
        return
    if pair.tag not in (tag.strip().removeprefix("W/") for tag in if_match.split(",")):
        raise problems.problem(412, "precondition_failed")


def inverse(before: Manifest, after: Manifest, patch: Patch) -> list[dict[str, Any]]:
    """What takes a patch back, as long as nobody changed the same fields since."""
    places = dict.fromkeys(place for operation in patch if (place := _place(operation)))
    found: list[dict[str, Any]] = []
    for place in places:
        was, now = _at(before, place), _at(after, place)
        where = "/" + "/".join(part.replace("~", "~0").replace("/", "~1") for part in place)
        if was == now:
            continue
        if now is not _ABSENT:
            found.append(_test(where, now))
        if was is _ABSENT:
            found.append({"op": "remove", "path": where})
        else:
            found.append({"op": "add", "path": where, "value": was})
    return found


_ABSENT = object()


def _place(operation: Mapping[str, Any]) -> tuple[str, ...]:
    """The field of `spec`, or the annotation, that an operation changes; nothing for a test."""
    if operation["op"] == "test":
        return ()
    parts = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
    return tuple(parts[: 3 if parts[0] == "metadata" else 2])


def _at(obj: Manifest, place: Sequence[str]) -> Any:
    found: Any = obj
    for part in place:
        if not isinstance(found, dict) or part not in found:
            return _ABSENT
        found = found[part]
    return found


def _test(where: str, value: Any) -> dict[str, Any]:
    return {"op": "test", "path": where, "value": value}


def _with(pair: Pair, written: Mapping[Resource, Manifest]) -> Pair:
    return Pair(written.get(kinds.STORAGES, pair.storage), written.get(kinds.DATALABS, pair.datalab))
