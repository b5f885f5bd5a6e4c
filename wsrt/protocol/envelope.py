"""
The envelope, ``{"event": string, "data": any}`` with optional keys, and its encoding and parsing.

Outgoing frames are assembled from parts. The head comes from the event's class, the data from the model's serializer,
and the tail has the ``ref`` or ``room`` of the individual frame.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, core_schema, from_json, to_json

from ..exceptions import InvalidFrame, UnsendableEvent
from ..types import FieldError, Overflow, Position, Ref
from .events import Event, EventMeta, meta
from .frame import Frame
from .numbers import is_finite, may_hold_infinity

MAX_FRAME_BYTES = 1_048_576
"""The maximum size of a frame, in bytes. Publishing a larger event raises UnsendableEvent; Daphne accepts no more."""

CHARACTER_BYTES = 6
"""The most bytes that a character of a name needs in a frame: as an escape. Other ones need at most 4."""

BESIDE_BYTES = 512
"""More than the bytes of a frame without its names and data: the keys and the longest position."""

MAX_REF = 64
"""The maximum length of a ref, in characters."""


class Encoded:
    """
    An event, encoded once for all recipients and nodes.

    Attributes:
        event: The wire name.
        data: The data as JSON text.
        overflow: What happens for a client that is behind.
        key: With overflow="latest", the key that identifies the waiting frame to replace; otherwise None.
    """

    __slots__ = ("data", "event", "key", "overflow")

    def __init__(self, event: str, data: str, overflow: Overflow = "close", key: str | None = None) -> None:
        self.event = event
        self.data = data
        self.overflow = overflow
        self.key = key

    def fits(self, *, room: str | None) -> bool:
        """
        Return whether no frame of the event to a room, with any position, can be larger than 1 MiB.

        It needs no frame. False means that frame() has to check.
        """
        return CHARACTER_BYTES * (len(self.event) + len(self.data) + len(room or "")) + BESIDE_BYTES <= MAX_FRAME_BYTES

    def frame(self, *, ref: Ref | None = None, room: str | None = None, position: Position | None = None) -> Frame:
        """
        Return the frame of the event.

        Args:
            ref: The ref of the request that it answers.
            room: The name of the room, if it is published to one room.
            position: The position in the history of the room, if it is kept there.

        Raises:
            UnsendableEvent: The frame is larger than 1 MiB.
        """
        text = f"{_head_of(self.event)}{self.data}{_beside('ref', ref)}{_beside('room', room)}"
        if position is not None:
            text += f"{_beside('epoch', position.epoch)}{_beside('offset', position.offset)}"
        text += "}"
        # A request must be answered exactly once, so its answer is never skipped or replaced.
        frame = Frame(text, self.overflow, self.key) if ref is None else Frame(text)
        if frame.size > MAX_FRAME_BYTES:
            raise UnsendableEvent(
                f"{self.event}: {frame.size} bytes, the limit is {MAX_FRAME_BYTES}; send an id by which clients can "
                "load the data"
            )
        return frame


def encode(event: Event, *, address: Sequence[Any] | None = None) -> Encoded:
    """
    Encode an event. The data is the dump of the model.

    Args:
        event: The event.
        address: The address that the event is published to, as plain data. For an event with overflow="latest", a frame
            only replaces frames to the same address.

    Raises:
        TypeError: The object is not an event, or its class is abstract.
        UnsendableEvent: The event holds values that validation would have refused.
    """
    declared = meta(event)
    try:
        # warnings="error" raises for values of a wrong type that bypassed validation, as with model_construct().
        # by_alias: the schema uses aliases, and nested models don't inherit the event's configuration.
        data = event.__pydantic_serializer__.to_json(event, warnings="error", by_alias=True).decode()
    except (PydanticSerializationError, UnicodeError) as error:
        raise UnsendableEvent(f"{declared.name}: cannot be encoded: {error}") from error
    if ("NaN" in data or "Infinity" in data) and not _is_standard_json(data):
        raise UnsendableEvent(f"{declared.name}: NaN and Infinity are not valid JSON; validate the event, or send null")
    if "null" in data and may_hold_infinity(type(event)) and not is_finite(event.model_dump()):
        # Nested models have their own configuration, by which NaN may have become null.
        raise UnsendableEvent(f"{declared.name}: NaN and Infinity are not valid JSON; validate the event, or send null")
    key = None
    if declared.overflow == "latest":
        key = to_json([declared.name, _key_values(event, declared), address], bytes_mode="base64").decode()
    return Encoded(declared.name, data, declared.overflow, key)


def value_key(event: Event) -> str | None:
    """Return the key under which history keeps the last event; None for an event without ``history="latest"``."""
    declared = meta(event)
    if declared.history != "latest":
        return None
    return key_of_values(declared, _key_values(event, declared))


def key_of_values(declared: EventMeta, values: Sequence[Any]) -> str:
    """Return the key under which history keeps the last event whose key fields have these values."""
    return to_json([declared.name, list(values)], bytes_mode="base64").decode()


def values_of_key(key: str) -> tuple[Any, ...]:
    """Return the values of the key fields, as plain data, of which history made a key."""
    return tuple(from_json(key)[1])


def _key_values(event: Event, declared: EventMeta) -> list[Any]:
    return [getattr(event, field) for field in declared.key]


@functools.lru_cache(maxsize=1024)
def _head_of(event: str) -> str:
    return f'{{"event":{to_json(event).decode()},"data":'


def reserved(name: str, data: dict[str, Any], *, ref: Ref | None = None) -> Frame:
    """Return the frame of a reserved event."""
    return Frame(f'{{"event":"{name}","data":{to_json(data).decode()}{_beside("ref", ref)}}}')


def error(code: str, message: str, *, errors: Sequence[FieldError] = (), ref: Ref | None = None) -> Frame:
    """Return the frame of ``wsrt.error``."""
    # An application's text may hold a lone surrogate, which can't be encoded as UTF-8.
    code, message = _clean(code), _clean(message)
    cleaned = [
        {**entry, "loc": [_clean(part) for part in entry["loc"]], "msg": _clean(entry["msg"])} for entry in errors
    ]
    return reserved("wsrt.error", {"code": code, "message": message, "errors": cleaned}, ref=ref)


def peek(frame: str | bytes) -> tuple[str, Ref | None]:
    """
    Return the event name and the ref of a frame, without looking at its data.

    Raises:
        InvalidFrame: The frame is not an envelope.
    """
    try:
        envelope = _ENVELOPE.validate_json(as_text(frame))
    except ValidationError:
        raise InvalidFrame from None
    return envelope["event"], envelope.get("ref")


def read_envelope(envelope: Any) -> tuple[str, Ref | None]:
    """
    Return the event name and the ref of a parsed frame.

    Raises:
        InvalidFrame: The value is not an envelope.
    """
    try:
        read = _ENVELOPE.validate_python(envelope)
    except ValidationError:
        raise InvalidFrame from None
    return read["event"], read.get("ref")


_HALF = re.compile(
    r"\\ud[89ab][0-9a-f]{2}(?!\\ud[c-f][0-9a-f]{2})|(?<!\\ud[89ab][0-9a-f]{2})\\ud[c-f][0-9a-f]{2}", re.IGNORECASE
)
"""Matches the escape of a lone surrogate."""


def ref_of(frame: str | bytes) -> Ref | None:
    """Return the ref of a frame that is a JSON object, even if it isn't an envelope; None if there is no valid ref."""
    try:
        # JavaScript may cut a string between the surrogates of a character, and encodes the lone one as an escape.
        found = from_json(_HALF.sub(r"\\ufffd", as_text(frame)))
        return _REF.validate_python(found.get("ref")) if isinstance(found, dict) else None
    except (InvalidFrame, ValueError):
        return None


