from __future__ import annotations

import asyncio

from django.contrib.auth.models import User
from django.test import SimpleTestCase

from wsrt import close_codes, presence
from wsrt.testing import Client, RequestRefused, connect
from wsrt.types import Message, Receive, Scope, Send

from .consumers import CursorsConsumer
from .events import CursorMoved, MoveCursor


class CursorsTests(SimpleTestCase):
    ada = User(pk=1, username="ada", first_name="Ada")
    bob = User(pk=2, username="bob")

    def on_board(self, user: User, board: str = "main") -> Client:
        return connect(CursorsConsumer, user=user, kwargs={"board": board})

    async def test_others_see_a_pointer(self) -> None:
        async with (
            self.on_board(self.ada) as ada,
            self.on_board(self.bob) as bob,
            self.on_board(self.bob, "x") as other,
        ):
            await ada.send(MoveCursor(x=0.25, y=1))
            self.assertEqual(await bob.receive(CursorMoved), CursorMoved(user_id="1", x=0.25, y=1))
            await ada.assert_silent()
            await other.assert_silent()

    async def test_people_have_names(self) -> None:
        async with self.on_board(self.ada), self.on_board(self.bob):
            members = await presence.amembers("main", namespace="cursors")
            self.assertEqual(
                {member.user_id: member.data for member in members}, {"1": {"name": "Ada"}, "2": {"name": "bob"}}
            )

    async def test_slow_client_gets_the_latest_position(self) -> None:
        """Positions that a client can't take replace each other: it never falls behind."""
        is_read = asyncio.Event()

        async def slow_network(scope: Scope, receive: Receive, send: Send) -> None:
            async def send_slowly(message: Message) -> None:
                if message["type"] == "websocket.send":
                    await is_read.wait()
                await send(message)

            await CursorsConsumer()(scope, receive, send_slowly)

        behind = connect(slow_network, user=self.bob, kwargs={"board": "main"})
        async with self.on_board(self.ada) as ada, behind as bob:
            for step in range(1, 101):
                await ada.request(MoveCursor(x=step / 100, y=0))
            is_read.set()
            positions = [await bob.receive(CursorMoved)]
            while positions[-1].x < 1:
                positions.append(await bob.receive(CursorMoved))
            self.assertLess(len(positions), 5)

    async def test_wrong_position(self) -> None:
        async with self.on_board(self.ada) as ada:
            with self.assertRaises(RequestRefused) as refused:
                await ada.request(MoveCursor.model_construct(x=2, y=0))
            self.assertEqual(refused.exception.errors[0]["loc"], ["x"])

    async def test_guests_are_refused(self) -> None:
        async with connect(CursorsConsumer, kwargs={"board": "main"}) as guest:
            await guest.assert_closed(close_codes.UNAUTHENTICATED)
