"""The address of a client behind proxies."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsrt.protocol.client_address import client_address, parse_address, parse_proxies, share_of

PROXIES = ("10.0.0.0/8", "2001:db8::7")


@pytest.mark.parametrize(
    ("peer", "forwarded", "proxies", "expected"),
    [
        ("192.0.2.1", [], (), "192.0.2.1"),
        # Without trusted proxies the header is the client's invention.
        ("192.0.2.1", ["203.0.113.9"], (), "192.0.2.1"),
        ("192.0.2.1", ["203.0.113.9"], PROXIES, "192.0.2.1"),
        ("10.0.0.1", ["203.0.113.9"], PROXIES, "203.0.113.9"),
        # Only what trusted proxies have written counts, from the end.
        ("10.0.0.1", ["198.51.100.1, 203.0.113.9"], PROXIES, "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.1", "203.0.113.9, 10.0.0.2"], PROXIES, "203.0.113.9"),
        ("10.0.0.1", ["10.0.0.3"], PROXIES, "10.0.0.3"),
        ("10.0.0.1", [], PROXIES, "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9, unknown"], PROXIES, "10.0.0.1"),
        ("2001:db8::7", ["203.0.113.9:4711"], PROXIES, "203.0.113.9"),
        ("10.0.0.1", ['"[2001:db8::1]:80"'], PROXIES, "10.0.0.1"),
        ("10.0.0.1", ["[2001:db8::1]:80"], PROXIES, "2001:db8::1"),
        ("::ffff:10.0.0.1", ["::ffff:203.0.113.9"], PROXIES, "203.0.113.9"),
        # A UNIX socket has no address.
        (None, ["203.0.113.9"], PROXIES, None),
        (None, ["203.0.113.9"], ("unix",), "203.0.113.9"),
        (None, ["203.0.113.9, 10.0.0.2"], ("unix", *PROXIES), "203.0.113.9"),
        (None, [], ("unix",), None),
        ("testserver", ["203.0.113.9"], PROXIES, None),
    ],
)
def test_client_address(peer: str | None, forwarded: list[str], proxies: tuple[str, ...], expected: str | None) -> None:
    """The last address that no trusted proxy has: what stands before it isn't believed."""
    address = client_address(peer, forwarded, parse_proxies(proxies))
    assert (address and str(address)) == expected


@given(st.text(), st.text())
def test_any_header(header: str, more: str) -> None:
    """Whatever a client invents, the address that the proxy has seen counts."""
    proxies = parse_proxies(PROXIES)
    assert str(client_address("10.0.0.1", [header, f"{more},203.0.113.9"], proxies)) == "203.0.113.9"
    client_address("10.0.0.1", [header, more], proxies)


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_share(text: str, share: str) -> None:
    """An IPv4 address counts by itself, an IPv6 address by its network of 64 bits."""
    address = parse_address(text)
    assert address is not None
    assert share_of(address) == share


@pytest.mark.parametrize("text", ["", " ", "unknown", "_hidden", "192.0.2", "192.0.2.1:", "[::1", "::1]", "1:2:3"])
def test_no_address(text: str) -> None:
    """A text that isn't an address is none."""
    assert parse_address(text) is None


@pytest.mark.parametrize("text", ["", "proxy", "10.0.0.1/8", "10.0.0.0/33", "UNIX"])
def test_wrong_proxies(text: str) -> None:
    """Anything but addresses, networks and "unix" is an error that shows what is right."""
    with pytest.raises(ValueError, match=r'such as "10\.0\.0\.7", a network such as "10\.0\.0\.0/8", or "unix"'):
        parse_proxies(("10.0.0.0/8", text))


def test_proxies() -> None:
    """A single address is a network of one."""
    proxies = parse_proxies(("10.0.0.7", "2001:db8::/32"))
    texts = ["10.0.0.7", "10.0.0.8", "2001:db8::1", "2001:db9::1"]
    assert [proxies.include(ipaddress.ip_address(text)) for text in texts] == [True, False, True, False]
    assert not proxies.include(None)
