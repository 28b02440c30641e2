"""What the screen of credentials shows: nothing until somebody asks; then each with its age and snippets. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from workspaces import snippets
from workspaces.snippets import Snippet
from workspaces.ui.inputs import Context, Inputs
from workspaces.ui.languages import N_

SECONDS = 60
"""How long credentials stay on the screen."""
LABELS = {
    "bucketname": N_("Bucket"),
    "access": N_("Access key"),
    "secret": N_("Secret key"),
    "endpoint": N_("Endpoint"),
    "region": N_("Region"),
    "host": N_("Host"),
    "host_external": N_("Host, from outside"),
    "port": N_("Port"),
    "grpc_port": N_("Port of gRPC"),
    "username": N_("User name"),
    "password": N_("Password"),
    "database": N_("Database"),
    "databases": N_("Databases"),
    "auth_source": N_("Database of the login"),
    "url": N_("Address"),
    "uri": N_("Address"),
    "urls": N_("Address of a database"),
    "external_urls": N_("Address of a database, from outside"),
    "api_key": N_("Key"),
    "read_api_key": N_("Key to read with"),
}
TOOLS = {
    "environment": N_("Environment variables"),
    "aws": "AWS CLI",
    "rclone": "rclone",
    "s3cmd": "s3cmd",
    "boto3": "Python: boto3",
    "s3fs": "Python: s3fs",
    "gdal": "GDAL",
    "paws": "R: paws",
    "psql": "psql",
    "mongosh": "mongosh",
    "redis-cli": "redis-cli",
    "qdrant-client": "Python: qdrant-client",
}
"""What each tool is called; all but the first are names."""


@dataclass(frozen=True, repr=False, slots=True)
class Value:
    """One value. No repr: it may be a secret."""

    label: str
    of: str
    """The database that it is of, where there is one for each."""
    value: str


@dataclass(frozen=True, repr=False, slots=True)
class Group:
    """Credentials of one store, of the object storage, or of the registry. No repr: it has secrets."""

    kind: str
    """`storage`, `registry`, or a type of stores."""
    name: str
    """Of the store; of a database its server."""
    since: str | None
    """When they were made or replaced last."""
    values: tuple[Value, ...]
    snippets: tuple[Snippet, ...]

    @property
    def of(self) -> str:
        """What the snippets are of, too."""
        return f"{self.kind}/{self.name}" if self.name else self.kind


def context(inputs: Inputs) -> Context:
    """What there is; and all of it where an action answered with `AllCredentials`."""
    view = inputs.view
    answer = inputs.outcome.body if inputs.outcome is not None else None
    shown = () if answer is None else tuple(_groups(view, answer))
    return {
        "is_shown": answer is not None,
        "groups": shown,
        "everything": "".join(
            snippet.text for group in shown for snippet in group.snippets if snippet.tool == "environment"
        ),
        "ages": ages(view),
        "seconds": SECONDS,
        "labels": LABELS,
        "tools": TOOLS,
    }


def ages(view: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Stores with the age of their credentials; databases once for each server."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in view["datalab"]["stores"]:
        name = row.get("server", row["name"])
        entry = {
            "type": row["type"],
            "name": name,
            "since": row.get("credentials_since"),
            "rotating": "rotating" in row,
            "rotated": "rotated" in row,
        }
        found.setdefault((row["type"], name), entry)
    return list(found.values())


def _groups(view: Mapping[str, Any], answer: Mapping[str, Any]) -> Iterator[Group]:
    written = snippets.snippets(view["name"], answer)

    def group(kind: str, name: str, since: str | None, values: Mapping[str, Any]) -> Group:
        of = f"{kind}/{name}" if name else kind
        own = tuple(snippet for snippet in written if snippet.of == of or snippet.of.startswith(f"{of}/"))
        return Group(kind, name, since, tuple(_values(values)), own)

    if keys := answer.get("storage"):
        yield group("storage", "", keys.get("since"), keys)
    known = {(age["type"], age["name"]): age["since"] for age in ages(view)}
    for kind, stores in answer.get("store_credentials", {}).items():
        for name, values in stores.items():
            yield group(kind, name, known.get((kind, name)), values)
    if login := answer.get("container_registry_credentials"):
        yield group("registry", "", None, login)


def _values(values: Mapping[str, Any]) -> Iterator[Value]:
    for member, label in LABELS.items():
        value = values.get(member)
        if isinstance(value, str):
            yield Value(label, "", value)
        elif value:
            yield from (Value(label, name, text) for name, text in value.items())
