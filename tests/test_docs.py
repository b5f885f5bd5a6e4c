"""The documentation: its code runs, and its tables say what the code says."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import difflib
import html
import http.cookiejar
import inspect
import json
import re
import shutil
import sys
import tempfile
import textwrap
import types
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.exceptions import StopConsumer
from channels.layers import get_channel_layer
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.core.management import BaseCommand, find_commands, load_command_class
from django.template import engines
from django.test import AsyncClient, AsyncRequestFactory, RequestFactory, override_settings
from playwright.sync_api import Page, expect
from rest_framework_simplejwt.tokens import AccessToken

import wsrt
from tests.clients import toolchain
from tests.clients.generate.compiler import errors
from tests.support.browser import chromium
from tests.support.client import dial, hang_up, receive, send
from tests.support.commands import run
from tests.support.packages import build
from tests.support.ports import free_port
from tests.support.processes import ROOT, Process, RedisServer, is_listening
from tests.support.waiting import aeventually
from wsrt import TypedEventConsumer, close_codes, conf, presence, testing
from wsrt.delivery.transport import Transport
from wsrt.exceptions import ProtocolError
from wsrt.history.base import HistoryStore
from wsrt.history.redis import RedisHistory
from wsrt.presence import backends
from wsrt.presence.base import PresenceStore
from wsrt.presence.cache import CachePresence
from wsrt.presence.redis import RedisPresence
from wsrt.protocol.namespaces import namespaces
from wsrt.servers.daphne import DaphneTransport
from wsrt.servers.granian import GranianTransport
from wsrt.servers.hypercorn import HypercornTransport
from wsrt.servers.uvicorn import LegacyTransport, SansIOTransport, WsprotoTransport
from wsrt.testing import connect
from wsrt.views import HistoryView

DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), ROOT / "README.md"]
FENCE = re.compile(r'^```(\w+)(?: title="([^"]+)")?[^\n]*\n(.*?)^```$', re.MULTILINE | re.DOTALL)
AT_THE_END = ", at the end"


def page(name: str) -> str:
    return (DOCS / name).read_text()


def blocks(text: str) -> list[tuple[str, str | None, str]]:
    """Every fenced block: its language, title and code."""
    return [(match[1], match[2], match[3]) for match in FENCE.finditer(text)]


# Code


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_code_compiles(path: Path) -> None:
    """Every block of Python is Python, and every block of JSON is JSON."""
    for language, title, code in blocks(path.read_text()):
        if language == "python":
            compile(code, f"{path}:{title}", "exec")
        elif language == "json":
            json.loads(code)


def write_files(text: str, root: Path) -> None:
    """Write the titled blocks of a page as the files that they are."""
    for _, title, code in blocks(text):
        if title is None:
            continue
        name = title.removesuffix(AT_THE_END)
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a" if title.endswith(AT_THE_END) else "w") as file:
            file.write(code)


@contextlib.contextmanager
def modules_of(name: str) -> Iterator[types.SimpleNamespace]:
    """Execute the titled blocks of a page as modules that can import each other; they are gone afterwards."""
    made: list[str] = []
    found = types.SimpleNamespace()
    try:
        for language, title, code in blocks(page(name)):
            if language != "python" or title is None:
                continue
            module_name = title.removesuffix(".py").replace("/", ".")
            parts = module_name.split(".")
            for length in range(1, len(parts)):
                package = ".".join(parts[:length])
                if package not in sys.modules:
                    sys.modules[package] = types.ModuleType(package)
                    sys.modules[package].__path__ = []
                    made.append(package)
            assert module_name not in sys.modules, f"{module_name} is there already"
            module = types.ModuleType(module_name)
            sys.modules[module_name] = module
            made.append(module_name)
            exec(compile(code, f"{name}:{title}", "exec"), vars(module))
            setattr(found, parts[-1], module)
            setattr(found, "_".join(parts), module)
        yield found
    finally:
        for module_name in made:
            del sys.modules[module_name]


async def test_tenants() -> None:
    """The consumer of the page on tenants keeps two shops apart; its function names the shop of the calling code."""

    class Customer:
        is_authenticated = True
        pk = 1
        shops = ("acme", "umbrella")

    with modules_of("howto/tenants.md") as page, override_settings(WSRT={"TENANT": "shop.tenants.current_tenant"}):
        consumer, paid = page.consumers.OrdersConsumer, page.consumers.OrderPaid
        try:
            clients = [connect(consumer, user=Customer(), kwargs={"shop": shop}) for shop in Customer.shops]
            async with clients[0] as acme, clients[1] as umbrella:
                page.tenants.current_shop.set("umbrella")
                await wsrt.apublish_to_room("counter", paid(order=7), namespace="orders")
                assert await umbrella.receive(paid) == paid(order=7)
                await acme.assert_silent()
            async with connect(consumer, user=Customer(), kwargs={"shop": "other"}) as other:
                await other.assert_closed(close_codes.FORBIDDEN)
        finally:
            # What it declares must not make other tests say a tenant.
            del namespaces["orders"]


# The README


README = (ROOT / "README.md").read_text()
NAMED = re.compile(r"(?:#|<!--) (\w+/[\w/.]+\.\w+)")
FOR_REDIS = "# mysite/settings.py: for several processes"


def readme_files(root: Path) -> None:
    """Write the files of the chat of the README, whose first line names them."""
    for _, _, code in blocks(README):
        named = NAMED.match(code)
        if named and not code.startswith(FOR_REDIS):
            path = root / named[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a" if path.name == "settings.py" else "w") as file:
                file.write(code)


def readme_block(beginning: str) -> str:
    """The block of the README whose code begins like this."""
    [code] = [code for _, _, code in blocks(README) if code.startswith(beginning)]
    return code


@dataclasses.dataclass(frozen=True)
class ReadmeProject:
    """
    The project of the README, made by its commands and its files from an empty folder, with the built wheel.

    Attributes:
        root: The folder of the project.
        environment: The environment in which it imports the wheel, and not the repository.
    """

    root: Path
    environment: dict[str, str]

    def run(self, *command: str, **environment: str) -> str:
        return run(self.root, *command, **self.environment, **environment)


@pytest.fixture(scope="module")
def readme_project(tmp_path_factory: pytest.TempPathFactory) -> ReadmeProject:
    folder = tmp_path_factory.mktemp("readme")
    build(ROOT, folder, "wheel")
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    project = ReadmeProject(folder / "project", {"PYTHONPATH": str(folder / "installed")})
    project.root.mkdir()
    assert str(folder) in project.run("-c", "import wsrt; print(wsrt.__file__)")
    project.run("-m", "django", "startproject", "mysite", ".")
    project.run("manage.py", "startapp", "chat")
    before = {path: path.read_text() for path in project.root.rglob("*.py")}
    readme_files(project.root)
    assert numbers_of_the_heading() == changes(project.root, before)
    project.run("manage.py", "migrate", "--verbosity", "0")
    return project


def numbers_of_the_heading() -> tuple[int, int]:
    """The numbers of new files and changed lines that the README promises."""
    words = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight"]
    match = re.search(r"^## A chat: (\w+) new files, (\w+) changed lines$", README, re.MULTILINE)
    assert match
    return words.index(match[1]), words.index(match[2])


def changes(root: Path, before: dict[Path, str]) -> tuple[int, int]:
    """The number of files that are new, and of lines that are new in the others, apart from comments."""
    after = [path for path in root.rglob("*.*") if path.suffix in (".py", ".html")]
    lines = 0
    for path in before:
        # startproject writes quotes of the other kind.
        old, new = (text.replace("'", '"').splitlines() for text in (before[path], path.read_text()))
        diff = difflib.ndiff(old, new)
        lines += sum(line.startswith("+ ") and line[2:3] not in ("", "#") for line in diff)
    return len(set(after) - set(before)), lines


@pytest.mark.servers
@pytest.mark.browser
def test_readme(readme_project: ReadmeProject) -> None:
    """The chat works in two browsers, shows errors, comes back after a restart, and keeps the admin."""
    assert "no issues" in readme_project.run("manage.py", "check")
    with Site(readme_project.root, **readme_project.environment) as site, chromium() as browser:
        url = f"http://127.0.0.1:{site.port}"
        pages = [browser.new_page() for _ in range(2)]
        for one in pages:
            with one.expect_websocket():
                one.goto(url)
        send_from(pages[0], "hello")
        for one in pages:
            expect(one.locator("li")).to_have_text(["guest: hello"], timeout=30_000)
        pages[0].press("#text", "Enter")
        expect(pages[0].get_by_role("alert")).to_have_text("String should have at least 1 character", timeout=30_000)
        site.stop()
        pages[1].fill("#text", "still there?")
        pages[1].press("#text", "Enter")
        expect(pages[1].get_by_role("alert")).to_contain_text("connection", timeout=30_000)
        site.start()
        # Its answer says that the first page is back in the room, where it then hears what the second one sends.
        send_from(pages[0], "here again")
        send_from(pages[1], "back again")
        for one in pages:
            expect(one.locator("li").last).to_have_text("guest: back again", timeout=60_000)
        with urllib.request.urlopen(f"{url}/admin/login/", timeout=30) as response:
            assert response.status == 200
        assert "Traceback" not in site.log()


def send_from(page: Page, text: str) -> None:
    """Send a message. While there is no connection, the page refuses it, so try until it is sent."""
    page.fill("#text", text)
    for _ in range(200):
        page.evaluate("problem.textContent = ''")
        page.press("#text", "Enter")
        # Either is the answer to this attempt: a second one before it could send the message twice.
        page.wait_for_function("text.value === '' || problem.textContent !== ''", timeout=60_000)
        if page.input_value("#text") == "":
            return
        page.wait_for_timeout(100)
    raise AssertionError("the message could not be sent")


@pytest.mark.servers
async def test_readme_publishing(readme_project: ReadmeProject, redis_server: RedisServer, tmp_path: Path) -> None:
    """The lines that publish work in a view, and with the lines for Redis in a shell; without, the shell says why."""
    code = readme_block("from chat.events import MessageSent\nfrom wsrt import publish_to_room\n")
    assert "publication discarded" in readme_project.run("manage.py", "shell", "-c", code)
    root = tmp_path / "project"
    shutil.copytree(readme_project.root, root)
    view = f"from django.http import HttpResponse\n\n\ndef publish(request):\n{textwrap.indent(code, '    ')}"
    (root / "chat/views.py").write_text(f"{view}    return HttpResponse()\n")
    with (root / "mysite/urls.py").open("a") as urls:
        urls.write('from chat.views import publish\nurlpatterns.append(path("publish/", publish))\n')
    with (root / "mysite/settings.py").open("a") as settings:
        settings.write(readme_block(FOR_REDIS).replace("redis://127.0.0.1:6379", redis_server.url))
    with Site(root, **readme_project.environment) as site:
        ws = await dial(f"ws://127.0.0.1:{site.port}/ws/chat/")
        await send(ws, "message.send", ref="joined", text="")
        assert (await receive(ws))["event"] == "wsrt.error"
        await asyncio.to_thread(urllib.request.urlopen, f"http://127.0.0.1:{site.port}/publish/", timeout=30)
        expected = {"event": "message.sent", "data": {"author": "system", "text": "hi"}, "room": "lobby"}
        assert await receive(ws) == expected
        await asyncio.to_thread(run, root, "manage.py", "shell", "-c", code, **readme_project.environment)
        assert await receive(ws) == expected
        await hang_up()


def test_readme_is_short() -> None:
    """The README stays within 150 lines and names the two commands."""
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    assert "make demo" in text
    assert "make test" in text


# The tutorial


class Site(Process):
    """The tutorial's project, served by its own runserver."""

    def __init__(self, project: Path, **environment: str) -> None:
        self.port = free_port()
        super().__init__(
            [sys.executable, str(project / "manage.py"), "runserver", "--noreload", f"127.0.0.1:{self.port}"],
            {"DJANGO_SETTINGS_MODULE": "mysite.settings", **environment},
        )

    def wait_until_ready(self) -> None:
        self._until(lambda: is_listening(self.port), "the tutorial's server")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tutorial's project, made as the page says."""
    root = start_project(tmp_path_factory.mktemp("tutorial"), "chat", "tutorial.md")
    write_files(page("tutorial-processes.md"), root)
    run(root, "manage.py", "migrate", "--verbosity", "0")
    return root


