"""A folder of generated files: brought up to date, or compared, and never at the cost of somebody's own files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.apps.chat.consumers import ChatConsumer
from wsrt.clients.generate.files import MARK, Changes, ForeignFile, compare, header, write
from wsrt.schema.description import describe

TEXT = header(describe([ChatConsumer]), "//")
FILES = {"index.ts": TEXT, "runtime/client.ts": TEXT}


def test_new_folder(tmp_path: Path) -> None:
    """What is missing is written; a second run changes nothing."""
    assert write(tmp_path / "new", FILES) == Changes(("index.ts", "runtime/client.ts"), (), ())
    assert (tmp_path / "new/runtime/client.ts").read_text() == TEXT
    assert not write(tmp_path / "new", FILES)


def test_changes(tmp_path: Path) -> None:
    """What differs is rewritten and what is needed no more is deleted; comparing says so and does nothing."""
    write(tmp_path, FILES | {"old.ts": TEXT})
    wanted = FILES | {"index.ts": TEXT + "more"}
    expected = Changes((), ("index.ts",), ("old.ts",))
    assert compare(tmp_path, wanted) == expected
    assert (tmp_path / "old.ts").exists()
    assert write(tmp_path, wanted) == expected
    assert (tmp_path / "index.ts").read_text() == wanted["index.ts"]
    assert not (tmp_path / "old.ts").exists()


def test_own_files(tmp_path: Path) -> None:
    """Files that weren't generated stay, next to the generated ones and in folders below."""
    own = tmp_path / "own.ts"
    own.write_text("mine")
    others = {
        tmp_path / "helpers.ts": f"// Helpers for the clients beside this file, which are {MARK}.\n".encode(),
        tmp_path / "latin.ts": b"// caf\xe9\n",
        tmp_path / "types.d.ts": TEXT.encode(),  # of a client in JavaScript
    }
    for path, text in others.items():
        path.write_bytes(text)
    (tmp_path / "folder.ts").mkdir()
    (tmp_path / "link.ts").symlink_to("nowhere")
    below = tmp_path / "below/other.ts"
    below.parent.mkdir()
    below.write_text(TEXT)
    write(tmp_path, FILES)
    assert own.read_text() == "mine"
    assert {path: path.read_bytes() for path in others} == others
    assert (tmp_path / "folder.ts").is_dir()
    assert (tmp_path / "link.ts").is_symlink()
    assert below.exists()


def test_file_in_the_way(tmp_path: Path) -> None:
    """Where somebody's own file has the name of a generated one, nothing at all is written."""
    (tmp_path / "index.ts").write_text("mine")
    with pytest.raises(ForeignFile, match="remove it or choose another folder"):
        write(tmp_path, FILES)
    assert [path.name for path in tmp_path.iterdir()] == ["index.ts"]


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("index.ts", Path.mkdir),
        ("index.ts", lambda path: path.symlink_to("nowhere")),
        ("runtime", lambda path: path.symlink_to("nowhere")),
        ("runtime", lambda path: path.write_text("mine")),
    ],
)
def test_something_else_in_the_way(tmp_path: Path, name: str, make: Callable[[Path], object]) -> None:
    """A folder, a link or a file where another kind is to be: nothing at all is written."""
    make(tmp_path / name)
    with pytest.raises(ForeignFile, match="remove it or choose another folder"):
        write(tmp_path, FILES)
    assert [found.name for found in tmp_path.iterdir()] == [name]


def test_header() -> None:
    """A header names the schema by a hash that changes with it, and marks the file as generated."""
    description = describe([ChatConsumer])
    first = header(description, "//")
    assert first == header(description, "//")
    assert MARK in first
    assert all(line.startswith("// ") for line in first.splitlines())
    assert first != header({**description, "consumers": []}, "//")
