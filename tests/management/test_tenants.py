"""Commands where there are tenants."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.management import CommandError

from tests.management.conftest import Run
from tests.test_tenants import DESK, HALL, dial, red_blue_none, registered, texts
from wsrt import close_codes

pytestmark = pytest.mark.usefixtures(registered.__name__)

NOTE = ["lobby", "note", '{"text": "hi"}', "--namespace", DESK]


async def test_publish(run: Run) -> None:
    """An event goes to one tenant."""
    async with red_blue_none() as clients:
        document = json.loads(await run("wsrt_publish", *NOTE, "--tenant", "red", "--json"))
        assert document == {"event": "note", "to": {"room": "lobby"}, "namespace": DESK, "tenant": "red"}
        assert [await texts(client) for client in clients] == [["hi"], [], []]


@pytest.mark.parametrize("command", [["wsrt_publish", *NOTE], ["wsrt_disconnect", "--user", "1"]])
async def test_tenant_that_is_not_said(run: Run, command: list[str]) -> None:
    """Without a tenant nothing is done, and the option is named."""
    async with red_blue_none() as clients:
        with pytest.raises(CommandError, match="--tenant"):
            await run(*command)
        for client in clients:
            await client.assert_silent()


async def test_tenant_of_a_namespace_without_tenants(run: Run) -> None:
    """A tenant that no connection can have is an error."""
    async with dial("red"):
        with pytest.raises(CommandError, match="defines tenant"):
            await run("wsrt_disconnect", "--user", "1", "--namespace", HALL, "--tenant", "red")


async def test_disconnect(run: Run) -> None:
    """A user of one tenant is disconnected, then those of all, then a connection by its id."""
    async with red_blue_none() as (red, blue, none):
        text = await run("wsrt_disconnect", "--user", "1", "--tenant", "red")
        assert "of all namespaces for the tenant 'red'" in text
        assert "According to presence, this affects 1 connection." in text
        await red.assert_closed(close_codes.DISCONNECTED)
        await run("wsrt_disconnect", "--connection", none.consumer.id)
        await none.assert_closed(close_codes.DISCONNECTED)
        await blue.assert_silent()
        document: dict[str, Any] = json.loads(
            await run("wsrt_disconnect", "--room", "lobby", "--all-tenants", "--json")
        )
        assert (document["tenant"], document["connections"]) == (None, 1)
        await blue.assert_closed(close_codes.DISCONNECTED)


async def test_presence(run: Run) -> None:
    """Who is connected is shown by tenant, and one tenant alone."""
    async with red_blue_none() as (red, *_):
        document = json.loads(await run("wsrt_presence", "--namespace", DESK, "--json"))
        counts = {"users": 1, "guests": 0, "connections": 1}
        assert document["namespaces"] == [
            {"name": DESK, "tenant": tenant, **counts} for tenant in (None, "blue", "red")
        ]
        assert document["connections"] == 3
        document = json.loads(await run("wsrt_presence", "--user", "1", "--tenant", "red", "--json"))
        assert [one["id"] for one in document["connections"]] == [red.consumer.id]
        document = json.loads(await run("wsrt_presence", "--room", "lobby", "--tenant", "red", "--json"))
        assert [room["tenant"] for room in document["rooms"]] == ["red"]
        assert f"{DESK}@blue" in await run("wsrt_presence")
        with pytest.raises(CommandError, match="The tenant 'green' has no connections"):
            await run("wsrt_presence", "--tenant", "green")
