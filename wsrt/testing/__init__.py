"""
A testing kit: typed clients of a consumer without a server, and the publications that code made.

    async with connect(ChatConsumer, user=ada, kwargs={"slug": "lobby"}) as client:
        await client.request(SendMessage(text="hi"))
        message = await client.receive(MessageSent)

    with capture_publications() as published:
        announce(room="lobby")
    assert published.to_room("lobby") == [Announcement(text="...")]

The client behaves like a real server at its limits: it refuses close codes, reasons and frames that servers refuse.
Nothing sleeps: what waits, waits for the consumer. Layers and servers are not tested by it; use real ones for that.
"""

from .capture import Published, capture_publications
from .client import Client, RequestRefused, connect

__all__ = ["Client", "Published", "RequestRefused", "capture_publications", "connect"]
