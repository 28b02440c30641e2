"""Roles that claims give, by the issuer that believes any name."""

from typing import Any

import pytest

from hack.claim_roles import roles_of

CLAIMS: list[dict[str, Any]] = [
    {"metadata": {"name": "a"}, "spec": {"users": ["Ann", "bob", "eve"], "userOverrides": {"Eve": {"role": "admin"}}}},
    {"metadata": {"name": "b"}, "spec": {"users": ["bob"], "userOverrides": {"bob": {"role": "user"}}}},
    {"metadata": {"name": "c"}},
]


@pytest.mark.parametrize(
    ("user", "roles"),
    [
        ("ann", {"a": ["ws_admin"]}),
        ("bob", {"a": ["ws_access"], "b": ["ws_admin"]}),
        ("eve", {"a": ["ws_admin"]}),
        ("service-account-a", {"a": ["ws_api"]}),
        ("nobody", {}),
        ("root", {"workspace-api": ["admin"]}),
    ],
)
def test_roles_are_those_that_datalabd_would_give(user: str, roles: dict[str, list[str]]) -> None:
    assert roles_of(CLAIMS, user, ["root"]) == roles
