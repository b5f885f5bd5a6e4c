"""The doctor: each problem that it detects, and real deployments."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from websockets.asyncio.server import ServerConnection, serve

from tests.support.layer import FakeLayer, installed
from tests.support.ports import free_port
from tests.support.processes import COVERAGE, ROOT, RedisServer, Server
from tests.support.redis import ClusterServer, ReplicaServer, SentinelServer
from tests.support.report import note
from wsrt import TypedEventConsumer, __version__, doctor
from wsrt.doctor import Finding, history, layers, live, presence, redis
from wsrt.doctor.finding import one_line
from wsrt.doctor.installed import application, bad_versions, complaints, examine, numbers, servers, versions
from wsrt.history.base import Append
from wsrt.history.redis import RedisHistory
from wsrt.presence.base import EVERYONE, Join, Leave, NodeFacts, NodeRecord, StoreUnavailable
from wsrt.presence.memory import MemoryPresence
from wsrt.presence.redis import RedisPresence
from wsrt.protocol.namespaces import namespaces
from wsrt.types import Position

PUBSUB = "channels_redis.pubsub.RedisPubSubChannelLayer"
CORE = "channels_redis.core.RedisChannelLayer"
OK_INFO = {"redis_version": "7.0.15", "redis_mode": "standalone", "role": "master", "maxmemory_policy": "noeviction"}


def one(findings: Any) -> Finding:
    """Return the only one of the findings."""
    (finding,) = findings
    assert isinstance(finding, Finding)
    return finding


def statuses(findings: Any) -> list[tuple[str, str]]:
    return [(finding.subject, finding.status) for finding in findings]


# What is installed


def test_versions() -> None:
    """What is installed is told, what is not is left out."""
    found = versions()
    assert found["Django"][0].isdigit()
    assert found.keys() >= {"channels", "daphne", "uvicorn", "redis"}
    assert list(bad_versions(found)) == []


@pytest.mark.parametrize(
    ("package", "version", "status"),
    [
        ("channels", "4.2.1", "error"),
        ("Django", "5.1.9", "error"),
        ("channels-redis", "4.2.0", "warning"),
        ("daphne", "4.1.2", "warning"),
        ("daphne", "4.2.1", "warning"),
        ("uvicorn", "0.30.0", "warning"),
    ],
)
def test_old_version(package: str, version: str, status: str) -> None:
    """What is older than wsrt needs is an error, than an extra asks for a warning; the advice is a command."""
    findings = [each for each in bad_versions({package: version, "websockets": "17.0"}) if each.subject == package]
    assert {finding.status for finding in findings} == {status}
    assert all(f"pip install -U {package}" in finding.advice for finding in findings)


def test_unbounded_daphne() -> None:
    """Daphne before 4.2.2 takes messages of any size."""
    assert any("CVE-2026-44545" in finding.seen for finding in bad_versions({"daphne": "4.2.1"}))
    assert list(bad_versions({"daphne": "4.2.2"})) == []


def test_uvicorn_alone() -> None:
    """uvicorn needs a library for WebSockets."""
    assert one(bad_versions({"uvicorn": "99.0"})).advice == "pip install websockets"
    assert list(bad_versions({"uvicorn": "99.0", "wsproto": "1.2.0"})) == []


@pytest.mark.parametrize(
    ("version", "parts"), [("5.2", (5, 2)), ("8.1.0rc1", (8, 1, 0)), ("7.2.4-v1", (7, 2, 4)), ("?", ())]
)
def test_numbers(version: str, parts: tuple[int, ...]) -> None:
    """Of a version the leading numbers count."""
    assert numbers(version) == parts


@pytest.mark.parametrize(
    ("path", "status", "seen"),
    [
        ("tests.apps.asgi.runtime", "ok", "wrapped"),
        ("tests.apps.asgi.application", "warning", "is not wrapped"),
        ("tests.nothing.application", "error", "ModuleNotFoundError"),
        (None, "warning", "not set"),
    ],
)
def test_application(settings: Any, path: str | None, status: str, seen: str) -> None:
    """The ASGI application is wrapped, not wrapped, cannot be imported, or is not known."""
    settings.ASGI_APPLICATION = path
    finding = one(application())
    assert (finding.subject, finding.status) == ("ASGI_APPLICATION", status)
    assert seen in finding.seen
    assert bool(finding.advice) is (status != "ok")


@pytest.mark.parametrize(("debug", "status"), [(True, "warning"), (False, "ok")])
def test_debug(settings: Any, debug: bool, status: str) -> None:
    """DEBUG is for development."""
    settings.DEBUG = debug
    assert ("DEBUG", status) in statuses(examine())


def test_checks(settings: Any) -> None:
    """What ``manage.py check`` says is shown with its id; an error of the settings is one here."""
    settings.WSRT = {"MAX_ROOM": 5}
    finding = one(each for each in examine() if each.subject == "settings" and each.status == "error")
    assert (finding.id, finding.advice) == ("wsrt.E002", "Did you mean 'MAX_ROOMS'?")


def test_nothing_to_complain_of(settings: Any) -> None:
    """Where it says nothing, this is told."""
    settings.CHANNEL_LAYERS = {}
    assert ("settings", "ok") in statuses(examine())


def test_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers that would be recognised are listed, each of the others is a warning with what it lacks."""
    found: dict[str, list[str]] = {"daphne": [], "uvicorn (wsproto)": ["WSProtocol.writable"]}
    monkeypatch.setattr("wsrt.doctor.installed.missing_features", lambda: found)
    known, unknown = servers()
    assert (known.status, known.seen) == ("ok", "would be recognised: daphne")
    assert (unknown.status, unknown.id) == ("warning", "wsrt.W009")
    assert "WSProtocol.writable" in unknown.seen


