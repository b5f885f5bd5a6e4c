"""The exceptions of handlers and hooks that are refusals, and the answers to them."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied, SuspiciousFileOperation, ValidationError
from django.db import DataError, IntegrityError
from django.http import Http404
from django.utils.translation import gettext_lazy
from rest_framework import exceptions, serializers, status

from wsrt import BackplaneUnavailable, DeclarationError, Event, Refused, TypedEventConsumer, close_codes, on
from wsrt.close_codes import Close
from wsrt.metrics import counters
from wsrt.protocol.errors import MAX_ERRORS
from wsrt.testing import RequestRefused, connect

ROOT = Path(__file__).parents[2]


class Go(Event, name="refusals.go"):
    pass


class SoldOut(Exception):
    """An exception of the application's own."""


class Conflict(exceptions.APIException):
    status_code = status.HTTP_409_CONFLICT
    default_code = "conflict"
    default_detail = "Somebody else was faster."


class Away(exceptions.APIException):
    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_detail = "Come back later."


class Shop(TypedEventConsumer):
    """Raises what a test gives it; knows one exception of its own."""

    namespace = "refusals"
    error: Any = None
    setup_error: Any = None

    async def on_connect(self) -> None:
        if self.setup_error is not None:
            raise self.setup_error

    def refusal_for(self, error: Exception) -> Exception | None:
        match error:
            case SoldOut():
                return Refused("sold_out", str(error))
            case LookupError():
                return exceptions.NotFound("No such thing.")
            case ArithmeticError():
                return KeyError("what is not a refusal")
            case UnicodeError():
                raise RuntimeError("refusal_for fails")
        return super().refusal_for(error)

    @on
    async def go(self, event: Go) -> None:
        raise self.error


async def refused(error: Exception) -> RequestRefused:
    """Return the answer to a request whose handler raised an exception; the connection stays open."""
    async with connect(Shop) as client:
        client.consumer.error = error
        for _ in range(2):
            with pytest.raises(RequestRefused) as refused:
                await client.request(Go())
        await client.assert_silent()
    return refused.value


def validation_error(make: Callable[[], serializers.Serializer[Any]]) -> exceptions.ValidationError:
    """Return the exception that a serializer raises."""
    with pytest.raises(exceptions.ValidationError) as error:
        make().is_valid(raise_exception=True)
    return error.value


class Line(serializers.Serializer[Any]):
    count = serializers.IntegerField(min_value=1)


class Order(serializers.Serializer[Any]):
    name = serializers.CharField()
    lines = Line(many=True)

    def validate(self, attrs: Any) -> Any:
        raise serializers.ValidationError("Nothing fits.", code="misfit")


# Django REST framework


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (exceptions.PermissionDenied("Not yours"), "forbidden", "Not yours"),
        (exceptions.NotAuthenticated(), "forbidden", "Authentication credentials were not provided."),
        (exceptions.AuthenticationFailed("Expired"), "forbidden", "Expired"),
        (exceptions.NotFound(), "not_found", "Not found."),
        (exceptions.Throttled(5), "rate_limited", "Request was throttled. Expected available in 5 seconds."),
        (exceptions.ParseError(), "invalid_data", "Malformed request."),
        (Conflict(), "conflict", "Somebody else was faster."),
        (Conflict("Ada was.", code="too_late"), "too_late", "Ada was."),
        (Conflict({"by": "Ada"}), "conflict", "Somebody else was faster."),
        (Away(), "unavailable", "Come back later."),
    ],
)
async def test_rest_framework(error: Exception, code: str, message: str) -> None:
    """An exception that an API would answer is answered by a consumer too, with the same text."""
    refusal = await refused(error)
    assert (refusal.code, refusal.message, refusal.errors) == (code, message, [])


