"""The code of each page runs as it stands, in the order of the page, in the project that the tutorial makes."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.support.commands import run
from tests.support.processes import ROOT, RedisServer
from tests.test_docs import DOCS, blocks, page, start_project, write_files

pytestmark = pytest.mark.servers

PAGES = [
    name
    for name in sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))
    # The apps of recipes are in the repository, with tests of their own. The tutorial's are those of its page.
    if not name.startswith("recipes/") and not name.startswith("tutorial")
    if any(language == "python" for language, _, _ in blocks(page(name)))
]

COMMANDS = {"howto/python.md": ["wsrt_client", "python", "--output", "realtime"]}
"""What a page says to run before its code."""

NOT_INSTALLED = {"django_tenants", "realtime"}
"""Packages that pages use and tests don't, and the generated client, which is there where a page says to make it."""

SETTINGS = """
import os
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [os.environ["PAGES_REDIS"]]},
    },
}
WSRT = {
    "PRESENCE": {"BACKEND": "wsrt.presence.redis.RedisPresence", "LOCATION": os.environ["PAGES_REDIS"]},
    "HISTORY": {"BACKEND": "wsrt.history.redis.RedisHistory", "LOCATION": os.environ["PAGES_REDIS"]},
}
"""

CODE = """
import importlib, json, os, sys, types
import django
sys.path.insert(0, os.getcwd())
os.environ["DJANGO_SETTINGS_MODULE"] = "mysite.settings"
django.setup()
pages, *not_installed = sys.argv[1:]
for name, blocks in json.loads(pages).items():
    module = sys.modules["code_of_page"] = types.ModuleType("code_of_page")
    for language, title, code in blocks:
        if language != "python":
            continue
        if title is None:
            try:
                exec(compile(code, name, "exec"), vars(module))
            except ModuleNotFoundError as error:
                if error.name not in not_installed:
                    raise
        elif not title.endswith(", at the end") and "/test" not in title and not title.endswith("__main__.py"):
            importlib.import_module(title.removesuffix(".py").replace("/", "."))
"""


def makes_files(name: str) -> bool:
    """Return whether a page makes files, and so needs a project of its own."""
    return name in COMMANDS or any(title for _, title, _ in blocks(page(name)))


def execute(names: list[str], root: Path, **environment: str) -> None:
    """Run the code of pages in a project."""
    code = json.dumps({name: blocks(page(name)) for name in names})
    run(root, "-c", CODE, code, *NOT_INSTALLED, PYTHONPATH=str(ROOT), **environment)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tutorial's project, with Redis."""
    root = start_project(tmp_path_factory.mktemp("pages"), "chat", "tutorial.md")
    with (root / "mysite/settings.py").open("a") as settings:
        settings.write(SETTINGS)
    run(root, "manage.py", "migrate", "--verbosity", "0", PAGES_REDIS="redis://127.0.0.1")
    return root


def apps(name: str) -> list[str]:
    """Return the apps that a page makes: folders with models."""
    titles = [title or "" for _, title, _ in blocks(page(name))]
    return [title.removesuffix("/models.py") for title in titles if title.endswith("/models.py")]


@pytest.mark.parametrize("name", [name for name in PAGES if makes_files(name)])
def test_pages_with_files(name: str, project: Path, tmp_path: Path, redis_server: RedisServer) -> None:
    """Every block of Python of a page runs, and every file of it can be imported."""
    root = tmp_path / "site"
    shutil.copytree(project, root)
    environment = {"PAGES_REDIS": redis_server.url, "SECRET_KEY": "of a test", "REDIS_URL": redis_server.url}
    write_files(page(name), root)
    with (root / "mysite/settings.py").open("a") as settings:
        settings.write(f"INSTALLED_APPS += [app for app in {apps(name)} if app not in INSTALLED_APPS]\n")
    if name in COMMANDS:
        run(root, "manage.py", *COMMANDS[name], **environment)
    execute([name], root, **environment)


def test_pages_without_files(project: Path, redis_server: RedisServer) -> None:
    """Every block of Python of the other pages runs."""
    execute([name for name in PAGES if not makes_files(name)], project, PAGES_REDIS=redis_server.url)


def has_tests(name: str) -> bool:
    """Return whether a page has tests for pytest."""
    return any(re.search(r"/test_\w+\.py$", title or "") for _, title, _ in blocks(page(name)))


@pytest.mark.parametrize("name", [name for name in PAGES if has_tests(name)])
def test_tests(name: str, project: Path, tmp_path: Path) -> None:
    """The tests of a page pass with the configuration that the page on testing shows."""
    root = tmp_path / "site"
    shutil.copytree(project, root)
    configuration = next(code for _, title, code in blocks(page("howto/testing.md")) if title == "pyproject.toml")
    write_files(page(name), root)
    (root / "pyproject.toml").write_text(configuration)
    # Without Redis, as the page says.
    with (root / "mysite/settings.py").open("a") as settings:
        settings.write("del CHANNEL_LAYERS, WSRT\n")
    said = run(root, "-m", "pytest", "-q", "-p", "no:cacheprovider", PYTHONPATH=str(ROOT), PAGES_REDIS="")
    functions = sum(code.count("def test_") for _, title, code in blocks(page(name)) if "/test_" in (title or ""))
    assert f"{functions} passed" in said
