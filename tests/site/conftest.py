"""The site is built by MkDocs, which ``make docs`` installs; ``make test`` does without."""

from __future__ import annotations

import importlib.util

collect_ignore = [] if importlib.util.find_spec("mkdocs") else ["test_built.py"]
