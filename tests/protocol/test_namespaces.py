"""Namespaces: one model for each name of an event, and what their consumers have declared."""

from __future__ import annotations

import gc

import pytest

from wsrt import Event, TypedEventConsumer
from wsrt.exceptions import DeclarationError
from wsrt.protocol.namespaces import namespaces


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
    problem = f"is {__name__}.First in {consumer.__name__}, .* can't be {__name__}.Second:"
    with pytest.raises(DeclarationError, match=problem):
        declare(Second)
    # A class is part of reference cycles, so that it stays until the garbage collector runs.
    gc.disable()
    try:
        del consumer
        assert declare(Second).__name__ == "SendsSecond"
    finally:
        gc.enable()


class Said(Event, name="said"):
    text: str


class Typed(Event, name="typed"):
    text: str


class Talk(TypedEventConsumer):
    namespace = "namespaces-talk"
    out_events = (Said,)


def test_what_consumers_declare() -> None:
    """A namespace knows what all of its consumers have declared, as long as their classes exist."""
    space = namespaces["namespaces-talk"]
    assert (space.consumers, space.overridden_hooks, space.layer_alias) == ([Talk], frozenset(), None)
    assert space.declares(Said(text="a"))
    assert not space.declares(Typed(text="a"))

    class Later(TypedEventConsumer):
        namespace = "namespaces-talk"
        channel_layer_alias = "second"
        out_events = (Typed,)

        async def tenant(self) -> str:
            return "acme"

    assert space.consumers == [Talk, Later]
    assert (space.overridden_hooks, space.layer_alias) == (frozenset({"tenant"}), "second")
    assert space.declares(Said(text="a"))
    assert space.declares(Typed(text="a"))
    del Later
    gc.collect()
    assert (space.consumers, space.overridden_hooks, space.layer_alias) == ([Talk], frozenset(), None)
    assert not space.declares(Typed(text="a"))


def test_not_an_event() -> None:
    """Only an event can be declared."""
    space = namespaces["namespaces-talk"]
    with pytest.raises(TypeError, match=r"write Said\(...\)"):
        space.declares(Said)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected an Event, not str"):
        space.declares("said")  # type: ignore[arg-type]
