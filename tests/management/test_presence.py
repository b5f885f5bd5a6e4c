"""``manage.py wsrt_presence``, on the connections of this process."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.apps.chat.consumers import ChatConsumer, HereConsumer
from tests.management.conftest import Run
from wsrt.cluster import node
from wsrt.cluster.node import current_node
from wsrt.presence.base import EVERYONE, Join, NodeFacts
from wsrt.presence.memory import MemoryPresence
from wsrt.presence.results import NodeInfo, limits_reached
from wsrt.stores import of_process
from wsrt.testing import Client, connect

PLAYED = "0" * 24


@contextlib.asynccontextmanager
async def everybody(*clients: Client) -> AsyncIterator[None]:
    """Connections, until the block ends."""
    async with contextlib.AsyncExitStack() as stack:
        for client in clients:
            await stack.enter_async_context(client)
        await clients[-1].settle()
        yield


@contextlib.asynccontextmanager
async def played(*joins: Join, **facts: Any) -> AsyncIterator[None]:
    """A node that is nowhere else."""
    current_node()
    store = MemoryPresence()
    told = {
        "host": "elsewhere",
        "pid": 7,
        "started": time.time() - 3700,
        "version": "0.1.0",
        "connections": len(joins),
        "lag_ms": 3,
        "beat": time.time(),
    }
    await store.begin(NodeFacts(PLAYED, {**told, **facts}))
    await store.apply(PLAYED, joins)
    yield
    async for _ in store.reap(PLAYED):
        pass


def here(room: str, **query: str) -> Client:
    arguments = "&".join(f"{name}={value}" for name, value in query.items())
    return connect(HereConsumer, f"/?{arguments}", kwargs={"room": room})


def chat(room: str, user: str = "") -> Client:
    return connect(ChatConsumer, f"/?user={user}" if user else "/", kwargs={"room": room})


async def document(run: Run, *args: str) -> Any:
    return json.loads(await run("wsrt_presence", "--json", *args))


def rows_of(text: str, title: str) -> list[list[str]]:
    """The cells of a table, which hold no blanks, without its headings."""
    body = text.partition(f"\n{title}")[2].partition("\n\n")[0]
    return [line.split() for line in body.splitlines()[2:]]


async def test_overview(run: Run) -> None:
    """Without arguments: nodes, namespaces and the largest rooms; the same for programs."""
    async with everybody(chat("lobby", "ada"), chat("lobby", "ada"), chat("lobby"), here("side", user="grace")):
        text = await run("wsrt_presence")
        found = await document(run)
    assert "This process only" in text
    assert "\n4 connections, 1 node\n" in text
    assert ["chat", "1", "1", "3"] in rows_of(text, "Namespaces")
    assert rows_of(text, "Largest rooms") == [["chat", "lobby", "1", "1", "3"], ["here", "side", "1", "0", "1"]]
    assert [row[1] for row in rows_of(text, "Nodes")] == [node["id"] for node in found["nodes"]]
    assert {"name": "chat", "tenant": None, "users": 1, "guests": 1, "connections": 3} in found["namespaces"]
    assert found["rooms"] == [
        {"namespace": "chat", "tenant": None, "name": "lobby", "users": 1, "guests": 1, "connections": 3},
        {"namespace": "here", "tenant": None, "name": "side", "users": 1, "guests": 0, "connections": 1},
    ]
    assert (found["is_shared"], found["connections"], len(found["nodes"])) == (False, 4, 1)


async def test_largest_rooms(run: Run) -> None:
    """Of all rooms the ten with most members are shown, whatever their namespace."""
    joins = [
        Join(f"played-{room % 2}", f"room-{room}", 100 * room + number, f"u{number}")
        for room in range(1, 13)
        for number in range(room)
    ]
    async with played(*joins):
        rooms = (await document(run))["rooms"]
    assert [room["name"] for room in rooms] == [f"room-{number}" for number in range(12, 2, -1)]


async def test_one_namespace(run: Run) -> None:
    """The overview may be that of one namespace."""
    async with everybody(chat("lobby", "ada"), here("lobby", user="grace")):
        found = await document(run, "--namespace", "here")
    assert [space["name"] for space in found["namespaces"]] == ["here"]
    assert [room["namespace"] for room in found["rooms"]] == ["here"]
    assert found["connections"] == 1


async def test_unknown_namespace(run: Run) -> None:
    """An unknown namespace is an error that names the existing ones."""
    async with everybody(chat("lobby")):
        with pytest.raises(CommandError, match=r"'chatt'.* known namespaces: .*'chat'"):
            await run("wsrt_presence", "--namespace", "chatt")


async def test_nobody(run: Run) -> None:
    """An empty cluster is reported as such."""
    current_node()
    text = await run("wsrt_presence", "--namespace", "chat")
    assert "\n0 connections, 0 nodes\n" in text
    assert "Largest rooms" not in text
    assert "\n0 nodes\n" in await run("wsrt_presence", "--nodes")
    assert await document(run, "--nodes") == {"is_shared": False, "nodes": []}


async def test_nodes(run: Run) -> None:
    """Nodes have what they said with their last heartbeat; one that is late is marked."""
    limits = {"setups_refused": 1200, "connections_replaced": 34, "limits_unavailable": 7}
    async with played(Join("played", EVERYONE, 1), lag_ms=812, limits=limits):
        text = await run("wsrt_presence", "--nodes")
        (node,) = (await document(run, "--nodes"))["nodes"]
    assert rows_of(text, "Nodes") == [
        ["elsewhere:7", PLAYED, "1", "1,234", "812", "ms", "(late)", "30", "s", "1h", "1m", "0.1.0"],
    ]
    assert (node["id"], node["host"], node["pid"], node["lag_ms"]) == (PLAYED, "elsewhere", 7, 812)
    assert node["refused"] == 1234
    assert node["limits"] == {"setups_refused": 1200, "connections_replaced": 34}
    assert rows_of(text, "Limits reached") == [
        ["MAX_CONNECTIONS_PER_USER", "connections_replaced", "34", "1"],
        ["MAX_SETUPS", "setups_refused", "1,200", "1"],
    ]
    assert dt.datetime.fromisoformat(node["started"]).tzinfo is not None


def test_limits_of_processes() -> None:
    """The nodes of one process report the same counters. Other processes count in addition."""

    def node(pid: int, **limits: int) -> NodeInfo:
        return NodeInfo("0" * 24, "web-1", pid, "0.1.0", 0, 0, 30.0, dt.datetime.now(dt.UTC), 0, limits)

    found = limits_reached([node(1, rates_exceeded=5), node(1, rates_exceeded=7), node(2, rates_exceeded=1), node(3)])
    assert [(limit.name, limit.setting, limit.times, limit.processes) for limit in found] == [
        ("rates_exceeded", "RATE, RATE_BYTES, rate=", 8, 2)
    ]


async def test_credentials(run: Run) -> None:
    """The connections of a user show whether they have a session, and how long their credentials are valid."""
    expires = time.time() + 3630
    details = [{"session": True}, {"expires": expires}, {}]
    joins = [
        Join("played", EVERYONE, number, "ada", details=json.dumps({"since": 0, "consumer": "C", **each}))
        for number, each in enumerate(details)
    ]
    async with played(*joins):
        text = await run("wsrt_presence", "--user", "ada")
        found = (await document(run, "--user", "ada"))["connections"]
    assert [each["has_session"] for each in found] == [True, False, False]
    moment = dt.datetime.fromtimestamp(expires, dt.UTC)
    assert [each["expires"] for each in found] == [None, moment.isoformat(), None]
    heading, *rows = text.partition("\nConnections\n")[2].splitlines()
    assert "  session  expires in" in heading
    assert [row.count("yes") for row in rows] == [1, 0, 0]
    assert rows[1].endswith("  1h 0m")


async def test_room(run: Run) -> None:
    """A room has its members with their data, in order, the guests last; in every namespace that has one."""
    clients = [here("lobby", user=user, name=user.upper()) for user in ("10", "ada", "9", "9")]
    async with everybody(*clients, here("lobby"), chat("lobby", "grace")):
        text = await run("wsrt_presence", "--room", "lobby")
        found = await document(run, "--room", "lobby")
        only = await document(run, "--room", "lobby", "--namespace", "here")
    assert "'lobby' in 'here': 3 users, 1 guest, 5 connections\n" in text
    assert rows_of(text, "'lobby' in 'here'") == [
        ["9", "2", '{"name":', '"9"}'],
        ["10", "1", '{"name":', '"10"}'],
        ["ada", "1", '{"name":', '"ADA"}'],
        ["(guests)", "1"],
    ]
    assert rows_of(text, "'lobby' in 'chat'") == [["grace", "1"]]
    assert [room["namespace"] for room in found["rooms"]] == ["chat", "here"]
    assert only["rooms"] == found["rooms"][1:]
    assert (only["rooms"][0]["users"], only["rooms"][0]["guests"], only["rooms"][0]["connections"]) == (3, 1, 5)
    assert only["rooms"][0]["members"][2] == {"user_id": "ada", "connections": 1, "data": {"name": "ADA"}}
    assert only["rooms"][0]["members"][3] == {"user_id": None, "connections": 1, "data": None}


async def test_large_room(run: Run) -> None:
    """All pages of a room are shown, each member once."""
    async with played(*(Join("played", "hall", number, f"u{number}") for number in range(2500))):
        (room,) = (await document(run, "--room", "hall"))["rooms"]
    assert room["users"] == len(room["members"]) == 2500
    assert {member["user_id"] for member in room["members"]} == {f"u{number}" for number in range(2500)}


async def test_empty_room(run: Run) -> None:
    """An empty room isn't an error."""
    async with everybody(chat("lobby")):
        assert "The room 'side' is empty." in await run("wsrt_presence", "--room", "side")
        assert await document(run, "--room", "side") == {"rooms": []}


