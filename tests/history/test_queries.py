"""Reading the history of a room: positions, pages, gaps, and the classes of events."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

import wsrt
from tests.support.histories import TENANTS, akeep, keep, new_room
from wsrt import Event, Position, RootEvent, TenantRequired, TypedEventConsumer, UnknownNamespace, WrongContext, history
from wsrt.exceptions import InvalidRoom, StoreUnavailable
from wsrt.history import access
from wsrt.history.backends import store_of_loop
from wsrt.metrics import counters
from wsrt.protocol.namespaces import namespaces
from wsrt.types import MAX_OFFSET

NAMESPACE = "history-queries"


class Said(Event, name="said", history=True):
    text: str


class Tags(RootEvent[list[str]], name="tags", history=True):
    pass


class Price(Event, name="price", history="latest", key="symbol"):
    symbol: str
    value: int


class Talk(TypedEventConsumer):
    namespace = NAMESPACE
    out_events = (Said, Tags, Price)


async def test_position() -> None:
    """The position is that of the last publication; reading it makes the epoch."""
    room = new_room()
    before = await wsrt.aroom_position(room, namespace=NAMESPACE)
    assert (before.offset, bool(before.epoch)) == (0, True)
    (first,) = await akeep(NAMESPACE, room, "said", {"text": "a"})
    assert first == await wsrt.aroom_position(room, namespace=NAMESPACE) == Position(before.epoch, 1)


def test_sync() -> None:
    """The synchronous forms read the same."""
    room = new_room()
    positions = keep(NAMESPACE, room, "said", {"text": "a"}, {"text": "b"})
    assert wsrt.room_position(room, namespace=NAMESPACE) == positions[-1]
    page = history.history(room, positions[0], namespace=NAMESPACE)
    assert [past.event for past in page] == [Said(text="b")]


async def test_sync_in_a_loop() -> None:
    """The synchronous forms refuse to block an event loop, and name their twins."""
    with pytest.raises(WrongContext, match=r"await history\.aroom_position\(\.\.\.\)"):
        wsrt.room_position("a", namespace=NAMESPACE)
    with pytest.raises(WrongContext, match=r"await history\.ahistory\(\.\.\.\)"):
        history.history("a", namespace=NAMESPACE)


async def test_events() -> None:
    """An event has its class, its plain data, its position and its time."""
    room = new_room()
    started = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
    positions = await akeep(NAMESPACE, room, "said", {"text": "a"})
    positions += await akeep(NAMESPACE, room, "tags", ["x"])  # type: ignore[arg-type]
    page = await history.ahistory(room, namespace=NAMESPACE)
    assert [past.event for past in page] == [Said(text="a"), Tags(["x"])]
    assert [past.name for past in page] == ["said", "tags"]
    assert [past.data for past in page] == [{"text": "a"}, ["x"]]
    assert [past.position for past in page] == positions
    assert all(started < past.time <= dt.datetime.now(dt.UTC) for past in page)
    assert (page.position, page.next, page.has_more, page.gap) == (positions[-1], positions[-1], False, None)


async def test_unknown_events() -> None:
    """An event whose class is gone or has changed has its data alone, and the latter is counted."""
    room = new_room()
    await akeep(NAMESPACE, room, "gone", {"text": "a"})
    await akeep(NAMESPACE, room, "said", {"words": "a"})
    before = counters["history_unreadable"]
    page = await history.ahistory(room, namespace=NAMESPACE)
    assert [(past.event, past.data) for past in page] == [(None, {"text": "a"}), (None, {"words": "a"})]
    assert counters["history_unreadable"] == before + 1


async def test_values() -> None:
    """The last value of a key stands at its offset, with the values of the key fields."""
    room = new_room()
    for event in (Price(symbol="a", value=1), Price(symbol="a", value=2), Said(text="3")):
        await wsrt.apublish_to_room(room, event, namespace=NAMESPACE)
    page = await history.ahistory(room, namespace=NAMESPACE)
    assert [(past.position.offset, past.key) for past in page] == [(2, ("a",)), (3, None)]


async def test_pages() -> None:
    """Each page begins where the one before ended."""
    room = new_room()
    positions = await akeep(NAMESPACE, room, "said", *({"text": str(number)} for number in range(5)))
    since, found = None, []
    for has_more in (True, True, False):
        page = await history.ahistory(room, since, 2, namespace=NAMESPACE)
        assert (page.has_more, page.gap) == (has_more, None)
        found += [past.position for past in page]
        since = page.next
    assert found == positions
    assert len(await history.ahistory(room, since, namespace=NAMESPACE)) == 0


async def test_end_of_a_page() -> None:
    """The last page ends at the room's position, also if the last publication was forgotten."""
    room = new_room()
    positions = await akeep(NAMESPACE, room, "said", {"text": "a"}, {"text": "b"})
    await history.aforget(room, offset=2, namespace=NAMESPACE)
    page = await history.ahistory(room, namespace=NAMESPACE)
    assert ([past.position for past in page], page.next, page.gap) == ([positions[0]], positions[1], None)


