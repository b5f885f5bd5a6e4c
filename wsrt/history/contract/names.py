# ruff: noqa: S101 - these are tests
"""Names and data of any kind, the options of a store, and closing it."""

from __future__ import annotations

import secrets
from typing import Any

from ...stores.nasty_names import NASTY_NAMES
from ..base import Append
from .support import EVERYTHING, StoreTests


class NameTests(StoreTests):
    """Names and data of any kind."""

    # Names.

    async def test_nasty_names(self) -> None:
        """Rooms and realms with any names don't collide, whatever their idempotency keys; all is read unchanged."""
        async with self.opened() as store:
            realm = secrets.token_hex(4)
            rooms = [(realm + one, other) for one in NASTY_NAMES for other in NASTY_NAMES]
            await store.append(
                [Append(room, room[0], room[1], room[0] + room[1], idempotency_key="k") for room in rooms]
            )
            for room in rooms[:: len(NASTY_NAMES) - 1]:
                (entry,) = (await self.everything(store, room)).entries
                assert (entry.offset, entry.id, entry.event) == (1, *room)
                assert entry.data == room[0] + room[1]
            found = await store.positions(rooms)
            assert [(last.position.offset, last.id) for last in found] == [(1, room[0]) for room in rooms]

    async def test_nasty_keys(self) -> None:
        """Keys of values may be any strings, and so may idempotency keys."""
        async with self.opened() as store:
            room = self.room()
            publications = [self.publication(room, key=name, idempotency_key=name, data=name) for name in NASTY_NAMES]
            assert not any(result.is_repeat for result in await store.append(publications))
            assert all(result.is_repeat for result in await store.append(publications))
            found = (await store.values(room, **EVERYTHING)).entries
            assert [(entry.key, entry.data) for entry in found] == [(name, name) for name in NASTY_NAMES]
            for offset, name in enumerate(NASTY_NAMES, 1):
                assert await store.forget(room, key=name) == [offset]

    async def test_large_data(self) -> None:
        """Publications may be large, as may be all those of one call together."""
        async with self.opened() as store:
            room = self.room()
            await store.append([self.publication(room, data="é" * 50_000) for _ in range(20)])
            found = await self.everything(store, room)
            assert {entry.data for entry in found.entries} == {"é" * 50_000}
            assert self.offsets(found) == list(range(1, 21))

    # Opening and closing.

    async def test_close(self) -> None:
        """After close(), the next call opens connections again."""
        async with self.opened() as store:
            room = self.room()
            await self.append(store, room, 1)
            await store.close()
            await self.append(store, room, 1)
            assert self.offsets(await self.everything(store, room)) == [1, 2]

    async def test_options(self) -> None:
        """Options that don't exist, or have values that aren't valid, are refused when the store is made."""
        for options in ({"size": 0}, {"seconds": 0}, {"values": -1}, {"value_seconds": 1}, {"idempotency": "x"}):
            await self.assert_refused(options)
        await self.assert_refused({"colour": 1})

    async def assert_refused(self, options: dict[str, Any]) -> None:
        try:
            store = await self.make_store(**options)
        except (TypeError, ValueError):
            return
        await store.close()
        raise AssertionError(f"the store accepted the invalid options {options}")
