"""
A load generator on raw sockets. It counts bytes without parsing them, so it is faster than the servers that it
measures.

All frames of a measurement have the same length, which is determined from the first one. The number of deliveries is
the number of received bytes divided by that length.
"""

from __future__ import annotations

import base64
import collections
import os
import select
import socket
import time

READ = 1 << 18


class Load:
    """
    Subscribers of one server, the first of which publishes.

    Args:
        port: The port of a server on this machine.
        path: The path of the WebSocket.
        subscribers: The number of sockets.
        frame: The text frame that a client sends to publish.
    """

    def __init__(self, port: int, path: str, subscribers: int, frame: str) -> None:
        self.sockets = [_open(port, path) for _ in range(subscribers)]
        self._frame = _masked(frame.encode())
        self._epoll = select.epoll()
        self._received = 0
        self._counts: collections.Counter[int] = collections.Counter()
        self._by_number = {sock.fileno(): sock for sock in self.sockets}
        for number in self._by_number:
            self._epoll.register(number, select.EPOLLIN)
        # The number of bytes that each socket receives for one published frame.
        self.size = self._first()

    def close(self) -> None:
        self._epoll.close()
        for sock in self.sockets:
            sock.close()

    def run(self, seconds: float, in_flight: int) -> float:
        """Publish for some seconds with ``in_flight`` publications in flight. Return the deliveries per second."""
        whole = self.size * len(self.sockets)
        sent, self._received = 0, 0
        begun = time.perf_counter()
        while time.perf_counter() - begun < seconds:
            due = self._received // whole + in_flight - sent
            if due > 0:
                self._publish(due)
                sent += due
            self._poll(1.0)
        lasted = time.perf_counter() - begun
        deliveries = self._received / self.size
        # Publications still in flight don't count.
        while self._received < sent * whole:
            if not self._poll(5.0):
                raise RuntimeError(f"{sent * whole - self._received} of {sent * whole} bytes never arrived")
        return deliveries / lasted

    def _first(self) -> int:
        # A server may still be setting up connections. Publish until all sockets receive the same, twice.
        sizes: list[int] = []
        for _ in range(100):
            self._counts.clear()
            self._publish(1)
            while self._poll(0.5):
                pass
            seen = set(self._counts.values())
            if len(self._counts) == len(self.sockets) and len(seen) == 1:
                sizes.append(seen.pop())
                if sizes[-2:] == [sizes[-1]] * 2:
                    return sizes[-1]
        raise RuntimeError("the subscribers don't all receive the same frame")

    def _publish(self, times: int) -> None:
        sock = self.sockets[0]
        sock.setblocking(True)
        sock.sendall(self._frame * times)
        sock.setblocking(False)

    def _poll(self, timeout: float) -> bool:
        ready = self._epoll.poll(timeout)
        for number, _ in ready:
            try:
                data = self._by_number[number].recv(READ)
            except BlockingIOError:
                continue
            if not data:
                raise RuntimeError("the server closed a socket")
            self._received += len(data)
            self._counts[number] += len(data)
        return bool(ready)


def _open(port: int, path: str) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), 30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    key = base64.b64encode(os.urandom(16)).decode()
    sock.sendall(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    head = b""
    while b"\r\n\r\n" not in head:
        data = sock.recv(4096)
        if not data:
            raise RuntimeError(f"refused: {head!r}")
        head += data
    if not head.startswith(b"HTTP/1.1 101"):
        raise RuntimeError(f"refused: {head!r}")
    sock.setblocking(False)
    return sock


def _masked(payload: bytes) -> bytes:
    """Return a client's frame (RFC 6455, 5.2). Its masking key is zero, which leaves the payload as it is."""
    size = len(payload)
    head = b"\x81" + (bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big"))
    return head + b"\0\0\0\0" + payload
