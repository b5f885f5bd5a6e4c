"""Forgetting and purging: what is deleted, when, and which command the nodes receive."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction

from tests.support.histories import akeep, keep, new_room
from tests.support.waiting import aeventually
from wsrt import Event, TypedEventConsumer, WrongContext, apublish_to_room, history, publish_to_room
from wsrt.addresses import CONTROL_GROUP, Room
from wsrt.cluster import in_process, sending
from wsrt.cluster.messages import CommandMessage
from wsrt.cluster.outgoing import Outgoing
from wsrt.exceptions import BackplaneUnavailable
from wsrt.metrics import counters
from wsrt.testing import connect

NAMESPACE = "history-deletion"


class Said(Event, name="said", history=True):
    text: str


class Price(Event, name="price", history="latest", key="symbol"):
    symbol: str
    value: int


class Seat(Event, name="seat", history="latest", key=("day", "number")):
    day: dt.date
    number: int
    taken: bool


class Talk(TypedEventConsumer):
    namespace = NAMESPACE
    out_events = (Said, Price, Seat)

    async def on_connect(self) -> None:
        await self.join(self.kwargs["room"])


@pytest.fixture
def sent() -> Iterator[list[Outgoing]]:
    """What is sent to nodes."""
    found: list[Outgoing] = []
    in_process.observers.append(found.append)
    yield found
    in_process.observers.remove(found.append)


def command(outgoing: Outgoing) -> tuple[str, dict[str, Any]]:
    """Return the name and the arguments of the command that was sent, which goes to all nodes."""
    item = outgoing.item
    assert isinstance(item, CommandMessage)
    assert outgoing.groups == {CONTROL_GROUP}
    assert (item.namespace, item.tenant, item.audience) == (NAMESPACE, None, Room(item.arguments["room"]))
    return item.name, item.arguments


async def offsets(room: str) -> list[int]:
    return [past.position.offset for past in await history.ahistory(room, namespace=NAMESPACE)]


async def test_forget(sent: list[Outgoing]) -> None:
    """One publication is deleted, the others and their offsets stay, and the nodes are told."""
    room = new_room()
    positions = await akeep(NAMESPACE, room, "said", {"text": "a"}, {"text": "b"}, {"text": "c"})
    assert await history.aforget(room, offset=2, namespace=NAMESPACE) is True
    assert await offsets(room) == [1, 3]
    (outgoing,) = sent
    assert command(outgoing) == ("history_forgotten", {"room": room, "epoch": positions[0].epoch, "offsets": [2]})


async def test_forget_a_value(sent: list[Outgoing]) -> None:
    """The last value of a key is deleted by the key; the nodes are told its offset."""
    room = new_room()
    for price in (Price(symbol="a", value=1), Price(symbol="b", value=2), Price(symbol="a", value=3)):
        await apublish_to_room(room, price, namespace=NAMESPACE)
    del sent[:]
    assert await history.aforget(room, event=Price, key="a", namespace=NAMESPACE) is True
    assert await offsets(room) == [2]
    assert command(sent[0])[1]["offsets"] == [3]
    assert await history.aforget(room, event=Price, key="a", namespace=NAMESPACE) is False
    assert len(sent) == 1
    assert await history.aforget(room, event=Price, key=("b",), namespace=NAMESPACE) is True
    assert await offsets(room) == []


async def test_key_of_several_fields() -> None:
    """A key of several fields has their values in order."""
    room, when = new_room(), dt.date(2026, 1, 31)
    await apublish_to_room(room, Seat(day=when, number=7, taken=True), namespace=NAMESPACE)
    (past,) = await history.ahistory(room, namespace=NAMESPACE)
    assert past.key == ("2026-01-31", 7)
    assert await history.aforget(room, event=Seat, key=(when, 8), namespace=NAMESPACE) is False
    assert await history.aforget(room, event=Seat, key=(when, 7), namespace=NAMESPACE) is True


async def test_key_as_text() -> None:
    """A value of a key may be the text that stands for it, as from a URL or a form."""
    room = new_room()
    await apublish_to_room(room, Seat(day=dt.date(2026, 1, 31), number=7, taken=True), namespace=NAMESPACE)
    assert await history.aforget(room, event=Seat, key=("2026-01-31", "7"), namespace=NAMESPACE) is True


async def test_forget_again(sent: list[Outgoing]) -> None:
    """An offset is sent again, for the case that the nodes weren't reached the first time."""
    room = new_room()
    await akeep(NAMESPACE, room, "said", {"text": "a"})
    assert await history.aforget(room, offset=1, namespace=NAMESPACE) is True
    assert await history.aforget(room, offset=1, namespace=NAMESPACE) is False
    assert [command(outgoing)[1]["offsets"] for outgoing in sent] == [[1], [1]]


async def test_forget_the_future(sent: list[Outgoing]) -> None:
    """Nobody is told that an offset was forgotten which no publication has had."""
    room = new_room()
    await akeep(NAMESPACE, room, "said", {"text": "a"})
    assert await history.aforget(room, offset=2, namespace=NAMESPACE) is False
    assert sent == []


