"""Membership: the groups of the backplane that are held for one connection, and its user."""

from __future__ import annotations

from collections.abc import Callable

from .addresses import group_name
from .delivery.connection import Connection
from .node import Node


class Membership:
    """
    What one connection holds of its node.

    Args:
        alias: the channel layer.
        is_open: whether the connection still takes part.
    """

    def __init__(self, node: Node, alias: str, connection: Connection, is_open: Callable[[], bool]) -> None:
        self._node = node
        self._alias = alias
        self._connection = connection
        self._is_open = is_open
        self._groups: set[str] = set()
        # Nothing is taken any more: nobody would give it back.
        self._is_over = False

    async def enter(self) -> None:
        """Become one of everyone. Raises BackplaneUnavailable."""
        await self.hold("everyone", "")
        if self._is_open():
            self._node.hub.add(self._connection)

    async def hold(self, kind: str, name: str) -> bool:
        """
        Be in a group while this connection lasts; return whether it still does.

        Raises:
            BackplaneUnavailable: the layer did not take it.
        """
        backplane = self._node.backplane(self._alias)
        group = group_name(kind, self._connection.namespace, name)
        if backplane is None or group in self._groups:
            return self._is_open()
        await backplane.acquire(group)
        if self._is_over or group in self._groups:
            # It ended meanwhile, or was asked for twice at a time.
            backplane.release(group)
        else:
            self._groups.add(group)
        return self._is_open()

    def drop(self, kind: str, name: str) -> None:
        """Give a group back."""
        self._release(group_name(kind, self._connection.namespace, name))

    async def bind(self, user_id: str | None) -> None:
        """Belong to a user; None for nobody. Raises BackplaneUnavailable."""
        before = self._connection.user_id
        if user_id == before:
            return
        if user_id is not None:
            await self.hold("user", user_id)
        if self._is_open():
            self._node.hub.bind(self._connection, user_id)
        if before is not None:
            self.drop("user", before)

    def end(self) -> None:
        """Leave the hub and give everything back."""
        self._is_over = True
        self._node.hub.remove(self._connection)
        for group in list(self._groups):
            self._release(group)

    def _release(self, group: str) -> None:
        if group in self._groups:
            self._groups.discard(group)
            backplane = self._node.backplane(self._alias)
            if backplane is not None:
                backplane.release(group)
