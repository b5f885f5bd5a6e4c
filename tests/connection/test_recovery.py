"""Recovery: a client that comes back gets what it has missed, in order, or is told that it can't."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest

from wsrt import Event, Publication, TypedEventConsumer, apublish_to_room
from wsrt.cluster.node import current_node
from wsrt.connection import recovery
from wsrt.history import follower, log
from wsrt.history.backends import store_of_loop
from wsrt.history.memory import MemoryHistory
from wsrt.metrics import counters
from wsrt.testing import connect
from wsrt.testing.client import Client


class Said(Event, name="recovery.said", history=True):
    n: int


class Price(Event, name="recovery.price", history="latest", key="symbol"):
    symbol: str
    value: int


class Typing(Event, name="recovery.typing"):
    user: str


class Kept(TypedEventConsumer):
    """Joins the rooms that the path names."""

    namespace = "recovery"
    out_events = (Said, Typing)

    async def on_connect(self) -> None:
        for room in self.kwargs.get("rooms", ["a"]):
            await self.join(room)


class Priced(TypedEventConsumer):
    namespace = "recovery-prices"
    out_events = (Said, Price)

    async def on_connect(self) -> None:
        await self.join("a")


class Unkept(TypedEventConsumer):
    namespace = "recovery-none"
    out_events = (Typing,)

    async def on_connect(self) -> None:
        await self.join("a")


@pytest.fixture(autouse=True)
async def _empty() -> None:
    for namespace in ("recovery", "recovery-prices"):
        for room in ("a", "b"):
            await store_of_loop().purge((namespace, room))


async def say(*numbers: int, room: str = "a") -> list[Publication]:
    said = [await apublish_to_room(room, Said(n=n), namespace="recovery") for n in numbers]
    return [position for position in said if position is not None]


async def resume(client: Client, claims: dict[str, Any] | None = None) -> None:
    await client.send_text(json.dumps({"event": "wsrt.resume", "data": claims or {}}))


async def joined(client: Client, room: str = "a") -> dict[str, Any]:
    """Wait until the client is told that it has joined a room, and return what it is told last."""
    async with asyncio.timeout(30):
        while True:
            found = [
                frame["data"]
                for frame in client.reserved
                if frame["event"] == "wsrt.joined" and frame["data"]["room"] == room
            ]
            if found:
                return found[-1]
            await asyncio.sleep(0.01)


def v1(consumer: type[TypedEventConsumer] = Kept, **kwargs: Any) -> Any:
    return connect(consumer, subprotocols=["wsrt.v1"], kwargs=kwargs)


async def test_positions() -> None:
    """Publications have ascending offsets in one epoch, in the answer and on the wire."""
    async with connect(Kept) as client:
        first, second = await say(1, 2)
        assert (first.offset, second.offset) == (1, 2)
        assert first.epoch == second.epoch
        frame = await client.receive_json()
        assert (frame["epoch"], frame["offset"]) == (first.epoch, 1)
        assert frame["room"] == "a"


async def test_without_history() -> None:
    """Events and namespaces without history cost no call of the store, and their frames have no position."""
    async with connect(Unkept) as client:
        assert await apublish_to_room("a", Typing(user="x"), namespace="recovery-none") is None
        assert "epoch" not in await client.receive_json()
        assert not current_node().history.is_used


async def test_recovered() -> None:
    """What was published while a client was away comes before what is published now, in order, once."""
    [last] = await say(1)
    await say(2, 3)
    async with v1() as client:
        await resume(client, {"a": [last.epoch, last.offset]})
        assert await joined(client) == {"room": "a", "epoch": last.epoch, "offset": 3, "recovered": True, "count": 2}
        await say(4)
        assert [(await client.receive(Said)).n for _ in range(3)] == [2, 3, 4]
        await client.assert_silent()


async def test_a_second_recovery_repeats_nothing() -> None:
    """A second recovery without traffic repeats nothing."""
    await say(1)
    [last] = await say(2)
    for _ in range(2):
        async with v1() as client:
            await resume(client, {"a": [last.epoch, last.offset]})
            told = await joined(client)
            assert (told["recovered"], told["count"]) == (True, 0)
            await client.assert_silent()


async def test_the_epoch_of_an_empty_room() -> None:
    """A client that joins before the first publication gets an epoch, with which it recovers the first one."""
    async with v1() as client:
        await resume(client)
        told = await joined(client)
        assert told["offset"] == 0
        assert "recovered" not in told
    await say(1)
    async with v1() as client:
        await resume(client, {"a": [told["epoch"], 0]})
        assert (await joined(client))["count"] == 1
        assert (await client.receive(Said)).n == 1


async def test_another_epoch() -> None:
    """A client whose epoch is gone, or whose offset is ahead of the room, is told so."""
    [last] = await say(1)
    for claim in (["other", 1], [last.epoch, 10]):
        async with v1() as client:
            await resume(client, {"a": claim})
            told = await joined(client)
            assert (told["recovered"], told["reason"], told["offset"]) == (False, "epoch", 1)
            await client.assert_silent()


async def test_trimmed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that was away for more publications than the history keeps is told so."""
    [first] = await say(0)
    await say(*range(1, store_of_loop().size + 2))
    async with v1() as client:
        await resume(client, {"a": [first.epoch, first.offset]})
        assert (await joined(client))["reason"] == "trimmed"


