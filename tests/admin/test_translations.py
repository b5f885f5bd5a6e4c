"""The strings of the admin, in other languages."""

from __future__ import annotations

import gettext
import io
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import django
import pytest
from django.test import Client
from django.utils import translation
from django.utils.translation import ngettext

from scripts.translations import PASSING, examine, languages, source, up_to_date
from tests.admin.conftest import make_user, page
from wsrt.permissions import PERMISSIONS

Catalog = dict[str | tuple[str, int], str]

FILLED = re.compile(r"%\(\w+\)[sd]|%[sd%]|\{\w*\}|</?\w+>")
"""What a translation takes over as it is: placeholders and tags."""

HEADINGS = {
    "de": {
        "changelist": "Echtzeit",
        "rooms": "Räume",
        "users": "Benutzer",
        "announce": "Ankündigen",
        "log": "Protokoll",
    },
    "fr": {
        "changelist": "Temps réel",
        "rooms": "Salons",
        "users": "Utilisateurs",
        "announce": "Annoncer",
        "log": "Journal",
    },
    "es": {
        "changelist": "Tiempo real",
        "rooms": "Salas",
        "users": "Usuarios",
        "announce": "Anunciar",
        "log": "Registro",
    },
    "en": {"changelist": "Realtime", "rooms": "Rooms", "users": "Users", "announce": "Announce", "log": "Log"},
}


def catalog(compiled: bytes) -> Catalog:
    """What a compiled catalog holds, whichever version of gettext has written it."""
    return {**gettext.GNUTranslations(io.BytesIO(compiled))._catalog}  # type: ignore[attr-defined]


def shipped(language: str) -> Catalog:
    """What the package has, without the header."""
    return {key: text for key, text in catalog(source(language).with_suffix(".mo").read_bytes()).items() if key}


def english(key: str | tuple[str, int]) -> str:
    """The string that an entry translates: of plurals the singular, and without its context."""
    return (key if isinstance(key, str) else key[0]).rpartition("\4")[2]


def edges(text: str) -> tuple[str, str]:
    """The blanks around a text, which is put beside others."""
    return text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]


def test_languages() -> None:
    """The package speaks German, Spanish and French."""
    assert languages() == ["de", "es", "fr"]


@pytest.mark.parametrize("language", languages())
def test_catalogs(language: str) -> None:
    """Every string that is there now is translated and compiled, and no other: python scripts/translations.py."""
    text, compiled = up_to_date(language)
    told = examine(text)
    assert "untranslated" not in told
    assert "fuzzy" not in told
    assert "error" not in told
    assert "translated messages" in told
    assert shipped(language) == {key: text for key, text in catalog(compiled).items() if key}


@pytest.mark.parametrize("language", languages())
def test_sources(language: str) -> None:
    """A compiled catalog is what its source compiles to, and the source has no left-overs and nothing that passes."""
    text = source(language).read_text("utf-8")
    done = subprocess.run(["msgfmt", "--output-file", "-", source(language)], check=True, capture_output=True)
    assert catalog(source(language).with_suffix(".mo").read_bytes()) == catalog(done.stdout)
    assert f'"Language: {language}\\n"' in text
    assert not re.search(r"^#~|^#,.*\bfuzzy\b|^#\||PACKAGE", text, re.MULTILINE)
    assert not PASSING.search(text)


@pytest.mark.parametrize("language", languages())
def test_placeholders(language: str) -> None:
    """Translations have the placeholders, the tags and the outer blanks of their strings."""
    for key, text in shipped(language).items():
        assert Counter(FILLED.findall(text)) == Counter(FILLED.findall(english(key))), key
        assert edges(text) == edges(english(key)), key


@pytest.mark.parametrize("language", languages())
def test_forms(language: str) -> None:
    """A plural has each form that the rule of the language asks for."""
    compiled = source(language).with_suffix(".mo").read_bytes()
    form_of = gettext.GNUTranslations(io.BytesIO(compiled)).plural  # type: ignore[attr-defined]
    wanted = {form_of(number) for number in (*range(200), 1_000_000)}
    found: dict[str, set[int]] = {}
    for key in shipped(language):
        if not isinstance(key, str):
            found.setdefault(key[0], set()).add(key[1])
    assert found and all(forms == wanted for forms in found.values()), found


@pytest.mark.parametrize(
    ("language", "texts"),
    [
        ("de", ["0 Einträge", "1 Eintrag", "2 Einträge", "1000000 Einträge"]),
        ("fr", ["0 élément", "1 élément", "2 éléments", "1000000 d’éléments"]),
        ("es", ["0 elementos", "1 elemento", "2 elementos", "1000000 de elementos"]),
    ],
)
def test_plurals(language: str, texts: list[str]) -> None:
    """Numbers take the form that the language has for them."""
    with translation.override(language):
        for number, text in zip((0, 1, 2, 1_000_000), texts, strict=True):
            assert (ngettext("at least %d item", "at least %d items", number) % number).endswith(f" {text}")


@pytest.mark.parametrize("language", languages())
@pytest.mark.parametrize("part", ["conf", "contrib/admin", "contrib/auth"])
def test_words_of_django(language: str, part: str) -> None:
    """What Django says too is said as Django says it: all catalogs become one, in the order of INSTALLED_APPS."""
    path = Path(django.__file__).parent / part / "locale" / language / "LC_MESSAGES/django.mo"
    theirs, ours = catalog(path.read_bytes()), shipped(language)
    assert {key: ours[key] for key in ours.keys() & theirs} == {key: theirs[key] for key in ours.keys() & theirs}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("asked", "language", "catalog"),
    [
        ("de", "de", "de"),
        ("de-AT,de;q=0.9,en;q=0.5", "de", "de"),
        ("fr", "fr", "fr"),
        ("es", "es", "es"),
        ("es-MX", "es-mx", "es"),
        ("en", "en", "en"),
        ("ar", "ar", "en"),
    ],
)
def test_pages(settings: Any, asked: str, language: str, catalog: str) -> None:
    """Pages speak the language that the browser asks for; English, where there is no catalog of it."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.locale.LocaleMiddleware"]
    client = Client(headers={"Accept-Language": asked})
    client.force_login(make_user("operator", *PERMISSIONS))
    direction = "rtl" if language == "ar" else "ltr"
    with translation.override("en"):  # and what it was, afterwards
        for name, heading in HEADINGS[catalog].items():
            text = client.get(page(name)).content.decode()
            assert re.search(rf'<html lang="{language}" dir="{direction}"', text)
            assert f"<h1>{heading}</h1>" in text
            assert f">{HEADINGS[catalog]['rooms']}</a>" in text
        assert client.get(page("schema")).status_code == 200
