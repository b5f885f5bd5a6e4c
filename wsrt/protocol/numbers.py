"""Numbers that JSON cannot hold: NaN, the infinities, and what becomes one of them."""

from __future__ import annotations

import re

from .events import Event, may_hold_infinity

__all__ = ["may_be_infinite"]

# In strings too, which some fields take for numbers.
_EXPONENT = re.compile(r"[0-9][eE]\+?[0-9]{3}")
_DIGIT = re.compile(r"[0-9]")
_LONG = re.compile(r"(?<![0-9])[0-9]{300}")
_WORD = re.compile(r'(?:["\s]|\\[nrtf]|\\u[0-9a-f]{4})[+-]?(?:nan|inf(?:inity)?)(?=[\s"\\])')
_ESCAPED = re.compile(r"\\u00[2-7]")


def may_be_infinite(text: str, model: type[Event]) -> bool:
    """
    Return whether a frame may hold a number that is not finite; False is certain.

    Args:
        text: valid JSON, but for the literals NaN and Infinity.
        model: of its event; some take strings for numbers.
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
