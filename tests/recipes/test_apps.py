"""The recipes as apps: each passes its own tests, and its page in the documentation shows its code."""

from __future__ import annotations

import contextlib
import sys
import textwrap
import types
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest
from django.conf import settings

from demo_project.recipes import RECIPES, Recipe
from tests.support import commands
from tests.support.processes import ROOT
from tests.test_docs import blocks

each_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)


def page_of(recipe: Recipe) -> str:
    return (ROOT / "docs/recipes" / f"{recipe.name.replace('_', '-')}.md").read_text()


def shown(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Yield the file and the code of each block of a recipe's page that shows a file."""
    for _, title, code in blocks(page_of(recipe)):
        if title is not None:
            yield title, code


def test_own_tests() -> None:
    """The recipes pass their own tests, as newcomers run them."""
    output = commands.manage("test", "demo_project", "--verbosity", "2", DJANGO_SETTINGS_MODULE="demo_project.settings")
    for recipe in RECIPES:
        assert f"{recipe.app}.tests." in output, f"{recipe.app} has no tests"


def test_migrations() -> None:
    """The migrations of the demo match its models."""
    assert "No changes detected" in commands.manage("makemigrations", "--check", "--dry-run")


@each_recipe
def test_page_shows_the_code(recipe: Recipe) -> None:
    """Each block of a recipe's page is a file of its app, or a part of one: copy the file if they differ."""
    files = list(shown(recipe))
    assert {title.rpartition("/")[2] for title, _ in files} >= {"events.py", "consumers.py", "page.html"}
    for title, code in files:
        assert title.startswith(f"demo_project/recipes/{recipe.name}/"), title
        lines = f"\n{(ROOT / title).read_text()}"
        # A part, such as a method, is shown without its indentation.
        parts = [f"\n{textwrap.indent(code, indentation)}" for indentation in ("", "    ")]
        assert any(part in lines for part in parts), f"{title} and the page of {recipe.name} differ:\n{code}"


@each_recipe
def test_page_title(recipe: Recipe) -> None:
    """The page has the title of the recipe, and fits the limit of all pages."""
    text = page_of(recipe)
    assert text.startswith(f"# {recipe.title}\n")
    assert len(text.splitlines()) <= 250


async def test_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """The source of the page on tokens yields the texts of its provider, and ends the request when it is closed."""
    requests: list[dict[str, Any]] = []

    class Stream:
        async def __aenter__(self) -> Stream:
            return self

        async def __aexit__(self, *error: object) -> None:
            requests.append({"ended": True})

        @property
        async def text_stream(self) -> AsyncGenerator[str, None]:
            for text in ("Hello", " there", " again"):
                yield text

    def stream(**arguments: Any) -> Stream:
        requests.append(arguments)
        return Stream()

    library = types.ModuleType("anthropic")
    library.AsyncAnthropic = lambda: types.SimpleNamespace(messages=types.SimpleNamespace(stream=stream))
    monkeypatch.setitem(sys.modules, "anthropic", library)
    monkeypatch.setattr(settings, "MODEL", "a-model", raising=False)
    (recipe,) = (recipe for recipe in RECIPES if recipe.name == "token_stream")
    (code,) = (code for language, title, code in blocks(page_of(recipe)) if language == "python" and title is None)
    names: dict[str, Any] = {}
    exec(code, names)
    async with contextlib.aclosing(names["claude"]("Hi")) as tokens:
        assert [await anext(tokens), await anext(tokens)] == ["Hello", " there"]
    messages = [{"role": "user", "content": "Hi"}]
    assert requests == [{"model": "a-model", "max_tokens": 1000, "messages": messages}, {"ended": True}]
