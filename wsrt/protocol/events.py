"""Events: Pydantic models with a wire name."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Generic, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, RootModel
from pydantic_core import core_schema, to_json
from typing_extensions import Unpack

from ..addresses import RESERVED
from ..exceptions import DeclarationError
from ..types import History, Overflow
from .fields import accept_lazy_text, undecided_bytes
from .rate import parse_event_rate

__all__ = ["Event", "EventMeta", "RootEvent"]

T = TypeVar("T")

OPTIONS = ("name", "history", "overflow", "key", "rate")


@dataclasses.dataclass(frozen=True, slots=True)
class EventMeta:
    """
    The options of an event's class statement.

    Attributes:
        name: The wire name.
        history: Whether publications to a room are kept for clients that reconnect. "latest" keeps the last one for
            each key.
        overflow: What happens for a client that is behind.
        key: With overflow="latest", the fields whose values identify the waiting frame to replace; with
            history="latest", the kept publication to replace.
        head: The frame up to its data, encoded once.
        rate: How often one client may send the event, such as "2/s". None for no limit of its own.
    """

    name: str
    history: History
    overflow: Overflow
    key: tuple[str, ...]
    head: str
    rate: str | None = None


def _declare(
    cls: type[BaseModel], name: object, history: object, overflow: object, key: tuple[object, ...], rate: object
) -> EventMeta | None:
    if name is None:
        if history or overflow != "close" or key or rate is not None:
            raise DeclarationError(f"{cls.__name__}: options need a wire name: class {cls.__name__}(Event, name=...)")
        return None
    if not isinstance(name, str) or not name:
        raise DeclarationError(f"{cls.__name__}: name must be a non-empty string, not {name!r}")
    if name.startswith(RESERVED):
        raise DeclarationError(f"{cls.__name__}: names that begin with {RESERVED!r} are reserved: {name!r}")
    if not isinstance(history, bool) and history != "latest":
        raise DeclarationError(f'{cls.__name__}: history must be True, False or "latest", not {history!r}')
    if overflow not in get_args(Overflow):
        raise DeclarationError(f"{cls.__name__}: overflow must be one of {get_args(Overflow)}, not {overflow!r}")
    if not all(isinstance(field, str) for field in key):
        raise DeclarationError(f"{cls.__name__}: key must be a field name or a tuple of field names, not {key!r}")
    if history and overflow != "close":
        raise DeclarationError(
            f'{cls.__name__}: history={history!r} requires overflow="close": an event in history must not be skipped'
        )
    is_latest = "latest" in (overflow, history)
    if is_latest and not key:
        raise DeclarationError(
            f'{cls.__name__}: overflow="latest" or history="latest" needs key=..., which selects what a new event '
            "replaces"
        )
    if key and not is_latest:
        raise DeclarationError(f'{cls.__name__}: key=... has no effect without overflow="latest" or history="latest"')
    _check_rate(cls, rate)
    head = '{"event":' + to_json(name).decode() + ',"data":'
    return EventMeta(name, history, overflow, key, head, rate)  # type: ignore[arg-type]  # checked above, field by field


def _check_rate(cls: type[BaseModel], rate: object) -> None:
    if rate is None:
        return
    if not isinstance(rate, str):
        raise DeclarationError(f'{cls.__name__}: rate must be a string such as "2/s", not {rate!r}')
    try:
        parse_event_rate(rate)
    except ValueError as error:
        raise DeclarationError(f"{cls.__name__}: {error}") from None


class Event(BaseModel):
    """
    A Pydantic model with a wire name. Subclass it once for each event.

        class MessageSent(Event, name="message.sent"):
            id: int
            text: str

    Args:
        name: The wire name. A class without a name can't be sent or received. It holds fields that several events
            share.
        history: Whether publications are kept for clients that were disconnected. True keeps the last ones of each
            room, and "latest" the last one for each key, which suits states such as prices. An event with history can
            only be published to one room, and requires ``overflow="close"``.
        overflow: What happens to the event if frames already wait for a client. "close" queues it; if the queue
            exceeds a limit, the connection is closed with 1013. "drop" doesn't send it to this client, which suits
            typing indicators. "latest" replaces the waiting frame with the same key, which suits prices.
        key: For ``overflow="latest"`` and ``history="latest"``: the name of a field, or a tuple of names. An event
            replaces an earlier one that has the same values in these fields.
        rate: How often one client may send the event: "2/s", "10/m" or "100/h". Further frames are violations, like
            those over the setting ``RATE``. None for no limit of its own.
        **config: Keys of Pydantic's ConfigDict, such as ``extra="forbid"``.

    The name and the options of wsrt are not inherited; keys of ConfigDict are, as in Pydantic. Instances are frozen, so
    an event can't change between validation and sending.

    Raises:
        DeclarationError: The options are invalid. Raised when the class is created.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True,
        from_attributes=True,
        allow_inf_nan=False,
        ser_json_bytes="base64",
        val_json_bytes="base64",
        # Serialize NaN as a constant, so that encode() can refuse it. By default it would be sent as null.
        ser_json_inf_nan="constants",
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )

    __event__: ClassVar[EventMeta | None] = None

    def __init_subclass__(
        cls,
        *,
        name: str | None = None,
        history: History = False,
        overflow: Overflow = "close",
        key: str | tuple[str, ...] | None = None,
        rate: str | None = None,
        **config: Unpack[ConfigDict],
    ) -> None:
        # Pydantic has removed its own configuration from the class arguments, so anything left is a mistake.
        if config:
            raise DeclarationError(
                f"{cls.__name__} has unknown class arguments: {', '.join(map(repr, config))}. Use the options of Event "
                f"({', '.join(OPTIONS)}) or those of Pydantic's ConfigDict"
            )
        super().__init_subclass__()
        keys = (key,) if isinstance(key, str) else tuple(key or ())
        cls.__event__ = _declare(cls, name, history, overflow, keys, rate)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return accept_lazy_text(handler(source), source)

    @classmethod
    def __pydantic_on_complete__(cls) -> None:
        super().__pydantic_on_complete__()
        where = undecided_bytes(cls.__pydantic_core_schema__)
        if where is not None:
            raise DeclarationError(
                f"{cls.__name__}: {where} is bytes, and its model doesn't define how bytes are written in JSON: derive "
                'the model from Event (without a name), or set ser_json_bytes and val_json_bytes to "base64" in its '
                "model_config"
            )

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        # Called once the fields are known.
        super().__pydantic_init_subclass__()
        for field in cls.__event__.key if cls.__event__ else ():
            if field not in cls.model_fields:
                raise DeclarationError(
                    f"{cls.__name__}: key={field!r} is not one of its fields ({', '.join(cls.model_fields)})"
                )