async def test_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that has missed more than is replayed is told so; one that has missed less gets it."""
    monkeypatch.setattr("wsrt.history.follower.REPLAY_MESSAGES", 5)
    first, *_, late = await say(*range(10))
    for claim, expected in ((first, "too_many"), (late, None)):
        async with v1() as client:
            await resume(client, {"a": [claim.epoch, claim.offset]})
            assert (await joined(client)).get("reason") == expected


async def test_late() -> None:
    """Claims after the first frame are too late. They are answered once, however many there are."""
    [last] = await say(1)
    await say(2)
    async with v1() as client:
        await resume(client)
        await joined(client)
        for _ in range(3):
            await resume(client, {"a": [last.epoch, last.offset]})
        await client.settle()
        told = [frame["data"].get("reason") for frame in client.reserved if frame["event"] == "wsrt.joined"]
        assert told == [None, "late"]
        await client.assert_silent()


async def test_any_first_frame() -> None:
    """Another first frame ends the wait for claims."""
    async with v1() as client:
        await client.send_text('{"event": "wsrt.ping"}')
        assert "recovered" not in await joined(client)
        await say(1)
        assert (await client.receive(Said)).n == 1


async def test_no_first_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends nothing gets its rooms after a short wait, with everything that was published since."""
    monkeypatch.setattr(recovery, "CLAIM_SECONDS", 0.2)
    async with v1() as client:
        await say(1)
        assert (await joined(client))["offset"] == 0
        assert (await client.receive(Said)).n == 1


async def test_frames_wait_for_the_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    """All frames of a room wait behind a replay, in order, also those without history."""
    [last] = await say(1)
    await say(2)
    async with v1() as client:
        await client.settle()
        await apublish_to_room("a", Typing(user="x"), namespace="recovery")
        await say(3)
        await client.assert_silent()
        await resume(client, {"a": [last.epoch, last.offset]})
        assert (await client.receive(Said)).n == 2
        assert (await client.receive(Typing)).user == "x"
        assert (await client.receive(Said)).n == 3


async def test_permission_is_asked_again() -> None:
    """A claim for a room that the connection may not join gets nothing."""

    class Closed(Kept):
        async def authorize_room(self, room: str) -> bool:
            return room != "b"

        async def on_connect(self) -> None:
            await self.join("a")

    [last] = await say(1, room="b")
    await say(2, room="b")
    async with v1(Closed) as client:
        await resume(client, {"b": [last.epoch, 0]})
        await joined(client)
        await client.assert_silent()
        assert not [frame for frame in client.reserved if frame["data"].get("room") == "b"]


async def test_a_room_joined_later() -> None:
    """A claim of the first frame takes effect when the room is joined, however much later."""
    [last] = await say(1, room="b")
    await say(2, room="b")
    async with v1() as client:
        await resume(client, {"b": [last.epoch, last.offset]})
        await joined(client)
        await client.consumer.join("b")
        assert (await joined(client, "b"))["count"] == 1
        assert (await client.receive(Said)).n == 2


async def test_left_before_the_claim() -> None:
    """A room that was left before the first frame came is not announced, and nothing of it is delivered."""
    async with v1() as client:
        await say(1)
        await client.consumer.leave("a")
        await resume(client)
        await client.assert_silent()
        assert [frame["event"] for frame in client.reserved[1:]] == ["wsrt.left"]
        assert not current_node().history.is_used