def start_project(root: Path, app: str, name: str) -> Path:
    """Start a project with one app, and put in the files of a page."""
    run(root, "-m", "django", "startproject", "mysite", ".")
    run(root, "manage.py", "startapp", app)
    write_files(page(name), root)
    return root


def shell_command(text: str) -> str:
    """The code of the page's ``manage.py shell -c``."""
    match = re.search(r'shell -c "\n(.*?)"\n```', text, re.DOTALL)
    assert match
    return match[1]


@pytest.mark.servers
async def test_tutorial(project: Path) -> None:
    """The tutorial's chat carries a message from one socket to the other, and one from its view to both."""
    with Site(project) as site:
        sockets = [await dial(f"ws://127.0.0.1:{site.port}/ws/lobby/") for _ in range(2)]
        await send(sockets[0], "message.send", text="hello")
        for ws in sockets:
            frame = {"event": "message.sent", "data": {"author": "guest", "text": "hello"}, "room": "lobby"}
            assert await receive(ws) == frame
        await asyncio.to_thread(announce, f"http://127.0.0.1:{site.port}", "tea")
        for ws in sockets:
            assert (await receive(ws))["data"] == {"author": "announcement", "text": "tea"}
        await hang_up()


def announce(url: str, text: str) -> None:
    """Fill in the form of the page, as a browser does."""
    cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
    browser = urllib.request.build_opener(cookies)
    with browser.open(f"{url}/lobby/", timeout=30) as response:
        token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', response.read().decode())
    assert token
    body = urllib.parse.urlencode({"csrfmiddlewaretoken": token[1], "text": text}).encode()
    with browser.open(f"{url}/lobby/announce/", body, timeout=30) as response:
        assert response.status == 204


