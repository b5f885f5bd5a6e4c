"""The checks of consumer classes when they are created."""

from __future__ import annotations

import types
import typing
from typing import Any

import pytest

from wsrt import DeclarationError, Event, TypedEventConsumer, on
from wsrt.declarations import CHANNELS_METHODS


class Ask(Event, name="unit-declarations.ask"):
    text: str = ""


class Reply(Event, name="unit-declarations.reply"):
    text: str = ""


class Abstract(Event):
    """Has no wire name."""


class Base(TypedEventConsumer):
    """Every class of these tests is in a namespace of their own."""

    namespace = "unit-declarations"


def declare(**names: Any) -> type[TypedEventConsumer]:
    """Make a consumer class with these names."""
    return typing.cast("type[TypedEventConsumer]", type("Made", (Base,), names))


@pytest.mark.parametrize(
    ("name", "hook"),
    [("on_conect", "on_connect"), ("on_disconect", "on_disconnect"), ("authorise", "authorize")],
)
def test_misspelt_hook(name: str, hook: str) -> None:
    """A method that is named nearly like a hook is an error that names the hook."""
    with pytest.raises(DeclarationError, match=rf"Made\.{name} would never be called\. Did you mean {hook}\?"):
        declare(**{name: lambda self: None})


@pytest.mark.parametrize("name", ["on_message", "on_join", "members", "identify", "_on_conect"])
def test_other_names(name: str) -> None:
    """Other methods may be named as they like."""
    declare(**{name: lambda self: None})


def test_groups() -> None:
    """``groups`` may be something other than the list of Channels."""
    declare(groups=property(lambda self: ["a"]))
    for habit in (["a"], ("a",), []):
        with pytest.raises(DeclarationError, match=r"Made\.groups would never be joined"):
            declare(groups=habit)


@pytest.mark.parametrize("name", CHANNELS_METHODS)
def test_channels_habit(name: str) -> None:
    """A method that Channels would call is an error that says what to write, in a mixin too."""

    async def method(self: Any, *args: Any) -> None: ...

    with pytest.raises(DeclarationError) as raised:
        declare(**{name: method})
    assert f"Made.{name} would never be called: write {CHANNELS_METHODS[name]}" in str(raised.value)
    mixin = type("Mixin", (), {name: method})
    with pytest.raises(DeclarationError, match=f"{name} would never be called"):
        type("Mixed", (mixin, Base), {})


def test_marked_habit() -> None:
    """A handler is not a habit: it may be called what it likes, but not like a method of Channels."""

    async def receive(self: Any, event: Ask) -> None: ...

    with pytest.raises(DeclarationError, match="would never be called"):
        declare(receive=on(receive))


@pytest.mark.parametrize("namespace", [None, "", 7, b"chat", ["chat"]])
def test_namespace(namespace: Any) -> None:
    """A namespace is a non-empty string."""
    with pytest.raises(DeclarationError, match="Made: namespace must be a non-empty string, not"):
        declare(namespace=namespace)


@pytest.mark.parametrize("wrong", [int, "unit-declarations.reply", None, {"type": "reply"}])
def test_wrong_out_event(wrong: Any) -> None:
    """``out_events`` holds event classes; the error names the consumer."""
    with pytest.raises(DeclarationError, match="Made: expected an Event, not"):
        declare(out_events=(wrong,))


def test_abstract_out_event() -> None:
    """An event without a wire name cannot be sent."""
    with pytest.raises(DeclarationError, match="Made: Abstract has no wire name"):
        declare(out_events=(Abstract,))


@pytest.mark.parametrize("out_events", [Reply, None, 7])
def test_out_events_of_a_wrong_type(out_events: Any) -> None:
    """``out_events`` is a tuple, and a single event is not."""
    with pytest.raises(DeclarationError, match=r"Made: out_events must be a tuple"):
        declare(out_events=out_events)


def namesakes() -> tuple[type[Event], type[Event]]:
    """Return two classes of one wire name."""

    class One(Event, name="unit-declarations.same"):
        pass

    class Two(Event, name="unit-declarations.same"):
        text: str = ""

    return One, Two


def test_names_twice_in_a_class() -> None:
    """Two events of one name cannot be told apart, sent or received; the error names both."""
    one, two = namesakes()

    async def ask(self: Any, event: Any) -> None: ...

    with pytest.raises(
        DeclarationError, match=r"Made: two events have the name 'unit-declarations\.same': .*One and .*Two; rename"
    ):
        declare(out_events=(one, two))
    with pytest.raises(DeclarationError, match="two events have the name"):
        declare(ask=on(one, two)(ask))


def test_names_twice_as_reply() -> None:
    """A declared reply counts among what is sent."""
    one, two = namesakes()

    async def ask(self: Any, event: Ask) -> None: ...

    ask.__annotations__["return"] = two
    with pytest.raises(DeclarationError, match="two events have the name"):
        declare(out_events=(one,), ask=on(ask))


