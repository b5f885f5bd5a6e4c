"""A single connection: one socket, from its handshake to its end."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidProxy, InvalidStatus, InvalidURI, WebSocketException
from websockets.protocol import State as SocketState
from websockets.typing import Origin, Subprotocol

from .errors import PayloadTooLarge
from .frame import SUBPROTOCOL, encode
from .options import Limits, Timings
from .state import Reason

PING = encode("wsrt.ping")

SUBPROTOCOL_NAME = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)
"""The characters that a subprotocol may have (RFC 9110, 5.6.2)."""

LATE = 1.0
"""A timer that fires this many seconds late means that this process was suspended, not that the server is silent."""

TICK = 5.0
"""Seconds between checks of the clock. Timers stop while a computer sleeps, but the clock continues."""

MAX_SIZE = 16 * 1024 * 1024
"""The size of the largest accepted frame, in bytes. Events have at most 1 MiB, but a list of members may be larger."""


def clock() -> float:
    """Return the seconds of a monotonic clock that includes the time the computer sleeps, if the system has one."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class ConnectionFailed(Exception):
    """Raised when a connection could not be opened, or has ended."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(str(reason))
        self.reason = reason


class NotSent(ConnectionFailed):
    """Raised when the connection ended before any part of a frame was written."""


@dataclasses.dataclass(frozen=True, slots=True)
class Handshake:
    """The parameters of a handshake."""

    url: str
    subprotocols: Sequence[str] = ()
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    origin: str | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


async def dial(handshake: Handshake, timings: Timings, limits: Limits) -> ClientConnection:
    """
    Open a socket.

    Raises:
        ConnectionFailed: The socket could not be opened.
    """
    if not all(SUBPROTOCOL_NAME.fullmatch(name) for name in handshake.subprotocols):
        # The message doesn't contain the subprotocol, which may be a token.
        raise ConnectionFailed(
            Reason(
                "invalid",
                None,
                "the token or a subprotocol has a character that a subprotocol can't have, such as '=', '/' or a "
                "space; base64url without padding is valid",
            )
        )
    options: dict[str, Any] = {
        # The server sends uncompressed frames with the least work.
        "compression": None,
        "max_size": MAX_SIZE,
        **handshake.options,
    }
    try:
        async with asyncio.timeout(timings.connect):
            ws = await connect(
                handshake.url,
                subprotocols=[Subprotocol(name) for name in (SUBPROTOCOL, *handshake.subprotocols)],
                additional_headers=dict(handshake.headers),
                origin=None if handshake.origin is None else Origin(handshake.origin),
                open_timeout=None,
                # wsrt has its own heartbeat.
                ping_interval=None,
                close_timeout=timings.close,
                write_limit=limits.buffer_bytes,
                **options,
            )
    except TimeoutError:
        raise ConnectionFailed(Reason("timeout", None, f"no handshake within {timings.connect:g} s")) from None
    except InvalidStatus as error:
        raise ConnectionFailed(Reason("network", None, f"HTTP {error.response.status_code}")) from None
    except OSError as error:  # before ValueError: a certificate error is both
        raise ConnectionFailed(Reason("network", None, str(error) or repr(error))) from error
    except (InvalidURI, InvalidProxy, ValueError, TypeError) as error:
        raise ConnectionFailed(Reason("invalid", None, str(error))) from error
    except (EOFError, WebSocketException) as error:
        raise ConnectionFailed(Reason("network", None, str(error) or repr(error))) from error
    if ws.subprotocol != SUBPROTOCOL:
        ws.transport.abort()
        await ws.wait_closed()
        raise ConnectionFailed(Reason("network", None, f"the server doesn't support {SUBPROTOCOL}"))
    return ws


class Connection:
    """
    Reads and writes frames, and detects a dead connection.

    Args:
        ws: The open socket.
        timings: The time limits, in seconds.
        now: Returns the time in seconds.
    """

    def __init__(self, ws: ClientConnection, timings: Timings, now: Callable[[], float] = clock) -> None:
        self._ws = ws
        self._timings = timings
        self._now = now
        self._opened_at = self._received_at = now()
        self._is_reading = True
        # Set by the server's hello.
        self.hello_at: float | None = None
        self.max_payload: int | None = None
        self._heartbeat: float | None = None
        self._dead_after: float | None = None
        self._got_hello = asyncio.Event()
        # The deadline for the answer to our ping. None if there is no ping.
        self._probe_until: float | None = None
        # The reason, if this side ended the connection.
        self._reason: Reason | None = None
        # Held while a frame is written. A task that holds it may write several frames in a row.
        self.write_lock = asyncio.Lock()
        # The latest frame for each key while the socket is congested, and whether the frame outlives this connection.
        self._latest: dict[tuple[str, str], tuple[str, bool]] = {}

    @property
    def open_for(self) -> float | None:
        """Seconds since the server's hello. None if there was no hello."""
        return None if self.hello_at is None else self._now() - self.hello_at

    def note_hello(self, data: Mapping[str, Any]) -> None:
        """Record the parameters in the server's hello."""
        self.hello_at = self._now()
        heartbeat, timeout = data.get("heartbeat"), data.get("heartbeat_timeout")
        if isinstance(heartbeat, int | float) and isinstance(timeout, int | float):
            self._heartbeat, self._dead_after = heartbeat, heartbeat + timeout
        if self._timings.dead_after is not None:
            self._dead_after = self._timings.dead_after
        largest = data.get("max_payload")
        self.max_payload = largest if isinstance(largest, int) else None
        self._got_hello.set()

    # Reading.

    async def read(self) -> str:
        """
        Return the text of the next frame.

        Raises:
            ConnectionFailed: The connection has ended.
        """
        try:
            text = await self._ws.recv(decode=True)
        except ConnectionClosed as error:
            raise ConnectionFailed(self._reason or _reason_of(error)) from None
        self._received_at = self._now()
        self._probe_until = None
        return text

    @contextlib.contextmanager
    def reading_paused(self) -> Iterator[None]:
        """A context in which silence of the server doesn't count, because the socket isn't read."""
        self._is_reading = False
        try:
            yield
        finally:
            self._is_reading = True
            self._received_at = self._now()

    # Writing.

    def check(self, size: int) -> None:
        """Raise PayloadTooLarge if a frame has more bytes than the server accepts."""
        if self.max_payload is not None and size > self.max_payload:
            raise PayloadTooLarge(f"the frame has {size} bytes; the server accepts at most {self.max_payload}")

    async def write(self, text: str, on_write: Callable[[], object] | None = None) -> None:
        """
        Write a frame, waiting for room in the socket.

        Args:
            text: The frame.
            on_write: Called just before the frame is written.

        Raises:
            NotSent: The connection ended before the frame was written.
            ConnectionFailed: The connection ended. The frame may or may not have been sent.
        """
        async with self.write_lock:
            await self.write_locked(text, on_write)
            # Frames that other tasks stored in the meantime, while this task waited for the socket.
            while self._latest and self._is_open:
                latest, _ = self._latest.pop(next(iter(self._latest)))
                await self.write_locked(latest)

    async def write_latest(self, key: tuple[str, str], text: str, *, outlives_connection: bool) -> bool:
        """
        Write a frame, or store it as the latest for its key while the socket is congested.

        Args:
            key: The event's wire name, and the ``volatile`` key that was passed to ``send()``.
            text: The frame.
            outlives_connection: Whether the stored frame may be sent on a later connection.

        Returns:
            Whether the frame was written.
        """
        if self.write_lock.locked():
            self._latest[key] = text, outlives_connection
            return False
        await self.write(text)
        return True

    def pop_latest(self) -> dict[tuple[str, str], tuple[str, bool]]:
        """Remove and return the frames that ``write_latest`` stored: text and ``outlives_connection``, by key."""
        kept, self._latest = self._latest, {}
        return kept

    async def write_locked(self, text: str, on_write: Callable[[], object] | None = None) -> None:
        """Write a frame. The caller holds ``write_lock``. Arguments and errors are those of ``write()``."""
        is_open = self._is_open
        if is_open and on_write is not None:
            on_write()
        try:
            await self._ws.send(text)
        except ConnectionClosed as error:
            raise (ConnectionFailed if is_open else NotSent)(self._reason or _reason_of(error)) from None

    @property
    def _is_open(self) -> bool:
        return self._ws.state is SocketState.OPEN

    # Ending.

    def drop(self, reason: Reason) -> None:
        """Abort the connection without a close frame."""
        self._reason = self._reason or reason
        self._ws.transport.abort()

    async def close(self) -> None:
        """Close the connection with a closing handshake. Return when the socket is closed."""
        try:
            await self._ws.close()
        finally:
            await self.abort()

    async def abort(self) -> None:
        """Abort the connection. Return when the socket is closed."""
        self._ws.transport.abort()
        await self._ws.wait_closed()

    async def monitor(self) -> None:
        """
        Drop the connection when it is dead. Run this concurrently with ``read()``.

        Silence is measured by the clock, not by timers. If this process itself was suspended, silence proves nothing,
        because frames may be waiting in the socket. In that case the server is pinged first.
        """
        while True:
            due, _ = self._due()
            wait = max(0.0, min(due - self._now(), TICK))
            until = self._now() + wait
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._got_hello.wait()
                self._got_hello.clear()
                continue  # the hello arrived and set the heartbeat: compute the deadline again
            late = self._now() - until
            if late > LATE or (self._dead_after is not None and late > self._dead_after / 2):
                await self._probe()
                continue
            due, reason = self._due()
            if self._now() < due:
                continue
            if self._must_probe and self._probe_until is None:
                await self._probe()
                continue
            self.drop(reason)
            return

    @property
    def _must_probe(self) -> bool:
        """Whether the client must ping, because the server doesn't."""
        return self._ws.state is SocketState.OPEN and self.hello_at is not None and self._dead_after is None

    def _due(self) -> tuple[float, Reason]:
        """Return the time at which the connection is dropped unless a frame arrives, and the reason."""
        timings = self._timings
        if self._ws.state is not SocketState.OPEN:
            # A close frame arrived, but not the end of the TCP stream.
            return self._received_at + timings.close, Reason("network", 1006, "")
        if self.hello_at is None:
            return self._opened_at + timings.hello, Reason("timeout", None, f"no hello within {timings.hello:g} s")
        if not self._is_reading:
            return self._now() + TICK, Reason("dead")
        if self._probe_until is not None:
            return self._probe_until, Reason("dead", None, "the server didn't answer a ping")
        after = timings.idle if self._dead_after is None else self._dead_after
        return self._received_at + after, Reason("dead", None, f"the server was silent for {after:g} s")

    async def _probe(self) -> None:
        if self.hello_at is None:
            return
        patience = self._timings.idle if self._dead_after is None else self._dead_after
        if self._heartbeat is not None:
            patience = min(patience, self._heartbeat)
        if self._now() - self._received_at < patience:
            return
        self._probe_until = self._now() + self._timings.probe
        # If the write doesn't finish in time, or the connection ends, monitor() handles it at its next check.
        with contextlib.suppress(ConnectionFailed, TimeoutError):
            async with asyncio.timeout(self._timings.probe):
                await self.write(PING)


def _reason_of(error: ConnectionClosed) -> Reason:
    if error.rcvd is None:
        return Reason("network", 1006, "" if error.__cause__ is None else str(error.__cause__))
    if error.rcvd.code in {1005, 1006, 1015}:
        return Reason("network", error.rcvd.code, "")
    return Reason("server", error.rcvd.code, error.rcvd.reason)
