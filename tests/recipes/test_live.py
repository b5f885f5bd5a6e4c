"""The recipes on real servers: two server processes, of two kinds, share Redis and the database of the demo."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from websockets.asyncio.client import ClientConnection

from tests.recipes import sources
from tests.recipes.site import Person, Site, create_database, environment, shell
from tests.support.client import hang_up, receive, request, send
from tests.support.processes import Process, RedisServer
from tests.support.waiting import aeventually

pytestmark = pytest.mark.servers


@dataclass
class Cluster:
    """
    The demo in several processes.

    Attributes:
        sites: Its servers: runserver (Daphne) and uvicorn.
        variables: The environment of its processes.
    """

    sites: list[Site]
    variables: dict[str, str]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    database = tmp_path_factory.mktemp("recipes") / "demo.sqlite3"
    create_database(database)
    with RedisServer() as redis:
        variables = {**environment(database, redis.url), "TOKEN_SOURCE": "tests.recipes.sources.flood"}
        with Site(variables) as daphne, Site(variables, "uvicorn") as uvicorn:
            yield Cluster([daphne, uvicorn], variables)
            for site in (daphne, uvicorn):
                assert "Traceback" not in site.log()


@pytest_asyncio.fixture(autouse=True)
async def _sockets() -> AsyncIterator[None]:
    yield
    await hang_up()


async def sign_in(site: Site, name: str) -> Person:
    return await asyncio.to_thread(Person, site, name)


async def is_silent(socket: ClientConnection) -> None:
    """Assert that nothing was sent to a socket: a ping comes back first."""
    await (await socket.ping())
    with pytest.raises(TimeoutError):
        await receive(socket, 0)


async def test_notifications(cluster: Cluster) -> None:
    """A process without connections notifies a user, whose tabs are on two servers and agree on what is read."""
    people = [await sign_in(site, "Ada") for site in cluster.sites]
    tabs = [await person.dial("/ws/notifications/") for person in people]
    other = await (await sign_in(cluster.sites[0], "Grace")).dial("/ws/notifications/")
    for tab in (*tabs, other):
        assert await receive(tab) == {"event": "notification.unread", "data": {"notifications": []}}
    code = (
        "from django.contrib.auth.models import User; from demo_project.recipes.notifications.sending import notify; "
        "notify(User.objects.get(username='ada'), 'from a worker')"
    )
    await asyncio.to_thread(shell, code, cluster.variables)
    frames = [await receive(tab) for tab in tabs]
    for frame in frames:
        assert frame["event"] == "notification.new"
        assert frame["data"]["text"] == "from a worker"
    number = frames[0]["data"]["id"]
    assert (await request(tabs[0], "notification.mark_read", up_to=number))["event"] == "wsrt.ok"
    assert await receive(tabs[1]) == {"event": "notification.read", "data": {"up_to": number}}
    assert (await request(other, "notification.mark_read", up_to=0))["event"] == "wsrt.ok"
    assert await receive(other) == {"event": "notification.read", "data": {"up_to": 0}}


@pytest.fixture
def worker(cluster: Cluster) -> Iterator[Process]:
    """A Celery worker of the demo."""
    command = ["-m", "celery", "-A", "demo_project.celery_app", "worker", "-P", "prefork", "-c", "1", "-l", "INFO"]
    with Worker([sys.executable, *command], cluster.variables) as process:
        yield process


class Worker(Process):
    def wait_until_ready(self) -> None:
        self._until(lambda: " ready." in self.log(), "the Celery worker")


async def test_progress(cluster: Cluster, worker: Process) -> None:
    """A Celery worker reports to its user on two servers. A page that comes later reads how far it was."""
    people = [await sign_in(site, "Linus") for site in cluster.sites]
    tabs = [await person.dial("/ws/progress/") for person in people]
    other = await (await sign_in(cluster.sites[0], "Grace")).dial("/ws/progress/")
    for tab in (*tabs, other):
        assert await receive(tab) == {"event": "export.list", "data": {"exports": []}}
    started = json.loads(await asyncio.to_thread(people[0].post, "/recipes/progress/start/", "/recipes/progress/"))
    assert started == {"id": started["id"], "state": "waiting", "done": 0, "total": 100}
    late, least = None, 0
    for tab in tabs:
        done, state = 0, "waiting"
        while state != "finished":
            frame = await receive(tab)
            assert frame["event"] == "export.progress"
            assert frame["data"]["id"] == started["id"]
            assert frame["data"]["done"] >= done
            done, state = frame["data"]["done"], frame["data"]["state"]
            if late is None:
                late, least = await people[1].dial("/ws/progress/"), done
        assert done == 100
    assert late is not None
    (found,) = (await receive(late))["data"]["exports"]
    assert found["state"] in {"running", "finished"}
    assert found["done"] >= least > 0
    await aeventually(lambda: "succeeded" in worker.log(), "the task to be logged")
    await is_silent(other)


async def test_live_rows(cluster: Cluster) -> None:
    """Two processes change a row at the same time: pages on both servers end with the state of the database."""
    pages = [await (await sign_in(site, "Ada")).dial("/ws/live-rows/") for site in cluster.sites]
    for page in pages:
        assert await receive(page) == {"event": "ticket.list", "data": {"tickets": []}}
    assert (await request(pages[0], "ticket.add", title="Water the plants"))["event"] == "wsrt.ok"
    row = (await receive(pages[1]))["data"]
    change = (
        "from demo_project.recipes.live_rows.models import Ticket\n"
        "for number in range(20):\n"
        "    ticket = Ticket.objects.get()\n"
        "    ticket.title = f'{name} {{number}}'\n"
        "    ticket.save()"
    )
    changes = [asyncio.to_thread(shell, change.format(name=name), cluster.variables) for name in ("one", "two")]
    await asyncio.gather(*changes)
    with contextlib.closing(sqlite3.connect(cluster.variables["DEMO_DB"])) as database:
        ((stored,),) = database.execute("SELECT title FROM live_rows_ticket")
    for page in pages:
        newest = row
        while newest["version"] < 41:
            data = (await receive(page))["data"]
            assert data["id"] == row["id"]
            newest = max(newest, data, key=lambda data: data["version"])
        assert newest["title"] == stored
    code = "from demo_project.recipes.live_rows.models import Ticket; Ticket.objects.all().delete()"
    await asyncio.to_thread(shell, code, cluster.variables)
    for page in pages:
        frame = await receive(page)
        while frame["event"] == "ticket.saved":  # of the other process, published late
            frame = await receive(page)
        assert (frame["event"], frame["data"]) == ("ticket.deleted", {"id": row["id"]})
    assert (await request(pages[0], "ticket.move", id=row["id"], status="done"))["data"]["code"] == "not_found"


AHEAD = 1500
"""
The tokens that a source may be ahead of its client: what the outbox, the server, the kernel and the client's library
hold. Without back-pressure it would be all of them.
"""


@pytest.mark.parametrize("number", [0, 1], ids=["daphne", "uvicorn"])
async def test_token_stream(cluster: Cluster, number: int, tmp_path: Path) -> None:
    """The source waits for a client that reads slowly. Stop ends it, and every token before its answer arrived."""
    record = tmp_path / "record"
    socket = await (await sign_in(cluster.sites[number], "Grace")).dial("/ws/answers/")
    await send(socket, "answer.ask", prompt=str(record))
    received = 0

    async def read_until(number: int) -> dict[str, Any]:
        nonlocal received
        while "text" in (frame := await receive(socket))["data"]:
            received += 1
            assert int(frame["data"]["text"]) == received
            assert record.stat().st_size - received < AHEAD
            if received == number:
                break
        return frame

    await read_until(1)
    await asyncio.sleep(1)  # in which a source that doesn't wait would yield all its tokens
    await read_until(1000)
    await send(socket, "answer.stop", ref="stop")
    assert await read_until(sources.TOKENS) == {"event": "wsrt.ok", "data": {}, "ref": "stop"}
    taken = record.read_text()
    assert taken in ("." * received + "closed", "." * (received + 1) + "closed")


async def test_token_stream_of_a_page_that_is_gone(cluster: Cluster, tmp_path: Path) -> None:
    """The source is closed when its client leaves without a close frame."""
    record = tmp_path / "record"
    socket = await (await sign_in(cluster.sites[1], "Grace")).dial("/ws/answers/")
    await send(socket, "answer.ask", prompt=str(record))
    await receive(socket)
    socket.transport.abort()
    await aeventually(lambda: record.read_text().endswith("closed"), "the source to be closed")


async def test_cursors(cluster: Cluster) -> None:
    """People on two servers see each other's pointers and names. One who leaves is announced."""
    people = [await sign_in(site, name) for site, name in zip(cluster.sites, ("Ada", "Linus"), strict=True)]
    ada, linus = [await person.dial("/ws/cursors/main/", extended=True) for person in people]
    names: dict[str, str] = {}
    while set(names.values()) != {"Ada", "Linus"}:
        frame = await receive(ada)
        if frame["event"] == "wsrt.presence":
            members = frame["data"].get("members") or frame["data"].get("joined") or []
            names |= {member["user_id"]: member["data"]["name"] for member in members}
    for step in range(50):
        await send(linus, "cursor.move", x=step / 49, y=0.5)
    seen: list[dict[str, Any]] = []
    while not seen or seen[-1]["x"] < 1:
        frame = await receive(ada)
        assert frame["event"] == "cursor.moved"
        seen.append(frame["data"])
    assert {names[position["user_id"]] for position in seen} == {"Linus"}
    assert [position["x"] for position in seen] == sorted(position["x"] for position in seen)
    await linus.close()
    frame = await receive(ada, 30)
    assert [names[member["user_id"]] for member in frame["data"]["left"]] == ["Linus"]
