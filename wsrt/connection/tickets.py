"""The ticket of a handshake: where it is, and the decision whether the connection may use it."""

from __future__ import annotations

from collections.abc import Iterable

from .. import close_codes
from ..close_codes import Close
from ..metrics import counters
from ..tickets import PREFIX, Ticket, take_ticket
from ..types import Scope
from .hooks import call
from .users import is_active, is_signed_in


class TicketRefused(Exception):
    """
    Raised when a handshake has no ticket, or one that isn't valid for it.

    Attributes:
        close: The close code and the reason for the client. They are the same for all tickets that aren't valid.
    """

    def __init__(self, problem: str, close: Close = close_codes.CREDENTIALS_EXPIRED) -> None:
        super().__init__(problem)
        self.close = close


async def use_ticket(scope: Scope) -> Ticket:
    """
    Use up the ticket of a handshake, and put its user into the scope, unless the user is already there.

    A ticket that is refused is used up, too, so that it can't be tried again in another way.

    Raises:
        TicketRefused: The handshake has no ticket, or one that isn't valid for it.
    """
    offered = pop_ticket(scope)
    if offered is None:
        raise TicketRefused("the handshake has no ticket", close_codes.UNAUTHENTICATED)
    try:
        ticket: Ticket | None = await call(take_ticket, offered)
    except Exception as error:
        # Only the type is logged: an error of a cache may contain the key.
        counters.count("tickets_unavailable", "a ticket can't be checked: the cache raised %s", type(error).__name__)
        raise TicketRefused("the cache failed", close_codes.CONNECTION_SETUP_FAILED) from None
    if ticket is None:
        raise TicketRefused("it is forged, has expired, or was used before")
    if ticket.path != scope["path"].removeprefix(scope.get("root_path", "")):
        raise TicketRefused("it was issued for another path")
    if not ticket.is_of_session(offered, scope.get("session")):
        raise TicketRefused("it was issued in another session")
    await _use_user(scope, ticket)
    return ticket


def require_tenant(ticket: Ticket, tenant: str | None) -> None:
    """Raise TicketRefused if a ticket was issued for another tenant."""
    if ticket.tenant != tenant:
        raise TicketRefused("it was issued for another tenant")


def pop_ticket(scope: Scope) -> str | None:
    """Remove the tickets from the subprotocols that a client offers. Return the first one, or None."""
    offered: Iterable[str] = scope.get("subprotocols") or ()
    tickets = [name.removeprefix(PREFIX) for name in offered if name.startswith(PREFIX)]
    # Nothing else that reads the list must answer with a ticket, or log it.
    scope["subprotocols"] = [name for name in offered if not name.startswith(PREFIX)]
    return tickets[0] if tickets else None


async def _use_user(scope: Scope, ticket: Ticket) -> None:
    user = scope.get("user")
    if is_signed_in(user):
        if not ticket.is_of_user(user):
            raise TicketRefused("it was issued to another user")
        return
    if ticket.session is not None and user is not None:
        # The session has no user any more: they have logged out, or changed their password.
        raise TicketRefused("the session is signed out")
    user = await call(ticket.load_user)
    if user is None or not is_active(user):
        raise TicketRefused("its user was deleted or is inactive")
    scope["user"] = user
