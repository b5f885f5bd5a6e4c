"""The values that fields of events accept, and their form on the wire."""

from __future__ import annotations

import datetime as dt
import json
from collections import UserString
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import pytest
from django.core.serializers.json import DjangoJSONEncoder
from django.urls import path, reverse_lazy
from django.utils import translation
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, ValidationError

from wsrt import DeclarationError, Event, RootEvent
from wsrt.protocol.catalog import Catalog
from wsrt.protocol.envelope import encode

LAZY = gettext_lazy("Monday")

urlpatterns = [path("here/", lambda request: None, name="here")]  # type: ignore[misc]


class Part(Event):
    title: str


class Texts(Event, name="texts"):
    plain: str
    short: str | None = Field(default=None, max_length=9)
    many: list[str] = []
    by_text: dict[str, str] = {}
    either: int | str = 0
    lists: int | list[str] = 0
    part: Part | None = None
    inner: list[Texts] = []


class Word(RootEvent[str], name="word"):
    pass


def data_of(event: Event) -> Any:
    return json.loads(encode(event).frame().text)["data"]


def test_lazy_text() -> None:
    """Fields for text take lazy text, in lists, keys, unions and events within; it is text from then on."""
    event = Texts(
        plain=LAZY,
        short=LAZY,
        many=[LAZY, "a"],
        by_text={LAZY: LAZY},  # type: ignore[dict-item]
        either=LAZY,
        lists=[LAZY],
        part={"title": LAZY},  # type: ignore[arg-type]
        inner=[{"plain": LAZY}],  # type: ignore[list-item]
    )
    assert type(event.plain) is str
    written = data_of(event)
    assert written.pop("inner")[0]["plain"] == "Monday"
    assert written == {
        "plain": "Monday",
        "short": "Monday",
        "many": ["Monday", "a"],
        "by_text": {"Monday": "Monday"},
        "either": "Monday",
        "lists": ["Monday"],
        "part": {"title": "Monday"},
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (format_lazy("{}!", LAZY), "Monday!"),
        (UserString("text"), "text"),
        (reverse_lazy("here"), "/here/"),
    ],
    ids=["format_lazy", "UserString", "reverse_lazy"],
)
def test_what_is_lazy(text: Any, expected: str, settings: Any) -> None:
    """Whatever has the methods of text is text."""
    settings.ROOT_URLCONF = __name__
    assert data_of(Word(text)) == expected


def test_language_of_lazy_text() -> None:
    """Lazy text is in the language that is active when the event is made."""
    with translation.override("de"):
        event = Word(LAZY)
    with translation.override("fr"):
        assert data_of(event) == "Montag"


def test_other_values_are_no_text() -> None:
    """What is not text is refused as ever, and where it is wrong is said in the same words."""
    with pytest.raises(ValidationError) as caught:
        Texts.model_validate({"plain": 1, "either": None, "lists": [2], "short": "x" * 10})
    assert [(error["loc"], error["type"]) for error in caught.value.errors()] == [
        (("plain",), "string_type"),
        (("short",), "string_too_long"),
        (("either", "int"), "int_type"),
        (("either", "str"), "string_type"),
        (("lists", "int"), "int_type"),
        (("lists", "list[str]", 0), "string_type"),
    ]


def test_frames_are_read_as_before() -> None:
    """A union takes of a frame what fits exactly."""
    received = Catalog([Texts], []).decode('{"event":"texts","data":{"plain":"1","either":"1","lists":["1"]}}')
    assert received.event == Texts(plain="1", either="1", lists=["1"])


class Undecided(BaseModel):
    raw: bytes


class Decided(BaseModel):
    model_config = ConfigDict(ser_json_bytes="utf8")
    raw: bytes


class Derived(Event):
    raw: bytes


@dataclass
class Record:
    raw: bytes


class Middle(BaseModel):
    inner: dict[str, list[Undecided | None]]


@pytest.mark.parametrize("annotation", [Undecided, list[Undecided | int], Middle])
def test_undecided_bytes(annotation: Any) -> None:
    """Bytes in a model that does not say how JSON holds them are an error of the event's declaration, with the fix."""
    with pytest.raises(DeclarationError, match=r"Undecided\.raw is bytes.*derive the model from Event.*ser_json_bytes"):
        type(Event)(
            "Holder", (Event,), {"__annotations__": {"field": annotation}, "__module__": __name__}, name="holder"
        )


class Holder(Event, name="holder"):
    derived: Derived
    decided: Decided
    record: Record
    own: Annotated[bytes, PlainSerializer(lambda value: value.hex(), return_type=str)] = b""


def test_decided_bytes() -> None:
    """Bytes are base64 in events within an event and in dataclasses; other models decide themselves."""
    event = Holder(derived=Derived(raw=b"\xff"), decided=Decided(raw=b"a"), record=Record(b"\xff"), own=b"\xff")
    assert data_of(event) == {
        "derived": {"raw": "_w=="},
        "decided": {"raw": "a"},
        "record": {"raw": "_w=="},
        "own": "ff",
    }


ZONE = dt.timezone(dt.timedelta(hours=2))

WRITTEN = [
    (dt.datetime(2026, 1, 31, 12, 30, 0, 123456, dt.UTC), "2026-01-31T12:30:00.123456Z", "2026-01-31T12:30:00.123Z"),
    (dt.datetime(2026, 1, 31, 12, 30, tzinfo=dt.UTC), "2026-01-31T12:30:00Z", "2026-01-31T12:30:00Z"),
    (dt.datetime(2026, 1, 31, 12, 30, tzinfo=ZONE), "2026-01-31T12:30:00+02:00", "2026-01-31T12:30:00+02:00"),
    (dt.datetime(2026, 1, 31, 12, 30), "2026-01-31T12:30:00", "2026-01-31T12:30:00"),
    (dt.date(2026, 1, 31), "2026-01-31", "2026-01-31"),
    (dt.time(12, 30, 0, 123456), "12:30:00.123456", "12:30:00.123"),
    (dt.timedelta(seconds=90), "PT1M30S", "P0DT00H01M30S"),
    (dt.timedelta(days=1, hours=1, microseconds=500_000), "P1DT1H0.5S", "P1DT01H00M00.500000S"),
    (-dt.timedelta(seconds=90), "-PT1M30S", "-P0DT00H01M30S"),
    (Decimal("12.50"), "12.50", "12.50"),
    (UUID(int=1), str(UUID(int=1)), str(UUID(int=1))),
]
"""A value, as an event writes it, and as DjangoJSONEncoder does: the table of the page about events."""


@pytest.mark.parametrize(("value", "ours", "theirs"), WRITTEN, ids=lambda each: repr(each)[:40])
def test_values(value: Any, ours: str, theirs: str) -> None:
    """Values are written in full, so that they come back equal; Django's encoder cuts and pads some of them."""

    class Holds(Event, name="holds"):
        value: type(value)  # type: ignore[valid-type]

    event = Holds(value=value)
    assert data_of(event)["value"] == ours
    assert json.loads(json.dumps(value, cls=DjangoJSONEncoder)) == theirs
    assert Holds.model_validate_json(event.model_dump_json()) == event
    # What Django's encoder writes is read too.
    Holds.model_validate_json(json.dumps({"value": theirs}))
