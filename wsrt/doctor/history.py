"""Findings about the history store."""

from __future__ import annotations

import time
from collections.abc import Iterator

from ..cluster.layers import is_local
from ..conf import conf
from ..history.backends import make_store
from ..history.base import HistoryStore
from ..protocol.namespaces import namespaces
from .finding import Finding, ok, one_line, warning
from .layers import aliases

PROBE = ("wsrt.doctor", "probe")
"""A room that is read, which shows that the store answers and that its user has the necessary rights."""


async def examine() -> Iterator[Finding]:
    """Return findings about the history store."""
    try:
        store = make_store(conf.history, size=conf.history_size, seconds=conf.history_seconds)
    except Exception as problem:
        seen = f"{conf.history.get('BACKEND')!r} cannot be used: {one_line(problem)}"
        advice = "Correct WSRT['HISTORY']: events with history can't be published until then."
        return iter([warning("history", seen, advice)])
    try:
        return iter([await read(store)])
    finally:
        await store.close()


async def read(store: HistoryStore) -> Finding:
    """Return a finding from reading a store."""
    name = type(store).__qualname__
    if not any(namespace.kept for namespace in namespaces.values()):
        return ok("history", f"{name}: no event has a history")
    if not store.is_shared:
        if all(is_local(alias) for alias in aliases()):
            return ok("history", f"{name}: covers this process only")
        advice = "Use wsrt.history.redis.RedisHistory if several processes publish or serve events with history."
        return warning("history", f"{name}: each process has a history of its own", advice)
    begun = time.perf_counter()
    await store.positions([PROBE])
    took = (time.perf_counter() - begun) * 1000
    return ok("history", f"{name}: read in {took:.1f} ms", read_ms=round(took, 2))
