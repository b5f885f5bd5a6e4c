"""The connection: one socket, from its handshake to its end."""

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
"""What a subprotocol consists of (RFC 9110, 5.6.2)."""

LATE = 1.0
"""A timer that comes this many seconds late tells of our own standstill, not of the server's."""

TICK = 5.0
"""Seconds between two looks at the clock. Timers stand still while a computer sleeps, the clock does not."""

MAX_SIZE = 16 * 1024 * 1024
"""Bytes of the largest frame that is taken; events have at most 1 MiB, who is in a large room may be more."""


def clock() -> float:
    """Return seconds of a clock that goes on while the computer sleeps, where there is one."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class ConnectionFailed(Exception):
    """There is no connection, or no longer."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(str(reason))
        self.reason = reason


class NotSent(ConnectionFailed):
    """The connection ended before it was the frame's turn: nothing of it was written."""


@dataclasses.dataclass(frozen=True, slots=True)
class Handshake:
    """What a handshake consists of."""

    url: str
    subprotocols: Sequence[str] = ()
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    origin: str | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


async def dial(offer: Handshake, timings: Timings, limits: Limits) -> ClientConnection:
    """
    Open a socket.

    Raises:
        Failed: it could not be opened.
    """
    if not all(SUBPROTOCOL_NAME.fullmatch(name) for name in offer.subprotocols):
        # Not repeated: it may be a token.
        raise ConnectionFailed(
            Reason(
                "invalid", None, "a subprotocol, or the token, has characters that none has: encode it, as base64url"
            )
        )
    options: dict[str, Any] = {
        # Frames that are not compressed take the server's shortest way.
        "compression": None,
        "max_size": MAX_SIZE,
        **offer.options,
    }
    try:
        async with asyncio.timeout(timings.connect):
            ws = await connect(
                offer.url,
                subprotocols=[Subprotocol(name) for name in (SUBPROTOCOL, *offer.subprotocols)],
                additional_headers=dict(offer.headers),
                origin=None if offer.origin is None else Origin(offer.origin),
                open_timeout=None,
                # The heartbeat is wsrt's.
                ping_interval=None,
                close_timeout=timings.close,
                write_limit=limits.buffer_bytes,
                **options,
            )
    except TimeoutError:
        raise ConnectionFailed(Reason("timeout", None, f"no answer within {timings.connect:g} s")) from None
    except InvalidStatus as error:
        raise ConnectionFailed(Reason("network", None, f"HTTP {error.response.status_code}")) from None
    except OSError as error:  # before ValueError: a certificate that does not fit is both
        raise ConnectionFailed(Reason("network", None, str(error) or repr(error))) from error
    except (InvalidURI, InvalidProxy, ValueError, TypeError) as error:
        raise ConnectionFailed(Reason("invalid", None, str(error))) from error
    except (EOFError, WebSocketException) as error:
        raise ConnectionFailed(Reason("network", None, str(error) or repr(error))) from error
    if ws.subprotocol != SUBPROTOCOL:
        ws.transport.abort()
        await ws.wait_closed()
        raise ConnectionFailed(Reason("network", None, f"the server did not choose {SUBPROTOCOL}"))
    return ws