def test_no_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no server is installed, it is the wrong machine."""
    monkeypatch.setattr("wsrt.doctor.installed.missing_features", dict)
    assert one(servers()).status == "warning"


# Layers


def test_layers_in_use() -> None:
    """The layer of the settings is looked at, and those that consumers name."""

    class Other(TypedEventConsumer):
        namespace = "unit-doctor"
        channel_layer_alias = "second"

    assert Other.namespace in namespaces
    assert layers.aliases() == ["default", "second"]


@pytest.mark.parametrize(
    ("configured", "seen"),
    [({}, "none"), ({"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}, "in memory")],
)
async def test_local_layer(settings: Any, configured: dict[str, Any], seen: str) -> None:
    """Where no layer reaches other processes, there is nothing to try."""
    settings.CHANNEL_LAYERS = configured
    finding = one(await layers.examine("default"))
    assert (finding.status, finding.seen) == ("ok", f"{seen}: reaches this process only")


async def test_layer() -> None:
    """Messages go around through a group, of which nothing is left."""
    with installed(FakeLayer()) as layer:
        finding = one(await layers.examine("default"))
    assert finding.status == "ok"
    assert finding.facts["round_trip_ms"] >= 0
    assert finding.facts["group_expiry"] == 86400
    assert [members for members in layer.groups.values() if members] == []
    assert sum(layer.calls.values()) >= layers.TRIPS


async def test_slow_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer that takes long is a warning."""
    monkeypatch.setattr(layers, "SLOW_MS", 0)
    with installed(FakeLayer()):
        assert one(await layers.examine("default")).status == "warning"


async def test_layer_that_joins_late() -> None:
    """A message that was lost because the group was not joined yet is sent again."""
    layer = FakeLayer()
    layer.is_deaf = True
    with installed(layer):
        examining = asyncio.create_task(layers.examine("default"))
        while not any(method == "group_send" for method, _ in layer.calls):
            await asyncio.sleep(0)  # let it send
        layer.is_deaf = False
        assert one(await examining).status == "ok"


async def test_layer_that_is_down() -> None:
    """A layer that fails is an error that says how."""
    layer = FakeLayer()
    layer.is_down = True
    with installed(layer):
        finding = next(each for each in await doctor.examine() if each.subject == "layer 'default'")
    assert (finding.status, finding.seen) == ("error", "ConnectionError: the layer is down")


async def test_layer_that_fails_to_receive() -> None:
    """So is one that takes messages, and gives none."""
    layer = FakeLayer()
    layer.is_deaf = True
    with installed(layer):
        examining = asyncio.create_task(layers.examine("default"))
        while not any(method == "group_send" for method, _ in layer.calls):
            await asyncio.sleep(0)  # let it send
        layer.fail(ConnectionError("gone"))
        with pytest.raises(ConnectionError, match="gone"):
            await examining


