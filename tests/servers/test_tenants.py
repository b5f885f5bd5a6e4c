"""Two servers and Redis: equal names of two tenants never meet, nor do equal numbers of users and devices."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from websockets.asyncio.client import ClientConnection

from tests.support.client import closed, dial, receive, request
from tests.support.processes import RedisServer, Server
from tests.support.waiting import aeventually

pytestmark = pytest.mark.servers

Person = tuple[str, str, int]
"""Tenant, kind of user, and server."""


@pytest.fixture(params=["pubsub", "core"])
def servers(request: pytest.FixtureRequest) -> Iterator[list[Server]]:
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        presence = {"BACKEND": "wsrt.presence.redis.RedisPresence", "LOCATION": redis.url}
        yield [
            stack.enter_context(
                Server(
                    kind,
                    application="tests.apps.desk:runtime",
                    layer=request.param,
                    redis=redis.url,
                    wsrt={"PRESENCE": presence, "RATE": None},
                )
            )
            for kind in ("daphne", "uvicorn")
        ]


async def test_nothing_crosses(servers: list[Server]) -> None:
    """
    User 1 and device 1 of two tenants, on two processes: publications, presence, removals and disconnections concern
    exactly those whom they name.
    """
    people: dict[Person, ClientConnection] = {
        (tenant, kind, number): await dial(server.url(f"/desk/?tenant={tenant}&{kind}=1"))
        for tenant in ("red", "blue")
        for kind in ("user", "device")
        for number, server in enumerate(servers)
    }
    operator = await dial(servers[1].url("/desk/?tenant=green&user=99"))
    for ws in (*people.values(), operator):
        await request(ws, "ask", tenant="green")  # answered once set-up is done

    async def act(function: str, whom: str, name: str, tenant: str, text: str = "") -> None:
        answer = await request(
            operator, "act", function=function, whom=whom, name=name, tenant=tenant, text=text or f"{whom} {tenant}"
        )
        assert answer["event"] == "wsrt.ok"

    async def received() -> dict[Person, list[str]]:
        """Return the notes that each received, up to one to everyone of both tenants."""
        for tenant in ("red", "blue"):
            await act("publish", "everyone", "", tenant, "end")
        found: dict[Person, list[str]] = {}
        for person, ws in people.items():
            texts: list[str] = []
            while (text := (await receive(ws))["data"]["text"]) != "end":
                texts.append(text)
            if texts:
                found[person] = texts
        return found

    def those(tenant: str, *kinds: str) -> set[Person]:
        return {(tenant, kind, number) for kind in kinds for number in (0, 1)}

    # Publications.
    for whom, name in (("user", "1"), ("device", "1"), ("room", "lobby"), ("everyone", "")):
        await act("publish", whom, name, "red")
        kinds = (whom,) if whom in {"user", "device"} else ("user", "device")
        assert await received() == {key: [f"{whom} red"] for key in those("red", *kinds)}

    # Presence.
    async def seen(tenant: str) -> dict[str, object]:
        found: dict[str, object] = (await request(operator, "ask", tenant=tenant))["data"]
        return found

    both = {"members": {"1": 2, "auth.group:1": 2}, "online": [True, True]}
    for tenant in ("red", "blue"):
        await aeventually(lambda tenant=tenant: is_equal(seen(tenant), both))  # type: ignore[misc]
    assert await seen("green") == {"members": {"99": 1}, "online": [False, False]}

    # Removal.
    await act("remove", "user", "1", "red")
    await act("publish", "room", "lobby", "red", "without users")
    await act("publish", "room", "lobby", "blue", "all")
    assert await received() == {
        **{key: ["without users"] for key in those("red", "device")},
        **{key: ["all"] for key in those("blue", "user", "device")},
    }

    # Disconnection.
    await act("disconnect", "device", "1", "red")
    for person in those("red", "device"):
        assert await closed(people.pop(person)) == (4410, "Disconnected by the server")
    await act("publish", "user", "1", "red", "still there")
    assert await received() == {key: ["still there"] for key in those("red", "user")}
    await aeventually(lambda: is_equal(seen("red"), {"members": {}, "online": [True, False]}))
    assert await seen("blue") == both


async def is_equal(found: object, expected: object) -> bool:
    return await found == expected  # type: ignore[misc]
