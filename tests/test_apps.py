"""The app: which modules are imported when Django is ready."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings as django_settings
from django.core import checks as django_checks
from django.core.exceptions import ImproperlyConfigured

from wsrt import checks
from wsrt.checks import check_settings

MakeModule = Callable[[str, str], str]


@pytest.fixture
def make_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeModule]:
    """Return a function that writes a module of the package ``unit_apps``, and returns its dotted path."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "unit_apps").mkdir()
    (tmp_path / "unit_apps" / "__init__.py").touch()

    def make(name: str, text: str) -> str:
        (tmp_path / "unit_apps" / f"{name}.py").write_text(text)
        return f"unit_apps.{name}"

    yield make
    for name in [name for name in sys.modules if name.partition(".")[0] == "unit_apps"]:
        del sys.modules[name]


def get_ready() -> None:
    apps.get_app_config("wsrt").ready()


@contextlib.contextmanager
def unit_apps_installed() -> Iterator[None]:
    """Start Django again with one more app."""
    try:
        apps.set_installed_apps([*django_settings.INSTALLED_APPS, "unit_apps"])
        yield
    finally:
        apps.unset_installed_apps()


def test_default(make_module: MakeModule) -> None:
    """The ``consumers`` of every installed app are imported, without any configuration."""
    make_module("consumers", "")
    with unit_apps_installed():
        assert "unit_apps.consumers" in sys.modules
    assert "tests.apps.chat.consumers" in sys.modules


def test_app_without_consumers(make_module: MakeModule) -> None:
    """An app need not have any."""
    with unit_apps_installed():
        assert "unit_apps" in sys.modules
        assert "unit_apps.consumers" not in sys.modules


def test_other_name(settings: Any, make_module: MakeModule) -> None:
    """A name without a dot is looked for in every app; the default is then not."""
    make_module("consumers", "")
    make_module("sockets", "")
    settings.WSRT = {"CONSUMERS": ["sockets"]}
    with unit_apps_installed():
        assert "unit_apps.sockets" in sys.modules
        assert "unit_apps.consumers" not in sys.modules


def test_dotted_path(settings: Any, make_module: MakeModule) -> None:
    """A dotted path is imported as it is, of an app or not."""
    settings.WSRT = {"CONSUMERS": [make_module("one", ""), make_module("two", "")]}
    get_ready()
    assert {"unit_apps.one", "unit_apps.two"} <= set(sys.modules)


@pytest.mark.parametrize("path", ["unit_apps.missing", "unit_apps.missing.deeper", "missing_package.consumers"])
def test_missing_module(settings: Any, make_module: MakeModule, path: str) -> None:
    """A dotted path that leads nowhere is an error that names the setting and the path."""
    settings.WSRT = {"CONSUMERS": [path]}
    with pytest.raises(ImproperlyConfigured, match=rf"CONSUMERS.*'{path}'.*does not exist"):
        get_ready()


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("import missing_package", ModuleNotFoundError, "missing_package"),
        ("import unit_apps.missing", ModuleNotFoundError, "unit_apps.missing"),
        ("from unit_apps import missing", ImportError, "missing"),
        ("raise ModuleNotFoundError('gone')", ModuleNotFoundError, "gone"),
        ("1 / 0", ZeroDivisionError, "zero"),
    ],
)
@pytest.mark.parametrize("name", ["consumers", "unit_apps.consumers"])
def test_failing_module(
    settings: Any, make_module: MakeModule, name: str, text: str, error: type[Exception], message: str
) -> None:
    """An error inside of a module is not hidden, nor taken for a missing one."""
    make_module("consumers", text)
    settings.WSRT = {"CONSUMERS": [name]}
    with pytest.raises(error, match=message) as raised:
        with unit_apps_installed():
            get_ready()
    assert type(raised.value) is error


@pytest.mark.parametrize(
    ("values", "id"),
    [
        (["MAX_ROOMS"], "wsrt.E001"),
        ({"CONSUMERS": "chat.consumers"}, "wsrt.E003"),
        ({"CONSUMERS": None}, "wsrt.E003"),
        ({"CONSUMERS": [7]}, "wsrt.E003"),
    ],
)
def test_wrong_setting(settings: Any, values: Any, id: str) -> None:
    """A setting of a wrong type does not keep Django from starting: the checks tell it."""
    settings.WSRT = values
    get_ready()
    assert [message.id for message in check_settings()] == [id]


def test_checks_are_registered() -> None:
    """The checks belong to those that every command runs."""
    assert {checks.check_settings, checks.check_layers} <= set(django_checks.registry.registry.get_checks())
