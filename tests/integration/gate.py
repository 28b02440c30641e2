"""A way to a server that a test can shut: connections are refused and broken while the server itself goes on."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

CHUNK = 65536


class Gate:
    """Hands on what comes to a port of its own."""

    def __init__(self, url: str) -> None:
        self._behind = (urlsplit(url).hostname, urlsplit(url).port)
        self._listener: socket.socket | None = None
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._sent = 0
        self._address = ("127.0.0.1", 0)
        self.open()

    @property
    def url(self) -> str:
        """Address of the server as it is reached through here."""
        return f"http://127.0.0.1:{self._address[1]}"

    @property
    def sent(self) -> int:
        """How many bytes the server was sent through here."""
        return self._sent

    def open(self) -> None:
        """Let connections through, at the same port as before."""
        listener = socket.create_server(self._address)
        self._address = listener.getsockname()
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), name="gate", daemon=True).start()

    def shut(self) -> None:
        """Refuse connections from now on, and break those that there are. Without effect on a shut one."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # or the thread that accepts would keep it
            listener.close()
        with self._lock:
            connections, self._connections = self._connections, set()
        for connection in connections:
            _end(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.shut()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                outer, _ = listener.accept()
            except OSError:
                return  # shut
            try:
                inner = socket.create_connection(self._behind)
            except OSError:
                _end(outer)  # whoever is behind is away
                continue
            with self._lock:
                if self._listener is listener:
                    self._connections |= {outer, inner}
                else:
                    _end(outer)
                    _end(inner)
                    return  # shut meanwhile
            for source, target, seen in ((outer, inner, self._count), (inner, outer, _ignore)):
                threading.Thread(target=_pump, args=(source, target, seen), name="gate", daemon=True).start()

    def _count(self, data: bytes) -> None:
        with self._lock:
            self._sent += len(data)


def _ignore(_: bytes) -> None:
    pass


def _pump(source: socket.socket, target: socket.socket, seen: Callable[[bytes], None]) -> None:
    with suppress(OSError):
        while data := source.recv(CHUNK):
            seen(data)
            target.sendall(data)
    _end(source)
    _end(target)


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
