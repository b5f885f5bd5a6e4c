"""The close table."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsrt import close_codes
from wsrt.close_codes import TABLE, Close, CloseCode, Reconnect, is_sendable, reconnect_for

ROWS = [
    (1000, "", Reconnect.NEVER),
    (1001, "Server shutting down", Reconnect.SPREAD),
    (1001, "Heartbeat timeout", Reconnect.BACKOFF),
    (1007, "Invalid message payload", Reconnect.NEVER),
    (1007, "Invalid event data", Reconnect.NEVER),
    (1008, "Unknown event", Reconnect.NEVER),
    (1008, "Too many violations", Reconnect.NEVER),
    (1009, "Message too large", Reconnect.NEVER),
    (1011, "Message handling failed", Reconnect.BACKOFF),
    (1011, "Connection setup failed", Reconnect.BACKOFF),
    (1011, "Outbound publish failed", Reconnect.BACKOFF),
    (1013, "WebSocket backpressure overflow", Reconnect.BACKOFF),
    (4401, "Unauthenticated", Reconnect.AUTH),
    (4401, "Credentials expired", Reconnect.AUTH),
    (4403, "Forbidden", Reconnect.NEVER),
    (4404, "Not found", Reconnect.NEVER),
    (4408, "Connection setup timeout", Reconnect.BACKOFF),
    (4409, "Replaced by a newer connection", Reconnect.NEVER),
    (4410, "Disconnected by the server", Reconnect.NEVER),
    (4429, "Rate limit exceeded", Reconnect.LATER),
    (4429, "Too many connections", Reconnect.LATER),
]


# The table


@pytest.mark.parametrize(("code", "reason", "reconnect"), ROWS)
def test_row(code: int, reason: str, reconnect: Reconnect) -> None:
    """A row has this code and reason, and this is what clients do (S2, S4)."""
    assert Close(code, reason, reconnect) in TABLE
    assert reconnect_for(code, reason) is reconnect


def test_no_other_rows() -> None:
    """These are all the ways in which a connection is ended."""
    assert len(TABLE) == len(ROWS)


def test_a_constant_a_row() -> None:
    """Each row has its constant, and each constant its row."""
    assert {value for value in vars(close_codes).values() if isinstance(value, Close)} == set(TABLE)


def test_every_code_is_used() -> None:
    """The bare numbers are those of the table."""
    assert {int(code) for code in CloseCode} == {close.code for close in TABLE}


def test_codes_are_plain_numbers() -> None:
    """A close carries an int and no enum: servers compare types."""
    assert {type(close.code) for close in TABLE} == {int}
    assert type(Close(CloseCode.FORBIDDEN).code) is int


@pytest.mark.parametrize("close", TABLE, ids=lambda close: f"{close.code} {close.reason}")
def test_rows_fit_the_wire(close: Close) -> None:
    """No reason of the table is cut, and each row is said in words."""
    assert close.wire_reason == close.reason
    assert TABLE[close]


def test_close_is_frozen() -> None:
    """A constant of the table cannot be changed."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        close_codes.NORMAL.code = 4500  # type: ignore[misc]


# Codes


@pytest.mark.parametrize("code", [-1, 0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 65535, 65536])
def test_code_that_cannot_be_sent(code: int) -> None:
    """A code that no close frame may carry raises, and the text says which may be used (S34)."""
    with pytest.raises(ValueError, match="4500-4749"):
        Close(code)


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1014, 3000, 3999, 4000, 4499, 4500, 4749, 4750, 4999])
def test_code_that_can_be_sent(code: int) -> None:
    """The limits of each range belong to it."""
    assert is_sendable(code)
    assert Close(code).code == code


@pytest.mark.parametrize(
    ("code", "sent"),
    [(1000, 1000), (1001, 4001), (1007, 4007), (1011, 4011), (1013, 4013), (1014, 4014), (3000, 3000), (4401, 4401)],
)
def test_fallback_code(code: int, sent: int) -> None:
    """A code that stock Daphne refuses has a number that it sends."""
    assert Close(code).fallback_code == sent


def test_fallback_codes_are_nobody_elses() -> None:
    """No fallback is the code of another row."""
    codes = {close.code for close in TABLE}
    assert not codes & {close.fallback_code for close in TABLE if close.fallback_code != close.code}


# Reasons


@given(st.text() | st.text("aé€😀", min_size=30))
def test_wire_reason(reason: str) -> None:
    """A reason is cut at 123 bytes between code points, as late as possible (S35)."""
    cut = Close(4500, reason).wire_reason
    whole = reason.encode("utf-8", "replace").decode()
    assert whole.startswith(cut)
    assert len(cut.encode()) <= 123
    assert cut == whole or len(whole[: len(cut) + 1].encode()) > 123


@pytest.mark.parametrize(
    ("reason", "cut"), [("a" * 123, "a" * 123), ("a" * 124, "a" * 123), ("é" * 62, "é" * 61), ("😀" * 31, "😀" * 30)]
)
def test_wire_reason_at_the_limit(reason: str, cut: str) -> None:
    """123 bytes pass; a character that would be torn is left out (S35)."""
    assert Close(4500, reason).wire_reason == cut


# What clients do


@pytest.mark.parametrize(("code", "reason", "reconnect"), ROWS)
def test_reconnect_after_fallback(code: int, reason: str, reconnect: Reconnect) -> None:
    """The other number that a server sends for a code means the same."""
    assert reconnect_for(Close(code).fallback_code, reason) is reconnect


@pytest.mark.parametrize(
    ("code", "reconnect"),
    [
        (1001, Reconnect.SPREAD),
        (4001, Reconnect.SPREAD),
        (1007, Reconnect.NEVER),
        (1011, Reconnect.BACKOFF),
        (4401, Reconnect.AUTH),
        (4429, Reconnect.LATER),
    ],
)
def test_reconnect_after_lost_reason(code: int, reconnect: Reconnect) -> None:
    """Servers drop reasons: the code alone says enough."""
    assert reconnect_for(code) is reconnect
    assert reconnect_for(code, "something else") is reconnect


@pytest.mark.parametrize(
    ("code", "reconnect"),
    [
        (4500, Reconnect.BACKOFF),
        (4749, Reconnect.BACKOFF),
        (4750, Reconnect.NEVER),
        (4999, Reconnect.NEVER),
        (3000, Reconnect.BACKOFF),
        (3999, Reconnect.BACKOFF),
        (4000, Reconnect.BACKOFF),
        (4499, Reconnect.BACKOFF),
    ],
)
def test_reconnect_after_own_code(code: int, reconnect: Reconnect) -> None:
    """After an application's own code clients come back below 4750, and stay away from there on."""
    assert reconnect_for(code, "any") is reconnect


@pytest.mark.parametrize(
    ("code", "reconnect"),
    [
        (1002, Reconnect.NEVER),
        (1003, Reconnect.NEVER),
        (1010, Reconnect.NEVER),
        (1005, Reconnect.BACKOFF),
        (1006, Reconnect.BACKOFF),
        (1012, Reconnect.BACKOFF),
        (1014, Reconnect.BACKOFF),
        (1015, Reconnect.BACKOFF),
        (0, Reconnect.BACKOFF),
        (5000, Reconnect.BACKOFF),
    ],
)
def test_reconnect_after_unknown_code(code: int, reconnect: Reconnect) -> None:
    """After a code that is in no row clients come back, unless they would only do the same again."""
    assert reconnect_for(code) is reconnect
