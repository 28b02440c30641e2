"""What forms add has to be new: a page never says that something was made which was there."""

from typing import Any

import pytest

from datalabd.api.workspace_bodies import WorkspaceEdit
from workspaces.problems import Problem
from workspaces.ui.additions import require_new

VIEW: dict[str, Any] = {
    "storage": {"buckets": [{"name": "ws-a"}]},
    "datalab": {
        "memberships": [{"member": "Bob", "role": "admin"}],
        "stores": [{"type": "cache", "name": "c"}, {"type": "database", "name": "dev", "server": "pg0"}],
    },
}
BARE: dict[str, Any] = {"storage": {"buckets": []}, "datalab": {"memberships": [], "stores": []}}


def errors(edit: dict[str, Any], view: dict[str, Any] = VIEW) -> list[tuple[list[Any], str]]:
    """Where what is refused is, and why."""
    with pytest.raises(Problem) as refused:
        require_new(WorkspaceEdit.model_validate(edit), view)
    assert isinstance(refused.value.detail, list)
    return [(error["loc"][1:], error["msg"].removeprefix("Value error, ")) for error in refused.value.detail]


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (
            {"add_memberships": [{"member": "carol"}, {"member": "bob", "role": "user"}]},
            [(["add_memberships", 1], "bob is a member already; change the role in the list")],
        ),
        ({"add_buckets": [{"name": "ws-a"}]}, [(["add_buckets", 0, "name"], "is a bucket already")]),
        (
            {"add_stores": [{"type": "cache", "name": "c", "storage": "5Gi"}]},
            [(["add_stores", 0, "name"], "is a store of this kind already")],
        ),
        (
            {"add_stores": [{"type": "database", "name": "x", "storage": "5Gi", "backup_storage": "9Gi"}]},
            [
                (["add_stores", 0, "storage"], "is the server's, which is there already: leave it blank"),
                (["add_stores", 0, "backup_storage"], "is the server's, which is there already: leave it blank"),
            ],
        ),
    ],
)
def test_what_is_there_is_refused(edit: dict[str, Any], expected: list[tuple[list[Any], str]]) -> None:
    assert errors(edit) == expected


@pytest.mark.parametrize(
    ("edit", "view"),
    [
        ({"add_memberships": [{"member": "carol"}], "add_buckets": [{"name": "ws-a-x"}]}, VIEW),
        ({"add_stores": [{"type": "database", "name": "x"}, {"type": "vector", "name": "c"}]}, VIEW),
        ({"add_stores": [{"type": "database", "name": "dev", "storage": "5Gi"}]}, BARE),
        ({"add_memberships": [{"member": "bob"}], "add_buckets": [{"name": "ws-a"}]}, BARE),
    ],
)
def test_what_is_new_passes(edit: dict[str, Any], view: dict[str, Any]) -> None:
    require_new(WorkspaceEdit.model_validate(edit), view)
