"""Publishing what waits: the order, several workers, and what can't be published; on both databases."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from django.db import connections, transaction

from tests.apps.chat.events import Said
from tests.support.databases import Database
from wsrt import BackplaneUnavailable, Event, TypedEventConsumer
from wsrt.cluster.batch import Outcome
from wsrt.cluster.messages import PublishMessage
from wsrt.cluster.outgoing import Outgoing
from wsrt.durable import publish_to_room, publish_to_user, publish_waiting, rows
from wsrt.durable.models import FailedPublication, WaitingPublication
from wsrt.durable.rows import RowPublisher
from wsrt.metrics import counters
from wsrt.signals import publication_failed

WRITERS = 8
"""The number of transactions that overlap."""


def texts(sent: list[Outgoing]) -> list[str]:
    """Return what was said, in order."""
    return [text_of(outgoing) for outgoing in sent]


def text_of(outgoing: Outgoing) -> str:
    assert isinstance(outgoing.item, PublishMessage)
    return Said.model_validate_json(outgoing.item.encoded.data).text


def say(text: str, using: str, room: str = "lobby") -> None:
    publish_to_room(room, Said(text=text), namespace="chat", using=using)


# What is committed


def test_committed(database: Database, sent: list[Outgoing]) -> None:
    """What a transaction stores is published after its commit, in order, and is deleted then."""
    with transaction.atomic(using=database.alias):
        say("one", database.alias)
        say("two", database.alias)
        other = database.another()
        assert publish_waiting(other) == 0
    assert publish_waiting(database.alias) == 2
    assert texts(sent) == ["one", "two"]
    assert not WaitingPublication.objects.using(database.alias).exists()
    assert publish_waiting(database.alias) == 0


def test_rolled_back(database: Database, sent: list[Outgoing]) -> None:
    """What is rolled back, with its transaction or with a savepoint, is never published."""
    with transaction.atomic(using=database.alias):
        say("kept", database.alias)
        with contextlib.suppress(ZeroDivisionError), transaction.atomic(using=database.alias):
            say("savepoint", database.alias)
            raise ZeroDivisionError
    with contextlib.suppress(ZeroDivisionError), transaction.atomic(using=database.alias):
        say("transaction", database.alias)
        raise ZeroDivisionError
    publish_waiting(database.alias)
    assert texts(sent) == ["kept"]


def test_without_a_transaction(database: Database, sent: list[Outgoing]) -> None:
    """Outside a transaction the row is stored at once."""
    say("hi", database.alias)
    assert publish_waiting(database.alias) == 1
    assert texts(sent) == ["hi"]


def test_users(database: Database, sent: list[Outgoing]) -> None:
    """Users are audiences too, models among them by their keys."""
    publish_to_user(7, Said(text="hi"), namespace="chat", using=database.alias)
    publish_waiting(database.alias)
    [outgoing] = sent
    assert isinstance(outgoing.item, PublishMessage)
    assert outgoing.item.audience.to_message() == ["user", "7"]


def test_small_batches(database: Database, sent: list[Outgoing]) -> None:
    """A room with more rows than a batch is published in order."""
    said = [str(number) for number in range(25)]
    for text in said:
        say(text, database.alias)
    assert RowPublisher(database.alias, batch=4).run() == len(said)
    assert texts(sent) == said


def test_large_events(database: Database, sent: list[Outgoing], monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of large events ends early, so that it doesn't fill the memory."""
    monkeypatch.setattr(rows, "BATCH_BYTES", 250)
    for number in range(8):
        say(str(number) * 100, database.alias)
    worker = RowPublisher(database.alias)
    sizes: list[int] = []
    read = worker._read

    def read_and_note(numbers: Sequence[int]) -> list[WaitingPublication]:
        rows = read(numbers)
        sizes.append(len(rows))
        return rows

    monkeypatch.setattr(worker, "_read", read_and_note)
    assert worker.run() == 8
    assert sizes == [3, 3, 2]
    assert [text[0] for text in texts(sent)] == [str(number) for number in range(8)]


# The order


