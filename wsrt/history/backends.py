"""The history store that ``WSRT["HISTORY"]`` configures: one instance for each event loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.module_loading import import_string

from ..cluster.per_loop import PerLoop
from ..conf import conf
from ..exceptions import StoreUnavailable
from ..metrics import counters
from ..stores.of_loop import StoreOfLoop
from ..stores.options import require_text
from .base import HistoryStore

KEYS = ("BACKEND", "LOCATION", "OPTIONS")
"""The keys of the setting."""

_stores = PerLoop(lambda: StoreOfLoop(_make_or_log))


def store_of_loop() -> HistoryStore:
    """
    Return the running loop's store, which is created at first use.

    Raises:
        StoreUnavailable: The setting can't be used. ``manage.py check`` reports the reason.
    """
    store = _stores.get().use({**conf.history, "SIZE": conf.history_size, "SECONDS": conf.history_seconds})
    if store is None:
        raise StoreUnavailable("WSRT['HISTORY'] can't be used, so no history is kept: run `manage.py check`")
    return store


async def close_stores() -> None:
    """Close the connections of the running loop's stores."""
    known = _stores.find()
    if known is not None:
        await known.close()


def make_store(settings: dict[str, Any], *, size: int, seconds: float) -> HistoryStore:
    """
    Return a new store.

    Args:
        settings: A dict such as ``WSRT["HISTORY"]``.
        size: The most entries that a room keeps.
        seconds: How long they are kept.

    Raises:
        ImportError: The class named by ``BACKEND`` can't be imported.
        TypeError, ValueError: The setting or one of its options isn't valid; the text names the valid values.
    """
    unknown = settings.keys() - KEYS
    if unknown:
        raise ValueError(f"HISTORY has no key {min(unknown, key=str)!r}; its keys are {', '.join(map(repr, KEYS))}")
    backend, options = settings.get("BACKEND", ""), settings.get("OPTIONS", {})
    require_text("BACKEND", backend)
    if not isinstance(options, Mapping):
        raise ValueError(f"OPTIONS must be a dict, not {options!r}")
    store_options = {str(key).lower(): value for key, value in options.items()}
    store = import_string(backend)(settings.get("LOCATION"), size=size, seconds=seconds, **store_options)
    if not isinstance(store, HistoryStore):
        raise TypeError(f"{backend} isn't a HistoryStore")
    return store


def store_class() -> type[HistoryStore] | None:
    """Return the class of the store. None if the setting doesn't name one that can be imported."""
    try:
        found = import_string(conf.history["BACKEND"])
    except Exception:  # importing a module may raise anything
        return None
    return found if isinstance(found, type) and issubclass(found, HistoryStore) else None


def _make_or_log(settings: dict[str, Any]) -> HistoryStore | None:
    size, seconds = settings.pop("SIZE"), settings.pop("SECONDS")
    try:
        return make_store(settings, size=size, seconds=seconds)
    except Exception as error:
        counters.count("history_stores_missing", "WSRT['HISTORY'] can't be used, no history is kept: %s", error)
        return None
