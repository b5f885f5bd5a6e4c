"""Findings about the limit of connections from one address, which needs to know the proxies in front of the servers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from django.conf import settings

from ..checks import where_set
from ..conf import conf
from ..protocol.client_address import parse_proxies
from .finding import Finding, ok, warning

SUBJECT = "address limit"

LIMIT = "MAX_CONNECTIONS_PER_ADDRESS"

WIDEST = {4: 8, 6: 16}
"""The shortest prefix of a trusted network without a warning, in bits, by version of the Internet Protocol."""

FORWARDING = ("SECURE_PROXY_SSL_HEADER", "USE_X_FORWARDED_HOST", "USE_X_FORWARDED_PORT")
"""Django's settings that a project only has behind a proxy."""

PROXIES = re.compile(r"nginx|openresty|cloudflare|caddy|envoy|haproxy|apache|awselb|traefik|varnish", re.IGNORECASE)
"""Servers that pass WebSockets on to the ASGI server, as they name themselves."""

ADVICE = (
    "If the servers are behind a proxy, list it in WSRT['TRUSTED_PROXIES']: until then all its clients together count "
    "as one address. It isn't needed if the server itself reads X-Forwarded-For, as uvicorn does with "
    "--forwarded-allow-ips."
)


def examine() -> Iterator[Finding]:
    """Yield findings about the settings. None if there is no such limit."""
    limited = where_set(LIMIT)
    if not limited:
        return
    try:
        trusted = parse_proxies(conf.trusted_proxies)
    except (TypeError, ValueError):
        return  # a system check reports it
    wide = [str(network) for network in trusted.networks if network.prefixlen < WIDEST[network.version]]
    shown = ", ".join(conf.trusted_proxies) or "none"
    seen = f"set by {', '.join(limited)}; trusted proxies: {shown}"
    facts = {"trusted_proxies": list(conf.trusted_proxies)}
    if wide:
        advice = (
            f"List nothing but the addresses of your proxies: a client within {', '.join(wide)} can write any address "
            "into X-Forwarded-For, and avoids the limit."
        )
        yield warning(SUBJECT, seen, advice, **facts)
        return
    forwarding = [name for name in FORWARDING if getattr(settings, name, None)]
    if forwarding and not conf.trusted_proxies:
        yield warning(SUBJECT, f"{seen}, but {' and '.join(forwarding)} says that there is a proxy", ADVICE, **facts)
        return
    yield ok(SUBJECT, seen, **facts)


def answered(headers: Mapping[str, str], server: str) -> Iterable[Finding]:
    """
    Yield a warning if a proxy answered a handshake, connections from one address are limited, and no proxy is trusted.

    Args:
        headers: The headers of the answer.
        server: Its header ``Server``.
    """
    if not where_set(LIMIT) or conf.trusted_proxies:
        return
    via = headers.get("Via", "")
    if via or PROXIES.search(server):
        seen = f"{via or server} answers in front of the server, and no proxy is trusted"
        yield warning(SUBJECT, seen, ADVICE, server=server or None, via=via or None)