class Schedule:
    """
    Transactions that overlap on purpose, in steps of one thread: each has an alias and a connection of its own.

    Args:
        database: The database.
        seed: What is chosen at random.
    """

    def __init__(self, database: Database, seed: int) -> None:
        self.random = random.Random(seed)
        self.aliases = [database.another() for _ in range(WRITERS)]
        self.step = 0
        # By text: the step in which it was stored, and the steps in which its transaction was committed.
        self.stored: dict[str, int] = {}
        self.committed: dict[str, int] = {}
        self.rooms: dict[str, str] = {}
        self._open: dict[str, tuple[contextlib.ExitStack, list[str]]] = {}

    def run(self, steps: int, publish: Callable[[], Any]) -> None:
        """Store, commit, roll back and publish in an order chosen at random, then end all and publish."""
        for _ in range(steps):
            self._step(publish)
        for alias in [*self._open]:
            self._end(alias, commits=True)
        publish()

    def _step(self, publish: Callable[[], Any]) -> None:
        self.step += 1
        alias = self.random.choice(self.aliases)
        match self.random.choices(["store", "commit", "roll back", "publish"], [6, 2, 0.5, 2])[0]:
            case "store":
                self._store(alias)
            case "commit":
                self._end(alias, commits=True)
            case "roll back":
                self._end(alias, commits=False)
            case _:
                publish()

    def _store(self, alias: str) -> None:
        if alias not in self._open:
            stack = contextlib.ExitStack()
            stack.enter_context(transaction.atomic(using=alias))
            self._open[alias] = stack, []
            # It has an id of its own, in PostgreSQL, long before it stores something.
            if self.random.random() < 0.5 and connections[alias].vendor == "postgresql":
                with connections[alias].cursor() as cursor:
                    cursor.execute("SELECT pg_current_xact_id()")
                return
        text = f"{alias}-{self.step}"
        room = self.random.choice(["lobby", "lobby", "attic"])
        say(text, alias, room)
        self.stored[text] = self.step
        self.rooms[text] = room
        self._open[alias][1].append(text)

    def _end(self, alias: str, *, commits: bool) -> None:
        if alias not in self._open:
            return
        stack, said = self._open.pop(alias)
        if commits:
            stack.close()
            self.committed.update(dict.fromkeys(said, self.step))
            return
        transaction.set_rollback(True, using=alias)
        stack.close()

    def violations(self, published: list[str]) -> list[str]:
        """Return what is wrong with an order of publications."""
        places: dict[str, int] = {}
        for place, text in enumerate(published):
            places.setdefault(text, place)
        found = [f"{text} was rolled back" for text in places if text not in self.committed]
        found += [f"{text} is missing" for text in self.committed if text not in places]
        found += [f"{text} came twice" for text in places if published.count(text) > 1]
        for first, committed in self.committed.items():
            for second, stored in self.stored.items():
                if second not in self.committed or self.rooms[first] != self.rooms[second]:
                    continue
                same = committed == self.committed[second] and self.stored[first] < stored
                if (committed < stored or same) and places.get(first, -1) > places.get(second, len(places)):
                    found.append(f"{second} came before {first}")
        return found


@pytest.mark.parametrize("seed", range(12))
def test_order(postgresql: Database, sent: list[Outgoing], seed: int) -> None:
    """With 8 transactions that overlap, no row leaves before one that was committed when it was stored."""
    schedule = Schedule(postgresql, seed)
    publishers = [RowPublisher(postgresql.another(), batch=schedule.random.choice([1, 3, 500])) for _ in range(2)]
    schedule.run(300, lambda: schedule.random.choice(publishers).run())
    assert len(schedule.committed) > 30
    assert schedule.violations(texts(sent)) == []


def rows_of(using: str, condition: str, *values: Any) -> Iterator[tuple[int, str]]:
    """Yield the ids and the texts of the rows that meet a condition, by id."""
    with connections[using].cursor() as cursor:
        cursor.execute(f"SELECT id, data FROM wsrt_durable_waitingpublication WHERE {condition} ORDER BY id", values)
        for number, data in cursor.fetchall():
            yield number, Said.model_validate_json(data).text


def test_order_of_a_cursor(postgresql: Database) -> None:
    """The test of the order fails with a worker that remembers the last id."""
    schedule = Schedule(postgresql, 1)
    published: list[str] = []
    last = 0

    def publish() -> None:
        nonlocal last
        for number, text in rows_of(postgresql.alias, "id > %s", last):
            published.append(text)
            last = number

    schedule.run(300, publish)
    found = schedule.violations(published)
    assert any("is missing" in problem for problem in found), found


