"""The patterns of the rooms that clients may subscribe to."""

from __future__ import annotations

import re
from collections.abc import Iterable

from django.urls.converters import get_converters

from ..addresses import RESERVED

PARAMETER = re.compile(r"<(?:([^<>:]+):)?[^<>:]+>")
"""A parameter of a pattern, such as "<int:pk>", with its converter."""

EXAMPLE = 'such as "order.<int:pk>"'


class RoomPattern:
    """
    A pattern of room names, in the syntax of Django's ``path()``: text, and parameters with a converter.

    A parameter ends where the text after it first occurs, so matching takes a time that is linear in the length of the
    name, whatever name a client sends.

    Args:
        text: The pattern, such as "order.<int:pk>".

    Raises:
        ValueError: It isn't a valid pattern. The message says why.
    """

    __slots__ = ("_head", "_parts", "text")

    def __init__(self, text: object) -> None:
        if not isinstance(text, str) or not text:
            raise ValueError(f"a pattern must be a non-empty string, {EXAMPLE}, not {text!r}")
        if set(PARAMETER.sub("", text)) & set("<>"):
            raise ValueError(
                f"a pattern has an angle bracket outside of a parameter: write a parameter, {EXAMPLE}, not {text!r}"
            )
        if "*" in text:
            raise ValueError(f"a pattern can't contain wildcards: write a parameter, {EXAMPLE}, not {text!r}")
        if text.startswith(RESERVED):
            raise ValueError(f"a pattern names rooms that begin with {RESERVED!r}, which are reserved: {text!r}")
        self.text = text
        # The text before the first parameter, and for each parameter its converter and the text after it.
        pieces = PARAMETER.split(text)
        self._head, converters, texts = pieces[0], pieces[1::2], pieces[2::2]
        if "" in texts[:-1]:
            raise ValueError(f"a pattern has two parameters without text between them: {text!r}")
        self._parts: list[tuple[re.Pattern[str], str]] = []
        for converter, after in zip(converters, texts, strict=True):
            try:
                self._parts.append((re.compile(get_converters()[converter or "str"].regex), after))
            except KeyError:
                raise ValueError(
                    f"the converter {converter!r} of the pattern {text!r} isn't registered: call register_converter() "
                    "above the class"
                ) from None

    def matches(self, room: str) -> bool:
        """Return whether a room has a name of this pattern."""
        if not room.startswith(self._head):
            return False
        start = len(self._head)
        for regex, text in self._parts:
            # A parameter has at least one character.
            end = room.find(text, start + 1) if text else len(room)
            if end < 0 or regex.fullmatch(room, start, end) is None:
                return False
            start = end + len(text)
        return start == len(room)


def room_patterns(patterns: object) -> tuple[RoomPattern, ...]:
    """
    Return the patterns that a consumer declares.

    Raises:
        ValueError: They aren't valid. The message says why.
    """
    if isinstance(patterns, str) or not isinstance(patterns, Iterable):
        raise ValueError(f'they must be a tuple of patterns, such as ("order.<int:pk>",), not {patterns!r}')
    return tuple(map(RoomPattern, patterns))
