"""Batches: the outcomes of their messages, their order, and the history that is kept while they are sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
import pytest_asyncio
from channels_redis.pubsub import RedisPubSubChannelLayer

from tests.support.layer import FakeLayer, installed
from tests.support.processes import RedisServer
from tests.support.waiting import aeventually
from wsrt import BackplaneUnavailable, Event, TypedEventConsumer, apublish_many, publish_many
from wsrt.addresses import Audience, Room
from wsrt.cluster import batch as module
from wsrt.cluster import keeping
from wsrt.cluster.batch import Outcome, TooSlow, send_all
from wsrt.cluster.layers import drop_layer, layer_of_loop
from wsrt.cluster.outgoing import Outgoing, prepare
from wsrt.cluster.pipeline import Answers
from wsrt.cluster.pubsub import PubSubLayer
from wsrt.exceptions import StoreUnavailable
from wsrt.history.base import Append, Appended
from wsrt.history.memory import MemoryHistory
from wsrt.metrics import counters
from wsrt.protocol.envelope import Encoded
from wsrt.types import Publication

NAMESPACE = "batches"
LOBBY = Room("lobby")


class Passing(Event, name="passing"):
    n: int


class Kept(Event, name="kept", history=True):
    n: int


class Sender(TypedEventConsumer):
    namespace = NAMESPACE
    out_events = (Passing, Kept)


class Posting(PubSubLayer):
    """A pub/sub layer whose answers a test gives."""

    def __init__(self) -> None:
        self.windows: list[Answers] = []
        self.refused_from = 1000
        self.answers = False

    def post_all(self, posts: Sequence[tuple[str, dict[str, Any]]], *, in_order: bool = False) -> Answers:
        answers = Answers(len(posts), in_order=in_order)
        for number in range(self.refused_from, len(posts)):
            answers.settle(number, ConnectionError("the layer was closed"))
        self.windows.append(answers)
        if self.answers:
            for number in range(len(posts)):
                answers.settle(number)
        return answers


class Store(MemoryHistory):
    """A history that keeps a part when a test lets it, and raises what a test wants for one of the parts."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = 0
        self.gate = asyncio.Semaphore(1000)
        self.errors: dict[int, Exception] = {}

    async def append(self, publications: Sequence[Append]) -> list[Appended]:
        self.begun += 1
        number = self.begun
        await self.gate.acquire()
        if number in self.errors:
            raise self.errors[number]
        return await super().append(publications)


def outgoings(
    audience: Audience = LOBBY, count: int = 4, kept: Callable[[int], bool] = lambda n: False
) -> list[Outgoing]:
    events: list[Event] = [Kept(n=n) if kept(n) else Passing(n=n) for n in range(count)]
    return [prepare(audience, event, NAMESPACE, None) for event in events]


def sending(messages: list[Outgoing], *, in_order: bool = False) -> asyncio.Task[list[Outcome]]:
    """Send a batch in a task."""

    async def send() -> list[Outcome]:
        outcomes: list[Outcome] = [None] * len(messages)
        await module._LayerShare("default", messages, range(len(messages)), outcomes, in_order=in_order).send()
        return outcomes

    return asyncio.create_task(send())


def failed(outcomes: list[Outcome]) -> list[int]:
    return [index for index, outcome in enumerate(outcomes) if isinstance(outcome, BackplaneUnavailable)]


async def posted(layer: Posting, count: int = 1) -> Answers:
    """Wait until a number of windows was posted, and return the last one."""
    await aeventually(lambda: len(layer.windows) == count)
    return layer.windows[-1]


@pytest.fixture
def layer(monkeypatch: pytest.MonkeyPatch) -> Posting:
    layer = Posting()
    monkeypatch.setattr(module, "layer_of_loop", lambda alias: layer)
    return layer


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    store = Store()
    monkeypatch.setattr(keeping, "store_of_loop", lambda: store)
    return store


# Outcomes of the layer.


@pytest.mark.parametrize("in_order", [True, False])
async def test_connection_lost(layer: Posting, in_order: bool) -> None:
    """What was queued behind a message that fails is withdrawn before it could be sent over the next connection."""
    sends = sending(outgoings(), in_order=in_order)
    answers = await posted(layer)
    answers.settle(0)
    answers.settle(1, ConnectionError("lost"))
    assert [answers.is_settled(number) for number in range(4)] == [True, True, in_order, in_order]
    for number in (2, 3):
        answers.settle(number)
    outcomes = await sends
    assert failed(outcomes) == ([1, 2, 3] if in_order else [1])
    assert "lost" in str(outcomes[1])


@pytest.mark.parametrize("in_order", [True, False])
async def test_not_posted(layer: Posting, in_order: bool) -> None:
    """A message that isn't accepted for sending fails, and those that were accepted don't."""
    layer.refused_from = 2
    sends = sending(outgoings(), in_order=in_order)
    answers = await posted(layer)
    for number in range(2):
        answers.settle(number)
    assert failed(await sends) == [2, 3]


