# ruff: noqa: S101 - these are tests
"""The store that a test suite is for, and the helpers of its tests."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, ClassVar, TypeVar
from unittest import SkipTest

from ..base import (
    PLACES,
    Change,
    Claim,
    Count,
    Join,
    LeaseLost,
    Leave,
    MemberRecord,
    NodeFacts,
    Page,
    PresenceStore,
    RoomRecord,
)

T = TypeVar("T")

SECONDS = 30.0
"""The number of seconds that a test waits for a condition."""


class StoreTests:
    """The base of the tests of presence stores."""

    short_lease: ClassVar[float] = 1.0
    """
    The lease in seconds for tests that wait for its end.

    It must be long enough for a few writes on a busy machine.
    """

    sorts_rooms: ClassVar[bool] = True
    """Whether the store returns the largest rooms first."""

    async def make_store(self, lease: float = 30.0) -> PresenceStore:
        """
        Override to return a new instance for the same backend, as another process would create it.

        The tests close it.
        """
        raise NotImplementedError("override make_store()")

    async def expire(self, store: PresenceStore, node: str) -> None:
        """Wait until the lease of a node has ended. It was begun with ``short_lease``."""
        await self.until(lambda: self.is_gone(store, node), "the lease to end")

    @contextlib.asynccontextmanager
    async def placing(self) -> AsyncIterator[PresenceStore]:
        """A store that gives places. Skips the test for any other."""
        async with self.opened() as store:
            if not store.gives_places:
                raise SkipTest(
                    "gives_places is False: the store doesn't enforce limits of connections across processes"
                )
            yield store

    def claims(self, *, replaces: bool = False) -> Callable[..., Claim]:
        """Return a function that claims one of two places of a user."""
        space = self.namespace()

        def claim(number: int, limit: int | None = 2) -> Claim:
            return Claim(space, f"{PLACES}user:ada", number, limit, replaces)

        return claim

    def leave(self, claim: Claim) -> Leave:
        return Leave(claim.namespace, claim.room, claim.connection)

    async def decide(self, store: PresenceStore, node: str, *claims: Claim) -> list[tuple[bool, tuple[str, ...]]]:
        """Return whether each claim got a place, and which connections it replaced."""
        return [(decision.is_given, decision.replaced) for decision in await store.decide(node, claims)]

    @contextlib.asynccontextmanager
    async def opened(self, lease: float = 30.0, *, ends_nodes: bool = True) -> AsyncIterator[PresenceStore]:
        """Yield a store. Afterwards, reap the nodes whose lease was begun through it, and close it."""
        store = await self.make_store(lease)
        begun = self._begun()[store] = []
        try:
            yield store
        finally:
            try:
                for node in begun if ends_nodes else ():
                    await self.remove_node(store, node)
            finally:
                await store.close()

    def _begun(self) -> dict[PresenceStore, list[str]]:
        """Return the ids of the nodes whose lease was begun, by store."""
        known: dict[PresenceStore, list[str]] = self.__dict__.setdefault("_nodes_of_stores", {})
        return known

    def node(self) -> str:
        """Return the id of a new node."""
        return secrets.token_hex(12)

    def namespace(self) -> str:
        """Return a namespace that no other test uses."""
        return f"n-{secrets.token_hex(6)}"

    async def begin(self, store: PresenceStore, facts: dict[str, Any] | None = None, id: str | None = None) -> str:
        """Begin the lease of a node. Return its id."""
        node = id or self.node()
        beat = await store.begin(NodeFacts(node, facts or {}))
        assert beat.is_alive
        assert node not in beat.expired
        self._begun()[store].append(node)
        return node

    def needs_versions(self, store: PresenceStore) -> None:
        if not store.is_versioned:
            raise SkipTest("this store doesn't have versions")

    def summary(self, changes: Iterable[Change]) -> list[tuple[str, str | None, int]]:
        """Return kind, user and connections of changes."""
        return [(change.kind, change.user_id, change.connections) for change in changes]

    async def count(self, store: PresenceStore, namespace: str, room: str = "r") -> Count:
        (found,) = await store.counts([(namespace, room)])
        return found

    async def records(self, store: PresenceStore, namespace: str, room: str = "r") -> set[MemberRecord]:
        """Return the members of a small room. Check that a page and a snapshot agree."""
        page = await store.members(namespace, room)
        snapshot = await store.snapshot(namespace, room, len(page.items))
        assert page.next is None
        assert Counter(page.items) == Counter(snapshot.members)
        return set(page.items)

    async def members(self, store: PresenceStore, namespace: str, room: str = "r") -> dict[str | None, int]:
        """Return the number of connections of each member of a small room."""
        return {member.user_id: member.connections for member in await self.records(store, namespace, room)}

    async def rooms(self, store: PresenceStore, namespace: str, *, limit: int = 500) -> list[RoomRecord]:
        """Return all rooms. Check that their counts are those of counts()."""
        found = await self.pages(store.rooms, namespace, limit=limit)
        assert await store.counts([(namespace, record.room) for record in found]) == [record.count for record in found]
        return found

    async def pages(
        self,
        read: Callable[..., Awaitable[Page[T]]],
        *args: Any,
        between: Callable[[int], Awaitable[None]] | None = None,
        **options: Any,
    ) -> list[T]:
        """Return the items of all pages. ``between`` is called after each page with its number."""
        found: list[T] = []
        cursor: str | None = None
        for step in range(1000):
            page = await read(*args, cursor=cursor, **options)
            found += page.items
            cursor = page.next
            if cursor is None:
                return found
            if between is not None and step < 20:
                await between(step)
        raise AssertionError("the pages never end")

    async def remove_node(self, store: PresenceStore, node: str) -> list[Change]:
        """Reap a node. Return the changes."""
        return [change async for changes in store.reap(node) for change in changes]

    async def is_gone(self, store: PresenceStore, node: str) -> bool:
        return node not in {record.id for record in await store.nodes()}

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        """Wait until the condition is true. Fail after SECONDS."""
        deadline = time.monotonic() + SECONDS
        while not await condition():
            assert time.monotonic() < deadline, f"waited {SECONDS:g} s for {what}"
            await asyncio.sleep(0.05)

    async def assert_fenced(
        self, store: PresenceStore, node: str, operations: list[Join] | list[Leave] | None = None
    ) -> None:
        """Check that a node can't write, and that the attempt has no effect."""
        space = self.namespace()
        try:
            await store.apply(node, operations or [Join(space, "late", 1, "zombie")])
        except LeaseLost:
            assert await self.count(store, space, "late") == Count(0, 0, 0)
        else:
            raise AssertionError(f"{node} was allowed to write")

    def assert_all_consistent(self, changes: list[Change]) -> None:
        """Check the changes of several rooms, which must end up empty. See assert_consistent()."""
        for room in {change.room for change in changes}:
            self.assert_consistent([change for change in changes if change.room == room], set())

    def assert_consistent(self, changes: list[Change], members: set[str | None]) -> None:
        """Check that the changes of one room have contiguous versions and result in ``members``."""
        present: set[str | None] = set()
        version = 0
        for change in sorted(changes, key=lambda change: change.version):
            if present:
                assert change.version == version + 1, f"{change} after version {version}"
            assert change.version > version
            version = change.version
            assert (change.user_id in present) == (change.kind != "joined"), f"{change}, members: {present}"
            if change.kind == "left":
                present.remove(change.user_id)
            else:
                present.add(change.user_id)
        assert present == members
