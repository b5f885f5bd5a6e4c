"""The pages on deployment: their commands start servers, and their files say what wsrt needs."""

from __future__ import annotations

import asyncio
import configparser
import json
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.servers.conftest import marks_of
from tests.support.ports import free_port
from tests.support.processes import Process, RedisServer, is_listening
from tests.support.raw import CLOSE, connect
from tests.test_docs import blocks, page, start_project, write_files
from wsrt import conf

pytestmark = pytest.mark.servers

COMMANDS = {
    shlex.split(line)[0]: line
    for line in re.findall(
        r"^\$ ((?:uvicorn|gunicorn|daphne|hypercorn|granian) .*)$", page("howto/servers.md"), re.MULTILINE
    )
}
"""The command of each server, as the page shows it."""

KINDS = ["uvicorn", "daphne", "gunicorn", "hypercorn", "granian"]

DRAIN_SECONDS = conf.DEFAULTS["DRAIN_SECONDS"]


class Site(Process):
    """A project served by a command of a page, on a port of its own."""

    def __init__(self, root: Path, command: list[str], redis: str) -> None:
        self.port = free_port()
        arguments = [re.sub(r"\b8000$", str(self.port), part) for part in command]
        # The same folder as the commands' scripts: the environment of the tests need not be activated.
        arguments[0] = str(Path(sys.executable).parent / arguments[0])
        super().__init__(
            arguments,
            {
                "DJANGO_SETTINGS_MODULE": "mysite.settings",
                "PYTHONPATH": f"{root}:{Path(conf.__file__).parents[1]}",
                "SECRET_KEY": "of a test",
                "REDIS_URL": redis,
            },
        )

    def wait_until_ready(self) -> None:
        self._until(lambda: is_listening(self.port), self.command[0])


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tutorial's project, deployed as the pages say in a reader's order."""
    root = start_project(tmp_path_factory.mktemp("deployment"), "chat", "tutorial.md")
    for name in ("howto/deployment.md", "howto/servers.md", "howto/containers.md"):
        write_files(page(name), root)
    return root


def file_of(name: str, title: str) -> str:
    """Return a file that a page shows."""
    return next(code for _, each, code in blocks(page(name)) if each == title)


def container_command() -> list[str]:
    """Return the command of the image."""
    line = re.search(r"^CMD (\[.*\])$", file_of("howto/containers.md", "Dockerfile"), re.MULTILINE)
    assert line
    command: list[str] = json.loads(line[1])
    return command


async def serve_and_stop(site: Site) -> None:
    """Exchange an event between clients, then stop the server's main process, as a service manager does."""
    clients = [await connect(site.port, "/ws/lobby/") for _ in range(4)]
    for client in clients:
        client.event("message.send", ref="joined", text="")
        assert (await client.receive()).json["event"] == "wsrt.error"
    clients[0].event("message.send", text="hello")
    for client in clients:
        assert (await client.receive()).json["data"] == {"author": "guest", "text": "hello"}
    process = site.process
    assert process is not None
    process.send_signal(signal.SIGTERM)
    for client in clients:
        closed = await client.until(CLOSE)
        assert closed.close == (1001, "Server shutting down")
        client.send(closed.payload, CLOSE)
    await asyncio.to_thread(process.wait, 15)


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=marks_of(kind)) for kind in KINDS])
async def test_commands(kind: str, project: Path, redis_server: RedisServer) -> None:
    """The command of a server serves the project in production, and SIGTERM drains its connections."""
    with Site(project, shlex.split(COMMANDS[kind]), redis_server.url) as site:
        await serve_and_stop(site)


async def test_container(project: Path, redis_server: RedisServer) -> None:
    """The command of the image serves the project, and answers the probe with the Host that it sends."""
    with Site(project, container_command(), redis_server.url) as site:
        probe = container(deployment())["readinessProbe"]["httpGet"]
        headers = {each["name"]: each["value"] for each in probe["httpHeaders"]}
        request = urllib.request.Request(f"http://127.0.0.1:{site.port}{probe['path']}", headers=headers)
        answer = await asyncio.to_thread(urllib.request.urlopen, request, timeout=30)
        assert answer.read() == b"ok"
        await serve_and_stop(site)


def seconds(value: str) -> float:
    return float(value.removesuffix("s"))


def deployment() -> dict[str, Any]:
    """Return the Deployment of the page on containers."""
    documents = yaml.safe_load_all(file_of("howto/containers.md", "mysite.yaml"))
    found: dict[str, Any] = next(each for each in documents if each["kind"] == "Deployment")
    return found


def pod(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["spec"]["template"]["spec"]
    return found


def container(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = pod(document)["containers"][0]
    return found


def test_unit() -> None:
    """The unit of systemd runs the page's command, signals only its main process, and waits for the drain."""
    unit = configparser.ConfigParser()
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(file_of("howto/servers.md", "mysite.service"))
    service = unit["Service"]
    assert service["ExecStart"].rpartition("/bin/")[2] == COMMANDS["uvicorn"]
    assert service["KillMode"] == "mixed"
    assert float(service["TimeoutStopSec"]) > DRAIN_SECONDS


def test_pod() -> None:
    """A pod has time for its preStop hook and the drain."""
    hook = container(deployment())["lifecycle"]["preStop"]["exec"]["command"]
    assert hook[0] == "sleep"
    assert pod(deployment())["terminationGracePeriodSeconds"] > float(hook[1]) + DRAIN_SECONDS


def test_compose() -> None:
    """Compose waits for the drain, gives each process the same Redis, and starts a Redis that works."""
    services = yaml.safe_load(file_of("howto/containers.md", "compose.yaml"))["services"]
    assert seconds(services["web"]["stop_grace_period"]) > DRAIN_SECONDS
    assert services["web"]["environment"] == services["worker"]["environment"]
    port = free_port()
    with Redis([*services["redis"]["command"], "--port", str(port)], lambda: is_listening(port)):
        answer = subprocess.run(["redis-cli", "-p", str(port), "ping"], capture_output=True, text=True, timeout=30)
        assert answer.stdout == "PONG\n"


class Redis(Process):
    """Redis by a command of a page."""

    def __init__(self, command: list[str], is_ready: Callable[[], bool]) -> None:
        super().__init__(command)
        self._is_ready = is_ready

    def wait_until_ready(self) -> None:
        self._until(self._is_ready, "Redis")
