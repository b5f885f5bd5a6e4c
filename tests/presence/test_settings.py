"""Settings without a usable store: the errors, and what works without presence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wsrt import Event, TypedEventConsumer, on, presence
from wsrt.checks import check_settings
from wsrt.presence.backends import is_shared, make_store
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
    {"BACKEND": REDIS, "LOCATION": "redis://:p@ss#w@localhost:6379/0"},
    {"BACKEND": REDIS, "LOCATION": "redis://:p@ss#w"},
    {"BACKEND": REDIS, "LOCATION": "redis://:1/2@localhost:6379/0"},
    {"BACKEND": REDIS, "LOCATION": "redis://:1?2@localhost:6379/0"},
    {"BACKEND": REDIS, "LOCATION": "redis://:a b@localhost:6379/0"},
    {"BACKEND": REDIS, "LOCATION": "redis://:a\nb@localhost:6379/0"},
    {"BACKEND": REDIS, "LOCATION": "redis://localhost:6379/cache"},
    {"BACKEND": REDIS, "OPTIONS": {"PARTITIONS": -1}},
    {"BACKEND": REDIS, "OPTIONS": {"SENTINELS": [("10.0.0.1", 26379)]}},
    {"BACKEND": REDIS, "LOCATION": "redis://mymaster:6379", "OPTIONS": {"SENTINELS": [("10.0.0.1", 26379)]}},
    {"BACKEND": REDIS, "LOCATION": "unix:///run/redis", "OPTIONS": {"SENTINELS": [("10.0.0.1", 26379)]}},
    {"BACKEND": REDIS, "LOCATION": "redis://mymaster", "OPTIONS": {"SENTINELS": []}},
    {"BACKEND": REDIS, "LOCATION": "redis://mymaster", "OPTIONS": {"SENTINELS": "10.0.0.1:26379"}},
    {"BACKEND": REDIS, "LOCATION": "redis://mymaster", "OPTIONS": {"SENTINELS": ["10.0.0.1:26379"]}},
    {"BACKEND": REDIS, "LOCATION": "redis://mymaster", "OPTIONS": {"SENTINELS": [("10.0.0.1", "26379")]}},
    {
        "BACKEND": REDIS,
        "LOCATION": "redis://mymaster",
        "OPTIONS": {"SENTINELS": [("10.0.0.1", 26379)], "CLUSTER": True},
    },
    {
        "BACKEND": REDIS,
        "LOCATION": "redis://mymaster",
        "OPTIONS": {"SENTINELS": [("10.0.0.1", 26379)], "SENTINEL_KWARGS": "secret"},
    },
    {
        "BACKEND": REDIS,
        "LOCATION": "redis://mymaster",
        "OPTIONS": {"SENTINELS": [("10.0.0.1", 26379)], "SENTINEL_KWARGS": {"pasword": "x"}},
    },
    {"BACKEND": REDIS, "LOCATION": "redis://localhost", "OPTIONS": {"SENTINEL_KWARGS": {"password": "x"}}},
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
    """The check says why; connections are opened and served, and reading presence names the check."""
    settings.WSRT = {"PRESENCE": wrong}
    assert [message.id for message in check_settings()] == ["wsrt.W002"]
    async with connect(OpenConsumer) as client:
        await client.request(Hello())
        for read in (presence.astats, presence.ausers, lambda: presence.acount("hall")):
            with pytest.raises(presence.StoreUnavailable, match=r"manage\.py check"):
                await read()


RIGHT: list[dict[str, Any]] = [
    {"LOCATION": "redis://"},
    {"LOCATION": "redis://:p@ss@localhost:6379/0/"},
    {"LOCATION": "redis://user:p%23%2Fs%20@localhost:6379/0?socket_keepalive=yes"},
    {"LOCATION": "rediss://localhost?ssl_cert_reqs=none"},
    {"LOCATION": "unix:///run/redis.sock?db=2"},
    {"LOCATION": "redis://localhost:6379", "OPTIONS": {"CLUSTER": True}},
    {"LOCATION": "redis://My_Master", "OPTIONS": {"SENTINELS": [("10.0.0.1", 26379), ["::1", 26379]]}},
    {
        "LOCATION": "rediss://user:p@mymaster/1?ssl_cert_reqs=none",
        "OPTIONS": {"SENTINELS": [("s1", 26379)], "SENTINEL_KWARGS": {"username": "x", "password": "y", "ssl": True}},
    },
]


@pytest.mark.parametrize("right", RIGHT, ids=repr)
def test_settings_that_name_a_redis(settings: Any, right: dict[str, Any]) -> None:
    """A Redis, a cluster or a service of Sentinels by URL passes the check, which connects to none of them."""
    settings.WSRT = {"PRESENCE": {"BACKEND": REDIS, **right}}
    assert check_settings() == []


def test_no_password_in_a_message() -> None:
    """What is wrong with a URL is said without the URL: there may be a password in it."""
    for location in ("redis://:hunter2#x@localhost", "redis://:hunter2 x@localhost", "redis://:hunter2@localhost/x"):
        with pytest.raises(ValueError, match=r"LOCATION must be a URL|URL in LOCATION") as caught:
            make_store({"BACKEND": REDIS, "LOCATION": location})
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("wrong", [7, "memory", None, []], ids=repr)
async def test_setting_of_another_kind(settings: Any, wrong: object) -> None:
    """A value that isn't a dict is an error of the checks, and connections are opened and served all the same."""
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
