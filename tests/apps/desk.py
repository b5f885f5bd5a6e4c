"""An application whose connections belong to tenants, and to users of two kinds, for tests/servers/test_tenants.py."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

from django.core.asgi import get_asgi_application

http = get_asgi_application()

from channels.routing import ProtocolTypeRouter, URLRouter
from django.contrib.auth.models import Group
from django.urls import path

import wsrt
from wsrt import Event, TypedEventConsumer, on, presence
from wsrt import addresses as to
from wsrt.asgi import with_runtime


class Noted(Event, name="noted"):
    text: str


class Act(Event, name="act"):
    """Calls a function of wsrt: whom it is for is a user, a device, a room or everyone."""

    function: str
    whom: str
    name: str = ""
    tenant: str | None = None
    text: str = ""


class Ask(Event, name="ask"):
    tenant: str | None


class Seen(Event, name="seen"):
    """The members of the lobby with their connections, and which of the two users with the number 1 are online."""

    members: dict[str, int]
    online: list[bool]


class DeskConsumer(TypedEventConsumer):
    """Belongs to the tenant and the user, or device, that the query names."""

    namespace = "desk"
    out_events = (Noted,)
    presence = True

    async def tenant(self) -> str | None:
        return self.query.get("tenant")

    async def identity(self) -> object:
        if "device" in self.query:
            return device(self.query["device"])
        return int(self.query["user"])

    async def on_connect(self) -> None:
        await self.join("lobby")

    @on
    async def act(self, event: Act) -> None:
        audience = {
            "user": lambda: to.User(int(event.name)),
            "device": lambda: to.User(device(event.name)),
            "room": lambda: to.Room(event.name),
            "everyone": to.Everyone,
        }[event.whom]()
        match event.function:
            case "publish":
                note = Noted(text=event.text)
                await wsrt.apublish_to_audience(audience, note, namespace="desk", tenant=event.tenant)
            case "remove":
                await wsrt.aremove_from_room(audience, "lobby", namespace="desk", tenant=event.tenant)
            case "disconnect":
                await wsrt.adisconnect(audience, namespace="desk", tenant=event.tenant)

    @on
    async def ask(self, event: Ask) -> Seen:
        members = await presence.amembers("lobby", namespace="desk", tenant=event.tenant)
        return Seen(
            members={str(member.user_id): member.connections for member in members},
            online=[await presence.ais_online(user, tenant=event.tenant) for user in (1, device("1"))],
        )


def device(number: str) -> Group:
    """An instance of another model than that of users."""
    return Group(pk=int(number))


runtime = with_runtime(
    ProtocolTypeRouter({"http": http, "websocket": URLRouter([path("desk/", DeskConsumer.as_asgi())])})
)
