"""Who changed what, and who was shown credentials: a line of the log each, and for changes an Event as well."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import structlog

from datalabd.api.meta import Manifest
from datalabd.kube.events import Recorder
from datalabd.text import ENTRY_MAX, bounded
from workspaces.claims import Identity

log = structlog.get_logger()

READING_SECONDS = 60.0
"""How long a reader of credentials of one workspace is not told again."""
READERS_MAX = 10_000
ASKED_MAX = 20
"""Entries of a list that somebody asked for that are told; `changes` has what came of them."""
CLOSE_SECONDS = 1.0


@dataclass(frozen=True)
class Act:
    """What somebody asked for. Names only: no value of a Secret, token or cookie is ever put here."""

    operation: str
    """Of the table, such as `add_session`."""
    workspace: str
    caller: Identity
    request_id: str
    what: Mapping[str, Any] = field(default_factory=dict)
    """Which member, bucket, session or the like."""


class Audit:
    """Tells of acts, once they are done or refused."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._emitting: set[asyncio.Task[None]] = set()
        self._readers: OrderedDict[tuple[str, str, str], float] = OrderedDict()

    def changed(self, act: Act, objects: Iterable[Manifest], **names: Any) -> None:
        """A change was made: `objects` are the Datalab and Storage that were written, `names` before and after.

        Nobody waits for the Events. The same act of the same person is the same Event: the log alone numbers requests.
        """
        _line(act, "allowed", **names)
        what = " ".join(f"{key} {value}" for key, value in act.what.items())
        note = f"{act.caller.name} asked for {act.operation}{f': {what}' if what else ''}"
        for about in objects:
            emitting = asyncio.create_task(
                self._recorder.emit(about, "Normal", "ChangedByRequest", act.operation, note), name="Event"
            )
            self._emitting.add(emitting)
            emitting.add_done_callback(self._emitting.discard)

    async def close(self) -> None:
        """Wait a moment for the last Events."""
        if self._emitting:
            await asyncio.wait(self._emitting, timeout=CLOSE_SECONDS)

    def refused(self, act: Act, status: int) -> None:
        """A change, or a reading of credentials, was not allowed or could not be made."""
        _line(act, "refused", status=status)

    def read(self, act: Act) -> None:
        """Something was read that is worth a line each time."""
        _line(act, "allowed")

    def shown(self, act: Act) -> None:
        """Credentials were shown: told once a minute for each reader and workspace."""
        now = time.monotonic()
        while self._readers and (
            len(self._readers) > READERS_MAX or now - next(iter(self._readers.values())) >= READING_SECONDS
        ):
            self._readers.popitem(last=False)
        key = (act.caller.subject or act.caller.name, act.workspace, act.operation)
        if key not in self._readers:
            self._readers[key] = now
            _line(act, "allowed")


def asked(body: Mapping[str, Any]) -> dict[str, Any]:
    """What a body says, short enough for a line: of each list the first entries, and how many there are if not all."""
    found: dict[str, Any] = {}
    for name, said in body.items():
        if isinstance(said, list):
            found[name] = [_shown(entry) for entry in said[:ASKED_MAX]]
            if len(said) > ASKED_MAX:
                found[f"{name}_count"] = len(said)
        else:
            found[name] = _shown(said)
    return found


def _shown(value: Any) -> Any:
    """A value as it is, or as the beginning of a text where it is long."""
    words = value if isinstance(value, str) else orjson.dumps(value).decode()
    return value if len(words) <= ENTRY_MAX else bounded(words, ENTRY_MAX)


def _line(act: Act, outcome: str, **more: Any) -> None:
    caller = act.caller
    log.info(
        "audit",
        operation=act.operation,
        workspace=act.workspace,
        outcome=outcome,
        user=caller.name,
        subject=caller.subject,
        client=caller.client,
        request_id=act.request_id,
        what=dict(act.what),
        **more,
    )
