"""The demo on Daphne and uvicorn, with Redis: sockets whose session or user isn't valid any more are closed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import WebSocketException

from tests.recipes.site import Person, Site, create_database, environment, shell
from tests.support import report
from tests.support.client import closed, dial, request
from tests.support.processes import RedisServer

pytestmark = pytest.mark.servers

EXPIRED = (4401, "Credentials expired")

SECONDS = 30.0
"""How long a test waits. It prints how long it took."""

REVALIDATE = 4.0

Cluster = tuple[dict[str, str], list[Site]]
"""The environment of the servers, and the servers."""


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    database: Path = tmp_path_factory.mktemp("sessions") / "demo.sqlite3"
    create_database(database)
    with RedisServer() as redis:
        yield {**environment(database, redis.url), "DJANGO_SETTINGS_MODULE": "tests.apps.revalidating"}


@contextlib.contextmanager
def serving(variables: dict[str, str]) -> Iterator[list[Site]]:
    with Site(variables) as daphne, Site(variables, "uvicorn") as uvicorn:
        yield [daphne, uvicorn]
        for site in (daphne, uvicorn):
            assert "Traceback" not in site.log()


@pytest.fixture(scope="module")
def sites(variables: dict[str, str]) -> Iterator[list[Site]]:
    """Two servers that don't check sessions by themselves, so that only a log-out closes sockets."""
    with serving(variables) as sites:
        yield sites


async def sign_in(site: Site, name: str) -> Person:
    return await asyncio.to_thread(Person, site, name)


def cookie_of(person: Person) -> str:
    return next(f"{cookie.name}={cookie.value}" for cookie in person.cookies if "session" in cookie.name)


async def tab(site: Site, cookie: str) -> ClientConnection:
    """Open a socket at a server."""
    url = f"ws://127.0.0.1:{site.port}/ws/rooms/lobby/"
    return await dial(url, additional_headers={"Cookie": cookie})


async def works(ws: ClientConnection) -> bool:
    return bool((await request(ws, "message.catch_up", after=0))["event"] == "message.missed")


@pytest.mark.parametrize("where", [0, 1], ids=["daphne", "uvicorn"])
async def test_log_out(sites: list[Site], where: int) -> None:
    """A log-out at one server closes the sockets of that session at both, and no others of the user."""
    laptop, phone = [await sign_in(sites[where], "Ada") for _ in range(2)]
    cookie = cookie_of(laptop)
    tabs = [await tab(site, cookie) for site in sites]
    others = [await tab(site, cookie_of(phone)) for site in sites]
    assert [await works(ws) for ws in (*tabs, *others)] == [True] * 4
    started = time.monotonic()
    leaving = asyncio.create_task(asyncio.to_thread(laptop.post, "/sign-out/", page="/rooms/lobby/"))
    for ws in tabs:
        assert await closed(ws, SECONDS) == EXPIRED
    report.note("From a log-out to the close of its sockets", f"{time.monotonic() - started:.2f} s, with two pages")
    await leaving
    assert [await works(ws) for ws in others] == [True] * 2
    for site in sites:
        assert cookie.partition("=")[2] not in site.log()


async def test_handshakes_around_a_log_out(sites: list[Site]) -> None:
    """Of the handshakes that race with the log-out of their session, at both servers, no socket stays open."""
    grace = await sign_in(sites[0], "Grace")
    cookie = cookie_of(grace)
    opened = [await tab(site, cookie) for site in sites]
    assert [await works(ws) for ws in opened] == [True] * 2
    has_left = asyncio.Event()

    async def dial_on(site: Site) -> None:
        while not has_left.is_set():
            with contextlib.suppress(WebSocketException, OSError):
                opened.append(await tab(site, cookie))

    dialling = [asyncio.create_task(dial_on(site)) for site in (*sites, *sites)]
    await asyncio.to_thread(grace.post, "/sign-out/", page="/rooms/lobby/")
    has_left.set()
    await asyncio.gather(*dialling)
    assert {(await closed(ws, SECONDS))[0] for ws in opened} == {4401}
    report.note("Handshakes that raced with a log-out", f"{len(opened)}, of which none stayed open")


async def test_revalidation(variables: dict[str, str]) -> None:
    """A deactivated user and one with another password lose their sockets at both servers, and others keep theirs."""
    with serving({**variables, "WSRT_TEST_REVALIDATE": str(REVALIDATE)}) as sites:
        people = {name: await sign_in(sites[0], name) for name in ("Ada", "Linus", "Margaret")}
        tabs = {name: [await tab(site, cookie_of(people[name])) for site in sites] for name in people}
        assert [await works(ws) for name in tabs for ws in tabs[name]] == [True] * 6
        code = (
            "from django.contrib.auth.models import User;"
            "User.objects.filter(username='linus').update(is_active=False);"
            "User.objects.filter(username='margaret').update(password='another')"
        )
        await asyncio.to_thread(shell, code, variables)
        started = time.monotonic()
        for ws in (*tabs["Linus"], *tabs["Margaret"]):
            assert await closed(ws, SECONDS) == EXPIRED
        took = time.monotonic() - started
        report.note("From a deactivation to the close of the sockets", f"{took:.2f} s (REVALIDATE is {REVALIDATE:g} s)")
        assert [await works(ws) for ws in tabs["Ada"]] == [True] * 2
