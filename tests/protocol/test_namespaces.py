"""Namespaces: one model for each name of an event."""

from __future__ import annotations

import gc

import pytest

from wsrt import Event, TypedEventConsumer
from wsrt.exceptions import DeclarationError


class First(Event, name="namespaces.event"):
    pass


class Second(Event, name="namespaces.event"):
    pass


def declare(event: type[Event]) -> type[TypedEventConsumer]:
    # Made from a name, because two classes of one statement count as one.
    body = {"namespace": "namespaces", "out_events": (event,)}
    return type(f"Sends{event.__name__}", (TypedEventConsumer,), body)


def test_two_models() -> None:
    """A namespace has one model for a name, as long as the consumer that declares it exists."""
    consumer = declare(First)
    with pytest.raises(DeclarationError, match=f"is {__name__}.First .see {consumer.__name__}., not {__name__}.Second"):
        declare(Second)
    # A class is part of reference cycles, so that it stays until the garbage collector runs.
    gc.disable()
    try:
        del consumer
        assert declare(Second).__name__ == "SendsSecond"
    finally:
        gc.enable()