@pytest.mark.servers
async def test_tutorial_with_redis(project: Path, redis_server: RedisServer) -> None:
    """With Redis two processes share the room, and the shell reaches both."""
    redis = {"REDIS_URL": redis_server.url}
    with Site(project, **redis) as one, Site(project, **redis) as two:
        sockets = [await dial(f"ws://127.0.0.1:{site.port}/ws/lobby/") for site in (one, two)]
        for ws in sockets:
            await send(ws, "message.send", ref="joined", text="")
            assert (await receive(ws))["event"] == "wsrt.error"
        await send(sockets[0], "message.send", text="hello")
        for ws in sockets:
            assert (await receive(ws))["data"]["text"] == "hello"
        code = shell_command(page("tutorial-processes.md"))
        await asyncio.to_thread(run, project, "manage.py", "shell", "-c", code, **redis)
        for ws in sockets:
            assert (await receive(ws))["data"] == {"author": "shell", "text": "hello"}
        await hang_up()


@pytest.mark.servers
def test_tutorial_alone(project: Path) -> None:
    """Without Redis the shell says that the publication is discarded."""
    assert "publication discarded" in run(
        project, "manage.py", "shell", "-c", shell_command(page("tutorial-processes.md"))
    )


@pytest.mark.servers
def test_tutorial_tests(project: Path) -> None:
    """The tutorial's own tests pass."""
    assert "Ran 3 tests" in run(project, "manage.py", "test")


