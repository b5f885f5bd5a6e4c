"""Parsing the sources of the repository."""

from __future__ import annotations

import ast
import gc
from pathlib import Path


def parse(path: Path) -> ast.Module:
    """
    Return the syntax tree of a file.

    Python 3.11 raises SystemError if another tree is built in the meantime. The garbage collector can cause that:
    when a finalizer logs an exception, the traceback module parses the lines that it shows.
    """
    text = path.read_text()
    gc.disable()
    try:
        return ast.parse(text)
    finally:
        gc.enable()
