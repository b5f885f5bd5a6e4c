"""The check, every REVALIDATE seconds, that the session and the user of one connection are still valid."""

from __future__ import annotations

from collections.abc import Callable

from .. import close_codes
from ..close_codes import Close
from ..metrics import counters
from ..sessions.claims import Claim, SessionClaim, claim_of, is_claim_of, user_claim
from ..sessions.rounds import Rounds, rounds_of_loop
from .dispatcher import Submit
from .hooks import Hooks, call
from .users import is_active, is_signed_in


class Revalidation:
    """
    One connection, as the rounds see it in which its node checks sessions and users.

    Args:
        hooks: The consumer, whose scope has the session and the user.
        submit: Runs work in its turn among the handlers.
        close: Closes the connection.
    """

    def __init__(self, hooks: Hooks, *, submit: Submit, close: Callable[[Close], None]) -> None:
        self._hooks = hooks
        self._submit = submit
        self._close = close
        # That of the handshake. What the consumer does with the session of its scope later isn't saved by anyone.
        self._first: Claim | None = None
        # None while the connection isn't checked.
        self._rounds: Rounds | None = None
        # Whether ``reload_user`` is waiting for its turn, or running.
        self._is_reloading = False

    def start(self) -> None:
        """Check the connection from now on, unless that is switched off."""
        interval = self._hooks.revalidate
        if interval is not None:
            self._first = claim_of(self._hooks.scope)
            self._rounds = rounds_of_loop(interval)
            self._rounds.add(self)

    def stop(self) -> None:
        """Don't check the connection any more."""
        if self._rounds is not None:
            self._rounds.discard(self)
            self._rounds = None

    @property
    def claim(self) -> Claim | None:
        """The session or user that must stay valid. None if there is nothing to check."""
        user = self._hooks.scope.get("user")
        if not is_signed_in(user):
            return None
        if isinstance(self._first, SessionClaim) and is_claim_of(self._first, user):
            return self._first
        return None if self.reloads_user else user_claim(user)

    @property
    def reloads_user(self) -> bool:
        """Whether the consumer checks its user itself, with ``reload_user``."""
        return "reload_user" in self._hooks.overridden_hooks and is_signed_in(self._hooks.scope.get("user"))

    def reload_user(self) -> None:
        """Call ``reload_user`` in its turn among the handlers, and close the connection if it returns no user."""
        if not self._is_reloading:
            self._is_reloading = self._submit(self._reload_user)

    def expire(self) -> None:
        """Close the connection, because its session or user isn't valid any more."""
        counters.count("credentials_expired")
        self._close(close_codes.CREDENTIALS_EXPIRED)

    async def _reload_user(self) -> None:
        before = self._hooks.scope.get("user")
        try:
            user = await call(self._hooks.reload_user)
        except Exception as error:
            # The database may be down. That isn't a reason to disconnect anyone.
            counters.count("revalidations_failed", "reload_user() failed: %r. The connection stays open", error)
            return
        finally:
            self._is_reloading = False
        if self._hooks.scope.get("user") is not before:
            # Something else has set another user in the meantime.
            return
        if is_signed_in(user) and is_active(user):
            self._hooks.scope["user"] = user
        else:
            self.expire()