@pytest.mark.parametrize("in_order", [True, False])
async def test_parts(layer: Posting, monkeypatch: pytest.MonkeyPatch, in_order: bool) -> None:
    """A part isn't posted before the one ahead of it is answered, nor in order if a message there has failed."""
    monkeypatch.setattr(module, "PART", 2)
    before = counters["publications_failed"]
    sends = sending(outgoings(), in_order=in_order)
    answers = await posted(layer)
    answers.settle(1, ConnectionError("lost"))
    assert len(layer.windows) == 1
    answers.settle(0)
    if not in_order:
        answers = await posted(layer, 2)
        for number in range(2):
            answers.settle(number)
    outcomes = await sends
    assert failed(outcomes) == ([1, 2, 3] if in_order else [1])
    assert counters["publications_failed"] == before + len(failed(outcomes))


async def test_no_answer(layer: Posting, monkeypatch: pytest.MonkeyPatch) -> None:
    """If Redis doesn't answer in time, the later parts aren't posted, and what isn't written never will be."""
    monkeypatch.setattr(module, "PART", 2)
    monkeypatch.setattr(module, "LAYER_SECONDS", 0.05)
    before = counters["publications_failed"]
    outcomes = await sending(outgoings())
    assert len(layer.windows) == 1
    assert all(layer.windows[0].is_settled(number) for number in range(2))
    assert failed(outcomes) == [0, 1, 2, 3]
    assert [isinstance(outcome, TooSlow) for outcome in outcomes] == [False, False, True, True]
    assert counters["publications_failed"] == before + 4


