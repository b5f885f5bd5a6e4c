"""The suite of conformance as strangers use it: a copy of its folder, against a server of theirs."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from tests.support.processes import ROOT, Server

pytestmark = pytest.mark.servers

ALONE = ("-p", "no:django", "-p", "no:cacheprovider")


def check(folder: Path, url: str, *options: str) -> tuple[str, dict[str, int]]:
    """Run a copy of the suite outside this repository. Return its output, and the number of tests by outcome."""
    copy = folder / "conformance"
    shutil.copytree(ROOT / "tests/conformance", copy, ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "conformance", "-q", "--tb=line", "--wsrt-url", url, *ALONE, *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    last = done.stdout.strip().splitlines()[-1]
    return done.stdout, {kind: int(count) for count, kind in re.findall(r"(\d+) (passed|failed|skipped|errors?)", last)}


def test_without_a_profile(tmp_path: Path) -> None:
    """Without a profile, the suite checks most of a server."""
    with Server("uvicorn", application="tests.apps.asgi:runtime") as server:
        said, ended = check(tmp_path, server.url("/chat/lobby/"))
    assert ended.keys() == {"passed", "skipped"}, said
    assert ended["passed"] > 3 * ended["skipped"]


def test_with_a_profile(tmp_path: Path) -> None:
    """With a profile of its events, the suite checks all of it."""
    with Server(
        "daphne", application="tests.apps.asgi:runtime", wsrt={"HEARTBEAT": 2, "HEARTBEAT_TIMEOUT": 1}
    ) as server:
        profile = tmp_path / "profile.json"
        profile.write_text(
            json.dumps(
                {
                    "request": {"event": "echo", "data": {"value": 1}},
                    "invalid": {"event": "say", "data": {"room": "lobby", "text": ""}},
                    "publish": {"event": "say", "data": {"room": "lobby", "text": "hi"}},
                    "presence_urls": [server.url(f"/here/lobby/?user={user}") for user in ("ada", "bob")],
                }
            )
        )
        said, ended = check(tmp_path, server.url("/chat/lobby/"), "--wsrt-profile", str(profile))
    assert ended.keys() == {"passed"}, said


async def test_faults_are_found(tmp_path: Path) -> None:
    """A server that greets, and then repeats whatever it hears, fails nearly all of it."""
    hello = {"connection": "1", "heartbeat": None, "heartbeat_timeout": None, "max_payload": 1000}

    async def parrot(ws: ServerConnection) -> None:
        await ws.send(json.dumps({"event": "wsrt.hello", "data": {**hello, "server_time": 0.0, "schema": "x"}}))
        async for frame in ws:
            await ws.send(frame)

    async with serve(parrot, "127.0.0.1", 0, subprotocols=[Subprotocol("wsrt.v1")]) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        said, ended = await asyncio.to_thread(check, tmp_path, f"ws://127.0.0.1:{port}/", "--wsrt-seconds", "0.5")
    assert ended["failed"] > 4 * ended["passed"], said
