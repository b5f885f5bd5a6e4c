"""
The sending of publications and commands after the commit of a transaction.

Those of one transaction are sent as one batch, in the order of the calls. They are registered with Django as callbacks,
so that Django drops those of a savepoint that is rolled back. Consecutive calls share a callback if Django treats them
alike.

If a callback of the application raises, Django runs no further ones. The messages that these would have sent are sent
at that moment.
"""

from __future__ import annotations

import atexit
import functools
import logging
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from django.core import mail
from django.core.signals import request_finished
from django.db import connections, transaction

from ..exceptions import BackplaneUnavailable
from ..metrics import counters, quoted
from ..protocol.events import meta
from ..realms import AllTenants, split_realm
from ..signals import publication_failed
from ..types import Publication
from .batch import TooSlow, send_all_from_sync
from .in_process import observers
from .messages import CommandMessage
from .node import Item
from .outgoing import Outgoing
from .sending import send_from_sync

logger = logging.getLogger("wsrt")


def send_on_commit(outgoing: Outgoing, on_commit: bool, using: str | None) -> Publication | None:
    """
    Send after the commit of the open transaction, or immediately.

    Args:
        outgoing: The message.
        on_commit: Whether to wait for the commit if a transaction is open.
        using: The alias of the database; None for the default one.

    Returns:
        As for send(), if it was sent immediately; None otherwise.

    Raises:
        BackplaneUnavailable, StoreUnavailable: As for send(), if it was sent immediately. After a commit, errors are
            logged and reported by the signal publication_failed.
    """
    connection = _connection_to_wait_for(on_commit, using)
    if connection is None:
        return send_from_sync(outgoing)
    _register((outgoing,), connection)
    return None


def send_all_on_commit(
    outgoings: list[Outgoing], on_commit: bool, using: str | None
) -> list[Publication | BackplaneUnavailable | None]:
    """Send messages as one batch, after the commit of the open transaction or immediately. See send_all()."""
    connection = _connection_to_wait_for(on_commit, using)
    if connection is None:
        return send_all_from_sync(outgoings)
    if outgoings:
        _register(outgoings, connection)
    return [None] * len(outgoings)


def call_on_commit(function: Callable[[], None], using: str | None) -> None:
    """
    Call a function after the commit of the open transaction, in its turn among the messages.

    Args:
        function: The function. It raises no exceptions, and reports errors itself.
        using: The alias of the database; None for the default one.
    """
    _register((), transaction.get_connection(using), function)


def is_deferred(on_commit: bool, using: str | None) -> bool:
    """Return whether a message waits for a commit. If it doesn't, the ones that have waited are sent before it."""
    return _connection_to_wait_for(on_commit, using) is not None


def _connection_to_wait_for(on_commit: bool, using: str | None) -> Any:
    """Return the database connection whose commit a message waits for; None if it doesn't. See is_deferred()."""
    connection = transaction.get_connection(using)
    if on_commit and connection.in_atomic_block:
        return connection
    send_committed(using)
    return None


def send_committed(using: str | None) -> None:
    """Send the messages of a committed transaction that still wait for later ones, ahead of what the caller does."""
    commit = _commits.get(transaction.get_connection(using))
    if commit is not None:
        commit.send()


def _register(outgoings: Sequence[Outgoing], connection: Any, function: Callable[[], None] | None = None) -> None:
    commit = _commits.get(connection)
    if commit is None or commit.has_begun:
        if commit is not None:
            commit.send()
        commit = _commits[connection] = _Commit()
    commit.register(outgoings, connection, function)


class _Commit:
    """
    The messages of one transaction.

    Attributes:
        has_begun: Whether the transaction was committed. Later messages belong to another transaction.
    """

    __slots__ = ("_batch", "_is_over", "_newest", "_number", "_registered", "has_begun")

    def __init__(self) -> None:
        # The newest callback with messages, and the callback after it if there is one. The last of them runs last.
        self._newest: list[_Callback] = []
        # Whether it has run.
        self._is_over = False
        # The number of the last callback.
        self._number = 0
        # What Django was given to call, in order. It holds the only reference until it has called or dropped it.
        self._registered: list[weakref.ref[Callable[[], None]]] = []
        # Messages whose callbacks have run, and that weren't sent yet.
        self._batch: list[Outgoing] = []
        self.has_begun = False

    def register(
        self, outgoings: Sequence[Outgoing], connection: Any, function: Callable[[], None] | None = None
    ) -> None:
        """
        Add messages to be sent together after the commit, or a function to be called.

        If a savepoint is rolled back, its messages are dropped, and the others are still sent as one batch.
        """
        if function is None and self._newest and self._is_open(connection):
            self._newest[0].outgoings += outgoings
            return
        is_first = not self._newest
        callback = _Callback(self, outgoings, function)
        self._newest = [callback]
        while self._registered and self._registered[-1]() is None:
            self._registered.pop()  # rolled back
        _watch(connection, self, callback.number)
        run = callback.run
        self._registered.append(weakref.ref(run))
        connection.on_commit(run, robust=True)
        if connection.savepoint_ids and not is_first:
            # The callback above may be dropped with its savepoint. This one isn't, as it belongs to none.
            callback = _Callback(self, ())
            self._newest.append(callback)
            connection.run_on_commit.append((set(), callback.run, True))

    def _is_open(self, connection: Any) -> bool:
        """
        Return whether the newest callback can take more messages, because Django would treat another one just like it.

        That is so if no callback was registered or dropped since, and if the same savepoints are open.
        """
        if self._newest[0].function is not None or _may_be_captured():
            return False
        entries = connection.run_on_commit[-len(self._newest) :]
        if [_callback_of(entry) for entry in entries] != self._newest:
            return False
        savepoints: set[str | None] = entries[0][0]
        return savepoints == set(connection.savepoint_ids)

    def send(self) -> None:
        """Send the messages that wait. Failures are logged, counted and reported by the signal publication_failed."""
        batch, self._batch = self._batch, []
        if not batch:
            return
        try:
            outcomes: list[Any] = list(send_all_from_sync(batch))
        except Exception as error:
            outcomes = [error] * len(batch)
        for outgoing, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Exception):
                _report(outgoing, outcome)

    def next_number(self) -> int:
        """Return the number of the next callback. Later callbacks have higher numbers."""
        self._number += 1
        return self._number

    def interrupt(self, number: int) -> None:
        """
        Send all messages, because Django runs no further callbacks.

        Args:
            number: The number of the first callback that it doesn't run.
        """
        self.has_begun = True
        for reference in self._registered:
            run = reference()
            callback = getattr(run, "__self__", None)
            if isinstance(callback, _Callback) and callback.number >= number:
                self._carry_out(callback)
        self._registered.clear()
        self.send()

    def reach(self, callback: _Callback) -> None:
        """Note that a callback has run. The last one sends the batch."""
        self.has_begun = True
        self._carry_out(callback)
        # Tests may run the callbacks of a part of a transaction first, and the others later.
        self._is_over = self._is_over or callback is self._newest[-1]
        if self._is_over:
            self._registered.clear()
            self.send()

    def _carry_out(self, callback: _Callback) -> None:
        """Do what a callback is for, once."""
        self._batch += callback.outgoings
        callback.outgoings = []
        function, callback.function = callback.function, None
        if function is not None:
            self.send()
            function()