@pytest.mark.parametrize(
    ("error", "errors"),
    [
        (
            validation_error(lambda: Order(data={"name": "", "lines": [{"count": 1}, {"count": 0}]})),
            [
                (["name"], "This field may not be blank.", "blank"),
                (["lines", 1, "count"], "Ensure this value is greater than or equal to 1.", "min_value"),
            ],
        ),
        (
            validation_error(lambda: Order(data={"name": "a", "lines": []})),
            [([], "Nothing fits.", "misfit")],
        ),
        (exceptions.ValidationError("No."), [([], "No.", "invalid")]),
        (
            exceptions.ValidationError({"a": {"b": ["One.", "Two."]}}),
            [(["a", "b"], "One.", "invalid"), (["a", "b"], "Two.", "invalid")],
        ),
    ],
)
async def test_validation_errors_of_rest_framework(error: Exception, errors: list[Any]) -> None:
    """Errors of a serializer name the fields, however deep, as those of an event do."""
    refusal = await refused(error)
    assert (refusal.code, refusal.message) == ("invalid_data", "Invalid event data")
    assert [(entry["loc"], entry["msg"], entry["type"]) for entry in refusal.errors] == errors


@pytest.mark.parametrize(
    "error",
    [
        exceptions.ValidationError({f"field{number}": "No." for number in range(1000)}),
        ValidationError({f"field{number}": "No." for number in range(1000)}),
    ],
)
async def test_errors_are_bounded(error: Exception) -> None:
    """An answer holds as many errors of an application as of an event's data."""
    assert len((await refused(error)).errors) == MAX_ERRORS


@pytest.mark.parametrize(
    ("error", "close"),
    [
        (exceptions.PermissionDenied(), close_codes.UNAUTHENTICATED),
        (exceptions.NotAuthenticated(), close_codes.UNAUTHENTICATED),
        (exceptions.NotFound(), close_codes.NOT_FOUND),
        (exceptions.Throttled(), close_codes.RATE_LIMIT_EXCEEDED),
        (Away(), close_codes.CONNECTION_SETUP_FAILED),
        (Conflict(), close_codes.FORBIDDEN),
        (SoldOut(), close_codes.FORBIDDEN),
        (KeyError(), close_codes.NOT_FOUND),
        (exceptions.APIException(), close_codes.CONNECTION_SETUP_FAILED),
    ],
)
async def test_set_up(error: Exception, close: Close) -> None:
    """While setting up, these refusals close as Django's do."""

    class Refusing(Shop):
        setup_error = error

    async with connect(Refusing) as client:
        await client.assert_closed(close)


async def test_known_users_are_not_sent_to_the_login() -> None:
    """A refused user who is signed in is closed 4403; an expired credential closes 4401 for any user."""

    class User:
        is_authenticated = True
        pk = 7

    class Refusing(Shop):
        pass

    for error, close in (
        (exceptions.PermissionDenied(), close_codes.FORBIDDEN),
        (exceptions.AuthenticationFailed(), close_codes.UNAUTHENTICATED),
    ):
        Refusing.setup_error = error
        async with connect(Refusing, user=User()) as client:
            await client.assert_closed(close)


def test_rest_framework_is_not_imported() -> None:
    """wsrt works without Django REST framework, and never imports it by itself."""
    script = """
import sys
from wsrt.connection.refusals import refusal_of
assert refusal_of(RuntimeError(), lambda error: None) is None
assert not any(name.startswith("rest_framework") for name in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


# Django


@pytest.mark.parametrize(
    ("error", "code", "errors"),
    [
        (PermissionDenied("Members only"), "forbidden", []),
        (Http404("No Secret matches"), "not_found", []),
        (Refused("teapot", "Short and stout"), "teapot", []),
        (BackplaneUnavailable("down"), "unavailable", []),
        (
            ValidationError({"title": ValidationError("Too dull", code="dull")}),
            "invalid_data",
            [{"loc": ["title"], "msg": "Too dull", "type": "dull"}],
        ),
        (ValidationError("No"), "invalid_data", [{"loc": [], "msg": "No", "type": "value_error"}]),
        (Refused("teapot", gettext_lazy("Short")), "teapot", []),  # type: ignore[arg-type]
        (Refused("teapot", None), "teapot", []),  # type: ignore[arg-type]
        (
            ValidationError("no %(such)s parameter", params={"other": 1}),
            "invalid_data",
            [{"loc": [], "msg": "no %(such)s parameter", "type": "value_error"}],
        ),
    ],
)
async def test_django(error: Exception, code: str, errors: list[Any]) -> None:
    """A handler that refuses a request is answered, and the connection stays open."""
    refusal = await refused(error)
    assert (refusal.code, refusal.errors) == (code, errors)
    assert "Secret" not in refusal.message


async def test_refusal_without_a_request() -> None:
    """Where the frame has no ref, a refusal is not answered, and counted."""
    async with connect(Shop) as client:
        client.consumer.error = PermissionDenied()
        before = counters["refusals_unanswered"]
        await client.send(Go())
        await client.assert_silent()
        assert counters["refusals_unanswered"] == before + 1


class Asking(Shop):
    namespace = "refusals.asking"

    async def authorize(self) -> bool:
        return "token" not in self.query


async def test_query_of_many_fields(caplog: pytest.LogCaptureFixture) -> None:
    """A query that Django doesn't read is refused for good, and no client fills the log with tracebacks by it."""
    before = counters["suspicious_refused"]
    for _ in range(3):
        async with connect(Asking, "/?" + "&".join(f"f{number}=" for number in range(1001))) as client:
            await client.assert_closed(close_codes.FORBIDDEN)
    assert counters["suspicious_refused"] == before + 3
    assert not any(record.exc_info for record in caplog.records)
    assert caplog.text.count("TooManyFieldsSent") == 1


