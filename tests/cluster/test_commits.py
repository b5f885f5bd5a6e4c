"""Sending after the commit: exactly what was committed, in the order of the calls, however blocks nest and fail."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import pytest
from django.core import mail
from django.db import connections, transaction
from django.test import TestCase
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wsrt import Event, TypedEventConsumer, publish_to_user
from wsrt.cluster import commits
from wsrt.exceptions import BackplaneUnavailable
from wsrt.metrics import counters

pytestmark = pytest.mark.django_db(transaction=True)


class Noted(Event, name="commits.noted"):
    pass


class Notes(TypedEventConsumer):
    namespace = "commits"
    out_events = (Noted,)


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


@pytest.fixture(name="mode", params=["in a test", "in production"])
def _mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether callbacks may be captured by a test. Otherwise, consecutive calls share a callback."""
    if request.param == "in production":
        monkeypatch.delattr(mail, "outbox")


def send(number: Any, using: str | None = None) -> None:
    commits.send_on_commit(number, True, using)


def send_all(numbers: list[Any]) -> None:
    commits.send_all_on_commit(numbers, True, None)


def fail() -> None:
    raise ZeroDivisionError


def interrupt() -> None:
    raise KeyboardInterrupt


Block: Any = st.deferred(
    lambda: st.tuples(
        st.sampled_from(["savepoint", "plain"]),
        st.booleans(),
        st.lists(
            st.one_of(st.sampled_from(["send", "send", "send all", "callback", "robust callback"]), Block), max_size=6
        ),
    )
)
"""How a block of a transaction begins, whether it is rolled back, and what it does."""


class Run:
    """One transaction after the other, with the numbers that each of them should send."""

    def __init__(self) -> None:
        self.number = 0

    def block(self, block: Any) -> list[Any]:
        """Run a block; return the numbers that are sent if the blocks around it are committed."""
        kind, is_undone, steps = block
        kept: list[Any] = []
        try:
            with transaction.atomic(savepoint=kind == "savepoint"):
                for step in steps:
                    if step in ("send", "send all"):
                        numbers = [self.number + 1, self.number + 2][: 1 if step == "send" else 2]
                        self.number = numbers[-1]
                        send_all(numbers) if step == "send all" else send(self.number)
                        kept += numbers
                    elif step == "callback":
                        transaction.on_commit(interrupt)
                    elif step == "robust callback":
                        transaction.on_commit(fail, robust=True)
                    else:
                        kept += self.block(step)
                if is_undone and kind == "savepoint":
                    fail()
        except ZeroDivisionError:
            return []
        except KeyboardInterrupt:
            pass  # the transaction was committed
        return kept


@pytest.mark.usefixtures("mode")
@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(transactions=st.lists(st.tuples(st.just("savepoint"), st.booleans(), st.lists(Block, max_size=4)), max_size=3))
def test_what_is_committed_is_sent(sent: list[Any], transactions: list[Any]) -> None:
    """
    Blocks with and without savepoints, committed and rolled back, send what was committed, in order, whatever callbacks
    of the application raise.
    """
    sent.clear()
    run, expected = Run(), []
    for block in transactions:
        expected += run.block(block)
        assert sent == expected


@pytest.mark.usefixtures("mode")
@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize(("raises", "is_robust"), [(fail, False), (interrupt, False), (interrupt, True)])
def test_a_callback_that_raises(sent: list[Any], place: int, raises: Any, is_robust: bool) -> None:
    """Messages are sent although Django runs no callback after one of the application that raises."""
    with pytest.raises((ZeroDivisionError, KeyboardInterrupt)), transaction.atomic():
        for number in range(1, 4):
            if place == number - 1:
                transaction.on_commit(raises, robust=is_robust)
            send(number)
        if place == 3:
            transaction.on_commit(raises, robust=is_robust)
    assert sent == [1, 2, 3]
    with transaction.atomic():
        send(4)
    assert sent == [1, 2, 3, 4]


@pytest.mark.usefixtures("mode")
def test_order_with_callbacks(sent: list[Any]) -> None:
    """Messages are sent after the callbacks that were registered before them, each of which runs once."""
    with transaction.atomic():
        transaction.on_commit(lambda: sent.append("first"))
        send(1)
        transaction.on_commit(functools.partial(sent.append, "second"))
        transaction.on_commit(fail, robust=True)
        send(2)
        transaction.on_commit(lambda: sent.append("third"))
    assert sent == ["first", "second", 1, 2, "third"]


@pytest.mark.usefixtures("mode")
def test_a_callback_that_raises_among_savepoints(sent: list[Any]) -> None:
    """What was rolled back isn't sent when a callback raises, not even if it was registered last."""
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        with contextlib.suppress(KeyError), transaction.atomic():
            transaction.on_commit(interrupt)
            send(1)
            raise KeyError
        transaction.on_commit(fail)
        send(2)
        with transaction.atomic():
            send(3)
        with contextlib.suppress(KeyError), transaction.atomic():
            send(4)
            raise KeyError
        transaction.on_commit(interrupt)
        with transaction.atomic():
            send(5)
        with contextlib.suppress(KeyError), transaction.atomic():
            send(6)
            raise KeyError
    assert sent == [2, 3, 5]


