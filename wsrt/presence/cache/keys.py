"""
The cache keys of presence.

Ids and names are hashed, as memcached rejects spaces, control characters and long keys. The values contain the plain
names.
"""

from __future__ import annotations

import hashlib

from ...realms import RoomId
from ...stores.names import as_bytes


class Keys:
    """
    The cache keys of one store.

    Args:
        prefix: The beginning of all keys.
        slots: The largest number of nodes at a time.
    """

    def __init__(self, prefix: str, slots: int) -> None:
        # Contains the version of the format: processes with different formats don't read each other's values.
        self._prefix = f"{prefix}.presence.1"
        # One key for each numbered slot. Its value is the id of the node that claimed the slot.
        self.slots = [f"{self._prefix}.slot.{number}" for number in range(slots)]
        # A random value, replaced whenever a slot is claimed. Readers scan the slots again when it changes.
        self.generation = f"{self._prefix}.word"

    # Keys of a node.

    def lease(self, node: str) -> str:
        """Return the key of the node's lease: its end, and the node's facts."""
        return f"{self._node(node)}.lease"

    def dead(self, node: str) -> str:
        """Return the key that is set when the node is reaped. While it exists, the node must not write."""
        return f"{self._node(node)}.dead"

    def claim(self, node: str) -> str:
        """Return the key of the claim on reaping the node. Its value identifies the reaper."""
        return f"{self._node(node)}.claim"

    # Keys of a node's paged documents.

    def index(self, node: str) -> str:
        """Return the key of the document that lists the node's rooms, with the users and connections in each."""
        return f"{self._node(node)}.index"

    def room(self, node: str, room_id: RoomId) -> str:
        """Return the key of the document with the members of a room on the node."""
        namespace, room = room_id
        return f"{self._node(node)}.room.{_hash(f'{len(namespace)}.{namespace}{room}')}"

    def details(self, node: str, namespace: str) -> str:
        """Return the key of the document with the details of the node's connections to a namespace."""
        return f"{self._node(node)}.details.{_hash(namespace)}"

    def _node(self, node: str) -> str:
        return f"{self._prefix}.{_hash(node)}"


def _hash(name: str) -> str:
    return hashlib.blake2b(as_bytes(name), digest_size=16).hexdigest()
