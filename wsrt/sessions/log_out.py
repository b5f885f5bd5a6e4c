"""
Log-outs: the connections that were opened with a session are closed on all nodes when the session is logged out.

Django sends ``user_logged_out`` before it deletes the session. If the connections were closed then, their clients could
reconnect with the session. So the command is sent once the session has been deleted and the deletion is committed.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from typing import Any

from django.contrib.auth.signals import user_logged_out
from django.db import models, router

from ..addresses import CONTROL_GROUP, Session
from ..cluster.commits import send_on_commit
from ..cluster.in_process import unreachable_layer
from ..cluster.messages import LOG_OUT, CommandMessage
from ..cluster.outgoing import Outgoing, layer_aliases
from ..cluster.sending import send
from ..delivery.tasks import start_task
from ..exceptions import BackplaneUnavailable
from ..metrics import counters
from ..realms import ALL_TENANTS
from .keys import hashes_of

__all__ = ["observe_log_outs"]

_tasks: set[asyncio.Task[None]] = set()


def observe_log_outs() -> None:
    """Close the connections of each session that is logged out from now on, by this process."""
    user_logged_out.connect(_on_logged_out, dispatch_uid="wsrt.sessions.log_out")


def _on_logged_out(sender: Any, request: Any, **kwargs: Any) -> None:
    """Make the request's session send the command when it is flushed."""
    # channels.auth.logout() passes no request. Some packages send the signal for requests without a session.
    session = getattr(request, "session", None)
    key = getattr(session, "session_key", None)
    if session is not None and key and "flush" not in vars(session):
        _send_after_flush(session, hashes_of(key))


def _send_after_flush(session: Any, hashes: tuple[str, ...]) -> None:
    """
    Replace the methods that flush a session, for this object and its next flush.

    There is no signal for a session that was deleted, and the end of the request may come much later, or never. If the
    session isn't flushed, it wasn't logged out: some packages send ``user_logged_out`` when they revoke a token.
    """
    flush, aflush = session.flush, session.aflush

    def restore() -> None:
        vars(session).pop("flush", None)
        vars(session).pop("aflush", None)

    def flush_and_send() -> None:
        restore()
        flush()
        _send(hashes, session)

    async def aflush_and_send() -> None:
        restore()
        await aflush()
        await _asend(hashes)

    session.flush, session.aflush = flush_and_send, aflush_and_send


def _send(hashes: tuple[str, ...], session: Any) -> None:
    model = getattr(session, "model", None)
    # Other engines don't take part in transactions: their session is gone already.
    is_stored = isinstance(model, type) and issubclass(model, models.Model)
    using = router.db_for_write(model) if is_stored and model is not None else None
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        for command in _commands(hashes):
            try:
                send_on_commit(command, is_stored, using)
            except BackplaneUnavailable as error:
                _count_unsent(error)
        return
    # A synchronous logout() in an async view, with an engine that doesn't block the loop.
    task = start_task(loop, _asend(hashes))
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


async def _asend(hashes: tuple[str, ...]) -> None:
    for command in _commands(hashes):
        try:
            await send(command)
        except BackplaneUnavailable as error:
            _count_unsent(error)


def _count_unsent(error: BackplaneUnavailable) -> None:
    """Count a log-out that other processes don't learn of. The log-out itself mustn't fail for that."""
    counters.count(
        "log_outs_unsent",
        "could not tell other processes of a log-out: %s. They close the session's connections within REVALIDATE",
        error,
    )


def _commands(hashes: tuple[str, ...]) -> Iterator[Outgoing]:
    """Yield one command for each channel layer of the project; none if it can't reach any connection."""
    if unreachable_layer(None) is not None:
        return
    command = CommandMessage(None, ALL_TENANTS, Session(hashes), LOG_OUT, {}, secrets.token_hex(8))
    for alias in sorted(layer_aliases(None)):
        yield Outgoing(command, frozenset([CONTROL_GROUP]), alias, None)
