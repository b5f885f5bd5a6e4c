"""The strings of the admin, in other languages."""

from __future__ import annotations

import gettext
import io

import pytest
from django.test import Client
from django.utils import translation

from scripts.translations import examine, languages, source, up_to_date
from tests.admin.conftest import make_user, page
from wsrt.console.realtime import PERMISSIONS


def catalog(compiled: bytes) -> object:
    """What a compiled catalog holds, whichever version of gettext has written it."""
    return {**gettext.GNUTranslations(io.BytesIO(compiled))._catalog}  # type: ignore[attr-defined]


@pytest.mark.parametrize("language", languages())
def test_catalogs(language: str) -> None:
    """Every string that is there now is translated and compiled, and no other: python scripts/translations.py."""
    text, compiled = up_to_date(language)
    told = examine(text)
    assert "untranslated" not in told
    assert "fuzzy" not in told
    assert "error" not in told
    assert "translated messages" in told
    assert catalog(source(language).with_suffix(".mo").read_bytes()) == catalog(compiled)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("language", "rooms", "log"), [("de", "Räume", "Protokoll"), ("fr", "Salons", "Journal"), ("ar", "Rooms", "Log")]
)
def test_pages(language: str, rooms: str, log: str) -> None:
    """Pages speak the language of whoever looks; English, where there is no catalog of it."""
    client = Client()
    client.force_login(make_user("operator", *PERMISSIONS))
    with translation.override(language):
        for name in ("changelist", "rooms", "users", "announce", "schema", "log"):
            text = client.get(page(name)).content.decode()
            assert f'<html lang="{language}"' in text
            assert f">{rooms}</a>" in text
            assert f">{log}</a>" in text
