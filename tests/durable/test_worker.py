"""The loop of the worker, its command, and what waits for publications; without processes of their own."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import io
import signal
import threading
import time
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, OperationalError, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.apps.chat.events import Said
from tests.support.databases import Database
from tests.support.waiting import eventually
from wsrt.cluster.outgoing import Outgoing
from wsrt.durable import publish_to_room, waking
from wsrt.durable.management.commands.wsrt_durable_worker import positive, whole
from wsrt.durable.models import FailedPublication, WaitingPublication, Worker
from wsrt.durable.outages import FIRST_SECONDS, LONGEST_SECONDS, Outages
from wsrt.durable.status import Status, read_status
from wsrt.durable.waking import Listener, Waiter, waiter
from wsrt.durable.worker import WorkerLoop
from wsrt.metrics import counters


def say(text: str, using: str) -> None:
    publish_to_room("lobby", Said(text=text), namespace="chat", using=using)


class Running:
    """A loop that runs in a thread."""

    def __init__(self, database: Database, **options: Any) -> None:
        self.loop = WorkerLoop(database.alias, **options)
        self._database = database
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> WorkerLoop:
        self._thread.start()
        return self.loop

    def __exit__(self, *raised: object) -> None:
        self.loop.stop()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self.loop.run()
        finally:
            self._database.close()


def waiting(database: Database) -> int:
    return WaitingPublication.objects.using(database.alias).count()


def test_loop(database: Database, sent: list[Outgoing]) -> None:
    """The loop publishes what is stored, reports that it runs and how far it is, and ends when it should."""
    lines: list[tuple[int, Status]] = []
    say("one", database.alias)
    with Running(database, interval=0.05, progress=lambda *line: lines.append(line)) as loop:
        eventually(lambda: len(sent) == 1, "the first")
        say("two", database.alias)
        eventually(lambda: len(sent) == 2, "the second")
        eventually(lambda: waiting(database) == 0, "the rows to be deleted")
    assert loop.published == 2
    worker = Worker.objects.using(database.alias).get()
    assert worker.published == 2
    assert worker.started <= worker.seen
    # The second row may have come before the line or after it.
    [(published, status)] = lines
    assert published in (1, 2)
    assert status.workers == 1
    assert str(worker) == worker.name


def test_errors_of_the_database(
    database: Database, sent: list[Outgoing], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The loop survives errors of the database, which are counted and logged once."""
    before = counters["durable_database_errors"]
    running = Running(database, interval=0.05)
    rows = running.loop._rows
    run, failures = rows.run, [OperationalError("gone"), OperationalError("gone")]

    def run_or_fail() -> int:
        if failures:
            raise failures.pop()
        return run()

    monkeypatch.setattr(rows, "run", run_or_fail)
    say("one", database.alias)
    with running:
        eventually(lambda: len(sent) == 1, "the row")
    assert counters["durable_database_errors"] == before + 2
    assert caplog.text.count("can't use its database: gone") == 1


def test_old_rows(sqlite_file: Database) -> None:
    """Workers that ended are forgotten after a day, and failed publications when they are too old."""
    alias, now = sqlite_file.alias, timezone.now()
    days = datetime.timedelta(days=1)
    for name, age in (("new", 0.5), ("old", 2)):
        Worker.objects.using(alias).create(name=name, started=now, seen=now - age * days)
        FailedPublication.objects.using(alias).create(kind="room", name=name, created=now, failed=now - age * days)
    before = counters["durable_failed_deleted"]
    WorkerLoop(alias).run_once()
    assert FailedPublication.objects.using(alias).count() == 2
    WorkerLoop(alias, keep_failed=days).run_once()
    assert [row.name for row in FailedPublication.objects.using(alias)] == ["new"]
    assert counters["durable_failed_deleted"] == before + 1
    names = {worker.name.rpartition(":")[2] for worker in Worker.objects.using(alias)}
    assert names == {"new", "once"}


# The command


@pytest.mark.django_db
def test_command(sent: list[Outgoing]) -> None:
    """With --once the command publishes what waits, and says how much it was."""
    say("one", "default")
    output = io.StringIO()
    call_command("wsrt_durable_worker", once=True, stdout=output)
    assert output.getvalue() == "Published 1.\n"
    assert len(sent) == 1


def test_command_runs(database: Database, sent: list[Outgoing], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the command runs until a signal comes, and says how far it is."""
    say("one", database.alias)
    run = WorkerLoop.run

    def run_a_little(loop: WorkerLoop) -> None:
        threading.Timer(0.5, lambda: signal.raise_signal(15)).start()
        run(loop)

    monkeypatch.setattr(WorkerLoop, "run", run_a_little)
    output = io.StringIO()
    call_command("wsrt_durable_worker", database=database.alias, interval=0.05, stdout=output)
    first, second, last = output.getvalue().splitlines()
    assert first == f"Publishing from the database {database.alias!r}."
    assert second == "published 1, waiting 0, failed 0"
    assert last == "Stopped. Published 1."


def test_progress_of_a_backlog() -> None:
    """The line says how long the oldest row waits."""
    from wsrt.durable.management.commands.wsrt_durable_worker import Command

    output = io.StringIO()
    Command(stdout=output)._progress(5, Status(waiting=7, oldest=12.3, failed=1, workers=1, last_seen=1.0))
    assert output.getvalue() == "published 5, waiting 7, failed 1, the oldest for 12 s\n"


def test_command_without_a_layer() -> None:
    """A layer that doesn't reach other processes is an error: the rows would never arrive."""
    with pytest.raises(CommandError, match="doesn't reach other processes"):
        call_command("wsrt_durable_worker", once=True)


def test_command_without_a_database() -> None:
    """A database that isn't in the settings is an error that names those that are."""
    with pytest.raises(CommandError, match="There is no database 'nowhere'"):
        call_command("wsrt_durable_worker", database="nowhere")


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "x", "1e9"])
def test_no_number(text: str) -> None:
    """Times and sizes are positive numbers."""
    with pytest.raises((ValueError, argparse.ArgumentTypeError)):
        positive(text)
    with pytest.raises((ValueError, argparse.ArgumentTypeError)):
        whole(text)


