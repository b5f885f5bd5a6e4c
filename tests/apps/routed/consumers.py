"""Consumers with paths."""

from __future__ import annotations

from django.utils.translation import gettext

from wsrt import Event, TypedEventConsumer, on


class Ask(Event, name="ask"):
    pass


class Said(Event, name="said"):
    consumer: str
    kwargs: dict[str, str]
    user: str
    visits: int
    language: str
    marks: list[str]


class RoomConsumer(TypedEventConsumer):
    """Says what it knows of its connection."""

    namespace = "routed"
    path = "ws/<slug:room>/"

    @on
    async def ask(self, event: Ask) -> Said:
        return self.said()

    def said(self) -> Said:
        return Said(
            consumer=type(self).__name__,
            kwargs=self.kwargs,
            user=self.user.get_username(),
            visits=self.scope["session"].get("visits", 0),
            language=gettext("Yes"),
            marks=self.scope.get("marks", []),
        )


class LobbyConsumer(RoomConsumer):
    """The same in threads, at a path that the other route would match too."""

    path = "ws/lobby/"

    @on
    def ask(self, event: Ask) -> Said:
        return self.said()
