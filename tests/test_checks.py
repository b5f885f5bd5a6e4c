"""System checks."""

from __future__ import annotations

import math
import sys
import types
from typing import Any

import pytest
from django.core.asgi import get_asgi_application
from django.core.checks import CheckMessage
from django.core.management import call_command
from django.core.management.base import SystemCheckError

from wsrt import Event, TypedEventConsumer, checks
from wsrt.asgi import with_runtime
from wsrt.checks import (
    check_consumers,
    check_encryption,
    check_history,
    check_layers,
    check_limits,
    check_routes,
    check_runtime,
    check_servers,
    check_settings,
    check_tickets,
)
from wsrt.cluster.node import is_server
from wsrt.conf import DEFAULTS, SHAPES
from wsrt.protocol.namespaces import namespaces

# Checks look at all consumers.
pytestmark = pytest.mark.usefixtures("only_own_consumers")

PUBSUB = "channels_redis.pubsub.RedisPubSubChannelLayer"
GOOD_HOST = {"address": "redis://127.0.0.1:6379", "socket_timeout": None, "max_connections": 1000}
GOOD = {"hosts": [GOOD_HOST], "capacity": 5000}


def ids(messages: list[CheckMessage]) -> list[str]:
    return [str(message.id) for message in messages]


def settings_ids(settings: Any, **values: Any) -> list[str]:
    settings.WSRT = values
    return ids(check_settings())


def core(settings: Any, **config: Any) -> list[CheckMessage]:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": checks.CORE, "CONFIG": config}}
    return check_layers()


