"""
A test suite for presence stores, for the ones in this package and for those of other authors.

    class TestMyStore(PresenceStoreContract):
        async def make_store(self, lease: float = 30.0) -> PresenceStore:
            return MyStore("...", lease=lease)

Run it with pytest and pytest-asyncio in auto mode. To see the compared values in failures, call
``pytest.register_assert_rewrite("wsrt.presence.contract")`` in ``conftest.py``. Alternatively, mix the class into
``unittest.IsolatedAsyncioTestCase``.

Tests that apply only to stores with versions, or to stores that give places, are skipped for other stores. The tests
use only the public interface.
"""

from __future__ import annotations

from ...stores.nasty_names import NASTY_NAMES
from .members import MemberTests
from .nodes import NodeTests
from .places import PlaceTests
from .reading import ReadingTests

__all__ = ["NASTY_NAMES", "PresenceStoreContract"]


class PresenceStoreContract(MemberTests, NodeTests, ReadingTests, PlaceTests):
    """
    The guarantees of every presence store, as tests.

    Subclass it and override ``make_store()``. While the tests run, nothing else may use the same backend.
    """
