"""The base classes of generated models, and the declarations of events."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

R_co = TypeVar("R_co", covariant=True)

CONFIG = ConfigDict(
    # "extra" isn't set, because root models don't allow it. Its default ignores fields added by a newer server.
    frozen=True,
    allow_inf_nan=False,
    ser_json_bytes="base64",
    val_json_bytes="base64",
    validate_by_name=True,
    validate_by_alias=True,
    serialize_by_alias=True,
    # The server chooses the names of fields, so no prefix can be reserved here.
    protected_namespaces=(),
)


class Model(BaseModel):
    """The base class of generated models: events and their parts."""

    model_config = CONFIG


class Incoming(Model):
    """The base class of the events that the server sends."""


if TYPE_CHECKING:

    class Outgoing(Model, Generic[R_co]):
        """The base class of the events that the client sends. Its type parameter is the type of the answer."""

else:

    class Outgoing(Model):
        """The base class of the events that the client sends. Its type parameter is the type of the answer."""

        def __class_getitem__(cls, reply: Any) -> type[Outgoing]:
            # The parameter is for type checkers only. It may be the quoted name of a class defined further down.
            return cls


@dataclasses.dataclass(frozen=True, slots=True)
class Sends:
    """
    The declaration of an event that the client sends.

    Attributes:
        name: The event's name on the wire.
        replies: The models of the events that may answer it, by name. ``wsrt.ok``, returned as None, has no entry.
    """

    name: str
    replies: Mapping[str, type[BaseModel]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Delivery:
    """
    Where a received event was published.

    Attributes:
        event: The event's name.
        room: The room that the event was published to. None if it wasn't published to a single room.
        epoch, offset: The event's position in the room's history. None if the server keeps no history.
    """

    event: str
    room: str | None = None
    epoch: str | None = None
    offset: int | None = None
