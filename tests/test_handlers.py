"""The decorators of handlers, and the tables of handlers that consumer classes get."""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Optional, Union

import pytest

from wsrt import DeclarationError, Event, TypedEventConsumer, on, on_layer
from wsrt.testing import connect


class Ask(Event, name="unit-handlers.ask"):
    text: str = ""


class Other(Event, name="unit-handlers.other"):
    pass


class Reply(Event, name="unit-handlers.reply"):
    text: str = ""


class Abstract(Event):
    """Has no wire name."""


class Base(TypedEventConsumer):
    """Every class of these tests is in a namespace of their own."""

    namespace = "unit-handlers"


def declare(**names: Any) -> type[TypedEventConsumer]:
    """Make a consumer class with these names."""
    return typing.cast("type[TypedEventConsumer]", type("Made", (Base,), names))


def names(consumer: type[TypedEventConsumer]) -> dict[type[Event], str]:
    """Return the names of the handlers by event."""
    return {event: handler.name for event, handler in consumer.handlers.items()}


def run_module(source: str) -> types.ModuleType:
    """Run the source of a module that defines consumers."""
    module = types.ModuleType("unit_handlers_module")
    exec("from __future__ import annotations\n" + source, vars(module))
    return module


def shouted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a handler."""

    @functools.wraps(function)
    async def wrapper(self: Any, event: Any) -> Any:
        reply = await function(self, event)
        return Reply(text=reply.text.upper())

    return wrapper


# What works


async def test_annotated_handler() -> None:
    """A handler takes the event that its parameter is annotated with, and its return annotation declares the reply."""

    class Works(Base):
        @on
        async def ask(self, event: Ask) -> Reply:
            return Reply(text=event.text)

    assert set(Works.catalog.receives) == {"unit-handlers.ask"}
    assert set(Works.catalog.sends) == {"unit-handlers.reply"}
    async with connect(Works) as client:
        assert await client.request(Ask(text="a")) == Reply(text="a")


async def test_given_event() -> None:
    """``@on(Event)`` needs no annotation."""

    class Works(Base):
        @on(Ask)
        async def ask(self, event):  # type: ignore[no-untyped-def]
            self.asked = event

    async with connect(Works) as client:
        await client.request(Ask(text="a"))
        assert client.consumer.asked == Ask(text="a")


def test_given_events() -> None:
    """``@on`` takes several events for one handler."""

    class Works(Base):
        @on(Ask, Other)
        async def both(self, event: Event) -> None: ...

    assert names(Works) == {Ask: "both", Other: "both"}


def test_given_before_annotated() -> None:
    """What is given goes before what is annotated."""

    class Works(Base):
        @on(Ask)
        async def ask(self, event: Ask | Other) -> None: ...

    assert names(Works) == {Ask: "ask"}


def test_union() -> None:
    """A union annotation handles each member, however it is written."""

    class Works(Base):
        @on
        async def both(self, event: Ask | Other) -> None: ...

    class AlsoWorks(Base):
        @on
        async def both(self, event: Union[Ask, Other]) -> None: ...  # noqa: UP007

    assert names(Works) == names(AlsoWorks) == {Ask: "both", Other: "both"}


def test_annotated_type() -> None:
    """An event is found inside of ``Annotated``."""

    class Works(Base):
        @on
        async def ask(self, event: Annotated[Ask, "why"]) -> None: ...

    assert names(Works) == {Ask: "ask"}


@pytest.mark.parametrize(
    ("annotation", "replies"),
    [
        (Reply, {Reply}),
        (Optional[Reply], {Reply}),  # noqa: UP045
        (Reply | None, {Reply}),
        (Reply | Other | None, {Reply, Other}),
        (None, set()),
        (type(None), set()),
        (Any, set()),
        (typing.NoReturn, set()),
    ],
)
def test_replies(annotation: Any, replies: set[type[Event]]) -> None:
    """A return annotation declares one reply, several or none."""

    async def ask(self: Any, event: Ask) -> None: ...

    ask.__annotations__["return"] = annotation
    assert set(declare(ask=on(ask)).catalog.sends.values()) == replies


def test_no_return_annotation() -> None:
    """A handler without one declares no reply; ``out_events`` may."""

    class Works(Base):
        out_events = (Reply,)

        @on
        async def ask(self, event: Ask):  # type: ignore[no-untyped-def]
            return Reply()

    assert set(Works.catalog.sends.values()) == {Reply}


def test_local_events() -> None:
    """Events of the function that makes the class can be named in annotations."""

    class Local(Event, name="unit-handlers.local"):
        pass

    class Works(Base):
        @on
        async def local(self, event: Local) -> Local | None: ...

    assert names(Works) == {Local: "local"}
    assert set(Works.catalog.sends.values()) == {Local}


def test_override() -> None:
    """An override takes the place of the handler, with the same event or another, marked again or not."""

    class Parent(Base):
        @on
        async def ask(self, event: Ask) -> None: ...

    class Unmarked(Parent):
        async def ask(self, event: Ask) -> Reply:
            return Reply()

    class Changed(Parent):
        @on
        async def ask(self, event: Other) -> None: ...  # type: ignore[override]

    assert Unmarked.handlers[Ask].function is vars(Unmarked)["ask"]
    assert set(Unmarked.catalog.sends.values()) == {Reply}
    assert names(Changed) == {Other: "ask"}
    assert names(Parent) == {Ask: "ask"}


def test_removed() -> None:
    """A handler that a subclass sets to None is gone."""

    class Parent(Base):
        @on
        async def ask(self, event: Ask) -> None: ...

        @on_layer("unit.message")
        async def message(self, message: dict[str, Any]) -> None: ...

    class Without(Parent):
        ask = None  # type: ignore[assignment]
        message = None  # type: ignore[assignment]

    assert names(Without) == {}
    assert dict(Without.layer_handlers) == {}


def test_mixins() -> None:
    """Handlers are collected over the MRO, plain mixins included; the first in the MRO wins."""

    class AskMixin:
        @on
        async def ask(self, event: Ask) -> None: ...

    class OtherMixin:
        @on
        async def ask(self, event: Ask) -> Reply: ...  # type: ignore[empty-body]

        @on
        async def other(self, event: Other) -> None: ...

    class Works(AskMixin, OtherMixin, Base):
        pass

    assert names(Works) == {Ask: "ask", Other: "other"}
    assert Works.handlers[Ask].function is vars(AskMixin)["ask"]
    assert Works.handlers[Ask].replies == ()


async def test_decorated_handler() -> None:
    """A decorator may stand below ``@on`` or above it."""

    class Below(Base):
        @on
        @shouted
        async def ask(self, event: Ask) -> Reply:
            return Reply(text=event.text)

    class Above(Base):
        @shouted
        @on
        async def ask(self, event: Ask) -> Reply:
            return Reply(text=event.text)

    for consumer in (Below, Above):
        async with connect(consumer) as client:
            assert await client.request(Ask(text="a")) == Reply(text="A")


def test_marked_function_stays() -> None:
    """``@on`` and ``@on_layer`` return the function itself, so its type survives."""

    async def ask(self: Any, event: Ask) -> None: ...

    assert on(ask) is on(Ask)(ask) is on_layer("unit.message")(ask) is ask


def test_optional_parameter() -> None:
    """A handler may have further parameters with defaults."""

    class Works(Base):
        @on
        async def ask(self, event: Ask, loud: bool = False) -> None: ...

    assert names(Works) == {Ask: "ask"}


def test_consumer_without_handlers() -> None:
    """A consumer may only send."""
    assert set(declare(out_events=[Reply]).catalog.sends) == {"unit-handlers.reply"}


def test_tables_are_fixed() -> None:
    """The handlers of a class cannot be changed once it is made (S19)."""
    with pytest.raises(TypeError):
        declare().handlers[Ask] = None  # type: ignore[index]


# Handlers that cannot work


def test_no_annotation() -> None:
    """Without an event type the error shows both ways to give one."""

    async def ask(self, event): ...  # type: ignore[no-untyped-def]

    with pytest.raises(DeclarationError, match=r"Made\.ask: no event type.*event: SomeEvent.*@on\(SomeEvent\)"):
        declare(ask=on(ask))


@pytest.mark.parametrize(
    "annotation", [dict, Any, str, Ask | None, Ask | dict, list[Ask], type[Ask], Event, "Ask | int"]
)
def test_no_event_type(annotation: Any) -> None:
    """An annotation that isn't an event, or not only events, is an error."""

    async def ask(self: Any, event: Any) -> None: ...

    ask.__annotations__["event"] = annotation
    with pytest.raises(
        DeclarationError, match=r"isn't a declared event: annotate .*event: SomeEvent.*@on\(SomeEvent\)"
    ):
        declare(ask=on(ask))


