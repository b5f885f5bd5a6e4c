"""Whether this process holds connections, and so knows what is kept in its memory."""

from __future__ import annotations

from django.core import mail

# The module, because it imports the package of history, which imports this one.
from ..cluster import node


def may_hold_connections() -> bool:
    """Return whether this process holds connections, or may get some, so that stores in its memory aren't useless."""
    return bool(node.nodes()) or node.is_server() or is_under_test()


def is_under_test() -> bool:
    """Return whether Django's test environment is set up. Then this process is the whole cluster."""
    return hasattr(mail, "outbox")
