"""``manage.py wsrt_disconnect``, on the connections of this process."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.apps.chat.consumers import ChatConsumer, HereConsumer
from tests.management.conftest import Run
from tests.support.layer import FakeLayer, installed
from wsrt import close_codes
from wsrt.close_codes import Close
from wsrt.testing import Client, connect


def chat(user: str, room: str = "lobby") -> Client:
    return connect(ChatConsumer, f"/?user={user}", kwargs={"room": room})


def here(user: str) -> Client:
    return connect(HereConsumer, f"/?user={user}", kwargs={"room": "lobby"})


async def test_user(run: Run) -> None:
    """All connections of a user are closed 4410, in all namespaces; the command prints their number."""
    async with chat("ada") as one, here("ada") as two, chat("grace") as other:
        await other.settle()
        text = await run("wsrt_disconnect", "--user", "ada")
        for client in (one, two):
            await client.assert_closed(close_codes.DISCONNECTED)
        await other.assert_silent()
    assert "User('ada') of all namespaces: 4410 Disconnected by the server" in text
    assert "According to presence, this affects 2 connections." in text


async def test_room_of_one_namespace(run: Run) -> None:
    """A room is that of a namespace; code and reason are the operator's."""
    async with chat("ada") as client, chat("ada", "side") as elsewhere, here("ada") as other:
        await other.settle()
        args = ["--room", "lobby", "--namespace", "chat", "--code", "4800", "--reason", "Over", "--json"]
        found = json.loads(await run("wsrt_disconnect", *args))
        await client.assert_closed(Close(4800, "Over"))
        await elsewhere.assert_silent()
        await other.assert_silent()
    assert found == {
        "to": {"room": "lobby"},
        "namespace": "chat",
        "tenant": None,
        "code": 4800,
        "reason": "Over",
        "connections": 1,
    }


async def test_room_of_all_namespaces(run: Run) -> None:
    """Without a namespace a room of any is meant."""
    async with chat("ada") as one, here("ada") as two:
        await two.settle()
        assert json.loads(await run("wsrt_disconnect", "--room", "lobby", "--json"))["connections"] == 2
        await one.assert_closed(4410)
        await two.assert_closed(4410)


async def test_connection(run: Run) -> None:
    """One connection is closed by its id."""
    async with chat("ada") as client, chat("ada") as other:
        await other.settle()
        text = await run("wsrt_disconnect", "--connection", client.consumer.id)
        await client.assert_closed(4410)
        await other.assert_silent()
        assert "According to presence, this affects 1 connection." in text
        gone = await run("wsrt_disconnect", "--connection", client.consumer.id)
        assert "According to presence, this affects 0 connections." in gone


async def test_log_out(run: Run) -> None:
    """With --log-out, the code is 4401, and the command says that sessions and tokens stay valid."""
    async with chat("ada") as one, here("ada") as two, chat("grace") as other:
        await other.settle()
        text = await run("wsrt_disconnect", "--user", "ada", "--log-out")
        for client in (one, two):
            await client.assert_closed(close_codes.CREDENTIALS_EXPIRED)
        await other.assert_silent()
        assert "User('ada') of all namespaces: 4401 Credentials expired" in text
        assert "Sessions and tokens stay valid" in text
        found = json.loads(await run("wsrt_disconnect", "--user", "grace", "--log-out", "--json"))
        await other.assert_closed(close_codes.CREDENTIALS_EXPIRED)
    assert (found["code"], found["reason"], found["connections"]) == (4401, "Credentials expired", 1)


async def test_unknown_to_presence(run: Run, settings: Any) -> None:
    """Where presence does not answer, connections are closed all the same, and it says why they are not counted."""
    async with chat("ada") as client, chat("grace") as other:
        settings.WSRT = {"PRESENCE": {"BACKEND": "nothing.Here"}}
        text = await run("wsrt_disconnect", "--user", "ada")
        await client.assert_closed(4410)
        assert "is not known: WSRT['PRESENCE'] doesn't name a usable store" in text
        assert json.loads(await run("wsrt_disconnect", "--user", "grace", "--json"))["connections"] is None
        await other.assert_closed(4410)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "required"),
        (["--user", "7", "--room", "a"], "not allowed with"),
        (["--user", ""], "empty"),
        (["--room", "wsrt.x"], "reserved"),
        (["--connection", "7"], "is not the id of a connection"),
        (["--user", "7", "--code", "1005"], "cannot be sent"),
        (["--user", "7", "--code", "x"], "invalid int"),
        (["--user", "7", "--code", "4500", "--log-out"], "not allowed with"),
        (["--user", "7", "--reason", "Bye", "--log-out"], "--reason can't be used with --log-out"),
        (["--user", "7", "--namespace", "chatt"], "known namespaces: .*'chat'"),
    ],
)
async def test_wrong_arguments(run: Run, args: list[str], says: str) -> None:
    """What cannot be meant is an error that says why."""
    with pytest.raises(CommandError, match=says):
        await run("wsrt_disconnect", *args)


async def test_layer_that_is_down(run: Run) -> None:
    """A layer that does not take the command is an error, and nothing is told as done."""
    with installed(FakeLayer()) as layer:
        layer.is_down = True
        with pytest.raises(CommandError, match=r"(?s)Nothing was sent: .*the layer is down.*wsrt_doctor"):
            await run("wsrt_disconnect", "--user", "7")


def test_nobody_can_hear() -> None:
    """Where no layer leads out of the process, the error says what to configure."""
    with pytest.raises(CommandError, match=r"(?s)No connection can be reached: .*'default'.*RedisPubSubChannelLayer"):
        call_command("wsrt_disconnect", "--user", "7")
