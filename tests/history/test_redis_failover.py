"""A Redis that fails over and has lost writes: those whose positions are ahead are told so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.processes import RedisServer
from tests.support.redis import MasterServer, ReplicaServer, SentinelServer, copied, say
from tests.support.waiting import aeventually
from wsrt.exceptions import StoreUnavailable
from wsrt.history.base import Append, Reading
from wsrt.history.redis import RedisHistory
from wsrt.types import Position

ROOM = "chat", "a"


@pytest.fixture
def master() -> Iterator[MasterServer]:
    with MasterServer() as server:
        yield server


@pytest.fixture
def replica(master: RedisServer) -> Iterator[ReplicaServer]:
    with ReplicaServer(master) as server:
        yield server


def publications(*ids: str) -> list[Append]:
    return [Append(ROOM, its_id, "said", "{}") for its_id in ids]


async def test_failover_that_lost_writes(master: RedisServer, replica: ReplicaServer) -> None:
    """Acknowledged publications that the new master doesn't have are a gap, until the room gets a new epoch."""
    with SentinelServer(master) as sentinel:
        store = RedisHistory(f"redis://{sentinel.SERVICE}", sentinels=[("127.0.0.1", sentinel.port)], timeout=2)
        other = RedisHistory(f"redis://127.0.0.1:{replica.port}")
        (kept,) = await store.append(publications("kept"))
        await copied(master)
        # The replica is cut off, and may not copy again.
        say(master.port, "ACL SETUSER default -psync -sync")
        say(master.port, "CLIENT KILL TYPE replica")
        *_, ahead = await store.append(publications("lost1", "lost2"))
        assert ahead.position == Position(kept.position.epoch, 3)
        master.kill()
        found: list[Reading] = []

        async def is_back() -> bool:
            try:
                found.append(await store.read(ROOM, ahead.position, limit=100, max_bytes=1000))
            except StoreUnavailable:
                return False
            return True

        await aeventually(is_back)
        assert (found[-1].gap, found[-1].position, found[-1].start) == ("epoch", kept.position, 0)
        assert [entry.id for entry in found[-1].entries] == ["kept"]
        # Offsets are given out again, to other publications; their ids say so.
        *_, again = await store.append(publications("new1", "new2"))
        assert again.position == ahead.position
        renewed = await store.renew(ROOM, ahead.position.epoch)
        assert renewed.offset == 0
        for reader in (store, other):
            assert (await reader.read(ROOM, ahead.position, limit=100, max_bytes=1000)).gap == "epoch"
        await other.close()
        await store.close()
