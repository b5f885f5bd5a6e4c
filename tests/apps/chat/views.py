from __future__ import annotations

import asyncio
import gc
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse

from tests.apps.chat import consumers, tasks
from tests.apps.chat.publishing import publish_as
from wsrt import addresses as to
from wsrt import disconnect, permissions_changed, remove_from_room
from wsrt.cluster.node import nodes
from wsrt.metrics import counters


def publish(request: HttpRequest, kind: str, target: str) -> HttpResponse:
    publish_as(kind, target, request.GET.get("text", ""))
    return HttpResponse("published")


def take(request: HttpRequest, how: str, user: str, room: str) -> HttpResponse:
    """Publish a number of events to a room, take a user out of it, and publish as many again."""
    count = int(request.GET["count"])
    for number in range(count):
        publish_as("room", room, f"before {number}")
    match how:
        case "remove":
            remove_from_room(to.User(user), room, namespace="chat")
        case "permissions":
            permissions_changed(user)
        case "disconnect":
            disconnect(to.User(user), namespace="chat")
    for number in range(count):
        publish_as("room", room, f"after {number}")
    publish_as("everyone", "", "end")
    return HttpResponse("taken")


def enqueue(request: HttpRequest, kind: str, target: str) -> HttpResponse:
    tasks.publish.delay(kind, target, request.GET.get("text", ""))
    return HttpResponse("enqueued")


async def stats(request: HttpRequest) -> JsonResponse:
    """What this process holds, for tests that compare it with a baseline."""
    gc.collect()
    return JsonResponse(
        {
            "tasks": len(asyncio.all_tasks()),
            "objects": len(gc.get_objects()),
            "connections": sum(len(node.hub.subscribers) for node in nodes()),
            "rooms": sum(len(node.hub._rooms) for node in nodes()),
            "groups": sorted(
                group for node in nodes() for plane in node._backplanes.values() for group in plane.groups
            ),
            "counts": counters.snapshot(),
            "hooks": [[name, _plain(value)] for name, value in consumers.hooks],
        }
    )


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else [value.code, value.reason, value.by]
