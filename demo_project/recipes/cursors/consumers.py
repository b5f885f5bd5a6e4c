from __future__ import annotations

from django.contrib.auth.models import User

from wsrt import TypedEventConsumer, on

from .events import CursorMoved, MoveCursor, Person


class CursorsConsumer(TypedEventConsumer[User]):
    """A user's pointer on one board."""

    namespace = "cursors"
    path = "ws/cursors/<slug:board>/"
    out_events = (CursorMoved,)
    presence = Person

    async def authorize(self) -> bool:
        return bool(self.user.is_authenticated)

    async def on_connect(self) -> None:
        self.board = self.kwargs["board"]
        await self.join(self.board)

    async def member(self, room: str) -> Person:
        return Person(name=self.user.first_name or self.user.get_username())

    @on
    async def move(self, event: MoveCursor) -> None:
        position = CursorMoved(user_id=str(self.user_id), x=event.x, y=event.y)
        await self.publish_to_others(self.board, position)