def test_order_of_transaction_ids(postgresql: Database) -> None:
    """It also fails with a worker that waits for the oldest transaction under way, by the ids of transactions."""
    early, long, late = (postgresql.another() for _ in range(3))
    published: list[str] = []

    def publish() -> None:
        horizon = "xmin::text::bigint < pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
        for number, text in rows_of(postgresql.alias, horizon):
            published.append(text)
            WaitingPublication.objects.using(postgresql.alias).filter(pk=number).delete()

    def begin(alias: str) -> None:
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT pg_current_xact_id()")

    with transaction.atomic(using=long):
        with transaction.atomic(using=early):
            begin(early)
            begin(long)
            with transaction.atomic(using=late):
                say("first", late)
            # Its transaction is older than the long one, that of the first isn't.
            say("second", early)
        publish()
    publish()
    assert published == ["second", "first"]


def test_order_of_threads(sqlite_file: Database, sent: list[Outgoing]) -> None:
    """On SQLite, which serves writers one after the other, rows are published in the order of commits."""
    order: list[str] = []

    def write(number: int) -> None:
        try:
            for turn in range(10):
                text = f"{number}-{turn}"
                with transaction.atomic(using=sqlite_file.alias):
                    say(text, sqlite_file.alias)
                    # The others can't write until this transaction has ended.
                    order.append(text)
        finally:
            sqlite_file.close()

    writers = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    publisher = RowPublisher(sqlite_file.alias, batch=3)
    while any(writer.is_alive() for writer in writers):
        publisher.run()
    for writer in writers:
        writer.join()
    publisher.run()
    assert texts(sent) == order
    assert len(order) == WRITERS * 10


# Several workers


def test_several_workers(database: Database, sent: list[Outgoing]) -> None:
    """Workers in several threads publish each row once, and each room in order."""
    rooms = [f"room-{number}" for number in range(10)]
    for turn in range(12):
        for room in rooms:
            say(f"{room}:{turn:02}", database.alias, room)

    def work() -> None:
        try:
            worker = RowPublisher(database.alias, batch=4)
            while WaitingPublication.objects.using(database.alias).exists():
                worker.run()
        finally:
            database.close()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    said = texts(sent)
    assert len(said) == len(set(said)) == 120
    for room in rooms:
        mine = [text for text in said if text.startswith(f"{room}:")]
        assert mine == sorted(mine)


def test_claimed(database: Database, sent: list[Outgoing]) -> None:
    """A partition that another worker has is left alone."""
    say("hi", database.alias)
    number = WaitingPublication.objects.using(database.alias).get().partition
    other = RowPublisher(database.another())
    mine = RowPublisher(database.alias)
    with mine._claims.claim([number]) as claimed:
        assert claimed == [number]
        assert other.run() == 0
    assert other.run() == 1


# What can't be published


def test_undeclared(database: Database, sent: list[Outgoing], caplog: pytest.LogCaptureFixture) -> None:
    """An event that isn't declared any more is set aside with its error, and delays nothing, not even its room."""
    found: list[dict[str, Any]] = []

    def receive(**kwargs: Any) -> None:
        found.append(kwargs)

    publication_failed.connect(receive)
    before = counters["durable_failed"]
    say("one", database.alias)
    WaitingPublication.objects.using(database.alias).update(event="gone")
    say("two", database.alias)
    try:
        assert publish_waiting(database.alias) == 1
    finally:
        publication_failed.disconnect(receive)
    assert texts(sent) == ["two"]
    failed = FailedPublication.objects.using(database.alias).get()
    assert failed.error.startswith("UndeclaredEvent: namespace 'chat' doesn't declare an event 'gone'")
    assert counters["durable_failed"] == before + 1
    assert "couldn't publish the event 'gone' for room 'lobby'" in caplog.text
    assert [(each["namespace"], each["event"]) for each in found] == [("chat", "gone")]


@pytest.mark.parametrize("column", ["namespace", "name"])
def test_gone(sqlite_file: Database, sent: list[Outgoing], column: str) -> None:
    """So is an event whose namespace is gone, or whose room's name isn't valid any more."""
    say("one", sqlite_file.alias)
    WaitingPublication.objects.using(sqlite_file.alias).update(**{column: "" if column == "name" else "gone"})
    assert publish_waiting(sqlite_file.alias) == 0
    assert FailedPublication.objects.using(sqlite_file.alias).count() == 1
    assert sent == []


# Outages


