"""Documents as JSON and YAML text. The same document always gives the same text."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

__all__ = ["has_yaml", "to_json", "to_yaml"]


def has_yaml() -> bool:
    """Return whether PyYAML is installed, which ``to_yaml()`` needs."""
    return importlib.util.find_spec("yaml") is not None


def to_json(document: dict[str, Any]) -> str:
    """Return a document as JSON."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def to_yaml(document: dict[str, Any]) -> str:
    """
    Return a document as YAML.

    Raises:
        ImportError: PyYAML isn't installed.
    """
    import yaml

    # Copied through JSON, because PyYAML would write shared lists and dicts as anchors.
    text: str = yaml.safe_dump(json.loads(json.dumps(document)), sort_keys=False, allow_unicode=True, width=120)
    return text