async def test_forget_of_another_epoch(sent: list[Outgoing]) -> None:
    """An offset of an earlier epoch is that of another publication, and deletes nothing."""
    room = new_room()
    (old,) = await akeep(NAMESPACE, room, "said", {"text": "a"})
    await history.apurge(room, namespace=NAMESPACE)
    (new,) = await akeep(NAMESPACE, room, "said", {"text": "b"})
    assert old.offset == new.offset
    assert await history.aforget(room, offset=1, epoch=old.epoch, namespace=NAMESPACE) is False
    assert await offsets(room) == [1]
    assert await history.aforget(room, offset=1, epoch=new.epoch, namespace=NAMESPACE) is True
    assert [command(outgoing)[0] for outgoing in sent] == ["history_purged", "history_forgotten"]


async def test_purge(sent: list[Outgoing]) -> None:
    """Everything is deleted, a new epoch begins, and the nodes are told."""
    room = new_room()
    positions = await akeep(NAMESPACE, room, "said", {"text": "a"}, {"text": "b"})
    new = await history.apurge(room, namespace=NAMESPACE)
    assert (new.offset, new.epoch != positions[0].epoch) == (0, True)
    page = await history.ahistory(room, positions[0], namespace=NAMESPACE)
    assert (len(page), page.gap, page.position) == (0, "epoch", new)
    assert command(sent[0]) == ("history_purged", {"room": room, "epoch": new.epoch})


async def test_clients() -> None:
    """Clients are told what was forgotten, those that come later don't get it, and a purge makes all start again."""
    room = new_room()
    first = await apublish_to_room(room, Said(text="a"), namespace=NAMESPACE)
    assert first is not None
    for text in ("b", "c"):
        await apublish_to_room(room, Said(text=text), namespace=NAMESPACE)
    async with connect(Talk, subprotocols=["wsrt.v1"], kwargs={"room": room}) as here:
        await here.send_text('{"event": "wsrt.resume", "data": {}}')
        await history.aforget(room, offset=2, namespace=NAMESPACE)
        await aeventually(lambda: data_of(here, "wsrt.forgotten"))
        assert data_of(here, "wsrt.forgotten") == [{"room": room, "epoch": first.epoch, "offset": 2}]
        async with connect(Talk, subprotocols=["wsrt.v1"], kwargs={"room": room}) as back:
            await back.send_text(json.dumps({"event": "wsrt.resume", "data": {room: [first.epoch, 1]}}))
            assert await back.receive(Said) == Said(text="c")
            assert data_of(back, "wsrt.joined")[-1]["count"] == 1
        new = await history.apurge(room, namespace=NAMESPACE)
        await aeventually(lambda: len(data_of(here, "wsrt.joined")) == 2)
        assert data_of(here, "wsrt.joined")[-1] == {
            "room": room,
            "epoch": new.epoch,
            "offset": 0,
            "recovered": False,
            "reason": "epoch",
        }


def data_of(client: Any, event: str) -> list[Any]:
    return [frame["data"] for frame in client.reserved if frame["event"] == event]


def test_sync() -> None:
    """The synchronous forms delete at once outside of a transaction."""
    room = new_room()
    positions = keep(NAMESPACE, room, "said", {"text": "a"}, {"text": "b"})
    assert history.forget(room, offset=1, namespace=NAMESPACE, on_commit=False) is True
    assert [past.position for past in history.history(room, namespace=NAMESPACE)] == positions[1:]
    new = history.purge(room, namespace=NAMESPACE, on_commit=False)
    assert new == history.room_position(room, namespace=NAMESPACE)


async def test_sync_in_a_loop() -> None:
    """The synchronous forms refuse to block an event loop, and name their twins."""
    with pytest.raises(WrongContext, match=r"await history\.aforget\(\.\.\.\)"):
        history.forget("a", offset=1, namespace=NAMESPACE)
    with pytest.raises(WrongContext, match=r"await history\.apurge\(\.\.\.\)"):
        history.purge("a", namespace=NAMESPACE)


@pytest.mark.django_db(transaction=True)
def test_on_commit() -> None:
    """In a transaction nothing is deleted before the commit, and nothing on a rollback."""
    room = new_room()
    keep(NAMESPACE, room, "said", {"text": "a"}, {"text": "b"})
    with transaction.atomic():
        assert history.forget(room, offset=1, namespace=NAMESPACE) is None
        assert len(history.history(room, namespace=NAMESPACE)) == 2
    assert len(history.history(room, namespace=NAMESPACE)) == 1
    with transaction.atomic():
        assert history.purge(room, namespace=NAMESPACE) is None
        transaction.set_rollback(True)
    assert len(history.history(room, namespace=NAMESPACE)) == 1


