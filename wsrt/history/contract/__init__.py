"""
A test suite for history stores, for the ones in this package and for those of other authors.

    class TestMyStore(HistoryStoreContract):
        async def make_store(self, **options: Any) -> HistoryStore:
            return MyStore("...", **options)

Run it with pytest and pytest-asyncio in auto mode. To see the compared values in failures, call
``pytest.register_assert_rewrite("wsrt.history.contract")`` in ``conftest.py``. Alternatively, mix the class into
``unittest.IsolatedAsyncioTestCase``.

The tests use only the public interface, and rooms of their own, so that other data in the same backend does no harm.
"""

from __future__ import annotations

from ...stores.nasty_names import NASTY_NAMES
from .appending import AppendingTests
from .deleting import DeletingTests
from .keeping import KeepingTests
from .names import NameTests
from .reading import ReadingTests

__all__ = ["NASTY_NAMES", "HistoryStoreContract"]


class HistoryStoreContract(AppendingTests, ReadingTests, KeepingTests, DeletingTests, NameTests):
    """
    The guarantees of every history store, as tests.

    Subclass it and override ``make_store()``.
    """
