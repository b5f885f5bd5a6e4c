"""Paths: what leads to a consumer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias
from urllib.parse import quote
from uuid import UUID

Segment: TypeAlias = str | int | UUID
"""What may stand for a parameter of a URL pattern."""

PARAMETER = re.compile(r"\{(\w+)\}")


def path_of(patterns: Sequence[str], parameters: Mapping[str, Segment | None]) -> str:
    """
    Return the path of that pattern which has just these parameters, percent-encoded; those that are None count not.

    Raises:
        TypeError: no pattern has just these parameters.
        ValueError: one would not stand there as itself: it is empty, or a step to another path.
    """
    given = {name: value for name, value in parameters.items() if value is not None}
    for pattern in patterns:
        if set(PARAMETER.findall(pattern)) == set(given):
            return PARAMETER.sub(lambda match: _percent_encoded(match[1], given[match[1]]), pattern)
    names = ", ".join(sorted(given)) or "none"
    raise TypeError(f"{' or '.join(patterns)} is the pattern, the parameters are: {names}")


def _percent_encoded(name: str, value: Segment) -> str:
    text = str(value)
    if text in ("", ".", ".."):
        raise ValueError(f"{name} can not be {text!r} in a path")
    return quote(text, safe="")
