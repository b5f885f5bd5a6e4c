"""Type checkers accept the code of the README, the tutorial, the demo and generated clients, and refuse mistakes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients import toolchain
from tests.clients.generate.compiler import PROGRAMS
from tests.clients.generate.test_python import CONSUMERS, expected, mypy, write_python
from tests.support.commands import run
from tests.support.processes import ROOT
from tests.support.versions import installed
from tests.test_docs import page, readme_files, start_project, write_files

pytestmark = pytest.mark.skipif(
    "django-stubs" not in installed(), reason="the types of Django depend on the release of its stubs, which are pinned"
)

LONG_FORM = """
from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application

from wsrt.asgi import with_runtime
from wsrt.routing import consumer_urlpatterns

http = get_asgi_application()
application = with_runtime(ProtocolTypeRouter({"http": http, "websocket": AuthMiddlewareStack(URLRouter([]))}))
alone = with_runtime(http)
with_middleware = with_runtime(http, middleware=[AuthMiddlewareStack, lambda inner: inner])
mixed = with_runtime(ProtocolTypeRouter({"http": http, "websocket": URLRouter([*consumer_urlpatterns()])}))
"""

BEYOND_PYRIGHT = re.compile(r'^Cannot access attribute "(\w+_id" for class "(?!Function)|delay" for class "Function)')
"""Errors about what only plugins of mypy know: the ids of foreign keys, and Celery's tasks, which aren't annotated."""

MYPY = """
[mypy]
strict = true
warn_unreachable = true
[mypy-channels.*]
ignore_missing_imports = true
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of projects, each as its reader has it."""
    root = tmp_path_factory.mktemp("programs")
    shutil.copytree(ROOT / "tests/typed", root / "consumers")
    for name in ("readme", "tutorial", "clients"):
        (root / name).mkdir()
    start_project(root / "tutorial", "chat", "tutorial.md")
    write_files(page("tutorial-processes.md"), root / "tutorial")
    run(root / "readme", "-m", "django", "startproject", "mysite", ".")
    run(root / "readme", "manage.py", "startapp", "chat")
    readme_files(root / "readme")
    shutil.copytree(ROOT / "demo_project", root / "demo/demo_project", ignore=shutil.ignore_patterns("__pycache__"))
    write_python(root / "clients/client", CONSUMERS)
    for name in ("good.py", "wrong.py"):
        shutil.copy(PROGRAMS / name, root / "clients")
    (root / "clients/asgi.py").write_text(LONG_FORM)
    return root


def test_pyright(programs: Path) -> None:
    """Pyright in standard mode finds nothing, except for each wrong line of the program that is wrong."""
    toolchain.install()
    projects = sorted(path.name for path in programs.iterdir() if path.is_dir())
    config = {
        "include": projects,
        "typeCheckingMode": "standard",
        "executionEnvironments": [{"root": name, "extraPaths": [str(ROOT)]} for name in projects],
    }
    (programs / "pyrightconfig.json").write_text(json.dumps(config))
    pyright = [str(toolchain.FOLDER / "node_modules/.bin/pyright"), "--pythonpath", sys.executable, "--outputjson"]
    done = subprocess.run([*pyright, "--project", "."], cwd=programs, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    found = {
        (Path(each["file"]).relative_to(programs).as_posix(), each["range"]["start"]["line"] + 1): each["message"]
        for each in report["generalDiagnostics"]
        if each["severity"] == "error" and not BEYOND_PYRIGHT.search(each["message"])
    }
    wrong = {
        (f"{name}/wrong.py", line)
        for name in ("clients", "consumers")
        for line in expected((programs / name / "wrong.py").read_text())
    }
    assert {place: message for place, message in found.items() if place not in wrong} == {}
    assert wrong - found.keys() == set()
    assert report["summary"]["filesAnalyzed"] > 50


def test_mypy_on_consumers(programs: Path) -> None:
    """Mypy in strict mode accepts right consumers, and refuses each wrong line for its reason."""
    wanted = expected((programs / "consumers/wrong.py").read_text())
    assert mypy(programs / "consumers", "right.py", "wrong.py") == {"wrong.py": wanted}


@pytest.mark.parametrize("name", ["readme", "tutorial"])
def test_mypy(programs: Path, name: str) -> None:
    """Mypy in strict mode finds nothing in the files of a page, until one of them is wrong."""
    (programs / "mypy.ini").write_text(MYPY)
    command = ["-m", "mypy", "--config-file", "../mypy.ini", "--cache-dir", "../mypy", "chat", "mysite/asgi.py"]
    folder = programs / name
    assert "Success" in run(folder, *command, "mysite/urls.py", PYTHONPATH=str(ROOT))
    (folder / "chat/wrong.py").write_text("from chat.events import MessageSent\n\nMessageSent(author=1, text='')\n")
    with pytest.raises(AssertionError, match=r"chat/wrong\.py:3: error: .*\[arg-type\]"):
        run(folder, *command, PYTHONPATH=str(ROOT))
