"""Reading live objects: what is absent, and what is not of the form that is expected, read alike.

Kubernetes checks the shape of its own kinds. Of others it takes whatever their schema takes, which need not be the one
we know, and a pass must not end because of it: so nothing here raises.
"""

from typing import Any

Manifest = dict[str, Any]


def dig(obj: Any, *path: str) -> Manifest:
    """The object at a path of keys; empty where there is none."""
    found = _at(obj, path)
    return found if isinstance(found, dict) else {}


def text(obj: Any, *path: str) -> str:
    """The text at a path of keys; empty where there is none."""
    found = _at(obj, path)
    return found if isinstance(found, str) else ""


def integer(obj: Any, *path: str) -> int:
    """The integer at a path of keys; 0 where there is none, as Kubernetes leaves out those."""
    found = _at(obj, path)
    return found if isinstance(found, int) and not isinstance(found, bool) else 0


def is_true(obj: Any, *path: str) -> bool:
    """Whether `true` stands at a path of keys."""
    return _at(obj, path) is True


def objects(obj: Any, *path: str) -> list[Manifest]:
    """The objects in the list at a path of keys."""
    return [item for item in _listed(obj, path) if isinstance(item, dict)]


def texts(obj: Any, *path: str) -> list[str]:
    """The texts in the list at a path of keys."""
    return [item for item in _listed(obj, path) if isinstance(item, str)]


def labels(obj: Any) -> dict[str, str]:
    """The labels of an object."""
    return dig(obj, "metadata", "labels")


def annotations(obj: Any) -> dict[str, str]:
    """The annotations of an object."""
    return dig(obj, "metadata", "annotations")


def condition(obj: Any, kind: str, *path: str) -> Manifest:
    """The condition of that type in the list `conditions` at a path of keys; empty where it is not reported."""
    for known in _listed(obj, (*path, "conditions")):
        if isinstance(known, dict) and known.get("type") == kind:
            return known
    return {}


def _listed(obj: Any, path: tuple[str, ...]) -> list[Any]:
    found = _at(obj, path)
    return found if isinstance(found, list) else []


def _at(obj: Any, path: tuple[str, ...]) -> Any:
    """Whatever stands at a path of keys; None where nothing does."""
    found = obj
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found
