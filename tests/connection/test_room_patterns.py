"""The patterns of the rooms that clients may subscribe to."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.urls.converters import get_converters
from hypothesis import given
from hypothesis import strategies as st

from wsrt.connection.room_patterns import RoomPattern, room_patterns


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("lobby", ["lobby"], ["lobby2", "lobb", "", "Lobby"]),
        ("order.<int:pk>", ["order.7", "order.007"], ["order.", "order.x", "order.7.", "order.7\n", "border.7"]),
        ("<slug>.chat", ["a.chat", "a b.chat"], [".chat", "a/b.chat", "a.chats", "a.chat.chat"]),
        ("<str:a>-<str:b>", ["a-b", "a-b-c", "*-*"], ["-b", "a-", "a/-b", "ab"]),
        ("doc/<path:where>", ["doc/a", "doc/a/b"], ["doc/", "docs/a"]),
        ("<uuid:id>", ["0f8fad5b-d9cb-469f-a165-70867728950e"], ["0F8FAD5B-d9cb-469f-a165-70867728950e", "1"]),
    ],
)
def test_matches(pattern: str, matching: list[str], other: list[str]) -> None:
    """A name matches as a whole, and each parameter by its converter; a parameter is never empty."""
    found = RoomPattern(pattern)
    assert [name for name in matching if not found.matches(name)] == []
    assert [name for name in other if found.matches(name)] == []


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("", "non-empty"),
        (5, "non-empty"),
        ("order.*", "contain wildcards"),
        ("<int:a><int:b>", "without text between"),
        ("order.<int:pk", "angle bracket"),
        ("order.>", "angle bracket"),
        ("wsrt.<str:x>", "reserved"),
        ("<nothing:x>", "isn't registered"),
    ],
)
def test_wrong(wrong: Any, says: str) -> None:
    """A pattern that can't work is refused, with the reason."""
    with pytest.raises(ValueError, match=says):
        RoomPattern(wrong)


@pytest.mark.parametrize("wrong", ["order.<int:pk>", None, 5])
def test_not_a_tuple(wrong: object) -> None:
    """One string isn't a tuple of patterns."""
    with pytest.raises(ValueError, match="tuple of patterns"):
        room_patterns(wrong)


@given(st.text(alphabet="ab.-/7", max_size=12))
def test_never_more_than_the_converters_allow(name: str) -> None:
    """A pattern matches no name that Django's own reading of it, with backtracking, would refuse."""
    for text in ("<str:a>.<str:b>", "a<int:x>-<slug:y>", "<path:p>/<str:q>", "<slug:a>"):
        parts = re.split(r"<(\w+):\w+>", text)
        regex = "".join(
            re.escape(part) if index % 2 == 0 else f"(?:{get_converters()[part].regex})"
            for index, part in enumerate(parts)
        )
        assert not RoomPattern(text).matches(name) or re.fullmatch(regex, name)


def test_the_time_is_linear() -> None:
    """A name that would make a regular expression of many parameters backtrack is read in one pass."""
    pattern = RoomPattern("-".join(f"<str:p{number}>" for number in range(40)) + "/end")
    # With backtracking, 10 ** 60 ways to divide it would have to be tried.
    assert not pattern.matches("-" * 100_000)
    assert not pattern.matches("a-" * 100_000)
    assert pattern.matches("-".join(["a"] * 40) + "/end")
