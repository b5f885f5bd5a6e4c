"""The pages of tenants: what has the same name in two of them is shown, and acted on, apart."""

from __future__ import annotations

import pytest

from tests.admin.conftest import MakeOperator, page
from tests.admin.test_pages import links, rows
from tests.test_tenants import DESK, HALL, dial, red_blue_none, registered, texts
from wsrt import close_codes
from wsrt.admin.targets import Target
from wsrt.permissions import VIEW

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures(registered.__name__)]


async def test_pages(operator: MakeOperator) -> None:
    """A tenant stands behind its namespace, and its links lead to what is its own."""
    root = await operator(VIEW)  # who sees no names of users
    async with red_blue_none(), dial("red"):
        shown = {row[0].split()[0]: row[1:4] for row in rows(await root.see("changelist"), "namespaces")}
        assert {name: shown[name] for name in shown if name.startswith(DESK)} == {
            DESK: ["1", "0", "1"],
            f"{DESK}@red": ["1", "0", "2"],
            f"{DESK}@blue": ["1", "0", "1"],
        }
        text = await root.see("users", namespace=f"{DESK}@red")
        assert rows(text, "users") == [["1", "2"]]
        # That of the row which the script of the page fills names no user yet.
        theirs = {f"{page('user')}?tenant=red&user={key}" for key in ("", "1")}
        assert set(links(text, "user")) == theirs
        assert rows(await root.see("rooms", namespace=f"{DESK}@blue"), "rooms") == [["lobby", "1", "0", "1"]]
        text = await root.see("room", namespace=f"{DESK}@red", room="lobby")
        assert rows(text, "members") == [["1", "2", ""]]
        assert set(links(text, "user")) == theirs
        for tenant, number in (("red", 2), ("blue", 1)):
            sessions = rows(await root.see("user", tenant=tenant, user="1"), "sessions")
            assert [row[1] for row in sessions] == [f"{DESK}@{tenant}"] * number
        assert [row[1] for row in rows(await root.see("user", user="1"), "sessions")] == [DESK]


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("rooms", {"namespace": f"{DESK}@"}),
        ("users", {"namespace": f"{DESK}@{'x' * 256}"}),
        ("room", {"namespace": "@red", "room": "lobby"}),
        ("user", {"tenant": "x" * 256, "user": "1"}),
    ],
)
async def test_no_such_page(operator: MakeOperator, name: str, query: dict[str, str]) -> None:
    """What can't be a tenant has no page, and nothing but a user is in a tenant alone."""
    await (await operator()).see(name, status=404, **query)


async def test_disconnect_a_user(operator: MakeOperator) -> None:
    """A user of one tenant is disconnected, in whatever namespace, and the user of that number of no other."""
    root = await operator()
    async with red_blue_none() as (red, blue, none):
        await root.post("disconnect", {"target": Target("user", "@red", "1").token})
        await red.assert_closed(close_codes.DISCONNECTED)
        await root.post("disconnect", {"target": Target("user", None, "1").token})
        await none.assert_closed(close_codes.DISCONNECTED)
        await blue.assert_silent()
        await root.post("disconnect", {"target": Target("room", f"{DESK}@blue", "lobby").token})
        await blue.assert_closed(close_codes.DISCONNECTED)


async def test_announce(operator: MakeOperator) -> None:
    """An announcement goes to everyone of one tenant."""
    root = await operator()
    async with red_blue_none() as clients:
        form = {"to": "everyone", "data": '{"text": "hi"}', "confirm": "1"}
        await root.post("announce", form, namespace=f"{DESK}@red", event="note")
        assert [await texts(client) for client in clients] == [["hi"], [], []]


async def test_choose_what_to_announce_to_a_user(operator: MakeOperator) -> None:
    """The user of a tenant can be sent what the namespaces with tenants declare."""
    root = await operator()
    text = await root.see("announce", namespace="@red", user="1")
    assert f"namespace={DESK}%40red" in text
    assert HALL not in text
    # A namespace without tenants has no tenant to announce to.
    assert "Choose the event to send" in await root.see("announce", namespace=f"{HALL}@red", event="note")
