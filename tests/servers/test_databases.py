"""Handlers meet database connections that died meanwhile, and leave none behind: on a real server and PostgreSQL."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.client import dial, request, send
from tests.support.postgres import PostgresServer
from tests.support.processes import Server
from tests.support.waiting import aeventually

pytestmark = pytest.mark.servers

KINDS = {
    "async handler": ("/database/", "ask.async"),
    "def handler": ("/database/", "ask.def"),
    "plain Channels": ("/plain/", ""),
}


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


def serve(postgres: PostgresServer, *, pool: bool = False, **options: Any) -> Server:
    """A server whose connections to the database have these options."""
    settings = {**postgres.settings, **options}
    if pool:
        # In a pool, Django opens connections only when they are needed.
        settings["OPTIONS"] = {**settings["OPTIONS"], "pool": {"min_size": 1, "max_size": 4}}
    return Server(
        "uvicorn",
        application="tests.apps.database:application",
        environment={"WSRT_TEST_DATABASE": json.dumps(settings)},
    )


@pytest.mark.parametrize(("path", "event"), KINDS.values(), ids=KINDS)
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"CONN_MAX_AGE": 3600, "CONN_HEALTH_CHECKS": True}, id="health checks"),
        pytest.param({"CONN_MAX_AGE": 0}, id="closed after use"),
        pytest.param({"pool": True, "CONN_HEALTH_CHECKS": True}, id="pool"),
    ],
)
async def test_database_that_hangs_up(postgres: PostgresServer, options: dict[str, Any], path: str, event: str) -> None:
    """Handlers that ask a database which has ended its sessions meanwhile are served by new ones."""
    with serve(postgres, **options) as server:
        ws = await dial(server.url(path))
        for _ in range(3):
            before = (await request(ws, event))["data"]["value"]
            await asyncio.to_thread(postgres.hang_up)
            assert (await request(ws, event))["data"]["value"] != before


async def test_database_that_hangs_up_without_checks(postgres: PostgresServer) -> None:
    """Without CONN_HEALTH_CHECKS the handler that meets the dead connection fails, and the next ones work."""
    with serve(postgres, CONN_MAX_AGE=3600) as server:
        first, second = await dial(server.url("/database/")), await dial(server.url("/database/"))
        await request(first, "ask.async")
        await asyncio.to_thread(postgres.hang_up)
        assert (await request(first, "ask.async"))["data"]["code"] == "internal"
        assert (await request(second, "ask.async"))["event"] == "echoed"


@pytest.mark.parametrize(("path", "event"), KINDS.values(), ids=KINDS)
async def test_max_age(postgres: PostgresServer, path: str, event: str) -> None:
    """A handler does not use a connection that is past CONN_MAX_AGE, and keeps one that is not."""
    with serve(postgres, CONN_MAX_AGE=3) as server:
        ws = await dial(server.url(path))
        await request(ws, event)
        await aeventually(lambda: asyncio.to_thread(lambda: postgres.age() > 3.5), "the connection to get old")
        await asyncio.to_thread(postgres.hang_up)
        young = (await request(ws, event))["data"]["value"]
        assert (await request(ws, event))["data"]["value"] == young


async def test_text_that_postgres_refuses(postgres: PostgresServer) -> None:
    """A client whose text PostgreSQL can't hold is told so, and stays connected."""
    with serve(postgres) as server:
        ws = await dial(server.url("/database/"))
        for text, event in (("a\0b", "wsrt.error"), ("ab", "wsrt.ok"), ("\0", "wsrt.error")):
            answer = await request(ws, "keep", text=text)
            assert answer["event"] == event
            assert answer["data"].get("code") in (None, "invalid_data")
        assert "Traceback" not in server.log()


@pytest.mark.parametrize("ask", ["authorize", "authorize_room", "on_disconnect"])
async def test_nothing_stays_open(postgres: PostgresServer, ask: str) -> None:
    """With CONN_MAX_AGE 0 hooks that use the ORM leave no connection open, whatever they were called for."""
    commands = {"authorize": "permissions_changed", "authorize_room": "add_to_room"}
    with serve(postgres, CONN_MAX_AGE=0) as server:
        ws = await dial(server.url(f"/database/?ask={ask}"))
        await request(ws, "ask.async")
        await gone(postgres)
        before = server.log().count(f"asked {ask}")
        if ask in commands:
            await send(ws, "command", name=commands[ask])
        else:
            await ws.close()
        # Nothing else happens on the server that would clean up after the hook.
        await aeventually(lambda: server.log().count(f"asked {ask}") > before, "the hook to ask")
        await gone(postgres)


async def gone(postgres: PostgresServer) -> None:
    """Wait until the server has no session with the database."""
    await aeventually(lambda: asyncio.to_thread(lambda: not postgres.backends()), "the connections to be closed")
