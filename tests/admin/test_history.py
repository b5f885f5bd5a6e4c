"""What the page of a room shows of its history, and what operators delete from it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry

from tests.admin.conftest import MakeOperator, page
from tests.support.histories import akeep, new_room
from tests.support.layer import FakeLayer, installed
from wsrt import Event, TypedEventConsumer, apublish_to_room, history
from wsrt.admin import queries
from wsrt.admin.history import PAST_ROWS
from wsrt.admin.queries import WatchRoom
from wsrt.admin.targets import Target
from wsrt.cluster.node import current_node
from wsrt.exceptions import StoreUnavailable
from wsrt.history import access
from wsrt.permissions import FORGET, VIEW

pytestmark = pytest.mark.django_db(transaction=True)

NAMESPACE = "history-admin"
WITHOUT = "history-admin-without"


class Said(Event, name="said", history=True):
    text: str


class Price(Event, name="price", history="latest", key="symbol"):
    symbol: str
    value: int


class Talk(TypedEventConsumer):
    namespace = NAMESPACE
    out_events = (Said, Price)


class Unkept(TypedEventConsumer):
    namespace = WITHOUT


@pytest.fixture(autouse=True)
async def _node() -> None:
    """The admin's process holds connections, so it reaches all there are."""
    current_node()


