"""Fixtures of servers that are not the control plane; import what a module needs."""

import contextlib
from collections.abc import Iterator

import pytest

from hack import redis_server
from hack.postgresql import PostgreSQL, Servers, missing


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
