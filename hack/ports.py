"""Ports of 127.0.0.1 for servers that have to be told one before they start, and keep it over a restart."""

import random
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TypeVar

T = TypeVar("T")
PORTS = range(20000, 32768)
"""Below those that the kernel gives to whoever connects, or binds without a wish."""
TRIES = 5
PAUSE_SECONDS = 1.0
_chance = random.SystemRandom()  # a seeded one would have every process try the same ports


def free_port() -> int:
    """A port that nobody listens on, and that nobody else who asks here is given while this process lives.

    Its owner holds the UDP port of the same number, which ends with him and leaves nothing behind.
    """
    while True:
        port = _chance.choice(PORTS)
        with ExitStack() as closing, socket.socket(type=socket.SOCK_STREAM) as probe:
            mine = closing.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            try:
                mine.bind(("127.0.0.1", port))
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            closing.pop_all()
            mine.detach()  # open until the process ends
            return port


def bound(start: Callable[[], T], error: type[Exception]) -> T:
    """What `start` returns. Where it fails since somebody took its port meanwhile, it is called again after a pause."""
    for _ in range(TRIES - 1):
        try:
            return start()
        except error as failure:
            if "address already in use" not in str(failure).lower():
                raise
        time.sleep(PAUSE_SECONDS)
    return start()