async def test_layer_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not answer is given up in time, and the other parts go on."""
    monkeypatch.setattr(doctor, "PART_SECONDS", 0.1)
    layer = FakeLayer()
    layer.gate.clear()
    with installed(layer):
        findings = await doctor.examine()
    finding = next(each for each in findings if each.subject == "layer 'default'")
    assert (finding.status, finding.seen) == ("error", "no answer within 0.1 s")
    assert ("DEBUG", "ok") in statuses(findings)


def test_one_line() -> None:
    """An exception is described on one line."""
    assert one_line(ValueError("a\n  b")) == "ValueError: a b"
    assert one_line(TimeoutError()) == "TimeoutError"


# Redis


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"address": "redis://127.0.0.1:6379/0"}, "127.0.0.1:6379/0"),
        ({"address": "rediss://user:p@ss@redis.local:6380/1?socket_timeout=5&password=x"}, "redis.local:6380/1"),
        ({"address": "unix:///run/redis.sock"}, "/run/redis.sock"),
        ({"host": "redis", "port": 6390}, "redis:6390"),
        ({}, "localhost:6379"),
        ({"master_name": "main", "sentinels": []}, "main (Sentinel)"),
    ],
)
def test_address(options: dict[str, Any], where: str) -> None:
    """A Redis is named by where it is, never with its password."""
    assert redis.address(options) == where


def test_hosts(settings: Any) -> None:
    """Each Redis is examined once, even if several parts use it."""
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": PUBSUB, "CONFIG": {"hosts": ["redis://a/0", ("b", 1)]}}}
    settings.WSRT = {"PRESENCE": {"BACKEND": "x.Y", "LOCATION": "redis://a/0"}}
    hosts = redis.hosts()
    assert [(host.subject, host.is_pubsub) for host in hosts] == [("Redis a/0", True), ("Redis b:1", True)]


def test_hosts_of_presence(settings: Any) -> None:
    """The Redis of presence counts too; a cache alias is none."""
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": CORE, "CONFIG": {"hosts": ["redis://a/0"]}}}
    settings.WSRT = {"PRESENCE": {"BACKEND": "x.Y", "LOCATION": "redis://b/0"}}
    assert [(host.subject, host.is_pubsub) for host in redis.hosts()] == [("Redis a/0", False), ("Redis b/0", False)]
    settings.WSRT = {"PRESENCE": {"BACKEND": "x.Y", "LOCATION": "default"}}
    assert [host.subject for host in redis.hosts()] == ["Redis a/0"]


def test_hosts_that_are_no_list(settings: Any) -> None:
    """What the layer itself refuses is left to it."""
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": PUBSUB, "CONFIG": {"hosts": "redis://a/0"}}}
    assert redis.hosts() == []


@pytest.mark.parametrize(
    ("info", "status", "seen"),
    [
        ({}, "ok", "version 7.0.15"),
        ({"redis_version": "6.2.0"}, "ok", "version 6.2.0"),
        ({"redis_version": "6.0.16"}, "error", "too old"),
        ({"redis_version": "5.0.1", "valkey_version": "8.0.1"}, "ok", "Valkey 8.0.1"),
        ({"redis_mode": "cluster"}, "error", "a cluster"),
        ({"role": "slave"}, "error", "a replica"),
    ],
)
def test_redis_version(info: dict[str, Any], status: str, seen: str) -> None:
    """Redis is 6.2 or newer, or Valkey, alone and not a replica."""
    finding = redis.version("Redis", {**OK_INFO, **info})
    assert finding.status == status
    assert seen in finding.seen
    assert bool(finding.advice) is (status != "ok")


@pytest.mark.parametrize(("milliseconds", "status"), [(0.3, "ok"), (19.9, "ok"), (20.1, "warning")])
def test_redis_latency(milliseconds: float, status: str) -> None:
    """A Redis that is far is a warning."""
    finding = redis.latency("Redis", milliseconds)
    assert (finding.status, finding.facts) == (status, {"ping_ms": milliseconds})


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl", "allkeys-random"])
def test_redis_that_evicts(policy: str) -> None:
    """A policy that evicts is a warning, also before the limit is set."""
    finding = redis.memory("Redis", {"maxmemory_policy": policy, "maxmemory": 0})
    assert finding.status == "warning"
    assert "noeviction" in finding.advice
    full = redis.memory("Redis", {"maxmemory_policy": policy, "maxmemory": 1, "maxmemory_human": "1B"})
    assert full.seen.endswith("1B")


def test_redis_that_keeps() -> None:
    """One that evicts nothing is fine, and so is one that does not say."""
    assert redis.memory("Redis", OK_INFO).status == "ok"
    assert redis.memory("Redis", {}).status == "ok"


@pytest.mark.parametrize(
    ("limits", "status"),
    [
        ("normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60", "ok"),
        ("pubsub 33554432 0 0", "ok"),
        ("pubsub 0 0 0", "warning"),
        ("pubsub 1000000 0 0", "warning"),
        ("pubsub 33554432 1048576 10", "warning"),
        ("", "ok"),
    ],
)
def test_redis_buffers(limits: str, status: str) -> None:
    """A limit that cuts nodes early is a warning, and so is none."""
    finding = redis.buffers("Redis", limits)
    assert finding.status == status
    assert ("33554432" in finding.advice) is (status != "ok")


# Presence


class FakeStore(MemoryPresence):
    """A presence store, as far as the doctor asks it."""

    is_shared = True
    nodes_there: list[NodeRecord] = []
    error: Exception | None = None
    closed = 0

    async def nodes(self) -> list[NodeRecord]:
        if self.error is not None:
            raise self.error
        return self.nodes_there

    async def close(self) -> None:
        type(self).closed += 1


class LonelyStore(FakeStore):
    is_shared = False


def use(settings: Any, store: type[FakeStore]) -> None:
    settings.WSRT = {"PRESENCE": {"BACKEND": f"{__name__}.{store.__name__}"}}


async def test_presence(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shared store is read, its nodes are shown, and it is closed."""
    use(settings, FakeStore)
    facts = {"host": "web-1", "pid": 7, "connections": 3, "servers": ["daphne"], "lag_ms": 1, "version": __version__}
    monkeypatch.setattr(FakeStore, "nodes_there", [NodeRecord("a" * 24, 20.0, facts)])
    before = FakeStore.closed
    store, node = await presence.examine()
    assert (store.status, store.facts["nodes"]) == ("ok", 1)
    assert (node.subject, node.status) == ("node web-1:7", "ok")
    assert "daphne" in node.seen
    assert FakeStore.closed == before + 1