@pytest.mark.django_db(transaction=True)
def test_order_within_a_commit() -> None:
    """What one transaction publishes and deletes happens in the order of the calls."""
    room = new_room()
    with transaction.atomic():
        publish_to_room(room, Price(symbol="a", value=1), namespace=NAMESPACE)
        history.forget(room, event=Price, key="a", namespace=NAMESPACE)
        publish_to_room(room, Price(symbol="b", value=2), namespace=NAMESPACE)
    assert [past.event for past in history.history(room, namespace=NAMESPACE)] == [Price(symbol="b", value=2)]
    with transaction.atomic():
        publish_to_room(room, Said(text="before"), namespace=NAMESPACE)
        with transaction.atomic():
            history.purge(room, namespace=NAMESPACE)
        publish_to_room(room, Said(text="after"), namespace=NAMESPACE)
    assert [past.event for past in history.history(room, namespace=NAMESPACE)] == [Said(text="after")]


@pytest.mark.django_db(transaction=True)
def test_a_callback_that_raises() -> None:
    """What a transaction deletes is deleted, in its turn, although a callback of the application raises."""

    def fail() -> None:
        raise ZeroDivisionError

    room = new_room()
    keep(NAMESPACE, room, "said", {"text": "old"})
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        publish_to_room(room, Said(text="before"), namespace=NAMESPACE)
        transaction.on_commit(fail)
        history.purge(room, namespace=NAMESPACE)
        publish_to_room(room, Said(text="after"), namespace=NAMESPACE)
        transaction.on_commit(fail)
        history.forget(room, event=Price, key="a", namespace=NAMESPACE)
    assert [past.event for past in history.history(room, namespace=NAMESPACE)] == [Said(text="after")]


@pytest.mark.django_db(transaction=True)
def test_failure_after_a_commit(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A deletion that fails after the commit is logged and counted, and doesn't fail the code that committed."""

    async def unavailable(*args: Any) -> None:
        raise BackplaneUnavailable("no answer")

    monkeypatch.setattr(sending, "send", unavailable)
    room = new_room()
    keep(NAMESPACE, room, "said", {"text": "a"})
    before = counters["history_deletions_lost_after_commit"]
    with transaction.atomic():
        history.forget(room, offset=1, namespace=NAMESPACE)
    assert counters["history_deletions_lost_after_commit"] == before + 1
    assert room in caplog.text
    with pytest.raises(BackplaneUnavailable):
        history.forget(room, offset=1, namespace=NAMESPACE)


def test_forgetting_a_value_that_was_not_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that is deleted has lost its key: the error of a failed announcement says how to repeat the call."""
    room = new_room()
    publish_to_room(room, Price(symbol="a", value=1), namespace=NAMESPACE)
    announced: list[Any] = []

    async def send(outgoing: Any) -> None:
        announced.append(outgoing.item.arguments)
        if len(announced) == 1:
            raise BackplaneUnavailable("no answer")

    monkeypatch.setattr(sending, "send", send)
    epoch = history.room_position(room, namespace=NAMESPACE).epoch
    with pytest.raises(
        BackplaneUnavailable, match=f"Repeat the call with offset=1, epoch='{epoch}' instead of its key"
    ):
        history.forget(room, event=Price, key="a", namespace=NAMESPACE)
    assert not history.history(room, namespace=NAMESPACE).events
    history.forget(room, offset=1, epoch=epoch, namespace=NAMESPACE)
    assert announced == [{"room": room, "epoch": epoch, "offsets": [1]}] * 2


@pytest.mark.parametrize(
    ("arguments", "raises", "says"),
    [
        (
            {},
            TypeError,
            r"needs either offset=\.\.\., or both event=\.\.\. and key=\.\.\.; to delete everything, call purge\(\)",
        ),
        ({"offset": 1, "key": "a"}, TypeError, "needs either offset"),
        ({"offset": 1, "event": Price, "key": "a"}, TypeError, "needs either offset"),
        ({"event": Price}, TypeError, "needs either offset"),
        ({"key": "a"}, TypeError, "needs either offset"),
        ({"event": Said, "key": "a"}, ValueError, "'said' isn't declared with history=\"latest\""),
        ({"event": Seat, "key": "a"}, ValueError, "key must contain the values of day, number, but has 1"),
        ({"event": Seat, "key": ("a", 7)}, ValueError, "'a' can't be the value of 'day': Input should be a valid date"),
        ({"event": Price, "key": 7}, ValueError, "7 can't be the value of 'symbol': Input should be a valid string"),
        ({"event": 7, "key": "a"}, TypeError, "expected an Event, not int"),
        ({"offset": "1"}, TypeError, "offset must be an int, not str"),
        ({"offset": True}, TypeError, "offset must be an int, not bool"),
        ({"offset": 0}, ValueError, "offset must be from 1"),
        ({"offset": 10**30}, ValueError, "offset must be from 1"),
        ({"offset": 1, "epoch": 7}, TypeError, "epoch must be a str, not int"),
    ],
    ids=str,
)
async def test_wrong_arguments(arguments: dict[str, Any], raises: type[Exception], says: str) -> None:
    """A wrong argument is named, and nothing is deleted."""
    with pytest.raises(raises, match=says):
        await history.aforget("lobby", namespace=NAMESPACE, **arguments)