@pytest.fixture
def redis_8(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the defaults of redis-py 8, whatever is installed."""
    monkeypatch.setattr("redis.__version__", "8.1.0")


def only(messages: list[CheckMessage], id: str) -> CheckMessage:
    """Return the message of this id; every message says what to do."""
    found = [message for message in messages if message.id == id]
    assert len(found) == 1, messages
    return found[0]


# The dict


def test_defaults_pass(settings: Any) -> None:
    """No configuration is a good one, and so are the defaults written out."""
    assert settings_ids(settings) == []
    names = {key: value for key, value in DEFAULTS.items() if key not in {"PRESENCE", "HISTORY"}}
    assert settings_ids(settings, **names) == []


def test_no_setting_passes(settings: Any) -> None:
    """The dict may be left out."""
    del settings.WSRT
    assert check_settings() == []


@pytest.mark.parametrize("value", [[], "", 7, [("MAX_ROOMS", 1)]])
def test_no_dict(settings: Any, value: Any) -> None:
    """WSRT is a dict (wsrt.E001)."""
    settings.WSRT = value
    assert "should be a dict" in only(check_settings(), "wsrt.E001").msg


@pytest.mark.parametrize("key", ["MAX_PAYLOADS", "max_payload", "Max_Payload"])
def test_nearly_a_key(settings: Any, key: str) -> None:
    """A misspelt key is an error that names the right one (wsrt.E002)."""
    settings.WSRT = {key: 1}
    assert only(check_settings(), "wsrt.E002").hint == "Did you mean 'MAX_PAYLOAD'?"


@pytest.mark.parametrize("key", ["COLOUR", 7, None])
def test_no_key(settings: Any, key: Any) -> None:
    """A key that resembles none is an error that lists them (wsrt.E002)."""
    settings.WSRT = {key: 1}
    hint = only(check_settings(), "wsrt.E002").hint
    assert all(name in str(hint) for name in DEFAULTS)


@pytest.mark.parametrize("key", SHAPES)
def test_wrong_type(settings: Any, key: str) -> None:
    """A value of a wrong type is an error that says what is right, and the default (wsrt.E003)."""
    settings.WSRT = {key: object()}
    error = only(check_settings(), "wsrt.E003")
    assert f"WSRT[{key!r}]" in error.msg
    assert SHAPES[key].description in error.msg
    assert repr(DEFAULTS[key]) in str(error.hint)


@pytest.mark.parametrize("key", SHAPES)
def test_none(settings: Any, key: str) -> None:
    """None fits where it switches something off, and nowhere else."""
    expected = [] if SHAPES[key].optional else ["wsrt.E003"]
    assert settings_ids(settings, **{key: None}) == expected
    assert SHAPES[key].optional is ("None" in SHAPES[key].description)


NUMBERS = [key for key, shape in SHAPES.items() if shape.least is not None]


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, False, -1, "10", [10], 10j])
def test_no_number(settings: Any, key: str, value: Any) -> None:
    """NaN, infinity, a bool and a negative number are no limits (wsrt.E003, S45)."""
    assert settings_ids(settings, **{key: value}) == ["wsrt.E003"]


@pytest.mark.parametrize("key", NUMBERS)
def test_least_number(settings: Any, key: str) -> None:
    """The least number is allowed, and nothing below it (wsrt.E003)."""
    least = SHAPES[key].least
    least = int(least) if float not in SHAPES[key].types else least
    assert "wsrt.E003" not in settings_ids(settings, **{key: least})
    assert settings_ids(settings, **{key: least - 1}) == ["wsrt.E003"]


@pytest.mark.parametrize("key", [key for key in NUMBERS if float not in SHAPES[key].types])
def test_fraction_of_a_count(settings: Any, key: str) -> None:
    """What is counted is a whole number (wsrt.E003)."""
    assert settings_ids(settings, **{key: 2.5}) == ["wsrt.E003"]


@pytest.mark.parametrize("key", [key for key, shape in SHAPES.items() if shape.choices])
def test_choices(settings: Any, key: str) -> None:
    """One of the listed words is right, another is not (wsrt.E003)."""
    for choice in SHAPES[key].choices:
        assert settings_ids(settings, **{key: choice}) == []
        assert settings_ids(settings, **{key: choice.upper()}) == ["wsrt.E003"]


@pytest.mark.parametrize("value", [1, 0, "yes", None])
def test_switch(settings: Any, value: Any) -> None:
    """A switch is True or False, and no number (wsrt.E003)."""
    assert settings_ids(settings, CHECK_ORIGIN=value) == ["wsrt.E003"]


@pytest.mark.parametrize("value", ["consumers", [7], ["consumers", None], {"consumers"}])
def test_consumers_are_names(settings: Any, value: Any) -> None:
    """CONSUMERS is a list of names, and not a single one (wsrt.E003)."""
    assert settings_ids(settings, CONSUMERS=value) == ["wsrt.E003"]


@pytest.mark.parametrize("rate", ["", "50", "50/d", "0/s", "-1/s", "fast", "1e3/s", "50/s "])
def test_rate(settings: Any, rate: str) -> None:
    """A rate that cannot be read is an error that shows one that can (wsrt.E004)."""
    settings.WSRT = {"RATE": rate}
    error = only(check_settings(), "wsrt.E004")
    assert "'50/s'" in str(error.hint)
    assert error.msg.endswith(f"not {rate!r}.")
    assert error.msg.count(", not ") == 1


@pytest.mark.parametrize("text", ["", "proxy", "10.0.0.1/8"])
def test_trusted_proxies(settings: Any, text: str) -> None:
    """A proxy that is neither an address nor a network is an error that shows both (wsrt.E004)."""
    settings.WSRT = {"TRUSTED_PROXIES": ["10.0.0.0/8", "unix", text]}
    assert 'a network such as "10.0.0.0/8"' in only(check_settings(), "wsrt.E004").msg


@pytest.mark.parametrize("rate", ["", "1M", "1G/s", "0K/s", "fast"])
def test_byte_rate(settings: Any, rate: str) -> None:
    """The same for a rate of bytes (wsrt.E004)."""
    settings.WSRT = {"RATE_BYTES": rate}
    assert "'1M/s'" in str(only(check_settings(), "wsrt.E004").hint)


@pytest.mark.parametrize("rate", ["50/s", "0.5/s", "300/m", "1000/h", None])
def test_good_rate(settings: Any, rate: Any) -> None:
    """Frames a second, minute or hour, or no limit."""
    assert settings_ids(settings, RATE=rate) == []


def test_large_payload(settings: Any) -> None:
    """A frame that the inbox cannot hold is a warning that names the other setting (wsrt.W001)."""
    settings.WSRT = {"MAX_PAYLOAD": 2_000_000}
    assert "INBOX_BYTES" in str(only(check_settings(), "wsrt.W001").hint)
    assert settings_ids(settings, INBOX_BYTES=65_535) == ["wsrt.W001"]
    assert settings_ids(settings, INBOX_BYTES=65_536) == []
    assert settings_ids(settings, INBOX_BYTES="x", MAX_PAYLOAD=10**9) == ["wsrt.E003"]


@pytest.mark.parametrize("key", ["PRESENCE", "HISTORY"])
@pytest.mark.parametrize("backend", ["nowhere.Backend", "json.Nothing", "json", "", None, 7])
def test_backend(settings: Any, key: str, backend: Any) -> None:
    """A backend that cannot be imported is a warning, and no error (wsrt.W002)."""
    settings.WSRT = {key: {"BACKEND": backend}}
    warning = only(check_settings(), "wsrt.W002")
    assert repr(backend) in warning.msg
    assert DEFAULTS[key]["BACKEND"] in str(warning.hint)


@pytest.mark.parametrize(
    ("key", "backend"),
    [
        ("PRESENCE", DEFAULTS["PRESENCE"]["BACKEND"]),
        ("HISTORY", DEFAULTS["HISTORY"]["BACKEND"]),
        ("HISTORY", "wsrt.history.redis.RedisHistory"),
    ],
)
def test_good_backend(settings: Any, key: str, backend: str) -> None:
    """A backend that can be imported is not complained of."""
    assert settings_ids(settings, **{key: {"BACKEND": backend, "OPTIONS": {}}}) == []


@pytest.mark.parametrize(
    "options",
    [
        {"LEASE": 0},
        {"LEASE": 0.001},
        {"LEASE": "30"},
        {"LEASE": float("inf")},
        {"LEASE": 1e300},
        {"LEASE": 10**400},
        {"LEASE": float("nan")},
        {"LEASE": True},
        {"GRACE": -1},
        {"GRACE": None},
        {"GRACE": 1e300},
        {"DETAILS": "no"},
        {"DETAILS": 1},
        {"COLOUR": 1},
    ],
)
def test_options_of_presence(settings: Any, options: dict[str, Any]) -> None:
    """An option that the store does not have, or a wrong value, is named (wsrt.W002)."""
    settings.WSRT = {"PRESENCE": {**DEFAULTS["PRESENCE"], "OPTIONS": options}}
    assert next(iter(options)) in only(check_settings(), "wsrt.W002").msg.upper()


@pytest.mark.parametrize(
    ("store", "option", "values"),
    [
        ("redis.RedisPresence", "PARTITIONS", (0, -1, 100_000, "x", 1.5, True)),
        ("redis.RedisPresence", "TIMEOUT", (0, -1, "5", None, 1e300)),
        ("redis.RedisPresence", "CHUNK", (0, 251, "x", 1.5)),
        ("redis.RedisPresence", "PACE", (0, -1, "x", float("inf"))),
        ("redis.RedisPresence", "CLAIM", (0, 0.0001, -1, "x", 1e300)),
        ("redis.RedisPresence", "CLUSTER", ("no", 1)),
        ("redis.RedisPresence", "PREFIX", (5, "", "{a}")),
        ("cache.CachePresence", "SLOTS", (0, -1, "x", 1.5, 100_000)),
        ("cache.CachePresence", "TIMEOUT", (0, "x", 1e300)),
        ("cache.CachePresence", "PREFIX", (5, "", "my app", "line\n", "\x7f", "é", 101 * "x")),
    ],
)
def test_options_of_stores(settings: Any, store: str, option: str, values: tuple[Any, ...]) -> None:
    """A value that a store could not work with is named, with those that it takes (wsrt.W002)."""
    for value in values:
        settings.WSRT = {"PRESENCE": {"BACKEND": f"wsrt.presence.{store}", "OPTIONS": {option: value}}}
        message = only(check_settings(), "wsrt.W002").msg
        assert f"cannot be used: {option} " in message
        assert f"{value!r}" in message


@pytest.mark.parametrize(
    ("presence", "says"),
    [
        ({}, "BACKEND must be a non-empty string"),
        ({"BACKEND": 5}, "BACKEND must be a non-empty string"),
        ({"OPTION": {}}, "PRESENCE has no key 'OPTION'; its keys are 'BACKEND', 'LOCATION', 'OPTIONS'"),
        ({**DEFAULTS["PRESENCE"], "OPTIONS": []}, "OPTIONS must be a dict"),
        ({**DEFAULTS["PRESENCE"], "OPTIONS": [1]}, "OPTIONS must be a dict"),
        (
            {"BACKEND": "wsrt.presence.redis.RedisPresence", "LOCATION": "localhost:6379"},
            "LOCATION must be a URL such as",
        ),
        ({"BACKEND": "wsrt.presence.redis.RedisPresence", "LOCATION": ["redis://x"]}, "LOCATION must be a URL such as"),
        (
            {"BACKEND": "wsrt.presence.redis.RedisPresence", "LOCATION": "redis://x:y/0"},
            "LOCATION must be a URL such as",
        ),
        (
            {"BACKEND": "wsrt.presence.redis.RedisPresence", "LOCATION": "redis:/x:6379/0"},
            "LOCATION must be a URL such as",
        ),
        ({"BACKEND": "wsrt.presence.redis.RedisPresence", "LOCATION": ""}, "LOCATION must be a URL such as"),
        (
            {"BACKEND": "wsrt.presence.redis.RedisPresence", "LOCATION": "redis://[::1/0"},
            "LOCATION must be a URL such as",
        ),
        ({"BACKEND": "wsrt.presence.redis.RedisPresence", "LOCATION": "redis://x?tiemout=5"}, "'tiemout'"),
        ({"BACKEND": "wsrt.presence.redis.RedisPresence", "LOCATION": "redis://x?db=x"}, "db"),
        ({"BACKEND": "wsrt.presence.redis.RedisPresence", "LOCATION": "redis://x?retry=5"}, "redis-py"),
        ({"BACKEND": "wsrt.presence.redis.RedisPresence", "LOCATION": "redis://x?max_connections=-1"}, "redis-py"),
        ({"BACKEND": "wsrt.presence.redis.RedisPresence", "LOCATION": "rediss://x?ssl_cert_reqs=x"}, "redis-py"),
        (
            {
                "BACKEND": "wsrt.presence.redis.RedisPresence",
                "LOCATION": "redis://x/1",
                "OPTIONS": {"CLUSTER": True},
            },
            "cluster",
        ),
        (
            {
                "BACKEND": "wsrt.presence.redis.RedisPresence",
                "LOCATION": "unix:///x",
                "OPTIONS": {"CLUSTER": True},
            },
            "cluster",
        ),
        ({"BACKEND": "wsrt.presence.cache.CachePresence", "LOCATION": 5}, "LOCATION must be an alias in CACHES"),
        (
            {"BACKEND": "wsrt.presence.cache.CachePresence", "LOCATION": "nowhere"},
            "LOCATION must be an alias in CACHES, which has 'default'",
        ),
    ],
)
def test_shape_of_presence(settings: Any, presence: dict[str, Any], says: str) -> None:
    """A setting of another shape, or a place that is none, is named before anybody connects (wsrt.W002)."""
    settings.WSRT = {"PRESENCE": {**presence}}
    assert says in only(check_settings(), "wsrt.W002").msg


@pytest.mark.parametrize(
    "location",
    ["http://:secret@localhost", ":secret@localhost", "redis://:secret/word@localhost", ["redis://:secret@x"]],
)
def test_password_in_a_location(settings: Any, location: Any) -> None:
    """A location that is wrong is not repeated: there may be a password in it (wsrt.W002)."""
    settings.WSRT = {"PRESENCE": {"BACKEND": "wsrt.presence.redis.RedisPresence", "LOCATION": location}}
    assert "secret" not in only(check_settings(), "wsrt.W002").msg


def test_cache_of_one_process(settings: Any) -> None:
    """Presence in a cache that no other process sees is warned of (wsrt.W010)."""
    settings.WSRT = {"PRESENCE": {"BACKEND": "wsrt.presence.cache.CachePresence"}}
    assert "LocMemCache" in only(check_settings(), "wsrt.W010").msg
    redis = {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://localhost"}
    settings.CACHES = {"default": redis}
    assert check_settings() == []


def test_backend_whose_module_fails(settings: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend whose module raises is a warning too, and does not stop the other checks (wsrt.W002)."""
    (tmp_path / "failing_backend.py").write_text("raise RuntimeError('no driver')")
    monkeypatch.syspath_prepend(tmp_path)
    settings.WSRT = {"HISTORY": {"BACKEND": "failing_backend.Backend"}, "CHANNEL_LAYER_ALIAS": "other"}
    messages = check_settings()
    assert "no driver" in only(messages, "wsrt.W002").msg
    assert "wsrt.E005" in ids(messages)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"HISTORY": {"BACKEND": "json.JSONDecoder"}}, "json.JSONDecoder isn't a HistoryStore"),
        ({"HISTORY": {"BACKEND": "wsrt.presence.memory.MemoryPresence"}}, "MemoryPresence isn't a HistoryStore"),
        (
            {"HISTORY": {"BACKEND": "wsrt.history.redis.RedisHistory", "OPTIONS": {"RETRIES": 1}}},
            "only cluster, idempotency, partitions, prefix, sentinel_kwargs, sentinels, timeout, value_seconds, values",
        ),
        ({"HISTORY": {**DEFAULTS["HISTORY"], "OPTION": {}}}, "no key 'OPTION'"),
        ({"HISTORY": {**DEFAULTS["HISTORY"], "OPTIONS": {"COLOUR": 1}}}, "no option 'colour'"),
        ({"HISTORY": {**DEFAULTS["HISTORY"], "OPTIONS": {"VALUE_SECONDS": 5}}}, "at least HISTORY_SECONDS"),
        ({"HISTORY": {"BACKEND": "wsrt.history.redis.RedisHistory", "LOCATION": "x"}}, "LOCATION must be a URL"),
        ({"HISTORY_SIZE": 10**9}, "HISTORY_SIZE must be an integer from 1 to 100000"),
        ({"HISTORY_SECONDS": 10**9}, "at most those of a year"),
    ],
)
def test_history_that_cannot_be_used(settings: Any, values: dict[str, Any], problem: str) -> None:
    """A history whose key, option or size isn't valid is a warning that says what it must be (wsrt.W002)."""
    settings.WSRT = values
    warning = only(check_settings(), "wsrt.W002")
    assert warning.msg.startswith("WSRT['HISTORY']")
    assert problem in warning.msg
    assert "events with history can't be published" in str(warning.hint)


