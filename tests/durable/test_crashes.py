"""Workers that are killed at each step between commit and deletion, and Redis and PostgreSQL that are away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction
from redis import Redis
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.apps.durable import Kept, Passing
from tests.support.databases import Database
from tests.support.durable_host import STEPS
from tests.support.postgres import PostgresServer
from tests.support.processes import COVERAGE, ROOT, Process, RedisServer, Server
from tests.support.waiting import eventually
from wsrt.durable import publish_to_room
from wsrt.durable.models import WaitingPublication, Worker

pytestmark = pytest.mark.servers

SECONDS = 120.0


def say(text: str, database: Database, room: str = "lobby") -> None:
    """Store an event with history, and one without."""
    for event in (Kept(text=text), Passing(text=text)):
        publish_to_room(room, event, namespace="durable", using=database.alias)


def waiting(database: Database) -> int:
    return WaitingPublication.objects.using(database.alias).count()


class Host:
    """The process of tests.support.durable_host."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.durable_host"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def work(self, database: Database, step: str | None = None) -> int:
        """Let a worker publish what waits, and kill itself at a step. Return its exit status."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps([database.settings, step])}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


class WorkerProcess(Process):
    """The worker's command on the default database."""

    def __init__(self, database: Database, redis: RedisServer, *options: str) -> None:
        super().__init__(
            [sys.executable, *COVERAGE, "-m", "django", "wsrt_durable_worker", *options],
            {"PYTHONPATH": str(ROOT), **layer(redis), **database.environment},
        )

    def wait_until_ready(self) -> None:
        self._until(lambda: "Publishing from" in self.log(), "the worker")


def settings(redis: RedisServer) -> dict[str, Any]:
    """Return the setting WSRT of the processes."""
    history = {"BACKEND": "wsrt.history.redis.RedisHistory", "LOCATION": redis.url}
    return {
        "HISTORY": history,
        "CONSUMERS": ["consumers", "tests.apps.durable"],
        "SETUP_TIMEOUT": 60,
        "HEARTBEAT": None,
    }


def layer(redis: RedisServer) -> dict[str, str]:
    """Return the environment of a process that publishes through Redis."""
    return {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "WSRT_TEST_LAYER": "pubsub",
        "WSRT_TEST_REDIS": redis.url,
        "WSRT_TEST_SETTINGS": json.dumps(settings(redis)),
    }


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def server(redis: RedisServer) -> Iterator[Server]:
    application = "tests.apps.durable_asgi:application"
    with Server("uvicorn", application=application, layer="pubsub", redis=redis.url, wsrt=settings(redis)) as server:
        yield server


@pytest.fixture(scope="module")
def host(redis: RedisServer) -> Iterator[Host]:
    host = Host(environment(redis))
    try:
        yield host
    finally:
        host.close()


def environment(redis: RedisServer) -> dict[str, str]:
    return {**os.environ, **layer(redis)}


class Client:
    """
    A client that keeps its position, as the generated ones do.

    Attributes:
        kept: What it received of the history, without duplicates.
        passing: What it received without history.
    """

    def __init__(self, ws: ClientConnection) -> None:
        self.kept: list[str] = []
        self.passing: list[str] = []
        self._ws = ws
        self._offset = 0
        self._epoch = ""

    def join(self) -> None:
        """Wait until the server has joined its room, and follows the history."""
        for event, ref in (("wsrt.resume", None), ("ping", "joined")):
            self._ws.send(json.dumps({"event": event, "data": {}, **({"ref": ref} if ref else {})}))
        while self._receive().get("ref") != "joined":
            pass

    def receive_until(self, text: str) -> None:
        """Receive until a text has come both ways."""
        while text not in self.kept or text not in self.passing:
            self._receive()

    def _receive(self) -> dict[str, Any]:
        frame: dict[str, Any] = json.loads(self._ws.recv(SECONDS))
        if frame["event"] == "passing":
            self.passing.append(frame["data"]["text"])
        elif frame["event"] == "kept":
            assert self._epoch in ("", frame["epoch"])
            self._epoch = frame["epoch"]
            if frame["offset"] > self._offset:
                assert frame["offset"] == self._offset + 1
                self._offset = frame["offset"]
                self.kept.append(frame["data"]["text"])
        return frame


