"""The names of rooms as stores write them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wsrt.stores.names import as_bytes, field_of, room_id_of

NAMES = st.text(st.characters() | st.sampled_from("0123456789.:{}@\ud800"))


@given(st.tuples(NAMES, NAMES), st.tuples(NAMES, NAMES))
def test_fields(one: tuple[str, str], other: tuple[str, str]) -> None:
    """The field of a room says which one it is, and no two rooms have the same one."""
    assert room_id_of(field_of(one)) == one
    assert (as_bytes(field_of(one)) == as_bytes(field_of(other))) == (one == other)
