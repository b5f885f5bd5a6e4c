"""The recipes on real servers: two server processes, of two kinds, share Redis and the database of the demo."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from websockets.asyncio.client import ClientConnection

from tests.recipes.site import Person, Site, create_database, environment, shell
from tests.support.client import hang_up, receive, request
from tests.support.processes import Process, RedisServer

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
        variables = environment(database, redis.url)
        with Site(variables) as daphne, Site(variables, "uvicorn") as uvicorn:
            yield Cluster([daphne, uvicorn], variables)


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
    late = None
    for tab in tabs:
        done, state = 0, "waiting"
        while state != "finished":
            frame = await receive(tab)
            assert frame["event"] == "export.progress"
            assert frame["data"]["id"] == started["id"]
            assert frame["data"]["done"] >= done
            done, state = frame["data"]["done"], frame["data"]["state"]
            if late is None:
                late = await people[1].dial("/ws/progress/")
        assert done == 100
    assert late is not None
    (found,) = (await receive(late))["data"]["exports"]
    assert found["state"] == "running"
    assert 0 < found["done"] < 100
    assert "succeeded" in worker.log()
    await is_silent(other)
