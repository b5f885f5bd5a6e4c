"""Platforms without what only Unix has: everything is imported there, and a connection is served."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

WITHOUT_UNIX = """
import asyncio, importlib, os, pkgutil, signal, socket, sys
import django.test, django.test.utils, channels.testing, twisted.internet.reactor  # before anything is missing
runner = asyncio.Runner()
runner.get_loop()

for module, names in {
    os: ("register_at_fork", "fork", "getuid", "geteuid", "getppid", "uname", "sched_getaffinity"),
    signal: ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGQUIT", "SIGKILL", "SIGALRM", "SIGCHLD", "pthread_sigmask"),
    socket: ("AF_UNIX", "MSG_DONTWAIT", "SO_REUSEPORT"),
}.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None  # importing it raises ImportError

def refuse(*args):
    raise NotImplementedError  # as a ProactorEventLoop does

for name in ("add_signal_handler", "remove_signal_handler", "add_reader", "add_writer"):
    setattr(asyncio.SelectorEventLoop, name, refuse)

import django
django.setup()
import wsrt
for module in pkgutil.walk_packages(wsrt.__path__, "wsrt."):
    importlib.import_module(module.name)

from tests.apps.chat.consumers import ChatConsumer
from tests.apps.chat.events import Echo, Echoed, Said
from wsrt.testing import connect
from wsrt.asgi import with_runtime

async def main():
    async with connect(ChatConsumer, kwargs={"room": "lobby"}) as client:
        assert await client.request(Echo(value=1)) == Echoed(value=1)
        await wsrt.apublish_to_room("lobby", Said(text="hi"), namespace="chat")
        assert await client.receive(Said) == Said(text="hi")

with runner:
    runner.run(main())
"""


def test_without_unix() -> None:
    """Every module is imported, and a connection is served, where there are no forks, Unix signals or Unix sockets."""
    command = [sys.executable, "-c", WITHOUT_UNIX]
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