class RootEvent(RootModel[T], Event, Generic[T]):
    """
    An event whose data is not an object.

        class Tags(RootEvent[list[str]], name="tags"): ...

        Tags(["a", "b"])            # {"event": "tags", "data": ["a", "b"]}
    """

    model_config: ClassVar[ConfigDict] = Event.model_config


def require_instance(event: object) -> None:
    """Raise TypeError if a class was passed instead of an event: ``MessageSent`` instead of ``MessageSent(...)``."""
    if isinstance(event, type) and issubclass(event, Event):
        raise TypeError(f"expected an event, not its class: write {event.__name__}(...)")


def naming(event: type) -> str:
    """Return an example of a class statement that gives an abstract event a name, for error messages."""
    if "[" in event.__name__:
        # The class that Pydantic creates for a generic event with its parameters.
        return f"class {event.__name__.partition('[')[0]}Of...({event.__name__}, name=...)"
    return f"class {event.__name__}(Event, name=...)"


def meta(event: Event | type[Event]) -> EventMeta:
    """
    Return the options of an event's class statement.

    Raises:
        TypeError: The object is not an event, or its class is abstract.
    """
    declared = getattr(event, "__event__", None)
    if isinstance(declared, EventMeta):
        return declared
    what = event if isinstance(event, type) else type(event)
    if issubclass(what, Event):
        raise TypeError(f"{what.__name__} has no wire name: declare it as `{naming(what)}`")
    raise TypeError(f"expected an Event, not {what.__name__}: declare a subclass of wsrt.Event with a name, and use it")