@pytest.mark.servers
def test_tutorial_checks(project: Path) -> None:
    """The tutorial's settings give no warning."""
    assert "no issues" in run(project, "manage.py", "check")


@pytest.mark.browser
def test_tutorial_in_a_browser(project: Path) -> None:
    """The tutorial's page shows messages and errors, and comes back after a restart of the server."""
    with Site(project) as site, chromium() as browser:
        pages = [browser.new_page(), browser.new_page()]
        for each in pages:
            each.goto(f"http://127.0.0.1:{site.port}/lobby/")
            expect(each.locator("#state")).to_have_text("open")
        pages[0].get_by_label("Message").fill("hello <b>")
        pages[0].get_by_role("button", name="Send").click()
        for each in pages:
            expect(each.locator("#messages li")).to_have_text(["guest: hello <b>"])
        pages[0].get_by_role("button", name="Send").click()
        expect(pages[0].locator("#problem")).to_have_text("String should have at least 1 character")
        pages[0].get_by_label("Announcement").fill("tea")
        pages[0].get_by_role("button", name="Announce").click()
        for each in pages:
            expect(each.locator("#messages li")).to_have_text(["guest: hello <b>", "announcement: tea"])
        site.stop()
        expect(pages[1].locator("#state")).to_have_text(re.compile("^back in"))
        site.start()
        expect(pages[1].locator("#state")).to_have_text("open", timeout=30_000)


@pytest.mark.browser
def test_without_a_bundler(project: Path, tmp_path: Path) -> None:
    """The page of the page on JavaScript shows messages, and errors beside the field."""
    root = tmp_path / "site"
    shutil.copytree(project, root)
    (root / "chat/templates/chat/room.html").unlink()
    write_files(page("howto/javascript.md"), root)
    with Site(root) as site, chromium() as browser:
        one = browser.new_page()
        one.goto(f"http://127.0.0.1:{site.port}/lobby/")
        expect(one.locator("#state")).to_have_text("open")
        message = one.get_by_label("Message")
        one.get_by_role("button", name="Send").click()
        expect(message).to_have_accessible_description("String should have at least 1 character")
        expect(message).to_be_focused()
        message.fill("hello")
        one.get_by_role("button", name="Send").click()
        expect(one.locator("#messages li")).to_have_text(["guest: hello"])
        expect(message).not_to_have_attribute("aria-invalid", "true")
        expect(message).to_have_value("")
        site.stop()
        expect(one.locator("#state")).to_have_text(re.compile("^back in"))
        one.get_by_role("button", name="Send").click()
        expect(one.get_by_role("alert")).to_contain_text("there is no connection")


def test_values_of_events() -> None:
    """A field that is written by Django's encoder is, and its schema and clients know what it is."""
    with modules_of("reference/events.md") as found:
        event = found.timing.LapDone(at="2026-01-31T12:30:00.123456Z", took=90)
        assert json.loads(event.model_dump_json()) == {"at": "2026-01-31T12:30:00.123Z", "took": "P0DT00H01M30S"}
        for mode in ("validation", "serialization"):
            fields = type(event).model_json_schema(mode=mode)["properties"]
            assert [fields[name]["format"] for name in ("at", "took")] == ["date-time", "duration"]


@pytest.mark.browser
def test_typescript(project: Path, tmp_path: Path) -> None:
    """The page on TypeScript compiles, hooks and stores too; its page shows messages, errors and the state."""
    root = tmp_path / "site"
    shutil.copytree(project, root)
    (root / "chat/templates/chat/room.html").unlink()
    command = ["manage.py", "wsrt_client", "typescript", "--output", "frontend/realtime"]
    said = run(root, *command)
    assert {line for line in said.splitlines() if line in page("howto/typescript.md")} >= {
        *(f"+ frontend/realtime/{name}" for name in ("chat.ts", "index.ts", "runtime/backoff.ts")),
        "frontend/realtime: 1 client, written",
    }
    write_files(page("howto/typescript.md"), root)
    assert "up to date" in run(root, *command, "--check")
    assert errors(root / "frontend", jsx="react-jsx") == {}
    entry, output = root / "frontend/room.ts", root / "chat/static/chat/room.js"
    toolchain.run("node_modules/.bin/esbuild", str(entry), "--bundle", "--format=esm", f"--outfile={output}")
    with Site(root) as site, chromium() as browser:
        one = browser.new_page()
        one.goto(f"http://127.0.0.1:{site.port}/lobby/")
        expect(one.get_by_role("status")).to_have_text("open")
        one.get_by_label("Message").fill("hello")
        one.get_by_role("button", name="Send").click()
        expect(one.locator("#messages li")).to_have_text(["guest: hello"])
        one.get_by_role("button", name="Send").click()
        expect(one.get_by_role("alert")).to_have_text("String should have at least 1 character")


@pytest.mark.servers
def test_python(project: Path, tmp_path: Path) -> None:
    """The bot of the page on Python is right by the type checker, and says what the page says that it says."""
    root = tmp_path / "site"
    shutil.copytree(project, root)
    text = page("howto/python.md")
    command = ["manage.py", "wsrt_client", "python", "--output", "bot/realtime"]
    said = run(root, *command)
    assert {line for line in said.splitlines() if line in text} >= {
        *(f"+ bot/realtime/{name}" for name in ("chat.py", "__init__.py", "runtime/__init__.py")),
        "bot/realtime: 1 client, written",
    }
    write_files(text, root)
    assert "up to date" in run(root, *command, "--check")
    assert "Success" in run(root / "bot", "-m", "mypy", "--strict", "__main__.py", "realtime")
    with Site(root) as site:
        bot = root / "bot/__main__.py"
        bot.write_text(bot.read_text().replace(":8000", f":{site.port}"))
        printed = run(root, "bot")
    assert f"$ python bot\n{printed}```" in text


