"""The address of a client that may be behind proxies, and the key by which its connections are counted."""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import re
from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

UNIX = "unix"
"""The name of a peer that is connected through a UNIX socket, and therefore has no address."""

IPV6_PREFIX = 64
"""The length of the network that one IPv6 client usually gets, in bits. Within it, it can take any address."""


@dataclasses.dataclass(frozen=True, slots=True)
class Proxies:
    """
    The proxies whose X-Forwarded-For is believed.

    Attributes:
        networks: The networks of their addresses.
        trusts_unix: Whether a peer that is connected through a UNIX socket is a proxy.
    """

    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]
    trusts_unix: bool

    def include(self, address: Address | None) -> bool:
        """Return whether an address, or None for a UNIX socket, is that of a proxy."""
        if address is None:
            return self.trusts_unix
        return any(address in network for network in self.networks)


@functools.lru_cache(maxsize=16)
def parse_proxies(texts: tuple[str, ...]) -> Proxies:
    """
    Return the proxies for a list such as ``("10.0.0.0/8", "2001:db8::7", "unix")``.

    Raises:
        ValueError: One of the texts is neither an address, nor a network, nor "unix".
    """
    networks = []
    for text in texts:
        if text != UNIX:
            try:
                networks.append(ipaddress.ip_network(text))
            except ValueError:
                raise ValueError(
                    f'{text!r} is not an address such as "10.0.0.7", a network such as "10.0.0.0/8", or "unix"'
                ) from None
    return Proxies(tuple(networks), UNIX in texts)


def client_address(peer: str | None, forwarded: Iterable[str], proxies: Proxies) -> Address | None:
    """
    Return the address of a client.

    Each proxy appends the address of its own peer to X-Forwarded-For. So the header is read from its end, as long as
    the address so far is that of a trusted proxy. Entries before that may be made up by the client.

    Args:
        peer: The address of the socket's peer. None for a UNIX socket.
        forwarded: The values of X-Forwarded-For, in order.
        proxies: The trusted proxies.

    Returns:
        The address. If the last trusted proxy wrote none, the address of this proxy. None if there is none.
    """
    address = None if peer is None else parse_address(peer)
    if peer is not None and address is None:
        return None
    for entry in reversed([entry for value in forwarded for entry in value.split(",")]):
        if not proxies.include(address):
            break
        before = parse_address(entry)
        if before is None:
            break
        address = before
    return address


def parse_address(text: str) -> Address | None:
    """Return the address in a text such as "192.0.2.1", "192.0.2.1:80" or "[2001:db8::1]:80"; None without one."""
    found = re.fullmatch(r"\s*(?:\[([^\]]*)\](?::[0-9]+)?|([0-9.]+):[0-9]+|([^\[\]]*?))\s*", text, re.ASCII)
    if found is None:
        return None
    try:
        address = ipaddress.ip_address((found[1] or found[2] or found[3] or "").partition("%")[0])
    except ValueError:
        return None
    # A server that listens on both families reports IPv4 clients in this form.
    return getattr(address, "ipv4_mapped", None) or address


def share_of(address: Address) -> str:
    """Return the network that counts as one client: an IPv4 address, or the /64 of an IPv6 address."""
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False))
    return str(address)
