"""What is published to a connection while its permissions are being asked again."""

from __future__ import annotations

from ..addresses import Audience
from ..protocol.frame import Frame
from .outbox import Outbox


class Withheld:
    """
    Frames in the order in which they were published, with the audience that they were for.

    The audience is kept because membership decides at the end: a frame for a room that the connection had to leave
    is dropped, one for its user is not. The limits are those of the outbox.

    Args:
        outbox: of the connection.
    """

    __slots__ = ("_outbox", "_size", "items")

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._size = 0
        self.items: list[tuple[Audience, Frame]] = []

    def put(self, audience: Audience, frame: Frame) -> None:
        """Keep a frame; over the limits the connection is closed, as one that reads slowly is."""
        self.items.append((audience, frame))
        self._size += frame.size
        limits = self._outbox.limits
        if len(self.items) > limits.outbox_frames or self._size > limits.outbox_bytes:
            self._outbox.overflow()
