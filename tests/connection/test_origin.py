"""The origin rule, which decides whether a page may open a connection."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.recorder import Recorder
from wsrt.connection.origin import OriginRefused, check_origin
from wsrt.testing import connect


def scope(
    origin: str | bytes | None = None, host: str | bytes | None = "testserver", scheme: str | None = "ws", **more: str
) -> dict[str, Any]:
    """Return a handshake; further headers by name, "_" for "-"."""
    headers = {"host": host, "origin": origin, **{name.replace("_", "-"): value for name, value in more.items()}}
    handshake: dict[str, Any] = {
        "type": "websocket",
        "headers": [
            (name.encode(), value if isinstance(value, bytes) else value.encode("latin-1"))
            for name, value in headers.items()
            if value is not None
        ],
        "server": ("127.0.0.1", 8000),
    }
    return handshake if scheme is None else {**handshake, "scheme": scheme}


def passes(handshake: dict[str, Any]) -> bool:
    return check_origin(handshake) is None


def refusal(handshake: dict[str, Any]) -> OriginRefused:
    refused = check_origin(handshake)
    assert refused is not None
    return refused


# Our own origin


def test_no_origin() -> None:
    """A client without an Origin header isn't a browser, and passes."""
    assert passes(scope())
    assert passes({"type": "websocket"})


@pytest.mark.parametrize(
    ("origin", "host", "scheme"),
    [
        ("http://testserver", "testserver", "ws"),
        ("https://testserver", "testserver", "wss"),
        ("http://testserver", "testserver:80", "ws"),
        ("http://testserver:80", "testserver", "ws"),
        ("https://testserver", "testserver:443", "wss"),
        ("https://testserver:443", "testserver", "wss"),
        ("http://testserver:8000", "testserver:8000", "ws"),
        ("http://TestServer", "testserver", "ws"),
        ("http://testserver", "TESTSERVER", "ws"),
        ("http://testserver", "testserver", "http"),
        ("https://testserver", "testserver", "https"),
        ("http://127.0.0.1:8000", "127.0.0.1:8000", "ws"),
    ],
)
def test_own_origin(origin: str, host: str, scheme: str) -> None:
    """A page of the host that is connected to passes; a default port may be written or not."""
    assert passes(scope(origin, host, scheme))


@pytest.mark.parametrize(
    ("origin", "host", "scheme"),
    [
        ("http://evil.example", "testserver", "ws"),
        ("http://testserver:8001", "testserver:8000", "ws"),
        ("http://testserver:8000", "testserver", "ws"),
        ("http://testserver", "testserver:8000", "ws"),
        ("http://testserver:443", "testserver", "ws"),
        ("http://testserver.evil.example", "testserver", "ws"),
        ("http://eviltestserver", "testserver", "ws"),
        ("http://www.testserver", "testserver", "ws"),
        ("http://localhost", "127.0.0.1", "ws"),
    ],
)
def test_foreign_origin(origin: str, host: str, scheme: str) -> None:
    """A page of another host or port is refused, near as its name may be."""
    assert not passes(scope(origin, host, scheme))


@pytest.mark.parametrize(("origin", "scheme"), [("http://testserver", "wss"), ("https://testserver", "ws")])
def test_other_scheme(origin: str, scheme: str) -> None:
    """A page under the other scheme is another origin."""
    assert not passes(scope(origin, scheme=scheme))


@pytest.mark.parametrize("scheme", [None, "", "gopher"])
@pytest.mark.parametrize("origin", ["http://testserver", "https://testserver"])
def test_unknown_scheme(origin: str, scheme: str | None) -> None:
    """Where the server does not say its scheme (Daphne), none is compared; host and port are."""
    assert passes(scope(origin, scheme=scheme))
    assert not passes(scope(f"{origin}:8000", scheme=scheme))


def test_ipv6(settings: Any) -> None:
    """Hosts in brackets are compared like others."""
    settings.ALLOWED_HOSTS = ["[::1]"]
    assert passes(scope("http://[::1]:8000", "[::1]:8000"))
    assert not passes(scope("http://[::2]:8000", "[::1]:8000"))