class Connection:
    """
    Reads and writes frames, and finds out when nobody is there any more.

    Args:
        ws: the socket, open.
        now: the clock.
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
        # When a ping of ours is given up. None while there is none.
        self._probe_until: float | None = None
        # Set by whoever ends the connection from this side.
        self._reason: Reason | None = None
        # One frame at a time; who holds it may write several in a row.
        self.write_lock = asyncio.Lock()
        # Frames of which only the latest counts, by key, while the socket takes no more; and whether they may wait for
        # another connection.
        self._latest: dict[tuple[str, str], tuple[str, bool]] = {}

    @property
    def open_for(self) -> float | None:
        """Seconds since the server's hello; None if it has not come."""
        return None if self.hello_at is None else self._now() - self.hello_at

    def note_hello(self, data: Mapping[str, Any]) -> None:
        """Note what the server said of itself."""
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
        Return the next frame.

        Raises:
            Failed: the connection has ended.
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
        """Within, silence is our own."""
        self._is_reading = False
        try:
            yield
        finally:
            self._is_reading = True
            self._received_at = self._now()

    # Writing.

    def check(self, size: int) -> None:
        """Raise PayloadTooLarge for a frame of more bytes than the server takes."""
        if self.max_payload is not None and size > self.max_payload:
            raise PayloadTooLarge(f"the frame has {size} bytes, the server takes {self.max_payload}")

    async def write(self, text: str, on_write: Callable[[], object] | None = None) -> None:
        """
        Write a frame, once the socket takes it.

        Args:
            on_turn: called when it is written, not before.

        Raises:
            Unsent: the connection has ended, and the frame was not sent.
            Failed: the connection has ended; the frame may have been sent, or not.
        """
        async with self.write_lock:
            await self.write_locked(text, on_write)
            while self._latest and self._is_open:
                latest, _ = self._latest.pop(next(iter(self._latest)))
                await self.write_locked(latest)

    async def write_latest(self, key: tuple[str, str], text: str, *, outlives_connection: bool) -> bool:
        """
        Write a frame; where the socket takes no more, keep it in place of the one with its key. Return which.

        Args:
            is_patient: whether it may wait for another connection.
        """
        if self.write_lock.locked():
            self._latest[key] = text, outlives_connection
            return False
        await self.write(text)
        return True

    def pop_latest(self) -> dict[tuple[str, str], tuple[str, bool]]:
        """Take out what ``write_latest`` has kept and the socket did not take: text and patience, by key."""
        kept, self._latest = self._latest, {}
        return kept

    async def write_locked(self, text: str, on_write: Callable[[], object] | None = None) -> None:
        """Write a frame; the caller holds ``turn``. Arguments and errors are those of ``write``."""
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
        """End the connection without a word: nobody would hear it."""
        self._reason = self._reason or reason
        self._ws.transport.abort()

    async def close(self) -> None:
        """End it as it should be ended; returns when the socket is gone."""
        try:
            await self._ws.close()
        finally:
            await self.abort()

    async def abort(self) -> None:
        """Return when the socket is gone."""
        self._ws.transport.abort()
        await self._ws.wait_closed()

    async def monitor(self) -> None:
        """
        Drop the connection when nobody is there any more; run it beside ``read()``.

        Silence is told from times, not from timers. Where this process stood still itself, silence proves nothing:
        what the server sent meanwhile waits in the socket. Then it is asked first.
        """
        while True:
            due, _ = self._due()
            wait = max(0.0, min(due - self._now(), TICK))
            until = self._now() + wait
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._got_hello.wait()
                self._got_hello.clear()
                continue  # the server has said what to wait for
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
        """Whether nobody but us would find out that an open link is dead: the server sends no pings."""
        return self._ws.state is SocketState.OPEN and self.hello_at is not None and self._dead_after is None

    def _due(self) -> tuple[float, Reason]:
        """Return when the connection is given up unless something comes, and why."""
        timings = self._timings
        if self._ws.state is not SocketState.OPEN:
            # A close frame came, and the end of the stream did not.
            return self._received_at + timings.close, Reason("network", 1006, "")
        if self.hello_at is None:
            return self._opened_at + timings.hello, Reason("timeout", None, f"no hello within {timings.hello:g} s")
        if not self._is_reading:
            return self._now() + TICK, Reason("dead")
        if self._probe_until is not None:
            return self._probe_until, Reason("dead", None, "our ping was not answered")
        after = timings.idle if self._dead_after is None else self._dead_after
        return self._received_at + after, Reason("dead", None, f"silent for {after:g} s")

    async def _probe(self) -> None:
        if self.hello_at is None:
            return
        patience = self._timings.idle if self._dead_after is None else self._dead_after
        if self._heartbeat is not None:
            patience = min(patience, self._heartbeat)
        if self._now() - self._received_at < patience:
            return
        self._probe_until = self._now() + self._timings.probe
        # A socket that takes nothing for so long is as good as dead: the next look at the clock says so.
        with contextlib.suppress(ConnectionFailed, TimeoutError):
            async with asyncio.timeout(self._timings.probe):
                await self.write(PING)


def _reason_of(error: ConnectionClosed) -> Reason:
    if error.rcvd is None:
        return Reason("network", 1006, "" if error.__cause__ is None else str(error.__cause__))
    if error.rcvd.code in {1005, 1006, 1015}:
        return Reason("network", error.rcvd.code, "")
    return Reason("server", error.rcvd.code, error.rcvd.reason)
