"""
The application of test_recovery_servers.py: a room with a history, to which every connection belongs, and a view that
serves its history. Only servers import this module.
"""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

from django.core.asgi import get_asgi_application

http = get_asgi_application()

from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.urls import include, path

from wsrt import Event, TypedEventConsumer, on
from wsrt.asgi import with_runtime
from wsrt.views import HistoryView


class News(Event, name="news", history=True):
    n: int


class Price(Event, name="price", history="latest", key="item"):
    item: str
    cents: int


class Publish(Event, name="publish"):
    """Publish news with these numbers."""

    first: int
    last: int


class SetPrice(Event, name="price.set"):
    item: str
    cents: int


class NewsConsumer(TypedEventConsumer):
    namespace = "recovery"
    out_events = (News, Price)

    async def authorize_room(self, room: str) -> bool:
        return room == "news"

    async def on_connect(self) -> None:
        await self.join("news")

    @on
    async def publish(self, event: Publish) -> None:
        for n in range(event.first, event.last + 1):
            await self.publish_to_room("news", News(n=n))

    @on
    async def set_price(self, event: SetPrice) -> None:
        await self.publish_to_room("news", Price(item=event.item, cents=event.cents))


urlpatterns = [path("history/", HistoryView.as_view(consumer=NewsConsumer)), path("", include("tests.urls"))]
settings.ROOT_URLCONF = __name__

application = with_runtime(
    ProtocolTypeRouter({"http": http, "websocket": URLRouter([path("news/", NewsConsumer.as_asgi())])}),
)