def test_no_host(settings: Any) -> None:
    """Without a Host header the address of the server stands for it, as in a request."""
    assert passes(scope("http://127.0.0.1:8000", None))
    assert not passes({**scope("http://127.0.0.1:8000", None), "server": None})
    assert not passes({**scope("http://127.0.0.1:8000", None), "server": ("/run/server.sock", None)})


def test_own_origin_without_debug(settings: Any) -> None:
    """The own origin passes in development too."""
    settings.DEBUG = True
    assert passes(scope("http://testserver:8000", "testserver:8000"))


# Behind a proxy


@pytest.mark.parametrize(
    ("origin", "proto", "allowed"),
    [
        ("https://testserver", "https", True),
        ("http://testserver", "https", False),
        ("http://testserver", "http", True),
        ("https://testserver", "http", False),
        ("https://testserver", "https, http", True),
        ("https://testserver", "", False),
    ],
)
@pytest.mark.parametrize("scheme", ["ws", None])
def test_proxy_scheme(settings: Any, origin: str, proto: str, allowed: bool, scheme: str | None) -> None:
    """Behind a proxy that ends TLS its header tells the scheme, whatever the server says."""
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    assert passes(scope(origin, scheme=scheme, x_forwarded_proto=proto)) is allowed


def test_proxy_scheme_missing(settings: Any) -> None:
    """Without the proxy's header the server's own scheme counts."""
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    assert passes(scope("http://testserver"))
    assert not passes(scope("https://testserver"))


def test_proxy_scheme_not_configured() -> None:
    """A header that the settings don't trust can't change the scheme."""
    assert not passes(scope("https://testserver", x_forwarded_proto="https"))


def test_header_with_underscore(settings: Any) -> None:
    """A header with "_" in its name is not taken for the proxy's."""
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    handshake = scope("https://testserver")
    handshake["headers"].append((b"x_forwarded_proto", b"https"))
    assert not passes(handshake)


def test_forwarded_host(settings: Any) -> None:
    """The proxy's host counts where the settings say so, and only there."""
    handshake = scope("http://localhost", x_forwarded_host="localhost")
    assert not passes(handshake)
    settings.USE_X_FORWARDED_HOST = True
    assert passes(handshake)


# In the handshake


async def test_origin_is_refused_before_accept(caplog: pytest.LogCaptureFixture) -> None:
    """A foreign page is refused before accept, and the log names the setting (H3)."""
    async with connect(Recorder, headers={"host": "testserver", "origin": "https://evil.example"}) as client:
        assert not client.accepted
    assert "CSRF_TRUSTED_ORIGINS" in caplog.text

    class Open(Recorder):
        check_origin = False

    async with connect(Open, headers={"origin": "https://evil.example"}) as client:
        assert client.accepted


# Trusted origins


@pytest.mark.parametrize(
    ("trusted", "origin", "allowed"),
    [
        ("https://app.example", "https://app.example", True),
        ("https://app.example", "http://app.example", False),
        ("https://app.example", "https://app.example:8443", False),
        ("https://app.example", "https://www.app.example", False),
        ("https://app.example:8443", "https://app.example:8443", True),
        ("https://*.app.example", "https://www.app.example", True),
        ("https://*.app.example", "https://a.b.app.example", True),
        ("https://*.app.example", "https://app.example", True),
        ("https://*.app.example", "https://evilapp.example", False),
        ("https://*.app.example", "http://www.app.example", False),
        ("https://*.app.example", "https://www.app.example.evil.example", False),
        ("https://*.app.example:8443", "https://www.app.example:8443", True),
        ("https://*.app.example:8443", "https://www.app.example", False),
        ("https://*", "https://anything.example", False),
    ],
)
def test_trusted_origin(settings: Any, trusted: str, origin: str, allowed: bool) -> None:
    """CSRF_TRUSTED_ORIGINS holds for sockets as for forms, with its wildcards."""
    settings.CSRF_TRUSTED_ORIGINS = ["https://other.example", trusted]
    assert passes(scope(origin)) is allowed


# Development


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost:5173",
        "https://localhost",
        "http://127.0.0.1:3000",
        "http://[::1]:3000",
        "http://app.localhost:3000",
    ],
)
def test_localhost(settings: Any, origin: str) -> None:
    """In development pages of this machine pass, on any port; in production they are foreign."""
    assert not passes(scope(origin))
    settings.DEBUG = True
    assert passes(scope(origin))