async def test_no_frames(layer: Posting, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that only recipients need isn't built by a publisher whose messages go through the layer."""
    frames = 0
    build = Encoded.frame

    def counting(encoded: Encoded, **more: Any) -> Any:
        nonlocal frames
        frames += 1
        return build(encoded, **more)

    monkeypatch.setattr(Encoded, "frame", counting)
    messages = outgoings()
    sends = sending(messages)
    (await posted(layer)).withdraw(ConnectionError("lost"))
    await sends
    assert frames == 0
    # It is built once, for all recipients.
    item: Any = messages[0].item
    assert item.frame is item.frame
    assert frames == 1


async def test_several_groups(layer: Posting) -> None:
    """A message to several groups fails once, whichever of them failed."""
    before = counters["publications_failed"]
    sends = sending(outgoings(LOBBY | Room("b")))
    answers = await posted(layer)
    for number in range(8):
        answers.settle(number, ConnectionError("lost") if number in (2, 3, 5) else None)
    assert failed(await sends) == [1, 2]
    assert counters["publications_failed"] == before + 2


@pytest.mark.parametrize("in_order", [True, False])
async def test_one_by_one(monkeypatch: pytest.MonkeyPatch, in_order: bool) -> None:
    """So it is with layers whose calls aren't pipelined."""
    sent: list[Outgoing] = []
    messages = outgoings()

    async def send(outgoing: Outgoing, seconds: float | None = None) -> None:
        if outgoing is messages[1]:
            raise BackplaneUnavailable("lost")
        sent.append(outgoing)

    monkeypatch.setattr(module, "send_through_layer", send)
    monkeypatch.setattr(module, "layer_of_loop", lambda alias: FakeLayer())
    assert failed(await sending(messages, in_order=in_order)) == ([1, 2, 3] if in_order else [1])
    assert len(sent) == (1 if in_order else 3)


# History.


async def test_kept_while_sent(layer: Posting, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the layer hasn't answered for a part, the next ones are kept; none is posted before it is kept."""
    monkeypatch.setattr(module, "PART", 2)
    store.gate = asyncio.Semaphore(0)
    sends = sending(outgoings(count=6, kept=lambda n: True))
    await aeventually(lambda: store.begun == 1)
    assert layer.windows == []
    store.gate.release()
    first = await posted(layer)
    await aeventually(lambda: store.begun == 2)
    for number in range(2):
        first.settle(number)
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(layer.windows) == 1
    store.gate.release()
    second = await posted(layer, 2)
    store.gate.release()
    layer.answers = True
    for number in range(2):
        second.settle(number)
    outcomes: list[Any] = await sends
    assert [outcome.offset for outcome in outcomes] == [*range(outcomes[0].offset, outcomes[0].offset + 6)]
    assert len(layer.windows) == 3


@pytest.mark.parametrize("in_order", [True, False])
async def test_part_that_is_not_kept(
    layer: Posting, store: Store, monkeypatch: pytest.MonkeyPatch, in_order: bool
) -> None:
    """A part that the history doesn't keep fails, and so do the later ones. What was kept before it is sent."""
    monkeypatch.setattr(module, "PART", 3)
    layer.answers = True
    store.errors[2] = StoreUnavailable("the store is down")
    before = counters["publications_failed"]
    # The third of each part is without history.
    outcomes = await sending(outgoings(count=12, kept=lambda n: n % 3 < 2), in_order=in_order)
    assert store.begun == 2
    assert all(isinstance(outcome, Publication) for outcome in outcomes[:2])
    assert failed(outcomes) == ([*range(3, 12)] if in_order else [3, 4, 6, 7, 9, 10])
    assert sum(len(answers._is_settled) for answers in layer.windows) == 12 - len(failed(outcomes))
    assert counters["publications_failed"] == before + len(failed(outcomes))


async def test_failure_of_a_later_part(layer: Posting, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, a part that can't be kept doesn't affect an earlier one that is still being sent."""
    monkeypatch.setattr(module, "PART", 2)
    store.errors[2] = StoreUnavailable("the store is down")
    sends = sending(outgoings(kept=lambda n: True), in_order=True)
    answers = await posted(layer)
    await aeventually(lambda: store.begun == 2)
    for number in range(2):
        answers.settle(number)
    assert failed(await sends) == [2, 3]


async def test_bug_of_a_store(layer: Posting, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected exception of the store is raised when what was kept before is sent."""
    monkeypatch.setattr(module, "PART", 2)
    store.errors[2] = ZeroDivisionError()
    sends = sending(outgoings(count=6, kept=lambda n: True))
    answers = await posted(layer)
    await aeventually(lambda: store.begun == 2)
    assert not sends.done()
    for number in range(2):
        answers.settle(number)
    with pytest.raises(ZeroDivisionError):
        await sends
    assert (store.begun, len(layer.windows)) == (2, 1)


async def test_cancelled(layer: Posting, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that is cancelled neither keeps nor sends anything afterwards."""
    monkeypatch.setattr(module, "PART", 2)
    store.gate = asyncio.Semaphore(1)
    sends = sending(outgoings(count=6, kept=lambda n: True))
    answers = await posted(layer)
    await aeventually(lambda: store.begun == 2)
    sends.cancel()
    await asyncio.wait([sends])
    assert sends.cancelled()
    store.gate.release()
    answers.withdraw(ConnectionError())
    await asyncio.sleep(0.05)
    assert (store.begun, len(layer.windows)) == (2, 1)
    # The release wasn't consumed.
    assert not store.gate.locked()


async def test_no_history(layer: Posting, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch without history doesn't reach the store."""

    def fail() -> None:
        raise AssertionError

    monkeypatch.setattr(keeping, "store_of_loop", fail)
    layer.answers = True
    assert await sending(outgoings()) == [None] * 4


async def test_layers_of_one_batch(store: Store) -> None:
    """Messages through several layers, and to the nodes of this process, each have the outcome of their own layer."""
    local = prepare(LOBBY, Kept(n=3), NAMESPACE, None)
    with installed(FakeLayer()) as one, installed(FakeLayer(), "other") as other:
        messages = outgoings(count=6, kept=lambda n: n < 3)
        for message in messages[::2]:
            message.alias = "other"
        local.alias = "third"
        other.is_down = True
        outcomes = await send_all([*messages, local])
        assert failed(outcomes) == [0, 2, 4]
        assert isinstance(outcomes[1], Publication)
        assert isinstance(outcomes[6], Publication)
        assert sum(one.calls.values()) == 3


# With Redis.


@pytest_asyncio.fixture
async def received(redis_server: RedisServer, settings: Any) -> AsyncIterator[Callable[[int], Any]]:
    """Returns messages that other processes receive in rooms "0" to "2". Channel layer and history are in Redis."""
    config = {"hosts": [redis_server.url]}
    settings.CHANNEL_LAYERS = {
        "default": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": config},
    }
    settings.WSRT = {"HISTORY": {"BACKEND": "wsrt.history.redis.RedisHistory", "LOCATION": redis_server.url}}
    other = RedisPubSubChannelLayer(**config)
    channel = await other.new_channel()
    for room in range(3):
        (group,) = prepare(Room(str(room)), Passing(n=0), NAMESPACE, None).groups
        await other.group_add(group, channel)

    async def receive(count: int) -> list[dict[str, Any]]:
        return [await other.receive(channel) for _ in range(count)]

    yield receive
    await other.flush()
    await drop_layer("default", layer_of_loop("default"))


@pytest.mark.parametrize("is_sync", [True, False])
async def test_large_batch(received: Callable[[int], Any], is_sync: bool) -> None:
    """Thousands of publications get ascending positions in each room, and arrive in the order of the list."""
    count = 2 * module.PART + 500
    items: list[tuple[Audience, Event]] = [
        (Room(str(n * n % 3)), Passing(n=n) if n % 7 == 0 else Kept(n=n)) for n in range(count)
    ]
    if is_sync:
        positions = await asyncio.to_thread(publish_many, items, namespace=NAMESPACE)
    else:
        positions = await apublish_many(items, namespace=NAMESPACE)
    messages = await received(count)
    assert [message["data"] for message in messages] == [f'{{"n":{n}}}' for n in range(count)]
    last: dict[str, int] = {}
    for (room, event), position, message in zip(items, positions, messages, strict=True):
        if isinstance(event, Passing):
            assert position is None
            assert "history" not in message
            continue
        assert position is not None
        assert isinstance(room, Room)
        assert message["history"][:2] == [position.epoch, position.offset]
        assert position.offset == last.get(room.name, 0) + 1
        last[room.name] = position.offset
