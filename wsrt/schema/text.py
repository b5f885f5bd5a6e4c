"""Documents as text, the same for the same document."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

__all__ = ["has_yaml", "to_json", "to_yaml"]


def has_yaml() -> bool:
    """Return whether to_yaml() works."""
    return importlib.util.find_spec("yaml") is not None


def to_json(document: dict[str, Any]) -> str:
    """Return a document as JSON."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def to_yaml(document: dict[str, Any]) -> str:
    """Return a document as YAML. Raises ImportError where PyYAML is missing."""
    import yaml

    # Through JSON: lists and dicts that stand in two places become no anchors.
    text: str = yaml.safe_dump(json.loads(json.dumps(document)), sort_keys=False, allow_unicode=True, width=120)
    return text