async def test_user(run: Run, settings: Any) -> None:
    """A user has connections, in all namespaces, with what is known of each."""
    settings.WSRT = {"PRESENCE": {"BACKEND": "wsrt.presence.memory.MemoryPresence", "OPTIONS": {"DETAILS": True}}}
    mobile = connect(
        ChatConsumer,
        "/?user=ada",
        kwargs={"room": "lobby"},
        headers={"User-Agent": "Mobile 1.0"},
        scope={"client": ("192.0.2.1", 5)},
    )
    async with everybody(here("side", user="ada"), here("side", user="grace"), mobile):
        text = await run("wsrt_presence", "--user", "ada")
        found = await document(run, "--user", "ada")
        ids = {mobile.consumer.id}
        assert {each["id"] for each in found["connections"]} > ids
        (only,) = (await document(run, "--user", "ada", "--namespace", "chat"))["connections"]
    assert "\nUser 'ada': 2 connections\n" in text
    cells = {cell for row in rows_of(text, "Connections") for cell in row}
    assert cells >= {mobile.consumer.id, "ChatConsumer", "HereConsumer", "chat", "here", "192.0.2.1", "Mobile"}
    assert (found["user_id"], len(found["connections"])) == ("ada", 2)
    assert {key: only[key] for key in ("id", "consumer", "address", "user_agent")} == {
        "id": mobile.consumer.id,
        "consumer": "ChatConsumer",
        "address": "192.0.2.1",
        "user_agent": "Mobile 1.0",
    }
    assert only["since"] <= only["last_seen"]


