"""``manage.py wsrt_history``: what is kept of a room, and what is deleted."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from django.core.management import CommandError

from tests.management.conftest import Run
from tests.support.histories import TENANTS, akeep, new_room
from tests.support.layer import FakeLayer, installed
from wsrt import Event, TypedEventConsumer, history
from wsrt.cluster.node import current_node
from wsrt.history import access
from wsrt.protocol.namespaces import namespaces

NAMESPACE = "history-command"


class Said(Event, name="said", history=True):
    text: str


class Talk(TypedEventConsumer):
    namespace = NAMESPACE
    out_events = (Said,)


PLACE = ("--namespace", NAMESPACE)


async def test_facts(run: Run) -> None:
    """The command shows the position of a room, what it keeps, how large that is and how old."""
    room = new_room()
    positions = await akeep(NAMESPACE, room, "said", {"text": "a"}, {"text": "b"})
    text = await run("wsrt_history", room, *PLACE)
    assert f"Room '{room}' of '{NAMESPACE}'" in text
    epoch = positions[0].epoch
    assert text.splitlines()[2].split()[:6] == [epoch, "2", "2", "0", "32", "bytes"]
    found = json.loads(await run("wsrt_history", room, *PLACE, "--json"))
    oldest = dt.datetime.fromisoformat(found.pop("oldest"))
    assert dt.timedelta() <= dt.datetime.now(dt.UTC) - oldest < dt.timedelta(minutes=5)
    assert found == {
        "room": room,
        "namespace": NAMESPACE,
        "tenant": None,
        "epoch": epoch,
        "offset": 2,
        "entries": 2,
        "values": 0,
        "bytes": 32,
    }


async def test_empty_room(run: Run) -> None:
    """A room without history has a position."""
    found = json.loads(await run("wsrt_history", new_room(), *PLACE, "--json"))
    assert (found["offset"], found["entries"], found["oldest"]) == (0, 0, None)


async def test_forget(run: Run) -> None:
    """One publication is deleted by its offset, unless the epoch is another one."""
    current_node()
    room = new_room()
    positions = await akeep(NAMESPACE, room, "said", {"text": "a"}, {"text": "b"})
    text = await run("wsrt_history", room, *PLACE, "--forget", "1", "--epoch", "other")
    assert "The history has no publication with the offset 1." in text
    text = await run("wsrt_history", room, *PLACE, "--forget", "1", "--epoch", positions[0].epoch)
    assert "The publication 1 was deleted." in text
    found = json.loads(await run("wsrt_history", room, *PLACE, "--forget", "1", "--json"))
    assert (found["deleted"], found["entries"]) == (False, 1)


async def test_purge(run: Run) -> None:
    """Everything is deleted, and the new epoch is shown."""
    current_node()
    room = new_room()
    (position,) = await akeep(NAMESPACE, room, "said", {"text": "a"})
    assert "The history was deleted." in await run("wsrt_history", room, *PLACE, "--purge")
    found = json.loads(await run("wsrt_history", room, *PLACE, "--purge", "--json"))
    assert (found["deleted"], found["offset"], found["entries"]) == (True, 0, 0)
    assert found["epoch"] == (await history.aroom_position(room, namespace=NAMESPACE)).epoch != position.epoch


async def test_tenants(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A room of a tenant is that of the option."""
    monkeypatch.setitem(namespaces, TENANTS.name, TENANTS)
    namespace, room = TENANTS.name, new_room()
    await akeep(f"{namespace}@red", room, "said", {"text": "a"})
    assert "for the tenant 'red'" in await run("wsrt_history", room, "--namespace", namespace, "--tenant", "red")
    with pytest.raises(CommandError, match="pass --tenant"):
        await run("wsrt_history", room, "--namespace", namespace)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["lobby", "--namespace", "nothing"], "no consumer has the namespace"),
        (["wsrt.x", *PLACE], "wsrt"),
        (["lobby", *PLACE, "--forget", "0"], "offset must be from 1"),
        (["lobby", *PLACE, "--epoch", "a"], "only be used with --forget"),
        (["lobby", *PLACE, "--forget", "1", "--purge"], "not allowed with"),
    ],
    ids=str,
)
async def test_wrong_arguments(run: Run, args: list[str], says: str) -> None:
    """A wrong argument is an error that names it."""
    current_node()
    with pytest.raises(CommandError, match=says):
        await run("wsrt_history", *args)


async def test_store_that_cannot_be_used(run: Run, settings: Any) -> None:
    """A store that can't be used is an error that says where to look."""
    settings.WSRT = {"HISTORY": {"BACKEND": "nothing.Here"}}
    with pytest.raises(CommandError, match=r"(?s)History cannot be read: .*WSRT\['HISTORY'\]"):
        await run("wsrt_history", "lobby", *PLACE)


async def test_memory_of_another_process(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without connections can't see what others keep in their memory."""
    monkeypatch.setattr(access, "may_hold_connections", lambda: False)
    with pytest.raises(CommandError, match=r"History cannot be seen .*RedisHistory"):
        await run("wsrt_history", "lobby", *PLACE)


async def test_layer_that_is_down(run: Run) -> None:
    """If the other processes can't be reached, the error says that only the store was changed."""
    room = new_room()
    await akeep(NAMESPACE, room, "said", {"text": "a"})
    layer = FakeLayer()
    layer.is_down = True
    with installed(layer), pytest.raises(CommandError, match=r"(?s)Deleted in the store, but .*again"):
        await run("wsrt_history", room, *PLACE, "--forget", "1")