class Layer:
    """Stands in for sending: it refuses while it is down, and from a text on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.refused = ""
        self.is_down = True
        self.sent: list[Outgoing] = []
        monkeypatch.setattr(rows, "send_all_from_sync", self._send)
        monkeypatch.setattr(rows, "unreachable_layer", lambda namespace: None)

    def _send(self, outgoings: Sequence[Outgoing], *, in_order: bool) -> list[Outcome]:
        assert in_order
        outcomes: list[Outcome] = []
        for outgoing in outgoings:
            if self.is_down or text_of(outgoing) == self.refused:
                self.is_down = True
                outcomes.append(BackplaneUnavailable("down"))
            else:
                self.sent.append(outgoing)
                outcomes.append(None)
        return outcomes


def test_outage(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the layer is down rows wait, and it is tried again after a pause; nothing is lost, and the order holds."""
    now = [100.0]
    layer = Layer(monkeypatch)
    worker = RowPublisher(database.alias)
    worker.outages._clock = lambda: now[0]
    for text in ("one", "two", "three"):
        say(text, database.alias)
    assert worker.run() == 0
    layer.is_down = False
    assert worker.run() == 0  # still paused
    now[0] += 60
    assert worker.run() == 3
    assert texts(layer.sent) == ["one", "two", "three"]


def test_outage_in_a_batch(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was published before an outage is deleted, and what comes after it doesn't overtake."""
    layer = Layer(monkeypatch)
    layer.is_down, layer.refused = False, "two"
    worker = RowPublisher(database.alias)
    for text in ("one", "two", "three"):
        say(text, database.alias)
    assert worker.run() == 1
    waiting = WaitingPublication.objects.using(database.alias).order_by("id")
    assert [Said.model_validate_json(row.data).text for row in waiting] == ["two", "three"]


def test_bug(database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A row with which sending raises something unexpected is set aside, and the others of its batch are published."""
    found: list[str] = []

    def send_all(outgoings: Sequence[Outgoing], *, in_order: bool) -> list[Outcome]:
        raise RuntimeError("a bug")

    def send(outgoing: Outgoing) -> None:
        if text_of(outgoing) == "two":
            raise RuntimeError("a bug")
        if text_of(outgoing) == "four":
            raise BackplaneUnavailable("down")
        found.append(text_of(outgoing))

    monkeypatch.setattr(rows, "send_all_from_sync", send_all)
    monkeypatch.setattr(rows, "send_from_sync", send)
    monkeypatch.setattr(rows, "unreachable_layer", lambda namespace: None)
    for text in ("one", "two", "three", "four", "five"):
        say(text, database.alias)
    assert RowPublisher(database.alias).run() == 2
    assert found == ["one", "three"]
    assert FailedPublication.objects.using(database.alias).get().error == "RuntimeError: a bug"
    assert WaitingPublication.objects.using(database.alias).count() == 2
    assert "one by one" in caplog.text


def test_outage_of_one_namespace(database: Database, sent: list[Outgoing]) -> None:
    """A namespace whose layer is down doesn't delay the others, not even in its partition."""

    class Noted(Event, name="noted"):
        text: str

    class NotesConsumer(TypedEventConsumer):
        namespace = "notes"
        out_events = (Noted,)

    worker = RowPublisher(database.alias, batch=2)
    worker.outages.failed("notes")
    worker.outages._pauses["notes"] = (float("inf"), 1.0)
    for number in range(5):
        publish_to_room("lobby", Noted(text=str(number)), namespace="notes", using=database.alias)
    say("hi", database.alias)
    WaitingPublication.objects.using(database.alias).update(partition=0)
    assert worker.run() == 1
    assert texts(sent) == ["hi"]


def test_no_layer(database: Database) -> None:
    """A process that can't reach a connection publishes nothing, and keeps the rows."""
    say("hi", database.alias)
    before = counters["durable_delayed"]
    assert RowPublisher(database.alias).run() == 0
    assert WaitingPublication.objects.using(database.alias).count() == 1
    assert counters["durable_delayed"] == before + 1


def test_stopping(database: Database, sent: list[Outgoing]) -> None:
    """A worker that should stop does so after a batch."""
    for number in range(10):
        say(str(number), database.alias)
    stopping = threading.Event()
    worker = RowPublisher(database.alias, batch=3, stopping=stopping)
    read = worker._read

    def read_and_stop(numbers: Sequence[int]) -> list[WaitingPublication]:
        stopping.set()
        return read(numbers)

    worker._read = read_and_stop  # type: ignore[method-assign]
    assert worker.run() == 3
    assert texts(sent) == ["0", "1", "2"]
