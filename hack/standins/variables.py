"""Educates' `$(name)` variables."""

import re
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

ROUNDS = 6
"""Times a name is looked up, so that values may contain variables."""
_NAME = re.compile(r"\$\(([A-Za-z0-9_]+)\)")
_BASE64 = re.compile(r"\$\(base64\((.*)\)\)", re.DOTALL)


def substitute(value: Any, variables: Mapping[str, str]) -> Any:
    """A copy with the variables in all strings replaced, keys excepted. Unknown names stay as they are."""
    if isinstance(value, dict):
        return {key: substitute(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [substitute(item, variables) for item in value]
    if not isinstance(value, str):
        return value
    for _ in range(ROUNDS):
        before, value = value, _NAME.sub(lambda name: variables.get(name[1], name[0]), value)
        if value == before:
            break
    if whole := _BASE64.fullmatch(value):
        return b64encode(whole[1].encode()).decode()
    return value
