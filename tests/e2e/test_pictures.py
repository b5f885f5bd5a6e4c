"""The pictures of the README are made from the demo as it is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT

ASSETS = ROOT / "docs/assets"
NAMES = ["demo-light.webp", "demo-dark.webp"]
LIMIT = 300_000


def size(picture: bytes) -> tuple[int, int]:
    """Return the width and height of a picture in lossy WebP."""
    found = re.match(rb"RIFF.{4}WEBP.*?VP8 .{4}...\x9d\x01\x2a(..)(..)", picture, re.DOTALL)
    assert found
    return int.from_bytes(found[1], "little"), int.from_bytes(found[2], "little")


@pytest.mark.parametrize("name", NAMES)
def test_kept_pictures(name: str) -> None:
    """The README shows the kept pictures, which load quickly and are sharp on dense screens."""
    picture = (ASSETS / name).read_bytes()
    assert f'"docs/assets/{name}"' in (ROOT / "README.md").read_text()
    assert len(picture) < LIMIT
    assert size(picture)[0] >= 1600


@pytest.mark.slow
@pytest.mark.servers
@pytest.mark.browser
def test_script(tmp_path: Path) -> None:
    """The script that makes them follows the demo through two servers and the admin."""
    subprocess.run([sys.executable, str(ROOT / "scripts/pictures.py"), str(tmp_path)], check=True, timeout=600)
    for name in NAMES:
        assert size((tmp_path / name).read_bytes()) == size((ASSETS / name).read_bytes())
