"""
Compare durable publishing with publishing directly: events per second of a worker, of publish_many and of single calls.

    python -m benchmarks.durable [--events 5000] [--rounds 5] [--check [--slack 1]] [--dry]

The worker reads events from the database, publishes them through Redis, and deletes them. The ways take turns in one
process; Redis runs on the last core. The events go to 100 rooms, with history and without. PostgreSQL is measured if
Debian's package and psycopg are installed; otherwise only SQLite is.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.processes import redis as redis_server

RESULTS = Path(__file__).parent / "results"

FLOOR = 1 / 3
"""The lowest accepted rate of the worker, relative to publish_many."""

ROOMS = 100
BATCH = 500
SINGLE = 10
"""Single calls are so slow that only one of so many events is published by them."""

WAYS = {
    "worker": "worker of wsrt.durable",
    "many": f"publish_many, {BATCH} events a call",
    "single": "apublish_to_room, one after the other",
    "store": f"wsrt.durable.publish_many, {BATCH} events a transaction",
    "store single": "wsrt.durable.publish_to_room, one transaction each",
}

Rates = dict[str, dict[str, float]]
"""Events per second by database and kind, and by way."""


def configure(redis_url: str, databases: dict[str, dict[str, Any]]) -> None:
    """Set up Django."""
    import django
    from django.conf import settings

    settings.configure(
        DATABASES=databases,
        USE_TZ=True,
        INSTALLED_APPS=["channels", "wsrt", "wsrt.durable"],
        CHANNEL_LAYERS={
            "default": {
                "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
                "CONFIG": {"hosts": [redis_url]},
            }
        },
        WSRT={"HISTORY": {"BACKEND": "wsrt.history.redis.RedisHistory", "LOCATION": redis_url}},
    )
    django.setup()


class Bench:
    """
    The ways to publish the same events.

    Args:
        events: The number of events of a measurement.
    """

    def __init__(self, events: int) -> None:
        from benchmarks.publishing import KINDS, TEXT
        from wsrt import Event
        from wsrt import addresses as to

        self.number = events
        self.kinds: dict[str, list[tuple[Any, Event]]] = {
            name: [(to.Room(f"room-{index % ROOMS}"), cls(text=TEXT)) for index in range(events)]
            for name, cls in KINDS.items()
        }

    def measure(self, way: str, using: str, events: list[tuple[Any, Any]]) -> float:
        """Return the events per second of a way."""
        from django.db import transaction

        from benchmarks.publishing import NAMESPACE
        from wsrt import apublish_to_room, durable, publish_many
        from wsrt.durable.models import WaitingPublication

        def store(size: int, events: list[tuple[Any, Any]]) -> None:
            for start in range(0, len(events), size):
                with transaction.atomic(using=using):
                    durable.publish_many(events[start : start + size], namespace=NAMESPACE, using=using)

        async def publish() -> None:
            for room, event in events:
                await apublish_to_room(room.name, event, namespace=NAMESPACE)

        work: Callable[[], object]
        if way in ("single", "store single"):
            events = events[::SINGLE]
        if way == "worker":
            store(BATCH, events)
            work = lambda: durable.publish_waiting(using)  # noqa: E731
        elif way == "many":
            batches = [events[start : start + BATCH] for start in range(0, len(events), BATCH)]
            work = lambda: [publish_many(batch, namespace=NAMESPACE) for batch in batches]  # noqa: E731
        elif way == "single":
            work = lambda: asyncio.run(publish())  # noqa: E731
        else:
            work = lambda: store(BATCH if way == "store" else 1, events)  # noqa: E731
        # The garbage of the way before isn't a part of this one.
        gc.collect()
        begun = time.perf_counter()
        work()
        rate = len(events) / (time.perf_counter() - begun)
        if way == "worker":
            assert not WaitingPublication.objects.using(using).exists()
        WaitingPublication.objects.using(using).all().delete()
        return rate

    def run(self, databases: list[str], rounds: int, progress: Progress) -> Rates:
        """Return the medians of the rounds."""
        found: dict[str, dict[str, list[float]]] = {}
        task = progress.add_task("Publishing", total=rounds * len(databases) * len(self.kinds) * len(WAYS))
        for number in range(rounds + 1):
            for using in databases:
                for kind, events in self.kinds.items():
                    for way in WAYS:
                        rate = self.measure(way, using, events if number else events[:BATCH])
                        if number:  # the first round opens connections
                            row = found.setdefault(f"{using}, {kind}", {})
                            row.setdefault(way, []).append(rate)
                            progress.advance(task)
        return {row: {way: statistics.median(rates) for way, rates in ways.items()} for row, ways in found.items()}


@contextlib.contextmanager
def databases() -> Iterator[dict[str, dict[str, Any]]]:
    """Yield the entries of DATABASES, by the names that the results show."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        found: dict[str, dict[str, Any]] = {
            "SQLite": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(Path(folder) / "db.sqlite3")}
        }
        with contextlib.suppress(ImportError, IndexError):
            from tests.support.postgres import PostgresServer

            found["PostgreSQL"] = stack.enter_context(PostgresServer()).settings
        # Django requires the alias; nothing uses it.
        yield {"default": found["SQLite"], **found}


def measure(events: int, rounds: int, console: Console) -> Rates:
    """Return the results of one run."""
    with redis_server() as url, databases() as entries, Progress(console=console, transient=True) as progress:
        configure(url, entries)
        from django.core.management import call_command

        names = [name for name in entries if name != "default"]
        for name in names:
            call_command("migrate", database=name, verbosity=0)
        return Bench(events).run(names, rounds, progress)


def show(rates: Rates, console: Console) -> None:
    """Print the rates, and those relative to publish_many."""
    table = Table("", *rates, title="Events per second (relative to publish_many)")
    for way, name in WAYS.items():
        table.add_row(name, *(f"{row[way]:,.0f} ({row[way] / row['many']:.2f})" for row in rates.values()))
    console.print(table)


def keep(rates: Rates, events: int) -> None:
    """Write the results."""
    document = {
        "events": events,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "rates": {row: {way: round(rate) for way, rate in ways.items()} for row, ways in rates.items()},
        "worker relative to publish_many": {
            row: round(ways["worker"] / ways["many"], 2) for row, ways in rates.items()
        },
    }
    (RESULTS / "durable.json").write_text(json.dumps(document, indent=2) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.durable", description=__doc__.splitlines()[1])
    parser.add_argument("--events", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--check", action="store_true", help="fail if the worker is too slow")
    parser.add_argument("--slack", type=float, default=1.0, help="with --check, a factor for the lowest rate")
    parser.add_argument("--dry", action="store_true", help="print the results without writing them")
    options = parser.parse_args()
    console = Console()
    rates = measure(options.events, options.rounds, console)
    show(rates, console)
    if not options.dry:
        keep(rates, options.events)
        console.print(f"Written to {RESULTS.name}/durable.json")
    ratios = {row: ways["worker"] / ways["many"] for row, ways in rates.items()}
    slow = {row: ratio for row, ratio in ratios.items() if ratio < FLOOR * options.slack}
    if options.check and slow:
        console.print(f"Too slow: {slow}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
