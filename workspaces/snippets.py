"""Credentials as the tools take them that people have: lines for a shell, a file or a program. Pure.

Every value is quoted for the syntax that it stands in. What a syntax has no way to write, or what programs read in
different ways, gives no snippet: a wrong one is worse than none.
"""

import functools
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote, urlencode, urlsplit

from datalabd import names
from datalabd.api.workspace import StoreType
from workspaces.credentials import DATABASE_MEMBERS, STORE_MEMBERS

Language = Literal["shell", "ini", "python", "r"]
Values = Mapping[str, Any]
"""Credentials of one store, or of the object storage, as `AllCredentials` has them."""

_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""What a terminal acts upon, or a page does not hand over as it is."""
_VISIBLE = re.compile(r"[!-~]+", re.ASCII)
_INI_SPECIAL = ("#", ";", '"', "'", "`", "$", "[")
"""Begin a comment, a quoted value, a variable or a section for one reader or another."""
_AMAZON = ("amazonaws.com", "amazonaws.com.cn")


class Unwritable(Exception):
    """A syntax has no way to write a value that every reader of it takes for the same."""


@dataclass(frozen=True, repr=False, slots=True)
class Snippet:
    """What one tool is given. No repr: it has secrets."""

    of: str
    """`storage`, `registry`, or type, server where it is a database, and name of a store, with slashes between."""
    tool: str
    """`environment`, or the tool's own name."""
    language: Language
    place: str
    """File that it belongs into; empty: it is run."""
    text: str


def snippets(workspace: str, found: Values) -> list[Snippet]:
    """All that can be written of a workspace's `AllCredentials`: storage first, then stores, then the registry."""
    return [*_storage(workspace, found.get("storage")), *_stores(found), *_registry(found)]


def _written(
    of: str, tool: str, language: Language, place: str, write: Callable[[Values], str], values: Values
) -> Iterator[Snippet]:
    try:
        yield Snippet(of, tool, language, place, write(values))
    except (Unwritable, KeyError, ValueError):  # a member is missing; an address is none
        return


# ---- Quoting


def shell(value: str) -> str:
    """A word of a POSIX shell."""
    if _UNSAFE.search(value):
        raise Unwritable
    return shlex.quote(value)


def ini(value: str) -> str:
    """A value of an INI file, one that needs no quotes: readers of such files agree on nothing else."""
    if not _VISIBLE.fullmatch(value) or value.startswith(_INI_SPECIAL) or "%(" in value:
        raise Unwritable
    return value


def literal(value: str) -> str:
    """A string of Python, which is one of R too unless it has a NUL. In ASCII."""
    return f'"{"".join(map(_escaped, value))}"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    code = ord(character)
    if " " <= character <= "~":
        return character
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _r(value: str) -> str:
    if "\0" in value:
        raise Unwritable
    return literal(value)


def uri(
    scheme: str, host: str, port: str, path: str, user: str, password: str = "", query: Mapping[str, str] | None = None
) -> str:
    """An address with a login."""
    login = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    name = f"[{quote(host, safe=':')}]" if ":" in host else quote(host, safe="")
    return f"{scheme}://{login}@{name}:{quote(port, safe='')}/{quote(path, safe='')}" + (
        f"?{urlencode(query)}" if query else ""
    )


def _exports(variables: Mapping[str, str]) -> str:
    return "".join(f"export {name}={shell(value)}\n" for name, value in variables.items())


# ---- Object storage


@dataclass(frozen=True, slots=True)
class _Endpoint:
    url: str
    host: str
    """With its port."""
    is_https: bool
    is_amazon: bool
    """Whether buckets are part of the host's name; in those of others they are part of the path, which all can do."""


def _endpoint(values: Values) -> _Endpoint:
    given = str(values["endpoint"])
    url = given if "://" in given else f"https://{given}"
    parts = urlsplit(url)
    if (
        not _VISIBLE.fullmatch(url)
        or parts.scheme not in ("http", "https")
        or not parts.hostname
        or "@" in parts.netloc
    ):
        raise Unwritable
    is_amazon = any(parts.hostname == domain or parts.hostname.endswith(f".{domain}") for domain in _AMAZON)
    return _Endpoint(url, parts.netloc, parts.scheme == "https", is_amazon)


def _host(values: Values) -> _Endpoint:
    """For tools that know hosts alone."""
    endpoint = _endpoint(values)
    parts = urlsplit(endpoint.url)
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise Unwritable
    return endpoint


