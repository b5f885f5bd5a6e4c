"""Commands in the form that Redis reads. redis-py's own way to this form costs several times as much."""

from __future__ import annotations

from ..names import as_bytes

LENGTHS = [b"$%d\r\n" % length for length in range(512)]
"""How byte strings begin in a command, by their length. Most are short."""


def pack(*command: str | bytes | int) -> bytes:
    """Return a command: an array of byte strings. Strings may be any, also those that UTF-8 can't encode."""
    parts = [b"*%d\r\n" % len(command)]
    for part in command:
        if isinstance(part, str):
            data = as_bytes(part)
        elif isinstance(part, int):
            data = b"%d" % part
        else:
            data = part
        length = len(data)
        parts += (LENGTHS[length] if length < len(LENGTHS) else b"$%d\r\n" % length, data, b"\r\n")
    return b"".join(parts)
