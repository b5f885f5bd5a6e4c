"""The random ids of publications that are kept in history. Several are made at a time, with one system call."""

from __future__ import annotations

import secrets

from .forks import after_fork_in_child

BYTES = 8
"""The random bytes of an id."""

MADE = 64
"""The number of ids that are made at a time."""

# Ids that weren't given out yet. Threads share the list: pop() and extend() are atomic.
_ids: list[str] = []

# A child must not give out the ids of its parent.
after_fork_in_child(_ids.clear)


def new_id() -> str:
    """Return a random id, as hexadecimal digits. No other call returns it, in any process."""
    try:
        return _ids.pop()
    except IndexError:
        digits, length = secrets.token_hex(BYTES * MADE), 2 * BYTES
        first, *others = (digits[start : start + length] for start in range(0, len(digits), length))
        _ids.extend(others)
        return first
