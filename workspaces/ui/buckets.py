"""What the screens of buckets and of one bucket show, and what their forms ask for. Pure."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from workspaces.permissions import Permission, Permissions
from workspaces.ui.forms import Outcome, Words, body
from workspaces.ui.sizes import size

CHECK = "check_rules"
"""The action that shows what rules do, before they are kept."""
RULES = "lifecycle_rules"
BLANK = 2
"""Rows for further rules."""
_AGE = re.compile(r"\+?0*([0-9]+)([smhdw])")


def context(view: Mapping[str, Any], more: Mapping[str, Any], allowed: Permissions) -> dict[str, Any]:
    """Rows of own buckets, and what may be done with them."""
    usage = more["usage"]
    problems = {measured.get("problem", "") for measured in usage.values()}
    trouble = problems.pop() if len(problems) == 1 else ""
    own = view["name"]
    return {
        "rows": [
            bucket
            | {
                "spoken": [spoken(rule) for rule in bucket["lifecycle_rules"]],
                "usage": usage.get(bucket["name"]),
                "held": _held(view, bucket["name"]),
                "is_main": bucket["name"] == own,
            }
            for bucket in view["storage"]["buckets"]
        ],
        "may_manage": Permission.MANAGE_BUCKETS in allowed,
        "may_read": Permission.VIEW_BUCKET_CREDENTIALS in allowed and not trouble,
        "trouble": trouble,
        "size": size,
    }


def one(
    view: Mapping[str, Any],
    more: Mapping[str, Any],
    allowed: Permissions,
    query: Mapping[str, str],
    name: str,
    outcome: Outcome | None,
) -> dict[str, Any]:
    """One bucket: its rules and its objects."""
    bucket = next((bucket for bucket in view["storage"]["buckets"] if bucket["name"] == name), None)
    rules = [] if bucket is None else bucket["lifecycle_rules"]
    asked = outcome.asked if outcome is not None and outcome.action == CHECK else None
    checked = None if asked is None else [spoken(rule) for rule in _typed(asked)]
    page = more["page"]
    return {
        "name": name,
        "bucket": bucket,
        "rules": rules,
        "spoken": [spoken(rule) for rule in rules],
        "slots": range(len(rules) + BLANK),
        "checked": checked,
        "kept": {} if asked is None else {key: value for key, value in asked.items() if key.startswith(f"{RULES}.")},
        "may_manage": bucket is not None and Permission.MANAGE_BUCKETS in allowed,
        "may_read": Permission.VIEW_BUCKET_CREDENTIALS in allowed,
        "objects": page,
        "trouble": more["trouble"],
        "usage": more["usage"].get(name),
        "prefix": query.get("prefix", ""),
        "above": above(query.get("prefix", "")),
        "is_later": "continue" in query,
        "size": size,
    }


def _held(view: Mapping[str, Any], bucket: str) -> int:
    """How many others have the bucket now."""
    rows = view["storage"]["bucket_access_requests"]
    return sum(row["bucket"] == bucket and row["workspace"] != view["name"] and is_granted(row) for row in rows)


def is_granted(row: Mapping[str, Any]) -> bool:
    """Whether a request was granted, and not denied since."""
    return bool(row.get("grant_timestamp")) and not row.get("denied_timestamp")


def above(prefix: str) -> list[tuple[str, str]]:
    """What a prefix is below of, from the top: the name of each part, and the prefix that shows it."""
    parts = prefix.split("/")[:-1]
    return [(part, "/".join(parts[: at + 1]) + "/") for at, part in enumerate(parts)]


def spoken(rule: Mapping[str, Any]) -> dict[str, Any]:
    """What a sentence on a rule is made of: which objects, from which age or time on, and what becomes of them."""
    target = str(rule.get("target", ""))
    where = "all" if target == "*" else "below" if target.endswith("*") else "path"
    found = {"deletes": rule.get("mode", "Delete") == "Delete", "where": where, "target": target.removesuffix("*")}
    age = _AGE.fullmatch(str(rule.get("min_age") or ""))
    if age is not None:
        return found | {"count": int(age[1]), "unit": age[2], "at": ""}
    return found | {"count": 0, "unit": "", "at": str(rule.get("at") or "")}


def _typed(asked: Mapping[str, str]) -> list[Mapping[str, Any]]:
    found, _ = body(asked.items())
    rules = found.get(RULES, [])
    return [rule for rule in rules if isinstance(rule, dict)] if isinstance(rules, list) else []


def edited(fields: Iterable[tuple[str, str]]) -> tuple[dict[str, Any], Words]:
    """An edit that sets all rules; one without a target is none."""
    return body([(f"{RULES}[]", ""), *((name, value) for name, value in fields if name.startswith(f"{RULES}."))])
