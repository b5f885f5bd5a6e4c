"""
Typed test clients that talk to a consumer without a server, and a context manager that captures publications.

    async with connect(ChatConsumer, user=ada, kwargs={"slug": "lobby"}) as client:
        await client.request(SendMessage(text="hi"))
        message = await client.receive(MessageSent)

    with capture_publications() as published:
        announce(room="lobby")
    assert published.to_room("lobby") == [Announcement(text="...")]

The client enforces the limits of a real server: close codes, reasons and frames that a server would reject raise an
error. Waiting methods wait for the consumer and never for a fixed time. Channel layers and servers are not simulated;
test those with real ones.
"""

from .capture import Published, capture_publications
from .client import Client, RequestRefused, connect

__all__ = ["Client", "Published", "RequestRefused", "capture_publications", "connect"]