@pytest.mark.parametrize(
    ("facts", "advice"),
    [
        ({"servers": ["asgi"]}, "recognise"),
        ({"servers": [], "connections": 3}, "with_runtime"),
        ({"servers": ["daphne"], "version": "0.0.1"}, "finish the deployment"),
        ({"servers": ["daphne"], "lag_ms": 900}, "blocks its event loop"),
        ({"servers": ["daphne"], "limits": {"proxies_untrusted": 1}}, "WSRT['TRUSTED_PROXIES']"),
        ({"servers": ["daphne"], "limits": {"addresses_missing": 1}}, "add 'unix' to WSRT['TRUSTED_PROXIES']"),
        ({"servers": ["daphne"], "limits": {"limits_unavailable": 1}}, "limited connections by itself"),
        ({"servers": ["daphne"], "limits": {"connections_refused_per_address": 1}}, "aren't behind a proxy"),
    ],
)
def test_node(facts: dict[str, Any], advice: str) -> None:
    """A node with an unknown server, of another version, or with a blocked loop is a warning."""
    finding = presence.node(NodeRecord("a" * 24, 20.0, facts))
    assert finding.status == "warning"
    assert advice in finding.advice


def test_node_that_has_reached_limits() -> None:
    """The limits that a node has reached are shown, and are no warning."""
    facts = {"servers": ["daphne"], "limits": {"handshakes_refused": 5, "connections_replaced": 2}}
    finding = presence.node(NodeRecord("a" * 24, 20.0, facts))
    assert finding.status == "ok"
    assert finding.seen.endswith("; limits reached: handshakes_refused 5, connections_replaced 2")


def test_node_without_connections() -> None:
    """A node that was given no connection yet says so, and is fine."""
    finding = presence.node(NodeRecord("a" * 24, 20.0, {"servers": [], "advice": "mine"}))
    assert (finding.status, finding.subject) == ("ok", f"node {'a' * 24}:?")
    assert "no connection came" in finding.seen