@pytest.mark.parametrize("backend", ["wsrt.history.memory.MemoryHistory", "wsrt.history.redis.RedisHistory"])
def test_more_values_than_clients_get(settings: Any, backend: str) -> None:
    """Keeping more last values of a room than a client gets when it joins is warned of (wsrt.W023)."""
    settings.WSRT = {"HISTORY": {"BACKEND": backend, "OPTIONS": {"VALUES": 1001}}}
    warning = only(check_settings(), "wsrt.W023")
    assert "VALUES (1001)" in warning.msg
    assert "at most 1000" in warning.msg
    settings.WSRT = {"HISTORY": {"BACKEND": backend, "OPTIONS": {"VALUES": 1000}}}
    assert check_settings() == []


def test_history_of_another_kind(settings: Any) -> None:
    """A value of the wrong kind is one error, not a second one about the store."""
    assert settings_ids(settings, HISTORY_SIZE="many") == ["wsrt.E003"]
    assert settings_ids(settings, HISTORY=7) == ["wsrt.E003"]


def test_alias(settings: Any) -> None:
    """An alias that isn't a key of CHANNEL_LAYERS is an error that lists the keys (wsrt.E005)."""
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": PUBSUB}, "other": {"BACKEND": PUBSUB}}
    settings.WSRT = {"CHANNEL_LAYER_ALIAS": "others"}
    assert only(check_settings(), "wsrt.E005").hint == "The keys are: 'default', 'other'."
    assert settings_ids(settings, CHANNEL_LAYER_ALIAS="other") == []