def test_tags() -> None:
    """What the page on JavaScript says that the tag writes is what it writes."""
    template = engines["django"].from_string("{% load wsrt %}{% wsrt_client %}")
    assert template.render({}, RequestFactory().get("/")) in page("howto/javascript.md")


# How to


@pytest.mark.servers
def test_database_events(tmp_path: Path) -> None:
    """The app of the page on database rows passes its own tests."""
    root = start_project(tmp_path, "notes", "howto/database-events.md")
    with (root / "mysite/settings.py").open("a") as settings:
        settings.write('INSTALLED_APPS += ["wsrt", "notes"]\n')
    run(root, "manage.py", "makemigrations", "notes")
    assert "Ran 3 tests" in run(root, "manage.py", "test")


@pytest.mark.django_db(transaction=True)
async def test_tokens() -> None:
    """A token lets its user in, by either header, and is not answered to the client."""
    ada = await sync_to_async(User.objects.create_user)("ada")
    with modules_of("howto/tokens.md") as made:
        token = made.tokens.make_token(ada)
        accounts = made.accounts_consumers
        offers: list[dict[str, Any]] = [
            {"subprotocols": ["wsrt.v1", f"bearer.{token}"]},
            {"subprotocols": ["wsrt.v1"], "headers": {"Authorization": f"Bearer {token}"}},
            {"subprotocols": ["wsrt.v1"], "login": accounts.Login(token=token)},
        ]
        for offer in offers:
            async with connect(accounts.AccountConsumer, **offer) as client:
                assert client.subprotocol == "wsrt.v1"
                assert await client.request(accounts.Ask()) == accounts.Answer(username="ada")
                assert await client.request(accounts.Login(token=token)) is None


@pytest.mark.django_db(transaction=True)
async def test_bad_tokens() -> None:
    """A token that is forged, expired, no token, or of a user who is gone closes 4401, as none does."""
    ada, gone = [await sync_to_async(User.objects.create_user)(name) for name in ("ada", "gone")]
    with modules_of("howto/tokens.md") as made:
        good = made.tokens.make_token(ada)
        head, body, signature = good.split(".")
        bad = [
            made.tokens.make_token(ada, seconds=-1),
            made.tokens.make_token(gone),
            f"{head}.{body}.{signature[::-1]}",
            f"{body}.{head}.{signature}",
            f"{head}.{body}.",
            f"{head}.{body}",
            "é",
        ]
        await gone.adelete()
        for offer in [[], *([f"bearer.{token}"] for token in bad)]:
            login = made.accounts_consumers.Login(token="") if not offer else None
            account = made.accounts_consumers.AccountConsumer
            async with connect(account, subprotocols=offer, login=login) as client:
                await client.assert_closed(close_codes.UNAUTHENTICATED)


@pytest.mark.django_db(transaction=True)
async def test_token_expires() -> None:
    """A connection ends with its token."""
    ada = await sync_to_async(User.objects.create_user)("ada")
    with modules_of("howto/tokens.md") as made:
        offer = ["wsrt.v1", f"bearer.{made.tokens.make_token(ada, seconds=2)}"]
        async with connect(made.accounts_consumers.AccountConsumer, subprotocols=offer) as client:
            await client.assert_silent()
            await client.assert_closed(close_codes.CREDENTIALS_EXPIRED)


@pytest.mark.django_db(transaction=True)
async def test_tickets() -> None:
    """The view of the page about tickets issues one, which lets its user in, once."""
    ada = await sync_to_async(User.objects.create_user)("ada")
    with modules_of("howto/tickets.md") as made, override_settings(ROOT_URLCONF=made.urls):
        browser = AsyncClient()
        await browser.aforce_login(ada)
        consumer, path = made.consumers.DeskConsumer, f"/{made.consumers.DeskConsumer.path}"
        answer = await browser.post("/ws-ticket/", {"path": path})
        assert "no-store" in answer["Cache-Control"]
        offer: dict[str, Any] = {
            "subprotocols": ["wsrt.v1", f"ticket.{answer.json()['ticket']}"],
            "scope": {"session": SessionStore(browser.cookies["sessionid"].value)},
        }
        async with connect(consumer, path, user=ada, **offer) as client:
            assert client.subprotocol == "wsrt.v1"
            await client.send(made.consumers.Ask())
            assert await client.receive(made.consumers.Answer) == made.consumers.Answer(username="ada")
        async with connect(consumer, path, user=ada, **offer) as client:
            await client.assert_closed(close_codes.CREDENTIALS_EXPIRED)


