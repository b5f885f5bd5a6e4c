"""Resetting state in forked children, whose parent's event loops and threads don't exist there."""

from __future__ import annotations

import os
from collections.abc import Callable


def after_fork_in_child(reset: Callable[[], object]) -> None:
    """Register a function to be called first in each forked child. Does nothing on Windows, which has no fork."""
    register = getattr(os, "register_at_fork", None)
    if register is not None:
        register(after_in_child=reset)