async def test_gaps(settings: Any) -> None:
    """A gap is named where a position was asked for; without one there is none."""
    settings.WSRT = {"HISTORY_SIZE": 2}
    room = new_room()
    positions = await akeep(NAMESPACE, room, "said", *({"text": str(number)} for number in range(4)))
    trimmed = await history.ahistory(room, positions[0], namespace=NAMESPACE)
    assert (trimmed.gap, [past.position for past in trimmed]) == ("trimmed", positions[2:])
    foreign = await history.ahistory(room, Position("another", 3), namespace=NAMESPACE)
    assert (foreign.gap, len(foreign)) == ("epoch", 2)
    everything = await history.ahistory(room, namespace=NAMESPACE)
    assert (everything.gap, len(everything)) == (None, 2)


@pytest.mark.parametrize(
    ("arguments", "raises", "says"),
    [
        ({"namespace": "nothing"}, UnknownNamespace, "no consumer has the namespace 'nothing'"),
        ({"namespace": 7}, TypeError, "namespace must be a str, not int"),
        ({"room": ""}, InvalidRoom, "empty"),
        ({"room": 7}, TypeError, "room must be a str"),
        ({"tenant": "red"}, ValueError, r"defines tenant\(\)"),
        ({"since": "a:1"}, TypeError, r"Position\.parse\(\)"),
        ({"since": Position("a", -1)}, ValueError, "must be an int from 0 to"),
        ({"since": Position("a", MAX_OFFSET + 1)}, ValueError, "must be an int from 0 to"),
        ({"since": Position("a", "1")}, ValueError, "must be an int from 0 to .*, not '1'"),  # type: ignore[arg-type]
        ({"limit": 0}, ValueError, "limit must be from 1 to 1000, not 0"),
        ({"limit": 1001}, ValueError, "limit must be from 1 to 1000"),
        ({"limit": True}, TypeError, "limit must be an int, not bool"),
    ],
    ids=str,
)
async def test_wrong_arguments(arguments: dict[str, Any], raises: type[Exception], says: str) -> None:
    """A wrong argument is named."""
    with pytest.raises(raises, match=says):
        await history.ahistory(**{"room": "lobby", "namespace": NAMESPACE, **arguments})


async def test_tenants(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each tenant has a history of its own, and a call says which one it means."""
    monkeypatch.setitem(namespaces, TENANTS.name, TENANTS)
    namespace, room = TENANTS.name, new_room()
    await akeep(f"{namespace}@red", room, "said", {"text": "red"})
    with pytest.raises(TenantRequired):
        await history.ahistory(room, namespace=namespace)
    assert len(await history.ahistory(room, namespace=namespace, tenant="red")) == 1
    assert len(await history.ahistory(room, namespace=namespace, tenant="blue")) == 0


async def test_store_that_cannot_be_used(settings: Any) -> None:
    """A setting that can't be used is an error that says what to run."""
    settings.WSRT = {"HISTORY": {"BACKEND": "nothing.Here"}}
    with pytest.raises(StoreUnavailable, match=r"manage\.py check"):
        await wsrt.aroom_position("lobby", namespace=NAMESPACE)


async def test_memory_of_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without connections can't read the memory of others: the error says what to set."""
    monkeypatch.setattr(access, "may_hold_connections", lambda: False)
    assert not store_of_loop().is_shared
    with pytest.raises(WrongContext, match="RedisHistory"):
        await wsrt.aroom_position("lobby", namespace=NAMESPACE)


def test_text_of_positions() -> None:
    """A position has a text and a dict, and the text is read back."""
    position = Position("6f1c2e5a", 42)
    assert str(position) == "6f1c2e5a:42"
    assert Position.parse("6f1c2e5a:42") == position
    assert position.as_dict() == {"epoch": "6f1c2e5a", "offset": 42}
    assert Position.parse(f"a:{MAX_OFFSET}").offset == MAX_OFFSET


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "a",
        "a:",
        ":1",
        "a:-1",
        "a:+1",
        "a:1.0",
        "a:1e3",
        "a: 1",
        "a:1\n",
        "a:\u0661",
        "a:b:1",
        "a b:1",
        "\u00e9:1",
        "a:\u00b2",
        f"a:{MAX_OFFSET + 1}",
        f"a:{10**30}",
        f"{'a' * 65}:1",
    ],
)
def test_texts_that_are_no_positions(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(ValueError, match="EPOCH:OFFSET"):
        Position.parse(text)
