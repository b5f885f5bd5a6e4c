"""
The events that a consumer receives and sends, and the decoding of frames to events.

Decoding is one pass: the text goes through a single Pydantic validator that tells the events apart by name, and out
come the name, the model and the ref.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
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
from ..types import Ref
from .bounds import BoundedValidator, TooMuchWork, has_too_many_values
from .envelope import as_text, peek, read_envelope, ref_of, ref_schema
from .errors import MAX_BUILT, TOO_COMPLEX, UNEXPLAINED, field_errors, shortened
from .events import Event, RootEvent, meta, require_instance
from .numbers import is_finite, may_be_infinite
from .schema import Schema, as_plain, without_words

__all__ = ["Catalog", "Received", "undeclared_message"]

MAX_VALUES = 10_000
"""JSON values of one frame, where no limit is given."""


class Received:
    """An event as it came from the client, with the ref that makes it a request."""

    __slots__ = ("event", "name", "ref")

    def __init__(self, name: str, event: Event, ref: Ref | None) -> None:
        self.name = name
        self.event = event
        self.ref = ref


class Catalog:
    """
    The events of one consumer class.

    Attributes:
        receives: what its clients may send, by name.
        sends: what it may send to them, by name; replies included.

    Args:
        replies: names of the answers to an event, by its own name.
        shown: what members of a room show of themselves; None where they show nothing.
    """

    def __init__(
        self,
        receives: Iterable[type[Event]],
        sends: Iterable[type[Event]],
        replies: Mapping[str, Sequence[str]] | None = None,
        shown: type[BaseModel] | None = None,
    ) -> None:
        self.receives = by_name(receives)
        self.sends = by_name(sends)
        self._replies = replies or {}
        self._shown = shown

    def decode(self, frame: str | bytes, max_values: int = MAX_VALUES) -> Received:
        """
        Return the event in a frame; a binary one is read as UTF-8 text (S8).

        Args:
            max_values: how many JSON values it may hold.

        Raises:
            InvalidFrame: it is not an envelope.
            TooManyValues: it holds more than ``max_values``.
            UnknownEvent: its event is not in ``receives``.
            InvalidData: its data fails the model.
        """
        text = as_text(frame)
        if has_too_many_values(text, max_values):
            raise TooManyValues(self._ref_of(text), max_values)
        try:
            envelope = self._validator.validate(text)
        except (ValidationError, TooMuchWork) as error:
            raise self._explain(text, error.with_traceback(None)) from None
        name = envelope["event"]
        model = self.receives[name]
        event = envelope.get("data")
        if event is None:
            try:
                event = self._missing_data(model)
            except ValidationError as error:
                raise InvalidData(envelope.get("ref"), field_errors(error, model, {}, depth=0)) from None
        if may_be_infinite(text, model) and not (is_finite(_parsed(text)) and is_finite(event.model_dump())):
            raise InvalidFrame(envelope.get("ref"))
        return Received(name, event, envelope.get("ref"))

    @property
    def is_recursive(self) -> bool:
        """Whether a frame of any size may take long, because of a recursive union."""
        return self._validator.is_recursive

    @functools.cached_property
    def schema_hash(self) -> str:
        """
        A hash of all that a client is generated from, by which it sees that the server has become another.

        What goes in: models in both directions, answers, and what members show. Not descriptions, which change nothing.
        """
        facts = [
            [[name, _schema(model, "validation")] for name, model in sorted(self.receives.items())],
            [[name, _schema(model, "serialization")] for name, model in sorted(self.sends.items())],
            [[name, sorted(found)] for name, found in sorted(self._replies.items())],
            None if self._shown is None else _schema(self._shown, "serialization"),
        ]
        text = json.dumps(without_words(as_plain(facts)), sort_keys=True).encode()
        return hashlib.sha256(text).hexdigest()[:16]

    def check_sends(self, event: Event) -> None:
        """
        Check that this consumer may send the event.

        Raises:
            UndeclaredEvent: it is not in ``out_events`` or the annotation of a handler.
            TypeError: it is no event.
        """
        require_instance(event)
        if self.sends.get(meta(event).name) is not type(event):
            raise UndeclaredEvent(undeclared_message(event, "this consumer", self.sends))

    @functools.cached_property
    def _validator(self) -> BoundedValidator:
        # Made at first use: by then every forward reference of the models can be resolved.
        receives = self.receives

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

    def _missing_data(self, model: type[Event]) -> Event:
        # Missing data stands for {}; where the data is no object, for the model's default.
        return model() if issubclass(model, RootEvent) else model.model_validate({})

    def _ref_of(self, text: str) -> Ref | None:
        # peek() makes no Python objects of what it skips.
        try:
            return peek(text)[1]
        except InvalidFrame:
            return ref_of(text)

    def _explain(self, text: str, reason: Exception) -> InvalidFrame | UnknownEvent | InvalidData:
        # The slow path: find out what a frame that failed was meant to be.
        try:
            envelope = from_json(text)
            name, ref = read_envelope(envelope)
        except (InvalidFrame, ValueError):
            return InvalidFrame(ref_of(text))
        model = self.receives.get(name)
        if model is None:
            return UnknownEvent(ref, name)
        if isinstance(reason, TooMuchWork):
            return InvalidData(ref, (TOO_COMPLEX,))
        data = envelope.get("data")
        try:
            error = self._validator.explain(text, envelope)
            if error is not None and error.error_count() > MAX_BUILT:
                # Pydantic builds all of them or none.
                shorter = {**envelope, "data": shortened(data, model)}
                error = self._validator.explain(to_json(shorter).decode(), shorter)
        except TooMuchWork:
            return InvalidData(ref, (TOO_COMPLEX,))
        return InvalidData(ref, (UNEXPLAINED,) if error is None else field_errors(error, model, data))


def by_name(events: Iterable[type[Event]]) -> dict[str, type[Event]]:
    """
    Return events by wire name.

    Raises:
        DeclarationError: two classes have one name.
        TypeError: one is no event, or abstract.
    """
    found: dict[str, type[Event]] = {}
    for event in events:
        name = meta(event).name
        if found.setdefault(name, event) is not event:
            raise DeclarationError(
                f"two events are called {name!r}: {found[name].__qualname__} and {event.__qualname__}; rename one"
            )
    return found


def undeclared_message(event: Event, where: str, known: Mapping[str, type[Event]]) -> str:
    names = ", ".join(sorted(known)) or "none"
    namesake = known.get(meta(event).name)
    if namesake is not None:
        return (
            f"{where} declares {namesake.__module__}.{namesake.__qualname__} as {meta(event).name!r}, not "
            f"{type(event).__module__}.{type(event).__qualname__}: import the same class (was its module loaded twice?)"
        )
    return (
        f"{where} does not declare {type(event).__qualname__} ({meta(event).name!r}); declared are: {names}. "
        "Add it to out_events"
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
