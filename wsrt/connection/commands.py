"""Commands: what other code of the cluster tells one connection to do, see wsrt.control."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from .. import close_codes
from ..close_codes import Close
from ..delivery.subscriber import Subscriber
from ..metrics import counters, quoted
from .groups import Groups
from .hooks import Hooks, call
from .layer_channel import Submit
from .refusals import NOT_AUTHORIZED, Refusal, refusal_of
from .users import is_active, is_signed_in

logger = logging.getLogger("wsrt")


class Commands:
    """
    Carries out control commands for one connection.

    What takes something away acts on arrival, whatever handler is running; what gives something, and all hooks, wait
    their turn among the handlers.

    Args:
        loop: of the node.
        connection: whom they are for.
        hooks: of its consumer.
        groups: its rooms.
        submit: runs something in the order of the handlers.
        close: closes the connection.
        answer_seconds: how long permissions may stay in question before every room is left; None for no limit.
        is_anonymous: whether the scope has a user who is not signed in.
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
        # Whether permissions will be asked for every change up to now: one question answers several changes.
        self._is_asking = False
        # Gives up on the answer. None while nothing is in question.
        self._deadline: asyncio.TimerHandle | None = None

    def receive(self, name: str, arguments: dict[str, Any]) -> None:
        """Carry out a command. What it raises is counted and logged."""
        match name:
            case "disconnect":
                code = arguments["code"]
                self._close(Close(code, arguments["reason"], close_codes.reconnect_for(code)))
            case "remove_from_room":
                room = arguments["room"]
                if self._groups.remove(room) and "on_removed" in self._hooks.overridden_hooks:
                    self._submit(lambda: self._carry_out(name, call(self._hooks.on_removed, room)))
            case "permissions_changed":
                self._permissions_changed()
            case "add_to_room":
                self._submit(lambda: self._carry_out(name, self._groups.join(arguments["room"])))
            case _:
                # A newer version sent it.
                counters.count("control_unknown", "unknown control command %r", name)

    def end(self) -> None:
        """The connection is over."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    async def settle(self) -> None:
        """Ask now what is in question: during the set-up no handler has to be waited for."""
        await self._answer()

    # Private.

    async def _carry_out(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Await the part of a command that takes its turn."""
        try:
            await work
        except Exception as error:
            refusal = refusal_of(error, self._hooks.refusal_for)
            if refusal is not None and refusal.code != "unavailable":
                refused = "%s of %s was refused: %s"
                counters.count("control_refused", refused, name, self._subscriber.id, error, level=logging.INFO)
                return
            counters.count("control_failed")
            logger.exception("%s of %s failed", name, self._subscriber.id)

    def _permissions_changed(self) -> None:
        self._groups.question()
        if self._deadline is None and self._answer_seconds is not None:
            self._deadline = self._loop.call_later(self._answer_seconds, self._give_up)
        if not self._is_asking:
            self._is_asking = self._submit(self._answer)

    def _give_up(self) -> None:
        """No answer in time, so the answer is no."""
        counters.count(
            "permissions_unanswered",
            "permissions of %s were not answered within %s s: it has left its rooms",
            self._subscriber.id,
            self._answer_seconds,
        )
        self._deadline = None
        self._groups.remove_all()
        self._groups.admit()

    async def _answer(self) -> None:
        if not self._is_asking:
            return  # the set-up has asked in the meantime
        # A change that comes from here on needs a question of its own.
        self._is_asking = False
        try:
            await self._ask_again()
        except Exception:
            counters.count("control_failed")
            logger.exception("the permissions of %s could not be asked", self._subscriber.id)
            # What the client may do is unknown: it reconnects, and is asked as a new one.
            self._close(close_codes.MESSAGE_HANDLING_FAILED)
        if not self._is_asking:
            self.end()
            self._groups.admit()
            await self._show_again()

    async def _show_again(self) -> None:
        """Ask what members see of the user, who has been loaded again."""
        try:
            await self._groups.show_again()
        except Exception:
            counters.count("control_failed")
            logger.exception("what members see of %s could not be asked", self._subscriber.id)
            self._close(close_codes.MESSAGE_HANDLING_FAILED)

    async def _ask_again(self) -> None:
        """Reload the user, and ask every permission again."""
        if is_signed_in(self._hooks.scope.get("user")):
            # Permissions are cached on the user: only a new object knows the new ones.
            fresh = await call(self._hooks.reload_user)
            if not is_signed_in(fresh) or not is_active(fresh):
                self._close(close_codes.CREDENTIALS_EXPIRED)
                return
            self._hooks.scope["user"] = fresh
        refusal = await self._authorization()
        if refusal is not None:
            self._close(refusal.close(is_anonymous=self._is_anonymous()))
            return
        asked: set[str] = set()
        # A join that was under way may end in the meantime.
        while remaining := [room for room in self._subscriber.rooms if room not in asked]:
            asked.add(remaining[0])
            if not await self._may_stay(remaining[0]):
                self._groups.remove(remaining[0])

    async def _authorization(self) -> Refusal | None:
        """Return why the client may not stay connected, or None where it may. Raises what is not a refusal."""
        try:
            return None if await call(self._hooks.authorize) else NOT_AUTHORIZED
        except Exception as error:
            refusal = refusal_of(error, self._hooks.refusal_for)
            if refusal is None:
                raise
            return refusal

    async def _may_stay(self, room: str) -> bool:
        try:
            return bool(await call(self._hooks.authorize_room, room))
        except Exception as error:
            if refusal_of(error, self._hooks.refusal_for) is None:
                # Without an answer there is no permission.
                counters.count("control_failed")
                logger.exception("authorize_room of %s failed for %s, which is left", self._subscriber.id, quoted(room))
            return False
