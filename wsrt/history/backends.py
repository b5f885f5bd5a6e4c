"""The history store that ``WSRT["HISTORY"]`` configures: one instance for each event loop."""

from __future__ import annotations

from typing import Any

from ..cluster.per_loop import PerLoop
from ..conf import conf
from ..exceptions import StoreUnavailable
from ..metrics import counters
from ..stores.of_loop import StoreOfLoop
from ..stores.settings import class_of, create, options_of
from .base import HistoryStore

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
        size: The maximum number of entries that a room keeps.
        seconds: How long they are kept.

    Raises:
        ImportError: The class named by ``BACKEND`` can't be imported.
        TypeError, ValueError: The setting or one of its options isn't valid; the text names the valid values.
    """
    options = options_of("HISTORY", settings)
    store: HistoryStore = create(HistoryStore, settings, options, size=size, seconds=seconds)
    return store


def store_class() -> type[HistoryStore] | None:
    """Return the class of the store. None if the setting doesn't name one that can be imported."""
    return class_of(HistoryStore, conf.history)


def _make_or_log(settings: dict[str, Any]) -> HistoryStore | None:
    size, seconds = settings.pop("SIZE"), settings.pop("SECONDS")
    try:
        return make_store(settings, size=size, seconds=seconds)
    except Exception as error:
        counters.count("history_stores_missing", "WSRT['HISTORY'] can't be used, no history is kept: %s", error)
        return None