async def test_user_without_details(run: Run) -> None:
    """Where addresses are not kept, there are no columns for them."""
    async with everybody(chat("lobby", "ada")):
        text = await run("wsrt_presence", "--user", "ada")
        assert "User 'grace': 0 connections" in await run("wsrt_presence", "--user", "grace")
    assert "process" in text
    assert "address" not in text


async def test_names_of_clients_are_escaped(run: Run) -> None:
    """What a client calls itself does not reach the terminal as it is, nor break the document."""
    async with everybody(here("a\x1b[2J", user="x%1b%0a", name="%1b]0;")):
        text = await run("wsrt_presence", "--room", "a\x1b[2J")
        assert "\x1b" not in text + await run("wsrt_presence")
        (room,) = (await document(run, "--room", "a\x1b[2J"))["rooms"]
    assert rows_of(text, "'a\\x1b[2J' in 'here'")[0][0] == "x\\x1b\\n"
    assert room["members"][0]["user_id"] == "x\x1b\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def test_fits_the_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a terminal lines are cut; where the output goes elsewhere they are whole."""
    monkeypatch.setenv("COLUMNS", "60")
    name = "long " * 30
    async with everybody(here("lobby", user="ada", name=name.replace(" ", "+"))):
        shown = await run("wsrt_presence", "--room", "lobby", stdout=Terminal())
        assert name in await run("wsrt_presence", "--room", "lobby")
    assert max(map(len, shown.splitlines())) == 60
    assert "…" in shown


async def test_colours(run: Run) -> None:
    """Headings have the colours of Django's commands, if it has any."""
    async with everybody(chat("lobby")):
        assert "\x1b[" in await run("wsrt_presence", no_color=False, force_color=True)
        assert "\x1b[" not in await run("wsrt_presence")


@pytest.mark.parametrize(
    "args", [["--room", "a", "--user", "7"], ["--room", "a", "--nodes"], ["--room", "wsrt.x"], ["--user", ""]]
)
async def test_wrong_arguments(run: Run, args: list[str]) -> None:
    """Only one thing is shown, and names that nothing can have are refused."""
    current_node()
    with pytest.raises(CommandError):
        await run("wsrt_presence", *args)


def test_memory_of_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without connections cannot see those of others in their memory: the error says what to set."""
    # As in a command, outside of tests.
    monkeypatch.setattr(of_process, "is_under_test", lambda: False)
    monkeypatch.setattr(node, "is_server", lambda: False)
    with pytest.raises(CommandError, match=r"memory of each process.*RedisPresence"):
        call_command("wsrt_presence")


async def test_store_that_cannot_be_used(run: Run, settings: Any) -> None:
    """A store that does not answer, or is none, is an error that says where to look."""
    settings.WSRT = {"PRESENCE": {"BACKEND": "nothing.Here"}}
    with pytest.raises(CommandError, match=r"(?s)cannot be read: .*doesn't name a usable store.*wsrt_doctor"):
        await run("wsrt_presence")