async def test_bad_claims() -> None:
    """Claims that are none are counted, and the others hold."""
    [last] = await say(1)
    await say(2)
    bad: dict[str, Any] = {
        "b": [last.epoch, -1],
        "c": [last.epoch, 10**30],
        "d": [last.epoch, "1"],
        "e": [last.epoch, True],
        "f": [1, 1],
        "g": last.epoch,
        "h": None,
        "i": ["x" * 65, 1],
        "j": [last.epoch, 1.5],
        "k": [last.epoch, 1, 1],
    }
    before = counters["history_claims_refused"]
    async with v1() as client:
        await resume(client, {**bad, "a": [last.epoch, last.offset]})
        assert (await joined(client))["count"] == 1
    assert counters["history_claims_refused"] == before + len(bad)


async def test_many_claims() -> None:
    """A client can claim as many rooms as it may be in. Others are counted, and cost nothing."""
    before = counters["history_claims_refused"]
    async with connect(Kept, subprotocols=["wsrt.v1"]) as client:
        rooms = {f"r{number}": ["e", 1] for number in range(2000)}
        await resume(client, rooms)
        await joined(client)
        claims = client.consumer._connection.recovery._claims
        assert claims is not None
        assert len(claims) == client.consumer._connection.limits.max_rooms
    assert counters["history_claims_refused"] == before + 2000 - 128


async def test_values() -> None:
    """A client that joins gets the last value of each key, after its position; plain clients too."""
    for symbol, value in (("x", 1), ("y", 2), ("x", 3)):
        await apublish_to_room("a", Price(symbol=symbol, value=value), namespace="recovery-prices")
    async with v1(Priced) as client, connect(Priced) as plain:
        await resume(client)
        told = await joined(client)
        assert (told["offset"], told["values"]) == (3, 2)
        for each in (client, plain):
            assert [(await each.receive(Price)).value for _ in range(2)] == [2, 3]
            await each.assert_silent()


@pytest.mark.parametrize("is_read", [True, False], ids=["read", "followed"])
@pytest.mark.parametrize("limit", ["VALUES", "VALUES_BYTES"])
async def test_values_that_are_left_out(monkeypatch: pytest.MonkeyPatch, limit: str, is_read: bool) -> None:
    """A client that doesn't get all last values of the room it joins is told so; one that gets all isn't."""
    for module in (log, follower):
        monkeypatch.setattr(module, limit, 2 if limit == "VALUES" else 300)

    async def publish(*symbols: str) -> None:
        for symbol in symbols:
            await apublish_to_room("a", Price(symbol=symbol, value=1), namespace="recovery-prices")

    async def told() -> Any:
        async with v1(Priced) as client:
            await resume(client)
            return await joined(client)

    async with contextlib.AsyncExitStack() as stack:
        if not is_read:
            # The node follows the room from now on.
            await stack.enter_async_context(connect(Priced))
        await publish("x", "y")
        first = await told()
        assert (first["values"], first.get("values_missing")) == (2, None)
        await publish("z")
        assert (await told())["values_missing"] is True
        await store_of_loop().purge(("recovery-prices", "a"))
        await publish("x")
        assert "values_missing" not in await told()


async def test_values_that_were_missed() -> None:
    """A client that comes back gets what has changed since."""
    last = None
    for symbol, value in (("x", 1), ("y", 2), ("x", 3), ("x", 4)):
        at = await apublish_to_room("a", Price(symbol=symbol, value=value), namespace="recovery-prices")
        last = last or at
    assert last is not None
    async with v1(Priced) as client:
        await resume(client, {"a": [last.epoch, last.offset]})
        assert (await joined(client))["recovered"] is True
        assert [(await client.receive(Price)).value for _ in range(2)] == [2, 4]
        await client.assert_silent()


async def test_a_history_that_starts_again() -> None:
    """Clients are told when the history is lost while they are connected, and go on in the new epoch."""
    async with v1() as client:
        await resume(client)
        [first] = await say(1)
        assert (await client.receive(Said)).n == 1
        await MemoryHistory().purge(("recovery", "a"))
        [second] = await say(2)
        assert second.epoch != first.epoch
        assert (await client.receive(Said)).n == 2
        told = await joined(client)
        assert told == {"room": "a", "epoch": second.epoch, "offset": 0, "recovered": False, "reason": "epoch"}


async def test_a_store_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """A room whose position can't be read isn't joined; the client is closed and comes back."""
    from wsrt.exceptions import StoreUnavailable

    async def down(*args: object, **kwargs: object) -> None:
        raise StoreUnavailable("down")

    monkeypatch.setattr(MemoryHistory, "positions", down)
    async with connect(Kept) as client:
        await client.assert_closed(1011)
    assert not current_node().history.is_used
