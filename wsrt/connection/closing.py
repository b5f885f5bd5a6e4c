"""The end of one connection: what it releases, how it ended, and ``on_disconnect``."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from typing import TYPE_CHECKING

from .. import close_codes
from ..close_codes import Closed
from ..metrics import counters
from .db import database_care
from .hooks import call

if TYPE_CHECKING:
    from .lifecycle import ConnectionHandler

DISCONNECT_SECONDS = 4.0
"""How long on_disconnect may take. Daphne cancels the application after 10 s, 5 s of which the dispatcher may use."""

ABNORMAL = {None, 1005, 1006}
"""Codes that servers report when the connection ended without a close frame. None: the message has no code."""

SERVICE_RESTART = 1012
"""The code that uvicorn reports when it shuts down."""

logger = logging.getLogger("wsrt")


@dataclasses.dataclass(frozen=True, slots=True)
class Disconnect:
    """
    The disconnect as the server reported it.

    Attributes:
        code: The close code. None if the server reported none.
        reason: The text of the client's close frame.
    """

    code: int | None
    reason: str


async def clean_up(connection: ConnectionHandler) -> None:
    """
    Release everything that a connection holds, and call ``on_disconnect``, however the connection ended.

    It runs in a task of the node, which no server cancels. Everything up to the first ``await`` takes effect at once:
    no publication and no command reaches the connection any more.
    """
    node, session = connection.node, connection.session
    connection.groups.end()
    connection.places.end()
    if connection.seat is not None:
        connection.seat.release()
    connection.commands.end()
    connection.credentials.end()
    node.arriving.pop(connection, None)
    connection.heartbeat.stop()
    connection.revalidation.stop()
    if session.is_open and connection.disconnect is None:
        # The server cancelled the application, or there is an error in wsrt. One turn of the loop lets the outbox hand
        # over the close frame. A handler may run in it, and finds the session closed.
        connection.close(close_codes.SERVER_SHUTTING_DOWN, discard=True)
        await asyncio.sleep(0)
    closed = connection.closed = _closed(connection)
    connection.presence.end(closed)
    session.receive_disconnect()
    connection.outbox.abandon()
    if connection.disconnect is None:
        # The client didn't answer our close frame, or the server gave the connection up.
        connection.transport.abort()
    elif session.close_sent is not None and connection.transport.can_abort:
        node.lingering.add(connection.transport)
    if not connection.ended.done():
        connection.ended.set_result(closed)
    logger.debug("= %s closed %s", connection.subscriber.id, closed)
    # Up to here nothing has waited for the application. The running handler and the frames that were received before
    # the client left now get some seconds. They find the session closed, so nothing that they send reaches the client.
    # Tasks may be endless, so they are cancelled now. They have the same time to clean up.
    connection.tasks.cancel()
    await connection.dispatcher.finish()
    await connection.tasks.finish()
    if connection.needs_on_disconnect:
        await _run_on_disconnect(connection, closed)
    if connection.channel is not None:
        # Last, because on_disconnect leaves the groups that it joined under this name.
        await connection.channel.close()


def _closed(connection: ConnectionHandler) -> Closed:
    """Return the code, reason and origin of the close of a connection."""
    sent = connection.session.close_sent
    # After an error of the server's send, our close only counts if the close frame got out.
    if sent is not None and (connection.outbox.close_sent or not connection.send_failed):
        return Closed(sent.code, sent.reason, "server")
    disconnect = connection.disconnect or Disconnect(None, "")
    code = disconnect.code
    if code is None or code in ABNORMAL:
        return Closed(1006 if code is None else code, disconnect.reason, "network")
    return Closed(code, disconnect.reason, "server" if code == SERVICE_RESTART else "client")


async def _run_on_disconnect(connection: ConnectionHandler, closed: Closed) -> None:
    hook = connection.hooks.on_disconnect
    task = connection.dispatcher.spawn(database_care.run(lambda: call(hook, closed)))
    # wait() doesn't raise: neither what the hook raises, nor a timeout.
    done, _ = await asyncio.wait([task], timeout=DISCONNECT_SECONDS)
    if not done:
        task.cancel()
        counters.count(
            "disconnect_hooks_cancelled", "on_disconnect took longer than %s s: cancelled", DISCONNECT_SECONDS
        )
    elif not task.cancelled() and task.exception() is not None:
        logger.error("%s.on_disconnect failed", connection.name, exc_info=task.exception())