@pytest.mark.django_db(transaction=True)
async def test_tokens_of_rest_framework() -> None:
    """The consumer of the section on Django REST framework lets in who has the permission, and nobody else."""
    ada, bob = [await sync_to_async(User.objects.create_user)(name) for name in ("ada", "bob")]
    await User.objects.filter(pk=ada.pk).aupdate(is_superuser=True)
    with modules_of("howto/tokens.md") as made:
        orders = made.api_consumers.OrdersConsumer
        for user, close in ((ada, None), (bob, close_codes.FORBIDDEN)):
            login = {"Authorization": f"Bearer {AccessToken.for_user(user)}"}
            async with connect(orders, headers=login) as client:
                await (client.assert_silent() if close is None else client.assert_closed(close))


async def test_testing() -> None:
    """The tests on the page about testing pass."""
    with modules_of("howto/testing.md") as made:
        for name in ("test_bid", "test_low_bid", "test_nonsense"):
            await getattr(made.test_auction, name)()
        await sync_to_async(made.test_publishing.test_publishing)()


class OldClient:
    """A client of a consumer of Channels, on its bare ASGI."""

    def __init__(self, application: Any, path: str) -> None:
        scope = {"type": "websocket", "path": path, "headers": [], "subprotocols": [], "query_string": b""}
        self.inbound: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.outbound: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.inbound.put_nowait({"type": "websocket.connect"})
        self._task = asyncio.create_task(application(scope, self.inbound.get, self.outbound.put))

    async def receive(self) -> dict[str, Any]:
        getting = asyncio.create_task(self.outbound.get())
        await asyncio.wait([getting, self._task], timeout=10, return_when=asyncio.FIRST_COMPLETED)
        if not getting.done():
            getting.cancel()
            await self._task  # its error is the test's error
        return await getting

    async def leave(self) -> None:
        self.inbound.put_nowait({"type": "websocket.disconnect", "code": 1000})
        with contextlib.suppress(StopConsumer):
            await asyncio.wait_for(self._task, 10)


@pytest.mark.django_db(transaction=True)  # Channels looks after database connections before every message
async def test_migration() -> None:
    """Clients of the old and the new route hear each other, and nothing stays behind."""
    with modules_of("howto/migration.md") as made:
        old = OldClient(made.routing.application, "/ws/chat/")
        assert (await old.receive())["type"] == "websocket.accept"
        async with connect(made.routing.application, "/ws/v2/chat/") as new:
            await new.send(made.new.SendMessage(text="from the new"))
            assert await new.receive(made.new.MessageSent) == made.new.MessageSent(text="from the new")
            assert json.loads((await old.receive())["text"]) == {"text": "from the new"}
            old.inbound.put_nowait({"type": "websocket.receive", "text": '{"text": "from the old"}'})
            assert await new.receive(made.new.MessageSent) == made.new.MessageSent(text="from the old")
        await old.leave()
        assert get_channel_layer().groups.get("chat_lobby", {}) == {}


async def test_presence() -> None:
    """The tests on the page about presence pass, and its hooks and views do what it says."""
    with modules_of("howto/presence.md") as made:
        await made.test_lounge.test_members()
        ada, grace = [User(pk=key, username=name) for key, name in ((7, "ada"), (8, "grace"))]
        tea = {"kwargs": {"room": "tea"}}
        async with connect(made.consumers.LoungeConsumer, user=ada, subprotocols=["wsrt.v1"], **tea) as client:
            await aeventually(lambda: client.reserved[-1]["event"] == "wsrt.presence")
            assert json.dumps(client.reserved[-1]["data"]["members"]) in page("howto/presence.md")
            request = RequestFactory().get("/", {"user": [7, 9]})
            room = await asyncio.to_thread(made.views.room, request, "tea")
            assert json.loads(room.content) == {"count": 1, "people": [{"name": "ada", "away": False}]}
            assert json.loads((await made.views.friends(request)).content) == {"online": [7]}
        async with connect(made.greeting.GreetingConsumer, user=ada, **tea) as client:
            await aeventually(lambda: presence.acount("tea", namespace="greeting"))
            async with connect(made.greeting.GreetingConsumer, user=grace, **tea):
                assert await client.receive(made.greeting.Arrived) == made.greeting.Arrived(user="8")


async def test_history() -> None:
    """The page about history: a page is rendered with a position, and the rest is served, forgotten and erased."""
    ada = User(pk=7, username="ada")
    with modules_of("howto/history.md") as made, tempfile.TemporaryDirectory() as folder:
        write_files(page("howto/history.md"), Path(folder))
        consumer, events, moderation = made.consumers.SupportConsumer, made.events, made.moderation
        template = Path(folder, "support/templates/support/room.html").read_text()
        await wsrt.history.apurge("billing", namespace="support")
        first = await asyncio.to_thread(made.tasks.announce, "billing", 1, "hi")
        assert await asyncio.to_thread(made.tasks.announce, "billing", 1, "hi") == first
        position = await wsrt.aroom_position("billing", namespace="support")
        rendered = engines["django"].from_string(template).render({"room": "billing", "position": position})
        shown = html.unescape(re.search(r'data-position="(.*?)"', rendered)[1])  # type: ignore[index]
        assert json.loads(shown) == {"epoch": first.epoch, "offset": 1}
        await asyncio.to_thread(made.tasks.announce, "billing", 2, "there")
        await wsrt.apublish_to_room("billing", events.TicketStatus(ticket=5, status="open"), namespace="support")

        async def served(since: str) -> list[int]:
            request = AsyncRequestFactory().get("/", {"room": "billing", "since": since})
            request.user = ada
            answer = await HistoryView.as_view(consumer=consumer)(request)  # type: ignore[misc]
            return [event["offset"] for event in json.loads(answer.content)["events"]]

        assert await served(str(position)) == [2, 3]
        async with connect(consumer, user=ada, kwargs={"room": "billing"}, subprotocols=["wsrt.v1"]) as client:
            await client.send_text(json.dumps({"event": "wsrt.resume", "data": {"billing": [position.epoch, 1]}}))
            assert await client.receive(events.MessageSent) == events.MessageSent(id=2, text="there")
            assert await client.receive(events.TicketStatus) == events.TicketStatus(ticket=5, status="open")
            await asyncio.to_thread(moderation.remove_message, "billing", first.epoch, 2)
            await asyncio.to_thread(moderation.close_ticket, "billing", 5)
            assert await served(str(position)) == []
            await asyncio.to_thread(moderation.erase, "billing")
            assert (await wsrt.aroom_position("billing", namespace="support")).offset == 0