@pytest.mark.usefixtures("mode")
def test_a_transaction_that_is_rolled_back_before_a_callback_raises(sent: list[Any]) -> None:
    """Of a transaction that was rolled back nothing is sent, and nothing is kept."""
    for number in range(100):
        with contextlib.suppress(KeyError), transaction.atomic():
            transaction.on_commit(fail)
            send(number)
            raise KeyError
    assert len(commits._commits[transaction.get_connection()]._registered) <= 1
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        transaction.on_commit(fail)
        send(100)
    assert sent == [100]


def test_a_callback_that_raises_among_captured_ones(sent: list[Any]) -> None:
    """In a test case, a callback that raises ends its own block only, and nothing is sent twice."""
    with transaction.atomic():
        send(1)
        with pytest.raises(ZeroDivisionError), TestCase.captureOnCommitCallbacks(execute=True):
            send(2)
            transaction.on_commit(fail)
            send(3)
        assert sent == [2, 3]
        with TestCase.captureOnCommitCallbacks(execute=True):
            send(4)
        assert sent == [2, 3, 4]
        transaction.set_rollback(True)
    assert sent == [2, 3, 4]


def test_a_failure_to_send_after_a_callback_that_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """If what Django would have dropped can't be sent, that is counted, and the callback's error is raised."""
    monkeypatch.setattr(commits, "send_all_from_sync", lambda batch: [BackplaneUnavailable("down")] * len(batch))
    before = counters["publications_lost_after_commit"]
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        transaction.on_commit(fail)
        for user in (1, 2):
            publish_to_user(user, Noted(), namespace="commits")
    assert counters["publications_lost_after_commit"] == before + 2


@pytest.mark.usefixtures("mode")
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
        send_all([2, 3, 4])
        send_all([])
        send(5)
        assert len(transaction.get_connection().run_on_commit) == 3
    assert sent == [1, 2, 3, 4, 5]


def test_shared_callbacks(sent: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of tests, consecutive calls with the same savepoints share a callback. Others run in their order."""
    monkeypatch.delattr(mail, "outbox")
    seen: list[list[Any]] = []
    with transaction.atomic():
        waiting = transaction.get_connection().run_on_commit
        numbers = [1, 2, 3]
        send_all(numbers)
        send(4)
        assert len(waiting) == 1
        assert numbers == [1, 2, 3]
        transaction.on_commit(lambda: seen.append([*commits._commits[transaction.get_connection()]._batch]))
        send(5)
        send(6)
        assert len(waiting) == 3
        with transaction.atomic():
            send(7)
            send(8)
            assert len(waiting) == 5  # with the one that runs even if the savepoint is rolled back
        send(9)
        send(10)
        assert len(waiting) == 6
        assert not sent
    assert seen == [[1, 2, 3, 4]]
    assert sent == list(range(1, 11))


@pytest.mark.usefixtures("mode")
def test_calls_around_a_rollback(sent: list[Any]) -> None:
    """Calls before and after a savepoint that is rolled back are sent, though the newest callback was dropped."""
    with transaction.atomic():
        send(1)
        with contextlib.suppress(ZeroDivisionError), transaction.atomic():
            send(2)
            fail()
        send(3)
        send(4)
    assert sent == [1, 3, 4]


def test_captured_after_a_call(sent: list[Any]) -> None:
    """A test captures what was registered after the capture began, even if an earlier call did the same before it."""
    with transaction.atomic():
        send(1)
        with TestCase.captureOnCommitCallbacks(execute=True) as captured:
            send(2)
            send(3)
        assert len(captured) == 2
        assert sent == [2, 3]
        with TestCase.captureOnCommitCallbacks() as captured:
            send(4)
        assert sent == [2, 3]
        captured[0]()
        assert sent == [2, 3, 4]
        transaction.set_rollback(True)


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
            transaction.on_commit(interrupt, using=using)

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
        with contextlib.suppress(KeyboardInterrupt):
            block.atomic.__exit__(type(error) if error else None, error, None)
        if not fails and not block.is_lost:
            (blocks[-1].kept if blocks else self.expected).extend(block.kept)
        elif not block.is_undoable:
            blocks[-1].is_lost = True

    def leave_all(self) -> None:
        for using in DATABASES:
            while self.blocks[using]:
                self.leave(using, fails=False)


@pytest.mark.usefixtures("other", "mode")
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(Step, max_size=40))
def test_two_databases(sent: list[Any], steps: list[Any]) -> None:
    """
    What waits for a commit is sent with that of its own database, whatever blocks of another one do meanwhile, and
    whatever callbacks of the application raise.
    """
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
