"""Fixtures of servers that are not the control plane; import what a module needs."""

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack import keycloak, minio, redis_server
from hack.postgresql import PostgreSQL, Servers, missing


def shared_directory(config: pytest.Config) -> Path:
    """Where servers of the whole run are: in the directory of who commands it, below which each worker has its own."""
    own: Path = config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    return (own.parent if hasattr(config, "workerinput") else own) / "servers"


@pytest.fixture
def redis_servers() -> Iterator[redis_server.Servers]:
    """Real Redis servers, made when asked for and gone with the test; it is skipped where Redis is absent."""
    if lacking := redis_server.missing():
        pytest.skip(lacking)
    with redis_server.Servers() as servers:
        yield servers


@contextlib.contextmanager
def _servers() -> Iterator[Servers]:
    if lacking := missing():
        pytest.skip(lacking)
    with Servers() as servers:
        yield servers


@pytest.fixture
def postgresql_servers() -> Iterator[Servers]:
    """Real PostgreSQL servers, made when asked for and gone with the test; it is skipped where PostgreSQL is absent."""
    with _servers() as servers:
        yield servers


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQL]:
    """A running PostgreSQL server of the module's own; its tests are skipped where PostgreSQL is absent."""
    with _servers() as servers:
        servers["shared"].start()
        yield servers["shared"]


@pytest.fixture(scope="session")
def keycloak_server(request: pytest.FixtureRequest) -> Iterator[keycloak.Server]:
    """The Keycloak of the whole run, each test with a realm of its own; skipped where Java is absent.

    It goes on for other workers, so nobody may stop it, nor change what belongs to no realm of theirs.
    """
    if lacking := keycloak.missing():
        pytest.skip(lacking)
    with keycloak.shared(shared_directory(request.config)) as server:
        yield server


@pytest.fixture(scope="session")
def minio_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[minio.MinIO]:
    """A running MinIO of the worker's own, in which names of buckets have to be unique; skipped where it is absent."""
    if lacking := minio.missing():
        pytest.skip(lacking)
    with minio.MinIO(tmp_path_factory.mktemp("minio")) as server:
        yield server


@pytest.fixture
def realm_name() -> str:
    """Name of a realm that no other test has."""
    return f"realm-{uuid.uuid4().hex[:8]}"
