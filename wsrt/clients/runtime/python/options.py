"""The options of a client that are numbers: times and limits."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Timings:
    """
    Seconds.

    Attributes:
        base, cap, minimum: a retry comes after ``minimum + random(0, min(cap, base * 2 ** (attempt - 1)))``.
        jump: after an open connection was lost, the first retry comes after ``random(0, jump)``.
        later: is added where the server says that there were too many.
        spread: the window after a shutdown that hinted none.
        stable: how long a connection must be open until attempts count from 1 again.
        connect: from dialing to an open socket.
        hello: from an open socket to the server's hello.
        dead_after: silence after which a link is dead; None for what the server's hello says.
        idle: silence after which a server that sends no pings of its own gets one.
        probe: how long a ping of ours may stay unanswered.
        close: how long a server may take to answer a close.
    """

    base: float = 0.5
    cap: float = 20.0
    minimum: float = 0.2
    jump: float = 0.5
    later: float = 5.0
    spread: float = 5.0
    stable: float = 10.0
    connect: float = 5.0
    hello: float = 15.0
    dead_after: float | None = None
    idle: float = 25.0
    probe: float = 3.0
    close: float = 2.0


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """
    Limits of a client.

    Attributes:
        queue_items, queue_bytes, queue_age: frames, bytes of UTF-8, and seconds that may wait for a connection.
        request_timeout: seconds that an answer may take, where a request names none.
        buffer_bytes: unsent bytes in the socket from which on nothing more is written.
        inbox: events that may wait for slow handlers; then the socket is not read. While a request waits for its
            answer, or an event for the socket to take it, the socket is read all the same, and more may wait: a
            handler may be waiting for just that.
    """

    queue_items: int = 100
    queue_bytes: int = 65_536
    queue_age: float = 30.0
    request_timeout: float = 10.0
    buffer_bytes: int = 1_048_576
    inbox: int = 1000
