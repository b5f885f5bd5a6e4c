"""
The events that a consumer receives and sends, and the decoding of frames to events.

Decoding is one pass: a single Pydantic validator selects the model by the event's name, and returns name, event and
ref.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, GetCoreSchemaHandler, TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.json_schema import JsonSchemaMode
from pydantic_core import core_schema, from_json, to_json

from ..exceptions import (
    DeclarationError,
    InvalidData,
    InvalidFrame,
    TooManyValues,
    UndeclaredEvent,
    UnknownEvent,
)
from ..types import History, Ref
from .bounds import BoundedValidator, TooMuchWork, has_too_many_values
from .envelope import as_text, peek, read_envelope, ref_of, ref_schema
from .errors import MAX_BUILT, TOO_COMPLEX, UNEXPLAINED, field_errors, shortened
from .events import Event, RootEvent, meta, require_instance
from .numbers import is_finite, may_be_infinite
from .schema import Schema, as_plain, without_words

__all__ = ["SUBSCRIBE", "SUBSCRIPTION_EVENTS", "UNSUBSCRIBE", "Catalog", "Received", "undeclared_message"]

MAX_VALUES = 10_000
"""The default limit of JSON values in one frame."""


class RoomRequest(Event):
    """The data of the reserved events that ask for a room."""

    room: str


SUBSCRIBE = "wsrt.subscribe"
UNSUBSCRIBE = "wsrt.unsubscribe"

SUBSCRIPTION_EVENTS: Mapping[str, type[Event]] = {SUBSCRIBE: RoomRequest, UNSUBSCRIBE: RoomRequest}
"""The reserved events that clients may send if the consumer declares rooms that they may subscribe to."""


class Received:
    """
    An event that was received from the client.

    Attributes:
        name: The event's wire name.
        event: The event.
        ref: The ref of a request, or None.
    """

    __slots__ = ("event", "name", "ref")

    def __init__(self, name: str, event: Event, ref: Ref | None) -> None:
        self.name = name
        self.event = event
        self.ref = ref


class Catalog:
    """
    The events of one consumer class.

    Args:
        receives: The events that its clients may send.
        sends: The events that it may send, including replies.
        replies: The names of the events that may answer an event, by that event's name.
        shown: The model of the data that members of a room see of each other; None without presence data.
        login: The event that a client logs in with, which is also received; None if there is none.
        subscriptions: The patterns of the rooms that clients may subscribe to.

    Attributes:
        login: The same event.
        receives: The same events, by name.
        sends: The same events, by name.
        kept: The values of ``history`` of the events in ``sends`` that are kept.
    """

    def __init__(
        self,
        receives: Iterable[type[Event]],
        sends: Iterable[type[Event]],
        replies: Mapping[str, Sequence[str]] | None = None,
        shown: type[BaseModel] | None = None,
        login: type[Event] | None = None,
        subscriptions: Sequence[str] = (),
    ) -> None:
        self.receives = by_name(receives)
        self.sends = by_name(sends)
        self.kept: set[History] = {kept for event in self.sends.values() if (kept := meta(event).history)}
        self._replies = replies or {}
        self._shown = shown
        self.login = login
        self._subscriptions = subscriptions
        # Everything that a client may send.
        self._readable = {**self.receives, **(SUBSCRIPTION_EVENTS if subscriptions else {})}

    def decode(self, frame: str | bytes, max_values: int = MAX_VALUES) -> Received:
        """
        Decode a frame.

        Args:
            frame: The frame. Bytes are decoded as UTF-8.
            max_values: The maximum number of JSON values in it.

        Raises:
            InvalidFrame: The frame is not an envelope.
            TooManyValues: The frame holds more than ``max_values`` values.
            UnknownEvent: The event is not in ``receives``.
            InvalidData: The data isn't valid for the event's model.
        """
        text = as_text(frame)
        self._require_few_values(text, max_values)
        try:
            return self._validate(text)
        except (ValidationError, TooMuchWork) as error:
            raise self._explain(text, error.with_traceback(None)) from None

    def decode_in_steps(self, frame: str | bytes, max_values: int = MAX_VALUES) -> Generator[None, None, Received]:
        """
        Decode a large frame in steps, between which other work can be done. Yields after each step but the last.

        Args, return value and exceptions are those of decode().
        """
        text = as_text(frame)
        self._require_few_values(text, max_values)
        yield
        try:
            return self._validate(text)
        except (ValidationError, TooMuchWork) as error:
            reason = error.with_traceback(None)
        yield
        raise self._explain(text, reason)

    @property
    def is_recursive(self) -> bool:
        """Whether even a small frame may take a long time to validate, because a model contains a recursive union."""
        return self._validator.is_recursive

    @property
    def login_takes_token(self) -> bool:
        """Whether a client can log in with a token alone: no field of the login event but ``token`` is required."""
        fields = {} if self.login is None else self.login.model_fields
        return "token" in fields and all(name == "token" or not each.is_required() for name, each in fields.items())

    @functools.cached_property
    def for_login(self) -> Catalog | None:
        """The catalog of the login event alone, by which the first frame is decoded; None if there is none."""
        return None if self.login is None else Catalog((self.login,), ())

    @functools.cached_property
    def schema_hash(self) -> str:
        """
        A hash of everything that a client is generated from, by which the client notices that the server has changed.

        It covers the models in both directions, replies, the data of members, the login event, and the rooms that
        clients may subscribe to. Descriptions are left out.
        """
        facts = [
            [[name, _schema(model, "validation")] for name, model in sorted(self.receives.items())],
            [[name, _schema(model, "serialization")] for name, model in sorted(self.sends.items())],
            [[name, sorted(found)] for name, found in sorted(self._replies.items())],
            None if self._shown is None else _schema(self._shown, "serialization"),
            *([] if self.login is None else [meta(self.login).name]),
            *([list(self._subscriptions)] if self._subscriptions else []),
        ]
        text = json.dumps(without_words(as_plain(facts)), sort_keys=True).encode()
        return hashlib.sha256(text).hexdigest()[:16]

    def check_sends(self, event: Event) -> None:
        """
        Check that this consumer may send an event.

        Raises:
            UndeclaredEvent: The event is neither in ``out_events`` nor in the return annotation of a handler.
            TypeError: The object is not an event.
        """
        require_instance(event)
        if self.sends.get(meta(event).name) is not type(event):
            raise UndeclaredEvent(undeclared_message(event, "this consumer", self.sends))

    @functools.cached_property
    def _validator(self) -> BoundedValidator:
        # Created at first use, when all forward references of the models can be resolved.
        receives = self._readable

        class Envelope:
            @classmethod
            def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
                # A catalog that receives nothing still needs a schema; no JSON text can match it.
                if not receives:
                    return core_schema.is_instance_schema(Catalog)
                return core_schema.tagged_union_schema(
                    {
                        name: core_schema.typed_dict_schema(
                            {
                                "event": core_schema.typed_dict_field(core_schema.str_schema(strict=True)),
                                "data": core_schema.typed_dict_field(handler.generate_schema(model), required=False),
                                "ref": core_schema.typed_dict_field(ref_schema(), required=False),
                            }
                        )
                        for name, model in receives.items()
                    },
                    discriminator="event",
                )

        return BoundedValidator(TypeAdapter(Envelope).core_schema, "event")

    def _require_few_values(self, text: str, limit: int) -> None:
        if has_too_many_values(text, limit):
            raise TooManyValues(self._ref_of(text), limit)

    def _validate(self, text: str) -> Received:
        # A ValidationError or TooMuchWork says that the text fails, _explain() finds out why.
        envelope = self._validator.validate(text)
        name = envelope["event"]
        model = self._readable[name]
        event = envelope.get("data")
        if event is None:
            try:
                event = self._missing_data(model)
            except ValidationError as error:
                raise InvalidData(envelope.get("ref"), field_errors(error, model, {}, depth=0), name) from None
        if may_be_infinite(text, model) and not (is_finite(_parsed(text)) and is_finite(event.model_dump())):
            raise InvalidFrame(envelope.get("ref"))
        return Received(name, event, envelope.get("ref"))

    def _missing_data(self, model: type[Event]) -> Event:
        # Missing data means {}, or for a RootEvent the model's default.
        return model() if issubclass(model, RootEvent) else model.model_validate({})

    def _ref_of(self, text: str) -> Ref | None:
        # peek() is tried first, because it creates no Python objects for the data.
        try:
            return peek(text)[1]
        except InvalidFrame:
            return ref_of(text)

    def _explain(self, text: str, reason: Exception) -> InvalidFrame | UnknownEvent | InvalidData:
        # The slow path: find out why a frame has failed.
        try:
            envelope = from_json(text)
            name, ref = read_envelope(envelope)
        except (InvalidFrame, ValueError):
            return InvalidFrame(ref_of(text))
        model = self._readable.get(name)
        if model is None:
            return UnknownEvent(ref, name)
        if isinstance(reason, TooMuchWork):
            return InvalidData(ref, (TOO_COMPLEX,), name)
        data = envelope.get("data")
        try:
            error = self._validator.explain(text, envelope)
            if error is not None and error.error_count() > MAX_BUILT:
                # Pydantic builds either all errors or none, so reduce the data to get fewer.
                shorter = {**envelope, "data": shortened(data, model)}
                error = self._validator.explain(to_json(shorter).decode(), shorter)
        except TooMuchWork:
            return InvalidData(ref, (TOO_COMPLEX,), name)
        return InvalidData(ref, (UNEXPLAINED,) if error is None else field_errors(error, model, data), name)


def by_name(events: Iterable[type[Event]]) -> dict[str, type[Event]]:
    """
    Return events by their wire names.

    Raises:
        DeclarationError: Two classes have the same name.
        TypeError: A class is not an event, or is abstract.
    """
    found: dict[str, type[Event]] = {}
    for event in events:
        name = meta(event).name
        if found.setdefault(name, event) is not event:
            raise DeclarationError(
                f"two events have the name {name!r}: {found[name].__qualname__} and {event.__qualname__}; rename one"
            )
    return found


def undeclared_message(event: Event, where: str, known: Mapping[str, type[Event]], advice: str | None = None) -> str:
    """
    Return the message of the error for an event that isn't declared.

    Args:
        event: The event.
        where: The consumer or namespace that doesn't declare it, for the message.
        known: The events that are declared there, by name.
        advice: The advice if no declared event has the same name; None to advise declaring it.
    """
    names = ", ".join(sorted(known)) or "none"
    namesake = known.get(meta(event).name)
    if namesake is not None:
        return (
            f"{where} declares {namesake.__module__}.{namesake.__qualname__} as {meta(event).name!r}, not "
            f"{type(event).__module__}.{type(event).__qualname__}: import the same class (was its module loaded twice?)"
        )
    return f"{where} does not declare {type(event).__qualname__} ({meta(event).name!r}); it declares: {names}. " + (
        advice or "Add it to out_events"
    )


def _schema(model: type[BaseModel], mode: JsonSchemaMode) -> Any:
    try:
        return model.model_json_schema(by_alias=True, mode=mode, schema_generator=Schema)
    except PydanticInvalidForJsonSchema:
        return sorted(model.model_fields)


def _parsed(text: str) -> Any:
    try:
        return from_json(text, allow_inf_nan=False)
    except ValueError:
        return math.inf
