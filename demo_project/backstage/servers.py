"""The server processes of the demo, which scripts/demo.py starts and restarts."""

from __future__ import annotations

import os

from django.conf import settings

from demo_project.backstage.events import ServedBy
from wsrt.types import Scope

NAMES = ("North", "South")
"""The names of the servers, in the order of their ports."""


def serving(scope: Scope) -> ServedBy:
    """Return the process that holds a connection: this one."""
    _, port = scope["server"]
    return ServedBy(name=name_of(port), pid=os.getpid(), port=port)


def name_of(port: int) -> str:
    """Return the name of the server on a port."""
    ports = settings.DEMO_PORTS
    return NAMES[ports.index(port)] if port in ports else "The server"


def ports_from(port: int) -> list[int]:
    """Return the ports of all servers, starting with the one that serves the page."""
    return [port, *(other for other in settings.DEMO_PORTS if other != port)]