@pytest.mark.parametrize(
    ("path", "problem"),
    [("nowhere.tenants.current", "cannot be imported"), ("wsrt.__version__", "is not callable"), ("os.getcwd", None)],
)
def test_tenant(settings: Any, path: str, problem: str | None) -> None:
    """TENANT is a function that can be imported (wsrt.E009)."""
    settings.WSRT = {"TENANT": path}
    messages = check_settings()
    if problem is None:
        assert messages == []
    else:
        assert problem in only(messages, "wsrt.E009").msg


def test_alias_without_layers(settings: Any) -> None:
    """Where no layer is configured the alias names none, and one process needs none."""
    settings.CHANNEL_LAYERS = {}
    assert settings_ids(settings, CHANNEL_LAYER_ALIAS="others") == []


def test_all_at_once(settings: Any) -> None:
    """Every mistake is told, not the first one only."""
    found = settings_ids(settings, NOPE=1, THREADS=0, RATE="x", PRESENCE={"BACKEND": "x"}, CHANNEL_LAYER_ALIAS="x")
    assert found == ["wsrt.E002", "wsrt.E003", "wsrt.E004", "wsrt.W002", "wsrt.E005"]


# The layers


def test_good_core_layer(settings: Any) -> None:
    """The core layer as the hints ask for it passes."""
    assert core(settings, **GOOD) == []