SOURCE = """
from typing import TYPE_CHECKING
from wsrt import Event, TypedEventConsumer, on
if TYPE_CHECKING:
    from tests.apps.chat.events import Said

class Typo(TypedEventConsumer):
    namespace = "unit-handlers"
    @on
    async def said(self, event: {event}) -> {reply}: ...
"""


@pytest.mark.parametrize(
    ("event", "reply"), [("Said", "None"), ("'Said'", "None"), ("Known", "Said"), ("Sayd", "None")]
)
def test_unresolvable_annotation(event: str, reply: str) -> None:
    """An annotation that only a type checker understands is an error that says where to import it."""
    source = SOURCE.format(event=event, reply=reply)
    known = 'class Known(Event, name="unit-handlers.known"): ...\n'
    with pytest.raises(
        DeclarationError, match=r"Typo\.said: the annotation 'Sa[iy]d'.*import it outside of.*TYPE_CHECKING"
    ):
        run_module(source.replace("class Typo", known + "class Typo"))


@pytest.mark.parametrize("event", ["wsrt.Said", "Event.Said"])
def test_annotation_of_a_missing_attribute(event: str) -> None:
    """A name that a module does not have is told with the handler."""
    with pytest.raises(DeclarationError, match=r"Typo\.said: .*Said"):
        run_module("import wsrt\n" + SOURCE.format(event=event, reply="None"))


