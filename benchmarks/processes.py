"""The processes of a benchmark: a server, usually on the first core, and Redis on the last."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[1]

# Pings are disabled, because the load generator doesn't answer them.
COMMANDS = {
    "uvicorn": [
        "-m",
        "uvicorn",
        "--port",
        "{port}",
        "--log-level",
        "warning",
        "--ws",
        "websockets-sansio",
        "--ws-ping-interval",
        "3600",
    ],
    "daphne": ["-m", "daphne", "-b", "127.0.0.1", "-p", "{port}", "-v", "0", "--ping-interval", "3600"],
}


@contextlib.contextmanager
def redis() -> Iterator[str]:
    """Run a Redis server, and yield its URL."""
    port = free_port()
    with _process(["redis-server", "--port", str(port), "--save", "", "--bind", "127.0.0.1"], port, core=-1):
        yield f"redis://127.0.0.1:{port}/0"


@contextlib.contextmanager
def server(
    kind: str, application: str, port: int, redis_url: str, *, core: int | None = 0
) -> Iterator[subprocess.Popen[bytes]]:
    """
    Run a server, and yield its process.

    Args:
        kind: The server, one of COMMANDS.
        application: The module of the application in this package, and its name.
        port: The port.
        redis_url: The address of Redis.
        core: The index of the core on which it runs; None for any.
    """
    arguments = [part.format(port=port) for part in COMMANDS[kind]]
    command = [sys.executable, *arguments, f"benchmarks.{application}"]
    with _process(command, port, core=core, BENCHMARK_REDIS=redis_url, BENCHMARK_PREFIX=application) as process:
        yield process


@contextlib.contextmanager
def _process(
    command: list[str], port: int, *, core: int | None, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    cores = sorted(os.sched_getaffinity(0))
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.DEVNULL)
    try:
        if core is not None:
            os.sched_setaffinity(process.pid, {cores[core]})
        _wait_for(port, process)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args!r} did not start")
        time.sleep(0.05)
