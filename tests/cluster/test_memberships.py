"""Memberships with a layer that executes a join late, in simulated time."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from tests.support.simulation import simulate
from wsrt import BackplaneUnavailable
from wsrt.cluster.memberships import LATE_SECONDS, Line, Memberships


@pytest.mark.parametrize("is_replaced", [False, True], ids=["same line", "next line"])
@pytest.mark.parametrize("outlives", [True, False])
def test_leave_is_repeated_after_a_failed_join(outlives: bool, is_replaced: bool) -> None:
    """A join that failed may still be executed, so the group is left until that can't happen any more."""

    async def run() -> None:
        lines = [Line(cast(Any, None), channel, at_once=5, outlives=outlives) for channel in ("old", "new")]
        left: list[tuple[str, str]] = []

        async def join(line: Line, name: str) -> None:
            raise BackplaneUnavailable("no answer in time")

        async def leave(line: Line, name: str, channel: str) -> None:
            left.append((name, channel))

        memberships = Memberships(asyncio.create_task, lambda: lines[0], join, leave)
        with pytest.raises(BackplaneUnavailable):
            await memberships.acquire("room")
        await asyncio.sleep(1)
        if is_replaced:
            old = lines.pop(0)
            old.is_over = True
            memberships.strand(old)
        for _ in range(3):
            before = len(left)
            await memberships.sweep(lines[0])
            await asyncio.sleep(1)
            assert left[before:] == [("room", "old")] * outlives
        assert memberships.strays == outlives
        await asyncio.sleep(LATE_SECONDS)
        await memberships.sweep(lines[0])
        assert memberships.strays == 0
        assert memberships.wanted == []
        assert set(left) <= {("room", "old")}

    simulate(run, 1)
