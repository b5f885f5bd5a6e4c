"""
The names of keys in a cache.

Names are hashed: memcached refuses spaces, control characters and long keys. What is in the values says what they are.
"""

from __future__ import annotations

import hashlib

from .documents import as_bytes

Place = tuple[str, str]
"""Namespace and room."""


class Keys:
    """
    The names of keys.

    Args:
        slots: how many nodes there can be.
    """

    def __init__(self, prefix: str, slots: int) -> None:
        # With the number of the format, so that processes of two versions do not read each other.
        self._prefix = f"{prefix}.presence.1"
        # Of the numbered slots: each has the id of a node.
        self.slots = [f"{self._prefix}.slot.{number}" for number in range(slots)]
        # A random word, another one whenever a slot was claimed.
        self.word = f"{self._prefix}.word"

    # Of a node.

    def lease(self, node: str) -> str:
        """When it ends, and what the node says of itself."""
        return f"{self._node(node)}.lease"

    def dead(self, node: str) -> str:
        """There is something once the node was reaped."""
        return f"{self._node(node)}.dead"

    def claim(self, node: str) -> str:
        """Who reaps it."""
        return f"{self._node(node)}.claim"

    # Of documents of a node.

    def index(self, node: str) -> str:
        """Its rooms."""
        return f"{self._node(node)}.index"

    def room(self, node: str, place: Place) -> str:
        """Who is in a room."""
        namespace, room = place
        return f"{self._node(node)}.room.{_hash(f'{len(namespace)}.{namespace}{room}')}"

    def details(self, node: str, namespace: str) -> str:
        """What operators see of its connections to a namespace."""
        return f"{self._node(node)}.details.{_hash(namespace)}"

    def _node(self, node: str) -> str:
        return f"{self._prefix}.{_hash(node)}"


def _hash(name: str) -> str:
    return hashlib.blake2b(as_bytes(name), digest_size=16).hexdigest()
