"""Credentials as tools take them: a value comes out of the tool's own syntax as it went in, or there is no snippet."""

import ast
import configparser
import hashlib
import http.server
import json
import os
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hack import minio, redis_server, tools
from hack.postgresql import PostgreSQL
from tests.servers import postgresql, redis_servers  # noqa: F401  # fixtures
from workspaces import snippets
from workspaces.signatures import Keys
from workspaces.snippets import Snippet, Unwritable

STORAGE = {
    "bucketname": "ws-a",
    "access": "AK",
    "secret": "S/K+=",
    "endpoint": "https://s3.example:9000",
    "region": "eu-1",
}
HOSTILE = """a'b"c\\d $HOME `id` $(id) %(x)s #; ![*]{}é😀 """
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
USUAL = st.from_regex(r"[A-Za-z0-9+/=_.:-]{1,64}", fullmatch=True).filter(lambda value: value[0] not in "=:")


def all_of(found: Mapping[str, Any]) -> dict[tuple[str, str, str], Snippet]:
    return {(snippet.of, snippet.tool, snippet.place): snippet for snippet in snippets.snippets("ws-a", found)}


def of_storage(**values: str) -> dict[tuple[str, str], str]:
    found = all_of({"storage": STORAGE | values})
    return {(tool, place): snippet.text for (_, tool, place), snippet in found.items()}


def of_store(kind: str, name: str, **values: Any) -> dict[tuple[str, str], str]:
    found = all_of({"store_credentials": {kind: {name: values}}})
    return {(of, tool): snippet.text for (of, tool, _), snippet in found.items()}


def variables(text: str) -> dict[str, str]:
    """What the `export` lines of a script set, read as a shell does."""
    words = [shlex.split(line) for line in text.splitlines() if line.startswith("export ")]
    assert all(len(line) == 2 for line in words)
    return dict(line[1].split("=", 1) for line in words)


def keywords(text: str) -> dict[str, Any]:
    """Keyword arguments of the first call of a script that is assigned, as Python reads them."""
    assigned = next(node for node in ast.parse(text).body if isinstance(node, ast.Assign))
    assert isinstance(assigned.value, ast.Call)
    return {
        str(given.arg): ast.literal_eval(given.value)
        for given in assigned.value.keywords
        if not isinstance(given.value, ast.Call)
    }


def strings_of_r(text: str) -> list[str]:
    """Strings in double quotes, by the escapes of R's language definition."""
    found = re.findall(r'"((?:[^"\\]|\\.)*)"', text)
    escape = re.compile(r"\\(?:u([0-9a-f]{1,4})|U([0-9a-f]{1,8})|(.))")
    return [
        escape.sub(lambda hit: chr(int(hit[1] or hit[2], 16)) if hit[1] or hit[2] else hit[3], value) for value in found
    ]


# ---- Quoting


@settings(deadline=None)
@given(TEXTS)
def test_a_word_of_a_shell_is_one_word(value: str) -> None:
    try:
        assert shlex.split(snippets.shell(value)) == [value]
    except Unwritable:
        assert any(ord(character) < 32 or ord(character) in (*range(127, 160), 0x2028, 0x2029) for character in value)


