"""The events of the panel next to the chat."""

from __future__ import annotations

from wsrt import Event


class ServedBy(Event, name="demo.served_by"):
    """The server process that holds the connection."""

    name: str
    pid: int
    port: int


class BeSlow(Event, name="demo.be_slow"):
    """Sent by a client that wants to be treated as if it read slowly."""


class Tick(Event, name="demo.tick"):
    """Sent to a slow client, faster than it reads."""

    number: int
