"""Check that a tag can be published as it is. Usage: release.py v0.1.0"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main(tag: str) -> int:
    found = problems(tag, (ROOT / "wsrt/__init__.py").read_text(), (ROOT / "CHANGELOG.md").read_text())
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


def problems(tag: str, package: str, changelog: str) -> list[str]:
    """
    Return the reasons why a tag can't be published.

    Args:
        tag: The tag, such as v0.1.0.
        package: The text of wsrt/__init__.py.
        changelog: The text of CHANGELOG.md.
    """
    found = []
    version = re.search(r'^__version__ = "(.+)"$', package, re.MULTILINE)
    if version is None or tag != f"v{version[1]}":
        found.append(f"The tag is {tag}, but wsrt/__init__.py has {version[0] if version else 'no __version__'}.")
    heading = re.search(r"^## .*", changelog, re.MULTILINE)
    if heading is None or not re.fullmatch(rf"## {re.escape(tag[1:])} \(\d{{4}}-\d\d-\d\d\)", heading[0]):
        wanted = f"## {tag[1:]} (YYYY-MM-DD)"
        found.append(f'CHANGELOG.md must begin with "{wanted}", not with "{heading[0] if heading else ""}".')
    return found


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
