"""``manage.py wsrt_durable_worker``: publishes the events that durable publishing has stored in the database."""

from __future__ import annotations

import argparse
import datetime
import signal
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, connections

from wsrt.cluster.in_process import unreachable_layer
from wsrt.durable.rows import BATCH
from wsrt.durable.status import Status
from wsrt.durable.worker import WorkerLoop

DAYS = 30.0


class Command(BaseCommand):
    help = "Publishes the events that wsrt.durable has stored in the database, until it is stopped."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--database", default=DEFAULT_DB_ALIAS, help="the alias of the database; 'default' if not given"
        )
        parser.add_argument("--once", action="store_true", help="publish the waiting events, then exit")
        parser.add_argument(
            "--interval",
            type=positive,
            default=1.0,
            metavar="SECONDS",
            help="the time between two polls for new events; 1 by default. On PostgreSQL, commits also wake the worker",
        )
        parser.add_argument(
            "--batch",
            type=whole,
            default=BATCH,
            help=f"the maximum number of events that are published together; {BATCH} by default",
        )
        parser.add_argument(
            "--keep-failed",
            type=positive,
            default=DAYS,
            metavar="DAYS",
            help=f"how long events that can't be published are kept; {DAYS:g} by default",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        using = options["database"]
        if using not in connections:
            raise CommandError(f"There is no database {using!r}. The aliases are: {', '.join(connections)}.")
        alias = unreachable_layer(None)
        if alias is not None:
            raise CommandError(
                f"No connection can be reached: the channel layer {alias!r} doesn't reach other processes.\nConfigure "
                "channels_redis.pubsub.RedisPubSubChannelLayer in CHANNEL_LAYERS, here and for the servers."
            )
        loop = WorkerLoop(
            using,
            interval=options["interval"],
            batch=options["batch"],
            keep_failed=datetime.timedelta(days=options["keep_failed"]),
            progress=self._progress,
        )
        if options["once"]:
            self.stdout.write(f"Published {loop.run_once()}.")
            return

        def stop(number: int, frame: FrameType | None) -> None:
            loop.stop()

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            self.stdout.write(f"Publishing from the database {using!r}.")
            loop.run()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        self.stdout.write(f"Stopped. Published {loop.published}.")

    def _progress(self, published: int, status: Status) -> None:
        line = f"published {published}, waiting {status.waiting}, failed {status.failed}"
        if status.waiting:
            line += f", the oldest for {status.oldest:.0f} s"
        self.stdout.write(line)


def positive(text: str) -> float:
    """Return an argument as a positive number of seconds or days."""
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"must be above 0 and below 1000000, not {text}")
    return value


def whole(text: str) -> int:
    """Return an argument as a positive integer."""
    value = int(text)
    if not 0 < value <= 10_000:
        raise argparse.ArgumentTypeError(f"must be from 1 to 10000, not {text}")
    return value