@pytest.mark.parametrize("name", [*wsrt.history.__all__])
def test_history_names(name: str) -> None:
    """Every function and class of history is on its page."""
    assert re.search(rf"`[^`\n]*\b{name}\b", page("reference/history.md"))


@pytest.mark.parametrize("shown", ["Position", "HistoryPage", "PastEvent"])
def test_history_attributes(shown: str) -> None:
    """Every attribute of what history returns is in its row."""
    row = re.search(rf"^\| `{shown}` \| (.*) \|$", page("reference/history.md"), re.MULTILINE)
    assert row
    names = {field.name for field in dataclasses.fields(getattr(wsrt.history, shown))}
    assert {name for name in names if f"`{name}`" not in row[1]} == set()


async def test_migration_done() -> None:
    """The consumer that is left in the end works without the group."""
    with modules_of("howto/migration.md") as made:
        async with connect(made.done.ChatConsumer) as client:
            assert await client.request(made.new.SendMessage(text="hi")) is None
            assert await client.receive(made.new.MessageSent) == made.new.MessageSent(text="hi")
            with pytest.raises(AttributeError, match="no channel of its own"):
                assert client.consumer.channel_name


# Tables


def close_table() -> str:
    """The close table as the page shows it."""
    columns = ["code", "reason", "issued when", "client", "Daphne without `with_runtime`"]
    lines = [f"| {' | '.join(columns)} |", "| --- | --- | --- | --- | --- |"]
    for close, issued in close_codes.TABLE.items():
        reason = f"`{close.reason}`" if close.reason else "(none)"
        lines.append(f"| {close.code} | {reason} | {issued} | {close.reconnect.name} | {close.fallback_code} |")
    return "\n".join(lines) + "\n"


def test_close_table() -> None:
    """The close table of the documentation is that of the code."""
    assert close_table() in page("reference/close-codes.md")


@pytest.mark.parametrize("key", conf.DEFAULTS)
def test_settings(key: str) -> None:
    """Every setting has a row with its default."""
    assert f"| `{key}` | `{conf.DEFAULTS[key]!r}` |" in page("reference/settings.md")


def test_no_other_settings() -> None:
    """The page names no setting that there is not."""
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", page("reference/settings.md"), re.MULTILINE)) == set(conf.DEFAULTS)


def test_check_ids() -> None:
    """Every id of a check is on the settings page, and no other."""
    source = "".join((ROOT / path).read_text() for path in ("wsrt/checks.py", "wsrt/durable/checks.py"))
    ids = re.compile(r"wsrt\.[EW]\d{3}")
    assert set(ids.findall(source)) == set(ids.findall(page("reference/settings.md")))


@pytest.mark.parametrize("name", presence.__all__)
def test_presence_names(name: str) -> None:
    """Every function and class of presence is on its page."""
    assert re.search(rf"`[^`\n]*\b{name}\b", page("reference/presence.md"))


@pytest.mark.parametrize("shown", ["Member", "RoomInfo", "ConnectionInfo", "NodeInfo", "Stats"])
def test_presence_attributes(shown: str) -> None:
    """Every attribute of what presence returns is in its row."""
    row = re.search(rf"^\| `{shown}` \| (.*) \|$", page("reference/presence.md"), re.MULTILINE)
    assert row
    names = {field.name for field in dataclasses.fields(getattr(presence, shown))}
    assert {name for name in names if f"`{name}`" not in row[1]} == set()


@pytest.mark.parametrize("store", [PresenceStore, CachePresence, RedisPresence])
def test_presence_options(store: type[PresenceStore]) -> None:
    """Every option of a store is in its table with its default, and no other."""
    tables = page("reference/presence.md").partition("## Options")[2].split("| --- | --- | --- |\n")[1:]
    table = tables[[PresenceStore, RedisPresence, CachePresence].index(store)].partition("\n\n")[0]
    told = {cells[1].strip("`"): cells[3].strip("`") for cells in map(str.split, table.splitlines())}
    parameters = inspect.signature(store).parameters.values()
    found = {each.name.upper(): each.default for each in parameters if each.kind is each.KEYWORD_ONLY}
    if store is PresenceStore:
        found |= {name: backends.option(name, False) for name in backends.NODE_OPTIONS}
    else:
        del found["LEASE"]
    assert told.keys() == found.keys()
    for name, default in found.items():
        assert default is None or told[name] == repr(default) or float(told[name]) == default


