"""Consumers that require tickets, for tests/servers/test_tickets.py; tests/urls.py has the view that issues them."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

from django.core.asgi import get_asgi_application

http = get_asgi_application()

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path

from wsrt import Event, TypedEventConsumer, on
from wsrt.asgi import with_runtime


class Ask(Event, name="ask"):
    pass


class Said(Event, name="said"):
    user: str
    tenant: str | None


def tenant_of_pages() -> str:
    """The tenant of every ticket that the view issues (WSRT["TENANT"])."""
    return "red"


class DeskConsumer(TypedEventConsumer):
    """Says whose connection it is, which belongs to the tenant that the query names."""

    namespace = "ticketed"
    requires_ticket = True

    async def tenant(self) -> str | None:
        return self.query.get("tenant", "red")

    @on
    async def ask(self, event: Ask) -> Said:
        return Said(user=self.user.get_username(), tenant=self.tenant_id)


sockets = URLRouter([path("desk/", DeskConsumer.as_asgi()), path("other/", DeskConsumer.as_asgi())])
application = with_runtime(ProtocolTypeRouter({"http": http, "websocket": AuthMiddlewareStack(sockets)}))
