"""The detection of numbers that JSON doesn't have: NaN, the infinities, and literals that overflow to them."""

from __future__ import annotations

import functools
import math
import re
from decimal import Decimal
from typing import Any

from .events import Event

__all__ = ["is_finite", "may_be_infinite", "may_hold_infinity"]

# These also match inside strings, because some fields accept strings as numbers.
_EXPONENT = re.compile(r"[0-9][eE]\+?[0-9]{3}")
_DIGIT = re.compile(r"[0-9]")
_LONG = re.compile(r"(?<![0-9])[0-9]{300}")
_WORD = re.compile(r'(?:["\s]|\\[nrtf]|\\u[0-9a-f]{4})[+-]?(?:nan|inf(?:inity)?)(?=[\s"\\])')
_ESCAPED = re.compile(r"\\u00[2-7]")


def may_be_infinite(text: str, model: type[Event]) -> bool:
    """
    Return whether a frame may hold a number that is not finite. False is certain, True needs a closer look.

    Args:
        text: The frame, which is valid JSON except for the literals NaN and Infinity.
        model: The model of its event.
    """
    if "NaN" in text or "Infinity" in text or _EXPONENT.search(text):
        return True
    # A run of 300 digits has one at a multiple of 300.
    if len(text) > 300 and _DIGIT.search(text[::300]) and _LONG.search(text):
        return True
    return may_hold_infinity(model) and _may_hold_words(text)


def _may_hold_words(text: str) -> bool:
    small = text.lower()
    return bool((("nan" in small or "inf" in small) and _WORD.search(small)) or _ESCAPED.search(small))


def is_finite(data: Any) -> bool:
    """Return whether plain data holds neither NaN nor an infinity at any depth."""
    if isinstance(data, float):
        return math.isfinite(data)
    if isinstance(data, Decimal):
        return data.is_finite()
    if isinstance(data, dict):
        return all(map(is_finite, data.values()))
    return not isinstance(data, list | tuple | set | frozenset) or all(map(is_finite, data))


ANYTHING = frozenset({"any", "function-plain", "function-wrap", "is-instance"})
"""The types of core schemas that accept any value."""


@functools.cache
def may_hold_infinity(model: type[Event]) -> bool:
    """Return whether a nested model, which has its own configuration, may hold a float that is not finite."""
    return _holds_infinity(model.__pydantic_core_schema__)


def _holds_infinity(schema: Any) -> bool:
    if isinstance(schema, dict):
        kind = schema.get("type")
        is_open = kind in ANYTHING or (kind == "float" and schema.get("allow_inf_nan") is not False)
        return is_open or any(map(_holds_infinity, schema.values()))
    return isinstance(schema, list | tuple) and any(map(_holds_infinity, schema))
