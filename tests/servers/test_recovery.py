"""Recovery on real servers and a real Redis: whatever dies, clients get what they have missed, or are told."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from channels_redis.pubsub import RedisPubSubChannelLayer

from tests.support.client import dial, request, send
from tests.support.member import Member, Speaker
from tests.support.processes import RedisServer, Server
from tests.support.redis import MasterServer, ReplicaServer, SentinelServer, copied
from tests.support.redis import say as redis_say
from tests.support.waiting import aeventually
from wsrt.addresses import Room
from wsrt.history.redis import RedisHistory

pytestmark = pytest.mark.servers


def settings(location: str, **options: Any) -> dict[str, Any]:
    return {
        "HISTORY": {"BACKEND": "wsrt.history.redis.RedisHistory", "LOCATION": location, "OPTIONS": options},
        # The clients don't answer pings.
        "HEARTBEAT": None,
        # Beside a busy core.
        "SETUP_TIMEOUT": 60,
    }


def server(kind: str, redis: RedisServer, **more: Any) -> Server:
    return Server(
        kind,
        application="tests.apps.kept:application",
        layer="pubsub",
        redis=redis.url,
        wsrt={**settings(redis.url), **more},
        measured=True,
    )


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@pytest.fixture(scope="module")
def servers(redis: RedisServer) -> Iterator[tuple[Server, Server]]:
    with server("uvicorn", redis) as uvicorn, server("daphne", redis) as daphne:
        yield uvicorn, daphne


@pytest.fixture
def here(servers: tuple[Server, Server]) -> Server:
    return servers[0]


@pytest.fixture
def there(servers: tuple[Server, Server]) -> Server:
    return servers[1]


@pytest_asyncio.fixture
async def speaker(here: Server) -> AsyncIterator[Speaker]:
    yield Speaker(here)


@pytest.fixture
def room() -> str:
    """A room that no other test uses."""
    return f"r{secrets.token_hex(4)}"


async def counted(server: Server, name: str) -> int:
    stats = await asyncio.to_thread(server.stats)
    return int(stats["counts"].get(name, 0))


async def test_the_epoch_of_the_first_publication_is_learnt(
    here: Server, there: Server, speaker: Speaker, room: str
) -> None:
    """A client that joins a room before anything was published in it has the epoch of its first publication."""
    members = [Member(room), Member(room)]
    told = [await member.come(server) for member, server in zip(members, (here, there), strict=True)]
    assert told[0] == told[1]
    assert told[0]["epoch"]
    assert told[0]["offset"] == 0
    assert await speaker.say(room, 1) == [told[0]["epoch"], 1]
    for member in members:
        await member.until(1)
        assert member.position == [told[0]["epoch"], 1]


async def test_the_first_frame_lost_before_any_offset(here: Server, there: Server, speaker: Speaker, room: str) -> None:
    """A client that lost its connection before the first frame gets it."""
    member = Member(room)
    await member.come(here)
    member.cut()
    await speaker.say(room, 1)
    told = await member.come(there)
    assert (told["recovered"], told["count"]) == (True, 1)
    await member.until(1)


async def test_an_offset_without_an_epoch_never_replaces_a_position(
    here: Server, redis: RedisServer, speaker: Speaker, room: str
) -> None:
    """Neither a claim nor a message of the layer that lacks an epoch changes a position."""
    member = Member(room)
    await member.come(here)
    await speaker.say(room, 1)
    await member.until(1)
    before = await counted(here, "history_claims_refused")
    layer = RedisPubSubChannelLayer(hosts=[redis.url])
    message = {
        "type": "wsrt.publication",
        "form": 1,
        "namespace": "kept",
        "audience": Room(room).to_message(),
        "event": "said",
        "data": '{"n": 9}',
    }
    for epoch in (None, ""):
        [group] = Room(room).groups("kept")
        await layer.group_send(group, {**message, "history": [epoch, 9, f"x{epoch}", None]})
    await speaker.say(room, 2)
    async with asyncio.timeout(30):
        while len(member.numbers) < 2 or len(member.unkept) < 2:
            await member.take()
    await member.silence()
    assert (member.numbers, member.unkept) == ([1, 2], [9, 9])
    await layer.flush()
    for epoch in (None, ""):
        other = Member(room)
        told = await other.come(here, {room: [epoch, 1]})
        assert (told["offset"], "recovered" in told) == (2, False)
    assert await counted(here, "history_claims_refused") == before + 2


async def test_an_invalidated_client_that_reconnects_is_told_no(
    here: Server, there: Server, redis: RedisServer, speaker: Speaker, room: str
) -> None:
    """A client whose history is gone is told so each time it claims, also when the new one is longer."""
    member = Member(room)
    await member.come(here)
    await speaker.say(room, 1, 2)
    await member.until(1, 2)
    member.cut()
    claim, others = member.position, Member(room)
    await others.come(here)
    await _purge(redis, room)
    await speaker.say(room, 3, 4, 5)
    for server in (here, there, here):
        told = await Member(room).come(server, {room: claim})
        assert (told["recovered"], told["reason"], told["offset"]) == (False, "epoch", 3)


async def test_a_second_recovery_without_traffic_repeats_nothing(
    here: Server, there: Server, speaker: Speaker, room: str
) -> None:
    """A client that comes back twice gets what it has missed once."""
    member = Member(room)
    await member.come(here)
    await speaker.say(room, 1)
    await member.until(1)
    member.cut()
    await speaker.say(room, 2)
    for server, count in ((there, 1), (here, 0), (there, 0)):
        told = await member.come(server)
        assert (told["recovered"], told["count"]) == (True, count)
        await member.until(1, 2)
        await member.silence()
        member.cut()
    assert member.duplicates == 0


async def test_a_client_recovers_after_its_history_has_expired(redis: RedisServer, room: str) -> None:
    """A client that has missed nothing recovers, however old the last publication is; one that has is told."""
    with server("uvicorn", redis, HISTORY_SECONDS=1) as short:
        speaker, member = Speaker(short), Member(room)
        await member.come(short)
        earlier = member.position
        await speaker.say(room, 1)
        await member.until(1)
        member.cut()
        await asyncio.sleep(1.5)
        told = await member.come(short)
        assert (told["recovered"], told["count"]) == (True, 0)
        # What this node remembers, it may replay longer. Another one can't read it any more.
        with server("daphne", redis, HISTORY_SECONDS=1) as other:
            told = await Member(room).come(other, {room: earlier})
            assert (told["recovered"], told["reason"], told["offset"]) == (False, "expired", 1)


async def test_a_reconnect_faster_than_the_server_noticed(here: Server, speaker: Speaker, room: str) -> None:
    """A client that comes back while the server still holds its old socket recovers, and goes on when that one ends."""
    member = Member(room)
    await member.come(here)
    await speaker.say(room, 1)
    await member.until(1)
    old = member.ws
    await speaker.say(room, 2)
    told = await member.come(here)
    assert (told["recovered"], told["count"]) == (True, 1)
    await speaker.say(room, 3)
    await member.until(1, 2, 3)
    assert old is not None
    old.transport.abort()
    await speaker.say(room, 4)
    await member.until(1, 2, 3, 4)
    assert member.duplicates == 0


async def test_a_killed_servers_clients_recover_elsewhere(redis: RedisServer, here: Server, room: str) -> None:
    """What was published before and after the death of a process reaches its clients through another one."""
    member = Member(room)
    with server("daphne", redis) as doomed:
        await member.come(doomed)
        await Speaker(doomed).say(room, 1)
        await member.until(1)
        doomed.kill()
    await Speaker(here).say(room, 2, 3)
    told = await member.come(here)
    assert (told["recovered"], told["count"]) == (True, 2)
    await member.until(1, 2, 3)


async def test_reads_of_recovery_are_bounded(here: Server, there: Server, room: str) -> None:
    """Clients that have missed too much are told so; together they cost the reads of one, however many they are."""
    speaker = Speaker(here)
    told = await Member(room).come(here)
    # More than 256 KB in 90 messages.
    await speaker.say(room, *range(90), size=4000)
    await Member(room).come(there)
    before = await counted(there, "history_reads")
    members = [Member(room) for _ in range(30)]
    answers = await asyncio.gather(*(member.come(there, {room: [told["epoch"], 0]}) for member in members))
    assert {(answer["recovered"], answer["reason"]) for answer in answers} == {(False, "too_many")}
    assert await counted(there, "history_reads") - before <= 2
    await speaker.say(room, 90)
    for member in members:
        await member.until(90)


async def test_messages_through_the_layer_count_like_local_ones(here: Server, there: Server, room: str) -> None:
    """What another process has published is replayed by a node that never read it from Redis."""
    member, witness = Member(room), Member(room)
    await witness.come(here)
    await member.come(here)
    await Speaker(there).say(room, 1)
    await Speaker(here).say(room, 2)
    await member.until(1, 2)
    member.cut()
    await Speaker(there).say(room, 3)
    await Speaker(here).say(room, 4)
    await witness.until(1, 2, 3, 4)
    before = await counted(here, "history_reads")
    told = await member.come(here)
    assert (told["recovered"], told["count"], told["offset"]) == (True, 2, 4)
    await member.until(1, 2, 3, 4)
    assert await counted(here, "history_reads") == before


async def test_resuming_asks_permission_again(here: Server, speaker: Speaker, room: str) -> None:
    """A client that may not be in a room any more gets nothing of it, whatever it claims."""
    member = Member(room)
    await member.come(here)
    await speaker.say(room, 1)
    await member.until(1)
    member.cut()
    await speaker.say(room, 2)
    await speaker.request("allow", room=room, is_allowed=False)
    ws = await dial(here.url("/kept/"), extended=True)
    await send(ws, "wsrt.resume", **{room: member.position})
    refused = await request(ws, "wsrt.subscribe", room=room)
    assert refused["data"]["code"] == "forbidden"
    await speaker.request("allow", room=room, is_allowed=True)
    told = await member.come(here)
    assert (told["recovered"], told["count"]) == (True, 1)


async def test_a_history_emptied_by_a_flush_says_so() -> None:
    """Connected clients are told that a flush has emptied the history, with and without a publication, and go on."""
    with RedisServer() as redis, server("uvicorn", redis) as here, server("daphne", redis) as there:
        members = [Member("busy"), Member("busy"), Member("idle"), Member("idle")]
        for member, place in zip(members, (here, there, here, there), strict=True):
            await member.come(place)
        await Speaker(here).say("busy", 1)
        await Speaker(here).say("idle", 1)
        for member in members:
            await member.until(1)
        claim = members[0].position
        _flush(redis)
        await Speaker(there).say("busy", 2)
        for member in members[:2]:
            await member.until(1, 2)
        for member in members[2:]:
            await member.until_told()
        await Speaker(there).say("idle", 2)
        for member in members:
            assert (member.told[-1]["recovered"], member.told[-1]["reason"]) == (False, "epoch")
            await member.until(1, 2)
        assert members[0].position == members[1].position
        assert members[2].position == members[3].position
        told = await Member("busy").come(here, {"busy": claim})
        assert (told["recovered"], told["reason"]) == (False, "epoch")


async def test_a_restart_of_redis_leaves_no_deaf_node() -> None:
    """After Redis has restarted empty, connected clients are told, and each node delivers what any node publishes."""
    with RedisServer() as redis, server("uvicorn", redis) as here, server("daphne", redis) as there:
        members = [Member("a"), Member("a")]
        for member, place in zip(members, (here, there), strict=True):
            await member.come(place)
        await Speaker(here).say("a", 1)
        for member in members:
            await member.until(1)
        redis.stop()
        redis.start()
        for number, place in enumerate((here, there), 2):
            await Speaker(place).say("a", number)
        for member in members:
            async with asyncio.timeout(60):
                while member.numbers[-1] != 3:
                    await member.take()
            # What a retried request has published twice is in the history twice.
            assert sorted(set(member.numbers)) == [1, 2, 3]
            assert (member.told[-1]["recovered"], member.told[-1]["reason"]) == (False, "epoch")
            assert member.ws is not None
        assert members[0].position == members[1].position


async def test_a_failover_that_lost_writes_says_so() -> None:
    """Connected clients are told that a failover has lost what they have received, with and without a publication."""
    with (
        MasterServer() as master,
        ReplicaServer(master) as replica,
        SentinelServer(master) as sentinel,
        RedisServer() as layer,
    ):
        location = settings(f"redis://{sentinel.SERVICE}/0", sentinels=[["127.0.0.1", sentinel.port]], timeout=2)
        with server("uvicorn", layer, **location) as here, server("daphne", layer, **location) as there:
            members = [Member("busy"), Member("busy"), Member("idle"), Member("idle")]
            for member, place in zip(members, (here, there, here, there), strict=True):
                await member.come(place)
            speaker = Speaker(here)
            for room in ("busy", "idle"):
                await speaker.say(room, 1)
            await copied(master)
            # From here on, the replica gets nothing any more.
            assert redis_say(master.port, "ACL SETUSER default -psync -sync").startswith("+OK")
            redis_say(master.port, "CLIENT KILL TYPE replica")
            for room in ("busy", "idle"):
                await speaker.say(room, 2, 3)
            for member in members:
                await member.until(1, 2, 3)
            claims = {member.room: member.position for member in members}
            master.kill()
            await aeventually(lambda: "role:master" in redis_say(replica.port, "INFO replication"), seconds=60)
            await speaker.say("busy", 4)
            for member in members:
                told = await member.until_told()
                assert (told["recovered"], told["reason"]) == (False, "epoch")
                assert told["epoch"] != claims[member.room][0]
            await speaker.say("idle", 4)
            for member in members:
                async with asyncio.timeout(60):
                    # The first one may have had the offset of a publication that was lost.
                    while len(member.numbers) + len(member.unkept) < 4:
                        await member.take()
                assert sorted(member.numbers + member.unkept) == [1, 2, 3, 4]
            for room, claim in claims.items():
                told = await Member(room).come(there, {room: claim})
                assert (told["recovered"], told["reason"]) == (False, "epoch")


def _flush(redis: RedisServer) -> None:
    assert redis_say(redis.port, "FLUSHALL").startswith("+OK")


async def _purge(redis: RedisServer, room: str) -> None:
    store = RedisHistory(redis.url)
    await store.purge(("kept", room))
    await store.close()
