"""What a node remembers of the history of a room."""

from __future__ import annotations

import pytest

from wsrt.history import log as module
from wsrt.history.base import Entry
from wsrt.history.log import Logged, RoomLog, Verdict
from wsrt.metrics import counters
from wsrt.types import Position


def log_of(*offsets: int, at: int = 0, last: str | None = None) -> RoomLog:
    """Return a log that began at an offset and has publications since."""
    log = RoomLog("room", Position("e", at), last)
    for offset in offsets:
        append(log, offset)
    return log


def append(log: RoomLog, offset: int, key: str | None = None) -> None:
    log.append(log.logged(entry(offset, key)))


def entry(offset: int, key: str | None = None) -> Entry:
    return Entry(offset, f"id{offset}", "said", "1", key, 0.0)


def judge(log: RoomLog, offset: int, id: str | None = None, epoch: str = "e") -> Verdict:
    return log.judge(Position(epoch, offset), id or f"id{offset}")


def offsets(found: list[Logged]) -> list[int]:
    return [logged.offset for logged in found]


# Judging.


def test_judge_what_follows() -> None:
    """The next offset follows the log, and a higher one shows that publications are missing."""
    log = log_of(1, 2)
    assert judge(log, 3) is Verdict.NEXT
    assert judge(log, 4) is Verdict.AHEAD


def test_judge_what_the_log_has() -> None:
    """A publication of the log is a duplicate; another one with its offset is a conflict."""
    log = log_of(1, 2, 3)
    for offset in (1, 2, 3):
        assert judge(log, offset) is Verdict.DUPLICATE
        assert judge(log, offset, "another") is Verdict.CONFLICT


def test_judge_what_precedes_the_log() -> None:
    """What precedes the log can't be judged, nor what has the offset of a position whose publication isn't known."""
    log = log_of(6, at=5)
    assert judge(log, 4) is Verdict.OLD
    assert judge(log, 5) is Verdict.OLD
    assert judge(log_of(at=5), 5) is Verdict.OLD


def test_judge_the_publication_at_the_position() -> None:
    """The publication at the position is known by its id before any other one has arrived."""
    log = log_of(at=5, last="id5")
    assert judge(log, 5) is Verdict.DUPLICATE
    assert judge(log, 5, "another") is Verdict.CONFLICT


def test_judge_the_publication_at_the_start() -> None:
    """It is still known when others have followed, until the log begins after it."""
    log = log_of(6, 7, at=5, last="id5")
    assert judge(log, 5) is Verdict.DUPLICATE
    assert judge(log, 5, "another") is Verdict.CONFLICT
    log.shrink()
    append(log, 8)
    assert judge(log, 5, "another") is Verdict.OLD
    assert judge(log, 7, "another") is Verdict.CONFLICT


def test_judge_another_epoch() -> None:
    """Publications of another epoch are unknown, except those up to the end of the epoch before."""
    log = log_of(1, 2)
    assert judge(log, 1, epoch="f") is Verdict.UNKNOWN
    log.restart(Position("f", 0))
    assert judge(log, 2) is Verdict.DUPLICATE
    assert judge(log, 3) is Verdict.UNKNOWN
    assert judge(log, 1, epoch="f") is Verdict.NEXT


def test_judge_after_skipping() -> None:
    """After offsets that nothing has any more, the next one follows; what was skipped can't be judged."""
    log = log_of(1)
    log.skip_to(4)
    assert log.position == Position("e", 4)
    assert judge(log, 5) is Verdict.NEXT
    assert judge(log, 4) is Verdict.OLD
    assert judge(log, 1, "another") is Verdict.CONFLICT
    log.skip_to(3)
    assert log.position == Position("e", 4)


def test_judge_epochs_before() -> None:
    """Copies of the last few epochs are recognised, also if several have ended within a moment."""
    log = log_of(1, 2)
    for epoch in "fghi":
        log.restart(Position(epoch, 0))
    assert judge(log, 2) is Verdict.DUPLICATE
    log.restart(Position("j", 0))
    assert judge(log, 2) is Verdict.UNKNOWN
    log.restart(Position("i", 0))
    assert judge(log, 1, epoch="i") is Verdict.NEXT
    assert len(log._ended) == module.ENDED


