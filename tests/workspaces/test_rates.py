"""How many requests a user may make a second."""

import pytest

from workspaces.rates import BURST_SECONDS, USERS_MAX, Limiter, RateLimits, Rates


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("reads=100,writes=20", Rates(100, 20)),
        (" writes = 5 ", Rates(100, 5)),
        ("", Rates()),
        ("off", None),
        ("OFF", None),
    ],
)
def test_setting_is_read(text: str, rates: Rates | None) -> None:
    assert Rates.parse(text) == rates


@pytest.mark.parametrize(
    "text",
    ["reads", "reads=", "reads=0", "reads=-1", "reads=1.5", "reads=1,reads=2", "deletes=1", "reads=²", "9" * 5000],
)
def test_wrong_setting_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        Rates.parse(text)


def test_number_that_is_too_large_is_refused() -> None:
    with pytest.raises(ValueError, match="reads must be a whole number from 1 to 100000"):
        Rates.parse("reads=100001")


def test_a_burst_is_three_times_as_much_and_comes_back_with_time() -> None:
    limiter = Limiter(8)
    assert [limiter.take("ann", 5) for _ in range(25)] == [0] * 24 + [0.125]
    assert [limiter.take("ann", 5.125) for _ in range(2)] == [0, 0.125]
    assert [limiter.take("ann", 50) for _ in range(25)] == [0] * 24 + [0.125]


def test_users_do_not_count_for_each_other() -> None:
    limiter = Limiter(1)
    assert [limiter.take(user, 0) for user in ("ann", "ann", "ann", "ann", "bob")] == [0, 0, 0, 1, 0]


def test_users_are_forgotten_once_their_requests_no_longer_count() -> None:
    limiter = Limiter(10)
    for number in range(50):
        limiter.take(f"user-{number}", 0)
    limiter.take("ann", BURST_SECONDS)
    assert len(limiter) == 1


def test_a_crowd_takes_no_more_memory_than_it_may() -> None:
    limiter = Limiter(10)
    for number in range(USERS_MAX + 50):
        limiter.take(f"user-{number}", 0)
    assert len(limiter) == USERS_MAX


def test_reads_and_writes_count_apart() -> None:
    limits = RateLimits(Rates(reads=1, writes=2))
    assert [limits.take("ann", is_write=False, now=0) > 0 for _ in range(4)] == [False] * 3 + [True]
    assert [limits.take("ann", is_write=True, now=0) > 0 for _ in range(7)] == [False] * 6 + [True]


def test_without_rates_everything_is_allowed() -> None:
    limits = RateLimits(None)
    assert {limits.take("ann", is_write=True, now=0) for _ in range(1000)} == {0}
