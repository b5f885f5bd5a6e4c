"""The WebSocket handshake of one connection: the subprotocol, the check of the origin, and the answer."""

from __future__ import annotations

from collections.abc import Iterable

from .. import close_codes
from ..metrics import counters
from ..protocol.session import SUBPROTOCOL
from ..types import Message, Scope, Send
from .origin import check_origin

BEARER = "bearer."
"""The prefix of the subprotocol that carries a token."""


def choose_subprotocol(offered: Iterable[str], supported: Iterable[str]) -> str | None:
    """
    Return the subprotocol to accept, or None for none.

    Args:
        offered: The subprotocols that the client offers.
        supported: The consumer's own subprotocols, in order of preference. ``wsrt.v1`` takes precedence over them.
    """
    offers = list(offered)
    return next((name for name in (SUBPROTOCOL, *supported) if name in offers), None)


def header_values(scope: Scope, name: bytes) -> list[str]:
    """Return the values of a header of a handshake, in their order. The name is in lower case."""
    return [value.decode("latin-1") for key, value in scope.get("headers") or () if key == name]


def bearer_token(scope: Scope) -> str | None:
    """
    Return the token of a handshake: of the header ``Authorization: Bearer``, or of the subprotocol ``bearer.<token>``.

    Browsers can't set the header, so they offer the subprotocol, which is never selected.
    """
    for value in header_values(scope, b"authorization"):
        kind, _, token = value.strip().partition(" ")
        if kind.lower() == "bearer" and token.strip():
            return token.strip()
    offered = scope.get("subprotocols") or ()
    tokens = (str(name).removeprefix(BEARER) for name in offered if str(name).startswith(BEARER))
    return next(filter(None, tokens), None)


async def refuse_foreign_origin(scope: Scope, send: Send) -> bool:
    """Refuse the handshake if its origin isn't allowed; return whether it was refused."""
    refused = check_origin(scope)
    if refused is None:
        return False
    counters.count("origins_refused", "refused a handshake: %s", refused)
    # The connection isn't accepted first, unlike for any other refusal: a foreign page gets no explanation. The server
    # turns a close before the accept into HTTP 403.
    await _answer(send, {"type": "websocket.close", "code": close_codes.FORBIDDEN.code})
    return True


async def accept(send: Send, subprotocol: str | None) -> bool:
    """Accept the connection, and return whether the client is still connected."""
    return await _answer(send, {"type": "websocket.accept", "subprotocol": subprotocol})


async def _answer(send: Send, message: Message) -> bool:
    try:
        await send(message)
    except Exception:
        # The client has left during the handshake. Servers differ in the exception that they raise, so any will do.
        # There is nothing to clean up yet.
        counters.count("connections_lost_in_handshake")
        return False
    return True
