"""Programs that use generated clients: right ones compile, and wrong ones fail in the very line that is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.apps.chat.consumers import ChatConsumer, HereConsumer
from tests.clients.toolchain import FOLDER, run
from tests.schema.consumers import EveryTypeConsumer

from .compiler import PROGRAMS, errors, expected, write_javascript, write_typescript
from .consumers import CafeConsumer, IndexConsumer, MailConsumer, NewsConsumer, OddConsumer

CONSUMERS = [
    *(EveryTypeConsumer, CafeConsumer, ChatConsumer, HereConsumer),
    *(IndexConsumer, MailConsumer, NewsConsumer, OddConsumer),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated clients in TypeScript, and the programs beside them."""
    root = tmp_path_factory.mktemp("typescript")
    write_typescript(root / "client", CONSUMERS)
    for name in ("good.ts", "wrong.ts"):
        shutil.copy(PROGRAMS / name, root)
    return root


def test_programs(folder: Path) -> None:
    """Right programs compile, and so do all generated files; wrong ones fail line by line, each for its reason."""
    wanted = expected((PROGRAMS / "wrong.ts").read_text())
    assert len(wanted) > 50
    assert errors(folder) == {"wrong.ts": wanted}


@pytest.mark.parametrize(
    "options",
    [
        {"module": "NodeNext", "moduleResolution": "NodeNext"},
        {"lib": ["ES2022"], "types": [], "verbatimModuleSyntax": False, "isolatedModules": True},
        {"strict": False, "exactOptionalPropertyTypes": False, "noUncheckedIndexedAccess": False},
    ],
    ids=["node", "no platform", "not strict"],
)
def test_other_compilers(tmp_path: Path, options: dict[str, object]) -> None:
    """Generated files compile for Node, without a platform, and without strict mode."""
    (tmp_path / "package.json").write_text('{"type": "module"}')
    write_typescript(tmp_path / "client", CONSUMERS, "js" if "module" in options else "none")
    assert errors(tmp_path, **options) == {}


def test_scripts_of_pages(tmp_path: Path) -> None:
    """An editor knows the types of clients in JavaScript, those of the runtime too, without being set up."""
    write_javascript(tmp_path / "client", CONSUMERS)
    shutil.copy(PROGRAMS / "page.js", tmp_path)
    assert errors(tmp_path, "page.js", allowJs=True) == {"page.js": expected((PROGRAMS / "page.js").read_text())}


def test_both_languages_have_the_same_types(tmp_path: Path) -> None:
    """What the index in TypeScript calls its types is what those in JavaScript are called."""
    write_typescript(tmp_path / "ts", CONSUMERS)
    write_javascript(tmp_path / "js", CONSUMERS)
    script = 'import * as wsrt from "wsrt"; import type * as ts from "./ts/index.js";'
    script += 'import type * as js from "./js/index.js"; export type Names = [ts.MailMessage, js.MailMessage];\n'
    for name in ("Everything", "EverythingInput", "Order", "Odd", "OddStatus", "SameInBoth", "NewsSaid", "ChatReplies"):
        script += f"export const {name}: (value: ts.{name}) => js.{name} = (value) => value;\n"
    (tmp_path / "both.ts").write_text(f"{script}export const runtime: typeof wsrt.Client = wsrt.Client;\n")
    assert errors(tmp_path) == {}


def test_tags(tmp_path: Path) -> None:
    """Only deprecated fields are marked as deprecated, whatever docstrings say."""
    write_typescript(tmp_path, CONSUMERS)
    compiler = str(FOLDER / "node_modules/typescript/lib/typescript.js")
    text = run("node", str(PROGRAMS / "tags.mjs"), compiler, str(tmp_path / "cafe.ts"))
    assert json.loads(text) == [["waiter", ["deprecated"]]] * 2
    assert json.loads(run("node", str(PROGRAMS / "tags.mjs"), compiler, str(tmp_path / "odd.ts"))) == []
