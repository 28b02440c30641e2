"""What the screens of buckets and of one bucket show, and what their forms ask for. Pure."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from workspaces.objects import can_be_asked_for
from workspaces.permissions import Permission
from workspaces.problems import wrong
from workspaces.ui import access, paging
from workspaces.ui.forms import Words, body
from workspaces.ui.inputs import Context, Inputs
from workspaces.ui.languages import N_

CHECK = "check_rules"
"""The action that shows what rules do, before they are kept."""
RULES = "lifecycle_rules"
OF_OPERATORS = frozenset({"objects_not_configured", "endpoint_not_listed", "storage_elsewhere", "storage_untrusted"})
"""Words for what only whoever runs the API can mend: its sentences are for the log."""
NOT_SHOWN = N_(
    "What is in buckets cannot be shown here. Programs still get to it with the keys under “Credentials”. "
    "If you need to see it on this page, ask whoever runs this service to set that up."
)
BLANK = 2
"""Rows for further rules."""
_AGE = re.compile(r"\+?0*([0-9]+)([smhdw])")


RULES_MAX = 10
"""Rules of a bucket that stand in the list; all of them stand on its own page."""


def listed(own: Iterable[Mapping[str, Any]], query: Mapping[str, str]) -> paging.Part:
    """The page of own buckets that is shown."""
    text = paging.wanted(query)
    return paging.part([bucket for bucket in own if text in bucket["name"]], query)


def context(inputs: Inputs) -> Context:
    """Rows of own buckets, and what may be done with them."""
    view, usage = inputs.view, inputs.more["usage"]
    problems = {(measured.get("word", ""), measured.get("problem", "")) for measured in usage.values()}
    word, problem = problems.pop() if len(problems) == 1 else ("", "")
    own, page = view["name"], listed(view["storage"]["buckets"], inputs.query)
    held, asked = _count(view, access.GRANTED), _count(view, access.WAITS)
    return {
        **paging.filtering(inputs.query, len(view["storage"]["buckets"])),
        "list": page,
        "rows": [
            bucket
            | {
                "spoken": [spoken(rule) for rule in bucket["lifecycle_rules"][:RULES_MAX]],
                "more_rules": max(len(bucket["lifecycle_rules"]) - RULES_MAX, 0),
                "usage": usage.get(bucket["name"]),
                "held": held[bucket["name"]],
                "asked": asked[bucket["name"]],
                "is_main": bucket["name"] == own,
            }
            for bucket in page.rows
        ],
        "may_manage": Permission.MANAGE_BUCKETS in inputs.allowed,
        "may_read": Permission.VIEW_BUCKET_CREDENTIALS in inputs.allowed and not problem,
        "asks": inputs.more["asks"],
        "trouble": {"word": word, "problem": problem} if problem else None,
        **_TROUBLES,
    }


_TROUBLES = {"of_operators": OF_OPERATORS, "not_shown": NOT_SHOWN}


def one(inputs: Inputs) -> Context:
    """One bucket: its rules and its objects."""
    view, more, query, outcome, name = inputs.view, inputs.more, inputs.query, inputs.outcome, inputs.parts["b"]
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
        "blank": BLANK,
        "checked": checked,
        "kept": {} if asked is None else {key: value for key, value in asked.items() if key.startswith(f"{RULES}.")},
        "may_manage": bucket is not None and Permission.MANAGE_BUCKETS in inputs.allowed,
        "may_read": Permission.VIEW_BUCKET_CREDENTIALS in inputs.allowed,
        "objects": page,
        "can_be_asked_for": can_be_asked_for,
        "trouble": more["trouble"],
        "asks": more["asks"],
        **_TROUBLES,
        "usage": more["usage"].get(name),
        "prefix": query.get("prefix", ""),
        "above": above(query.get("prefix", "")),
        "is_later": "continue" in query,
    }


def _count(view: Mapping[str, Any], state: str) -> Counter[str]:
    """How many others have a state of access to each bucket."""
    return Counter(
        row["bucket"] for row in access.rows(view) if row["workspace"] != view["name"] and row["state"] == state
    )


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
    """An edit that sets all rules; one without a target is none. Problem for a form that has no field of a rule."""
    found = [(name, value) for name, value in fields if name.startswith(f"{RULES}.")]
    if not found:
        raise wrong(("body", RULES), "Field required", "", "missing")
    return body([(f"{RULES}[]", ""), *found])
