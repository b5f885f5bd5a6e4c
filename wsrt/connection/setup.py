"""The set-up of one connection: its login, its tenant, its permission and its user, and ``on_connect``."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from .. import close_codes
from ..close_codes import Close
from ..exceptions import BackplaneUnavailable
from ..metrics import counters
from ..protocol.frame import Frame
from ..protocol.session import RawFrame
from ..realms import realm_of
from ..sessions.keys import hashes_of, session_key_of
from ..tenants import check_tenant
from .dispatcher import Work
from .hooks import allows, call
from .refusals import NOT_AUTHORIZED, refusal_of
from .tickets import TicketRefused, require_tenant, use_ticket

if TYPE_CHECKING:
    from .lifecycle import ConnectionHandler

logger = logging.getLogger("wsrt")


async def set_up(connection: ConnectionHandler) -> None:
    """
    Set up a connection that was accepted, or close it.

    It is the first work of the dispatcher. Frames that arrive in the meantime wait in the inbox, publications in the
    outbox, and control commands with the node.
    """
    loop, seconds = connection.node.loop, connection.limits.setup_timeout
    # The timeout below cancels the running hook, which may swallow the cancellation and go on. This timer closes the
    # connection in any case.
    timer = None if seconds is None else loop.call_later(seconds, _time_out, connection)
    try:
        async with asyncio.timeout(seconds) as timeout:
            await _run_hooks(connection)
    except Exception as error:
        if isinstance(error, TimeoutError) and timeout.expired():
            # Not a TimeoutError of the application's own, such as that of an HTTP client in a hook.
            _time_out(connection)
        else:
            _fail_with(connection, error)
    finally:
        if timer is not None:
            timer.cancel()
        if connection.seat is not None:
            connection.seat.end_setup()


async def _run_hooks(connection: ConnectionHandler) -> None:
    """
    Call the hooks in order.

    Each of them may raise any exception of the application. At each ``await`` the client may leave, or the connection
    may be closed by its deadline, by a shutdown, or by too many control commands.
    """
    hooks, session = connection.hooks, connection.session
    # Before anything that takes time or asks the database.
    if not await connection.places.claim_address():
        connection.dispatcher.drop()
        return
    if connection.channel is not None:
        # Raises BackplaneUnavailable.
        await connection.channel.open(connection.node)
    # The ticket says who the user is, and the hooks may need the user. Raises TicketRefused.
    ticket = await use_ticket(hooks.scope) if hooks.requires_ticket else None
    if not await connection.credentials.log_in(connection.frames):
        connection.dispatcher.drop()
        return
    # The tenant comes before the other hooks: every room and user that they name belongs to it.
    tenant = check_tenant(await call(hooks.tenant))
    if ticket is not None and "tenant" in hooks.overridden_hooks:
        require_tenant(ticket, tenant)
    connection.subscriber.realm = realm_of(hooks.namespace, tenant)
    if not await allows(hooks.authorize):
        _fail(connection, NOT_AUTHORIZED.close(is_anonymous=connection.is_anonymous))
        return
    if not await connection.credentials.read_expiry():
        connection.dispatcher.drop()
        return
    await connection.groups.identify()
    if not await connection.groups.claim_place() or not session.is_open:
        # It was refused, or the client left while the hooks were running. It was never connected, so on_disconnect
        # isn't called.
        connection.dispatcher.drop()
        return
    if not await _register(connection):
        return
    connection.needs_on_disconnect = True
    await call(hooks.on_connect)
    if session.is_open:
        # Raises anything that the hook member() raises.
        await connection.presence.begin()
    connection.is_visible = session.is_open
    connection.outbox.release()
    connection.recovery.release()


async def _register(connection: ConnectionHandler) -> bool:
    """Send the hello, and let publications and commands reach the connection; return whether it is still open."""
    if _was_logged_out(connection):
        counters.count("sessions_refused")
        _fail(connection, close_codes.CREDENTIALS_EXPIRED)
        return False
    credentials = connection.credentials
    for frame in (connection.session.hello(time.time(), credentials.expires_in), credentials.answer()):
        if frame is not None:
            connection.outbox.put_direct(frame)
    # From now on frames are parsed. Reserved frames among those that wait, such as pings, are answered before
    # on_connect runs, which may take longer than the client waits for a pong.
    connection.session.authorize()
    connection.dispatcher.inbox.sift(lambda item: _still_waits(connection, item))
    connection.heartbeat.start()
    # Raises BackplaneUnavailable. In the meantime the connection may be closed.
    await connection.groups.register()
    # The hub knows the connection now, so the node can decide which of the commands that came in the meantime are for
    # it. They are carried out before on_connect runs; a change of permissions may close the connection.
    connection.node.register(connection.subscriber)
    if connection.session.is_open:
        connection.revalidation.start()
    await connection.commands.recheck_permissions()
    return connection.session.is_open


def _was_logged_out(connection: ConnectionHandler) -> bool:
    """
    Note the session of a connection. Return whether it was logged out after the middleware had read it.

    Log-outs from now on are among the commands that arrive.
    """
    key = None if connection.is_anonymous else session_key_of(connection.hooks.scope)
    if key is not None:
        connection.subscriber.sessions = hashes_of(key)
    return connection.node.ended_sessions.includes(connection.subscriber.sessions)


def _still_waits(connection: ConnectionHandler, item: RawFrame | Work) -> bool:
    """Answer the item if it is a reserved frame, before its turn. Return whether the item stays in the inbox."""
    if not isinstance(item, RawFrame):
        return True
    outcome = connection.session.admit(item)
    if isinstance(outcome, Frame):
        connection.outbox.put_direct(outcome)
    return outcome is item


def _time_out(connection: ConnectionHandler) -> None:
    if connection.session.is_open:
        counters.count(
            "setup_timeouts",
            "the set-up of a connection took longer than %s s: it was closed",
            connection.limits.setup_timeout,
        )
        _fail(connection, close_codes.CONNECTION_SETUP_TIMEOUT)


def _fail_with(connection: ConnectionHandler, error: Exception) -> None:
    """Close the connection because of an exception that a hook has raised, or because its ticket is refused."""
    if isinstance(error, TicketRefused):
        if error.close != close_codes.CONNECTION_SETUP_FAILED:  # which is counted as unavailable
            counters.count("tickets_refused", "no valid ticket for %s: %s", connection.name, error)
        _fail(connection, error.close)
        return
    refusal = refusal_of(error, connection.hooks.refusal_for)
    if refusal is None:
        logger.error("failed to set up a connection to %s", connection.name, exc_info=error)
        _fail(connection, close_codes.CONNECTION_SETUP_FAILED)
        return
    if isinstance(error, BackplaneUnavailable):
        counters.count(
            "setups_unavailable",
            "a connection could not be set up: %s. Is the server of CHANNEL_LAYERS running? `manage.py wsrt_doctor` "
            "examines it",
            str(error).removesuffix("."),
        )
    _fail(connection, refusal.close(is_anonymous=connection.is_anonymous))


def _fail(connection: ConnectionHandler, close: Close) -> None:
    connection.close(close)
    # close() only drops the frames if it is the first to close. If the client left first they still wait, and a
    # consumer that was not set up must not handle them.
    connection.dispatcher.drop()
