"""Ports are nobody else's between their choice and their use; where they are all the same, a start is tried again."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack import cluster as hack_cluster
from hack import ports
from hack.cluster import Cluster
from hack.guarded import Guarded
from hack.ports import bound, free_port

SERVER = """
import pathlib, socket, time
with socket.create_server(("127.0.0.1", {port})):
    pathlib.Path("listening").touch()
    time.sleep(600)
"""


@pytest.fixture
def taken() -> Iterator[socket.socket]:
    """A port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def number(listener: socket.socket) -> int:
    """Its port."""
    port: int = listener.getsockname()[1]
    return port


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> range:
    """Ports to choose from, too few for chance to keep two processes apart."""
    first = free_port()
    chosen = range(first + 1, first + 9)
    monkeypatch.setattr(ports, "PORTS", chosen)
    return chosen


def test_two_processes_never_choose_the_same(few: range) -> None:
    ours = {free_port() for _ in range(3)}
    code = f"from hack import ports; ports.PORTS = {few!r}; print(*(ports.free_port() for _ in range(3)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    theirs = {int(port) for port in told.split()}
    assert (len(ours), len(theirs), ours & theirs) == (3, 3, set())


def test_one_that_somebody_listens_on_is_not_chosen(few: range) -> None:
    with socket.create_server(("127.0.0.1", few[0])):
        assert few[0] not in {free_port() for _ in range(3)}


def test_what_fails_for_another_reason_is_not_tried_again() -> None:
    tries = []

    def start() -> None:
        tries.append(1)
        raise RuntimeError("no such file")

    with pytest.raises(RuntimeError, match="no such file"):
        bound(start, RuntimeError)
    assert len(tries) == 1


def test_a_port_that_stays_taken_is_given_up(monkeypatch: pytest.MonkeyPatch, taken: socket.socket) -> None:
    monkeypatch.setattr(ports, "PAUSE_SECONDS", 0)
    tries = []

    def start() -> None:
        tries.append(1)
        socket.create_server(("127.0.0.1", number(taken)))

    with pytest.raises(OSError, match="already in use"):
        bound(start, OSError)
    assert len(tries) == ports.TRIES


def test_a_server_waits_for_its_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: socket.socket) -> None:
    monkeypatch.setattr(ports, "PAUSE_SECONDS", 0)

    def is_ready() -> bool:
        if "already in use" in (tmp_path / "log").read_text():
            taken.close()
        return (tmp_path / "listening").exists()

    server = Guarded("a server", tmp_path, RuntimeError, 60, stop="TERM")
    server.start([sys.executable, "-c", SERVER.format(port=number(taken))], is_ready, cwd=tmp_path)
    server.stop()


@pytest.mark.cluster
def test_a_cluster_whose_ports_are_taken_starts_with_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: socket.socket
) -> None:
    """Of etcd and of the API server, each between its choice and its use."""
    choices = [number(taken), free_port(), number(taken), free_port()]
    monkeypatch.setattr(hack_cluster, "free_port", lambda: choices.pop(0))
    with Cluster.start(tmp_path) as cluster:
        assert choices == []
        assert cluster.kubectl("get", "namespace", "default").returncode == 0
