"""Frames that are published to a connection while its permissions are being checked again."""

from __future__ import annotations

from ..addresses import Audience
from ..protocol.frame import Frame
from .outbox import Outbox


class Withheld:
    """
    Frames in the order in which they were published, each with its audience.

    The audience is needed when the frames are released: a frame for a room that the connection had to leave in the
    meantime is dropped, but not a frame for its user. The limits are those of the outbox.

    Args:
        outbox: The outbox of the connection.
    """

    __slots__ = ("_outbox", "_size", "items")

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._size = 0
        self.items: list[tuple[Audience, Frame]] = []

    def put(self, audience: Audience, frame: Frame) -> None:
        """Keep a frame. Beyond the limits, the connection is closed like one that reads too slowly."""
        self.items.append((audience, frame))
        self._size += frame.size
        limits = self._outbox.limits
        if len(self.items) > limits.outbox_frames or self._size > limits.outbox_bytes:
            self._outbox.overflow()
