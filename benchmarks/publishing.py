"""The events that the benchmarks of publishing publish, and their consumer. Import it when Django is set up."""

from __future__ import annotations

from wsrt import Event, TypedEventConsumer

NAMESPACE = "bench"

TEXT = "x" * 150


class Passing(Event, name="passing"):
    text: str


class Kept(Event, name="kept", history=True):
    text: str


class Consumer(TypedEventConsumer):
    namespace = NAMESPACE
    out_events = (Passing, Kept)


KINDS: dict[str, type[Passing | Kept]] = {"without history": Passing, "with history": Kept}
