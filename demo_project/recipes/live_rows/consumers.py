from __future__ import annotations

from django.shortcuts import get_object_or_404

from wsrt import TypedEventConsumer, on

from .events import AddTicket, MoveTicket, TicketDeleted, Tickets, TicketSaved
from .models import Ticket
from .receivers import ROOM


class TicketsConsumer(TypedEventConsumer):
    """A page that shows all tickets, and changes them."""

    namespace = "live_rows"
    path = "ws/live-rows/"
    out_events = (Tickets, TicketSaved, TicketDeleted)

    async def authorize(self) -> bool:
        return bool(self.user.is_authenticated)

    async def on_connect(self) -> None:
        # Join first: changes that are published while the rows are read wait until this returns.
        await self.join(ROOM)
        rows = [row async for row in Ticket.objects.all()]
        await self.send(Tickets.model_validate({"tickets": rows}))

    # A def handler runs in a thread, where the ORM and transactions work. The receivers publish.

    @on
    def add(self, event: AddTicket) -> None:
        Ticket.objects.create(title=event.title)

    @on
    def move(self, event: MoveTicket) -> None:
        ticket = get_object_or_404(Ticket, pk=event.id)  # answers "not_found" if another page has deleted it
        ticket.status = event.status
        ticket.save(update_fields=["status"])
