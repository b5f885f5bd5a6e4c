"""
The test application on a future server: wsrt doesn't find an attribute that the server itself still has.

WSRT_TEST_LACKS names it, as ``module:Class.name``.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from tests.apps.asgi import runtime

__all__ = ["runtime"]

place, _, lacking = os.environ["WSRT_TEST_LACKS"].rpartition(".")
module_name, _, class_name = place.partition(":")
owner = getattr(importlib.import_module(module_name), class_name)
inherited = owner.__getattribute__


def look_up(self: Any, name: str) -> Any:
    if name == lacking and sys._getframe(1).f_globals["__name__"].startswith("wsrt."):
        raise AttributeError(name)
    return inherited(self, name)


owner.__getattribute__ = look_up