def as_text(frame: str | bytes) -> str:
    """
    Return a frame as text.

    Raises:
        InvalidFrame: The frame is not valid UTF-8, or has lone surrogates.
    """
    try:
        if isinstance(frame, bytes):
            return frame.decode()
        if not frame.isascii():
            frame.encode()
    except UnicodeError:
        raise InvalidFrame from None
    return frame


def ref_schema() -> core_schema.CoreSchema:
    """Return the schema of a ref: a string or integer of at most 64 characters, or null for none."""
    digits = 10**MAX_REF - 1
    return core_schema.nullable_schema(
        core_schema.union_schema(
            [
                core_schema.str_schema(strict=True, max_length=MAX_REF),
                core_schema.int_schema(strict=True, ge=-digits // 10, le=digits),
            ]
        )
    )


def _beside(key: str, value: Ref | None) -> str:
    return "" if value is None else f',"{key}":{to_json(value).decode()}'


def _clean(text: Any) -> Any:
    return text.encode("utf-8", "replace").decode() if isinstance(text, str) else text


def _is_standard_json(data: str) -> bool:
    try:
        from_json(data, allow_inf_nan=False)
    except ValueError:
        return False
    return True


class _Envelope:
    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.typed_dict_schema(
            {
                "event": core_schema.typed_dict_field(core_schema.str_schema(strict=True)),
                "ref": core_schema.typed_dict_field(ref_schema(), required=False),
            }
        )


_ENVELOPE: TypeAdapter[Any] = TypeAdapter(_Envelope)


class _Ref:
    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        return ref_schema()


_REF: TypeAdapter[Any] = TypeAdapter(_Ref)