def test_pubsub_layer(settings: Any) -> None:
    """The recommended layer passes as it is."""
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": PUBSUB, "CONFIG": {"hosts": ["redis://127.0.0.1"]}}}
    assert check_layers() == []


@pytest.mark.parametrize("layers", [None, {}])
def test_no_layers(settings: Any, layers: Any) -> None:
    """No layer is a good configuration of one process."""
    settings.CHANNEL_LAYERS = layers
    assert check_layers() == []


@pytest.mark.parametrize(
    "hosts",
    [None, [], ["redis://127.0.0.1"], [("127.0.0.1", 6379)], [{"address": "redis://a"}], [GOOD_HOST, "redis://b"]],
)
@pytest.mark.usefixtures("redis_8")
def test_core_layer_timeout(settings: Any, hosts: Any) -> None:
    """The core layer dies of redis-py's default time-out: an error with what to write (wsrt.E006)."""
    error = only(core(settings, capacity=5000, hosts=hosts), "wsrt.E006")
    assert '"socket_timeout": None' in str(error.hint)


@pytest.mark.usefixtures("redis_8")
@pytest.mark.parametrize("hosts", [[], ["redis://a"], [{"address": "redis://a", "socket_timeout": None}]])
def test_core_layer_pool(settings: Any, hosts: Any) -> None:
    """The core layer runs out of connections by redis-py's default: a warning (wsrt.W003)."""
    assert '"max_connections"' in str(only(core(settings, capacity=5000, hosts=hosts), "wsrt.W003").hint)


@pytest.mark.parametrize("config", [{}, {"capacity": 100}, {"capacity": 1}])
def test_core_layer_capacity(settings: Any, config: dict[str, Any]) -> None:
    """The core layer drops what is over its capacity: a warning (wsrt.W004)."""
    warning = only(core(settings, hosts=[GOOD_HOST], **config), "wsrt.W004")
    assert str(config.get("capacity", 100)) in warning.msg
    assert "2000" in str(warning.hint)


def test_core_layer_with_several_hosts(settings: Any) -> None:
    """Several hosts lose messages: a warning (wsrt.W006)."""
    messages = core(settings, **{**GOOD, "hosts": [GOOD_HOST, GOOD_HOST]})
    assert ids(messages) == ["wsrt.W006"]
    assert PUBSUB in str(messages[0].hint)


@pytest.mark.parametrize(("seconds", "found"), [(59, ["wsrt.W007"]), (60, []), (86400, [])])
def test_core_layer_group_expiry(settings: Any, seconds: int, found: list[str]) -> None:
    """Groups that expire within a minute are lost: a warning (wsrt.W007)."""
    assert ids(core(settings, **GOOD, group_expiry=seconds)) == found


