"""
The decorators that mark the handlers of a consumer, and the tables of handlers that each class gets.

``@on`` marks a method. The table is built once, when the class is created, from all classes in its MRO. A handler that
can't work raises DeclarationError there, with a message that names the fix.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar, overload

from asgiref.sync import iscoroutinefunction

from .exceptions import DeclarationError
from .protocol.events import Event, EventMeta, naming

__all__ = ["Handler", "on", "on_layer"]

C = TypeVar("C")
E = TypeVar("E", bound=Event)
R = TypeVar("R", bound=Event | Coroutine[Any, Any, Event | None] | None)
F = TypeVar("F", bound=Callable[..., Any])

MARK = "__wsrt_handles__"
"""The attribute of a marked function that holds the arguments of ``@on``, a _Mark."""

LAYER_MARK = "__wsrt_layer_type__"
"""The attribute of a marked function that holds its type of layer message."""


class _Mark(NamedTuple):
    """
    The arguments of ``@on``.

    Attributes:
        events: The event classes. () to read the annotation.
        concurrent: How many runs of the handler a connection may have at the same time. None for an ordered handler.
    """

    events: tuple[type[Event], ...]
    concurrent: int | None


@overload
def on(target: Callable[[C, E], R], /) -> Callable[[C, E], R]: ...
@overload
def on(
    target: type[Event], /, *more: type[Event], concurrent: int | None = None
) -> Callable[[Callable[[C, E], R]], Callable[[C, E], R]]: ...
@overload
def on(*, concurrent: int) -> Callable[[Callable[[C, E], R]], Callable[[C, E], R]]: ...


def on(target: Any = None, /, *more: Any, concurrent: int | None = None) -> Any:
    """
    Mark a method as the handler of an event.

        @on
        async def send_message(self, event: SendMessage) -> MessageSent: ...

        @on(SendMessage)
        async def send_message(self, event): ...

        @on(concurrent=4)
        async def search(self, event: Search) -> Found: ...

    Without event classes, the handler receives the event in the annotation of its parameter, or all events of a union.
    With event classes, it receives these events. If a frame is a request, the event that the handler returns is the
    answer, which the return annotation declares. A ``def`` handler runs in a pool of threads.

    The handlers of a connection run one at a time, in the order of their frames. With ``concurrent``, the handler is
    started in this order, but later frames don't wait until it has ended. If the maximum number of its runs are active,
    the next frame for this handler waits, and so do all later frames of the connection.

    Args:
        target: The method, or the first event class. None with ``concurrent`` alone.
        more: Further event classes.
        concurrent: The maximum number of runs of this handler that one connection may have at the same time, at least
            1. None to run it in order with the other handlers.

    Raises:
        DeclarationError: The target isn't a method, or an argument isn't an event class. Other mistakes in a handler
            raise it when the consumer class is created.
    """
    if concurrent is not None and (type(concurrent) is not int or concurrent < 1):
        raise DeclarationError(
            "@on(concurrent=...) takes the number of runs that a connection may have at the same time, at least 1, "
            f"not {concurrent!r}"
        )
    if target is None and not more and concurrent is not None:
        return functools.partial(_mark, concurrent=concurrent)
    if isinstance(target, type):
        events = (target, *more)
        for event in events:
            if not _is_event(event):
                raise DeclarationError(
                    _abstract(event) or f"@on(...) takes event classes, as in @on(SendMessage), not {event!r}"
                )

        def mark(function: F) -> F:
            setattr(function, MARK, _Mark(events, concurrent))
            return function

        return mark
    if more:
        raise DeclarationError(f"@on marks a method, and @on(SendMessage) takes event classes, not {target!r}")
    return _mark(target, concurrent)


def _mark(function: Any, concurrent: int | None) -> Any:
    """Mark a function whose annotation names its events."""
    if not inspect.isfunction(function):
        raise DeclarationError(f"@on marks a method, and @on(SendMessage) takes event classes, not {function!r}")
    setattr(function, MARK, _Mark((), concurrent))
    return function


def on_layer(message_type: str) -> Callable[[F], F]:
    """
    Mark a method as the handler of one type of message, for messages that other code sends through the channel layer.

        @on_layer("chat.message")
        async def chat_message(self, message: dict) -> None: ...

    A connection of a class with such a method has a ``channel_name``, already when ``authorize`` is called. A message
    can only call a marked method: its type is looked up in a table and never used as the name of a method.

    Args:
        message_type: The value of ``"type"`` in the messages.

    Raises:
        DeclarationError: The type isn't a non-empty string. Also raised when the consumer class is created, if two
            methods have the same type, or if a method has the name of an attribute of TypedEventConsumer.
    """
    if not isinstance(message_type, str) or not message_type:
        raise DeclarationError('@on_layer takes the type of a layer message, such as @on_layer("chat.message")')

    def mark(function: F) -> F:
        setattr(function, LAYER_MARK, message_type)
        return function

    return mark


@dataclasses.dataclass(frozen=True, slots=True)
class Handler:
    """
    One handler of a consumer class.

    Attributes:
        name: The name of the method.
        function: The unbound method.
        events: The event classes that it handles.
        replies: The event classes in its return annotation.
        may_return_none: Whether it may return None, which answers a request with ``wsrt.ok``.
        concurrent: How many runs of it a connection may have at the same time. None for an ordered handler.
    """

    name: str
    function: Callable[..., Any]
    events: tuple[type[Event], ...]
    replies: tuple[type[Event], ...]
    may_return_none: bool
    concurrent: int | None = None


def event_handlers(cls: type, base: type, local_names: Mapping[str, Any]) -> dict[type[Event], Handler]:
    """
    Return the handlers of a class by event class.

    Args:
        cls: The consumer class.
        base: TypedEventConsumer. A handler must not have the name of one of its attributes.
        local_names: The names that annotations may use in addition to the globals of the handler's module.

    Raises:
        DeclarationError: A handler can't work, see on().
    """
    table: dict[type[Event], Handler] = {}
    for name, function, mark in _marked(cls, MARK):
        where = f"{cls.__name__}.{name}"
        _check_name(where, name, base)
        if not inspect.isfunction(function) or inspect.isasyncgenfunction(function):
            raise DeclarationError(f"{where}: a handler must be a method, def or async def, that takes one event")
        handler = _handler(where, name, function, mark, local_names, cls.__module__)
        for event in handler.events:
            other = table.get(event)
            if other is not None:
                raise DeclarationError(
                    f"{where}: {event.__name__} is already handled by {other.name}; an event has one handler"
                )
            table[event] = handler
    return table


def login_event(cls: type, base: type, local_names: Mapping[str, Any]) -> type[Event] | None:
    """
    Return the event that the ``authenticate`` of a class takes; None if the class doesn't override it.

    Args:
        cls: The consumer class.
        base: TypedEventConsumer.
        local_names: The names that annotations may use in addition to the globals of the method's module.

    Raises:
        DeclarationError: The method doesn't take exactly one class of events.
    """
    function = inspect.getattr_static(cls, "authenticate")
    if function is inspect.getattr_static(base, "authenticate"):
        return None
    where = f"{cls.__name__}.authenticate"
    events: tuple[type[Event], ...] = ()
    if inspect.isfunction(function):
        arguments = list(inspect.signature(function).parameters)
        annotation = _hints(where, function, local_names, cls.__module__).get(arguments[-1])
        events = _events_in(annotation) if len(arguments) == 2 else ()
    if len(events) != 1:
        raise DeclarationError(
            f"{where} must be a method that takes the one event that clients log in with: "
            "async def authenticate(self, event: Login), where Login is a subclass of wsrt.Event"
        )
    return events[0]


def layer_handlers(cls: type, base: type) -> dict[str, Callable[..., Any]]:
    """
    Return the methods marked with ``@on_layer`` by message type.

    Raises:
        DeclarationError: Two methods have the same type, or a method has the name of an attribute of ``base``.
    """
    table: dict[str, Callable[..., Any]] = {}
    for name, function, message_type in _marked(cls, LAYER_MARK):
        _check_name(f"{cls.__name__}.{name}", name, base)
        if message_type in table:
            raise DeclarationError(
                f"{cls.__name__}.{name}: layer messages of type {message_type!r} are already handled by "
                f"{table[message_type].__name__}"
            )
        table[message_type] = function
    return table


def unmarked_handlers(cls: type, base: type, local_names: Mapping[str, Any]) -> dict[type[Event], str]:
    """
    Return the names of the methods that take one event and aren't marked with ``@on``, by event class.

    Args:
        cls: The consumer class.
        base: TypedEventConsumer, whose own methods don't count.
        local_names: The names that annotations may use in addition to the globals of the method's module.
    """
    found: dict[type[Event], str] = {}
    for name, function in unmarked_methods(cls, base):
        arguments = list(inspect.signature(function).parameters)
        if len(arguments) != 2:
            continue
        try:
            annotation = _hints(name, function, local_names, cls.__module__).get(arguments[-1])
        except DeclarationError:
            continue  # only handlers need annotations that can be resolved
        found |= dict.fromkeys(_events_in(annotation), name)
    return found


def check_unmarked(cls: type, unmarked: Mapping[type[Event], str], known: Collection[type[Event]]) -> None:
    """
    Raise DeclarationError for an async method that takes one event and isn't marked with ``@on``.

    Args:
        cls: The consumer class.
        unmarked: The methods, see unmarked_handlers().
        known: The events that the consumer receives or sends. A method that takes one of them may be called by another.
    """
    for event, name in unmarked.items():
        if event not in known and iscoroutinefunction(getattr(cls, name)):
            raise DeclarationError(
                f"{cls.__name__}.{name} takes the event {event.__name__}, but isn't marked with @on, so it would never "
                f"be called: write @on above it, or rename it to _{name} if it isn't a handler"
            )


def _marked(cls: type, mark: str) -> list[tuple[str, Any, Any]]:
    """Return (name, function, mark) for each name that is marked anywhere in the MRO. An override replaces a method."""
    marks: dict[str, Any] = {}
    for parent in reversed(cls.__mro__):
        for name, value in vars(parent).items():
            if hasattr(value, mark):
                marks[name] = getattr(value, mark)
    # A subclass removes a handler by setting its name to None.
    found = [(name, inspect.getattr_static(cls, name), value) for name, value in marks.items()]
    return [entry for entry in found if entry[1] is not None]


def unmarked_methods(cls: type, base: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield the public methods of a class and its parents that are neither marked nor methods of ``base``."""
    marked = {name for mark in (MARK, LAYER_MARK) for name, _, _ in _marked(cls, mark)}
    names = {name for parent in cls.__mro__ if not issubclass(base, parent) for name in vars(parent)}
    for name in sorted(names - marked - vars(base).keys()):
        function = inspect.getattr_static(cls, name)
        if inspect.isfunction(function) and not name.startswith("_"):
            yield name, function


