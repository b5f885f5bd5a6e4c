"""The commands in processes of their own, beside a server that holds the connections."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from tests.support.client import closed, dial, hang_up, receive, request
from tests.support.processes import ROOT, RedisServer, Server
from tests.support.waiting import aeventually

pytestmark = pytest.mark.servers


@dataclass
class Deployment:
    """A server, its Redis, and a shell beside it."""

    redis: RedisServer
    server: Server

    def command(self, *args: str) -> list[str]:
        return [sys.executable, "manage.py", *args]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.server.environment}

    async def manage(self, *args: str, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return await asyncio.to_thread(
            subprocess.run,
            self.command(*args),
            cwd=ROOT,
            env=self.environment,
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
        )

    async def succeed(self, *args: str, text: str = "") -> str:
        """Run a command that succeeds without warnings, and return its output."""
        done = await self.manage(*args, text=text)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    async def document(self, *args: str) -> Any:
        return json.loads(await self.succeed(*args, "--json"))


@pytest.fixture
def deployment() -> Iterator[Deployment]:
    with RedisServer() as redis:
        store = {"BACKEND": "wsrt.presence.redis.RedisPresence", "LOCATION": redis.url}
        server = Server("uvicorn", application="tests.apps.asgi:runtime", layer="pubsub", redis=redis.url)
        server.environment["WSRT_TEST_SETTINGS"] = json.dumps({"PRESENCE": store})
        with server:
            yield Deployment(redis, server)


@pytest_asyncio.fixture(autouse=True)
async def no_open_sockets() -> AsyncIterator[None]:
    yield
    await hang_up()


async def test_beside_a_server(deployment: Deployment) -> None:
    """From another process operators see who is connected, publish to them, and disconnect them."""
    server = deployment.server
    ada, tab, grace = [
        await dial(server.url(f"/chat/lobby/?user={user}&number={number}"))
        for number, user in enumerate(("ada", "ada", "grace"))
    ]
    member = await dial(server.url("/here/side/?user=ada&name=Ada"))
    for ws in (ada, tab, grace):
        await request(ws, "echo")
    await aeventually(lambda: _has_joined(deployment, "side"), "presence")

    overview = await deployment.document("wsrt_presence")
    assert (overview["is_shared"], overview["connections"], len(overview["nodes"])) == (True, 4, 1)
    assert overview["rooms"][0] == {
        "namespace": "chat",
        "tenant": None,
        "name": "lobby",
        "users": 2,
        "guests": 0,
        "connections": 3,
    }
    (room,) = (await deployment.document("wsrt_presence", "--room", "side"))["rooms"]
    assert room["members"] == [{"user_id": "ada", "connections": 1, "data": {"name": "Ada"}}]
    connections = (await deployment.document("wsrt_presence", "--user", "ada"))["connections"]
    assert sorted(each["consumer"] for each in connections) == ["ChatConsumer", "ChatConsumer", "HereConsumer"]
    assert "\x1b" not in await deployment.succeed("wsrt_presence")

    await deployment.succeed("wsrt_publish", "lobby", "said", '{"text": "to all"}', "--namespace", "chat")
    to_ada = ["--namespace", "chat", "--user", "ada"]
    await deployment.succeed("wsrt_publish", *to_ada, "said", "-", text='{"text": "to ada"}')
    for ws, texts in ((ada, ["to all", "to ada"]), (tab, ["to all", "to ada"]), (grace, ["to all"])):
        assert [(await receive(ws))["data"]["text"] for _ in texts] == texts

    (one,) = [each["id"] for each in connections if each["namespace"] == "here"]
    assert (await deployment.document("wsrt_disconnect", "--connection", one))["connections"] == 1
    assert await closed(member) == (4410, "Disconnected by the server")
    done = await deployment.document("wsrt_disconnect", "--user", "ada", "--code", "4800", "--reason", "Banned")
    assert done == {
        "to": {"user": "ada"},
        "namespace": None,
        "tenant": None,
        "code": 4800,
        "reason": "Banned",
        "connections": 2,
    }
    assert [await closed(ws) for ws in (ada, tab)] == [(4800, "Banned")] * 2
    text = await deployment.succeed("wsrt_disconnect", "--room", "lobby", "--namespace", "chat")
    assert "According to presence, this affects 1 connection." in text
    assert await closed(grace) == (4410, "Disconnected by the server")


async def _has_joined(deployment: Deployment, room: str) -> bool:
    found = (await deployment.document("wsrt_presence", "--room", room))["rooms"]
    return bool(found and found[0]["members"])


async def test_in_a_terminal(deployment: Deployment) -> None:
    """In a terminal there are colours, and no line is longer than it."""
    ws = await dial(deployment.server.url(f"/here/{'long' * 30}/?user=ada&name={'x' * 200}"))
    await aeventually(lambda: _has_joined(deployment, "long" * 30), "presence")
    ours, theirs = pty.openpty()
    environment = {**deployment.environment, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(
        deployment.command("wsrt_presence"), cwd=ROOT, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        output = await asyncio.to_thread(_read_all, ours)
    assert process.returncode == 0
    assert "\x1b[" in output
    lines = re.sub(r"\x1b\[[0-9;]*m", "", output).splitlines()
    assert max(map(len, lines)) == 100
    await ws.close()


def _read_all(descriptor: int) -> str:
    parts = []
    try:
        while part := os.read(descriptor, 65536):
            parts.append(part)
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(descriptor)
    return b"".join(parts).decode()


async def test_redis_is_down(deployment: Deployment) -> None:
    """Without Redis each command ends in time, with what to look at and no traceback."""
    deployment.redis.stop()
    for command, says in [
        (["wsrt_presence"], "Presence cannot be read"),
        (["wsrt_disconnect", "--user", "ada"], "Nothing was sent"),
        (["wsrt_publish", "lobby", "said", '{"text": "hi"}', "--namespace", "chat"], "Nothing was sent"),
    ]:
        done = await deployment.manage(*command)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"CommandError: {says}"), done.stderr
        assert "wsrt_doctor" in done.stderr
        assert "Traceback" not in done.stderr
