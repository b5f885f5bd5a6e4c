"""The socket of the admin's pages: asks what a page asks, again and again, and sends the answer when it is another."""

from __future__ import annotations

import asyncio
import importlib
import logging
from typing import Any

from channels.auth import get_user
from django.conf import settings

from ..close_codes import CREDENTIALS_EXPIRED, FORBIDDEN, Closed
from ..consumers import TypedEventConsumer
from ..delivery.ledger import ledger
from ..exceptions import UnsendableEvent, WrongContext
from ..handlers import on
from ..presence.store import BadCursor, StoreUnavailable
from ..threads import run_in_thread
from ..users import is_active, reload
from .names import Names
from .pages import (
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
from .realtime import VIEW, may

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
    session, user and permissions are read anew: whoever may not load the page any more is sent away.
    """

    namespace = "wsrt.admin"
    out_events = (Overview, Rooms, Users, RoomShown, UserShown, Unavailable)

    async def authorize(self) -> bool:
        return bool(await run_in_thread(self._may_watch))

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
        if isinstance(question, WatchUsers) and self._names is not None:
            question.also(*await run_in_thread(self._names.matching, question.search))
        self._looking = asyncio.create_task(self._look(question))

    async def _may_stay_here(self) -> bool:
        """Ask anew who this is and what they may see; close where it is not enough."""
        user = await current_user(self.scope)
        if user is None:
            await self.close(CREDENTIALS_EXPIRED.code, CREDENTIALS_EXPIRED.reason)
            return False
        self.scope["user"] = user
        if not await run_in_thread(self._may_watch):
            await self.close(FORBIDDEN.code, FORBIDDEN.reason)
            return False
        return True

    def _may_watch(self) -> bool:
        is_allowed = may(self.user, VIEW)
        # Made anew whenever permissions are asked for: who sees names may have changed too.
        self._names = Names(self.user) if is_allowed else None
        return is_allowed

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
                    ledger.count("admin_looks_failed")
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
            if self._names is not None:
                if self._names.knows(rows):
                    self._names.put(rows)
                else:
                    await run_in_thread(self._names.put, rows)
        except (StoreUnavailable, WrongContext, BadCursor):
            return Unavailable()
        except Exception:
            # A store or a database in trouble; the page waits, and hears of it when it is over.
            ledger.count("admin_looks_failed")
            logger.exception("the admin could not see who is connected")
            return Unavailable()
        return answer


async def current_user(scope: Any) -> Any:
    """Return the user of a handshake as they are now; None where the session is over, or the user gone or inactive."""
    session = scope.get("session")
    if session is not None and session.session_key is not None:
        # A new object: that of the handshake remembers what was in it.
        store = importlib.import_module(settings.SESSION_ENGINE).SessionStore
        user = await get_user({**scope, "session": store(session.session_key)})
    else:
        user = await reload(scope["user"])
    return user if user is not None and is_active(user) else None
