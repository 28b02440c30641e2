"""What Events tell of a lab, and when. Time is as the test says."""

from typing import cast

import pytest

from controllers.news import HOLD_SECONDS, News
from datalabd.api.meta import Manifest, NamespacedName
from datalabd.kube.apply import Written
from datalabd.kube.events import Recorder
from tests.factories import claim

KEY = NamespacedName("team", "lab")
READY = ("Ready", "True", "Available", "the lab can be used")
CREATING = ("Ready", "False", "Creating", "the lab's environment is being set up")
STARTING = ("Ready", "False", "Starting", "session main: it is Pending")
STALLED = ("Stalled", "True", "StorageSecret", "Secret team/lab does not exist")
MISSING = ("Ready", "False", "StorageSecret", "Secret team/lab does not exist")


class Heard:
    """News, and what they told: the type, the reason and the note of each Event."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.events: list[tuple[str, str, str]] = []
        self.looks: list[float] = []
        self.news = News(cast(Recorder, self), lambda _, seconds: self.looks.append(seconds), lambda: self.now)

    async def emit(self, about: Manifest, kind: str, reason: str, action: str, note: str) -> None:
        """Stands for the API server."""
        self.events.append((kind, reason, note))

    async def passes(self, before: Manifest, after: Manifest, written: Written | None = None, **told: bool) -> None:
        """One pass that leads from one status to another."""
        live = claim() | {"status": before}
        self.news.wrote(live, written or Written(), **told)
        await self.news.status(live, after)
        await self.news.tell(live, after)


@pytest.fixture
def heard() -> Heard:
    return Heard()


def said(*conditions: tuple[str, str, str, str]) -> Manifest:
    names = ("type", "status", "reason", "message")
    return {"conditions": [dict(zip(names, condition, strict=True)) for condition in conditions]}


async def test_a_lab_that_comes_up_is_told_of_once(heard: Heard) -> None:
    await heard.passes({}, said(CREATING), Written(created=["Secret team/lab-datalab"]))
    await heard.passes(said(CREATING), said(STARTING), Written(created=["WorkshopSession lab-main"]))
    assert heard.events == []
    await heard.passes(said(STARTING), said(READY))
    assert heard.events == [
        ("Normal", "Created", "Secret team/lab-datalab, WorkshopSession lab-main"),
        ("Normal", "Ready", "the lab can be used"),
    ]


async def test_what_stays_so_is_told_after_a_while(heard: Heard) -> None:
    await heard.passes({}, said(CREATING), Written(created=["Workshop lab"]))
    heard.now += 4
    await heard.passes(said(CREATING), said(CREATING))
    assert (heard.events, heard.looks) == ([], [HOLD_SECONDS, HOLD_SECONDS - 4])
    heard.now += HOLD_SECONDS - 4
    await heard.passes(said(CREATING), said(CREATING))
    assert heard.events == [("Normal", "Created", "Workshop lab"), ("Normal", "Creating", CREATING[3])]


async def test_each_thing_is_told_once(heard: Heard) -> None:
    await heard.passes({}, said(READY))
    await heard.passes(said(READY), said(READY))
    assert heard.events == [("Normal", "Ready", "the lab can be used")]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param(said(READY), said(STARTING), ("Warning", "Starting", STARTING[3]), id="no longer ready"),
        pytest.param({}, said(MISSING, STALLED), ("Warning", "StorageSecret", MISSING[3]), id="a person is needed"),
    ],
)
async def test_what_asks_for_a_person_is_told_at_once(
    heard: Heard, before: Manifest, after: Manifest, expected: tuple[str, str, str]
) -> None:
    await heard.passes(before, after)
    assert heard.events == [expected]


async def test_what_was_written_before_a_lab_stalls_is_told_with_it(heard: Heard) -> None:
    await heard.passes({}, said(CREATING), Written(created=["Workshop lab"]))
    await heard.passes(said(CREATING), said(MISSING, STALLED))
    assert heard.events == [("Warning", "StorageSecret", MISSING[3]), ("Normal", "Created", "Workshop lab")]


@pytest.mark.parametrize(
    ("by_status", "expected"),
    [
        pytest.param(False, [("Normal", "Updated", "Workshop lab")], id="put right"),
        pytest.param(True, [], id="as the claim was edited"),
    ],
)
async def test_an_edit_is_no_news(heard: Heard, by_status: bool, expected: list[tuple[str, str, str]]) -> None:
    await heard.passes(said(READY), said(READY), Written(applied=["Workshop lab"]), told_by_status=by_status)
    assert heard.events == expected


async def test_a_claim_that_is_gone_is_told_of_no_more(heard: Heard) -> None:
    await heard.passes({}, said(CREATING), Written(created=["Workshop lab"]))
    heard.news.forget(KEY)
    heard.now += HOLD_SECONDS
    await heard.news.tell(claim(), said(CREATING))
    assert heard.events == []


async def test_a_host_that_somebody_else_answers_for_is_told_of_at_once_and_once(heard: Heard) -> None:
    taken = ("HostsTaken", "True", "RouteElsewhere", "Ingress a/b answers for lab-main.org, and is not this lab's")
    before, after = said(READY), said(READY, taken)
    await heard.passes(before, after)
    await heard.passes(after, after)
    await heard.passes(after, before)
    assert heard.events == [("Warning", "HostsTaken", taken[3])]