@pytest.mark.parametrize("version", ["7.4.0", "5.0.1"])
def test_older_redis(settings: Any, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """Before redis-py 8 its defaults do no harm."""
    monkeypatch.setattr("redis.__version__", version)
    assert core(settings, capacity=5000, hosts=["redis://a"]) == []


def test_no_redis(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks run where redis-py is not installed."""
    monkeypatch.setitem(sys.modules, "redis", None)
    assert core(settings, capacity=5000, hosts=["redis://a"]) == []


def test_memory_layer(settings: Any) -> None:
    """The in-memory layer is a warning outside of development (wsrt.W005)."""
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": checks.MEMORY}}
    assert PUBSUB in str(only(check_layers(), "wsrt.W005").hint)
    settings.DEBUG = True
    assert check_layers() == []


def test_every_layer_is_checked(settings: Any) -> None:
    """The messages say which layer they mean."""
    settings.CHANNEL_LAYERS = {
        "default": {"BACKEND": PUBSUB},
        "one": {"BACKEND": checks.MEMORY},
        "two": {"BACKEND": checks.CORE, "CONFIG": {**GOOD, "capacity": 5}},
    }
    assert [message.msg.partition(" ")[0].strip(":") for message in check_layers()] == [
        "CHANNEL_LAYERS['one']",
        "CHANNEL_LAYERS['two']",
    ]


@pytest.mark.parametrize("key", ["PRESENCE", "HISTORY"])
def test_default_backend_written_out(settings: Any, key: str) -> None:
    """A default that is written out gives no warning."""
    settings.WSRT = {key: DEFAULTS[key]}
    assert check_settings() == []


# Consumers


def test_layer_of_a_consumer(settings: Any) -> None:
    """A consumer whose layer does not exist would reach its own process only: an error, with the keys."""
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": PUBSUB}}

    class Misspelt(TypedEventConsumer):
        namespace = "unit-checks"
        channel_layer_alias = "defualt"

    messages = [message for message in check_consumers() if message.obj is Misspelt]
    assert [(message.id, message.hint) for message in messages] == [("wsrt.E007", "The keys are: 'default'.")]


def test_two_layers_in_a_namespace(settings: Any) -> None:
    """One namespace has one layer, also where one consumer names none; the default by its name is the same."""
    settings.CHANNEL_LAYERS = {alias: {"BACKEND": PUBSUB} for alias in ("default", "other")}

    class Silent(TypedEventConsumer):
        namespace = "unit-checks-two"

    class Named(TypedEventConsumer):
        namespace = "unit-checks-two"
        channel_layer_alias = "default"

    assert check_consumers() == []

    class Other(TypedEventConsumer):
        namespace = "unit-checks-three"
        channel_layer_alias = "other"

    class Mute(TypedEventConsumer):
        namespace = "unit-checks-three"

    assert [message.id for message in check_consumers()] == ["wsrt.E008"]
    assert {Silent.namespace, Named.namespace, Other.namespace, Mute.namespace} <= set(namespaces)


# Tickets

REDIS_CACHE = {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://localhost"}


def test_cache_of_tickets(settings: Any) -> None:
    """Tickets in a cache that processes can't share are an error, where a consumer requires tickets (wsrt.E012)."""
    assert check_tickets() == []

    class DeskConsumer(TypedEventConsumer):
        namespace = "unit-checks"

    assert check_tickets() == []
    DeskConsumer.requires_ticket = True
    for backend in ("locmem.LocMemCache", "dummy.DummyCache"):
        settings.CACHES = {"default": {"BACKEND": f"django.core.cache.backends.{backend}"}, "shared": REDIS_CACHE}
        settings.WSRT = {}
        error = only(check_tickets(), "wsrt.E012")
        assert "DeskConsumer requires tickets" in error.msg
        assert backend.rpartition(".")[2] in error.msg
        assert "DatabaseCache" in str(error.hint)
        settings.WSRT = {"TICKET_CACHE": "shared"}
        assert check_tickets() == []


def test_no_cache_of_tickets(settings: Any) -> None:
    """An alias that isn't in CACHES is an error that lists those that are (wsrt.E011)."""

    class DeskConsumer(TypedEventConsumer):
        namespace = "unit-checks"
        requires_ticket = True

    settings.CACHES = {"default": REDIS_CACHE}
    settings.WSRT = {"TICKET_CACHE": "defualt"}
    error = only(check_tickets(), "wsrt.E011")
    assert DeskConsumer.requires_ticket
    assert error.hint == "The keys are: 'default'."


# Limits of connections


REDIS = {"BACKEND": "wsrt.presence.redis.RedisPresence"}


def test_limits_of_each_process(settings: Any) -> None:
    """A limit of users or addresses is a warning unless the store counts those of all processes (wsrt.W017)."""

    class Limited(TypedEventConsumer):
        namespace = "unit-checks-limited"
        max_connections_per_address = 5

    class Unlimited(Limited):
        namespace = "unit-checks-limited"
        max_connections_per_address = None

    settings.WSRT = {"MAX_CONNECTIONS_PER_USER": 5, "MAX_CONNECTIONS": 5}
    warning = only(check_limits(), "wsrt.W017")
    assert "WSRT['MAX_CONNECTIONS_PER_USER'], " in warning.msg
    assert f"{Limited.__qualname__}.max_connections_per_address: " in warning.msg
    assert Unlimited.__qualname__ not in warning.msg
    settings.WSRT = {"PRESENCE": {"BACKEND": "no.such.Store"}}
    assert ids(check_limits()) == ["wsrt.W017"]
    settings.WSRT = {"MAX_CONNECTIONS_PER_USER": 5, "PRESENCE": REDIS}
    assert check_limits() == []


@pytest.mark.parametrize("values", [{}, [], {"MAX_CONNECTIONS_PER_USER": None, "MAX_CONNECTIONS": 5}])
def test_no_limits(settings: Any, values: Any) -> None:
    """Without limits of users and addresses there is no warning."""
    settings.WSRT = values
    assert check_limits() == []


# History


@pytest.fixture
def kept() -> type[TypedEventConsumer]:
    """The only consumer there is, which sends an event with history."""

    class Kept(Event, name="unit-checks.kept", history=True):
        text: str

    class Typing(Event, name="unit-checks.typing"):
        pass

    class Keeping(TypedEventConsumer):
        namespace = "unit-checks-history"
        out_events = (Kept, Typing)

    return Keeping


HISTORY = {"BACKEND": "wsrt.history.redis.RedisHistory"}


def test_history_of_one_process(settings: Any, kept: type[TypedEventConsumer], monkeypatch: pytest.MonkeyPatch) -> None:
    """With a layer for several processes, history in the memory of each is a warning with the events (wsrt.W018)."""
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": PUBSUB}, "local": {"BACKEND": checks.MEMORY}}
    settings.WSRT = {}
    warning = only(check_history(), "wsrt.W018")
    assert "Kept: each process keeps its own history of these events" in warning.msg
    assert "Typing" not in warning.msg
    assert "wsrt.history.redis.RedisHistory. The worker of wsrt.durable is another process" in str(warning.hint)
    monkeypatch.setattr(checks.apps, "is_installed", lambda name: name != "wsrt.durable")
    assert "silence this check if a single process" in str(only(check_history(), "wsrt.W018").hint)
    kept.channel_layer_alias = "local"
    assert check_history() == []
    kept.channel_layer_alias = "missing"
    assert check_history() == []
    kept.channel_layer_alias = None
    settings.WSRT = {"HISTORY": HISTORY}
    assert check_history() == []
    settings.WSRT = {"HISTORY": {"BACKEND": "no.such.Store"}}
    assert check_history() == []
    settings.WSRT, settings.CHANNEL_LAYERS = {}, {}
    assert check_history() == []


def test_no_history(settings: Any) -> None:
    """Without an event that is kept, the store doesn't matter."""
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": PUBSUB}}
    assert check_history() == []


def test_encryption(settings: Any, kept: type[TypedEventConsumer]) -> None:
    """A layer that encrypts, beside stores in use that don't, is a warning that names them (wsrt.W019)."""
    layer = {"BACKEND": PUBSUB, "CONFIG": {"symmetric_encryption_keys": ["secret"]}}
    settings.CHANNEL_LAYERS = {"default": layer}
    settings.WSRT = {"HISTORY": HISTORY, "PRESENCE": REDIS}
    warning = only(check_encryption(), "wsrt.W019")
    assert warning.msg.endswith("unencrypted: in WSRT['HISTORY'].")
    assert "secret" not in f"{warning.msg}{warning.hint}"
    kept.presence = True
    assert only(check_encryption(), "wsrt.W019").msg.endswith("in WSRT['PRESENCE'] and WSRT['HISTORY'].")
    settings.WSRT = {"PRESENCE": REDIS}
    assert only(check_encryption(), "wsrt.W019").msg.endswith("in WSRT['PRESENCE'].")
    settings.WSRT = {}
    assert check_encryption() == []
    settings.WSRT = {"HISTORY": HISTORY}
    for config in ({}, {"symmetric_encryption_keys": []}, None):
        settings.CHANNEL_LAYERS = {"default": {"BACKEND": PUBSUB, "CONFIG": config}}
        assert check_encryption() == []


# The runtime


def test_wrapped_application(settings: Any) -> None:
    """An application below with_runtime is as it should be, and so is none."""
    settings.ASGI_APPLICATION = "tests.apps.asgi.runtime"
    assert check_runtime() == []
    settings.ASGI_APPLICATION = None
    assert check_runtime() == []


def test_bare_application(settings: Any) -> None:
    """An application that is not wrapped is told, with what to write; one that cannot be imported is the server's."""
    settings.ASGI_APPLICATION = "tests.apps.asgi.application"
    assert [(message.id, "with_runtime(application)" in (message.hint or "")) for message in check_runtime()] == [
        ("wsrt.W008", True)
    ]
    settings.ASGI_APPLICATION = "tests.nothing.application"
    assert check_runtime() == []


# Paths

DJANGO = get_asgi_application()


def at(path: str, name: str = "PathConsumer") -> type[TypedEventConsumer]:
    return type(name, (TypedEventConsumer,), {"namespace": "paths", "path": path, "__qualname__": name})


def test_served_path(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A consumer whose path is served gives no warning; to look makes no server of the process."""
    monkeypatch.setattr("wsrt.cluster.node._is_server", False)
    consumer = at("paths/")
    module = types.ModuleType("served")
    module.__getattr__ = lambda name: with_runtime(get_asgi_application())  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "served", module)
    settings.ASGI_APPLICATION = "served.application"
    assert check_routes() == []
    assert not is_server()
    del consumer


@pytest.mark.parametrize(
    ("application", "says", "hint"),
    [
        ("tests.test_checks.DJANGO", "doesn't serve it", "with_runtime(get_asgi_application())"),
        ("tests.apps.asgi.application", "doesn't serve it", "path(..., PathConsumer.as_asgi())"),
        ("tests.apps.asgi.runtime", "doesn't serve it", "Add *consumer_urlpatterns()"),
        (None, "isn't set", '"mysite.asgi.application"'),
    ],
)
def test_path_that_is_not_served(settings: Any, application: str | None, says: str, hint: str) -> None:
    """A path that the application doesn't serve is told, with what to write (wsrt.W015)."""
    consumer = at("paths/")
    settings.ASGI_APPLICATION = application
    warning = only(check_routes(), "wsrt.W015")
    assert warning.obj is consumer
    assert "PathConsumer has the path 'paths/'" in warning.msg
    assert says in warning.msg
    assert hint in str(warning.hint)


def test_application_that_fails(settings: Any) -> None:
    """An application that can't be imported is the server's to report."""
    consumer = at("paths/")
    settings.ASGI_APPLICATION = "tests.nothing.application"
    assert check_routes() == []
    del consumer


@pytest.mark.parametrize(
    ("backend", "says", "hint"),
    [
        ("channels_redis.pubsub.Layr", 'does not define a "Layr"', "Correct BACKEND"),
        ("no_such_package.Layer", "No module named 'no_such_package'", "install the package"),
    ],
)
def test_layer_that_cannot_be_imported(settings: Any, backend: str, says: str, hint: str) -> None:
    """A channel layer that can't be imported is an error before the first connection (wsrt.E013)."""
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend}}
    error = only(check_layers(), "wsrt.E013")
    assert "CHANNEL_LAYERS['default'] can't be imported: " in error.msg
    assert says in error.msg
    assert hint in (error.hint or "")
    assert len(check_layers()) == 1


def test_two_of_one_path() -> None:
    """Two consumers with one path are an error that names both (wsrt.E010)."""
    one, two = at("paths/", "One"), at("paths/", "Two")
    message = only(check_routes(), "wsrt.E010").msg
    assert "One and tests.test_checks.Two have the same path, 'paths/'" in message
    del one, two


# The servers


def test_servers_as_they_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers that have what they are recognised by are fine."""
    monkeypatch.setattr(checks, "missing_features", lambda: {"uvicorn (wsproto)": [], "daphne": []})
    assert check_servers() == []


def test_server_of_another_make(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that lacks what it is recognised by is told, with what it lacks (wsrt.W009)."""
    monkeypatch.setattr(
        checks, "missing_features", lambda: {"uvicorn (wsproto)": ["WSProtocol.writable"], "daphne": []}
    )
    warning = only(check_servers(), "wsrt.W009")
    assert warning.msg.startswith("uvicorn (wsproto)")
    assert "WSProtocol.writable" in warning.msg
    assert "what ASGI specifies" in str(warning.hint)


# The command


def test_check_command(settings: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """``manage.py check`` runs the checks, and fails on an error."""
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": PUBSUB}}
    call_command("check")
    settings.WSRT = {"MAX_ROOM": 5}
    with pytest.raises(SystemCheckError, match=r"wsrt\.E002"):
        call_command("check")


def test_check_command_of_a_deployment(settings: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """``check --deploy`` looks at application and servers, ``check`` does not: it would import them."""
    settings.ASGI_APPLICATION = "tests.apps.asgi.application"
    call_command("check")
    assert "wsrt.W008" not in capsys.readouterr().err
    call_command("check", deploy=True)
    assert "wsrt.W008" in capsys.readouterr().err


def test_check_command_warns(settings: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A warning is shown by ``manage.py check``, and fails nothing."""
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": checks.MEMORY}}
    call_command("check")
    assert "wsrt.W005" in capsys.readouterr().err
