"""What ``runserver`` of a new project says about mistakes: Django's, and that of Daphne, which hides warnings."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from tests.support.client import dial, hang_up, send
from tests.support.commands import run
from tests.support.ports import free_port
from tests.support.processes import Process, is_listening
from tests.support.waiting import aeventually

pytestmark = pytest.mark.servers

CONSUMERS = """
from wsrt import Event, TypedEventConsumer, on

class Ask(Event, name="ask"):
    text: str

class Answer(Event, name="answer"):
    text: str

class ChatConsumer(TypedEventConsumer):
    out_events = (Answer,)

    @on
    async def ask(self, event: Ask) -> None:
        self.send(Answer(text=event.text))
"""

ASGI = """
import os
from django.core.asgi import get_asgi_application
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
http = get_asgi_application()
from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path
from chat.consumers import ChatConsumer
from wsrt.asgi import with_runtime
sockets = URLRouter([path("ws/", ChatConsumer.as_asgi())])
application = with_runtime(ProtocolTypeRouter({"http": http, "websocket": sockets}))
"""


class Site(Process):
    """``runserver`` of the project."""

    def __init__(self, project: Path) -> None:
        self.port = free_port()
        super().__init__(
            [sys.executable, str(project / "manage.py"), "runserver", "--noreload", f"127.0.0.1:{self.port}"],
            {"DJANGO_SETTINGS_MODULE": "mysite.settings"},
        )

    def wait_until_ready(self) -> None:
        self._until(lambda: is_listening(self.port), "runserver")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A new project with a consumer, which is served by Django's own ``runserver``."""
    run(tmp_path, "-m", "django", "startproject", "mysite", ".")
    run(tmp_path, "manage.py", "startapp", "chat")
    (tmp_path / "chat/consumers.py").write_text(CONSUMERS)
    (tmp_path / "mysite/asgi.py").write_text(ASGI)
    add_setting(tmp_path, 'INSTALLED_APPS += ["wsrt", "chat"]')
    return tmp_path


def add_setting(project: Path, line: str) -> None:
    with (project / "mysite/settings.py").open("a") as file:
        file.write(f"\n{line}\n")


async def test_without_daphne(project: Path) -> None:
    """Django's own ``runserver`` says at its start that it serves no WebSockets, and again at the first handshake."""
    with Site(project) as site:
        with pytest.raises(InvalidStatus):
            await dial(f"ws://127.0.0.1:{site.port}/ws/")
        await aeventually(lambda: "a WebSocket handshake for '/ws/' reached a server" in site.log(), "the line")
        assert "(wsrt.W016) This runserver is Django's own" in site.log()
        assert 'put "daphne" first in INSTALLED_APPS' in site.log()


async def test_with_daphne(project: Path) -> None:
    """Below Daphne's ``runserver`` a send that isn't awaited and a frame that is refused are logged."""
    add_setting(project, 'INSTALLED_APPS.insert(0, "daphne"); ASGI_APPLICATION = "mysite.asgi.application"')
    with Site(project) as site:
        ws = await dial(f"ws://127.0.0.1:{site.port}/ws/")
        await send(ws, "ask", text="hi")
        await send(ws, "ask", txt="hi")
        await aeventually(lambda: "refused 'ask': text: Field required" in site.log(), "the refused frame")
        line = CONSUMERS.splitlines().index("        self.send(Answer(text=event.text))") + 1
        assert f"chat/consumers.py:{line}: self.send() was never awaited" in site.log()
        assert "W016" not in site.log()
        await hang_up()
