"""The publications that code makes, collected in a list."""

from __future__ import annotations

import contextlib
import dataclasses
from types import TracebackType
from typing import Self

from asgiref.sync import sync_to_async
from django.db import connections
from django.test import TestCase

from ..addresses import Audience, Room, User
from ..cluster.messages import PublishMessage
from ..cluster.sending import Outgoing, observers
from ..protocol.events import Event
from ..realms import NOT_GIVEN, Tenant, split_realm


@dataclasses.dataclass(frozen=True, slots=True)
class Published:
    """One publication that code made."""

    namespace: str
    audience: Audience
    event: Event
    tenant: str | None = None


class capture_publications(list[Published]):  # noqa: N801 - used like a function
    """
    Collect what is published while it is open, in any thread; use it with ``with`` or, in async tests, ``async with``.

    Publications wait for their transaction as they do in production: one that is rolled back is never captured. In a
    TestCase, whose own transaction never commits, the callbacks of ``on_commit`` run when the block ends. Connections
    of this process get what is published; nothing goes through a channel layer.
    """

    def __enter__(self) -> Self:
        self._callbacks = contextlib.ExitStack()
        for alias in connections:
            # Entered first, so it is done last: what has run must not run again, at a commit or in an outer block.
            self._callbacks.callback(_forget, alias, len(connections[alias].run_on_commit))
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
        # The connections of a test belong to the thread in which its synchronous code runs.
        return await sync_to_async(self.__enter__)()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await sync_to_async(self.__exit__)(kind, error, trace)

    @property
    def events(self) -> list[Event]:
        """The events, in the order in which they were sent."""
        return [published.event for published in self]

    def to_room(self, room: str, *, namespace: str | None = None, tenant: Tenant = NOT_GIVEN) -> list[Event]:
        """The events published to a room; of any namespace and tenant, unless given."""
        return self._to(Room(room), namespace, tenant)

    def to_user(self, user: object, *, namespace: str | None = None, tenant: Tenant = NOT_GIVEN) -> list[Event]:
        """The events published to a user; of any namespace and tenant, unless given."""
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


def _forget(alias: str, kept: int) -> None:
    del connections[alias].run_on_commit[kept:]