async def test_suspicious_operation(caplog: pytest.LogCaptureFixture) -> None:
    """What Django would answer with 400 is ``invalid_data``; the log quotes little of it."""
    assert (await refused(SuspiciousFileOperation("../" * 3000))).code == "invalid_data"
    assert all(len(record.getMessage()) < 300 for record in caplog.records)


# Databases


@pytest.mark.parametrize(
    "error",
    [
        DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes"),
        ValueError("A string literal cannot contain NUL (0x00) characters."),
    ],
)
async def test_data_that_the_database_refuses(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """A client whose text the database can't hold gets ``invalid_data``; it is counted, without a traceback."""
    before = counters["database_data_refused"]
    refusal = await refused(error)
    assert (refusal.code, refusal.errors) == ("invalid_data", [])
    assert "NUL" not in refusal.message
    assert counters["database_data_refused"] == before + 2
    assert not any(record.exc_info for record in caplog.records)
    assert caplog.text.count("the database refused data that a client sent") == 1


# The application's own


async def test_own_exceptions() -> None:
    """``refusal_for`` says what exceptions of the application refuse."""
    assert (await refused(SoldOut("Try tomorrow"))).code == "sold_out"
    assert (await refused(KeyError("Secret"))).message == "No such thing."


async def test_own_refusals_are_not_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """``refusal_for`` is not asked about wsrt's own refusals."""
    monkeypatch.setattr(Shop, "refusal_for", lambda self, error: Refused("overridden"))
    assert (await refused(PermissionDenied())).code == "forbidden"
    assert (await refused(exceptions.NotFound())).code == "overridden"


@pytest.mark.parametrize(
    ("error", "log"),
    [
        (RuntimeError("a bug"), "a bug"),
        (IntegrityError("a bug"), "a bug"),
        (ZeroDivisionError(), "refusal_for returned KeyError('what is not a refusal'), which isn't a refusal"),
        (UnicodeError(), "refusal_for fails"),
        (exceptions.APIException("a bug"), "a bug"),
    ],
)
async def test_bugs(error: Exception, log: str, caplog: pytest.LogCaptureFixture) -> None:
    """Where nothing says that an exception is a refusal it is a bug: ``internal`` and 1011."""
    async with connect(Shop) as client:
        client.consumer.error = error
        with pytest.raises(RequestRefused, match="internal"):
            await client.request(Go())
        await client.assert_closed(close_codes.MESSAGE_HANDLING_FAILED)
    assert log in caplog.text
    assert any(record.levelno == logging.ERROR for record in caplog.records)


def test_refusal_for_is_a_def() -> None:
    """A class whose ``refusal_for`` is async is an error when it is made."""
    with pytest.raises(DeclarationError, match="must be a def, not an async def"):

        class Wrong(TypedEventConsumer):
            namespace = "refusals"

            async def refusal_for(self, error: Exception) -> Exception | None:  # type: ignore[override]
                return None
