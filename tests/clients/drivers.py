"""Drivers as processes: see DRIVER.md."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from tests.clients.toolchain import compiled
from tests.support.processes import COVERAGE, ROOT

SECONDS = 15.0


@dataclasses.dataclass(frozen=True)
class Kind:
    """
    A client.

    Attributes:
        command: returns the command of its driver; builds it where that is needed.
        has_page: whether it lives in a page.
    """

    name: str
    command: Callable[[], list[str]]
    has_page: bool


def python_driver() -> list[str]:
    return [sys.executable, "-W", "error", "-X", "dev", *COVERAGE, str(ROOT / "tests/clients/driver.py")]


def typescript_driver() -> list[str]:
    return compiled("driver")


OURS = (Kind("python", python_driver, has_page=False), Kind("typescript", typescript_driver, has_page=True))


class Driver:
    """
    A client in a process of its own, told what to do and asked what happened.

    Attributes:
        lines: everything that it said.
    """

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.lines: list[dict[str, Any]] = []
        self._unread: dict[str, collections.deque[dict[str, Any]]] = collections.defaultdict(collections.deque)
        self._said = asyncio.Event()

    async def __aenter__(self) -> Self:
        self.process = await asyncio.create_subprocess_exec(
            *self.kind.command(),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self._reader = asyncio.create_task(self._read())
        self._reader.add_done_callback(lambda _: self._said.set())
        await self.until("ready")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGCONT)
            self.do("exit")
        try:
            async with asyncio.timeout(SECONDS):
                await self.process.wait()
                await self._reader
        finally:
            if self.process.returncode is None:
                self.process.kill()
                await self.process.wait()
                await self._reader
        if error is not None:
            sys.stderr.write("\n".join(json.dumps(line) for line in self.lines) + "\n")
            return
        assert self.process.returncode == 0
        leaks = [line for line in self.lines if line.get("type") == "LeakedTasks"]
        assert not leaks

    def do(self, op: str, **values: Any) -> None:
        """Give a command."""
        assert self.process.stdin is not None
        self.process.stdin.write((json.dumps({"op": op, **values}) + "\n").encode())

    def connect(self, url: str, **options: Any) -> None:
        """Connect a new client."""
        self.do("connect", url=url, options=options)

    def request(self, id: str, event: str = "ask", data: Any = None, **options: Any) -> None:
        """Send a request."""
        self.do("request", id=id, event=event, data={} if data is None else data, options=options)

    def send(self, event: str, data: Any = None, **options: Any) -> None:
        """Send an event."""
        self.do("send", event=event, data={} if data is None else data, options=options)

    def signal(self, number: int) -> None:
        """Stop or continue the process."""
        self.process.send_signal(number)

    async def until(self, kind: str, seconds: float = SECONDS, **values: Any) -> dict[str, Any]:
        """
        Return the next line of a kind with these values; those of its kind before it are passed over.

        Lines of other kinds stay to be read: what is told in which order differs between clients.
        """
        async with asyncio.timeout(seconds):
            while True:
                unread = self._unread[kind]
                while unread:
                    line = unread.popleft()
                    if all(line.get(key) == value for key, value in values.items()):
                        return line
                assert not self._reader.done(), f"the driver ended: {self.lines}"
                self._said.clear()
                await self._said.wait()

    async def state(self, state: str, seconds: float = SECONDS) -> dict[str, Any]:
        """Wait for a state."""
        return await self.until("state", seconds, state=state)

    async def reply(self, id: str, seconds: float = SECONDS) -> dict[str, Any]:
        """Wait for the end of a request."""
        return await self.until("reply", seconds, id=id)

    def all(self, kind: str) -> list[dict[str, Any]]:
        """Return all lines of a kind so far."""
        return [line for line in self.lines if line["kind"] == kind]

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while text := await self.process.stdout.readline():
            line = json.loads(text)
            self.lines.append(line)
            self._unread[line["kind"]].append(line)
            self._said.set()