async def test_presence_that_is_down(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that does not answer is an error."""
    use(settings, FakeStore)
    monkeypatch.setattr(FakeStore, "error", StoreUnavailable("no route"))
    finding = next(each for each in await doctor.examine() if each.subject == "presence")
    assert (finding.status, finding.seen) == ("error", "StoreUnavailable: no route")


async def test_presence_of_each_process(settings: Any) -> None:
    """A store of one process is fine where there is one, and a warning where a layer reaches others."""
    use(settings, LonelyStore)
    assert one(await presence.examine()).status == "ok"
    with installed(FakeLayer()):
        assert one(await presence.examine()).status == "warning"


async def test_presence_that_cannot_be_imported(settings: Any) -> None:
    """A backend that doesn't exist is a warning: presence isn't tracked."""
    settings.WSRT = {"PRESENCE": {"BACKEND": "nowhere.Store"}}
    finding = one(await presence.examine())
    assert finding.status == "warning"
    assert "nowhere" in finding.seen


# A running server


def test_compression() -> None:
    """Compression is a warning where the server can leave it."""
    assert live.compression("uvicorn", ["permessage-deflate"]).status == "warning"
    assert live.compression("hypercorn-h11", ["permessage-deflate"]).status == "ok"
    assert live.compression("uvicorn", []).status == "ok"


@pytest.mark.parametrize(
    ("close", "status"),
    [
        ((1007, "Invalid message payload"), "ok"),
        ((4401, "Unauthenticated"), "ok"),
        ((4007, ""), "warning"),
        ((4401, ""), "warning"),
        ((1006, ""), "warning"),
        (None, "warning"),
    ],
)
def test_close_codes(close: tuple[int, str] | None, status: str) -> None:
    """A close with its reason is as it was sent; one without is that of a server without the runtime."""
    assert live.close_codes(close).status == status


async def test_without_websockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library for it a server is not tried, and that is said."""
    monkeypatch.setitem(sys.modules, "websockets.asyncio.client", None)
    finding = one(await live.examine("ws://127.0.0.1:1/"))
    assert (finding.status, finding.advice) == ("warning", "pip install websockets")


# The command


def test_command(settings: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The table has a line for each finding, and the number of warnings at its end."""
    use(settings, FakeStore)
    monkeypatch.setattr("wsrt.doctor.installed.missing_features", lambda: {"daphne": []})
    settings.CHANNEL_LAYERS = {}
    call_command("wsrt_doctor", no_color=True)
    lines = capsys.readouterr().out.splitlines()
    assert any(re.match(r"ok {7}DEBUG +False", line) for line in lines)
    assert lines[-1] == "errors: 0, warnings: 0"


def test_command_with_errors(settings: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """An error is a failure of the command, also for programs, and its advice is shown."""
    settings.WSRT = {"MAX_ROOM": 5}
    with pytest.raises(CommandError, match="errors"):
        call_command("wsrt_doctor", no_color=True)
    assert "-> Did you mean 'MAX_ROOMS'?" in capsys.readouterr().out
    with pytest.raises(CommandError) as raised:
        call_command("wsrt_doctor", json=True)
    assert raised.value.returncode == 1
    assert json.loads(capsys.readouterr().out)["status"] == "error"


def test_settings_that_cannot_be_checked(settings: Any) -> None:
    """Where a check fails itself, that is a finding too."""
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": CORE, "CONFIG": None}}
    finding = one(each for each in examine() if each.subject == "settings")
    assert finding.status == "error"
    assert finding.seen.startswith("check_layers")


@pytest.mark.parametrize("value", ["memory", 7, [1], {}, {"BACKEND": None}])
def test_wrong_settings(settings: Any, capsys: pytest.CaptureFixture[str], value: Any) -> None:
    """Settings of a wrong shape are findings, and stop nothing."""
    settings.WSRT = {"PRESENCE": value, "MAX_ROOM": 1}
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "nowhere.Layer", "CONFIG": None}}
    with pytest.raises(CommandError):
        call_command("wsrt_doctor", json=True)
    found = [(each["subject"], each["status"]) for each in json.loads(capsys.readouterr().out)["findings"]]
    assert {"layer 'default'", "settings"} <= {subject for subject, status in found if status == "error"}
    assert found[-1][0] == "presence"
    assert found[-1][1] != "ok"


def test_json(settings: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON has the worst status, and all of each finding."""
    use(settings, FakeStore)
    settings.CHANNEL_LAYERS = {}
    settings.DEBUG = True
    call_command("wsrt_doctor", "--json")
    report = json.loads(capsys.readouterr().out)
    assert report["status"] == "warning"
    assert {tuple(finding) for finding in report["findings"]} == {
        ("subject", "status", "seen", "advice", "id", "facts"),
    }


@pytest.mark.parametrize("columns", [20, 40, 71, 72, 80, 200])
def test_narrow_terminals(
    settings: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """Lines are wrapped to the terminal, but for what is to be copied whole."""
    monkeypatch.setenv("COLUMNS", str(columns))
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    call_command("wsrt_doctor", no_color=True)
    out = capsys.readouterr().out
    assert "channels_redis.pubsub.RedisPubSubChannelLayer" in out
    for line in out.splitlines():
        assert len(line) <= max(columns, 40) or len(line.split()) <= 3


def test_colours(settings: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Statuses have Django's colours where the terminal has any."""
    call_command("wsrt_doctor", force_color=True)
    assert "\x1b[32;1mok\x1b[0m" in capsys.readouterr().out


# Real deployments


class Report:
    """What the command said, run as an operator does."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        begun = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-W", "error", *COVERAGE, "-m", "django", "wsrt_doctor", "--json", *arguments],
            cwd=ROOT,
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "WSRT_TEST_DURABLE": "0", **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.seconds = time.monotonic() - begun
        self.code = done.returncode
        self.errors = done.stderr
        assert done.stdout, done.stderr
        self.findings = [Finding(**finding) for finding in json.loads(done.stdout)["findings"]]

    def __getitem__(self, subject: str) -> Finding:
        """Return the finding whose subject ends so."""
        return one(finding for finding in self.findings if finding.subject.endswith(subject))


HANGS = 30
"""Seconds: no answer is waited for longer than 4 s, and the rest is Python's start on a busy machine."""


@pytest.mark.servers
@pytest.mark.parametrize("layer", ["pubsub", "core"])
def test_redis(redis_server: RedisServer, layer: str) -> None:
    """Layer and Redis are well, and nothing is left in Redis."""
    report = Report(WSRT_TEST_LAYER=layer, WSRT_TEST_REDIS=redis_server.url)
    assert (report.code, report.errors) == (0, "")
    assert report["layer 'default'"].status == "ok"
    assert report["layer 'default'"].facts["round_trip_ms"] > 0
    assert ("capacity" in report["layer 'default'"].facts) is (layer == "core")
    for subject in ("/0", "clock", "memory"):
        assert report[subject].status == "ok"
    assert report["latency"].status in {"ok", "warning"}  # which one, the machine decides
    assert report["/0"].facts["version"][0].isdigit()
    assert ask(redis_server, "DBSIZE") == "(integer) 0"


@pytest.mark.servers
def test_redis_with_traps(redis_server: RedisServer) -> None:
    """A Redis that evicts, and cuts nodes early, is told."""
    ask(redis_server, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    ask(redis_server, "CONFIG", "SET", "client-output-buffer-limit", "pubsub 1000000 0 0")
    report = Report(WSRT_TEST_LAYER="pubsub", WSRT_TEST_REDIS=redis_server.url)
    assert report.code == 0
    assert report["memory"].status == "warning"
    assert report["buffers"].status == "warning"


RIGHTS = "~wsrt* +@read +@write +@scripting +ping +time"
"""What docs/reference/presence.md says that presence needs."""


@pytest.mark.parametrize(("rights", "is_timed"), [(RIGHTS, True), ("~wsrt* +@read +@write +@scripting", False)])
async def test_redis_with_an_acl(redis_server: RedisServer, settings: Any, rights: str, is_timed: bool) -> None:
    """Where an ACL does not allow INFO, the doctor says so and looks at the rest; that is not an error."""
    ask(redis_server, "ACL", "SETUSER", "app", "on", ">secret", *rights.split())
    settings.WSRT = {
        "PRESENCE": {
            "BACKEND": "wsrt.presence.redis.RedisPresence",
            "LOCATION": f"redis://app:secret@127.0.0.1:{redis_server.port}/0",
        }
    }
    found = {finding.subject: finding for finding in await doctor.examine()}
    subject = f"Redis 127.0.0.1:{redis_server.port}/0"
    assert (found[subject].status, "INFO is not allowed" in found[subject].seen) == ("ok", True)
    assert (f"{subject} clock" in found, f"{subject} latency" in found) == (is_timed, is_timed)
    assert f"{subject} memory" not in found
    if is_timed:
        assert (found["presence"].status, found["presence"].facts["nodes"]) == ("ok", 0)
    assert "secret" not in repr(found)


@pytest.mark.parametrize("rights", [RIGHTS])
async def test_rights_of_presence(redis_server: RedisServer, rights: str) -> None:
    """With the rights that the documentation names, a node joins, is read, renews its lease and is taken out."""
    ask(redis_server, "ACL", "SETUSER", "app", "on", ">secret", *rights.split())
    store = RedisPresence(f"redis://app:secret@127.0.0.1:{redis_server.port}/0")
    assert (await store.begin(NodeFacts("n1", {}))).is_alive
    await store.apply("n1", [Join("chat", room, 1, "ada", '"x"', '"d"') for room in ("a", EVERYONE)])
    await store.apply("n1", [Leave("chat", "a", 1), Join("chat", "b", 2, "ada")])
    assert (await store.beat(NodeFacts("n1", {}))).is_alive
    assert await store.versions([("chat", "a")]) == [0]
    for read in (store.snapshot("chat", "b", 5), store.members("chat", "b"), store.rooms("chat")):
        assert await read
    assert await store.held("n1", "chat", "b") == {2}
    assert len((await store.connections("chat", user_id="ada")).items) == 1
    assert await store.namespaces() == ["chat"]
    assert len([change async for chunk in store.reap("n1") for change in chunk]) == 2
    await store.close()


@pytest.mark.parametrize("rights", [RIGHTS.replace("~wsrt*", "~wsrt-history*")])
async def test_rights_of_history(redis_server: RedisServer, rights: str) -> None:
    """With the rights that the documentation names, everything can be done."""
    ask(redis_server, "ACL", "SETUSER", "app", "on", ">secret", *rights.split())
    store = RedisHistory(f"redis://app:secret@127.0.0.1:{redis_server.port}/0", size=1)
    room = "chat", "a"
    for _ in range(3):
        await store.append([Append(room, "1", "said", "{}", idempotency_key="x"), Append(room, "2", "said", "{}")])
    await store.append([Append(room, "3", "said", "{}", key="k")])
    position = (await store.positions([room]))[0].position
    assert (await store.read(room, Position(position.epoch, 0), limit=9, max_bytes=99)).gap == "trimmed"
    assert len((await store.values(room, limit=9, max_bytes=99)).entries) == 1
    assert await store.forget(room, offset=position.offset - 1)
    assert await store.forget(room, key="k")
    assert [facts.entries for facts in await store.facts([room])] == [0]
    assert (await store.renew(room, position.epoch)).offset == (await store.purge(room)).offset == 0
    await store.close()


KEEPING = {"chat": SimpleNamespace(kept={True})}
"""A namespace in which an event is kept, as far as the doctor asks it."""


async def test_history(settings: Any, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shared store is read, and its Redis is examined; the finding of a store that can't be used says why."""
    monkeypatch.setattr("wsrt.doctor.history.namespaces", KEEPING)
    settings.WSRT = {"HISTORY": {"BACKEND": "wsrt.history.redis.RedisHistory", "LOCATION": redis_server.url}}
    found = {finding.subject: finding for finding in await doctor.examine()}
    assert (found["history"].status, "read in" in found["history"].seen) == ("ok", True)
    assert found[f"Redis 127.0.0.1:{redis_server.port}/0 memory"].status == "ok"
    settings.WSRT["HISTORY"]["OPTIONS"] = {"COLOUR": 1}
    (finding,) = await history.examine()
    assert (finding.status, "no option 'colour'" in finding.seen) == ("warning", True)
    settings.WSRT["HISTORY"] |= {"OPTIONS": {}, "LOCATION": f"redis://127.0.0.1:{free_port()}"}
    found = {finding.subject: finding for finding in await doctor.examine()}
    assert (found["history"].status, "StoreUnavailable" in found["history"].seen) == ("error", True)


async def test_history_of_one_process(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a layer for several processes, a store of one is a warning, if any event is kept."""
    monkeypatch.setattr("wsrt.doctor.history.namespaces", KEEPING)
    settings.WSRT = {}
    settings.CHANNEL_LAYERS = {}
    assert [(finding.status, finding.seen) for finding in await history.examine()] == [
        ("ok", "MemoryHistory: covers this process only")
    ]
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": PUBSUB}}
    (finding,) = await history.examine()
    assert (finding.status, "RedisHistory" in finding.advice) == ("warning", True)
    monkeypatch.setattr("wsrt.doctor.history.namespaces", {})
    (finding,) = await history.examine()
    assert (finding.status, finding.seen) == ("ok", "MemoryHistory: no event has a history")


async def test_sentinel(redis_server: RedisServer, settings: Any) -> None:
    """The master that Sentinels name for presence is looked at."""
    with ReplicaServer(redis_server), SentinelServer(redis_server, password="hunter2") as sentinel:
        settings.WSRT = {
            "PRESENCE": {
                "BACKEND": "wsrt.presence.redis.RedisPresence",
                "LOCATION": f"redis://{sentinel.SERVICE}",
                "OPTIONS": {
                    "SENTINELS": [("127.0.0.1", sentinel.port)],
                    "SENTINEL_KWARGS": {"password": "hunter2"},
                },
            }
        }
        found = {finding.subject: finding for finding in await doctor.examine()}
    subject = f"Redis {sentinel.SERVICE} (Sentinel)"
    assert (found[subject].status, found[subject].facts["role"]) == ("ok", "master")
    assert found["presence"].status == "ok"
    assert "hunter2" not in repr(found)


async def test_cluster_of_presence(settings: Any) -> None:
    """A cluster is well where only presence uses it, which is told that it is one; without that it is an error."""
    with ClusterServer() as cluster:
        settings.WSRT = {
            "PRESENCE": {
                "BACKEND": "wsrt.presence.redis.RedisPresence",
                "LOCATION": f"redis://127.0.0.1:{cluster.port}",
                "OPTIONS": {"CLUSTER": True},
            }
        }
        subject = f"Redis 127.0.0.1:{cluster.port}"
        assert {finding.subject: finding.status for finding in await doctor.examine()}[subject] == "ok"
        del settings.WSRT["PRESENCE"]["OPTIONS"]
        assert {finding.subject: finding.status for finding in await doctor.examine()}[subject] == "error"


def ask(server: RedisServer, *command: str) -> str:
    """Ask Redis from outside."""
    asked = ["redis-cli", "--no-raw", "-p", str(server.port), *command]
    return subprocess.run(asked, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


@pytest.mark.servers
@pytest.mark.parametrize("layer", ["pubsub", "core"])
def test_redis_is_stopped(layer: str) -> None:
    """Without Redis there is an error that says what was tried, in time."""
    report = Report(WSRT_TEST_LAYER=layer, WSRT_TEST_REDIS=f"redis://127.0.0.1:{free_port()}/0")
    assert report.code == 1
    assert report.seconds < HANGS
    assert report["layer 'default'"].status == "error"
    assert "Connect call failed" in report["/0"].seen
    assert "Traceback" not in report.errors


@pytest.mark.servers
@pytest.mark.parametrize("layer", ["pubsub", "core"])
def test_redis_stands_still(redis_server: RedisServer, layer: str) -> None:
    """Nor does a Redis that takes connections and answers nothing hold it up."""
    assert redis_server.process is not None
    redis_server.process.send_signal(19)  # goes on when it is stopped
    report = Report(WSRT_TEST_LAYER=layer, WSRT_TEST_REDIS=redis_server.url)
    assert report.code == 1
    assert report.seconds < HANGS
    assert report["layer 'default'"].seen == report["/0"].seen == "no answer within 4 s"


@pytest.mark.servers
@pytest.mark.parametrize("kind", ["daphne", "uvicorn", "hypercorn", "granian"])
def test_live_server(kind: str) -> None:
    """The close codes of a running server are seen to arrive; its name and what it negotiates are told."""
    with Server(kind, application="tests.apps.asgi:runtime") as process:
        url = process.url("/chat/")
        report = Report("--url", url, WSRT_TEST_LAYER="none")
        assert report.code == 0
        assert report[url].facts["handshake_ms"] > 0
        assert report["close codes"].facts == {"code": 1007, "reason": "Invalid message payload"}
        seen = f"{report[url].seen}; compression: {report['compression'].seen}"
        note("What wsrt_doctor sees of running servers", f"{kind:20} {seen}")


async def close_another_way(socket: ServerConnection) -> None:
    """Do as stock Daphne does: another code, and no reason."""
    await socket.recv()
    await socket.close(4007)


async def close_later(socket: ServerConnection) -> None:
    """Do as granian did before 2.8.9: the close waits for the next frame."""
    await socket.recv()
    await socket.recv()


async def hang_up(socket: ServerConnection) -> None:
    """Do as servers do when an application fails."""
    await socket.recv()
    socket.transport.abort()


@pytest.mark.parametrize(
    ("serving", "seen"),
    [
        (close_another_way, "4007 without a reason"),
        (close_later, "no close"),
        (hang_up, "hung up without a close frame"),
    ],
)
async def test_live_server_that_closes_otherwise(
    monkeypatch: pytest.MonkeyPatch, serving: Callable[[ServerConnection], Awaitable[None]], seen: str
) -> None:
    """A server whose closes are not those of wsrt, or come late, is a warning with what to do."""
    monkeypatch.setattr(live, "CLOSE_SECONDS", 0.5)
    async with serve(serving, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        *_, finding = await live.examine(f"ws://127.0.0.1:{port}/")
    assert (finding.subject, finding.status) == ("close codes", "warning")
    assert seen in finding.seen
    assert finding.advice


@pytest.mark.servers
@pytest.mark.parametrize(
    ("kind", "facts"),
    [("uvicorn", {"status": 404}), ("daphne", {"code": 4404, "reason": "No WebSocket route matches"})],
)
def test_live_server_that_refuses(kind: str, facts: dict[str, Any]) -> None:
    """A path that isn't served, and a port without a server, are errors."""
    with Server(kind, application="tests.apps.asgi:runtime") as process:
        url = process.url("/nothing/")
        report = Report("--url", url, WSRT_TEST_LAYER="none")
        assert (report.code, report[url].facts) == (1, facts)
    url = f"ws://127.0.0.1:{free_port()}/"
    report = Report("--url", url, WSRT_TEST_LAYER="none")
    assert (report.code, report[url].status) == (1, "error")


def test_silenced_checks(settings: Any) -> None:
    """A check that the project has silenced isn't reported."""
    settings.WSRT = {"MAX_PAYLOAD": 2_000_000}
    assert "wsrt.W001" in [finding.id for finding in complaints()]
    settings.SILENCED_SYSTEM_CHECKS = [*settings.SILENCED_SYSTEM_CHECKS, "wsrt.W001"]
    assert "wsrt.W001" not in [finding.id for finding in complaints()]
