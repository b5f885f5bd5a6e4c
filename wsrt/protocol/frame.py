"""An encoded message, and its bytes on the wire (RFC 6455)."""

from __future__ import annotations

import zlib

from ..addresses import Audience
from ..types import Overflow

__all__ = ["Frame"]

FINAL_TEXT = 0x81
"""The first byte of an unfragmented text message."""

COMPRESSED = 0x40
"""The bit RSV1 of the first byte, which marks a compressed message (RFC 7692)."""


class Frame:
    """
    One encoded message, created once and passed to every recipient.

    Attributes:
        text: The payload.
        size: The length of the payload in bytes of UTF-8.
        overflow: What happens for a client that is behind.
        key: With overflow="latest", the key that identifies the waiting frame to replace; otherwise None.
        audience: The audience to which the hub delivers the frame; None if it wasn't published.
    """

    __slots__ = ("_deflated", "_framed", "_payload", "audience", "key", "overflow", "size", "text")

    def __init__(self, text: str, overflow: Overflow = "close", key: str | None = None) -> None:
        self.text = text
        self.size = len(text) if text.isascii() else len(text.encode())
        self.overflow = overflow
        self.key = key
        self.audience: Audience | None = None
        self._payload: bytes | None = None
        self._framed: bytes | None = None
        # By the size of the window, in bits.
        self._deflated: dict[int, bytes] | None = None

    @property
    def payload(self) -> bytes:
        """The text in UTF-8, encoded once."""
        payload = self._payload
        if payload is None:
            payload = self._payload = self.text.encode()
        return payload

    @property
    def framed(self) -> bytes:
        """The WebSocket frame for connections without an extension (RFC 6455, 5.2), created once."""
        framed = self._framed
        if framed is None:
            framed = self._framed = _head(FINAL_TEXT, self.size) + self.payload
        return framed

    def deflated(self, bits: int) -> bytes:
        """
        Return the WebSocket frame for permessage-deflate without context takeover (RFC 7692, 7.2.1), created once.

        Args:
            bits: The negotiated size of the window, 9 to 15 bits.
        """
        if self._deflated is None:
            self._deflated = {}
        framed = self._deflated.get(bits)
        if framed is None:
            encoder = zlib.compressobj(wbits=-bits)
            payload = encoder.compress(self.payload) + encoder.flush(zlib.Z_SYNC_FLUSH)
            # The empty block at the end is removed; the receiver appends it again (RFC 7692, 7.2.1).
            payload = payload[:-4]
            framed = self._deflated[bits] = _head(FINAL_TEXT | COMPRESSED, len(payload)) + payload
        return framed


def _head(first: int, size: int) -> bytes:
    if size < 126:
        return bytes([first, size])
    if size < 65_536:
        return bytes([first, 126]) + size.to_bytes(2, "big")
    return bytes([first, 127]) + size.to_bytes(8, "big")