# Waiting


def test_polling(sqlite_file: Database) -> None:
    """On SQLite the worker waits for its interval, or until it should stop."""
    stopping = threading.Event()
    polling = waiter(stopping, 0.01, sqlite_file.alias)
    assert type(polling) is Waiter
    polling.wait()
    stopping.set()
    polling.interval = 3600
    polling.wait()
    polling.close()


def test_listening(postgresql: Database) -> None:
    """On PostgreSQL one commit wakes the worker once, a savepoint that is rolled back and others alike."""
    listener = waiter(threading.Event(), 0.3, postgresql.alias)
    assert isinstance(listener, Listener)
    listener.wait()
    woken: list[bool] = []
    has_notification = listener._has_notification
    listener._has_notification = lambda raw, seconds: woken.append(has_notification(raw, seconds)) or woken[-1]  # type: ignore[method-assign]
    listener.interval = 3600
    for rolls_back in (False, True):
        with contextlib.ExitStack() as stack:
            stack.enter_context(transaction.atomic(using=postgresql.alias))
            with transaction.atomic(using=postgresql.alias):
                say("one", postgresql.alias)
                transaction.set_rollback(rolls_back, using=postgresql.alias)
            with CaptureQueriesContext(connections[postgresql.alias]) as queries:
                say("two", postgresql.alias)
                say("three", postgresql.alias)
                stack.close()
        assert [query["sql"] for query in queries].count("NOTIFY wsrt_durable") == 1
        listener.wait()
        assert woken[-1]
    listener.interval = 0.3
    listener.wait()
    assert not woken[-1]
    listener.close()
    listener.close()


def test_listening_fails(postgresql: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener that can't listen polls, and tries again later."""
    before = counters["durable_listens_failed"]
    listener = Listener(threading.Event(), 0.01, postgresql.alias)
    listener.wait()
    connection = listener._connection
    assert connection is not None
    connection.connection.close()
    listener.wait()
    assert counters["durable_listens_failed"] == before + 1
    listener.wait()
    assert listener._connection is None
    monkeypatch.setattr(Listener, "_listen", lambda self: (_ for _ in ()).throw(OperationalError("refused")))
    listener._retry_at = 0.0
    listener.wait()
    assert counters["durable_listens_failed"] == before + 2
    monkeypatch.undo()
    listener._retry_at = time.monotonic() - 1
    listener.wait()
    assert listener._connection is not None
    listener.close()


def test_waking_fails(postgresql: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A publication is stored though the workers can't be woken."""
    monkeypatch.setattr(waking, "CHANNEL", "not a name")
    before = counters["durable_wakes_failed"]
    say("one", postgresql.alias)
    assert waiting(postgresql) == 1
    assert counters["durable_wakes_failed"] == before + 1
    assert "failed to wake the workers" in caplog.text


def test_no_connection_is_left(postgresql: Database) -> None:
    """Closing a connection that is broken doesn't fail."""
    listener = Listener(threading.Event(), 0.01, postgresql.alias)

    class Broken:
        connection = None

        def close(self) -> None:
            raise DatabaseError("broken")

    listener._connection = Broken()  # type: ignore[assignment]
    listener.wait()
    assert listener._connection is None


# Outages


def test_pauses() -> None:
    """Pauses grow up to a limit, and end with the outage."""
    now = 0.0
    outages = Outages(lambda: now)
    lengths = []
    for _ in range(8):
        outages.failed("chat")
        assert outages.paused == ["chat"]
        until, length = outages._pauses["chat"]
        assert length / 2 <= until - now <= length
        lengths.append(length)
        now = until + 0.001
        assert outages.paused == []
    assert lengths[0] == FIRST_SECONDS
    assert lengths == sorted(lengths)
    assert lengths[-1] == LONGEST_SECONDS
    outages.succeeded("chat")
    outages.failed("chat")
    assert outages._pauses["chat"][1] == FIRST_SECONDS


def test_status(database: Database) -> None:
    """The status has the rows that wait with the age of the oldest one, the failed ones, and the workers."""
    alias, now = database.alias, timezone.now()
    assert read_status(alias) == Status(waiting=0, oldest=0.0, failed=0, workers=0, last_seen=None)
    say("one", alias)
    WaitingPublication.objects.using(alias).update(created=now - datetime.timedelta(seconds=100))
    say("two", alias)
    Worker.objects.using(alias).create(name="a", started=now, seen=now - datetime.timedelta(seconds=200))
    status = read_status(alias)
    assert (status.waiting, status.failed, status.workers) == (2, 0, 0)
    assert 100 <= status.oldest < 200
    assert status.last_seen is not None
    assert 200 <= status.last_seen < 300
    assert status.is_late
