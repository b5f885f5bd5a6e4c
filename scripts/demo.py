"""Start the demo as one process, or with --redis as two processes that share rooms."""

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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--redis", action="store_true", help="start two server processes and a Redis server")
    options = parser.parse_args()
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    processes: list[subprocess.Popen[bytes]] = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        ports = [options.port]
        if options.redis:
            if subprocess.call([sys.executable, str(ROOT / "scripts" / "system.py"), "redis-server"]):
                return 1
            redis_port = free_port()
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
            processes.append(subprocess.Popen(redis))
            environment["REDIS_URL"] = f"redis://127.0.0.1:{redis_port}"
            ports.append(options.port + 1)
        subprocess.check_call([*MANAGE, "migrate", "--verbosity", "0"], env=environment)
        subprocess.check_call([*MANAGE, "seed_demo"], env=environment)
        for port in ports:
            command = [*MANAGE, "runserver", "--noreload", f"127.0.0.1:{port}"]
            processes.append(subprocess.Popen(command, env=environment))
            print(f"The chat is at http://127.0.0.1:{port}", flush=True)
        print(f"Ada can see who is connected at http://127.0.0.1:{ports[0]}/admin/wsrt/realtime/", flush=True)
        print("Press Ctrl-C to stop.", flush=True)
        while all(process.poll() is None for process in processes):
            time.sleep(0.2)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