def _storage(workspace: str, values: Values | None) -> Iterator[Snippet]:
    if not values:
        return
    written: tuple[tuple[str, Language, str, Callable[[Values], str]], ...] = (
        ("environment", "shell", "", _environment),
        ("aws", "ini", "~/.aws/config", lambda values: _aws(workspace, values)[0]),
        ("aws", "ini", "~/.aws/credentials", lambda values: _aws(workspace, values)[1]),
        ("rclone", "ini", "~/.config/rclone/rclone.conf", lambda values: _rclone(workspace, values)),
        ("s3cmd", "ini", "~/.s3cfg", _s3cmd),
        ("boto3", "python", "", _boto3),
        ("s3fs", "python", "", _s3fs),
        ("gdal", "shell", "", _gdal),
        ("paws", "r", "", _paws),
    )
    for tool, language, place, write in written:
        yield from _written("storage", tool, language, place, write, values)


def _environment(values: Values) -> str:
    return _exports(
        {
            "AWS_ACCESS_KEY_ID": values["access"],
            "AWS_SECRET_ACCESS_KEY": values["secret"],
            "AWS_REGION": values["region"],
            "AWS_DEFAULT_REGION": values["region"],  # what Python's libraries read
            "AWS_ENDPOINT_URL": _endpoint(values).url,
        }
    )


def _aws(workspace: str, values: Values) -> tuple[str, str]:
    """Both files, as neither is of use alone."""
    endpoint = _endpoint(values)
    style = "" if endpoint.is_amazon else "s3 =\n    addressing_style = path\n"
    config = (
        f"[profile {ini(workspace)}]\nregion = {ini(values['region'])}\nendpoint_url = {ini(endpoint.url)}\n{style}"
    )
    keys = (
        f"[{ini(workspace)}]\n"
        f"aws_access_key_id = {ini(values['access'])}\n"
        f"aws_secret_access_key = {ini(values['secret'])}\n"
    )
    return config, keys


def _rclone(workspace: str, values: Values) -> str:
    endpoint = _endpoint(values)
    return (
        f"[{ini(workspace)}]\n"
        "type = s3\n"
        f"provider = {'AWS' if endpoint.is_amazon else 'Other'}\n"
        f"access_key_id = {ini(values['access'])}\n"
        f"secret_access_key = {ini(values['secret'])}\n"
        f"endpoint = {ini(endpoint.url)}\n"
        f"region = {ini(values['region'])}\n"
        f"force_path_style = {'false' if endpoint.is_amazon else 'true'}\n"
    )


def _s3cmd(values: Values) -> str:
    endpoint = _host(values)
    host = ini(endpoint.host)
    return (
        "[default]\n"
        f"access_key = {ini(values['access'])}\n"
        f"secret_key = {ini(values['secret'])}\n"
        f"bucket_location = {ini(values['region'])}\n"
        f"host_base = {host}\n"
        f"host_bucket = {'%(bucket)s.' if endpoint.is_amazon else ''}{host}\n"
        f"use_https = {endpoint.is_https}\n"
    )


def _boto3(values: Values) -> str:
    endpoint = _endpoint(values)
    style = "" if endpoint.is_amazon else '    config=Config(s3={"addressing_style": "path"}),\n'
    more = "" if endpoint.is_amazon else "from botocore.config import Config\n"
    return (
        f"import boto3\n{more}\n"
        "s3 = boto3.client(\n"
        '    "s3",\n'
        f"    endpoint_url={literal(endpoint.url)},\n"
        f"    region_name={literal(values['region'])},\n"
        f"    aws_access_key_id={literal(values['access'])},\n"
        f"    aws_secret_access_key={literal(values['secret'])},\n"
        f"{style}"
        ")\n"
        f"listing = s3.list_objects_v2(Bucket={literal(values['bucketname'])})\n"
    )


def _s3fs(values: Values) -> str:
    endpoint = _endpoint(values)
    style = "" if endpoint.is_amazon else '    config_kwargs={"s3": {"addressing_style": "path"}},\n'
    return (
        "import s3fs\n\n"
        "fs = s3fs.S3FileSystem(\n"
        f"    key={literal(values['access'])},\n"
        f"    secret={literal(values['secret'])},\n"
        f'    client_kwargs={{"endpoint_url": {literal(endpoint.url)}, "region_name": {literal(values["region"])}}},\n'
        f"{style}"
        ")\n"
        f"listing = fs.ls({literal(values['bucketname'])})\n"
    )


def _gdal(values: Values) -> str:
    endpoint = _host(values)
    variables = {
        "AWS_ACCESS_KEY_ID": values["access"],
        "AWS_SECRET_ACCESS_KEY": values["secret"],
        "AWS_REGION": values["region"],
        "AWS_S3_ENDPOINT": endpoint.host,
        "AWS_HTTPS": "YES" if endpoint.is_https else "NO",
        "AWS_VIRTUAL_HOSTING": "TRUE" if endpoint.is_amazon else "FALSE",
    }
    path = shell(f"/vsis3/{values['bucketname']}/OBJECT")
    return f"{_exports(variables)}# then, for instance: gdalinfo {path}\n"


