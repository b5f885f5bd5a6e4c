"""The objects that the functions of ``wsrt.history`` return."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_core import from_json

from ..metrics import counters
from ..protocol.envelope import values_of_key
from ..protocol.events import Event
from ..types import Position
from .base import Entry, Gap, Reading


@dataclasses.dataclass(frozen=True, slots=True)
class PastEvent:
    """
    An event in the history of a room.

    Attributes:
        position: Its position.
        name: Its wire name.
        data: Its data, as plain data.
        event: The event. None if no consumer of the namespace sends an event of this name any more, or if the data
            isn't valid for its present class.
        key: With ``history="latest"``, the values of the key fields, as plain data. Otherwise None.
        time: When it was published, in UTC.
    """

    position: Position
    name: str
    data: Any
    event: Event | None
    key: tuple[Any, ...] | None
    time: dt.datetime


@dataclasses.dataclass(frozen=True, slots=True)
class HistoryPage:
    """
    The events after a position, or one page of them. Iterates over the events.

    Attributes:
        events: The events, in the order of their offsets.
        position: The position of the room's last publication.
        next: The position to pass as ``since``, to get the next page or events that are published later.
        has_more: Whether there are more events than the page holds.
        gap: The reason why publications after ``since`` are missing, or None if none are missing. "epoch": the history
            was lost or purged, and has started again. "trimmed": the room had more publications than its history keeps.
            "expired": the publications were older than the time for which the history keeps them.
    """

    events: tuple[PastEvent, ...]
    position: Position
    next: Position
    has_more: bool
    gap: Gap | None

    def __iter__(self) -> Iterator[PastEvent]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)


def page_of(reading: Reading, classes: Mapping[str, type[Event]]) -> HistoryPage:
    """
    Return the public form of a store's reading.

    Args:
        reading: The reading.
        classes: The classes of the namespace's events, by wire name.
    """
    epoch = reading.position.epoch
    events = tuple(
        PastEvent(
            Position(epoch, entry.offset),
            entry.event,
            from_json(entry.data),
            _event_of(entry, classes.get(entry.event)),
            None if entry.key is None else values_of_key(entry.key),
            dt.datetime.fromtimestamp(entry.time, dt.UTC),
        )
        for entry in reading.entries
    )
    return HistoryPage(events, reading.position, end_of(reading), reading.has_more, reading.gap)


def end_of(reading: Reading) -> Position:
    """Return the position at which the next reading begins."""
    if reading.has_more and reading.entries:
        return Position(reading.position.epoch, reading.entries[-1].offset)
    # Later offsets than that of the last entry may have been forgotten.
    return reading.position


def _event_of(entry: Entry, model: type[Event] | None) -> Event | None:
    if model is None:
        return None
    try:
        return model.model_validate_json(entry.data)
    except Exception as error:  # a validator of the application may raise anything
        counters.count(
            "history_unreadable",
            "the data of an event %r in history isn't valid for its class: %s. Was the class changed?",
            entry.event,
            type(error).__name__,
        )
        return None