def _check_name(where: str, name: str, base: type) -> None:
    # Attributes that only instances have, such as scope, are found in the annotations.
    if hasattr(base, name) or name in vars(base).get("__annotations__", {}):
        raise DeclarationError(f"{where}: a handler must not hide {base.__name__}.{name}; rename it")


def _handler(
    where: str,
    name: str,
    function: Callable[..., Any],
    mark: _Mark,
    local_names: Mapping[str, Any],
    module: str,
) -> Handler:
    signature = inspect.signature(function)
    try:
        arguments = list(signature.bind(None, None).arguments)
    except TypeError:
        raise DeclarationError(
            f"{where}: a handler takes self and one event: def {name}(self, event: SomeEvent)"
        ) from None
    hints = _hints(where, function, local_names, module)
    annotation = hints.get(arguments[-1])
    events = mark.events or _events_in(annotation)
    if not events:
        raise DeclarationError(f"{where}: {_no_event(name, annotation)}")
    returned = hints.get("return")
    replies = _replies(where, returned)
    may_return_none = not replies or type(None) in _members(returned)
    return Handler(name, function, events, replies, may_return_none, mark.concurrent)


def _hints(where: str, function: Callable[..., Any], local_names: Mapping[str, Any], module: str) -> dict[str, Any]:
    # The names local to the class statement aren't visible to a mixin from another module.
    local = dict(local_names) if function.__module__ == module else {}
    try:
        return typing.get_type_hints(function, localns=local)
    except NameError as error:
        raise DeclarationError(
            f"{where}: the annotation {error.name!r} can't be resolved at run time: import it outside of "
            "`if TYPE_CHECKING:`, or define it before the consumer"
        ) from error
    except (AttributeError, TypeError, SyntaxError) as error:
        raise DeclarationError(f"{where}: an annotation can't be read: {error}") from error


