"""The application of the tests with a database of its own: consumers whose hooks and handlers ask it."""

from __future__ import annotations

import os
import sys

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

from django.core.asgi import get_asgi_application

http = get_asgi_application()

from asgiref.sync import sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.db import connection
from django.urls import path

from tests.apps.chat.events import Echoed
from wsrt import Closed, Event, TypedEventConsumer, aadd_to_room, apermissions_changed, on
from wsrt import addresses as to
from wsrt.asgi import with_runtime


class AskInThread(Event, name="ask.def"):
    pass


class AskInLoop(Event, name="ask.async"):
    pass


class Keep(Event, name="keep"):
    """Hand a text to the database."""

    text: str


class Command(Event, name="command"):
    name: str


def ask() -> int:
    """Return the process id of the database session that serves this thread."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


class DatabaseConsumer(TypedEventConsumer):
    """Asks the database in its handlers, and where the query string says so in a hook."""

    namespace = "database"

    async def authorize(self) -> bool:
        return await self._ask("authorize")

    async def authorize_room(self, room: str) -> bool:
        return await self._ask("authorize_room")

    async def on_connect(self) -> None:
        await self.set_user_id("7")

    async def on_disconnect(self, closed: Closed) -> None:
        await self._ask("on_disconnect")

    @on
    async def ask_in_loop(self, event: AskInLoop) -> Echoed:
        return Echoed(value=await sync_to_async(ask)())

    @on
    def ask_in_thread(self, event: AskInThread) -> Echoed:
        return Echoed(value=ask())

    @on
    def keep(self, event: Keep) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT %s", [event.text])

    @on
    async def command(self, event: Command) -> None:
        if event.name == "permissions_changed":
            await apermissions_changed("7")
        else:
            await aadd_to_room(to.User("7"), "lobby", namespace=self.namespace)

    async def _ask(self, hook: str) -> bool:
        if hook in self.query.getlist("ask"):
            await sync_to_async(ask)()
            sys.stdout.write(f"asked {hook}\n")
        return True


class PlainConsumer(AsyncJsonWebsocketConsumer):
    """What Channels does, to compare."""

    async def receive_json(self, content: dict[str, str]) -> None:
        await self.send_json({"event": "echoed", "data": {"value": await sync_to_async(ask)()}, "ref": content["ref"]})


application = with_runtime(
    ProtocolTypeRouter(
        {
            "http": http,
            "websocket": URLRouter(
                [path("database/", DatabaseConsumer.as_asgi()), path("plain/", PlainConsumer.as_asgi())]
            ),
        }
    )
)
