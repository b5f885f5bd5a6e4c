"""An encoded message, and its bytes on the wire (RFC 6455)."""

from __future__ import annotations

import zlib

from ..addresses import Audience
from ..types import Overflow

__all__ = ["Frame"]

FINAL_TEXT = 0x81
"""The first byte of an unfragmented text message."""

COMPRESSED = 0x40
"""RSV1, in the first byte."""


class Frame:
    """
    One encoded message, made once and handed to every recipient.

    Attributes:
        text: what goes on the wire.
        size: its length in bytes of UTF-8.
        overflow: what happens for a client that is behind.
        key: with "latest", what tells one waiting frame from another; else None.
        audience: to whom it was published, which the hub knows that delivers it; else None.
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
        # By the bits of the window.
        self._deflated: dict[int, bytes] | None = None

    @property
    def payload(self) -> bytes:
        """The text in UTF-8, made once."""
        payload = self._payload
        if payload is None:
            payload = self._payload = self.text.encode()
        return payload

    @property
    def framed(self) -> bytes:
        """The message as it stands on the wire where no extension was negotiated (RFC 6455, 5.2), made once."""
        framed = self._framed
        if framed is None:
            framed = self._framed = _head(FINAL_TEXT, self.size) + self.payload
        return framed

    def deflated(self, bits: int) -> bytes:
        """
        The message on the wire with permessage-deflate and no context take-over (RFC 7692, 7.2.1), made once.

        Args:
            bits: of the window that was negotiated, 9 to 15.
        """
        if self._deflated is None:
            self._deflated = {}
        framed = self._deflated.get(bits)
        if framed is None:
            encoder = zlib.compressobj(wbits=-bits)
            payload = encoder.compress(self.payload) + encoder.flush(zlib.Z_SYNC_FLUSH)
            # The empty block at the end is left out; whoever reads puts it there again.
            payload = payload[:-4]
            framed = self._deflated[bits] = _head(FINAL_TEXT | COMPRESSED, len(payload)) + payload
        return framed


def _head(first: int, size: int) -> bytes:
    if size < 126:
        return bytes([first, size])
    if size < 65_536:
        return bytes([first, 126]) + size.to_bytes(2, "big")
    return bytes([first, 127]) + size.to_bytes(8, "big")
