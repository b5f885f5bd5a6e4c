"""The settings of stores: dicts such as ``WSRT["PRESENCE"]``, and the stores that they describe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.module_loading import import_string

from .options import require_text

KEYS = ("BACKEND", "LOCATION", "OPTIONS")
"""The keys of a setting."""


def options_of(name: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """
    Check the keys of a setting, and return its options.

    Args:
        name: The name of the setting, such as "PRESENCE".
        settings: The setting.

    Raises:
        ValueError: A key or a value isn't valid; the text names the valid ones.
    """
    unknown = settings.keys() - KEYS
    if unknown:
        raise ValueError(f"{name} has no key {min(unknown, key=str)!r}; its keys are {', '.join(map(repr, KEYS))}")
    require_text("BACKEND", settings.get("BACKEND", ""))
    options = settings.get("OPTIONS", {})
    if not isinstance(options, Mapping):
        raise ValueError(f"OPTIONS must be a dict, not {options!r}")
    return options


def create(base: type[Any], settings: Mapping[str, Any], options: Mapping[str, Any], **arguments: Any) -> Any:
    """
    Return a new store, an instance of ``base``.

    Args:
        base: The base class that the store must have.
        settings: A setting that options_of() has checked.
        options: The options that are passed to the store, in lower case.
        arguments: Further arguments of the store.

    Raises:
        ImportError: The class named by ``BACKEND`` can't be imported.
        TypeError, ValueError: It isn't a store, or an option isn't valid.
    """
    backend = settings["BACKEND"]
    lowered = {str(key).lower(): value for key, value in options.items()}
    make = import_string(backend)
    # A class is asked before it is called, since the arguments are those of another kind of store.
    is_other = isinstance(make, type) and not issubclass(make, base)
    store = None if is_other else make(settings.get("LOCATION"), **arguments, **lowered)
    if not isinstance(store, base):
        raise TypeError(f"{backend} isn't a {base.__name__}")
    return store


def class_of(base: type[Any], settings: Mapping[str, Any]) -> type[Any] | None:
    """Return the class of the store. None if the setting doesn't name one that can be imported."""
    try:
        found = import_string(settings["BACKEND"])
    except Exception:  # importing a module may raise anything
        return None
    return found if isinstance(found, type) and issubclass(found, base) else None
