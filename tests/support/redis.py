"""Redis in other shapes: a Cluster of one node, a master with its replica, and a Sentinel."""

from __future__ import annotations

import re
import socket
import tempfile
from pathlib import Path

from tests.support.ports import free_port
from tests.support.processes import Process, RedisServer
from tests.support.waiting import aeventually


class ClusterServer(RedisServer):
    """Debian's redis-server as a cluster of its own, with all slots; it refuses what touches two of them."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="wsrt-test-")
        nodes = Path(self._folder.name) / "nodes.conf"
        self.command += ["--cluster-enabled", "yes", "--cluster-config-file", str(nodes)]
        self.command += ["--cluster-port", str(free_port())]

    def wait_until_ready(self) -> None:
        super().wait_until_ready()
        say(self.port, "CLUSTER ADDSLOTSRANGE 0 16383")
        self._until(lambda: "cluster_state:ok" in say(self.port, "CLUSTER INFO"), "the cluster")

    def stop(self, seconds: float = 15) -> None:
        super().stop(seconds)
        self._folder.cleanup()


class MasterServer(RedisServer):
    """Debian's redis-server, which may become a replica; that writes no file."""

    def __init__(self) -> None:
        super().__init__()
        self.command += ["--repl-diskless-load", "swapdb", "--repl-diskless-sync-delay", "0"]


class ReplicaServer(MasterServer):
    """Debian's redis-server as a replica; it is ready when it has copied its master."""

    def __init__(self, master: RedisServer) -> None:
        super().__init__()
        self.command += ["--replicaof", "127.0.0.1", str(master.port)]

    def wait_until_ready(self) -> None:
        super().wait_until_ready()
        self._until(lambda: "master_link_status:up" in say(self.port, "INFO replication"), "the replica")


class SentinelServer(Process):
    """Debian's redis-server as a Sentinel that watches one master under the name ``Main-master``."""

    SERVICE = "Main-master"

    def __init__(self, master: RedisServer, *, password: str = "") -> None:
        self.port = free_port()
        self._password = password
        self._folder = tempfile.TemporaryDirectory(prefix="wsrt-test-")
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {self._folder.name}",
            f"sentinel monitor {self.SERVICE} 127.0.0.1 {master.port} 1",
            f"sentinel down-after-milliseconds {self.SERVICE} 500",
            f"sentinel failover-timeout {self.SERVICE} 5000",
            *([f"requirepass {password}"] if password else []),
        ]
        configuration = Path(self._folder.name) / "sentinel.conf"
        configuration.write_text("\n".join(lines) + "\n")
        super().__init__(["redis-server", str(configuration), "--sentinel"])

    def wait_until_ready(self) -> None:
        """Wait until it knows the replica: before that, there is nothing to fail over to."""
        self._until(lambda: "num-slaves\r\n$1\r\n1" in self._master(), "the Sentinel")

    def stop(self, seconds: float = 15) -> None:
        super().stop(seconds)
        self._folder.cleanup()

    def _master(self) -> str:
        try:
            return say(self.port, f"SENTINEL MASTER {self.SERVICE}", self._password)
        except OSError:
            return ""


def command_calls(redis: RedisServer, command: str) -> int:
    """Return the number of times that Redis has executed a command, also in scripts."""
    found = re.search(rf"cmdstat_{command}:calls=(\d+)", say(redis.port, "INFO commandstats"))
    return int(found[1]) if found else 0


def say(port: int, command: str, password: str = "") -> str:
    """Return the reply of a Redis on this machine to a command."""
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        if password:
            connection.sendall(f"AUTH {password}\r\n".encode())
            connection.recv(100)
        connection.sendall(f"{command}\r\n".encode())
        return connection.recv(65536).decode()


async def copied(master: RedisServer) -> None:
    """Wait until the replica has what was written so far."""

    def is_copied() -> bool:
        info = say(master.port, "INFO replication")
        offsets = re.findall(r"(?:,offset=|master_repl_offset:)(\d+)", info)
        return len(offsets) == 2 and len(set(offsets)) == 1

    await aeventually(is_copied)
