"""The applications to compare. Each sends what it receives from one client to all clients."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

import django
from django.conf import settings

REDIS = os.environ.get("BENCHMARK_REDIS", "redis://127.0.0.1:6379/0")
# The servers share one Redis, so each has its own prefix.
CONFIG = {"hosts": [REDIS], "prefix": os.environ.get("BENCHMARK_PREFIX", "benchmark")}

if not settings.configured:
    settings.configure(
        SECRET_KEY="benchmark",
        ALLOWED_HOSTS=["*"],
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "channels", "wsrt"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        CHANNEL_LAYERS={"default": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": CONFIG}},
        WSRT={
            "HISTORY": {"BACKEND": "wsrt.history.redis.RedisHistory", "LOCATION": REDIS},
            "RATE": None,
            # The load generator doesn't answer pings.
            "HEARTBEAT": None,
        },
    )
    django.setup()

from channels.generic.websocket import AsyncJsonWebsocketConsumer

from wsrt import Event, TypedEventConsumer, on
from wsrt.asgi import with_runtime

Send = Callable[[dict[str, Any]], Awaitable[None]]

_sends: dict[Send, None] = {}


async def bare(scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]], send: Send) -> None:
    """The upper bound of the server: no framework, no Redis, no JSON."""
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    _sends[send] = None
    try:
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            for member in list(_sends):
                await member({"type": "websocket.send", "text": message["text"]})
    finally:
        del _sends[send]


class Say(Event, name="say"):
    text: str


class Said(Event, name="said"):
    text: str


class Typed(TypedEventConsumer):
    """A wsrt consumer, through Redis."""

    namespace = "benchmark"
    out_events = (Said,)

    async def on_connect(self) -> None:
        await self.join("all")

    @on
    async def say(self, event: Say) -> None:
        await self.publish_to_room("all", Said(text=event.text))


class Number(Event, name="number"):
    n: int
    text: str


class Numbered(Event, name="numbered", history=True):
    n: int
    text: str


class Kept(TypedEventConsumer):
    """A wsrt consumer whose publications are kept, through Redis."""

    namespace = "kept"
    out_events = (Numbered,)

    async def on_connect(self) -> None:
        await self.join("all")

    @on
    async def number(self, event: Number) -> None:
        await self.publish_to_room("all", Numbered(n=event.n, text=event.text))


class Plain(AsyncJsonWebsocketConsumer):
    """The same consumer with Channels alone, through the same Redis."""

    async def connect(self) -> None:
        await self.channel_layer.group_add("all", self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard("all", self.channel_name)

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self.channel_layer.group_send("all", {"type": "said", "data": content})

    async def said(self, message: dict[str, Any]) -> None:
        await self.send_json(message["data"])


fast = with_runtime(Typed.as_asgi(fast_path=True))
ordinary = with_runtime(Typed.as_asgi(fast_path=False))
plain = Plain.as_asgi()
kept = with_runtime(Kept.as_asgi())
