"""The parser of AsyncAPI's own makers reads our documents without an error."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tests.apps.chat.consumers import ChatConsumer, HereConsumer
from tests.clients import toolchain
from tests.clients.generate.consumers import CafeConsumer, MailConsumer, NewsConsumer
from tests.schema.consumers import EveryTypeConsumer
from tests.support.commands import manage
from wsrt.admin.live import AdminConsumer
from wsrt.schema.asyncapi import asyncapi
from wsrt.schema.description import describe
from wsrt.schema.text import to_json, to_yaml


def errors(*files: Path) -> list[list[list[str]]]:
    """Return the parser's errors for each file: code, path, message."""
    toolchain.install()
    found: list[list[list[str]]] = json.loads(toolchain.run("node", "asyncapi.mjs", *map(str, files)))
    return found


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "consumers",
    [
        [EveryTypeConsumer],
        [ChatConsumer, HereConsumer],
        [CafeConsumer, NewsConsumer],
        [AdminConsumer],
        [],
    ],
    ids=lambda found: "+".join(each.__name__ for each in found) or "none",
)
def test_consumers(tmp_path: Path, consumers: list[Any]) -> None:
    """Whatever consumers have, their document is valid, as JSON and as YAML."""
    document = asyncapi(describe(consumers))
    files = [
        write(tmp_path, "document.json", to_json(document)),
        write(tmp_path, "document.yaml", to_yaml(document)),
    ]
    assert errors(*files) == [[], []]


@pytest.mark.parametrize("name", ["schema.json", "schema.yaml"])
def test_demo(tmp_path: Path, name: str) -> None:
    """What the command writes for the demo is valid."""
    file = tmp_path / name
    manage("wsrt_schema", "--output", str(file))
    assert "/ws/rooms/{slug}/" in file.read_text()
    assert errors(file) == [[]]


@pytest.mark.slow
def test_generator_of_code(tmp_path: Path) -> None:
    """AsyncAPI's own generator of code makes a type of each model and frame, under a name that tells which it is."""
    toolchain.install(toolchain.BUNDLERS)
    file = write(tmp_path, "document.json", to_json(asyncapi(describe([NewsConsumer, MailConsumer, CafeConsumer]))))
    made = json.loads(
        toolchain.run("node", str(toolchain.BUNDLERS / "modelina.mjs"), str(file), folder=toolchain.BUNDLERS)
    )
    assert "headline" in made["NewsMessage"]
    assert "subject" in made["MailMessage"]
    assert "MailMessage" in made["MailSaid"]
    assert "MailSaid" in made["MailSentSaidFrame"]
    assert not [name for name in made if "Anonymous" in name]


def test_parser_finds_errors(tmp_path: Path) -> None:
    """A document that is none, and one that refers to nothing, are found."""
    document = asyncapi(describe([EveryTypeConsumer]))
    broken = copy.deepcopy(document)
    del broken["info"]
    astray = copy.deepcopy(document)
    next(iter(astray["channels"].values()))["messages"]["more"] = {"$ref": "#/components/messages/none"}
    files = [write(tmp_path, f"{number}.json", to_json(each)) for number, each in enumerate((broken, astray))]
    assert all(errors(*files))
