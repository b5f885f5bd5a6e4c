"""The doctor's look at the proxies for the limit of connections from one address."""

from __future__ import annotations

from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from wsrt import doctor
from wsrt.doctor import live, proxies

LIMITED = {"MAX_CONNECTIONS_PER_ADDRESS": 100}


@pytest.fixture
def limited(settings: Any) -> Any:
    settings.WSRT = LIMITED
    return settings


def test_no_limit(settings: Any) -> None:
    """Without a limit by address there is nothing to say."""
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    assert list(proxies.examine()) == []
    assert list(proxies.answered({"Via": "1.1 proxy"}, "nginx")) == []


def test_limit(limited: Any) -> None:
    """The limit and the trusted proxies are shown."""
    (found,) = proxies.examine()
    assert (found.subject, found.status) == ("address limit", "ok")
    assert found.seen == "set by WSRT['MAX_CONNECTIONS_PER_ADDRESS']; trusted proxies: none"


@pytest.mark.parametrize(
    ("name", "value"),
    [("SECURE_PROXY_SSL_HEADER", ("HTTP_X_FORWARDED_PROTO", "https")), ("USE_X_FORWARDED_HOST", True)],
)
def test_settings_of_a_proxy(limited: Any, name: str, value: Any) -> None:
    """Settings that are there for a proxy are a warning if no proxy is trusted."""
    setattr(limited, name, value)
    (found,) = proxies.examine()
    assert found.status == "warning"
    assert f"{name} says that there is a proxy" in found.seen
    assert "WSRT['TRUSTED_PROXIES']" in found.advice
    limited.WSRT = {**LIMITED, "TRUSTED_PROXIES": ["10.0.0.7"]}
    (found,) = proxies.examine()
    assert (found.status, found.facts) == ("ok", {"trusted_proxies": ["10.0.0.7"]})


@pytest.mark.parametrize(
    ("network", "status"),
    [
        ("0.0.0.0/0", "warning"),
        ("::/0", "warning"),
        ("8.0.0.0/7", "warning"),
        ("10.0.0.0/8", "ok"),
        ("fd00::/16", "ok"),
    ],
)
def test_wide_networks(limited: Any, network: str, status: str) -> None:
    """Clients in a trusted network can have any address: a network that has many of them is a warning."""
    limited.WSRT = {**LIMITED, "TRUSTED_PROXIES": ["127.0.0.1", network]}
    (found,) = proxies.examine()
    assert found.status == status
    assert (network in found.advice) is (status == "warning")


def test_wrong_settings(limited: Any) -> None:
    """What a system check reports isn't reported again."""
    limited.WSRT = {**LIMITED, "TRUSTED_PROXIES": ["nginx"]}
    assert list(proxies.examine()) == []
    limited.WSRT = {**LIMITED, "TRUSTED_PROXIES": 7}
    assert list(proxies.examine()) == []


async def test_examination(limited: Any) -> None:
    """The findings are part of the whole."""
    assert "address limit" in {finding.subject for finding in await doctor.examine()}


@pytest.mark.parametrize(
    ("headers", "server", "warns"),
    [
        ({}, "nginx/1.27.0", True),
        ({}, "cloudflare", True),
        ({"Via": "1.1 Caddy"}, "uvicorn", True),
        ({}, "uvicorn", False),
        ({}, "", False),
    ],
)
def test_answers(limited: Any, headers: dict[str, str], server: str, warns: bool) -> None:
    """An answer that comes from a proxy is a warning if no proxy is trusted."""
    assert [found.status for found in proxies.answered(headers, server)] == (["warning"] if warns else [])
    limited.WSRT = {**LIMITED, "TRUSTED_PROXIES": ["127.0.0.1"]}
    assert list(proxies.answered(headers, server)) == []


async def test_live_server_behind_a_proxy(limited: Any) -> None:
    """The header of a real handshake counts."""

    async def refuse(connection: ServerConnection) -> None:
        await connection.close(1007, "Invalid message payload")

    async with serve(refuse, "127.0.0.1", 0, server_header="nginx") as server:
        port = server.sockets[0].getsockname()[1]
        found = [each for each in await live.examine(f"ws://127.0.0.1:{port}/") if each.subject == "address limit"]
    assert [each.status for each in found] == ["warning"]
    assert found[0].seen == "nginx answers in front of the server, and no proxy is trusted"
