"""
The background loop below gevent.

Patching threads changes a whole process, so each test runs a script in one of its own; the tests on real workers are
in ``tests/servers/test_publishers.py``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PATCHED = """
import gevent.monkey
gevent.monkey.patch_all()
import asyncio, os, gevent
from wsrt.cluster import background_loop
"""

KILLED = """
ended = []
async def wait():
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        ended.append("cancelled")
        raise
try:
    with gevent.Timeout(0.05):
        background_loop.run(wait())
except gevent.Timeout:
    pass
async def after():
    return ended
assert background_loop.run(after()) == ["cancelled"]
"""

RAISES = """
async def fail():
    raise LookupError("gone")
try:
    background_loop.run(fail())
except LookupError as error:
    assert str(error) == "gone"
else:
    raise AssertionError("nothing was raised")
"""

SHARED = """
async def loop():
    await asyncio.sleep(0)
    return asyncio.get_running_loop()
calls = [gevent.spawn(lambda: background_loop.run(loop())) for _ in range(50)]
gevent.joinall(calls, raise_error=True)
assert len({call.value for call in calls}) == 1
"""

FORKED = """
async def pid():
    return os.getpid()
assert background_loop.run(pid()) == os.getpid()
child = os.fork()
if child == 0:
    os._exit(0 if background_loop.run(pid()) == os.getpid() else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert background_loop.run(pid()) == os.getpid()
"""

NAMES = """
import socket
async def look_up():
    return await asyncio.get_running_loop().getaddrinfo("localhost", 80)
assert background_loop.run(look_up())
"""

THREADS = """
from wsrt.cluster.greenlets import thread_pool
def is_in_a_loop():
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
async def work():
    pool = thread_pool(2, "test")
    gone = pool.submit(is_in_a_loop)
    assert gone.cancel()
    return await asyncio.wrap_future(pool.submit(is_in_a_loop)), await asyncio.to_thread(is_in_a_loop)
assert background_loop.run(work()) == (False, False)
"""

LATE = """
import os
from wsrt.cluster import background_loop
import gevent.monkey
gevent.monkey.patch_all()
import asyncio, gevent
""" + SHARED.replace("raise_error=True", "raise_error=True, timeout=30")

EVENTLET = """
import sys, types
patcher = types.ModuleType("eventlet.patcher")
patcher.is_monkey_patched = lambda name: name == "thread"
sys.modules["eventlet.patcher"] = patcher
from wsrt.cluster import background_loop
from wsrt.exceptions import WrongContext
async def work():
    pass
try:
    background_loop.run(work())
except WrongContext as error:
    assert "use gevent, threads or processes" in str(error)
else:
    raise AssertionError("nothing was raised")
"""


def run(script: str) -> None:
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(PATCHED + SHARED, id="all greenlets share one loop"),
        pytest.param(PATCHED + RAISES, id="an error reaches the caller"),
        pytest.param(PATCHED + KILLED, id="a caller that gives up cancels the work"),
        pytest.param(PATCHED + FORKED, id="a forked child has a loop of its own"),
        pytest.param(PATCHED + NAMES, id="names are looked up while the loop runs"),
        pytest.param(PATCHED + THREADS, id="pools below the loop can use the ORM"),
        pytest.param(LATE, id="threads may be patched after wsrt was imported"),
    ],
)
def test_below_gevent(script: str) -> None:
    """The background loop serves greenlets as it serves threads."""
    run(script)


def test_below_eventlet() -> None:
    """Where eventlet has patched the threads, the first call says that this isn't supported, and what is."""
    run(EVENTLET)
