"""Reading and deleting with the history in Redis, under WSGI and ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from django.test import AsyncClient, Client
from django.urls import path

from tests.support.histories import new_room
from tests.support.processes import RedisServer
from wsrt import Event, TypedEventConsumer, history, publish_to_room
from wsrt.history.backends import close_stores
from wsrt.views import HistoryView

NAMESPACE = "history-redis-reading"


class Said(Event, name="said", history=True):
    text: str


class Talk(TypedEventConsumer):
    namespace = NAMESPACE
    out_events = (Said,)

    async def authorize_room(self, room: str) -> bool:
        return True


urlpatterns = [path("history/", HistoryView.as_view(consumer=Talk))]

pytestmark = pytest.mark.urls(__name__)


@pytest.fixture
async def _redis(redis_server: RedisServer, settings: Any) -> AsyncIterator[None]:
    settings.WSRT = {
        "HISTORY": {"BACKEND": "wsrt.history.redis.RedisHistory", "LOCATION": redis_server.url},
        "HISTORY_SIZE": 3,
    }
    yield
    await close_stores()


@pytest.mark.usefixtures("_redis")
async def test_reading_and_deleting() -> None:
    """Positions, pages, gaps, the view under both kinds of servers, and deletions agree with Redis."""
    room = new_room()
    place: dict[str, Any] = {"namespace": NAMESPACE}

    def publish(*texts: str) -> list[Any]:
        return [publish_to_room(room, Said(text=text), **place) for text in texts]

    first, second = await asyncio.to_thread(publish, "1", "2")
    assert str(second) == str(await history.aroom_position(room, **place))
    await asyncio.to_thread(publish, *"3456")
    page = await history.ahistory(room, first, **place)
    assert (page.gap, [past.event for past in page][-1]) == ("trimmed", Said(text="6"))
    below = await asyncio.to_thread(Client().get, "/history/", {"room": room})
    above = await AsyncClient().get("/history/", {"room": room})
    assert below.json() == above.json()
    assert [event["offset"] for event in above.json()["events"]][-3:] == [4, 5, 6]
    again = await AsyncClient().get("/history/", {"room": room}, headers={"If-None-Match": above["ETag"]})
    assert again.status_code == 304
    assert await asyncio.to_thread(lambda: history.forget(room, offset=5, epoch=first.epoch, on_commit=False, **place))
    after = await AsyncClient().get("/history/", {"room": room}, headers={"If-None-Match": above["ETag"]})
    assert 5 not in [event["offset"] for event in after.json()["events"]]
    new = await history.apurge(room, **place)
    assert new.epoch != first.epoch
    gone = (await AsyncClient().get("/history/", {"room": room, "since": str(first)})).json()
    assert (gone["gap"], gone["events"], gone["epoch"]) == ("epoch", [], new.epoch)


@pytest.mark.usefixtures("_redis")
async def test_redis_is_down(redis_server: RedisServer) -> None:
    """If Redis is gone, the view answers 503 under both kinds of servers."""
    redis_server.stop()
    below = await asyncio.to_thread(Client().get, "/history/", {"room": "lobby"})
    above = await AsyncClient().get("/history/", {"room": "lobby"})
    assert (below.status_code, above.status_code) == (503, 503)
