"""Validators of inbound events that ask the database, or raise what Django's validators raise."""

from __future__ import annotations

import json

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied
from django.core.validators import validate_slug
from django.test import TestCase
from pydantic import field_validator

from wsrt import Event, TypedEventConsumer, close_codes, on
from wsrt.metrics import counters
from wsrt.testing import RequestRefused, connect


class Choose(Event, name="validators.choose"):
    """Names a group that there must be."""

    group: str
    padding: str = ""

    @field_validator("group")
    @classmethod
    def must_exist(cls, value: str) -> str:
        if not Group.objects.filter(name=value).exists():
            raise ValueError("there is no such group")
        return value


class ChooseInLoop(Choose, name="validators.choose-in-loop"):
    pass


class Label(Event, name="validators.label"):
    """Is checked by a validator of Django's."""

    text: str

    @field_validator("text")
    @classmethod
    def must_be_a_slug(cls, value: str) -> str:
        if value == "secret":
            raise PermissionDenied("Not yours")
        if value == "bug":
            raise KeyError(value)
        validate_slug(value)
        return value


class Chosen(Event, name="validators.chosen"):
    group: str


class Chooser(TypedEventConsumer):
    namespace = "validators"

    @on
    def choose(self, event: Choose) -> Chosen:
        return Chosen(group=event.group)

    @on
    async def choose_in_loop(self, event: ChooseInLoop) -> Chosen:
        return Chosen(group=event.group)

    @on
    async def label(self, event: Label) -> None: ...


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("event", ["validators.choose", "validators.choose-in-loop"])
@pytest.mark.parametrize("size", [0, 40_000])
async def test_validator_asks_the_database(event: str, size: int) -> None:
    """A validator may use the ORM, whatever the handler and the size of the frame; order is kept."""
    await sync_to_async(Group.objects.create)(name="staff")
    padding = "x" * size
    async with connect(Chooser) as client:
        for number, group in enumerate(["staff", "nobody", "staff"]):
            data = {"group": group, "padding": padding}
            await client.send_text(json.dumps({"event": event, "data": data, "ref": str(number)}))
        frames = [await client.receive_json() for _ in range(3)]
        assert [frame["ref"] for frame in frames] == ["0", "1", "2"]
        assert [frame["event"] for frame in frames] == ["validators.chosen", "wsrt.error", "validators.chosen"]
        assert frames[1]["data"]["code"] == "invalid_data"
        assert frames[1]["data"]["errors"] == [
            {"loc": ["group"], "msg": "there is no such group", "type": "value_error"}
        ]


class InTransaction(TestCase):
    """Django's own test case."""

    async def test_validator_sees_the_transaction(self) -> None:
        """A validator sees what the test made."""
        await Group.objects.acreate(name="staff")
        async with connect(Chooser) as client:
            self.assertEqual(await client.request(ChooseInLoop.model_construct(group="staff")), Chosen(group="staff"))


@pytest.mark.parametrize(
    ("text", "code", "messages"),
    [
        (
            "not a slug",
            "invalid_data",
            ["Enter a valid “slug” consisting of letters, numbers, underscores or hyphens."],
        ),
        ("secret", "forbidden", []),
    ],
)
async def test_refusals_of_validators(text: str, code: str, messages: list[str]) -> None:
    """What is a refusal in a handler is one in a validator: Django's validators can be used."""
    async with connect(Chooser) as client:
        with pytest.raises(RequestRefused) as refused:
            await client.request(Label.model_construct(text=text))
        assert refused.value.code == code
        assert [error["msg"] for error in refused.value.errors] == messages
        before = counters["refusals_unanswered"]
        await client.send_text(json.dumps({"event": "validators.label", "data": {"text": text}}))
        await client.settle()
        assert counters["refusals_unanswered"] == before + 1
        await client.request(Label(text="a-slug"))


async def test_validator_with_a_bug(caplog: pytest.LogCaptureFixture) -> None:
    """Any other exception of a validator is a bug, as of a handler."""
    async with connect(Chooser) as client:
        with pytest.raises(RequestRefused, match="internal"):
            await client.request(Label.model_construct(text="bug"))
        await client.assert_closed(close_codes.MESSAGE_HANDLING_FAILED)
    assert "raised an exception" in caplog.text
