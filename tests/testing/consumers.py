"""The consumers of these tests, and what they publish."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import Field

from wsrt import (
    Event,
    TypedEventConsumer,
    on,
    publish_to_room,
)

NAMESPACE = "unit-testing"


class Word(Event, name="unit-testing.word"):
    text: str = Field(default="", alias="Text", max_length=100)


class Other(Event, name="unit-testing.other"):
    pass


class Talker(TypedEventConsumer):
    """Does what a test tells it."""

    namespace = NAMESPACE
    out_events = (Word, Other)

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.todo: Callable[[Talker], Any] | None = None

    @on
    async def word(self, event: Word) -> Word | Other | None:
        return await self.todo(self) if self.todo else event

    @on
    async def other(self, event: Other) -> None:
        await self.send(Word(text="heard"))


class Elsewhere(TypedEventConsumer):
    """Has the same events in another namespace."""

    namespace = "unit-testing-elsewhere"
    out_events = (Word,)


def publish(text: str = "a", room: str = "lobby", namespace: str = NAMESPACE) -> None:
    publish_to_room(room, Word(text=text), namespace=namespace)


def texts(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Word)]
