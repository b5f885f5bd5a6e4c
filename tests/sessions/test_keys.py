"""The hashes of the keys of sessions."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.sessions.backends.signed_cookies import SessionStore

from wsrt.sessions.keys import hashes_of, session_key_of


def test_a_hash_for_each_secret_key(settings: Any) -> None:
    """Processes before and after a rotation of the secret key have a hash in common; others have none."""
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "old", []
    old = hashes_of("key")
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", ["old"]
    new = hashes_of("key")
    assert len(old) == 1
    assert new[1:] == old
    assert new[0] != old[0]
    assert not {*new, *old} & {*hashes_of("other")}
    assert "key" not in "".join(new)


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ({}, None),
        ({"session": {}}, None),
        ({"session": None}, None),
        ({"session": SessionStore()}, None),
        ({"session": SessionStore("")}, None),
        ({"session": SessionStore("signed cookie")}, "signed cookie"),
    ],
)
def test_key_of_a_scope(scope: Any, expected: str | None) -> None:
    """A scope without a session has no key, nor has one with an object that isn't a session of Django's."""
    assert session_key_of(scope) == expected
