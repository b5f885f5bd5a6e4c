"""The keys by which one connection holds its rooms."""

from __future__ import annotations

import enum

from ..exceptions import InvalidKey, TooManyKeys
from ..metrics import counters

MAX_KEYS = 100
"""How many keys of one connection may hold one room. Applications may take keys from clients, so there is a limit."""

MAX_KEY_LENGTH = 255
"""The maximum length of a key, in characters."""


class OwnKey(enum.Enum):
    """wsrt's own keys. None of them equals a key of an application."""

    SUBSCRIPTION = "the client's subscription"


SUBSCRIPTION = OwnKey.SUBSCRIPTION
"""The key by which a client's subscription holds a room."""

Key = str | OwnKey | None
"""A key, or None for a join without a key, which is independent of those with a key."""


def check_key(key: object) -> str | None:
    """
    Return a key that was passed to ``join`` or ``leave``.

    Raises:
        TypeError: It isn't a string or None.
        InvalidKey: It is longer than MAX_KEY_LENGTH characters.
    """
    if key is None:
        return None
    if not isinstance(key, str):
        raise TypeError(f"key must be a str or None, not {type(key).__name__}; convert it with str()")
    if len(key) > MAX_KEY_LENGTH:
        raise InvalidKey(MAX_KEY_LENGTH)
    return str.__str__(key)  # for a member of an enumeration its value


class Holds:
    """The keys of one connection, by room. A connection is in a room while at least one key holds it."""

    def __init__(self) -> None:
        self._keys: dict[str, set[Key]] = {}

    def require_space(self, room: str, key: Key, joining: set[Key]) -> None:
        """
        Check that a key may hold a room.

        Args:
            room: The name of the room.
            key: The key.
            joining: The keys whose joins of the room are under way.

        Raises:
            TooManyKeys: MAX_KEYS keys hold or join the room already.
        """
        if len({key, *joining, *self._keys.get(room, ())}) > MAX_KEYS:
            counters.count("keys_over_limit")
            raise TooManyKeys(MAX_KEYS)

    def add(self, room: str, key: Key) -> None:
        """Record that a key holds a room."""
        self._keys.setdefault(room, set()).add(key)

    def release(self, room: str, key: Key) -> bool:
        """Record that a key no longer holds a room. Return whether it was the last one that did."""
        keys = self._keys.get(room, set())
        if key not in keys:
            return False
        keys.discard(key)
        if not keys:
            del self._keys[room]
        return not keys

    def forget(self, room: str) -> None:
        """Record that no key holds a room."""
        self._keys.pop(room, None)
