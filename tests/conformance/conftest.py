"""
Checks a server against docs/reference/wire.md.

    python -m pytest tests/conformance                               # the test application of this repository
    python -m pytest conformance --wsrt-url ws://127.0.0.1:8000/ws/  # any other, from a copy of this folder

A copy needs pytest, pytest-asyncio and websockets. What depends on the events of the application is skipped unless
``--wsrt-profile`` names a file that tells them:

    {
      "request": {"event": "echo", "data": {"value": 1}},     a request that is carried out
      "invalid": {"event": "say", "data": {"text": "..."}},   one whose data is refused
      "publish": {"event": "say", "data": {"text": "hi"}},    one that publishes to a room where the connection is
      "presence_urls": ["ws://...", "ws://..."]               where two users are shown to each other in one room
    }
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from .peer import Peer

SECONDS = 15.0


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("wsrt")
    group.addoption("--wsrt-url", help="the server to check; default: one of this repository is started")
    group.addoption("--wsrt-profile", type=Path, help="a JSON file with events of the application")
    group.addoption("--wsrt-seconds", type=float, default=SECONDS, help=f"for each answer; default: {SECONDS}")
    group.addoption("--wsrt-header", action="append", default=[], help="of each handshake, as 'Cookie: sessionid=1'")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "servers: starts real server processes")


@dataclasses.dataclass
class Endpoint:
    """Where the server is, and what its application understands."""

    url: str
    profile: dict[str, Any]
    headers: dict[str, str]
    seconds: float = SECONDS

    def of(self, key: str) -> Any:
        """Return a value of the profile, or skip the test."""
        if key not in self.profile:
            pytest.skip(f"the profile does not say {key!r}")
        return self.profile[key]


@pytest.fixture(scope="session")
def endpoint(request: pytest.FixtureRequest) -> Iterator[Endpoint]:
    """The server that is checked."""
    config = request.config
    url = config.getoption("--wsrt-url", None)
    if url is not None:
        path = config.getoption("--wsrt-profile")
        headers = dict(header.split(": ", 1) for header in config.getoption("--wsrt-header"))
        profile = json.loads(path.read_text()) if path else {}
        yield Endpoint(url, profile, headers, config.getoption("--wsrt-seconds"))
        return
    # Imported here, because users who check their own server copy only this folder.
    from tests.support.processes import Server

    with Server(
        "uvicorn", application="tests.apps.asgi:runtime", wsrt={"HEARTBEAT": 2, "HEARTBEAT_TIMEOUT": 1}
    ) as server:
        profile = {
            "request": {"event": "echo", "data": {"value": [1, "ü"]}},
            "invalid": {"event": "say", "data": {"room": "lobby", "text": "", "secret-key": "secret-value"}},
            "publish": {"event": "say", "data": {"room": "lobby", "text": "hi"}},
            "presence_urls": [server.url(f"/here/lobby/?user={user}") for user in ("ada", "bob")],
        }
        yield Endpoint(server.url("/chat/lobby/"), profile, {})


class Dial:
    """Opens connections, and cuts those that are left."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._peers: list[Peer] = []

    async def __call__(self, *subprotocols: str, url: str | None = None) -> Peer:
        endpoint = self._endpoint
        peer = await Peer.dial(url or endpoint.url, list(subprotocols), endpoint.headers, endpoint.seconds)
        self._peers.append(peer)
        return peer

    async def hang_up(self) -> None:
        for peer in self._peers:
            await peer.cut()


@pytest_asyncio.fixture
async def dial(endpoint: Endpoint) -> AsyncIterator[Dial]:
    """Opens connections to the server."""
    dial = Dial(endpoint)
    yield dial
    await dial.hang_up()


@pytest_asyncio.fixture
async def peer(dial: Dial) -> Peer:
    """A connection of a wsrt.v1 client, greeted, that has claimed nothing."""
    peer = await dial("wsrt.v1")
    await peer.send("wsrt.resume")
    peer.hello = (await peer.until("wsrt.hello"))["data"]
    return peer


@pytest_asyncio.fixture
async def plain(dial: Dial) -> Peer:
    """A connection in plain mode."""
    return await dial()