def test_two_handlers() -> None:
    """An event has one handler; the error names both."""
    with pytest.raises(DeclarationError, match=r"Twice\.second: Ask is already handled by first"):

        class Twice(Base):
            @on
            async def first(self, event: Ask) -> None: ...

            @on
            async def second(self, event: Ask | Other) -> None: ...


def test_two_handlers_by_inheritance() -> None:
    """A subclass that handles an event under another name must remove the inherited handler."""

    class Parent(Base):
        @on
        async def ask(self, event: Ask) -> None: ...

    async def answer(self: Any, event: Ask) -> None: ...

    with pytest.raises(DeclarationError, match=r"already handled by .*"):
        type("Child", (Parent,), {"answer": on(answer)})
    child = type("Child", (Parent,), {"answer": on(answer), "ask": None})
    assert names(child) == {Ask: "answer"}


@pytest.mark.parametrize(
    "name",
    ["send", "join", "user", "authorize", "on_connect", "handlers", "max_rooms", "scope_of", "dispatch", "_publish"],
)
def test_hidden_name(name: str) -> None:
    """A handler must not hide a name of TypedEventConsumer."""

    async def handler(self: Any, event: Ask) -> None: ...

    if name == "scope_of":
        assert names(declare(**{name: on(handler)})) == {Ask: name}
        return
    with pytest.raises(DeclarationError, match=rf"Made\.{name}: a handler must not hide .*{name}; rename it"):
        declare(**{name: on(handler)})


