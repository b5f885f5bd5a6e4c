"""The command ``wsrt_client``, for all languages."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from tests.apps.chat.consumers import ChatConsumer
from tests.schema.consumers import EveryTypeConsumer
from tests.support.commands import manage
from tests.support.processes import ROOT
from wsrt import TypedEventConsumer
from wsrt.management.commands import wsrt_client

CLIENTS = ROOT / "demo_project/chat/static/chat/clients"

LANGUAGES = {
    "typescript": ["chat.ts", "every-type.ts", "index.ts", "runtime/client.ts", "runtime/index.ts", "runtime/react.ts"],
    "javascript": ["index.d.ts", "index.js", "wsrt.d.ts"],
    "python": ["chat.py", "every_type.py", "__init__.py", "runtime/client.py", "runtime/__init__.py"],
}


@pytest.fixture(autouse=True)
def consumers(monkeypatch: pytest.MonkeyPatch) -> list[type[TypedEventConsumer]]:
    """Two consumers, whatever else the process knows."""
    found = [ChatConsumer, EveryTypeConsumer]
    monkeypatch.setattr(wsrt_client, "known_consumers", lambda: iter(found))
    return found


def command(language: str, folder: Path, *arguments: str) -> str:
    output = io.StringIO()
    call_command("wsrt_client", language, f"--output={folder}", *arguments, stdout=output, no_color=True)
    return output.getvalue()


def contents(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("language", LANGUAGES)
def test_writes(language: str, tmp_path: Path) -> None:
    """A folder is written, each file is named, and a second run finds nothing to do."""
    folder = tmp_path / "a/b"
    said = command(language, folder)
    assert set(LANGUAGES[language]) <= set(contents(folder))
    assert said.splitlines() == [
        *(f"+ {folder / name}" for name in sorted(contents(folder))),
        f"{folder}: 2 clients, written",
    ]
    assert command(language, folder) == f"{folder}: 2 clients, up to date\n"
    assert command(language, folder, "--check") == f"{folder}: 2 clients, up to date\n"


@pytest.mark.parametrize("language", LANGUAGES)
def test_check(language: str, tmp_path: Path, consumers: list[type[TypedEventConsumer]]) -> None:
    """--check names what would change, exits with 1 and writes nothing; foreign files are none of its business."""
    command(language, tmp_path)
    (tmp_path / "own.ts").write_text("mine")
    (tmp_path / "own.js").write_text("mine")
    (tmp_path / "own.py").write_text("mine")
    name = LANGUAGES[language][0]
    (tmp_path / name).unlink()
    consumers.pop()
    before = contents(tmp_path)
    output = io.StringIO()
    with pytest.raises(CommandError, match="is not up to date: run the same command without --check") as caught:
        call_command("wsrt_client", language, f"--output={tmp_path}", "--check", stdout=output, no_color=True)
    assert caught.value.returncode == 1
    assert f"+ {tmp_path / name}\n" in output.getvalue()
    assert "~ " in output.getvalue()
    assert "own" not in output.getvalue()
    assert contents(tmp_path) == before
    command(language, tmp_path)
    assert (tmp_path / "own.ts").read_text() == "mine"
    assert command(language, tmp_path, "--check") == f"{tmp_path}: 1 client, up to date\n"


def test_removes(tmp_path: Path, consumers: list[type[TypedEventConsumer]]) -> None:
    """The file of a consumer that is no longer goes away."""
    command("typescript", tmp_path)
    consumers.remove(EveryTypeConsumer)
    assert f"- {tmp_path / 'every-type.ts'}\n" in command("typescript", tmp_path)
    assert not (tmp_path / "every-type.ts").exists()
    assert "EveryType" not in (tmp_path / "index.ts").read_text()


@pytest.mark.parametrize("name", ["Chat", "ChatConsumer", "ChatClient"])
def test_one_consumer(name: str, tmp_path: Path) -> None:
    """--consumer takes the consumer that is named, with or without the end of its name."""
    assert "1 client, written" in command("typescript", tmp_path, "--consumer", name)
    assert (tmp_path / "chat.ts").exists()
    assert not (tmp_path / "every-type.ts").exists()


def test_unknown_consumer(tmp_path: Path) -> None:
    """A consumer that is none is an error that names those that are, and nothing is written."""
    with pytest.raises(CommandError, match=r"No consumer Shop\. The consumers are Chat, EveryType\."):
        command("typescript", tmp_path / "new", "--consumer", "Shop", "--consumer", "Chat")
    assert not (tmp_path / "new").exists()


def test_no_consumers(tmp_path: Path, consumers: list[type[TypedEventConsumer]]) -> None:
    """Without any consumer the setting is named where they are looked for."""
    consumers.clear()
    with pytest.raises(CommandError, match=r'WSRT\["CONSUMERS"\]'):
        command("javascript", tmp_path / "new")


def test_file_for_a_folder(tmp_path: Path) -> None:
    """A file where the folder should be is an error."""
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(CommandError, match="is a file: name a folder"):
        command("typescript", file)


@pytest.mark.parametrize("arguments", [[], ["--check"]])
@pytest.mark.parametrize("language", LANGUAGES)
def test_foreign_file_in_the_way(language: str, arguments: list[str], tmp_path: Path) -> None:
    """Somebody's own index is never overwritten."""
    name = {"typescript": "index.ts", "javascript": "index.js", "python": "__init__.py"}[language]
    (tmp_path / name).write_text("mine")
    with pytest.raises(CommandError, match="wasn't generated by wsrt: remove it or choose another folder"):
        command(language, tmp_path, *arguments)
    assert contents(tmp_path) == {name: "mine"}


