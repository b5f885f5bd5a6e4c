from __future__ import annotations

from typing import Literal

from pydantic import Field

from wsrt import Event

Status = Literal["open", "doing", "done"]


class TicketData(Event):
    """The fields of a row that pages see."""

    id: int
    title: str
    status: Status
    version: int


class Tickets(Event, name="ticket.list"):
    """All rows. Sent once to each connection."""

    tickets: list[TicketData]


class TicketSaved(TicketData, name="ticket.saved"):
    """A row was created or changed."""


class TicketDeleted(Event, name="ticket.deleted"):
    """A row was deleted."""

    id: int


class AddTicket(Event, name="ticket.add"):
    """Sent by a client to create a row."""

    title: str = Field(min_length=1, max_length=100)


class MoveTicket(Event, name="ticket.move"):
    """Sent by a client to change the status of a row."""

    id: int
    status: Status
