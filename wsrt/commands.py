"""Commands: what other code of the cluster tells one connection to do, see wsrt.control."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from django.core.exceptions import PermissionDenied

from . import close_codes
from .close_codes import Close
from .delivery.connection import Connection
from .delivery.ledger import ledger
from .exceptions import TooManyRooms
from .groups import Groups
from .hooks import Hooks, call
from .refusals import REFUSALS, setup_close
from .users import is_active, is_signed_in

logger = logging.getLogger("wsrt")


class Commands:
    """
    Carries out control commands for one connection, in the order of its handlers.

    Args:
        connection: whom they are for.
        hooks: of its consumer.
        groups: its rooms.
        close: closes the connection.
        is_anonymous: whether the scope has a user who is not signed in.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        hooks: Hooks,
        groups: Groups,
        close: Callable[[Close], None],
        is_anonymous: Callable[[], bool],
    ) -> None:
        self._connection = connection
        self._hooks = hooks
        self._groups = groups
        self._close = close
        self._is_anonymous = is_anonymous

    async def carry_out(self, name: str, arguments: dict[str, Any]) -> None:
        """Carry out one command; what it raises is counted and logged."""
        try:
            match name:
                case "add_to_room":
                    await self._groups.join(arguments["room"])
                case "remove_from_room":
                    self._groups.leave(arguments["room"])
                case "permissions_changed":
                    await self._ask_again()
                case _:
                    raise ValueError(f"unknown control command {name!r}")
        except (PermissionDenied, TooManyRooms) as error:
            refused = "%s of %s was refused: %s"
            ledger.count("control_refused", refused, name, self._connection.id, error, level=logging.INFO)
        except Exception:
            ledger.count("control_failed")
            logger.exception("%s of %s failed", name, self._connection.id)
            if name == "permissions_changed":
                # What the client may do is unknown: it reconnects, and is asked as a new one.
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
        try:
            if not await call(self._hooks.authorize):
                raise PermissionDenied
        except REFUSALS as error:
            self._close(setup_close(error, is_anonymous=self._is_anonymous()))
            return
        for room in tuple(self._connection.rooms):
            if not await self._may_stay(room):
                self._groups.leave(room)

    async def _may_stay(self, room: str) -> bool:
        try:
            return bool(await call(self._hooks.authorize_room, room))
        except REFUSALS:
            return False
        except Exception:
            # Without an answer there is no permission.
            ledger.count("control_failed")
            logger.exception("authorize_room of %s failed for %r, which is left", self._connection.id, room)
            return False