def _paws(values: Values) -> str:
    endpoint = _endpoint(values)
    return (
        "s3 <- paws::s3(\n"
        "  config = list(\n"
        "    credentials = list(creds = list(\n"
        f"      access_key_id = {_r(values['access'])},\n"
        f"      secret_access_key = {_r(values['secret'])}\n"
        "    )),\n"
        f"    endpoint = {_r(endpoint.url)},\n"
        f"    region = {_r(values['region'])},\n"
        f"    s3_force_path_style = {'FALSE' if endpoint.is_amazon else 'TRUE'}\n"
        "  )\n"
        ")\n"
        f"listing <- s3$list_objects_v2(Bucket = {_r(values['bucketname'])})\n"
    )


# ---- Stores and the registry


def _stores(found: Values) -> Iterator[Snippet]:
    for kind in StoreType:
        for name, values in found.get("store_credentials", {}).get(kind, {}).items():
            of = f"{kind}/{name}"
            if kind is StoreType.DATABASE:
                yield from _server(of, name, values)
                continue
            tool, language, write = _TOOLS[kind]
            yield from _written(of, "environment", "shell", "", _variables(kind, name), values)
            yield from _written(of, tool, language, "", write, values)


def _variables(kind: StoreType, name: str) -> Callable[[Values], str]:
    """The variables that sessions of the lab have."""
    prefix, members = STORE_MEMBERS[kind]
    return lambda values: _exports(
        {names.variable(prefix, name, part): values[member] for part, member in members.items() if member in values}
    )


def _server(of: str, host: str, values: Values) -> Iterator[Snippet]:
    yield from _written(of, "environment", "shell", "", lambda values: _server_variables(host, values), values)
    for database in _databases(values):
        write = functools.partial(_psql, database=database)
        yield from _written(f"{of}/{database}", "psql", "shell", "", write, values)


def _databases(values: Values) -> list[str]:
    return [name for name in values.get("databases", "").split(",") if name]


def _server_variables(host: str, values: Values) -> str:
    variables = {
        names.variable("POSTGRES", host, part): values[member]
        for part, member in DATABASE_MEMBERS.items()
        if member in values
    }
    for database in _databases(values):
        for variable, member in zip(names.database_variables(host, database), ("urls", "external_urls"), strict=True):
            if url := values.get(member, {}).get(database):
                variables[variable] = url
    return _exports(variables)


def _psql(values: Values, database: str) -> str:
    """From outside where that is possible: from inside everything is in the session's variables. No password in it."""
    url = values.get("external_urls", {}).get(database) or values.get("urls", {}).get(database)
    if url is None:
        url = uri("postgresql", values["host"], values.get("port", "5432"), database, values["username"])
    parts = urlsplit(url)
    if parts.scheme not in ("postgresql", "postgres"):
        raise Unwritable
    login, at, place = parts.netloc.rpartition("@")
    bare = parts._replace(netloc=f"{login.partition(':')[0]}{at}{place}").geturl()
    return f"{_exports({'PGPASSWORD': values['password']})}psql {shell(bare)}\n"


def _mongosh(values: Values) -> str:
    url = values.get("uri") or uri(
        "mongodb",
        values["host"],
        values.get("port", "27017"),
        values.get("database", ""),
        values["username"],
        values["password"],
        {"authSource": values["auth_source"]} if "auth_source" in values else None,
    )
    if urlsplit(url).scheme not in ("mongodb", "mongodb+srv"):
        raise Unwritable
    return f"mongosh {shell(url)}\n"


def _redis_cli(values: Values) -> str:
    user = f" --user {shell(values['username'])}" if "username" in values else ""
    place = f"-h {shell(values['host'])} -p {shell(values.get('port', '6379'))}"
    return (
        f"{_exports({'REDISCLI_AUTH': values['password']})}"
        f"redis-cli {place}{user} -n {shell(values.get('database', '0'))}\n"
    )


def _qdrant(values: Values) -> str:
    return (
        "from qdrant_client import QdrantClient\n\n"
        f"client = QdrantClient(url={literal(values['url'])}, api_key={literal(values['api_key'])})\n"
        "collections = client.get_collections()\n"
    )


_TOOLS: Mapping[StoreType, tuple[str, Language, Callable[[Values], str]]] = {
    StoreType.VECTOR: ("qdrant-client", "python", _qdrant),
    StoreType.CACHE: ("redis-cli", "shell", _redis_cli),
    StoreType.DOCUMENT: ("mongosh", "shell", _mongosh),
}


def _registry(found: Values) -> Iterator[Snippet]:
    if login := found.get("container_registry_credentials"):
        yield from _written("registry", "environment", "shell", "", _registry_variables, login)


def _registry_variables(values: Values) -> str:
    return _exports(
        {
            "CONTAINER_REGISTRY_USERNAME": values["username"],
            "CONTAINER_REGISTRY_PASSWORD": values["password"],
        }
    )
