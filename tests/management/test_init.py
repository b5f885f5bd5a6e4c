"""``manage.py wsrt_init``, in projects of several kinds."""

from __future__ import annotations

import re
import shutil
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.support.client import dial, hang_up, receive, send
from tests.support.commands import run
from tests.support.ports import free_port
from tests.support.processes import COVERAGE, ROOT, Process, is_listening
from tests.test_docs import README, blocks, readme_block

DONE = "Nothing to change."


class Site(Process):
    """A project, served by its own runserver."""

    def __init__(self, project: Path, settings: str) -> None:
        self.port = free_port()
        command = [sys.executable, str(project / "manage.py"), "runserver", "--noreload", f"127.0.0.1:{self.port}"]
        super().__init__(command, {"DJANGO_SETTINGS_MODULE": settings})

    def wait_until_ready(self) -> None:
        self._until(lambda: is_listening(self.port), "the project's server")

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as response:
            return str(response.read().decode())

    async def chats_at(self, path: str) -> bool:
        """Return whether a message comes back from a consumer."""
        ws = await dial(f"ws://127.0.0.1:{self.port}{path}")
        await send(ws, "message.send", text="hello")
        frame = await receive(ws)
        return bool(frame["data"] == {"author": "guest", "text": "hello"})


def init(root: Path, *arguments: str) -> str:
    """Return the output of the command in a project, and count what it covers, where the run asks for coverage."""
    measured = [*COVERAGE, f"--rcfile={ROOT / 'pyproject.toml'}"] if COVERAGE else []
    return run(root, *measured, "manage.py", "wsrt_init", *arguments, COVERAGE_FILE=str(ROOT / ".coverage"))


def content(root: Path) -> dict[str, bytes]:
    """The files of a project, by their names."""
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.*") if path.suffix in (".py", ".html")
    }


def changed(before: dict[str, bytes], after: dict[str, bytes]) -> set[str]:
    return {name for name in before if after[name] != before[name]}


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What startproject writes, with wsrt installed."""
    root = tmp_path_factory.mktemp("started")
    run(root, "-m", "django", "startproject", "mysite", ".")
    settings = root / "mysite/settings.py"
    settings.write_text(settings.read_text().replace("INSTALLED_APPS = [\n", "INSTALLED_APPS = [\n    'wsrt',\n"))
    return root


@pytest.fixture
def fresh(started: Path, tmp_path: Path) -> Path:
    """A copy of that."""
    return shutil.copytree(started, tmp_path / "project")


@pytest.mark.servers
async def test_fresh_project(fresh: Path) -> None:
    """In a fresh project the command writes the README's chat, shows what it does, and does it once."""
    before = content(fresh)
    shown = init(fresh, "chat", "--dry-run")
    assert content(fresh) == before
    assert "Nothing was written" in shown
    said = init(fresh, "chat")
    diff = [line for line in said.splitlines() if re.match(r"[-+@ ]", line)]
    assert diff == [line for line in shown.splitlines() if re.match(r"[-+@ ]", line)]
    assert {"+application = with_runtime(get_asgi_application())", "+    'daphne',", "+    'chat',"} <= set(diff)
    assert "1. python manage.py migrate\n2. python manage.py runserver, and open http://127.0.0.1:8000/chat/" in said
    after = content(fresh)
    assert changed(before, after) == {"mysite/settings.py", "mysite/asgi.py", "mysite/urls.py"}
    for name in ("chat/events.py", "chat/consumers.py", "chat/templates/chat.html"):
        [block] = [code for _, _, code in blocks(README) if re.match(rf"(#|<!--) {name}\b", code)]
        assert after[name].decode() == block.partition("\n")[2]
    assert DONE in init(fresh, "chat")
    assert content(fresh) == after
    assert "no issues" in run(fresh, "manage.py", "check")
    run(fresh, "manage.py", "migrate", "--verbosity", "0")
    with Site(fresh, "mysite.settings") as site:
        assert "ws/chat/" in site.get("/chat/")
        assert "<form" in site.get("/admin/login/")
        assert await site.chats_at("/ws/chat/")
        await hang_up()