class Unresolved:
    """A mixin whose annotations mean nothing at run time."""

    async def other(self, event: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821


def test_other_methods_with_an_event() -> None:
    """Only an async method whose one event is unknown otherwise was meant as a handler."""

    async def helper(self: Any, event: Any) -> None: ...

    def plain(self: Any, event: Other) -> None: ...

    async def general(self: Any, event: Event) -> None: ...

    async def more(self: Any, event: Other, room: str) -> None: ...

    async def ask(self: Any, event: Ask) -> None: ...

    for event in (Ask, Reply, str):
        helper.__annotations__["event"] = event
        made = declare(ask=on(ask), helper=helper, out_events=(Reply,), plain=plain, general=general, more=more)
        assert names(made) == {Ask: "ask"}
    assert made.unmarked_handlers == {"unit-handlers.other": "plain"}
    helper.__annotations__["event"] = Ask | Other
    with pytest.raises(
        DeclarationError, match=r"Made\.helper takes the event Other, but isn't marked with @on.*_helper"
    ):
        declare(ask=on(ask), helper=helper)
    declare(ask=on(ask), _helper=helper)
    type("Mixed", (Unresolved, Base), {})


@pytest.mark.parametrize("name", ["send", "channel_layer"])
def test_hidden_name_of_a_layer_handler(name: str) -> None:
    """A receiver of layer messages must not hide one either."""

    async def handler(self: Any, message: dict[str, Any]) -> None: ...

    with pytest.raises(DeclarationError, match=f"must not hide .*{name}"):
        declare(**{name: on_layer("unit.message")(handler)})


def no_event(self: Any) -> None: ...


def no_parameters() -> None: ...


def too_many(self: Any, event: Ask, other: Other) -> None: ...


def by_keyword(self: Any, *, event: Ask) -> None: ...


def with_keyword(self: Any, event: Ask, *, other: Other) -> None: ...


def only_keywords(self: Any, **event: Ask) -> None: ...


@pytest.mark.parametrize("function", [no_event, no_parameters, too_many, by_keyword, with_keyword, only_keywords])
def test_wrong_parameters(function: Any) -> None:
    """A handler can be called with one event; the error shows how it looks."""
    with pytest.raises(
        DeclarationError, match=r"ask: a handler takes self and one event: def ask\(self, event: SomeEvent\)"
    ):
        declare(ask=on(Ask)(function))


@pytest.mark.parametrize("annotation", [int, dict[str, Any], Reply | str, list[Reply], Event, Abstract, "Reply | int"])
def test_wrong_return(annotation: Any) -> None:
    """A return annotation that is neither an event nor None is an error that names it."""

    async def ask(self: Any, event: Ask) -> None: ...

    ask.__annotations__["return"] = annotation
    with pytest.raises(DeclarationError, match=r"Made\.ask: a handler must return an event or None, not"):
        declare(ask=on(ask))


def test_generator() -> None:
    """A handler yields nothing."""

    async def ask(self: Any, event: Ask) -> Any:
        yield Reply()

    with pytest.raises(DeclarationError, match=r"Made\.ask: a handler must be a method, def or async def"):
        declare(ask=on(ask))


class Callable_:
    """A callable that isn't a function."""

    async def __call__(self, event: Ask) -> None: ...


@pytest.mark.parametrize(
    "target",
    [None, 7, "unit-handlers.ask", Ask(), Callable_(), functools.partial(print), print, staticmethod(no_event), [Ask]],
    ids=lambda target: type(target).__name__,
)
def test_on_something_else(target: Any) -> None:
    """``@on`` on what is neither a function nor an event is an error that shows both uses."""
    with pytest.raises(DeclarationError, match=r"@on marks a method, and @on\(SendMessage\) takes event classes"):
        on(target)


@pytest.mark.parametrize("target", [int, dict, Event, TypedEventConsumer])
def test_on_class_that_is_no_event(target: Any) -> None:
    """``@on`` takes no other classes."""
    with pytest.raises(DeclarationError, match=r"@on\(...\) takes event classes"):
        on(target)
    with pytest.raises(DeclarationError, match=r"@on\(...\) takes event classes"):
        on(Ask, target)


def test_on_function_and_more() -> None:
    """``@on`` takes a method or events, not both."""
    with pytest.raises(DeclarationError, match="@on marks a method"):
        on(too_many, Ask)  # type: ignore[call-overload]


@pytest.mark.parametrize("wrap", [staticmethod, classmethod, Callable_])
def test_marked_object(wrap: Any) -> None:
    """What is marked must be an ordinary method when the class is made."""

    async def ask(self: Any, event: Ask) -> None: ...

    target = wrap() if wrap is Callable_ else wrap(ask)
    with pytest.raises(DeclarationError, match=r"Made\.ask: a handler must be a method"):
        declare(ask=on(Ask)(target))


def test_abstract_event() -> None:
    """An event without a wire name cannot be received; the error says how to name it."""

    async def ask(self: Any, event: Abstract) -> None: ...

    for mark in (lambda: declare(ask=on(ask)), lambda: on(Abstract), lambda: on(Ask, Abstract)):
        with pytest.raises(DeclarationError, match=r"has no wire name: .*`class Abstract\(Event, name=\.\.\.\)`"):
            mark()


# Layer messages


def test_layer_handlers() -> None:
    """Receivers of layer messages are found by type, over the MRO."""

    class Mixin:
        @on_layer("unit.one")
        async def one(self, message: dict[str, Any]) -> None: ...

    class Works(Mixin, Base):
        @on_layer("unit.two")
        async def two(self, message: dict[str, Any]) -> None: ...

    assert set(Works.layer_handlers) == {"unit.one", "unit.two"}


def test_two_layer_handlers() -> None:
    """A type of layer message has one receiver."""
    with pytest.raises(DeclarationError, match=r"Twice\.two: .*'unit\.one' are already handled by one"):

        class Twice(Base):
            @on_layer("unit.one")
            async def one(self, message: dict[str, Any]) -> None: ...

            @on_layer("unit.one")
            async def two(self, message: dict[str, Any]) -> None: ...


@pytest.mark.parametrize("message_type", [None, "", 7, no_event])
def test_layer_type(message_type: Any) -> None:
    """``@on_layer`` takes the type of a message, and says so when it stands alone."""
    with pytest.raises(DeclarationError, match=r'@on_layer\("chat\.message"\)'):
        on_layer(message_type)


async def test_layer_handler_by_another_name() -> None:
    """A receiver need not be called what its function was called."""

    def decorated(function: Any) -> Any:
        async def wrapper(self: Any, message: dict[str, Any]) -> None:
            await function(self, message)

        return wrapper

    class Works(Base):
        out_events = (Reply,)

        @on_layer("unit.one")
        @decorated
        async def one(self, message: dict[str, Any]) -> None:
            await self.send(Reply(text=message["text"]))

    async with connect(Works) as client:
        consumer = client.consumer
        await consumer.channel_layer.send(consumer.channel_name, {"type": "unit.one", "text": "a"})
        assert await client.receive(Reply) == Reply(text="a")


def test_error_is_a_type_error() -> None:
    """A declaration error is caught as a TypeError too."""
    with pytest.raises(TypeError):
        on(None)  # type: ignore[call-overload]


@pytest.mark.parametrize("name", ["scope", "_connection"])
def test_names_of_instances(name: str) -> None:
    """A handler must not hide what an instance has."""

    async def handler(self: Any, event: Any) -> None: ...

    on(Said)(handler)
    with pytest.raises(DeclarationError, match="must not hide"):
        type("Hiding", (TypedEventConsumer,), {"namespace": "unit-handlers-hiding", name: handler})


@pytest.mark.parametrize("name", ["history", "threads", "consumers", "drain_seconds"])
def test_names_of_other_settings(name: str) -> None:
    """A handler may be called like a setting that isn't a limit of a connection."""

    async def handler(self: Any, event: Any) -> None: ...

    on(Said)(handler)
    made = type("Named", (TypedEventConsumer,), {"namespace": "unit-handlers-named", name: handler})
    assert made.handlers[Said].name == name


# Mixins of other modules


def test_mixin_of_another_module() -> None:
    """An inherited handler's annotation means what it means in its own module, whatever is called so elsewhere."""
    mixins = types.ModuleType("unit_handlers_mixins")
    exec(
        "from __future__ import annotations\n"
        "from wsrt import Event, on\n"
        "class Said(Event, name='unit-handlers.theirs'):\n    pass\n"
        "class Mixin:\n    @on\n    async def said(self, event: Said) -> None: ...\n",
        vars(mixins),
    )
    assert "Said" in globals()

    class Mixed(mixins.Mixin, TypedEventConsumer):  # type: ignore[name-defined,misc]
        namespace = "unit-handlers-mixed"

    assert list(Mixed.catalog.receives) == ["unit-handlers.theirs"]


class Said(Event, name="unit-handlers.said"):
    """In a mixin of another module there is another one."""