# Publications.


def test_logged() -> None:
    """A publication that was read gets the frame that clients get."""
    logged = log_of().logged(entry(7, "k"))
    assert (logged.offset, logged.id, logged.key) == (7, "id7", "k")
    assert '"room":"room"' in logged.frame.text
    assert '"epoch":"e","offset":7' in logged.frame.text


def test_after() -> None:
    """What a client has missed is after its position, up to that of its join. Offsets may be missing."""
    log = log_of(1, 3, 4, 6)
    assert offsets(log.after(0, 6)) == [1, 3, 4, 6]
    assert offsets(log.after(1, 4)) == [3, 4]
    assert log.after(6, 6) == []


def test_append_beyond_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the number that is replayed, the first ones are dropped."""
    monkeypatch.setattr(module, "REPLAY_MESSAGES", 3)
    log = log_of(1, 2, 3, 4, 5)
    assert (log.start, offsets(log.after(0, 5))) == (2, [3, 4, 5])
    assert judge(log, 1) is Verdict.OLD
    assert judge(log, 2) is Verdict.DUPLICATE
    assert log.size == sum(logged.frame.size for logged in log.after(0, 5))


def test_append_beyond_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bytes that are replayed, the first ones are dropped, be it all of them."""
    one = log_of(1).size
    monkeypatch.setattr(module, "REPLAY_BYTES", 2 * one)
    log = log_of(1, 2, 3)
    assert (log.start, log.size) == (1, 2 * one)
    monkeypatch.setattr(module, "REPLAY_BYTES", one - 1)
    append(log, 4)
    assert (log.start, log.size, log.position.offset) == (4, 0, 4)
    assert judge(log, 4) is Verdict.DUPLICATE


def test_prepend() -> None:
    """What precedes the log is added in order; the log is complete from there on."""
    log = log_of(6, at=5)
    log.prepend([log.logged(entry(3)), log.logged(entry(5))], 2)
    assert (log.start, offsets(log.after(2, 6))) == (2, [3, 5, 6])
    assert log.size == sum(logged.frame.size for logged in log.after(2, 6))
    assert judge(log, 5) is Verdict.DUPLICATE


# Starting again, and forgetting.


def test_restart() -> None:
    """A log that starts again has nothing: neither publications nor ids nor values."""
    log = log_of(1, 2)
    log.add_values([log.logged(entry(1, "k"))])
    log.restart(Position("f", 2))
    assert (log.position, log.start, log.size, log.values) == (Position("f", 2), 2, 0, None)
    assert judge(log, 2, epoch="f") is Verdict.OLD


def test_shrink() -> None:
    """A log that is emptied keeps its position, the id there, and the values."""
    log = log_of(1)
    append(log, 2, "k")
    log.add_values([])
    log.shrink()
    assert (log.position, log.start, log.size) == (Position("e", 2), 2, 0)
    assert offsets(log.values_until(log.position)) == [2]
    assert judge(log, 1) is Verdict.OLD
    assert judge(log, 2) is Verdict.DUPLICATE
    assert judge(log, 2, "another") is Verdict.CONFLICT


def test_forget() -> None:
    """What was forgotten is gone from the log, with its id and its bytes; the log stays complete."""
    log = log_of(1, 2, 3)
    log.add_values([log.logged(entry(1, "k")), log.logged(entry(2, "l"))])
    log.forget([2, 9])
    assert (log.start, offsets(log.after(0, 3))) == (0, [1, 3])
    assert log.size == sum(logged.frame.size for logged in log.after(0, 3))
    assert offsets(log.values_until(log.position)) == [1]
    assert judge(log, 2) is Verdict.OLD
    assert log._ids == {1: "id1", 3: "id3"}


def test_forget_the_last() -> None:
    """The last publication is recognised although it was forgotten. Once others have followed, no trace is left."""
    log = log_of(1, 2)
    log.forget([2])
    assert judge(log, 2) is Verdict.DUPLICATE
    assert judge(log, 2, "another") is Verdict.CONFLICT
    append(log, 3)
    assert log._ids == {1: "id1", 3: "id3"}


