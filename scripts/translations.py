"""
Update the translation catalogs of the admin.

    python scripts/translations.py            # updates all catalogs after a string has changed
    python scripts/translations.py fr de      # adds languages

Afterwards, strings that need a translation are empty or fuzzy in ``wsrt/locale/<language>/LC_MESSAGES/django.po``.
Translate them, and run the script again to compile the catalogs. It needs GNU gettext (Debian: gettext).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "wsrt"
CATALOGS = PACKAGE / "locale"

PASSING = re.compile(
    r'^"(POT-Creation-Date|PO-Revision-Date|Last-Translator|Language-Team|Report-Msgid-Bugs-To): .*\n', re.MULTILINE
)
"""Header lines that change without carrying information."""


def languages() -> list[str]:
    """Return the languages that have a catalog."""
    return sorted(path.parents[1].name for path in CATALOGS.glob("*/LC_MESSAGES/django.po"))


def source(language: str) -> Path:
    """Return the path of a language's catalog, which is edited by hand."""
    return CATALOGS / language / "LC_MESSAGES/django.po"


def up_to_date(language: str) -> tuple[str, bytes]:
    """Return the up-to-date contents of a language's two files: the catalog and its compiled form."""
    with tempfile.TemporaryDirectory() as name:
        package = Path(name) / "wsrt"
        shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__", "static", "*.mo"))
        (package / "locale").mkdir(exist_ok=True)
        options = ("--no-location", "--no-obsolete", "--verbosity", "0")
        command = [sys.executable, "-P", "-m", "django", "makemessages", "--locale", language, *options]
        subprocess.run(command, cwd=package, check=True, capture_output=True)
        path = package / "locale" / language / "LC_MESSAGES/django.po"
        text = PASSING.sub("", path.read_text("utf-8"))
        path.write_text(text, "utf-8")
        compiled = path.with_suffix(".mo")
        # The table of hashes depends on the machine, so leave it out.
        subprocess.run(["msgfmt", "--no-hash", "--output-file", compiled, path], check=True)
        return text, compiled.read_bytes()


def examine(text: str) -> str:
    """Return gettext's report on a catalog: the number of translated strings, and any errors."""
    # Not /dev/null: msgfmt removes its output after an error, and for root that removes the device.
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "django.mo")
        command = ["msgfmt", "--check-format", "--check-domain", "--statistics", "--output-file", output, "-"]
        return subprocess.run(command, input=text, capture_output=True, text=True).stderr


def main(wanted: list[str]) -> None:
    for language in wanted or languages():
        text, compiled = up_to_date(language)
        path = source(language)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        path.with_suffix(".mo").write_bytes(compiled)
        sys.stdout.write(f"{path.relative_to(ROOT)}: {examine(text)}")


if __name__ == "__main__":
    main(sys.argv[1:])