OWN = {
    "manage.py": """\
import os
import sys

from django.core.management import execute_from_command_line

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")
execute_from_command_line(sys.argv)
""",
    "config/__init__.py": "",
    "config/settings/__init__.py": "",
    "config/settings/base.py": """\
from pathlib import Path

SECRET_KEY = "none"
DJANGO_APPS = [f"django.contrib.{name}" for name in ("auth", "contenttypes", "sessions", "staticfiles")]
LOCAL_APPS = ["wsrt", "desk"]
INSTALLED_APPS = DJANGO_APPS + LOCAL_APPS
ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.realtime.app"
STATIC_URL = "static/"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
""",
    "config/settings/local.py": """\
from .base import *

DEBUG = True
INSTALLED_APPS += ["django.contrib.messages"]
""",
    "config/urls.py": """\
from django.http import HttpResponse
from django.urls import re_path


def everything(request):
    return HttpResponse("the application of the page")


urlpatterns = [re_path(r"", everything)]
""",
    "config/realtime.py": """\
import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")
django = get_asgi_application()

from channels.routing import ProtocolTypeRouter, URLRouter
from channels.auth import AuthMiddlewareStack
from desk.routing import websocket_urlpatterns  # after Django is set up

app = ProtocolTypeRouter(
    {
        "http": django,
        "websocket": AuthMiddlewareStack(URLRouter(websocket_urlpatterns)),
    }
)
""",
    "desk/__init__.py": "",
    "desk/consumers.py": """\
from channels.generic.websocket import AsyncWebsocketConsumer


class DeskConsumer(AsyncWebsocketConsumer):
    async def receive(self, text_data=None, bytes_data=None):
        await self.send(text_data)
""",
    "desk/routing.py": """\
from django.urls import path

from desk.consumers import DeskConsumer

websocket_urlpatterns = [path("ws/desk/", DeskConsumer.as_asgi())]
""",
}


@pytest.mark.servers
async def test_project_of_its_own(tmp_path: Path) -> None:
    """Settings in several files, a URL that matches everything, and routers of the project go on beside the chat."""
    write(tmp_path, OWN)
    before = content(tmp_path)
    said = init(tmp_path, "support_chat")
    after = content(tmp_path)
    assert changed(before, after) == {"config/settings/base.py", "config/urls.py", "config/realtime.py"}
    assert 'INSTALLED_APPS = ["daphne", *INSTALLED_APPS, "support_chat"]' in after["config/settings/base.py"].decode()
    asgi = after["config/realtime.py"].decode()
    assert "URLRouter([*websocket_urlpatterns, *consumer_urlpatterns()])" in asgi
    assert "app = with_runtime(ProtocolTypeRouter(" in asgi
    assert "# after Django is set up" in asgi
    assert "isn't changed" not in said
    assert DONE in init(tmp_path, "support_chat")
    assert content(tmp_path) == after
    with Site(tmp_path, "config.settings.local") as site:
        assert "ws/support_chat/" in site.get("/support_chat/")
        assert site.get("/elsewhere/") == "the application of the page"
        assert await site.chats_at("/ws/support_chat/")
        ws = await dial(f"ws://127.0.0.1:{site.port}/ws/desk/")
        await ws.send("echo")
        assert await ws.recv() == "echo"
        await hang_up()


def test_files_that_cannot_be_parsed(fresh: Path) -> None:
    """A file that can't be parsed stays as it is; the command writes the others, and says what to write there."""
    write(fresh, {"mysite/asgi.py": "print 'application'\n", "mysite/urls.py": "urlpatterns = [\n"})
    before = content(fresh)
    said = init(fresh, "chat")
    after = content(fresh)
    assert changed(before, after) == {"mysite/settings.py"}
    assert "chat/consumers.py" in after
    assert re.search(r"\d\. mysite/asgi.py isn't changed: it can't be parsed \(.*\)\. Write there:", said)
    assert "    application = with_runtime(get_asgi_application())" in said
    assert re.search(r"\d\. mysite.urls isn't changed: it can't be imported: .*\. Write there: path\(\"chat/\"", said)


