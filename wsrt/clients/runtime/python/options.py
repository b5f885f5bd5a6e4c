"""The numeric options of a client: timings and limits."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Timings:
    """
    The timings of a client, in seconds.

    Attributes:
        base, cap, minimum: The delay before a retry is ``minimum + random(0, min(cap, base * 2 ** (attempt - 1)))``.
        jump: After the network lost an open connection, the delay before the first retry is ``random(0, jump)``.
        later: Added to the delay after a close whose rule is LATER, such as 4429.
        spread: The window for reconnecting after a server shutdown, if ``wsrt.closing`` named no delay.
        stable: How long a connection must stay open before attempts are counted from 1 again.
        renew: A token is renewed over the open connection between once and twice this time before it expires. A token
            that is valid for less than four times this time is renewed after half to three quarters of its validity.
        connect: How long requesting a token may take, and then opening a socket.
        hello: How long the client waits for ``wsrt.hello``, the server's first frame, after the socket was opened.
        dead_after: How long the server may be silent before the connection is considered dead. None for the sum of
            ``heartbeat`` and ``heartbeat_timeout`` in ``wsrt.hello``.
        idle: If the server sends no pings: the silence after which the client sends one.
        probe: How long the client waits for the answer to its ping.
        close: How long the client waits for the server's answer to its close frame.
    """

    base: float = 0.5
    cap: float = 20.0
    minimum: float = 0.2
    jump: float = 0.5
    later: float = 5.0
    spread: float = 5.0
    stable: float = 10.0
    renew: float = 60.0
    connect: float = 5.0
    hello: float = 15.0
    dead_after: float | None = None
    idle: float = 25.0
    probe: float = 3.0
    close: float = 2.0


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """
    The limits of a client.

    Attributes:
        queue_items, queue_bytes: The maximum number of frames that wait for a connection, and of their bytes in UTF-8.
        queue_age: How long a frame may wait for a connection, in seconds.
        request_timeout: How long a request waits for its answer, in seconds, unless it sets its own timeout.
        buffer_bytes: The number of unsent bytes in the socket above which nothing more is written.
        inbox: The number of events that may wait for slow handlers. Above it the socket isn't read, except while a
            request waits for its answer or an event waits for the socket: a handler may be waiting for exactly that.
    """

    queue_items: int = 100
    queue_bytes: int = 65_536
    queue_age: float = 30.0
    request_timeout: float = 10.0
    buffer_bytes: int = 1_048_576
    inbox: int = 1000
