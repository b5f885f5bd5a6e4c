"""Options: what a store looks at when it is made, so that a wrong setting is told then and not at the first crash."""

from __future__ import annotations

import math

DAY = 86_400
"""Seconds. Nothing here waits for longer, and stores can tell it in milliseconds."""


def require_number(
    name: str, value: object, says: str, *, least: float, most: float = math.inf, whole: bool = False
) -> None:
    """
    Check a number.

    Args:
        name: of the option, as the setting has it.
        says: what it is, such as "an integer from 1 to 250".
        whole: whether it is an integer.

    Raises:
        ValueError: it is none, or out of bounds. A bool is no number.
    """
    is_number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    # Written so that NaN does not fit.
    if not is_number or not least <= value <= most or value == math.inf:  # type: ignore[operator]  # it is a number
        raise ValueError(f"{name} is {says}, not {value!r}")


def require_seconds(name: str, value: object, *, least: float = 0.001) -> None:
    """Check a number of seconds, of at most a day. Raises ValueError."""
    require_number(name, value, f"a number of seconds from {least:g} to {DAY}", least=least, most=DAY)


def require_text(name: str, value: object) -> None:
    """Check a string that is not empty. Raises ValueError."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} is a string that is not empty, not {value!r}")


def require_truth(name: str, value: object) -> None:
    """Check a bool; what merely counts as true is none. Raises ValueError."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} is True or False, not {value!r}")