@pytest.fixture
def down(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The store of history doesn't answer."""

    def fail() -> None:
        raise StoreUnavailable("no answer")

    monkeypatch.setattr(access, "store_of_loop", fail)
    return iter(())


def target(room: str) -> Target:
    return Target("room", NAMESPACE, room)


async def log() -> list[tuple[str, str]]:
    return [(entry.object_repr, entry.change_message) async for entry in LogEntry.objects.order_by("pk")]


async def offsets(room: str) -> list[int]:
    return [past.position.offset for past in await history.ahistory(room, namespace=NAMESPACE)]


async def test_facts(operator: MakeOperator) -> None:
    """Whoever sees the page sees the position and the size of what is kept, but not what was said."""
    viewer, room = await operator(VIEW), new_room()
    positions = await akeep(NAMESPACE, room, "said", {"text": "secret"}, {"text": "secret"})
    text = await viewer.see("room", namespace=NAMESPACE, room=room)
    assert f'data-show="epoch" class="wsrt-name">{positions[0].epoch}</dd>' in text
    for name, value in {"offset": 2, "entries": 2, "values": 0, "bytes": 42}.items():
        assert f'data-show="{name}">{value}</dd>' in text
    assert re.search(r'data-show="oldest" data-format="time">\d{4}-\d\d-\d\d \d\d:\d\d:\d\d</time>', text)
    assert "secret" not in text
    assert page("forget") not in text


async def test_live() -> None:
    """The live socket sends the same."""
    room = new_room()
    (position,) = await akeep(NAMESPACE, room, "said", {"text": "a"})
    found = await WatchRoom(namespace=NAMESPACE, room=room).run()
    assert (found.is_kept, found.epoch, found.offset, found.entries) == (True, position.epoch, 1, 1)


async def test_namespace_without_history(operator: MakeOperator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A room of a namespace without history costs no question to the store, and shows nothing."""

    async def asked(*args: Any) -> None:
        raise AssertionError("the store was asked")

    monkeypatch.setattr(queries, "afacts", asked)
    root = await operator()
    text = await root.see("room", namespace=WITHOUT, room="lobby")
    assert '<dl class="wsrt-figures" data-if="is_kept" hidden>' in text
    assert page("purge") not in text


async def test_store_is_down(operator: MakeOperator, down: None) -> None:
    """If the history can't be read the page says so, and shows the rest."""
    root = await operator()
    text = await root.see("room", namespace=NAMESPACE, room="lobby")
    assert '<p class="wsrt-note" data-if="is_unreadable">The history of this room can’t be read at the moment.' in text
    assert "This room is empty." in text


async def test_list(operator: MakeOperator) -> None:
    """Operators with the permission see the last publications, the newest first, escaped."""
    moderator, room = await operator(VIEW, FORGET), new_room()
    await akeep(NAMESPACE, room, "said", *({"text": f"<b>{number}"} for number in range(PAST_ROWS + 5)))
    text = await moderator.see("room", namespace=NAMESPACE, room=room)
    found = re.findall(r'name="offset" value="(\d+)"', text)
    assert found == [str(offset) for offset in range(PAST_ROWS + 5, 5, -1)]
    assert "&lt;b&gt;54" in text
    assert "<b>54" not in text


async def test_list_of_publications_far_apart(operator: MakeOperator) -> None:
    """What a value has replaced since doesn't hide the publications before it."""
    viewer, room = await operator(VIEW, FORGET), new_room()
    await akeep(NAMESPACE, room, "said", {"text": "a"}, {"text": "b"})
    for value in range(PAST_ROWS * 2):
        await apublish_to_room(room, Price(symbol="a", value=value), namespace=NAMESPACE)
    found = re.findall(r'name="offset" value="(\d+)"', await viewer.see("room", namespace=NAMESPACE, room=room))
    assert found == [str(PAST_ROWS * 2 + 2), "2", "1"]


async def test_list_of_large_publications(operator: MakeOperator) -> None:
    """The last publications are listed, also if they are too large to be read at once."""
    viewer, room = await operator(VIEW, FORGET), new_room()
    await akeep(NAMESPACE, room, "said", *[{"text": "x" * 600_000}] * 3)
    found = re.findall(r'name="offset" value="(\d+)"', await viewer.see("room", namespace=NAMESPACE, room=room))
    assert found == ["3", "2", "1"]


async def test_empty_list(operator: MakeOperator) -> None:
    """Where nothing is kept, there is nothing to delete."""
    moderator = await operator(VIEW, FORGET)
    text = await moderator.see("room", namespace=NAMESPACE, room=new_room())
    assert "Nothing is kept of this room." in text
    assert page("purge") not in text


async def test_forget(operator: MakeOperator) -> None:
    """One publication is deleted without a question, recorded, and the page shows the rest."""
    moderator, room = await operator(VIEW, FORGET), new_room()
    (position, _) = await akeep(NAMESPACE, room, "said", {"text": "bad"}, {"text": "good"})
    here = page("room", namespace=NAMESPACE, room=room)
    data = {"target": target(room).token, "epoch": position.epoch, "offset": "1", "back": here}
    text = await moderator.post("forget", data)
    assert "The publication 1 was deleted." in text
    assert "bad" not in text
    assert await offsets(room) == [2]
    assert await log() == [(f"room “{room}” of {NAMESPACE}", "Deleted the publication 1.")]


async def test_forget_again(operator: MakeOperator) -> None:
    """What isn't kept any more isn't recorded as deleted."""
    moderator, room = await operator(VIEW, FORGET), new_room()
    (position,) = await akeep(NAMESPACE, room, "said", {"text": "a"})
    for epoch, offset in ((position.epoch, "7"), ("another", "1")):
        text = await moderator.post("forget", {"target": target(room).token, "epoch": epoch, "offset": offset})
        assert "This publication isn’t in the history any more." in text
    assert await offsets(room) == [1]
    assert await log() == []


async def test_purge(operator: MakeOperator) -> None:
    """Everything is deleted once that is confirmed, and recorded."""
    moderator, room = await operator(VIEW, FORGET), new_room()
    await akeep(NAMESPACE, room, "said", {"text": "a"}, {"text": "b"})
    text = await moderator.post("purge", {"target": target(room).token})
    assert "Yes, delete them" in text
    assert await offsets(room) == [1, 2]
    assert await log() == []
    text = await moderator.post("purge", {"target": target(room).token, "confirm": "1"})
    assert f"All kept publications of room “{room}” of {NAMESPACE} were deleted." in text
    assert await offsets(room) == []
    assert await log() == [(f"room “{room}” of {NAMESPACE}", "Deleted all kept publications.")]


@pytest.mark.parametrize("action", ["forget", "purge"])
async def test_permission(operator: MakeOperator, action: str) -> None:
    """Who may see the page may not delete, and sees no button."""
    viewer, room = await operator(VIEW), new_room()
    (position,) = await akeep(NAMESPACE, room, "said", {"text": "a"})
    data = {"target": target(room).token, "epoch": position.epoch, "offset": "1", "confirm": "1"}
    await viewer.post(action, data, status=403)
    assert (await viewer.client.get(page(action))).status_code == 403
    assert await offsets(room) == [1]


@pytest.mark.parametrize("action", ["forget", "purge"])
async def test_get(operator: MakeOperator, action: str) -> None:
    """A GET, as after signing in, deletes nothing."""
    root = await operator()
    assert (await root.client.get(page(action))).headers["Location"] == page("changelist")


@pytest.mark.parametrize(
    "data",
    [
        {"target": "nonsense"},
        {"target": Target("user", None, "ada").token},
        {"target": Target("room", "nothing", "lobby").token},
        {"target": Target("room", WITHOUT, "lobby").token},
        {"offset": "0"},
        {"offset": "-1"},
        {"offset": "1" * 40},
        {"offset": "٣"},
        {"epoch": ""},
    ],
    ids=str,
)
async def test_invalid_forms(operator: MakeOperator, data: dict[str, str]) -> None:
    """A form that names no publication is not found."""
    root = await operator()
    await root.post("forget", {"target": target("lobby").token, "offset": "1", "epoch": "e", **data}, status=404)


@pytest.mark.parametrize("action", ["forget", "purge"])
async def test_store_down(operator: MakeOperator, down: None, action: str) -> None:
    """If the store is down, nothing is deleted, the page says so, and nothing is recorded."""
    root = await operator()
    data = {"target": target("lobby").token, "epoch": "e", "offset": "1", "confirm": "1"}
    text = await root.post(action, data)
    assert "Not deleted: no answer" in text
    assert await log() == []


async def test_layer_down(operator: MakeOperator) -> None:
    """If the other processes aren't reached, the deletion stays recorded, and the page says what to do."""
    root, room = await operator(), new_room()
    (position,) = await akeep(NAMESPACE, room, "said", {"text": "a"})
    layer = FakeLayer()
    layer.is_down = True
    with installed(layer):
        data = {"target": target(room).token, "epoch": position.epoch, "offset": "1"}
        text = await root.post("forget", data)
    assert "Deleted in the store, but other processes couldn’t be notified" in text
    assert await offsets(room) == []
    assert len(await log()) == 1
