"""A context manager that collects the publications made by the code under test."""

from __future__ import annotations

import contextlib
import dataclasses
from types import TracebackType
from typing import Self

from asgiref.sync import sync_to_async
from django.db import connections
from django.test import TestCase

from ..addresses import Audience, Room, User
from ..cluster.in_process import observers
from ..cluster.messages import PublishMessage
from ..cluster.outgoing import Outgoing
from ..protocol.events import Event
from ..realms import NOT_GIVEN, Tenant, split_realm


@dataclasses.dataclass(frozen=True, slots=True)
class Published:
    """
    One captured publication.

    Attributes:
        namespace: The consumer namespace that it was published to.
        audience: The room, user or other address that it was published to.
        event: The published event.
        tenant: The tenant that it was published for; None without one.
    """

    namespace: str
    audience: Audience
    event: Event
    tenant: str | None = None


class capture_publications(list[Published]):  # noqa: N801 - used like a function
    """
    Collect the publications made inside the block, in any thread, as a list of Published.

    Use ``with``, or ``async with`` in async tests.

    Publications wait for the commit of their transaction, as in production, so publications of a transaction that is
    rolled back are never captured. The transaction of a TestCase never commits, so there the ``on_commit`` callbacks
    run when the block ends.

    Connections of this process receive the publications; nothing is sent through a channel layer.
    """

    def __enter__(self) -> Self:
        self._callbacks = contextlib.ExitStack()
        for alias in connections:
            # Entered first, so it runs last: callbacks that have run here must not run again at a commit or when an
            # outer block ends.
            self._callbacks.callback(_discard_callbacks, alias, len(connections[alias].run_on_commit))
            self._callbacks.enter_context(TestCase.captureOnCommitCallbacks(using=alias, execute=True))
        observers.append(self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._callbacks.__exit__(kind, error, trace)
        finally:
            observers.remove(self._note)

    async def __aenter__(self) -> Self:
        # The database connections of a test belong to the thread that runs its synchronous code.
        return await sync_to_async(self.__enter__)()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await sync_to_async(self.__exit__)(kind, error, trace)

    @property
    def events(self) -> list[Event]:
        """The captured events, in the order in which they were sent."""
        return [published.event for published in self]

    def to_room(self, room: str, *, namespace: str | None = None, tenant: Tenant = NOT_GIVEN) -> list[Event]:
        """
        Return the events published to a room, in order.

        Args:
            room: The room's name.
            namespace: Only events of this consumer namespace; None for any.
            tenant: Only events of this tenant (None: those without one); any by default.
        """
        return self._to(Room(room), namespace, tenant)

    def to_user(self, user: object, *, namespace: str | None = None, tenant: Tenant = NOT_GIVEN) -> list[Event]:
        """
        Return the events published to a user, in order.

        Args:
            user: The user, or the user's id.
            namespace: Only events of this consumer namespace; None for any.
            tenant: Only events of this tenant (None: those without one); any by default.
        """
        return self._to(User(user), namespace, tenant)

    def _to(self, audience: Audience, namespace: str | None, tenant: Tenant) -> list[Event]:
        return [
            published.event
            for published in self
            if published.audience == audience
            and namespace in (None, published.namespace)
            and tenant in (NOT_GIVEN, published.tenant)
        ]

    def _note(self, outgoing: Outgoing) -> None:
        if isinstance(outgoing.item, PublishMessage) and outgoing.event is not None:
            namespace, tenant = split_realm(outgoing.item.realm)
            self.append(Published(namespace, outgoing.item.audience, outgoing.event, tenant))


def _discard_callbacks(alias: str, kept: int) -> None:
    del connections[alias].run_on_commit[kept:]
