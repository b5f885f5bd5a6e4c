"""Publishing from processes that fork, and how fast it fans out."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest

from tests.support.client import dial, receive, request
from tests.support.processes import ROOT, RedisServer, Server

pytestmark = pytest.mark.servers

FORKING = """
import os, threading
import django
django.setup()
from tests.chat.publishing import publish_as
publish_as("room", "forks", "parent")
child = os.fork()
publish_as("room", "forks", "child" if child == 0 else "parent again")
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
thread = threading.Thread(target=publish_as, args=("room", "forks", "thread"))
thread.start()
thread.join()
"""


async def test_publishing_before_and_after_a_fork(redis_server: RedisServer) -> None:
    """A process that published and then forks has a loop and connections of its own in the child."""
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "WSRT_TEST_LAYER": "pubsub",
        "WSRT_TEST_REDIS": redis_server.url,
    }
    with Server("uvicorn", layer="pubsub", redis=redis_server.url) as server:
        ws = await dial(server.url("/chat/forks/"))
        await request(ws, "echo")
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", FORKING], cwd=ROOT, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        texts = [(await receive(ws))["data"]["text"] for _ in range(4)]
    assert (texts[0], texts[-1]) == ("parent", "thread")
    assert sorted(texts) == ["child", "parent", "parent again", "thread"]


def test_fan_out() -> None:
    """Fan-out stays within half of what the benchmark asks for, on whatever machine this is."""
    command = [sys.executable, "-m", "benchmarks", "--check", "--slack", "0.5", "--rounds", "3", "--seconds", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
