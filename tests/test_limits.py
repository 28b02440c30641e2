"""What one claim may ask for in all. Whole claims, before and after."""

from typing import Any

import pytest

from datalabd.limits import beyond
from datalabd.submission import Submission
from datalabd.validation import broken_rules, validate
from tests.factories import claim, environment

LIMITS = {"volume": "10Gi", "volumes": "50Gi", "sessions": 3, "stores": 2, "memory": "8Gi"}
WITHIN = environment(allowed={"limits": LIMITS})
IN = "in environment courses"
SERVER = {"names": ["a"], "storage": "2Gi", "backupStorage": "3Gi"}


def sessions(number: int) -> list[dict[str, str]]:
    return [{"name": f"s{index}"} for index in range(number)]


def stores(number: int, size: str = "1Gi") -> dict[str, dict[str, str]]:
    return {f"k{index}": {"storage": size} for index in range(number)}


def said(spec: dict[str, Any], before: dict[str, Any] | None = None) -> list[str]:
    new = Submission(claim(**spec), WITHIN)
    old = None if before is None else Submission(claim(**before), WITHIN)
    return [str(error) for error in validate(new, old)]


BIG = {"sessions": sessions(2), "quota": {"storage": "11Gi"}}
ALL = {
    "sessions": sessions(3),
    "quota": {"storage": "9Gi", "memory": "3Gi"},
    "registry": {"enabled": True, "storage": "8Gi"},
}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param(
            BIG,
            [f"spec.quota.storage: Forbidden: no volume may be more than 10Gi {IN} (allowed.limits.volume)"],
            id="a home, once for all of them",
        ),
        pytest.param(
            {"databases": {"pg": SERVER | {"backupStorage": "7Ei"}}},
            [
                f"spec.databases[pg].backupStorage: Forbidden: no volume may be more than 10Gi {IN} "
                "(allowed.limits.volume)",
                f"spec: Forbidden: all volumes together, 7.516e+09Gi, may not be more than 50Gi {IN} "
                "(allowed.limits.volumes)",
            ],
            id="a backup of 7Ei",
        ),
        pytest.param(
            ALL,
            [
                f"spec: Forbidden: all volumes together, 51Gi, may not be more than 50Gi {IN} (allowed.limits.volumes)",
                f"spec.quota.memory: Forbidden: all sessions together, 9Gi, may not have more than 8Gi {IN} "
                "(allowed.limits.memory)",
            ],
            id="homes and registries, and memory",
        ),
        pytest.param(
            {"sessions": sessions(4)},
            [f"spec.sessions: Too many: must have at most 3 items {IN} (allowed.limits.sessions)"],
            id="sessions",
        ),
        pytest.param(
            {"databases": {"pg": SERVER}, "vectorStores": stores(1), "documentStores": stores(1, "2Gi")},
            [f"spec: Too many: must have at most 2 database servers and stores {IN} (allowed.limits.stores)"],
            id="servers and stores",
        ),
        pytest.param({"sessions": sessions(3), "cacheStores": stores(2)}, [], id="within all of them"),
    ],
)
def test_a_claim_is_limited(spec: dict[str, Any], expected: list[str]) -> None:
    assert said(spec) == expected


@pytest.mark.parametrize(
    ("before", "after", "refused"),
    [
        pytest.param(BIG, BIG | {"users": ["ann", "bob"]}, False, id="a volume that is as it was"),
        pytest.param(BIG, BIG | {"quota": {"storage": "12Gi"}}, True, id="a volume that grows"),
        pytest.param(BIG, BIG | {"sessions": sessions(3)}, True, id="another such volume"),
        pytest.param(ALL, ALL | {"registry": {"enabled": False}}, False, id="a sum that shrinks"),
        pytest.param({"sessions": sessions(6)}, {"sessions": sessions(5)}, False, id="fewer sessions"),
        pytest.param({"sessions": sessions(5)}, {"sessions": sessions(6)}, True, id="more sessions"),
        pytest.param({"cacheStores": stores(4)}, {"cacheStores": stores(4)}, False, id="as many stores"),
        pytest.param({"cacheStores": stores(4)}, {"cacheStores": stores(5)}, True, id="more stores"),
    ],
)
def test_what_exceeds_a_limit_may_shrink(before: dict[str, Any], after: dict[str, Any], refused: bool) -> None:
    assert bool(said(after, before)) is refused


def test_who_goes_on_in_excess_is_told() -> None:
    assert broken_rules(Submission(claim(sessions=sessions(4)), WITHIN)) == [
        f"spec.sessions: Too many: must have at most 3 items {IN} (allowed.limits.sessions); what exists goes on"
    ]
    assert broken_rules(Submission(claim(sessions=sessions(4)), None)) == []
    assert broken_rules(Submission(claim(sessions=1), WITHIN)) == []


def test_without_an_environment_nothing_is_limited() -> None:
    assert validate(Submission(claim(sessions=sessions(21)), None)) == []


@pytest.mark.parametrize(
    ("spec", "existing", "expected"),
    [
        pytest.param(
            {"sessions": sessions(5)}, {"s3", "s4"}, {"s1": "sessions", "s2": "sessions"}, id="existing ones come first"
        ),
        pytest.param({"sessions": sessions(5)}, {f"s{index}" for index in range(5)}, {}, id="all exist"),
        pytest.param(
            {"cacheStores": stores(3)},
            set(),
            {"cache store k2": "stores"},
            id="stores in their order",
        ),
        pytest.param(
            {"documentStores": {"a": {"storage": "11Gi"}, "b": {"storage": "1Gi"}}},
            set(),
            {"document store a": "volume"},
            id="one that is too large makes room for the next",
        ),
        pytest.param(
            {"sessions": sessions(3), "quota": {"memory": "4Gi"}}, {"s2"}, {"s1": "memory"}, id="memory of all sessions"
        ),
        pytest.param(
            {"sessions": sessions(3), "quota": {"storage": "10Gi"}, "databases": {"pg": SERVER | {"storage": "18Gi"}}},
            {"database pg"},
            {"s2": "volumes"},
            id="all volumes",
        ),
    ],
)
def test_what_does_not_exist_is_not_made_beyond_the_limits(
    spec: dict[str, Any], existing: set[str], expected: dict[str, str]
) -> None:
    parsed = Submission(claim(**spec), WITHIN).spec
    assert parsed is not None
    assert beyond(parsed, WITHIN, existing) == {
        part: f"it would exceed allowed.limits.{limit} {IN}" for part, limit in expected.items()
    }
