"""Events: the base classes of generated models, and how they are declared."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

R_co = TypeVar("R_co", covariant=True)

CONFIG = ConfigDict(
    # Not "extra", which models of data that is no object do not have. Its default ignores what a newer server adds.
    frozen=True,
    allow_inf_nan=False,
    ser_json_bytes="base64",
    val_json_bytes="base64",
    validate_by_name=True,
    validate_by_alias=True,
    serialize_by_alias=True,
    # Field names are the server's: none is ours to reserve.
    protected_namespaces=(),
)


class Model(BaseModel):
    """The base of generated models: events, and what they consist of."""

    model_config = CONFIG


class Incoming(Model):
    """The base of the events that the server sends."""


if TYPE_CHECKING:

    class Outgoing(Model, Generic[R_co]):
        """The base of the events that the client sends; the parameter is what a request with it returns."""

else:

    class Outgoing(Model):
        """The base of the events that the client sends; the parameter is what a request with it returns."""

        def __class_getitem__(cls, reply: Any) -> type[Outgoing]:
            # For type checkers alone: the reply may be a class that is defined further down, in quotes.
            return cls


@dataclasses.dataclass(frozen=True, slots=True)
class Sends:
    """
    An event that the client sends.

    Attributes:
        name: on the wire.
        replies: the models of the events that may answer it, by name. ``wsrt.ok``, which is None, needs no entry.
    """

    name: str
    replies: Mapping[str, type[BaseModel]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Delivery:
    """
    How an event came.

    Attributes:
        event: its name.
        room: the room that it was published to, if it was exactly one.
        epoch, offset: its place in the room's history, if there is one.
    """

    event: str
    room: str | None = None
    epoch: str | None = None
    offset: int | None = None
