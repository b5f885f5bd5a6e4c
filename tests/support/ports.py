"""
Ports for the servers that the tests start.

A port that the system chooses isn't kept: until the server listens, another server or an outgoing connection may get
the same one. These are below the ones that the system gives to connections, and each belongs to one process.
"""

from __future__ import annotations

import os
import random
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

PORTS = range(11_000, 32_000)
"""No browser refuses one of these, as it does with 6000 or 10080."""

LOCKS = Path(tempfile.gettempdir(), "wsrt-test-ports")
"""The file with a lock for each port; the system removes the locks of a process that ends."""


def free_port(count: int = 1) -> int:
    """
    Return a port at which nothing listens, and that no other process of the tests gets while this one runs.

    Args:
        count: The number of consecutive ports; the first one is returned.
    """
    for _ in PORTS:
        first = next(_numbers)
        wanted = range(first, first + count)
        if wanted[-1] in PORTS and all(map(_is_free, wanted)) and all(map(_lock, wanted)):
            for _ in wanted[1:]:
                next(_numbers)
            return first
    raise OSError(f"every port from {PORTS[0]} to {PORTS[-1]} is taken")


def _from_anywhere() -> Iterator[int]:
    """Yield all ports over and over, so that one that was freed comes last. Processes begin at different ones."""
    first = random.SystemRandom().choice(PORTS)
    while True:
        yield from range(first, PORTS.stop)
        first = PORTS.start


_numbers = _from_anywhere()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


if sys.platform == "win32":

    def _lock(port: int) -> bool:
        return True

else:
    import fcntl

    # Open until the process ends: closing it would end all locks.
    _file = os.open(LOCKS, os.O_RDWR | os.O_CREAT, 0o666)

    def _lock(port: int) -> bool:
        """Return whether this process has got a port. A child process doesn't inherit it."""
        try:
            fcntl.lockf(_file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:
            return False
        return True
