"""Settings that name no store that can be used: what is told when, and what goes on without presence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wsrt import Event, TypedEventConsumer, on, presence
from wsrt.checks import check_settings
from wsrt.presence.stores import is_shared
from wsrt.testing import connect

MEMORY = "wsrt.presence.memory.MemoryPresence"
REDIS = "wsrt.presence.redis.RedisPresence"
CACHE = "wsrt.presence.cache.CachePresence"

WRONG: list[dict[Any, Any]] = [
    {},
    {"BACKEND": "builtins.str"},
    {"BACKEND": MEMORY, "OPTION": {"LEASE": 30}},
    {"BACKEND": MEMORY, 1: 2, "OPTION": 3},
    {"BACKEND": MEMORY, "OPTIONS": [1]},
    {"BACKEND": MEMORY, "OPTIONS": "LEASE"},
    {"BACKEND": MEMORY, "OPTIONS": {1: 2, "COLOUR": 3}},
    {"BACKEND": MEMORY, "OPTIONS": {("LEASE",): 30}},
    {"BACKEND": MEMORY, "OPTIONS": {"LEASE": 0}},
    {"BACKEND": MEMORY, "OPTIONS": {"DETAILS": "no"}},
    {"BACKEND": CACHE, "LOCATION": "nowhere"},
    {"BACKEND": CACHE, "LOCATION": ["default"]},
    {"BACKEND": CACHE, "OPTIONS": {"SLOTS": 0}},
    {"BACKEND": REDIS, "LOCATION": "localhost:6379"},
    {"BACKEND": REDIS, "LOCATION": ["redis://localhost:6379"]},
    {"BACKEND": REDIS, "LOCATION": "redis://localhost:6379?tiemout=5"},
    {"BACKEND": REDIS, "LOCATION": "redis://localhost:6379/1", "OPTIONS": {"CLUSTER": True}},
    {"BACKEND": REDIS, "OPTIONS": {"PARTITIONS": -1}},
    {"BACKEND": REDIS, "OPTIONS": {"PACE": 0}},
]


class Hello(Event, name="hello"):
    pass


class OpenConsumer(TypedEventConsumer):
    namespace = "open-without-presence"
    presence = True

    async def on_connect(self) -> None:
        await self.join("hall")

    @on
    async def hello(self, event: Hello) -> None:
        pass


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
async def test_settings_that_name_no_store(settings: Any, wrong: dict[Any, Any]) -> None:
    """The check says why; connections are opened and served, and whoever reads is told to run it."""
    settings.WSRT = {"PRESENCE": wrong}
    assert [message.id for message in check_settings()] == ["wsrt.W002"]
    async with connect(OpenConsumer) as client:
        await client.request(Hello())
        for read in (presence.astats, presence.ausers, lambda: presence.acount("hall")):
            with pytest.raises(presence.StoreUnavailable, match=r"manage\.py check"):
                await read()


@pytest.mark.parametrize("wrong", [7, "memory", None, []], ids=repr)
async def test_setting_of_another_kind(settings: Any, wrong: object) -> None:
    """What is no dict is an error of the checks, and connections are opened and served all the same."""
    settings.WSRT = {"PRESENCE": wrong}
    assert [message.id for message in check_settings()] == ["wsrt.E003"]
    async with connect(OpenConsumer) as client:
        await client.request(Hello())
        with pytest.raises(presence.StoreUnavailable, match=r"manage\.py check"):
            await presence.acount("hall")


def test_backend_whose_module_fails(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend whose module raises names no store either, whatever it raises."""
    (tmp_path / "presence_that_fails.py").write_text("raise RuntimeError('no driver')")
    monkeypatch.syspath_prepend(tmp_path)
    settings.WSRT = {"PRESENCE": {"BACKEND": "presence_that_fails.Store"}}
    assert is_shared()
    with pytest.raises(presence.StoreUnavailable, match=r"manage\.py check"):
        presence.count("hall")
