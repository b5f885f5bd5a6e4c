"""The publications of a room that wait for earlier ones."""

from __future__ import annotations

import pytest

from wsrt.addresses import Room
from wsrt.cluster.messages import Kept, PublishMessage
from wsrt.history import followed as module
from wsrt.history.followed import FollowedRoom
from wsrt.history.log import RoomLog, Verdict
from wsrt.metrics import counters
from wsrt.protocol.envelope import Encoded
from wsrt.types import Position


def room_at(offset: int) -> FollowedRoom:
    room = FollowedRoom(("r", "a"))
    room.log = RoomLog("a", Position("e", offset), f"id{offset}")
    return room


def publication(offset: int | None, id: str | None = None, epoch: str = "e") -> PublishMessage:
    kept = None if offset is None else Kept(Position(epoch, offset), id or f"id{offset}", None)
    return PublishMessage("r", Room("a"), Encoded("said", "1"), None, kept)


def test_judge() -> None:
    """A publication is compared with the log, if it has a position and the log one, too."""
    room = room_at(3)
    assert room.judge(publication(4)) is Verdict.NEXT
    assert room.judge(publication(3, "other")) is Verdict.CONFLICT
    assert room.judge(publication(None)) is None
    assert FollowedRoom(("r", "a")).judge(publication(4)) is None


@pytest.mark.parametrize(
    ("item", "is_behind"),
    [
        (publication(5), False),
        (publication(None), False),
        (publication(3), False),
        (publication(2), True),
        (publication(3, "other"), True),
        (publication(1, epoch="f"), True),
    ],
)
def test_what_only_the_store_can_tell(item: PublishMessage, is_behind: bool) -> None:
    """The room counts as behind if the log can't tell what a publication is."""
    room = room_at(3)
    room.wait(item)
    assert room.is_behind is is_behind
    assert (list(room.waiting), room.size) == ([item], item.frame.size)


@pytest.mark.parametrize("limit", ["number", "bytes"])
def test_too_many(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit the first one goes: it is read from the store, or was dropped, which is counted."""
    room = room_at(0)
    items = [publication(None), publication(2), publication(3)]
    if limit == "number":
        monkeypatch.setattr(module, "WAITING_MESSAGES", 1)
    else:
        monkeypatch.setattr(module, "WAITING_BYTES", max(item.frame.size for item in items))
    before = counters["publications_dropped"]
    room.wait(items[0])
    room.wait(items[1])
    assert counters["publications_dropped"] == before + 1
    assert not room.is_behind
    room.wait(items[2])
    assert counters["publications_dropped"] == before + 1
    assert room.is_behind
    assert (list(room.waiting), room.size) == ([items[2]], items[2].frame.size)


def test_take_out_until() -> None:
    """What was made up to a position waits no longer; others stay, in order."""
    room = room_at(0)
    items = [publication(4), publication(None), publication(2), publication(1, epoch="f")]
    for item in items:
        room.wait(item)
    room.take_out_until(Position("e", 3))
    assert list(room.waiting) == [items[0], items[1], items[3]]
    assert room.size == sum(item.frame.size for item in room.waiting)


def test_withdraw_position() -> None:
    """A publication whose position is withdrawn keeps its turn."""
    room = room_at(0)
    items = [publication(2), publication(3), publication(4)]
    for item in items:
        room.wait(item)
    room.withdraw_position(items[1])
    assert [item.kept and item.kept.position.offset for item in room.waiting] == [2, None, 4]
    assert room.waiting[1].frame.text == publication(None).frame.text
    assert room.size == sum(item.frame.size for item in room.waiting)
