"""The claims of ``wsrt.resume``: whatever a client sends, the valid claims are read and the others counted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsrt.protocol.claims import Claims, read_claims
from wsrt.types import MAX_EPOCH, MAX_OFFSET, Position

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def read(data: Any, most: int = 10) -> Claims:
    return read_claims(json.dumps({"event": "wsrt.resume", "data": data}), most)


def test_claims() -> None:
    """Each room has its position."""
    claims = read({"a": ["e", 7], "b": ["f", 0]})
    assert claims == {"a": Position("e", 7), "b": Position("f", 0)}
    assert claims.refused == 0


@pytest.mark.parametrize("frame", ['{"event":"wsrt.resume"}', '{"event":"wsrt.resume","data":{}}'])
def test_no_claims(frame: str) -> None:
    """A client that knows no position claims none."""
    claims = read_claims(frame, 10)
    assert (claims, claims.refused) == ({}, 0)


def test_bytes() -> None:
    """A frame may be binary."""
    assert read_claims(b'{"event":"wsrt.resume","data":{"a":["e",7]}}', 10) == {"a": Position("e", 7)}


@pytest.mark.parametrize("data", [None, [], "a", 7, [["a", ["e", 7]]]])
def test_no_object(data: Any) -> None:
    """Data that isn't an object is one claim that is refused."""
    claims = read(data)
    assert (claims, claims.refused) == ({}, 1)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "e:7",
        7,
        [],
        ["e"],
        ["e", 7, 7],
        {"epoch": "e", "offset": 7},
        ["", 7],
        ["e" * (MAX_EPOCH + 1), 7],
        [7, 7],
        [None, 7],
        ["e", "7"],
        ["e", -1],
        ["e", 1.0],
        ["e", True],
        ["e", None],
        ["e", MAX_OFFSET + 1],
        ["e", 10**30],
    ],
)
def test_refused(value: Any) -> None:
    """What isn't a position is left out and counted. The others hold."""
    claims = read({"a": value, "b": ["e", 7]})
    assert (claims, claims.refused) == ({"b": Position("e", 7)}, 1)


def test_bounds() -> None:
    """The longest epoch and the highest offset are valid."""
    assert read({"a": ["e" * MAX_EPOCH, MAX_OFFSET]}) == {"a": Position("e" * MAX_EPOCH, MAX_OFFSET)}


def test_too_many() -> None:
    """Claims over the limit are refused. Those that aren't valid don't count for it."""
    claims = read({"x": None, **{f"r{number}": ["e", number] for number in range(5)}}, most=3)
    assert list(claims) == ["r0", "r1", "r2"]
    assert claims.refused == 3


@given(JSON, st.integers(0, 3))
def test_anything(data: Any, most: int) -> None:
    """Nothing raises, and each entry is either a claim or counted."""
    claims = read(data, most)
    assert len(claims) <= most
    assert len(claims) + claims.refused == (len(data) if isinstance(data, dict) else 1)
