"""The value of fields that an event leaves out, for the server to fill in."""

from __future__ import annotations

import enum
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar

from pydantic import Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

T = TypeVar("T")


class Unset(enum.Enum):
    """
    The type of UNSET, the value of a field that isn't sent or wasn't received.

    UNSET is false, for ``event.tags or []``. Use ``is UNSET`` to distinguish it from other false values.
    """

    UNSET = "UNSET"

    def __bool__(self) -> Literal[False]:
        return False

    def __repr__(self) -> str:
        return "UNSET"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # No JSON value validates as UNSET, not even the string "UNSET".
        return core_schema.is_instance_schema(cls)


UNSET: Final = Unset.UNSET
"""The field isn't set. The server uses its own default, which the client doesn't know."""


def _is_unset(value: object) -> bool:
    return value is UNSET


Omittable: TypeAlias = Annotated[T | Unset, Field(exclude_if=_is_unset)]
"""The type of a field that may be left out. Its default is UNSET."""
