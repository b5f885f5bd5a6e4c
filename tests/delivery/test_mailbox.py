"""The mailbox: items that other threads hand to a loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading

import pytest

from wsrt.delivery import mailbox as module
from wsrt.delivery.mailbox import Mailbox
from wsrt.metrics import counters


async def turn() -> None:
    await asyncio.sleep(0)


async def until_empty(mailbox: Mailbox[int]) -> None:
    async with asyncio.timeout(10):
        while len(mailbox):
            await asyncio.sleep(0)


async def test_order_of_each_thread() -> None:
    """What each thread puts is taken in its order, in the loop's thread, each item once."""
    taken: list[tuple[int, int]] = []
    threads: set[int] = set()

    def take(item: tuple[int, int]) -> None:
        threads.add(threading.get_ident())
        taken.append(item)

    mailbox: Mailbox[tuple[int, int]] = Mailbox(asyncio.get_running_loop(), take, turn)

    def put(name: int) -> None:
        last = [mailbox.put((name, number)) for number in range(300)][-1]
        last.result(10)

    await asyncio.gather(*(asyncio.to_thread(put, name) for name in range(4)))
    assert len(taken) == 1200
    for name in range(4):
        assert [number for other, number in taken if other == name] == list(range(300))
    assert threads == {threading.get_ident()}


async def test_loop_gets_turns() -> None:
    """After each item the loop gets the turns that are due."""
    events: list[object] = []

    async def checkpoint() -> None:
        events.append("turn")
        await asyncio.sleep(0)

    mailbox: Mailbox[int] = Mailbox(asyncio.get_running_loop(), events.append, checkpoint)
    await asyncio.to_thread(lambda: [mailbox.put(number) for number in range(3)])
    await until_empty(mailbox)
    assert events[:5] == [0, "turn", 1, "turn", 2]


async def test_bounds() -> None:
    """Above a number of items or bytes, a thread that puts waits until its item is taken."""
    mailbox: Mailbox[int] = Mailbox(asyncio.get_running_loop(), lambda item: None, turn)
    mailbox.put(0, module.BYTES)
    assert not mailbox.must_wait
    last = mailbox.put(1, 1)
    assert mailbox.must_wait
    await asyncio.wrap_future(last)
    assert not mailbox.must_wait
    for number in range(module.FRAMES):
        mailbox.put(number)
    assert not mailbox.must_wait
    mailbox.put(-1)
    assert mailbox.must_wait
    await until_empty(mailbox)


async def test_item_that_cannot_be_taken() -> None:
    """An item that raises is counted, and keeps none behind it."""
    taken: list[int] = []

    def take(item: int) -> None:
        if not item:
            raise ValueError("zero")
        taken.append(item)

    mailbox: Mailbox[int] = Mailbox(asyncio.get_running_loop(), take, turn)
    before = counters["deliveries_failed"]
    for number in range(3):
        last = mailbox.put(number)
    await asyncio.wrap_future(last)
    assert taken == [1, 2]
    assert counters["deliveries_failed"] == before + 1


async def test_loop_that_ends() -> None:
    """When the loop ends its tasks, no thread waits for the remaining items."""
    stuck = asyncio.Event()

    async def checkpoint() -> None:
        await stuck.wait()

    others = asyncio.all_tasks()
    mailbox: Mailbox[int] = Mailbox(asyncio.get_running_loop(), lambda item: None, checkpoint)
    taken = [mailbox.put(number) for number in range(3)]
    await asyncio.wrap_future(taken[0])
    for task in asyncio.all_tasks() - others:
        task.cancel()
    done = await asyncio.to_thread(concurrent.futures.wait, taken, 10)
    assert not done.not_done
    assert len(mailbox) == 0


@pytest.mark.parametrize("is_closed", [True, False])
def test_loop_that_does_not_run(is_closed: bool) -> None:
    """What is put into a closed loop is dropped; a loop that runs again takes what waits."""
    loop = asyncio.new_event_loop()
    taken: list[int] = []
    mailbox: Mailbox[int] = Mailbox(loop, taken.append, turn)
    if is_closed:
        loop.close()
    future = mailbox.put(1)
    assert future.done() is is_closed
    if not is_closed:
        loop.run_until_complete(until_empty(mailbox))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    assert taken == ([] if is_closed else [1])
