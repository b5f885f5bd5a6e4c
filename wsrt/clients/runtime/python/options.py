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
        renew: How long before a token expires it is renewed over the open connection: once to twice this time, but at
            most a quarter to a half of its whole time.
        connect: The limit for requesting a token, and for opening a socket.
        hello: The limit from an open socket to the server's hello.
        dead_after: How long the server may be silent before the connection is considered dead. None: use the times
            in the server's hello.
        idle: The silence after which a server that sends no pings is pinged.
        probe: The limit for the answer to a ping of the client.
        close: The limit for the server's answer to a close frame.
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
        queue_items, queue_bytes, queue_age: The number of frames, bytes of UTF-8, and seconds that frames may wait for
            a connection.
        request_timeout: Seconds to wait for an answer, unless the request sets its own timeout.
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
