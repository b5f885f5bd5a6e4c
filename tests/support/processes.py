"""Real processes: servers with their ordinary commands, Redis, a Celery worker."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]

SERVERS: dict[str, list[str]] = {
    "daphne": ["-m", "daphne", "-b", "127.0.0.1", "-p", "{port}"],
    "uvicorn": ["-m", "uvicorn", "--host", "127.0.0.1", "--port", "{port}"],
    "uvicorn-sansio": ["-m", "uvicorn", "--host", "127.0.0.1", "--port", "{port}", "--ws", "websockets-sansio"],
    "uvicorn-websockets": ["-m", "uvicorn", "--host", "127.0.0.1", "--port", "{port}", "--ws", "websockets"],
    "uvicorn-wsproto": [
        "-m",
        "uvicorn",
        "--host",
        "127.0.0.1",
        "--port",
        "{port}",
        "--ws",
        "wsproto",
        "--loop",
        "asyncio",
    ],
    "gunicorn": ["-m", "gunicorn", "-k", "uvicorn_worker.UvicornWorker", "-b", "127.0.0.1:{port}"],
    "gunicorn-gevent": ["-m", "gunicorn", "-k", "gevent", "-b", "127.0.0.1:{port}"],
    "gunicorn-threads": ["-m", "gunicorn", "-k", "gthread", "--threads", "8", "-b", "127.0.0.1:{port}"],
    "hypercorn": ["-m", "hypercorn", "--bind", "127.0.0.1:{port}"],
    "granian": ["-m", "granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", "{port}"],
}
"""The command of each server, without the application."""


LOOPS: dict[str, str] = {
    "asyncio": "asyncio",
    "uvloop": "uvloop",
    "eager": "tests.support.loops:eager",
    "uvloop-eager": "tests.support.loops:uvloop_eager",
}
"""The event loops of uvicorn, by the names that WSRT_TEST_LOOP takes."""

LOOP = os.environ.get("WSRT_TEST_LOOP", "")
"""The loop of every uvicorn that does not say otherwise. Empty for its own choice: uvloop, where it is installed."""


class Process:
    """A process whose output goes to a file; entering waits until it is ready, leaving ends it."""

    def __init__(self, command: list[str], environment: dict[str, str] | None = None) -> None:
        self.command = command
        self.environment = environment or {}
        self.process: subprocess.Popen[bytes] | None = None
        self._output = Path(tempfile.mkstemp(prefix="wsrt-test-", suffix=".log")[1])

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if error is not None:
            sys.stderr.write(f"--- {' '.join(self.command)}\n{self.log()[-8000:]}\n")
        self._output.unlink(missing_ok=True)

    def start(self) -> None:
        with self._output.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **self.environment},
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Overridden by kinds of processes."""

    def stop(self, seconds: float = 15) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def log(self) -> str:
        return self._output.read_text(errors="replace")

    def _until(self, condition: Any, what: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if self.process is None or self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{what} did not start:\n{self.log()}")
            time.sleep(0.05)


COVERAGE = ["-m", "coverage", "run", "--parallel-mode"] if os.environ.get("WSRT_COVERAGE") else []


class Server(Process):
    """A server of the test application."""

    def __init__(
        self,
        kind: str,
        *args: str,
        application: str = "tests.apps.asgi:application",
        port: int | None = None,
        layer: str = "memory",
        redis: str = "",
        wsrt: dict[str, Any] | None = None,
        environment: dict[str, str] | None = None,
        measured: bool = False,
    ) -> None:
        """
        Args:
            measured: count what it covers, where the run asks for coverage; not where time or memory matter.
        """
        self.kind = kind
        self.port = port or free_port()
        command = [part.format(port=self.port) for part in SERVERS[kind]]
        if LOOP and kind.startswith("uvicorn") and "--loop" not in (*command, *args):
            command += ["--loop", LOOPS[LOOP]]
        super().__init__(
            [sys.executable, *(COVERAGE if measured else []), *command, *args, application],
            {
                "DJANGO_SETTINGS_MODULE": "tests.settings",
                "WSRT_TEST_LAYER": layer,
                "WSRT_TEST_REDIS": redis,
                "WSRT_TEST_SETTINGS": json.dumps(wsrt or {}),
                **(environment or {}),
            },
        )

    def wait_until_ready(self) -> None:
        self._until(lambda: is_listening(self.port), "the server")

    @property
    def worker(self) -> psutil.Process:
        """The process that has the sockets, which may be a child of the one that was started."""
        assert self.process is not None
        process = psutil.Process(self.process.pid)
        # A parent that listens too comes first.
        family = [process, *process.children(recursive=True)]
        return next(
            member
            for member in reversed(family)
            if any(connection.laddr.port == self.port for connection in member.net_connections("tcp"))
        )

    def url(self, path: str) -> str:
        return f"ws://127.0.0.1:{self.port}{path}"

    def get(self, path: str) -> str:
        """Return the body of an HTTP request."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as response:
            return str(response.read().decode())

    def stats(self) -> dict[str, Any]:
        """Return the statistics of the process."""
        stats: dict[str, Any] = json.loads(self.get("/stats/"))
        return stats


REDIS = os.environ.get("WSRT_TEST_REDIS_SERVER", "redis-server")
"""The command of Redis, or of what stands in for it, such as valkey-server."""


class RedisServer(Process):
    """Debian's redis-server on a port of its own, without persistence."""

    def __init__(self) -> None:
        self.port = free_port()
        super().__init__([REDIS, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def wait_until_ready(self) -> None:
        self._until(self._answers, REDIS)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


class CeleryWorker(Process):
    """
    A Celery worker.

    Args:
        pool: What runs its tasks: prefork, threads or gevent.
    """

    def __init__(self, broker: str, *, layer: str, redis: str, pool: str = "prefork", concurrency: int = 2) -> None:
        arguments = ["-A", "tests.apps.celery_app", "worker", "-P", pool, "-c", str(concurrency), "-l", "INFO"]
        super().__init__(
            [sys.executable, "-m", "celery", *arguments],
            {
                "DJANGO_SETTINGS_MODULE": "tests.settings",
                "WSRT_TEST_BROKER": broker,
                "WSRT_TEST_LAYER": layer,
                "WSRT_TEST_REDIS": redis,
            },
        )

    def wait_until_ready(self) -> None:
        self._until(lambda: " ready." in self.log(), "the Celery worker")


def is_listening(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    except OSError:
        return False
