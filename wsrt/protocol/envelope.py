"""
The envelope: ``{"event": string, "data": any}`` and what may stand beside them.

Outgoing frames are put together from parts that are encoded once: the head comes from the event's class, the data from
the model's own serializer, the tail (``ref`` or ``room``) from the occasion.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, core_schema, from_json, to_json

from ..exceptions import InvalidFrame, UnsendableEvent
from ..types import FieldError, Overflow, Ref
from .events import Event, meta
from .frame import Frame
from .numbers import is_finite, may_hold_infinity

MAX_FRAME_BYTES = 1_048_576
"""An event over 1 MiB raises when it is published: Daphne refuses more, and an outbox holds no more."""

MAX_REF = 64


class Encoded:
    """
    An event, encoded once for all recipients and nodes.

    Attributes:
        event: the wire name.
        data: the data as JSON text.
        overflow: what happens for a client that is behind.
        key: with "latest", what tells one waiting frame from another; else None.
    """

    __slots__ = ("data", "event", "key", "overflow")

    def __init__(self, event: str, data: str, overflow: Overflow = "close", key: str | None = None) -> None:
        self.event = event
        self.data = data
        self.overflow = overflow
        self.key = key

    def frame(self, *, ref: Ref | None = None, room: str | None = None) -> Frame:
        """
        Return the frame of the event.

        Args:
            ref: the request that it answers.
            room: the one room that it is published to.

        Raises:
            UnsendableEvent: the frame is over 1 MiB.
        """
        text = f"{_head_of(self.event)}{self.data}{_beside('ref', ref)}{_beside('room', room)}}}"
        # A request is answered exactly once, also with an event that may be skipped otherwise.
        frame = Frame(text, self.overflow, self.key) if ref is None else Frame(text)
        if frame.size > MAX_FRAME_BYTES:
            raise UnsendableEvent(
                f"{self.event}: {frame.size} bytes, the limit is {MAX_FRAME_BYTES}; publish a reference to large data"
            )
        return frame


def encode(event: Event, *, address: Sequence[Any] | None = None) -> Encoded:
    """
    Encode an event; its data is the model's own dump, never the caller's object (S7).

    Args:
        address: to whom it is published; with "latest" a frame replaces one to the same address only.

    Raises:
        TypeError: it is no event, or of an abstract class.
        UnsendableEvent: it holds what validation would have refused.
    """
    declared = meta(event)
    try:
        # warnings="error": a value of another type than the field's was put in past validation.
        # By alias, as the schema says; models within an event do not inherit how it is configured.
        data = event.__pydantic_serializer__.to_json(event, warnings="error", by_alias=True).decode()
    except (PydanticSerializationError, UnicodeError) as error:
        raise UnsendableEvent(f"{declared.name}: cannot be encoded: {error}") from error
    if ("NaN" in data or "Infinity" in data) and not _is_standard_json(data):
        raise UnsendableEvent(f"{declared.name}: NaN and Infinity are no JSON; validate the event, or send null")
    if "null" in data and may_hold_infinity(type(event)) and not is_finite(event.model_dump()):
        # Models within an event have a configuration of their own, by which NaN becomes null.
        raise UnsendableEvent(f"{declared.name}: NaN and Infinity are no JSON; validate the event, or send null")
    key = None
    if declared.key:
        values = [getattr(event, field) for field in declared.key]
        key = to_json([declared.name, values, address], bytes_mode="base64").decode()
    return Encoded(declared.name, data, declared.overflow, key)


@functools.lru_cache(maxsize=1024)
def _head_of(event: str) -> str:
    return f'{{"event":{to_json(event).decode()},"data":'


def reserved(name: str, data: dict[str, Any], *, ref: Ref | None = None) -> Frame:
    """Return the frame of a reserved event."""
    return Frame(f'{{"event":"{name}","data":{to_json(data).decode()}{_beside("ref", ref)}}}')


def error(code: str, message: str, *, errors: Sequence[FieldError] = (), ref: Ref | None = None) -> Frame:
    """Return ``wsrt.error``."""
    # Text of an application may hold a lone surrogate, which is no UTF-8 and thus no frame.
    code, message = _clean(code), _clean(message)
    cleaned = [
        {**entry, "loc": [_clean(part) for part in entry["loc"]], "msg": _clean(entry["msg"])} for entry in errors
    ]
    return reserved("wsrt.error", {"code": code, "message": message, "errors": cleaned}, ref=ref)


def peek(frame: str | bytes) -> tuple[str, Ref | None]:
    """
    Return event name and ref of an envelope, without looking at its data.

    Raises:
        InvalidFrame: it is no envelope.
    """
    try:
        envelope = _ENVELOPE.validate_json(as_text(frame))
    except ValidationError:
        raise InvalidFrame from None
    return envelope["event"], envelope.get("ref")


def read_envelope(envelope: Any) -> tuple[str, Ref | None]:
    """
    Return event name and ref of a frame that was parsed already.

    Raises:
        InvalidFrame: it is not an envelope.
    """
    try:
        read = _ENVELOPE.validate_python(envelope)
    except ValidationError:
        raise InvalidFrame from None
    return read["event"], read.get("ref")


_HALF = re.compile(
    r"\\ud[89ab][0-9a-f]{2}(?!\\ud[c-f][0-9a-f]{2})|(?<!\\ud[89ab][0-9a-f]{2})\\ud[c-f][0-9a-f]{2}", re.IGNORECASE
)
"""The escape of half a character."""


def ref_of(frame: str | bytes) -> Ref | None:
    """Return the ref of whatever is an object of JSON; None where there is none to be read."""
    try:
        # JavaScript cuts text between the halves of a character, and writes what is left as an escape that is no text.
        found = from_json(_HALF.sub(r"\\ufffd", as_text(frame)))
        return _REF.validate_python(found.get("ref")) if isinstance(found, dict) else None
    except (InvalidFrame, ValueError):
        return None


def as_text(frame: str | bytes) -> str:
    """
    Return a frame as the text that it has to be.

    Raises:
        InvalidFrame: it is not UTF-8.
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
    """Return the schema of a ref: a string or integer of at most 64 characters; null is none."""
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