@pytest.mark.parametrize(
    "origin", ["http://localhost.evil.example", "http://evillocalhost", "http://127.0.0.2", "null"]
)
def test_nearly_localhost(settings: Any, origin: str) -> None:
    """Other hosts stay foreign in development."""
    settings.DEBUG = True
    assert not passes(scope(origin))


# What browsers never send


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "testserver",
        "//testserver",
        "http:",
        "http://",
        "http://:80",
        "http://testserver:port",
        "http://testserver:99999",
        "http://testserver/",
        "http://testserver/path",
        "http://testserver?q",
        "http://testserver#f",
        "http://user@testserver",
        "http://testserver@evil.example",
        "http://[::1",
        "http://[nonsense]",
        "ftp://testserver",
        "ws://testserver",
        "file://",
        "chrome-extension://abcdef",
        "http://testserver, http://evil.example",
        "http://testserver http://evil.example",
        b"http://\xff\xfe",
        b"\x00",
    ],
)
@pytest.mark.parametrize("debug", [False, True])
def test_garbage(settings: Any, origin: str | bytes, debug: bool) -> None:
    """An Origin other than "scheme://host" is refused, "null" too."""
    settings.DEBUG = debug
    assert not passes(scope(origin))


def test_two_origins() -> None:
    """Two Origin headers are refused, though both be our own."""
    handshake = scope("http://testserver")
    handshake["headers"].append((b"Origin", b"http://testserver"))
    assert "several Origin headers" in refusal(handshake).hint


def test_name_in_capitals() -> None:
    """Header names have no case."""
    assert not passes({"headers": [(b"HOST", b"testserver"), (b"ORIGIN", b"http://evil.example")]})


# What is said


def test_hint_for_foreign_origin() -> None:
    """The refusal names the setting, and the value to add to it."""
    refused = refusal(scope("https://app.example"))
    assert refused.origin == "https://app.example"
    assert "'https://app.example'" in refused.hint
    assert "CSRF_TRUSTED_ORIGINS" in refused.hint
    assert "'testserver'" in refused.hint


def test_hint_helps(settings: Any) -> None:
    """What the refusal asks for lets the page in."""
    handshake = scope("https://app.example:8443")
    settings.CSRF_TRUSTED_ORIGINS = [refusal(handshake).origin]
    assert passes(handshake)


@pytest.mark.parametrize("host", ["evil.example", "test server", "testserver:x", b"\xff", "a,b"])
def test_disallowed_host(host: str | bytes) -> None:
    """A Host that is not ours is refused, and the refusal names ALLOWED_HOSTS."""
    assert "ALLOWED_HOSTS" in refusal(scope("http://evil.example", host)).hint


def test_two_hosts() -> None:
    """Two Host headers are none."""
    handshake = scope("http://testserver")
    handshake["headers"].append((b"host", b"testserver"))
    assert "ALLOWED_HOSTS" in refusal(handshake).hint


def test_text_of_a_refusal() -> None:
    """As text, a refusal is what the log says."""
    assert str(refusal(scope("null"))).startswith("the origin 'null' is not allowed: ")


NAMES = st.sampled_from([b"origin", b"host", b"Origin", b"x-forwarded-host", b"x-forwarded-proto"]) | st.binary()
VALUES = (
    st.binary()
    | st.text("htps:/[]@.*?#,%0aé\t ").map(lambda text: text.encode())
    | st.text("htps:/[]@.*?#,%0aé\t ").map(lambda text: b"http://" + text.encode())
)


@given(
    st.lists(st.tuples(NAMES, VALUES)),
    st.sampled_from(["ws", "wss", "", "x"]),
    st.sampled_from([None, ("h", 1), ("/s", None)]),
)
def test_never_raises(headers: list[tuple[bytes, bytes]], scheme: str, server: Any) -> None:
    """Whatever bytes the headers hold, the handshake passes or is refused."""
    refused = check_origin({"headers": headers, "scheme": scheme, "server": server})
    assert refused is None or str(refused)