# Values.


def test_values_of_the_log_win() -> None:
    """Values that were read don't replace newer ones of the log."""
    log = log_of()
    append(log, 1, "k")
    append(log, 4, "k")
    append(log, 5, "l")
    log.add_values([log.logged(entry(offset, key)) for offset, key in ((3, "k"), (6, "l"), (2, "m"))])
    assert offsets(log.values_until(Position("e", 9))) == [2, 4, 6]


def test_values_follow_the_log() -> None:
    """A publication replaces the value of its key; the order is that of the offsets."""
    log = log_of()
    log.add_values([])
    for offset, key in ((1, "k"), (2, "l"), (3, "k")):
        append(log, offset, key)
    append(log, 4)
    assert offsets(log.values_until(log.position)) == [2, 3]


def test_values_until() -> None:
    """Values after a position, or of another epoch, aren't given."""
    log = log_of()
    assert log.values_until(log.position) == []
    log.add_values([log.logged(entry(1, "k")), log.logged(entry(2, "l"))])
    assert offsets(log.values_until(Position("e", 1))) == [1]
    assert log.values_until(Position("f", 2)) == []


def test_most_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the number of values, those go that were set first."""
    monkeypatch.setattr(module, "VALUES", 2)
    log = log_of()
    log.add_values([])
    for offset, key in ((1, "k"), (2, "l"), (3, "k"), (4, "m")):
        append(log, offset, key)
    assert offsets(log.values_until(log.position)) == [3, 4]


def test_largest_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bytes of values, those go that were set first, and each is counted; one value always stays."""
    log = log_of(at=3)
    size = log.logged(entry(1, "k")).frame.size
    monkeypatch.setattr(module, "VALUES_BYTES", 2 * size)
    before = counters["history_values_left_out"]
    log.add_values([log.logged(entry(offset, key)) for offset, key in ((1, "k"), (2, "l"), (3, "m"))])
    assert offsets(log.values_until(Position("e", 3))) == [2, 3]
    for offset, key in ((4, "m"), (5, "n"), (6, "n"), (7, "o")):
        append(log, offset, key)
    assert offsets(log.values_until(log.position)) == [6, 7]
    assert counters["history_values_left_out"] == before + 3
    log.forget([6])
    append(log, 8, "p")
    assert offsets(log.values_until(log.position)) == [7, 8]
    monkeypatch.setattr(module, "VALUES_BYTES", 1)
    append(log, 9, "q")
    assert offsets(log.values_until(log.position)) == [9]


def test_values_that_the_store_has_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the store deletes the value that was set first, none is left out."""
    monkeypatch.setattr(module, "VALUES", 3)
    log = RoomLog("r", Position("e", 0), values_kept=2)
    log.add_values([])
    before = counters["history_values_left_out"]
    for offset, key in ((1, "k"), (2, "l"), (3, "m")):
        append(log, offset, key)
    assert offsets(log.values_until(log.position)) == [2, 3]
    assert not log.lacks_values(log.position)
    assert counters["history_values_left_out"] == before


def test_lacking_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log knows that it lacks values: those that weren't read, and those that it has left out."""
    log = log_of(at=3)
    assert not log.lacks_values(log.position)
    log.add_values([log.logged(entry(3, "k"))], has_more=True)
    assert log.lacks_values(log.position)
    # Those after a position are sent to the clients that have joined there.
    assert not log.lacks_values(Position("e", 0))
    assert not log.lacks_values(Position("f", 3))
    log.add_values([log.logged(entry(3, "k"))])
    assert not log.lacks_values(log.position)
    monkeypatch.setattr(module, "VALUES", 1)
    append(log, 4, "l")
    append(log, 5, "m")
    assert not log.lacks_values(Position("e", 2))
    assert log.lacks_values(Position("e", 3))
    log.restart(Position("f", 9))
    assert not log.lacks_values(log.position)
    log.add_values([])
    assert not log.lacks_values(log.position)
