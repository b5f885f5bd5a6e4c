"""The paths of consumers, built from URL patterns and their parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias
from urllib.parse import quote
from uuid import UUID

Segment: TypeAlias = str | int | UUID
"""The value of a parameter of a URL pattern."""

PARAMETER = re.compile(r"\{(\w+)\}")


def path_of(patterns: Sequence[str], parameters: Mapping[str, Segment | None]) -> str:
    """
    Return the percent-encoded path for the pattern with exactly these parameters.

    Args:
        patterns: URL patterns, such as ``/ws/{room}/``.
        parameters: The parameters by name. Those that are None are ignored.

    Raises:
        TypeError: No pattern has exactly these parameters.
        ValueError: A parameter is empty, ``.`` or ``..``, which would lead to another path.
    """
    given = {name: value for name, value in parameters.items() if value is not None}
    for pattern in patterns:
        if set(PARAMETER.findall(pattern)) == set(given):
            return PARAMETER.sub(lambda match: _percent_encoded(match[1], given[match[1]]), pattern)
    names = ", ".join(sorted(given)) or "none"
    raise TypeError(f"no pattern has exactly these parameters: {names}; the patterns are {', '.join(patterns)}")


def _percent_encoded(name: str, value: Segment) -> str:
    text = str(value)
    if text in ("", ".", ".."):
        raise ValueError(f"the path parameter {name} can't be {text!r}")
    return quote(text, safe="")
