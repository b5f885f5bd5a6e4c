"""The control commands that other code of the cluster sends to one connection, see wsrt.control."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from .. import close_codes
from ..close_codes import Close
from ..cluster import messages
from ..delivery.subscriber import Subscriber
from ..metrics import counters, quoted
from .dispatcher import Submit
from .groups import Groups
from .hooks import Hooks, allows, call
from .refusals import NOT_AUTHORIZED, Refusal, refusal_of
from .users import is_active, is_signed_in

logger = logging.getLogger("wsrt")


class Commands:
    """
    Carries out the control commands for one connection.

    ``disconnect``, ``remove_from_room`` and ``permissions_changed`` take effect as soon as they are received, even
    while a handler is running. ``add_to_room`` and all hooks wait until the handlers of earlier frames have ended.

    Args:
        loop: The event loop of the node.
        subscriber: The connection.
        hooks: The consumer, whose hooks are called.
        groups: The rooms and the user of the connection.
        submit: Runs work in its turn among the handlers.
        close: Closes the connection.
        answer_seconds: How many seconds the hooks may take to answer after a change of permissions, before the
            connection leaves every room. None for no limit.
        is_anonymous: Whether the scope has a user that isn't signed in.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        subscriber: Subscriber,
        *,
        hooks: Hooks,
        groups: Groups,
        submit: Submit,
        close: Callable[[Close], None],
        answer_seconds: float | None,
        is_anonymous: Callable[[], bool],
    ) -> None:
        self._loop = loop
        self._subscriber = subscriber
        self._hooks = hooks
        self._groups = groups
        self._submit = submit
        self._close = close
        self._answer_seconds = answer_seconds
        self._is_anonymous = is_anonymous
        # Whether a check of the permissions is due that covers every change up to now. It is submitted once, not once
        # for each change.
        self._recheck_due = False
        # Ends the wait for the hooks. None while no permission is in question.
        self._deadline: asyncio.TimerHandle | None = None

    def receive(self, name: str, arguments: dict[str, Any]) -> None:
        """
        Carry out a command.

        Called by the node between two steps of other tasks, so a handler may be suspended anywhere. Never raises:
        exceptions of hooks are counted and logged.
        """
        match name:
            case "disconnect":
                code = arguments["code"]
                self._close(Close(code, arguments["reason"], close_codes.reconnect_for(code)))
            case messages.LOG_OUT:
                counters.count("connections_logged_out")
                self._close(close_codes.CREDENTIALS_EXPIRED)
            case "remove_from_room":
                room = arguments["room"]
                if self._groups.remove(room) and "on_removed" in self._hooks.overridden_hooks:
                    self._submit(lambda: self._run(name, call(self._hooks.on_removed, room)))
            case "permissions_changed":
                self._on_permissions_changed()
            case "add_to_room":
                self._submit(lambda: self._run(name, self._groups.join(arguments["room"])))
            case _:
                # A newer version sent it.
                counters.count(
                    "control_unknown",
                    "ignored the unknown control command %r, perhaps of another version of wsrt",
                    name,
                )

    def end(self) -> None:
        """Stop waiting for the hooks, because they have answered or the connection has ended."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    async def recheck_permissions(self) -> None:
        """
        Call the hooks again if permissions have changed. Leave the rooms that they refuse, or close the connection.

        It runs in its turn among the handlers. The set-up calls it as well, before ``on_connect``.
        """
        if not self._recheck_due:
            # The set-up has already run the check that was submitted.
            return
        # Cleared before the first await: a change that arrives from here on needs another check, because hooks that
        # have already answered may answer differently.
        self._recheck_due = False
        try:
            await self._recheck()
        except Exception:
            counters.count("control_failed")
            logger.exception("a hook of connection %s failed after permissions_changed", self._subscriber.id)
            # The permissions are unknown. The client reconnects and is asked as a new one.
            self._close(close_codes.MESSAGE_HANDLING_FAILED)
        if not self._recheck_due:
            self.end()
            self._groups.admit()
            await self._refresh_presence()

    async def recheck_renewed(self) -> None:
        """
        Call the hooks again after a renewal of the credentials. Leave refused rooms, or close the connection.

        Unlike after a change of permissions, publications are delivered in the meantime. Raises anything that
        ``authorize`` raises, except for a refusal.
        """
        await self._recheck_hooks()

    # Private.

    async def _run(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run the part of a command that had to wait for running and waiting handlers. Count and log its failure."""
        try:
            await work
        except Exception as error:
            refusal = refusal_of(error, self._hooks.refusal_for)
            if refusal is not None and refusal.code != "unavailable":
                refused = "the command %s was refused on connection %s: %s"
                counters.count("control_refused", refused, name, self._subscriber.id, error, level=logging.INFO)
                return
            counters.count("control_failed")
            logger.exception("the command %s failed on connection %s", name, self._subscriber.id)

    def _on_permissions_changed(self) -> None:
        self._groups.withhold()
        if self._deadline is None and self._answer_seconds is not None:
            self._deadline = self._loop.call_later(self._answer_seconds, self._on_deadline)
        if not self._recheck_due:
            self._recheck_due = self._submit(self.recheck_permissions)

    def _on_deadline(self) -> None:
        """Leave every room, because the hooks have not answered in time."""
        counters.count(
            "permissions_unanswered",
            "connection %s has left all rooms: after permissions_changed, its hooks did not return within %s s",
            self._subscriber.id,
            self._answer_seconds,
        )
        self._deadline = None
        self._groups.remove_all()
        self._groups.admit()

    async def _refresh_presence(self) -> None:
        """Update the data that members see, because the user has been reloaded."""
        try:
            await self._groups.refresh_presence()
        except Exception:
            counters.count("control_failed")
            logger.exception("member() failed on connection %s after a change of permissions", self._subscriber.id)
            self._close(close_codes.MESSAGE_HANDLING_FAILED)

    async def _recheck(self) -> None:
        """Reload the user, and check every permission again."""
        if is_signed_in(self._hooks.scope.get("user")):
            # Django caches permissions on the user object, so a new object is needed.
            user = await call(self._hooks.reload_user)
            if not is_signed_in(user) or not is_active(user):
                self._close(close_codes.CREDENTIALS_EXPIRED)
                return
            self._hooks.scope["user"] = user
        await self._recheck_hooks()

    async def _recheck_hooks(self) -> None:
        refusal = await self._connect_refusal()
        if refusal is not None:
            self._close(refusal.close(is_anonymous=self._is_anonymous()))
            return
        checked: set[str] = set()
        # The rooms are read again after each await: in the meantime a join under way may end, or a room may be left.
        while remaining := [room for room in self._subscriber.rooms if room not in checked]:
            checked.add(remaining[0])
            if not await self._may_stay(remaining[0]):
                self._groups.remove(remaining[0])

    async def _connect_refusal(self) -> Refusal | None:
        """Return the refusal if the client may not stay connected, else None. Raises any other exception."""
        try:
            return None if await allows(self._hooks.authorize) else NOT_AUTHORIZED
        except Exception as error:
            refusal = refusal_of(error, self._hooks.refusal_for)
            if refusal is None:
                raise
            return refusal

    async def _may_stay(self, room: str) -> bool:
        try:
            return await allows(self._hooks.authorize_room, room)
        except Exception as error:
            if refusal_of(error, self._hooks.refusal_for) is None:
                # An unexpected exception isn't a permission.
                counters.count("control_failed")
                logger.exception(
                    "authorize_room() failed on connection %s, which has left the room %s",
                    self._subscriber.id,
                    quoted(room),
                )
            return False
