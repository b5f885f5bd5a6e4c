"""``manage.py wsrt_publish``, to the connections of this process."""

from __future__ import annotations

import io
import json
import sys

import pytest
from django.core.management import CommandError, call_command

from tests.apps.chat.consumers import ChatConsumer
from tests.apps.chat.events import Said
from tests.management.conftest import Run
from tests.support.layer import FakeLayer, installed
from wsrt import Event, TypedEventConsumer
from wsrt import addresses as to
from wsrt.testing import Client, capture_publications, connect


class Kept(Event, name="kept", history=True):
    text: str


class KeepingConsumer(TypedEventConsumer):
    namespace = "unit-publish"
    out_events = (Kept,)


def chat(user: str, room: str = "lobby") -> Client:
    return connect(ChatConsumer, f"/?user={user}", kwargs={"room": room})


async def test_room(run: Run) -> None:
    """An event goes to a room."""
    async with chat("ada") as client, chat("ada", "side") as elsewhere:
        text = await run("wsrt_publish", "lobby", "said", '{"text": "hi"}', "--namespace", "chat")
        assert await client.receive(Said) == Said(text="hi")
        await elsewhere.assert_silent()
    assert text == "Published 'said' to Room('lobby') of 'chat'.\n"


@pytest.mark.parametrize(
    "args",
    [
        ["said", '{"text": "hi"}', "--namespace", "chat", "--user", "ada"],
        ["--user", "ada", "--namespace", "chat", "said", '{"text": "hi"}'],
    ],
)
async def test_user(run: Run, args: list[str]) -> None:
    """With a user the room is left out."""
    async with chat("ada") as client, chat("ada", "side") as another, chat("grace") as other:
        assert "to User('ada')" in await run("wsrt_publish", *args)
        for each in (client, another):
            assert await each.receive(Said) == Said(text="hi")
        await other.assert_silent()


async def test_user_in_a_room(run: Run) -> None:
    """With both it goes to the connections of the user that are in the room."""
    async with chat("ada") as client, chat("ada", "side") as elsewhere, chat("grace") as other:
        args = ["lobby", "said", '{"text": "hi"}', "--namespace", "chat", "--user", "ada"]
        assert "(Room('lobby') & User('ada'))" in await run("wsrt_publish", *args)
        assert await client.receive(Said) == Said(text="hi")
        await elsewhere.assert_silent()
        await other.assert_silent()


async def test_json(run: Run) -> None:
    """For programs it says in one document what was published to whom."""
    async with chat("ada") as client:
        args = ["lobby", "said", '{"text": "hi"}', "--namespace", "chat", "--user", "ada", "--json"]
        document = json.loads(await run("wsrt_publish", *args))
        assert await client.receive(Said) == Said(text="hi")
    assert document == {"event": "said", "to": {"room": "lobby", "user": "ada"}, "namespace": "chat", "tenant": None}


async def test_standard_input(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data may come from the standard input."""
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"text": "piped"}\n'))
    async with chat("ada") as client:
        await run("wsrt_publish", "lobby", "said", "-", "--namespace", "chat")
        assert await client.receive(Said) == Said(text="piped")


def test_captured() -> None:
    """In tests it is captured like any publication."""
    with capture_publications() as published:
        call_command("wsrt_publish", "lobby", "said", '{"text": "hi"}', namespace="chat", stdout=io.StringIO())
    assert published.to_room("lobby") == [Said(text="hi")]
    assert published[0].audience == to.Room("lobby")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["lobby", "said", "{}"], r"no consumer has the namespace 'default'; known namespaces: .*'chat'"),
        (
            ["lobby", "sayd", "{}", "--namespace", "chat"],
            r"doesn't declare an event 'sayd'. It declares: 'echoed', .*'said', 'typing'",
        ),
        (
            ["lobby", "said", '{"text": 5}', "--namespace", "chat"],
            r"(?s)'said' is invalid.\n  text: Input should be a va",
        ),
        (["lobby", "said", '{"text": 5}', "--namespace", "chat"], r'(?s)looks like this:\n  {\n    "text": ""\n  }'),
        (["lobby", "said", "{text", "--namespace", "chat"], r"\(the whole event\): This isn’t valid JSON"),
        (["lobby", "said", "[]", "--namespace", "chat"], r"\(the whole event\): Input should be a valid dictionary"),
        (["said", "{}", "--namespace", "chat"], "No audience"),
        (["wsrt.a", "said", "{}", "--namespace", "chat"], "reserved"),
        (["said", "{}", "--namespace", "chat", "--user", ""], "empty"),
        (
            ["kept", '{"text": "a"}', "--namespace", "unit-publish", "--user", "7"],
            "can only be sent to exactly one room",
        ),
        (["said"], "required: JSON"),
    ],
)
async def test_wrong(run: Run, args: list[str], says: str) -> None:
    """An error names the problem and the fix, and nothing is published."""
    async with chat("ada") as client:
        with pytest.raises(CommandError, match=says):
            await run("wsrt_publish", *args)
        await client.assert_silent()


async def test_layer_that_is_down(run: Run) -> None:
    """A layer that does not take it is an error."""
    with installed(FakeLayer()) as layer:
        layer.is_down = True
        with pytest.raises(CommandError, match=r"Nothing was sent: .*the layer is down"):
            await run("wsrt_publish", "lobby", "said", '{"text": "hi"}', "--namespace", "chat")


def test_nobody_can_hear() -> None:
    """Where no layer leads out of the process, the error says what to configure."""
    with pytest.raises(CommandError, match=r"(?s)No connection can be reached: .*RedisPubSubChannelLayer"):
        call_command("wsrt_publish", "lobby", "said", '{"text": "hi"}', namespace="chat")
