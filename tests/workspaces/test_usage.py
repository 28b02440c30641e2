"""What a lab uses: volume claims, and the tightest quota (WS 6.53)."""

from decimal import Decimal
from typing import Any

import pytest

from workspaces.usage import usage, written


def claim(name: str, size: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"resources": {"requests": {"storage": size}}}}


def quota(**parts: Any) -> dict[str, Any]:
    return {name: {"hard": {"requests.storage": size}} for name, size in parts.items()}


def test_what_is_used_and_what_is_left() -> None:
    claims = [claim("workspace-data", "1Gi"), claim("cache", "512Mi")]
    assert usage([quota(status="20Gi"), quota(status="10Gi", spec="1Gi"), quota(spec="30Gi")], claims) == {
        "storage": {
            "quota": "10Gi",
            "requested": "1536Mi",
            "remaining": "8704Mi",
            "persistent_volume_claims": [{"name": "cache", "size": "512Mi"}, {"name": "workspace-data", "size": "1Gi"}],
        }
    }


def test_without_a_quota_nothing_is_said_of_what_is_left() -> None:
    assert usage([], []) == {"storage": {"requested": "0", "persistent_volume_claims": []}}


def test_more_may_be_used_than_is_allowed() -> None:
    assert usage([quota(spec="1Gi")], [claim("a", "2Gi")])["storage"]["remaining"] == "0"


@pytest.mark.parametrize("odd", ["lots", "-1Gi", None, [], True])
def test_what_is_no_size_counts_for_nothing(odd: Any) -> None:
    found = usage([quota(status=odd, spec=odd), {}], [claim("a", odd), claim("b", 1024)])
    assert found == {"storage": {"requested": "1Ki", "persistent_volume_claims": [{"name": "b", "size": "1024"}]}}


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0"), (1, "1"), (1000, "1000"), (1024, "1Ki"), (3 * 2**30, "3Gi"), (2**60, "1Ei"), ("0.5", "0")],
)
def test_sizes_are_written_in_the_largest_unit(size: Any, text: str) -> None:
    assert written(Decimal(size)) == text