ALL = ["one", "two", "three"]

HEARD = {
    "claimed": ALL,
    "read": ALL,
    "sent some": ["one", *ALL],
    "sent all": [*ALL, *ALL],
    "deleted": [*ALL, *ALL],
    "committed": ALL,
}
"""What a client receives without history if a worker was killed at a step, and the next one went on."""


@pytest.mark.parametrize("step", STEPS)
def test_killed(database: Database, server: Server, host: Host, step: str) -> None:
    """
    Whenever a worker is killed, each committed event is published at least once, and what was rolled back never is.

    Only what was published and not deleted is published again, and a client sees it once if it has history. On SQLite
    the deletion is the commit.
    """
    has_commit = database.settings["ENGINE"].endswith("postgresql")
    room = f"{step.replace(' ', '-')}-{has_commit}"
    with connect(server.url(f"/durable/{room}/"), compression=None, subprotocols=[Subprotocol("wsrt.v1")]) as ws:
        client = Client(ws)
        client.join()
        with transaction.atomic(using=database.alias):
            for text in ALL:
                say(text, database, room)
        with transaction.atomic(using=database.alias):
            say("never", database, room)
            transaction.set_rollback(True, using=database.alias)
        assert host.work(database, step) == -9
        is_deleted = step == "committed" or (step == "deleted" and not has_commit)
        assert waiting(database) == (0 if is_deleted else 6)
        assert host.work(database) == 0
        assert waiting(database) == 0
        say("end", database, room)
        assert host.work(database) == 0
        client.receive_until("end")
        assert client.kept == [*ALL, "end"]
        assert client.passing == [*(ALL if is_deleted else HEARD[step]), "end"]


def publications(redis: RedisServer) -> int:
    """Return how many messages were sent through a Redis since it was started."""
    with Redis.from_url(redis.url) as client:
        stats: Any = client.info("commandstats")
        return int(stats.get("cmdstat_publish", {}).get("calls", 0))


def test_redis_down(database: Database) -> None:
    """What is committed while Redis is down is published when it is back; the worker logs that once."""
    with RedisServer() as redis, WorkerProcess(database, redis, "--interval", "0.2") as worker:
        redis.kill()
        for text in ALL:
            say(text, database)
        eventually(lambda: "wait in the database" in worker.log(), "the worker to notice", SECONDS)
        assert waiting(database) == 6
        redis.start()
        eventually(lambda: waiting(database) == 0, "the rows to be published", SECONDS)
        assert publications(redis) >= 6
        assert Worker.objects.using(database.alias).count() == 1
        process = worker.process
        assert process is not None
        process.terminate()
        assert process.wait(SECONDS) == 0
        assert "Stopped. Published 6." in worker.log()
        assert worker.log().count("wait in the database") == 1


def test_database_restarts(postgresql: Database, postgres: PostgresServer, redis: RedisServer) -> None:
    """A worker is notified, survives a database that ends its sessions, and is notified again afterwards."""
    with WorkerProcess(postgresql, redis, "--interval", "3600") as worker:
        say("one", postgresql)
        eventually(lambda: waiting(postgresql) == 0, "the first row", SECONDS)
        postgresql.close()
        postgres.hang_up()
        say("two", postgresql)
        eventually(lambda: waiting(postgresql) == 0, "the second row", SECONDS)
        say("three", postgresql)
        eventually(lambda: waiting(postgresql) == 0, "the third row", SECONDS)
        assert worker.process is not None
        assert worker.process.poll() is None
        assert "Traceback" not in worker.log()


def test_once(sqlite_file: Database, redis: RedisServer) -> None:
    """With --once the command publishes what waits, and ends."""
    say("one", sqlite_file)
    worker = WorkerProcess(sqlite_file, redis, "--once")
    done = subprocess.run(
        worker.command, env={**environment(redis), **worker.environment}, capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout == "Published 2.\n", done.stderr
    assert waiting(sqlite_file) == 0