@pytest.mark.parametrize(
    ("asgi", "says"),
    [
        ("application = other()\n", "application is neither get_asgi_application() nor a ProtocolTypeRouter"),
        ("handler = None\n", "it doesn't set application"),
        (
            "import django\ndjango.setup()\nfrom routers import *\n"
            "application = ProtocolTypeRouter({'websocket': URLRouter([URLRouter([])])})\n",
            "it calls URLRouter 2 times, and only you know which call gets the consumers' routes",
        ),
        (
            "from routers import *\napplication = ProtocolTypeRouter({'websocket': URLRouter([])})\n",
            "it must call get_asgi_application() before URLRouter",
        ),
    ],
)
def test_asgi_that_is_not_understood(fresh: Path, asgi: str, says: str) -> None:
    """An ASGI module of another kind stays as it is."""
    write(fresh, {"mysite/asgi.py": asgi})
    said = init(fresh, "chat")
    assert f"mysite/asgi.py isn't changed: {says}. Write there:" in said
    assert (fresh / "mysite/asgi.py").read_text() == asgi


def test_without_asgi(fresh: Path) -> None:
    """A project without asgi.py gets one, and one whose templates lack something is told."""
    (fresh / "mysite/asgi.py").unlink()
    settings = fresh / "mysite/settings.py"
    text = (
        settings.read_text()
        .replace("'APP_DIRS': True", "'APP_DIRS': False")
        .replace("'django.contrib.staticfiles',", "")
    )
    settings.write_text(text.replace("'django.template.context_processors.request',", ""))
    said = init(fresh, "chat")
    assert (fresh / "mysite/asgi.py").read_text() == readme_block("# mysite/asgi.py").partition("\n")[2]
    for needed in (
        "Set APP_DIRS to True",
        'Add "django.contrib.staticfiles"',
        'Add "django.template.context_processors.',
    ):
        assert needed in said


def test_app_with_files_of_its_own(fresh: Path) -> None:
    """The files of an app that is there aren't overwritten, and others aren't put beside them."""
    run(fresh, "manage.py", "startapp", "chat")
    write(fresh, {"chat/consumers.py": "# mine\n"})
    said = init(fresh, "chat")
    assert "chat has files of its own, so it gets no chat: chat/consumers.py." in said
    assert (fresh / "chat/consumers.py").read_text() == "# mine\n"
    assert not (fresh / "chat/events.py").exists()
    assert "with_runtime(" in (fresh / "mysite/asgi.py").read_text()
    assert "TemplateView" not in (fresh / "mysite/urls.py").read_text()
    assert "in two windows" not in said


def test_page_at_a_path_that_is_taken(fresh: Path) -> None:
    """A view that is at the path of the page stays there."""
    urls = fresh / "mysite/urls.py"
    urls.write_text(f"{urls.read_text()}urlpatterns += [path('chat/', admin.site.login)]\n")
    before = urls.read_text()
    assert "Another view is at /chat/. Add the page at another path: path(" in run(
        fresh, "manage.py", "wsrt_init", "chat"
    )
    assert urls.read_text() == before


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("auth", "django.contrib.auth isn't an app of this project"),
        ("shop.chat", "There is no app 'shop.chat': create "),
        ("no-name", "is not a valid app name"),
        ("json", "conflicts with the name of an existing Python module"),
    ],
)
def test_no_app(fresh: Path, name: str, says: str) -> None:
    """What can't be an app of the project is an error, and nothing is written."""
    before = content(fresh)
    with pytest.raises(AssertionError, match=re.escape(says)):
        init(fresh, name)
    assert content(fresh) == before
