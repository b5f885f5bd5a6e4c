"""Forks: what a process keeps of its event loops and threads does not outlive one."""

from __future__ import annotations

import os
from collections.abc import Callable


def after_fork_in_child(reset: Callable[[], object]) -> None:
    """Call a function in each forked child before it runs anything else. Does nothing on Windows, which can't fork."""
    register = getattr(os, "register_at_fork", None)
    if register is not None:
        register(after_in_child=reset)