@pytest.mark.parametrize("arguments", [[], ["--check"]])
@pytest.mark.parametrize(("first", "second"), [("typescript", "javascript"), ("javascript", "typescript")])
def test_rivals(first: str, second: str, arguments: list[str], tmp_path: Path) -> None:
    """TypeScript and JavaScript are kept in folders of their own, for bundlers would take one index for the other."""
    command(first, tmp_path)
    before = contents(tmp_path)
    with pytest.raises(CommandError, match="use separate folders for TypeScript and JavaScript"):
        command(second, tmp_path, *arguments)
    assert contents(tmp_path) == before
    command("python", tmp_path)
    assert "up to date" in command(first, tmp_path, "--check")


def test_compiled_beside(tmp_path: Path) -> None:
    """What a compiler writes beside the clients is none of the command's business."""
    command("typescript", tmp_path)
    for name in ("index.js", "index.d.ts", "runtime/index.js"):
        (tmp_path / name).write_text((tmp_path / "index.ts").read_text())
    assert "up to date" in command("typescript", tmp_path)
    assert (tmp_path / "index.js").exists()


@pytest.mark.parametrize(("arguments", "imported"), [([], ""), (["none"], ""), (["js"], ".js"), (["ts"], ".ts")])
def test_import_extension(arguments: list[str], imported: str, tmp_path: Path) -> None:
    """Files import each other without an extension, which bundlers and test runners resolve, or with the one named."""
    option = [f"--import-extension={each}" for each in arguments]
    command("typescript", tmp_path, *option)
    for path in tmp_path.rglob("*.ts"):
        modules = re.findall(r'from "(\./.*?)"', path.read_text())
        assert {module.rpartition("/")[2].partition(".")[2] for module in modules} <= {imported.removeprefix(".")}
        assert all((path.parent / module).with_suffix(".ts").exists() for module in modules if "realtime" not in module)
    assert f'from "./chat{imported}";' in (tmp_path / "index.ts").read_text()
    assert "up to date" in command("typescript", tmp_path, "--check", *option)


def test_import_extension_of_other_languages(tmp_path: Path) -> None:
    """Clients in JavaScript and Python have no use for the option, and say so."""
    for language in ("javascript", "python"):
        with pytest.raises(CommandError, match="only applies to typescript"):
            command(language, tmp_path, "--import-extension=js")


def test_clients_of_the_demo() -> None:
    """The demo has the client of its chat: wsrt_client javascript --consumer Chat --output={CLIENTS}."""
    arguments = ["wsrt_client", "javascript", "--consumer=Chat", f"--output={CLIENTS}", "--check"]
    assert "up to date" in manage(*arguments)


@pytest.mark.parametrize("language", LANGUAGES)
def test_is_the_same_everywhere(language: str, tmp_path: Path) -> None:
    """Equal consumers give equal files, in any process."""
    for seed in ("1", "2"):
        manage("wsrt_client", language, f"--output={tmp_path / seed}", PYTHONHASHSEED=seed)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
