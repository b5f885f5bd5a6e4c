"""The live socket of the admin's pages: runs a page's query repeatedly and sends the result when it has changed."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from ..close_codes import Close, Closed
from ..connection.threads import run_in_thread
from ..connection.users import reload
from ..consumers import TypedEventConsumer
from ..exceptions import UnsendableEvent, WrongContext
from ..handlers import on
from ..metrics import counters
from ..presence.base import BadCursor, StoreUnavailable
from .live_access import Access, check_access, has_session
from .queries import (
    Overview,
    Query,
    Result,
    RoomDetail,
    Rooms,
    Unavailable,
    UserDetail,
    Users,
    WatchOverview,
    WatchRoom,
    WatchRooms,
    WatchUser,
    WatchUsers,
    rows_with_users,
)
from .usernames import Usernames

MIN_PAUSE = 2.0
"""Shortest pause between two polls, in seconds."""

PAUSE_FACTOR = 10
"""The pause after a poll is at least this many times as long as the poll took, so that a slow store is polled less."""

RECHECK_INTERVAL = 10.0
"""Seconds after which access is checked again: most projects don't call ``permissions_changed`` for admin users."""

logger = logging.getLogger("wsrt")


class AdminConsumer(TypedEventConsumer):
    """
    Keeps one page of the admin up to date, for users who may see the page.

    The page sends its query; a new query replaces the previous one. Access to the page is checked when it connects,
    with every query, and every RECHECK_INTERVAL seconds. The connection is closed as soon as access is denied.
    """

    namespace = "wsrt.admin"
    path = "ws/wsrt/admin/"
    out_events = (Overview, Rooms, Users, RoomDetail, UserDetail, Unavailable)

    async def authorize(self) -> bool:
        return await self._check_access() is None

    async def on_connect(self) -> None:
        # None until the page sends its query.
        self._polling: asyncio.Task[None] | None = None

    async def on_disconnect(self, closed: Closed) -> None:
        if self._polling is not None:
            self._polling.cancel()

    @on
    async def watch(self, query: WatchOverview | WatchRooms | WatchUsers | WatchRoom | WatchUser) -> None:
        # Cancelled before the check awaits anything: results of the previous query must not arrive after this one.
        if self._polling is not None:
            self._polling.cancel()
        if not await self._close_unless_allowed():
            return
        if isinstance(query, WatchUsers) and self._usernames is not None:
            query.include_users(*await run_in_thread(self._usernames.search, query.search))
        self._polling = asyncio.create_task(self._poll(query))

    async def _close_unless_allowed(self) -> bool:
        """Check access again, close the connection if it is denied, and return whether it is granted."""
        refusal = await self._check_access()
        if refusal is not None:
            await self.close(refusal.code, refusal.reason)
        return refusal is None

    async def _check_access(self) -> Close | None:
        """Check access to the page and update the user. Return the close if access is denied, else None."""
        # With a session, the middleware of the simulated request loads the user.
        user = self.user if has_session(self.scope) else await reload(self.user)
        access, self._usernames = await run_in_thread(self._check_access_in_thread, user)
        if access.user is not None:
            self.scope["user"] = access.user
        refusal: Close | None = access.refusal
        return refusal

    def _check_access_in_thread(self, user: Any) -> tuple[Access, Usernames | None]:
        access = check_access(self.scope, self.query.get("site") or "admin", user)
        # A new cache after each check: whether this user may see names can have changed too.
        return access, Usernames(access.user) if access.refusal is None else None

    async def _poll(self, query: Query) -> None:
        loop = asyncio.get_running_loop()
        sent: Result | Unavailable | None = None
        checked_at = loop.time()
        while True:
            started_at = loop.time()
            if started_at - checked_at >= RECHECK_INTERVAL:
                checked_at = started_at
                try:
                    if not await self._close_unless_allowed():
                        return
                except Exception:
                    # Any error of the database, the middleware or the site. The pages don't work then either, so the
                    # connection stays open until the next check.
                    counters.count("admin_looks_failed")
                    logger.exception("failed to check access to the admin for a live page")
            result = await self._run(query)
            if result != sent:
                try:
                    await self.send(result)
                except UnsendableEvent:
                    # Very long names can exceed the largest frame. The page shows them when it is reloaded.
                    await self.send(Unavailable())
                sent = result
            await asyncio.sleep(max(MIN_PAUSE, PAUSE_FACTOR * (loop.time() - started_at)))

    async def _run(self, query: Query) -> Result | Unavailable:
        try:
            result = await query.run()
            rows = list(rows_with_users(result))
            if self._usernames is not None:
                if self._usernames.has_cached(rows):
                    self._usernames.fill(rows)
                else:
                    await run_in_thread(self._usernames.fill, rows)
        except (StoreUnavailable, WrongContext, BadCursor):
            return Unavailable()
        except Exception:
            # Any error of the store's client or the database. The page says so, and the next poll tries again.
            counters.count("admin_looks_failed")
            logger.exception("failed to query presence for a live page of the admin")
            return Unavailable()
        return result
