"""Sending after the commit: exactly what was committed, in the order of the calls, however blocks nest and fail."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connections, transaction
from django.test import TestCase
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wsrt.cluster import commits

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(name="sent")
def _sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What was sent, in order."""
    sent: list[Any] = []
    monkeypatch.setattr(commits, "send_from_sync", sent.append)

    def send_all(batch: list[Any]) -> list[None]:
        sent.extend(batch)
        return [None] * len(batch)

    monkeypatch.setattr(commits, "send_all_from_sync", send_all)
    yield sent
    commits._send_what_is_left()


def send(number: Any, using: str | None = None) -> None:
    commits.send_on_commit(number, True, using)


def fail() -> None:
    raise ZeroDivisionError


Block = st.deferred(
    lambda: st.tuples(
        st.sampled_from(["savepoint", "plain"]),
        st.booleans(),
        st.lists(st.one_of(st.just("send"), st.just("callback"), Block), max_size=5),
    )
)
"""How a block of a transaction begins, whether it is rolled back, and what it does."""


class Run:
    """One transaction after the other, with the numbers that each of them should send."""

    def __init__(self) -> None:
        self.number = 0

    def block(self, block: Any) -> list[int]:
        """Run a block; return the numbers that are sent if the ones around it are committed."""
        kind, is_undone, steps = block
        kept: list[int] = []
        try:
            with transaction.atomic(savepoint=kind == "savepoint"):
                for step in steps:
                    if step == "send":
                        self.number += 1
                        send(self.number)
                        kept.append(self.number)
                    elif step == "callback":
                        transaction.on_commit(fail, robust=True)
                    else:
                        kept += self.block(step)
                if is_undone and kind == "savepoint":
                    fail()
        except ZeroDivisionError:
            return []
        return kept


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(transactions=st.lists(st.tuples(st.just("savepoint"), st.booleans(), st.lists(Block, max_size=3)), max_size=3))
def test_what_is_committed_is_sent(sent: list[Any], transactions: list[Any]) -> None:
    """Blocks with and without savepoints, committed and rolled back, send what was committed, in order."""
    sent.clear()
    run, expected = Run(), []
    for block in transactions:
        expected += run.block(block)
        assert sent == expected


def test_a_callback_that_raises(sent: list[Any]) -> None:
    """What was reached before a callback of the application raised is sent, at the latest with the next commit."""
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        send(1)
        transaction.on_commit(fail)
        send(2)
    with transaction.atomic():
        send(3)
    assert sent == [1, 3]


def test_durable(sent: list[Any]) -> None:
    """A durable block sends when it ends."""
    with transaction.atomic(durable=True):
        send(1)
        with transaction.atomic():
            send(2)
        assert not sent
    assert sent == [1, 2]


def test_captured_callbacks(sent: list[Any]) -> None:
    """In a test case whose transaction never ends, captured callbacks send what each block would have sent."""
    with transaction.atomic():
        for numbers in ((1, 2), (3,)):
            with TestCase.captureOnCommitCallbacks(execute=True), transaction.atomic():
                for number in numbers:
                    send(number)
        assert sent == [1, 2, 3]
        transaction.set_rollback(True)


def test_batch_of_one_call(sent: list[Any]) -> None:
    """The messages of one call are registered together, in order with others; none isn't registered."""
    with transaction.atomic():
        send(1)
        commits.send_all_on_commit([2, 3, 4], True, None)  # type: ignore[list-item]
        commits.send_all_on_commit([], True, None)
        send(5)
        assert len(transaction.get_connection().run_on_commit) == 3
    assert sent == [1, 2, 3, 4, 5]


# Several databases.

DATABASES = ("default", "other")


@pytest.fixture
def other(django_db_blocker: Any) -> Iterator[None]:
    """A second database."""
    memory = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    connections.databases["other"] = connections.databases["default"] | memory
    with django_db_blocker.unblock():
        yield
        connections["other"].close()
    del connections["other"]
    del connections.databases["other"]


@dataclasses.dataclass
class Open:
    """
    A block that was entered, and not left yet.

    Attributes:
        atomic: The block.
        is_undoable: Whether it can be rolled back without the one around it.
        is_lost: Whether it is rolled back whatever happens.
        kept: What it sends, unless it is rolled back.
    """

    atomic: Any
    is_undoable: bool
    is_lost: bool
    kept: list[int] = dataclasses.field(default_factory=list)


Step = st.tuples(
    st.sampled_from(["send", "send", "callback", "enter", "enter", "leave"]), st.sampled_from(DATABASES), st.booleans()
)
"""What is done, in which database, and whether a block has a savepoint, or doesn't fail."""


class Databases:
    """Blocks of two databases, entered and left independently of each other."""

    def __init__(self) -> None:
        self.number = 0
        self.expected: list[int] = []
        self.blocks: dict[str, list[Open]] = {using: [] for using in DATABASES}

    def do(self, what: str, using: str, flag: bool) -> None:
        blocks = self.blocks[using]
        if what == "send":
            self.number += 1
            send(self.number, using)
            (blocks[-1].kept if blocks else self.expected).append(self.number)
        elif what == "enter":
            self.enter(using, has_savepoint=flag)
        elif what == "leave" and blocks:
            self.leave(using, fails=not flag)
        elif what == "callback" and blocks:
            transaction.on_commit(fail, using=using, robust=True)

    def enter(self, using: str, *, has_savepoint: bool) -> None:
        blocks = self.blocks[using]
        is_lost = bool(blocks) and blocks[-1].is_lost
        atomic = transaction.atomic(using=using, savepoint=has_savepoint)
        atomic.__enter__()
        blocks.append(Open(atomic, not blocks or (has_savepoint and not is_lost), is_lost))

    def leave(self, using: str, *, fails: bool) -> None:
        blocks = self.blocks[using]
        block = blocks.pop()
        error = ZeroDivisionError() if fails else None
        block.atomic.__exit__(type(error) if error else None, error, None)
        if not fails and not block.is_lost:
            (blocks[-1].kept if blocks else self.expected).extend(block.kept)
        elif not block.is_undoable:
            blocks[-1].is_lost = True

    def leave_all(self) -> None:
        for using in DATABASES:
            while self.blocks[using]:
                self.leave(using, fails=False)


@pytest.mark.usefixtures("other")
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(Step, max_size=40))
def test_two_databases(sent: list[Any], steps: list[Any]) -> None:
    """What waits for a commit is sent with that of its own database, whatever blocks of another one do meanwhile."""
    commits._send_what_is_left()
    sent.clear()
    run = Databases()
    try:
        for step in steps:
            run.do(*step)
            assert sent == run.expected
    finally:
        run.leave_all()
    assert sent == run.expected