class _Callback:
    """What Django calls after the commit, for the messages of one or more calls. A closure would cost more."""

    __slots__ = ("_commit", "function", "number", "outgoings")

    def __init__(
        self, commit: _Commit, outgoings: Sequence[Outgoing], function: Callable[[], None] | None = None
    ) -> None:
        self._commit = commit
        self.outgoings = list(outgoings)
        self.function = function
        self.number = commit.next_number()

    def run(self) -> None:
        self._commit.reach(self)


class _Watched:
    """
    A callback of the application that was registered before one of ours.

    Args:
        function: The callback.
        is_robust: Whether Django continues after an exception that the callback raises.
        commit: The messages of the transaction.
        number: The number of the next callback of ours.
    """

    def __init__(self, function: Callable[[], object], is_robust: bool, commit: _Commit, number: int) -> None:
        self._function = function
        self._is_robust = is_robust
        self._commit = commit
        self._number = number
        functools.update_wrapper(self, function, updated=())

    def __call__(self) -> None:
        try:
            self._function()
        except BaseException as error:
            if not (self._is_robust and isinstance(error, Exception)):
                self._commit.interrupt(self._number)
            raise


def _watch(connection: Any, commit: _Commit, number: int) -> None:
    """Watch the callbacks that the application has registered since the last one of ours."""
    entries = connection.run_on_commit
    for place in range(len(entries) - 1, -1, -1):
        savepoints, function, is_robust = entries[place]
        if isinstance(_callback_of(entries[place]), _Callback):
            return
        if not isinstance(function, _Watched):
            entries[place] = (savepoints, _Watched(function, is_robust, commit, number), is_robust)


def _callback_of(entry: tuple[Any, Any, bool]) -> object:
    """Return the object whose method an entry of Django's list of callbacks calls; None for a function."""
    return getattr(entry[1], "__self__", None)


def _may_be_captured() -> bool:
    """
    Return whether a test may run a part of the callbacks of a transaction, as captureOnCommitCallbacks() does.

    Such a test takes those that were registered after its begin, so the callback of an earlier call must not get any
    more messages.
    """
    # The mailbox is a part of Django's test environment. Outside of it, only a mail backend for tests creates it.
    return "outbox" in vars(mail) or bool(observers)


# The current or last transaction of each database connection. A connection belongs to one thread.
_commits: weakref.WeakKeyDictionary[Any, _Commit] = weakref.WeakKeyDictionary()


def _send_what_is_left(**arguments: Any) -> None:
    """Send what still waits because the last callback of a commit wasn't called, as in tests that call some of them."""
    if not _commits:
        return  # a process that has sent nothing may have no settings
    for connection in connections.all(initialized_only=True):
        commit = _commits.get(connection)
        if commit is not None:
            commit.send()


def _report(outgoing: Outgoing, error: Exception) -> None:
    item = outgoing.item
    name = meta(outgoing.event).name if outgoing.event is not None else ""
    if isinstance(error, TooSlow):
        counters.count(
            "publications_lost_after_commit",
            "did not send %s to %s after the commit: %s",
            outgoing.description,
            quoted(item.audience),
            error,
        )
    else:
        counters.count("publications_lost_after_commit")
        logger.error(
            "failed to send %s to %s after the commit",
            outgoing.description,
            quoted(item.audience),
            exc_info=error,
        )
    namespace, tenant = _place_of(item)
    publication_failed.send_robust(
        sender=None, namespace=namespace, tenant=tenant, audience=item.audience, event=name, error=error
    )


def _place_of(item: Item) -> tuple[str | None, str | AllTenants | None]:
    """Return the namespace and the tenant of a message's recipients."""
    return (item.namespace, item.tenant) if isinstance(item, CommandMessage) else split_realm(item.realm)


request_finished.connect(_send_what_is_left, dispatch_uid="wsrt.cluster.commits")
atexit.register(_send_what_is_left)
