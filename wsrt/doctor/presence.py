"""Findings about presence, and about the nodes recorded there."""

from __future__ import annotations

import time
from collections.abc import Iterator

from .. import __version__
from ..cluster.layers import is_local
from ..conf import conf
from ..metrics import LIMITS
from ..presence.backends import make_store
from ..presence.base import NodeRecord, PresenceStore
from . import clocks
from .finding import Finding, ok, one_line, warning
from .layers import aliases

LATE_MS = 500
"""How late the event loop of a node may be without a warning, in milliseconds."""


async def examine(now: clocks.Clock = time.time) -> Iterator[Finding]:
    """Return findings about the presence store and about each node. ``now`` is the clock of this machine."""
    try:
        store = make_store(conf.presence)
    except Exception as problem:
        seen = f"{conf.presence.get('BACKEND')!r} cannot be used: {one_line(problem)}"
        return iter([warning("presence", seen, "Correct WSRT['PRESENCE']: presence isn't tracked until then.")])
    try:
        return await read(store, now)
    finally:
        await store.close()


async def read(store: PresenceStore, now: clocks.Clock = time.time) -> Iterator[Finding]:
    """Return findings from reading a store. ``now`` is the clock of this machine."""
    name = type(store).__qualname__
    if not store.is_shared:
        if all(is_local(alias) for alias in aliases()):
            return iter([ok("presence", f"{name}: covers this process only")])
        advice = "Use wsrt.presence.redis.RedisPresence if several processes hold connections or query presence."
        return iter([warning("presence", f"{name}: each process knows only its own connections", advice)])
    begun = time.perf_counter()
    nodes = await store.nodes()
    took = (time.perf_counter() - begun) * 1000
    seen = f"{name}: {len(nodes)} nodes are alive; read in {took:.1f} ms"
    findings = [ok("presence", seen, nodes=len(nodes), read_ms=round(took, 2))]
    for record in nodes:
        findings += [node(record), *clocks.node(_subject(record), record, now)]
    return iter(findings)


def _subject(record: NodeRecord) -> str:
    return f"node {record.facts.get('host', record.id)}:{record.facts.get('pid', '?')}"


def node(record: NodeRecord) -> Finding:
    """Return a finding from the facts that a running node reports, such as the servers seen by with_runtime."""
    facts = record.facts
    servers, version, lag = list(facts.get("servers") or ()), facts.get("version", __version__), facts.get("lag_ms", 0)
    count = facts.get("connections", 0)
    through = ", ".join(servers) or "no connection came through with_runtime"
    seen = f"{count} connections; {through}; event loop {lag} ms late"
    limits = facts.get("limits") or {}
    reached = ", ".join(f"{name} {times}" for name, times in limits.items() if name in LIMITS)
    if reached:
        seen += f"; limits reached: {reached}"
    advice = ""
    if "asgi" in servers:
        advice = (
            "wsrt doesn't recognise its server and uses it as plain ASGI: use another server, or another version of it."
        )
    elif count and not servers:
        advice = "Wrap the application that it serves in wsrt.asgi.with_runtime."
    elif limits.get("proxies_untrusted"):
        advice = (
            "Handshakes with X-Forwarded-For come from an address that isn't in WSRT['TRUSTED_PROXIES']. If it is that "
            "of your proxy, add it: until then all its clients together count as one address."
        )
    elif limits.get("addresses_missing"):
        advice = (
            "MAX_CONNECTIONS_PER_ADDRESS doesn't limit clients without an address. If a proxy connects through a UNIX "
            "socket, add 'unix' to WSRT['TRUSTED_PROXIES']."
        )
    elif limits.get("connections_refused_per_address") and not conf.trusted_proxies:
        advice = (
            "It has refused clients because of their address, and WSRT['TRUSTED_PROXIES'] is empty. Check that the "
            "servers aren't behind a proxy: all its clients together would count as one address."
        )
    elif limits.get("limits_unavailable"):
        advice = "While the presence store didn't answer, it limited connections by itself: see its log, and Redis."
    elif version != __version__:
        advice = f"It runs wsrt {version}, but {__version__} is installed here: finish the deployment."
    elif lag > LATE_MS:
        advice = "Something blocks its event loop: look for sync code in async handlers."
    return Finding(_subject(record), "warning" if advice else "ok", seen, advice, facts=facts)
