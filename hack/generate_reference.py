"""Writes the pages, or parts of pages, that are made of code: fields, settings, metrics, objects of a lab, who reaches
whom, what fits into a session's budget.

python -m hack.generate_reference [--check]
"""

import ast
import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client.metrics import MetricWrapperBase

from datalabd import metrics
from datalabd.api import environment, meta, v1beta2
from datalabd.api.crd import schema
from datalabd.config import Settings
from datalabd.reserved import RESERVED
from hack import flows, objects_table, session_services, workspaces_reference
from workspaces import openapi

ROOT = Path(__file__).parents[1] / "docs" / "reference"
SERVICES = ROOT.parent / "how-to" / "additional-services.md"
NOTE = "<!-- Made by hack/generate_reference.py; edit the code it is made of instead. -->\n\n"
BEGIN = "<!-- From here to the end mark made by hack/generate_reference.py. -->\n"
END = "<!-- End mark. -->\n"


def pages() -> dict[Path, str]:
    """The text of every generated page."""
    steps = ", ".join(f"`{step}`" for step in meta.TEARDOWN_STEPS)
    claim = (
        "# Datalab\n\n"
        "`pkg.internal/v1beta2`, namespaced, short name `dl`. `v1beta1` is served too: there a started session may be "
        "written as its name alone, and databases may name their storage classes.\n\n"
        "## Annotations\n\n| Annotation | Value | Does |\n|---|---|---|\n"
        f"| `{meta.ENVIRONMENT}` | name "
        f"| chooses the environment, default `{meta.DEFAULT_ENVIRONMENT}`; may be a label |\n"
        f'| `{meta.PROTECT}` | `"true"`, `"false"` | `"true"` keeps the claim from being deleted |\n'
        f"| `{meta.ROTATE}` | `<kind>/<name>/<nonce>` | [replaces credentials](../how-to/rotate.md) |\n"
        f"| `{meta.BACKUP}` | `<host>/<nonce>` | [backs a PostgreSQL server up](../how-to/backup-and-restore.md) |\n"
        f"| `{meta.RESTORE}` | `<host>[=<source>]/<nonce>[@<time>]` "
        "| [restores a PostgreSQL server](../how-to/backup-and-restore.md) |\n"
        f"| `{meta.ABANDON}` | {steps} | skips a step of a [deletion that does not end]"
        "(../how-to/operate.md#a-deletion-that-does-not-end) |\n\n"
        "All but the first two take several values, with commas between. No other annotation or label with this prefix "
        "has an effect on a claim; admission warns of one that is new.\n\n## spec\n\n"
    )
    kind = (
        "# EnvironmentConfig\n\n"
        "`pkg.internal/v1beta1`, cluster-scoped, short name `dlenv`. Where there is none of a name, an "
        "EnvironmentConfig of `apiextensions.crossplane.io/v1beta1` with the same `data` is read.\n\n## data\n\n"
    )
    return {
        ROOT / "datalab.md": NOTE
        + claim
        + _table(schema(v1beta2.DatalabSpec), "spec")
        + "\n## status\n\n"
        + _table(schema(v1beta2.DatalabStatus), "status"),
        ROOT / "environmentconfig.md": NOTE + kind + _table(schema(environment.EnvironmentData), "data") + _reserved(),
        ROOT / "process.md": NOTE + _settings() + _metrics(),
        ROOT / "objects.md": _between((ROOT / "objects.md").read_text(), objects_table.table()),
        ROOT / "network.md": _between((ROOT / "network.md").read_text(), flows.table()),
        ROOT / "openapi.json": openapi.text(),
        ROOT / "workspaces.md": NOTE + workspaces_reference.page(),
        SERVICES: _between(SERVICES.read_text(), session_services.table()),
    }


