"""Checks of a store's options. They run when the store is created, so that a wrong setting fails at once."""

from __future__ import annotations

import inspect
import math
from collections.abc import Collection, Mapping

DAY = 86_400
"""Seconds in a day, the longest time that an option may give."""


def require_none(store: object, options: Mapping[str, object], *, hidden: Collection[str] = ()) -> None:
    """
    Check that no option is left over.

    Args:
        store: The store.
        options: The options that no constructor of the store has taken.
        hidden: Arguments of the constructors that aren't options in the setting.

    Raises:
        TypeError: The store has no such option. The text names those that it has.
    """
    if not options:
        return
    known = {
        name
        for cls in type(store).__mro__
        if "__init__" in vars(cls)
        for name, parameter in inspect.signature(vars(cls)["__init__"]).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in hidden
    }
    raise TypeError(
        f"{type(store).__name__} has no option {min(options)!r}, only {', '.join(sorted(known)) or 'a location'}"
    )


def require_number(
    name: str, value: object, description: str, *, least: float, most: float = math.inf, whole: bool = False
) -> None:
    """
    Check a number.

    Args:
        name: The option's name as in the setting.
        value: The option's value.
        description: The valid values in words, such as "an integer from 1 to 250".
        least: The smallest valid number.
        most: The largest valid number.
        whole: Whether it must be an integer.

    Raises:
        ValueError: The value isn't a number, or it is out of bounds. A bool isn't a number.
    """
    is_number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    # Written so that NaN fails the comparison.
    if not is_number or not least <= value <= most or value == math.inf:  # type: ignore[operator]  # it is a number
        raise ValueError(f"{name} must be {description}, not {value!r}")


def require_seconds(name: str, value: object, *, least: float = 0.001) -> None:
    """Check a number of seconds, from ``least`` to a day. Raises ValueError."""
    require_number(name, value, f"a number of seconds from {least:g} to {DAY}", least=least, most=DAY)


def require_text(name: str, value: object) -> None:
    """Check a string that must not be empty. Raises ValueError."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} must be a non-empty string, not {value!r}")


def require_truth(name: str, value: object) -> None:
    """Check a bool; other values that count as true or false are rejected. Raises ValueError."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, not {value!r}")
