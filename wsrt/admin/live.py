"""The socket of the admin's pages: asks what a page asks, again and again, and sends the answer when it is another."""

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
from . import door
from .queries import (
    Answer,
    Overview,
    Question,
    Rooms,
    RoomShown,
    Unavailable,
    Users,
    UserShown,
    WatchOverview,
    WatchRoom,
    WatchRooms,
    WatchUser,
    WatchUsers,
    rows_with_users,
)
from .usernames import Usernames

SECONDS = 2.0
"""The least pause between two looks at the store."""

SHARE = 10
"""A look is followed by a pause of so many times what it took: a store that is slow is asked less."""

ASK_SECONDS = 10.0
"""How long a page is served before its user is asked for anew: nobody calls ``permissions_changed`` for the admin."""

logger = logging.getLogger("wsrt")


class AdminConsumer(TypedEventConsumer):
    """
    Keeps one page of the admin up to date, for users of the staff who may see who is connected.

    A page says what it shows by one of the questions; the last one counts. With every question, and every ten seconds,
    the admin site of the page is asked again, as it is for a page: who may not load the page any more is sent away.
    """

    namespace = "wsrt.admin"
    out_events = (Overview, Rooms, Users, RoomShown, UserShown, Unavailable)

    async def authorize(self) -> bool:
        return await self._ask() is None

    async def on_connect(self) -> None:
        # What looks at the store. None until the page says what it shows.
        self._looking: asyncio.Task[None] | None = None

    async def on_disconnect(self, closed: Closed) -> None:
        if self._looking is not None:
            self._looking.cancel()

    @on
    async def watch(self, question: WatchOverview | WatchRooms | WatchUsers | WatchRoom | WatchUser) -> None:
        if self._looking is not None:
            self._looking.cancel()
        if not await self._may_stay_here():
            return
        if isinstance(question, WatchUsers) and self._usernames is not None:
            question.also(*await run_in_thread(self._usernames.search, question.search))
        self._looking = asyncio.create_task(self._look(question))

    async def _may_stay_here(self) -> bool:
        """Ask again who this is and what they may see; close where it isn't enough."""
        close = await self._ask()
        if close is not None:
            await self.close(close.code, close.reason)
        return close is None

    async def _ask(self) -> Close | None:
        """Ask what a page asks of its request; return how to close where it would not be shown."""
        user = self.user if door.has_session(self.scope) else await reload(self.user)
        verdict, self._usernames = await run_in_thread(self._ask_the_door, user)
        if verdict.user is not None:
            self.scope["user"] = verdict.user
        close: Close | None = verdict.close
        return close

    def _ask_the_door(self, user: Any) -> tuple[door.Verdict, Usernames | None]:
        verdict = door.ask(self.scope, self.query.get("site") or "admin", user)
        # Made again whenever permissions are asked for: who sees names may have changed too.
        return verdict, Usernames(verdict.user) if verdict.close is None else None

    async def _look(self, question: Question) -> None:
        loop = asyncio.get_running_loop()
        sent: Answer | Unavailable | None = None
        asked = loop.time()
        while True:
            began = loop.time()
            if began - asked >= ASK_SECONDS:
                asked = began
                try:
                    if not await self._may_stay_here():
                        return
                except Exception:
                    # A database in trouble: the pages do not work either, and this one asks again.
                    counters.count("admin_looks_failed")
                    logger.exception("the admin could not ask who is looking")
            answer = await self._answer(question)
            if answer != sent:
                try:
                    await self.send(answer)
                except UnsendableEvent:
                    # Names so long that they do not fit into a frame: the page shows them when it is loaded.
                    await self.send(Unavailable())
                sent = answer
            await asyncio.sleep(max(SECONDS, SHARE * (loop.time() - began)))

    async def _answer(self, question: Question) -> Answer | Unavailable:
        try:
            answer = await question.read()
            rows = list(rows_with_users(answer))
            if self._usernames is not None:
                if self._usernames.has_cached(rows):
                    self._usernames.fill(rows)
                else:
                    await run_in_thread(self._usernames.fill, rows)
        except (StoreUnavailable, WrongContext, BadCursor):
            return Unavailable()
        except Exception:
            # A store or a database in trouble; the page waits, and hears of it when it is over.
            counters.count("admin_looks_failed")
            logger.exception("the admin could not see who is connected")
            return Unavailable()
        return answer