def test_same_event_twice() -> None:
    """One event may be named twice."""

    async def ask(self: Any, event: Ask) -> Reply: ...  # type: ignore[empty-body]

    assert set(declare(out_events=(Reply, Reply), ask=on(ask)).catalog.sends.values()) == {Reply}


def test_names_twice_in_a_namespace() -> None:
    """Consumers of one namespace share a contract: a name means one event in it, and another elsewhere."""
    one, two = namesakes()

    class First(TypedEventConsumer):
        namespace = "unit-declarations-shared"
        out_events = (one,)

    with pytest.raises(
        DeclarationError, match=r"the event 'unit-declarations\.same' is .*One in First, .*it can't be .*Two:"
    ):

        class Second(TypedEventConsumer):
            namespace = "unit-declarations-shared"
            out_events = (two,)

    class Elsewhere(TypedEventConsumer):
        namespace = "unit-declarations-elsewhere"
        out_events = (two,)

    assert First.catalog.sends["unit-declarations.same"] is one
    assert Elsewhere.catalog.sends["unit-declarations.same"] is two


def test_failed_class_is_forgotten() -> None:
    """A class that could not be made leaves nothing behind in its namespace."""
    one, two = namesakes()
    with pytest.raises(DeclarationError):
        type("Failed", (TypedEventConsumer,), {"namespace": "unit-declarations-failed", "out_events": (one, two)})
    made = type("Made", (TypedEventConsumer,), {"namespace": "unit-declarations-failed", "out_events": (two,)})
    assert made.catalog.sends == {"unit-declarations.same": two}  # type: ignore[attr-defined]


def test_layers_of_a_namespace() -> None:
    """One namespace has one channel layer; the error names the other consumer."""

    class First(TypedEventConsumer):
        namespace = "unit-declarations-layers"
        channel_layer_alias = "one"

    with pytest.raises(DeclarationError, match=r"Second: .*uses the channel layer 'one' \(see First\), not 'two'"):

        class Second(TypedEventConsumer):
            namespace = "unit-declarations-layers"
            channel_layer_alias = "two"

    class Third(TypedEventConsumer):
        namespace = "unit-declarations-layers"
        channel_layer_alias = "one"

    assert First._layer_alias() == Third._layer_alias() == "one"


def test_remade_class() -> None:
    """A module that is loaded again replaces its consumers."""
    source = (
        "from wsrt import Event, TypedEventConsumer\n"
        'class Again(Event, name="unit-declarations.again"): ...\n'
        "class AgainConsumer(TypedEventConsumer):\n"
        '    namespace = "unit-declarations"\n'
        "    out_events = (Again,)\n"
    )
    for _ in range(2):
        module = types.ModuleType("unit_declarations_module")
        exec(source, vars(module))
    assert module.AgainConsumer.catalog.sends["unit-declarations.again"] is module.Again


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("rate", "50", "rate is invalid: a rate is a number above 0"),
        ("rate", 50, "should be frames per time"),
        ("on_violation", "colse", '"auto", "close" or "report"'),
        ("max_rooms", "x", "an integer of at least 1"),
        ("heartbeat", -1, "a number of seconds above 0"),
        ("outbox_bytes", None, "an integer of at least 1"),
    ],
)
def test_wrong_limits(name: str, value: Any, says: str) -> None:
    """A limit of a class or a route is checked like the setting that it stands for."""
    with pytest.raises(DeclarationError, match=says):
        type("Limited", (TypedEventConsumer,), {"namespace": "unit-declarations-limits", name: value})
    with pytest.raises(DeclarationError, match=says):
        TypedEventConsumer.as_asgi(**{name: value})


@pytest.mark.parametrize("name", ["join", "authorize", "send"])
def test_methods_are_no_attributes(name: str) -> None:
    """as_asgi() sets attributes, not methods."""
    with pytest.raises(TypeError, match="an attribute that can be set"):
        TypedEventConsumer.as_asgi(**{name: 5})


T = typing.TypeVar("T")


class Page(Event, typing.Generic[T]):
    items: list[T]


def test_generic_event() -> None:
    """A generic event gets its name in a class of its own, and the error says so."""
    with pytest.raises(DeclarationError, match=r"class PageOf\.\.\.\(Page\[int\], name="):

        class Paged(TypedEventConsumer):
            namespace = "unit-declarations-generic"
            out_events = (Page[int],)

    class IntPage(Page[int], name="unit-declarations.ints"):
        pass

    assert IntPage(items=[1]).items == [1]


def test_names_twice_among_what_is_received() -> None:
    """A name means one event in a namespace also where it is only received."""
    one, two = namesakes()

    def receiver(event: type[Event]) -> type[TypedEventConsumer]:
        async def handler(self: Any, event: Any) -> None: ...

        names = {"namespace": "unit-declarations-in", "first": on(event)(handler), "__qualname__": event.__name__}
        return type("Receiver", (TypedEventConsumer,), names)

    first = receiver(one)
    with pytest.raises(DeclarationError, match=r"the event 'unit-declarations\.same' is"):
        receiver(two)
    assert first.catalog.receives == {"unit-declarations.same": one}