COMMANDS = [
    (app, name)
    for app in ("wsrt", "wsrt.durable")
    for name in find_commands(str(ROOT / app.replace(".", "/") / "management"))
]


def test_history_options() -> None:
    """Every option of history is in the table with its default, and those of Redis are named below it."""
    options = page("reference/history.md").partition("## Options")[2].partition("\n## ")[0]
    table = options.partition("| --- | --- | --- |\n")[2].partition("\n\n")[0]
    told = {cells[1].strip("`"): cells[3].strip("`,") for cells in map(str.split, table.splitlines())}
    parameters = inspect.signature(HistoryStore).parameters.values()
    found = {each.name.upper(): each.default for each in parameters if each.kind is each.KEYWORD_ONLY}
    del found["SIZE"], found["SECONDS"]
    assert told.keys() == found.keys()
    assert all(default is None or float(told[name]) == default for name, default in found.items())
    for each in inspect.signature(RedisHistory).parameters.values():
        assert each.kind is not each.KEYWORD_ONLY or f"`{each.name.upper()}`" in options
    assert repr(inspect.signature(RedisHistory).parameters["prefix"].default) in options


@pytest.mark.parametrize(("app", "name"), COMMANDS)
def test_commands(app: str, name: str) -> None:
    """Every command is on its page, with every option of its own."""
    text = page("reference/commands.md")
    section = text.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    section = section or next(line for line in text.splitlines() if line.startswith(f"| [`{name}`]"))
    parser = load_command_class(app, name).create_parser("manage.py", name)
    common = {option for action in BaseCommand().create_parser("", "")._actions for option in action.option_strings}
    own = {option for action in parser._actions for option in action.option_strings} - common
    assert {option for option in own if option not in section} == set()


@pytest.mark.parametrize("name", wsrt.__all__)
def test_public_names(name: str) -> None:
    """Every public name is in the reference."""
    reference = "\n".join(path.read_text() for path in (DOCS / "reference").glob("*.md"))
    assert re.search(rf"`[^`\n]*\b{name}\b", reference)


@pytest.mark.parametrize("name", [name for name in vars(TypedEventConsumer) if not name.startswith("_")])
def test_consumer_names(name: str) -> None:
    """Every attribute, hook and method of a consumer is on its page."""
    assert re.search(rf"`{name}[`(]", page("reference/consumer.md"))


@pytest.mark.parametrize(
    "name", [*testing.__all__, *(name for name in vars(testing.Client) if not name.startswith("_"))]
)
def test_testing_names(name: str) -> None:
    """Every name of the testing kit is on its page."""
    assert re.search(rf"\b{name}\b", page("howto/testing.md"))


@pytest.mark.parametrize("word", list(close_codes.Reconnect))
def test_reconnect_words(word: close_codes.Reconnect) -> None:
    """Every word of the close table is explained below it."""
    assert f"| `{word.name}` |" in page("reference/close-codes.md")


def test_pages_are_listed() -> None:
    """The start page leads to every other."""
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")} - {"index.md"}
    assert pages == set(re.findall(r"\]\((\S+\.md)\)", page("index.md")))


def source() -> str:
    return "\n".join(path.read_text() for path in (ROOT / "wsrt").rglob("*.py"))


def test_reserved_events() -> None:
    """Every reserved event that the code sends or takes is on the wire page."""
    code = source()
    names = set(re.findall(r'reserved\(\s*"(wsrt\.\w+)"', code)) | {"wsrt.resume"}
    assert names >= {"wsrt.hello", "wsrt.ping", "wsrt.pong", "wsrt.ok", "wsrt.error", "wsrt.joined", "wsrt.left"}
    assert {name for name in names if f"| `{name}` |" not in page("reference/wire.md")} == set()


def test_error_codes() -> None:
    """Every code of wsrt.error is on the wire page."""
    # What the doctor calls an error is none on the wire.
    text = "".join(path.read_text() for path in sorted((ROOT / "wsrt").rglob("*.py")) if "doctor" not in path.parts)
    codes = set(re.findall(r'(?:error|Refusal|__init__)\("([a-z_]+)"', text))
    codes |= {kind.code for kind in ProtocolError.__subclasses__()}
    assert codes >= {"forbidden", "not_found", "internal", "rate_limited", "unavailable", "invalid_data"}
    assert {code for code in codes if f"| `{code}` |" not in page("reference/wire.md")} == set()


@pytest.mark.parametrize(
    "transport",
    [DaphneTransport, SansIOTransport, LegacyTransport, WsprotoTransport, HypercornTransport, GranianTransport],
)
def test_servers(transport: type[Transport]) -> None:
    """The deployment page says of each server what its transport does."""
    rows = [line.strip("| ").split(" | ") for line in page("howto/deployment.md").splitlines() if line.startswith("| ")]
    row = next(row for row in rows if row[0].lower() == transport.server)
    offers = (transport.preserves_close_codes, transport.has_back_pressure, transport.can_ping)
    assert row[1:4] == ["yes" if offer else "no" for offer in offers]
