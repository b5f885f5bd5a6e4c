"""The inbox: received frames that wait for the handlers of a connection."""

from __future__ import annotations

from wsrt.delivery.inbox import Inbox


def test_sift() -> None:
    """Items can be taken out of the middle; the others stay in order, and what they count for."""
    inbox: Inbox[str] = Inbox(frames=3, size=100)
    for item, size in (("a", 60), ("b", 60), ("work", None), ("c", 60)):
        inbox.put(item, size)
    assert inbox.overfull
    seen = []
    inbox.sift(lambda item: seen.append(item) or item != "b")
    assert seen == ["a", "b", "work", "c"]
    assert (len(inbox), inbox.uncounted, inbox.overfull) == (3, 1, True)
    assert [inbox.get(), inbox.get(), inbox.get()] == ["a", "work", "c"]
    assert not inbox.crowded
