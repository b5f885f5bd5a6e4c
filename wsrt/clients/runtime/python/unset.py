"""What an event leaves out, because the server fills it in."""

from __future__ import annotations

import enum
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar

from pydantic import Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

T = TypeVar("T")


class Unset(enum.Enum):
    """
    The type of UNSET: the value of a field that is not sent, and of one that did not come.

    It is false: ``event.tags or []``. ``is UNSET`` tells it from values that are false as well.
    """

    UNSET = "UNSET"

    def __bool__(self) -> Literal[False]:
        return False

    def __repr__(self) -> str:
        return "UNSET"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # Nothing in JSON is this, not even "UNSET".
        return core_schema.is_instance_schema(cls)


UNSET: Final = Unset.UNSET
"""Nobody has set this field: the server puts in its own value, which is not known here."""


def _is_unset(value: object) -> bool:
    return value is UNSET


Omittable: TypeAlias = Annotated[T | Unset, Field(exclude_if=_is_unset)]
"""The type of a field that may be left out; its default is UNSET."""
