"""Servers are known by their features, seen without starting them."""

from __future__ import annotations

import asyncio
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from tests.support import versions
from tests.support.report import note
from wsrt import servers
from wsrt.delivery.transport import Transport
from wsrt.metrics import counters
from wsrt.servers import daphne, granian, hypercorn, missing_features, transport_of, uvicorn
from wsrt.servers.features import has, is_installed, missing_of

MODULES = [daphne, granian, hypercorn, uvicorn]


class Protocol:
    """What a server might have."""

    shared = None

    def __init__(self) -> None:
        self.conn = None

    @property
    def derived(self) -> None:
        return None

    def asgi_send(self) -> None:
        self.sent = self.borrowed.attribute = None  # type: ignore[attr-defined]


class Derived(Protocol):
    pass


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A server that there is not."""
    module = types.ModuleType("made_up")
    module.Protocol = Protocol  # type: ignore[attr-defined]
    module.Derived = Derived  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "made_up", module)
    return module


@pytest.mark.usefixtures("made_up")
@pytest.mark.parametrize("owner", ["Protocol", "Derived"])
def test_features_of_a_class(owner: str) -> None:
    """Attributes, methods and properties count, inherited ones too, and what methods set on instances."""
    names = "shared conn derived asgi_send sent"
    assert missing_of({f"made_up:{owner}": names}) == []


@pytest.mark.usefixtures("made_up")
def test_missing_features() -> None:
    """What is not there is named; what is only read does not count."""
    assert missing_of({"made_up:Protocol": "conn writable borrowed"}) == ["Protocol.writable", "Protocol.borrowed"]


class Unbounded(asyncio.Protocol):
    """A protocol that ignores what the transport says of its buffer."""


class Bounded(Unbounded):
    def pause_writing(self) -> None:
        """Stop writing."""


@pytest.mark.parametrize(("kind", "missing"), [(Unbounded, ["Protocol.pause_writing"]), (Bounded, [])])
def test_empty_callbacks(made_up: types.ModuleType, kind: type[Unbounded], missing: list[str]) -> None:
    """A callback that a protocol only inherits from asyncio, where it does nothing, does not count."""
    made_up.Protocol = kind  # type: ignore[attr-defined]
    assert missing_of({"made_up:Protocol": "pause_writing"}) == missing
    assert has(kind(), "pause_writing") is (missing == [])


@pytest.mark.usefixtures("made_up")
def test_missing_class() -> None:
    """A class that is gone is named, and so is a function of a module."""
    assert missing_of({"made_up:Server": "run", "made_up:": "serve Protocol"}) == ["made_up.Server", "made_up.serve"]


def test_missing_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that is gone is named."""
    monkeypatch.setitem(sys.modules, "uvicorn.server", None)
    assert missing_of({"uvicorn.server:Server": "handle_exit"}) == ["uvicorn.server"]


def test_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a library of somebody else is not installed, the server cannot serve by it, and nothing is missing."""
    monkeypatch.setitem(sys.modules, "wsproto", None)
    monkeypatch.delitem(sys.modules, "uvicorn.protocols.websockets.wsproto_impl", raising=False)
    assert missing_of(uvicorn.FEATURES["uvicorn (wsproto)"]) is None
    assert "uvicorn (wsproto)" not in missing_features()


def test_installed_servers() -> None:
    """Each server is as it is known in the versions that are pinned; what others lack is printed."""
    found = missing_features()
    for server, missing in found.items():
        if missing:
            note("Servers that are not as wsrt knows them", f"{server} lacks {', '.join(missing)}")
    assert found.keys() == {name for module in MODULES for name in module.FEATURES}
    if versions.differing().keys().isdisjoint({"daphne", "granian", "hypercorn", "uvicorn", "websockets", "wsproto"}):
        assert found == {name: [] for name in found}


def test_server_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is said of a server that is not installed."""
    monkeypatch.setattr(servers, "is_installed", lambda package: package == "hypercorn")
    assert missing_features() == {"hypercorn": []}


def test_other_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version of uvicorn whose protocol has changed is told, its other implementations stay."""
    module = types.ModuleType("uvicorn.protocols.websockets.wsproto_impl")
    module.WSProtocol = type("WSProtocol", (), {"transport": None, "conn": None})  # type: ignore[attr-defined]
    before = missing_features()
    monkeypatch.setitem(sys.modules, module.__name__, module)
    found = missing_features()
    assert "WSProtocol.writable" in found["uvicorn (wsproto)"]
    assert found == {**before, "uvicorn (wsproto)": found["uvicorn (wsproto)"]}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_features_are_used(module: Any) -> None:
    """The features that are looked for are those that the module uses."""
    used = set(re.findall(r"\w+", Path(module.__file__).read_text().partition('that this module uses."""')[2]))
    named = {name for features in module.FEATURES.values() for names in features.values() for name in names.split()}
    # The methods behind a ``send``, which are never called by their names, and what a class is told by.
    assert named - used <= {
        "app_send",
        "stream_send",
        "protocol_send",
        "handle_exit",
        "app_put",
        "asgi_send",
        "pause_writing",
    }


@pytest.mark.parametrize("package", ["no_such_server", "made.up"])
def test_not_installed(package: str) -> None:
    """What cannot be found is not installed."""
    assert not is_installed(package)


def test_hidden_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is what somebody has hidden."""
    monkeypatch.setitem(sys.modules, "hypercorn", None)
    assert not is_installed("hypercorn")


async def nobodys_send(message: Any) -> None:
    """An unknown server."""


def test_unknown_server() -> None:
    """A server that isn't recognised is plain ASGI, and counted."""
    before = counters["transports_unknown"]
    assert type(transport_of(nobodys_send)) is Transport
    assert counters["transports_unknown"] == before + 1
