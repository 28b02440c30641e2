"""Events about a claim: bounded, told once, and never in the way."""

from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from datalabd.api.meta import Manifest
from datalabd.errors import Forbidden
from datalabd.kube import events
from datalabd.kube.client import Client
from datalabd.kube.events import BURST, REPEAT_AFTER_SECONDS, SECONDS, Recorder
from datalabd.text import MESSAGE_MAX
from tests.factories import claim

LAB = claim() | {"metadata": {"name": "lab", "namespace": "team", "uid": "u-1"}}


class Events(Client):
    """An API server that takes every Event, or none."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.created: list[Manifest] = []
        self.refuses = refuses

    async def create(self, _: Any, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """What was sent."""
        if self.refuses:
            raise Forbidden(403, "Forbidden", "not yours")
        self.created.append(manifest)
        return manifest


async def emit(recorder: Recorder, note: str, reason: str = "StoreNotReady") -> None:
    await recorder.emit(LAB, "Warning", reason, "Reconcile", note)


@pytest.mark.parametrize("letter", ["x", "é", "日", "\x1b", "\ud800"])
async def test_a_text_of_others_is_bounded_in_an_event(letter: str) -> None:
    client = Events()
    await emit(Recorder(client), letter * 100_000)
    (event,) = client.created
    assert 0 < len(event["note"].encode()) <= MESSAGE_MAX


async def test_an_event_is_told_again_after_ten_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    client, clock = Events(), SimpleNamespace()
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(events, "time", clock)
    recorder = Recorder(client)
    for clock.now in (0.0, REPEAT_AFTER_SECONDS - 1.0, REPEAT_AFTER_SECONDS * 1.0):
        await emit(recorder, "a")
        await emit(recorder, "b")
    assert [event["note"] for event in client.created] == ["a", "b", "a", "b"]


async def test_an_event_that_may_be_told_again_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace()
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(events, "time", clock)
    recorder = Recorder(Events())
    for clock.now, note in ((0.0, "a"), (1.0, "b"), (REPEAT_AFTER_SECONDS * 1.0, "c")):
        await emit(recorder, note)
    assert [note for _, _, note in recorder._told] == ["b", "c"]


async def test_an_event_that_is_refused_is_logged_alone() -> None:
    with structlog.testing.capture_logs() as lines:
        await emit(Recorder(Events(refuses=True)), "a")
    assert [(line["event"], line["reason"]) for line in lines] == [("event not recorded", "StoreNotReady")]


async def test_an_object_has_few_different_events(monkeypatch: pytest.MonkeyPatch) -> None:
    client, clock = Events(), SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(events, "time", clock)
    recorder = Recorder(client)
    with structlog.testing.capture_logs() as lines:
        for number in range(BURST + 2):
            await emit(recorder, str(number))
    assert (len(client.created), len(lines)) == (BURST, 2)
    clock.now = 2 * SECONDS
    for note in "abc":
        await emit(recorder, note)
    assert [event["note"] for event in client.created[BURST:]] == ["a", "b"]


async def test_objects_that_have_been_quiet_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(events, "time", clock)
    monkeypatch.setattr(events, "OBJECTS_MAX", 2)
    recorder = Recorder(Events())
    for clock.now, uid in ((0.0, "a"), (SECONDS, "b"), (SECONDS, "b"), (SECONDS, "c")):
        about = LAB | {"metadata": LAB["metadata"] | {"uid": uid}}
        await recorder.emit(about, "Normal", "Made", "Make", f"{clock.now} {uid} {len(recorder._told)}")
    assert recorder._whole_at == {"b": 3 * SECONDS}
