"""A Redis Cluster of one node: it refuses scripts and commands that touch two slots."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

from tests.support.processes import RedisServer, free_port


class ClusterServer(RedisServer):
    """Debian's redis-server as a cluster of its own, with all slots."""

    def __init__(self) -> None:
        super().__init__()
        # The cluster's own port is 10,000 above.
        while self.port > 55_000:
            self.port = free_port()
        self._folder = tempfile.TemporaryDirectory(prefix="wsrt-test-")
        nodes = Path(self._folder.name) / "nodes.conf"
        self.command[self.command.index("--port") + 1] = str(self.port)
        self.command += ["--cluster-enabled", "yes", "--cluster-config-file", str(nodes)]

    def wait_until_ready(self) -> None:
        super().wait_until_ready()
        self.say("CLUSTER ADDSLOTSRANGE 0 16383")
        self._until(lambda: "cluster_state:ok" in self.say("CLUSTER INFO"), "the cluster")

    def stop(self, seconds: float = 15) -> None:
        super().stop(seconds)
        self._folder.cleanup()

    def say(self, command: str) -> str:
        """Return what the server answers."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            connection.sendall(f"{command}\r\n".encode())
            return connection.recv(65536).decode()
