"""Consumers whose clients log in with tokens, for tests/servers/test_renewal.py."""

from __future__ import annotations

import asyncio
import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

from django.core.asgi import get_asgi_application

http = get_asgi_application()

from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path

from wsrt import Event, TypedEventConsumer, on
from wsrt.asgi import with_runtime


class Login(Event, name="login"):
    token: str


class Publish(Event, name="publish"):
    """Publish numbers from now on."""

    every: float


class Tick(Event, name="tick"):
    number: int


class Ask(Event, name="who"):
    pass


class Answer(Event, name="you"):
    username: str


class Person:
    is_authenticated = True

    def __init__(self, pk: str) -> None:
        self.pk = pk


class ListeningConsumer(TypedEventConsumer):
    """A token is "<user>.<milliseconds since 1970 at which it expires>"; tests sign nothing."""

    namespace = "tokens"
    out_events = (Tick,)
    until: float | None = None

    async def authenticate(self, event: Login) -> Person | None:
        user, _, until = event.token.partition(".")
        if user == "nobody":
            return None
        self.until = int(until) / 1000
        return Person(user)

    async def authorize(self) -> bool:
        return bool(self.user.is_authenticated)

    async def expires_at(self) -> float | None:
        return self.until

    async def on_connect(self) -> None:
        await self.join("stream")

    @on
    async def who(self, event: Ask) -> Answer:
        return Answer(username=str(self.user_id))


class PublishingConsumer(TypedEventConsumer):
    """Publishes for those who listen, as long as its client stays."""

    namespace = "tokens"
    out_events = (Tick,)
    task: asyncio.Task[None] | None = None

    @on
    async def publish(self, event: Publish) -> None:
        self.task = asyncio.create_task(self.run(event.every))

    async def run(self, every: float) -> None:
        number = 0
        while True:
            await self.publish_to_room("stream", Tick(number=number))
            number += 1
            await asyncio.sleep(every)

    async def on_disconnect(self, closed: Any) -> None:
        if self.task is not None:
            self.task.cancel()


sockets = URLRouter([path("listen/", ListeningConsumer.as_asgi()), path("publish/", PublishingConsumer.as_asgi())])
application = with_runtime(ProtocolTypeRouter({"http": http, "websocket": sockets}))