def test_a_real_shell_reads_it_so_too() -> None:
    words = [HOSTILE, "-n", "", "~", "!!", "a\\", "'", "*"]
    script = f"printf '%s\\0' {' '.join(map(snippets.shell, words))}"
    done = subprocess.run(["sh", "-c", script], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == words


@settings(deadline=None)
@given(TEXTS)
def test_a_literal_is_pythons(value: str) -> None:
    found = snippets.literal(value)
    assert ast.literal_eval(found) == value
    assert found.isascii()


@settings(deadline=None)
@given(TEXTS)
def test_a_literal_is_rs(value: str) -> None:
    assert strings_of_r(snippets.literal(value)) == [value]


@settings(deadline=None)
@given(TEXTS)
def test_a_value_of_a_file_comes_out_as_it_went_in(value: str) -> None:
    """By the reader of botocore; there is none that is harder to please than what we allow."""
    try:
        text = f"[default]\nkey = {snippets.ini(value)}\n"
    except Unwritable:
        return
    for reader in (configparser.RawConfigParser(), configparser.ConfigParser(inline_comment_prefixes=("#", ";"))):
        if isinstance(reader, configparser.ConfigParser) and "%" in value:
            continue  # its own interpolation, which none of the tools has
        reader.read_string(text)
        assert reader["default"]["key"] == value


@settings(deadline=None)
@given(USUAL)
def test_usual_values_can_be_written_everywhere(value: str) -> None:
    assert (snippets.ini(value), len(of_storage(access=value, secret=value))) == (value, 9)


@settings(deadline=None)
@given(TEXTS.filter(bool), TEXTS, TEXTS, TEXTS, st.sampled_from(["db.example", "::1"]))
def test_parts_of_an_address_are_kept_apart(user: str, password: str, name: str, source: str, host: str) -> None:
    found = urlsplit(snippets.uri("mongodb", host, "27017", name, user, password, {"authSource": source}))
    login = found.netloc.rpartition("@")[0]
    given_user, _, given_password = login.partition(":")
    assert (unquote(given_user), unquote(given_password)) == (user, password)
    assert (found.hostname, found.port, unquote(found.path[1:])) == (host, 27017, name)
    assert parse_qs(found.query, keep_blank_values=True) == {"authSource": [source]}


# ---- Object storage


def test_what_the_storage_gets() -> None:
    tools = [(tool, place) for tool, place in of_storage()]
    assert tools == [
        ("environment", ""),
        ("aws", "~/.aws/config"),
        ("aws", "~/.aws/credentials"),
        ("rclone", "~/.config/rclone/rclone.conf"),
        ("s3cmd", "~/.s3cfg"),
        ("boto3", ""),
        ("s3fs", ""),
        ("gdal", ""),
        ("paws", ""),
    ]


@pytest.mark.parametrize("secret", ["S/K+=", HOSTILE])
def test_variables_of_the_storage(secret: str) -> None:
    found = of_storage(secret=secret)
    keys = {"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": "eu-1"}
    more = {"AWS_DEFAULT_REGION": "eu-1", "AWS_ENDPOINT_URL": "https://s3.example:9000"}
    assert variables(found["environment", ""]) == keys | more
    more = {"AWS_S3_ENDPOINT": "s3.example:9000", "AWS_HTTPS": "YES", "AWS_VIRTUAL_HOSTING": "FALSE"}
    assert variables(found["gdal", ""]) == keys | more


def test_files_of_the_storage() -> None:
    found = of_storage()
    reader = configparser.RawConfigParser(default_section="")
    for (_, place), text in found.items():
        if place:
            reader.read_string(text)
    assert {section: dict(reader[section]) for section in reader.sections()} == {
        "profile ws-a": {
            "region": "eu-1",
            "endpoint_url": "https://s3.example:9000",
            "s3": "\naddressing_style = path",
        },
        "ws-a": {
            "aws_access_key_id": "AK",
            "aws_secret_access_key": "S/K+=",
            "type": "s3",
            "provider": "Other",
            "access_key_id": "AK",
            "secret_access_key": "S/K+=",
            "endpoint": "https://s3.example:9000",
            "region": "eu-1",
            "force_path_style": "true",
        },
        "default": {
            "access_key": "AK",
            "secret_key": "S/K+=",
            "bucket_location": "eu-1",
            "host_base": "s3.example:9000",
            "host_bucket": "s3.example:9000",
            "use_https": "True",
        },
    }


@pytest.mark.parametrize("secret", ["S/K+=", HOSTILE, "a\0\n\x7f\u2028"])
def test_programs_of_the_storage(secret: str) -> None:
    found = of_storage(secret=secret)
    assert keywords(found["boto3", ""]) == {
        "endpoint_url": "https://s3.example:9000",
        "region_name": "eu-1",
        "aws_access_key_id": "AK",
        "aws_secret_access_key": secret,
    }
    assert 'Config(s3={"addressing_style": "path"})' in found["boto3", ""]
    assert keywords(found["s3fs", ""]) == {
        "key": "AK",
        "secret": secret,
        "client_kwargs": {"endpoint_url": "https://s3.example:9000", "region_name": "eu-1"},
        "config_kwargs": {"s3": {"addressing_style": "path"}},
    }
    if "\0" in secret:
        assert ("paws", "") not in found  # R has no strings with it
    else:
        assert strings_of_r(found["paws", ""]) == ["AK", secret, "https://s3.example:9000", "eu-1", "ws-a"]
        assert "s3_force_path_style = TRUE" in found["paws", ""]


def test_buckets_of_amazon_are_hosts() -> None:
    found = of_storage(endpoint="https://s3.eu-central-1.amazonaws.com")
    assert "addressing_style" not in found["aws", "~/.aws/config"] + found["boto3", ""] + found["s3fs", ""]
    assert found["boto3", ""].startswith("import boto3\n\ns3 = boto3.client(")
    assert "provider = AWS\n" in found["rclone", "~/.config/rclone/rclone.conf"]
    assert "force_path_style = false\n" in found["rclone", "~/.config/rclone/rclone.conf"]
    assert "host_bucket = %(bucket)s.s3.eu-central-1.amazonaws.com\n" in found["s3cmd", "~/.s3cfg"]
    assert variables(found["gdal", ""])["AWS_VIRTUAL_HOSTING"] == "TRUE"
    assert "s3_force_path_style = FALSE" in found["paws", ""]


def test_an_address_without_a_scheme_is_one_of_https() -> None:
    assert variables(of_storage(endpoint="s3.example")["environment", ""])["AWS_ENDPOINT_URL"] == "https://s3.example"


def test_tools_that_know_hosts_alone_are_left_out_where_there_is_a_path() -> None:
    left = {tool for tool, _ in of_storage()} - {tool for tool, _ in of_storage(endpoint="https://gate.example/s3")}
    assert left == {"s3cmd", "gdal"}


@pytest.mark.parametrize(
    "endpoint", ["ftp://s3.example", "https://", "https://u:p@s3.example", "http://[", "http://a b\n"]
)
def test_an_odd_address_gives_nothing(endpoint: str) -> None:
    assert of_storage(endpoint=endpoint) == {}


def test_what_no_file_can_hold_is_left_out_of_files_alone() -> None:
    assert {tool for tool, _ in of_storage(secret=HOSTILE)} == {"environment", "boto3", "s3fs", "gdal", "paws"}
    assert {tool for tool, _ in of_storage(secret="a\nb")} == {"boto3", "s3fs", "paws"}


# ---- Stores and registry

PG = {
    "host": "pg0.svc",
    "port": "5432",
    "username": "postgres",
    "password": HOSTILE,
    "databases": "dev,prod",
    "urls": {"dev": "postgresql://postgres:x%20y@pg0.svc:5432/dev"},
    "external_urls": {"dev": "postgresql://postgres:x%20y@pg.example:443/dev?sslmode=require"},
}


def test_what_a_database_server_gets() -> None:
    found = of_store("database", "pg0", **PG, host_external="pg.example")
    assert list(found) == [
        ("database/pg0", "environment"),
        ("database/pg0/dev", "psql"),
        ("database/pg0/prod", "psql"),
    ]
    assert variables(found["database/pg0", "environment"]) == {
        "POSTGRES_PG0_HOST": "pg0.svc",
        "POSTGRES_PG0_PORT": "5432",
        "POSTGRES_PG0_USER": "postgres",
        "POSTGRES_PG0_PASSWORD": HOSTILE,
        "POSTGRES_PG0_HOST_EXTERNAL": "pg.example",
        "POSTGRES_PG0_DEV_URL": "postgresql://postgres:x%20y@pg0.svc:5432/dev",
        "POSTGRES_PG0_DEV_URL_EXTERNAL": "postgresql://postgres:x%20y@pg.example:443/dev?sslmode=require",
    }
    command = found["database/pg0/dev", "psql"]
    assert variables(command) == {"PGPASSWORD": HOSTILE}
    outside = "postgresql://postgres@pg.example:443/dev?sslmode=require"
    assert shlex.split(command.splitlines()[1]) == ["psql", outside]
    assert (
        shlex.split(found["database/pg0/prod", "psql"].splitlines()[1])[1] == "postgresql://postgres@pg0.svc:5432/prod"
    )


def test_psql_is_given_addresses_of_postgresql_alone() -> None:
    odd = PG | {"urls": {"dev": "service=x"}, "external_urls": {}, "databases": "dev"}
    assert list(of_store("database", "pg0", **odd)) == [("database/pg0", "environment")]
    assert list(of_store("database", "pg0", databases="dev")) == [("database/pg0", "environment")]


def test_what_a_document_store_gets() -> None:
    values = {"host": "m.svc", "port": "27017", "username": "m-app", "password": HOSTILE, "auth_source": "admin"}
    found = of_store("document", "my-docs", **values, database="docs")
    assert variables(found["document/my-docs", "environment"])["MONGO_MY_DOCS_PASSWORD"] == HOSTILE
    program, address = shlex.split(found["document/my-docs", "mongosh"])
    parts = urlsplit(address)
    assert (program, parts.hostname, parts.path, parts.query) == ("mongosh", "m.svc", "/docs", "authSource=admin")
    assert (parts.username, unquote(parts.password or "")) == ("m-app", HOSTILE)
    found = of_store("document", "d", **values | {"uri": "mongodb://u:p@h/d"})
    assert found["document/d", "mongosh"] == "mongosh mongodb://u:p@h/d\n"
    del values["auth_source"]
    assert of_store("document", "d", **values)["document/d", "mongosh"].endswith(":27017/'\n") is False
    assert ("document/d", "mongosh") not in of_store("document", "d", uri="--eval=x")


def test_what_a_cache_gets() -> None:
    found = of_store("cache", "c", host="c.svc", port="6379", username="default", password=HOSTILE, database="0")
    command = found["cache/c", "redis-cli"]
    assert variables(command) == {"REDISCLI_AUTH": HOSTILE}
    assert command.splitlines()[1] == "redis-cli -h c.svc -p 6379 --user default -n 0"
    assert of_store("cache", "c", host="c", password="p")["cache/c", "redis-cli"].splitlines()[1] == (
        "redis-cli -h c -p 6379 -n 0"
    )
    assert list(of_store("cache", "c", host="c")) == [("cache/c", "environment")]


def test_what_a_vector_store_gets() -> None:
    found = of_store("vector", "v", host="v.svc", url="http://v.svc:6333", api_key=HOSTILE, read_api_key="r")
    assert keywords(found["vector/v", "qdrant-client"]) == {"url": "http://v.svc:6333", "api_key": HOSTILE}
    assert variables(found["vector/v", "environment"])["QDRANT_V_READ_API_KEY"] == "r"


def test_what_the_registry_gets() -> None:
    found = all_of({"container_registry_credentials": {"username": "u", "password": HOSTILE}})
    assert [(of, tool) for of, tool, _ in found] == [("registry", "environment")]
    values = variables(found["registry", "environment", ""].text)
    assert values == {"CONTAINER_REGISTRY_USERNAME": "u", "CONTAINER_REGISTRY_PASSWORD": HOSTILE}


def test_nothing_comes_of_nothing() -> None:
    assert all_of({}) == {}


def test_secrets_are_not_shown_by_accident() -> None:
    assert "S/K" not in repr(snippets.snippets("ws-a", {"storage": STORAGE}))


# ---- By the programs themselves


@pytest.fixture(scope="module")
def installed() -> Path:
    """The directory of the programs of `requirements-tools.lock`, and of the Python that has its libraries."""
    try:
        return tools.build()
    except tools.ToolsError as error:
        pytest.skip(str(error))


def run(script: str, stdin: str, directory: Path, programs: Path | None = None) -> str:
    """What a script prints, run by a shell with an empty home, and with these programs first."""
    environ = {"PATH": os.pathsep.join(map(str, filter(None, (programs, os.environ["PATH"])))), "HOME": str(directory)}
    done = subprocess.run(
        ["sh", "-eu", "-c", script], input=stdin, capture_output=True, text=True, env=environ, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.servers("PostgreSQL")
def test_psql_gets_in(postgresql: PostgreSQL, tmp_path: Path) -> None:  # noqa: F811
    password, database = HOSTILE.replace("'", "''"), "od d'b%/"
    postgresql.psql(f"CREATE ROLE \"us er@x\" LOGIN PASSWORD '{password}'")
    postgresql.psql('CREATE DATABASE "od d\'b%/"')
    values = {"host": "127.0.0.1", "port": str(postgresql.port), "username": "us er@x", "password": HOSTILE}
    found = of_store("database", "pg0", **values, databases=database)
    script = found[f"database/pg0/{database}", "psql"]
    output = run(
        script, "\\pset tuples_only\n\\pset format unaligned\nSELECT current_user, current_database()", tmp_path
    )
    assert output.splitlines()[-1] == f"us er@x|{database}"


@pytest.mark.servers("Redis")
def test_redis_cli_gets_in(redis_servers: redis_server.Servers, tmp_path: Path) -> None:  # noqa: F811
    server = redis_servers["snippet"]
    digest = hashlib.sha256(HOSTILE.encode()).hexdigest()
    server.start(f"user default on #{digest} ~* &* +@all\n")
    values = {"host": "127.0.0.1", "port": str(server.port), "username": "default", "password": HOSTILE}
    script = of_store("cache", "c", **values, database="3")["cache/c", "redis-cli"]
    assert "db=3" in run(script, "CLIENT INFO", tmp_path)


LISTING = {
    "aws": "aws --profile ws-a s3 ls s3://ws-a/",
    "s3cmd": "s3cmd ls s3://ws-a/",
    "rclone": "rclone lsf ws-a:ws-a",
}
"""What lists the bucket, by programs that read a file of their own."""
GRID = b"ncols 2\nnrows 1\nxllcorner 0\nyllcorner 0\ncellsize 1\n7 8\n"
"""A raster that GDAL reads."""


@pytest.mark.servers("MinIO")
@pytest.mark.timeout(900)  # it may have to be built
@pytest.mark.parametrize("secret", ["S3cret/Key+=12345", "a'b\"c\\d $HOME $(id) %(x)s #; !*"])
def test_keys_get_in_by_every_tool_that_this_machine_has(tmp_path: Path, installed: Path, secret: str) -> None:
    if lacking := minio.missing():
        pytest.skip(lacking)
    server = minio.MinIO(tmp_path / "minio")
    server.root = Keys("root-user", secret, minio.REGION)
    with server:
        for path, content in (("/ws-a", b""), ("/ws-a/grid.asc", GRID)):
            assert server.ask("PUT", path, content=content).is_success
        found = of_storage(access="root-user", secret=secret, endpoint=server.endpoint, region=minio.REGION)
        exported = variables(found["environment", ""])
        keys = Keys(exported["AWS_ACCESS_KEY_ID"], exported["AWS_SECRET_ACCESS_KEY"], exported["AWS_REGION"])
        assert b"grid.asc" in server.ask("GET", "/ws-a", keys=keys).content
        for (_, place), text in found.items():
            if place:
                file = tmp_path / place.removeprefix("~/")
                file.parent.mkdir(parents=True, exist_ok=True)
                with file.open("a") as written:
                    written.write(text)
        for program, command in LISTING.items():
            is_there = program == "aws" or shutil.which(program) is not None
            if is_there and any(tool == program for tool, _ in found):
                assert "grid.asc" in run(command, "", tmp_path, installed), program
        assert "grid.asc" in run(f"{found['environment', '']}aws s3 ls s3://ws-a/", "", tmp_path, installed)
        printed = {
            "boto3": "print([one['Key'] for one in listing['Contents']])",
            "s3fs": "print([one.removeprefix('ws-a/') for one in listing])",
        }
        for library, last in printed.items():
            assert run("python", f"{found[library, '']}{last}\n", tmp_path, installed) == "['grid.asc']\n", library
        script = "import rasterio; print(rasterio.open('/vsis3/ws-a/grid.asc').read().tolist())"
        printed_values = run(f"{found['gdal', '']}python -c {shlex.quote(script)}", "", tmp_path, installed)
        assert printed_values == "[[[7, 8]]]\n"


@pytest.mark.timeout(300)  # they may have to be installed
def test_an_address_of_a_document_store_is_read_by_its_driver(tmp_path: Path, installed: Path) -> None:
    """There is no MongoDB to try `mongosh` on; drivers read the address alike."""
    values = {"host": "m.svc", "port": "27017", "username": "u/s@r", "password": HOSTILE, "auth_source": "ad min"}
    _, address = shlex.split(of_store("document", "d", **values, database="docs")["document/d", "mongosh"])
    read = "import json, sys; from pymongo.uri_parser import parse_uri; print(json.dumps(parse_uri(sys.argv[1])))"
    found = json.loads(run(f"python -W ignore -c {shlex.quote(read)} {shlex.quote(address)}", "", tmp_path, installed))
    assert (found["username"], found["password"], found["nodelist"]) == ("u/s@r", HOSTILE, [["m.svc", 27017]])
    assert (found["database"], found["options"]) == ("docs", {"authSource": "ad min"})


class Collections(http.server.BaseHTTPRequestHandler):
    """Answers as Qdrant does to the right key; there is no Qdrant to try it on."""

    def do_GET(self) -> None:
        is_open = self.headers["api-key"] == KEY
        self.send_response(200 if is_open else 403)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        named = {"collections": [{"name": "maps"}]} if self.path == "/collections" else {"version": "1.15.0"}
        self.wfile.write(json.dumps({"result": named, "status": "ok", "time": 0.0, **named}).encode())

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


KEY = """a'b"c\\d $HOME `id` {x}"""


@pytest.mark.timeout(300)  # they may have to be installed
def test_a_key_of_a_vector_store_is_sent_by_its_client(tmp_path: Path, installed: Path) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collections) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            values = {"url": f"http://127.0.0.1:{server.server_port}", "api_key": KEY}
            script = of_store("vector", "v", **values)["vector/v", "qdrant-client"]
            last = "print([one.name for one in collections.collections])\n"
            assert run("python -W ignore", f"{script}{last}", tmp_path, installed) == "['maps']\n"
        finally:
            server.shutdown()