def _replies(where: str, annotation: Any) -> tuple[type[Event], ...]:
    members = _members(annotation)
    if annotation is None or annotation is Any or annotation is typing.NoReturn:
        return ()
    replies = tuple(member for member in members if _is_event(member))
    wrong = [member for member in members if member is not type(None) and not _is_event(member)]
    if wrong:
        raise DeclarationError(
            f"{where}: a handler must return an event or None, not {_shown(wrong[0])}: "
            + (_abstract(wrong[0]) or 'declare the answer as an event, class Answer(Event, name="answer")')
        )
    return replies


def _no_event(name: str, annotation: Any) -> str:
    """Return the problem with the annotation of a handler's parameter."""
    abstract = next(filter(None, map(_abstract, _members(annotation))), None)
    if abstract:
        return abstract
    problem = "no event type" if annotation is None else f"{_shown(annotation)} isn't a declared event"
    return (
        f"{problem}: annotate the parameter with a subclass of wsrt.Event, def {name}(self, event: SomeEvent), or use "
        "@on(SomeEvent)"
    )


def _shown(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


def _events_in(annotation: Any) -> tuple[type[Event], ...]:
    members = _members(annotation)
    return tuple(members) if members and all(map(_is_event, members)) else ()


def _members(annotation: Any) -> list[Any]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return list(typing.get_args(annotation))
    return [] if annotation is None else [annotation]


def _abstract(value: Any) -> str | None:
    """Return an error message for an event class without a wire name, None for anything else."""
    if isinstance(value, type) and issubclass(value, Event) and value is not Event and value.__event__ is None:
        return f"{value.__name__} has no wire name: declare it as `{naming(value)}`"
    return None


def _is_event(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Event) and isinstance(value.__event__, EventMeta)
