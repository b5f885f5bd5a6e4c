"""The application of test_restarts.py: it knows how often each client is connected."""

from __future__ import annotations

import asyncio
import collections
import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

from django.core.asgi import get_asgi_application

get_asgi_application()

from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path

from wsrt import Closed, Event, TypedEventConsumer, on
from wsrt.asgi import with_runtime

now: collections.Counter[str] = collections.Counter()
most: collections.Counter[str] = collections.Counter()


class Ask(Event, name="ask"):
    value: int


class Answer(Event, name="answer"):
    value: int


class Count(Event, name="count"):
    """How many connections each client has, and had at most."""


class Counted(Event, name="counted"):
    now: dict[str, int]
    most: dict[str, int]


class RestartingConsumer(TypedEventConsumer):
    namespace = "restarting"

    async def on_connect(self) -> None:
        name = self.query.get("client", "")
        now[name] += 1
        most[name] = max(most[name], now[name])

    async def on_disconnect(self, closed: Closed) -> None:
        now[self.query.get("client", "")] -= 1

    @on
    async def ask(self, event: Ask) -> Answer:
        await asyncio.sleep(0.02)
        return Answer(value=event.value)

    @on
    async def count(self, event: Count) -> Counted:
        return Counted(now=dict(now), most=dict(most))


application = with_runtime(
    ProtocolTypeRouter({"websocket": URLRouter([path("ask/", RestartingConsumer.as_asgi())])}),
)