def _reserved() -> str:
    """The names that no lab may have."""
    rows = "".join(
        f"| {group} | {', '.join(f'`{name}`' for name in sorted(names))} |\n" for group, names in RESERVED.items()
    )
    return (
        "\n## Reserved names\n\n"
        "No lab may have these for a namespace, host or Keycloak client that is made of its names: neither lab "
        "`admin`, nor session `system` of lab `istio`. `*` stands for any ending. `reservedNames` adds to them. "
        "A lab that had such a name before goes on.\n\n"
        f"| For | Names |\n|---|---|\n{rows}"
    )


def _between(page: str, made: str) -> str:
    """A page written by hand, with what is made of code between its marks."""
    return page[: page.index(BEGIN) + len(BEGIN)] + made + page[page.index(END) :]


def _table(node: dict[str, Any], path: str) -> str:
    rows = "".join(f"| `{name}` | {kind} | {text} |\n" for name, kind, text in _fields(node, path))
    return "| Field | Type | Meaning |\n|---|---|---|\n" + rows


def _fields(node: dict[str, Any], path: str) -> Iterator[tuple[str, str, str]]:
    required = set(node.get("required") or ())
    for name, child in (node.get("properties") or {}).items():
        where = f"{path}.{name}"
        text = str(child.get("description") or "")
        yield where, _type(child, name in required), text.replace("|", "\\|").replace("<", "&lt;")
        inner = child
        while True:
            if isinstance(inner.get("additionalProperties"), dict):
                inner, where = inner["additionalProperties"], f"{where}.*"
            elif isinstance(inner.get("items"), dict):
                inner, where = inner["items"], f"{where}[]"
            else:
                break
        yield from _fields(inner, where)


def _type(node: dict[str, Any], required: bool) -> str:
    kind = str(node.get("type") or "any")
    if node.get("enum"):
        kind = ", ".join(f"`{value}`" for value in node["enum"])
    default = node.get("default")
    if required:
        return f"{kind}, required"
    if default in (None, "", {}, []):
        return kind
    return f"{kind}; default `{default if isinstance(default, str) else json.dumps(default)}`"


def _shown(default: object) -> str:
    return f"`{default}`" if default != "" else "none"


def _settings() -> str:
    """Environment variables, from the fields of Settings and the docstrings beneath them."""
    tree = ast.parse(inspect.getsource(Settings)).body[0]
    assert isinstance(tree, ast.ClassDef)
    said: dict[str, str] = {}
    for field, text in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            said[field.target.id] = str(text.value.value)
    rows = "".join(
        f"| `DATALABD_{name.upper()}` | {_shown(Settings.__dataclass_fields__[name].default)} | {text} |\n"
        for name, text in said.items()
    )
    local = (
        "\nWith `datalabd run --local` the metrics port is on 127.0.0.1, whatever `DATALABD_METRICS_HOST` says. It is\n"
        "a free one unless `DATALABD_METRICS_PORT` names another than the default; the log line `listening` tells it.\n"
        "The Lease is `kube-system/datalabd`.\n"
    )
    return "# The process\n\n## Settings\n\n| Variable | Default | Meaning |\n|---|---|---|\n" + rows + local


def _metrics() -> str:
    found = [value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)]
    rows = "".join(
        f"| `{series.name}{'_total' if series.type == 'counter' else ''}` | {series.type} "
        f"| {', '.join(f'`{label}`' for label in value._labelnames)} | {series.documentation} |\n"
        for value in found
        for series in value.describe()
    )
    return (
        "\n## Metrics\n\nAt `/metrics` of the metrics port.\n\n"
        "| Series | Type | Labels | Meaning |\n|---|---|---|---|\n" + rows
    )


def main() -> int:
    """Exit code 0; with `--check` 1 if a page on disk is not what it would be made."""
    drifted = [path for path, text in pages().items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        for path in drifted:
            print(f"{path} is out of date: run `make crds`", file=sys.stderr)
        return 1 if drifted else 0
    ROOT.mkdir(parents=True, exist_ok=True)
    for path in drifted:
        path.write_text(pages()[path])
        print(path.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
