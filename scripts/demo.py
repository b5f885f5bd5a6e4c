"""
Start the demo as one process, or with --redis as two processes that share rooms.

A server process that ends is started again; the others go on.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MANAGE = [sys.executable, str(ROOT / "manage.py")]

READY_SECONDS = 60
"""How long a server may take to start."""

RESTART_SECONDS = 5
"""How long a server that has ended stays away, if there is another one."""


class Failed(Exception):
    """The demo can't start or go on. The message says what to do."""


class Server:
    """
    A server process that is started again when it ends.

    Args:
        port: The port, on 127.0.0.1.
        environment: The variables of the process.
        pause: How long to wait before it is started again, in seconds.
    """

    def __init__(self, port: int, environment: dict[str, str], pause: float) -> None:
        self.port = port
        self.environment = environment
        self.pause = pause
        self.process: subprocess.Popen[bytes] | None = None
        self.restart_at: float | None = None

    def start(self) -> None:
        """Start the process."""
        command = [*MANAGE, "runserver", "--noreload", f"127.0.0.1:{self.port}"]
        self.process = subprocess.Popen(command, env=self.environment)

    def wait_until_ready(self) -> None:
        """Wait until the process listens."""
        assert self.process is not None
        deadline = time.monotonic() + READY_SECONDS
        while not is_taken(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"The server on port {self.port} did not start; its output above says why.")
            time.sleep(0.05)

    def check(self) -> None:
        """Start the process again if it has ended and the pause is over."""
        if self.process is None or self.process.poll() is None:
            return
        if self.restart_at is None:
            self.restart_at = time.monotonic() + self.pause
            print(f"The server on port {self.port} has ended. It is started again in {self.pause:g} s.", flush=True)
        elif time.monotonic() >= self.restart_at:
            self.restart_at = None
            self.start()
            self.wait_until_ready()
            print(f"The chat is at http://127.0.0.1:{self.port} again", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--redis", action="store_true", help="start two server processes and a Redis server")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    processes: list[subprocess.Popen[bytes]] = []
    servers: list[Server] = []
    try:
        run(options.port, options.redis, processes, servers)
    except Failed as error:
        print(error, file=sys.stderr)
    except KeyboardInterrupt:
        return 0
    finally:
        end([*(server.process for server in reversed(servers) if server.process), *processes])
    return 1


def run(port: int, with_redis: bool, processes: list[subprocess.Popen[bytes]], servers: list[Server]) -> None:
    """Start everything, noting it in the lists, and keep it running."""
    ports = [port, port + 1] if with_redis else [port]
    for each in ports:
        if is_taken(each):
            free = free_port_after(port + 1)
            raise Failed(f"Port {each} is in use. Choose another one: make demo{' REDIS=1' * with_redis} PORT={free}")
    environment = {
        **os.environ,
        # Not those of another project that the shell is set up for.
        "DJANGO_SETTINGS_MODULE": "demo_project.settings",
        "PYTHONUNBUFFERED": "1",
        "DEMO_PORTS": ",".join(map(str, ports)),
    }
    if with_redis:
        if subprocess.call([sys.executable, str(ROOT / "scripts" / "system.py"), "redis-server"]):
            raise Failed("REDIS=1 needs redis-server.")
        redis_port = free_port_after(port + 2)
        redis = [
            "redis-server",
            "--port",
            str(redis_port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--loglevel",
            "warning",
        ]
        processes.append(subprocess.Popen(redis, stdout=subprocess.DEVNULL))
        environment["REDIS_URL"] = f"redis://127.0.0.1:{redis_port}"
    subprocess.check_call([*MANAGE, "migrate", "--verbosity", "0"], env=environment)
    subprocess.check_call([*MANAGE, "seed_demo"], env=environment)
    servers += [Server(each, environment, RESTART_SECONDS if with_redis else 0) for each in ports]
    for server in servers:
        server.start()
    for server in servers:
        server.wait_until_ready()
        print(f"The chat is at http://127.0.0.1:{server.port}", flush=True)
    print(f"Ada can see who is connected at http://127.0.0.1:{port}/admin/wsrt/realtime/", flush=True)
    if with_redis:
        print(f"Other processes reach the rooms with REDIS_URL={environment['REDIS_URL']}", flush=True)
    print("Press Ctrl-C to stop.", flush=True)
    while all(process.poll() is None for process in processes):
        for server in servers:
            server.check()
        time.sleep(0.2)
    raise Failed("Redis has ended.")


def end(processes: list[subprocess.Popen[bytes]]) -> None:
    """End processes, and wait for them."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()


def is_taken(port: int) -> bool:
    """Return whether something listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port_after(port: int) -> int:
    """Return the first port from a number on at which nothing listens, nor at the next one."""
    return next(each for each in range(port, 65_535) if not is_taken(each) and not is_taken(each + 1))


if __name__ == "__main__":
    sys.exit(main())
