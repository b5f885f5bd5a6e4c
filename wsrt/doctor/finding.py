"""The findings of the doctor."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from django.core.checks import ERROR, CheckMessage

Status = Literal["ok", "warning", "error"]


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """
    One result of the examination.

    Attributes:
        subject: The part of the deployment that was examined.
        status: "ok", "warning" or "error".
        seen: The result, in words.
        advice: The fix; empty if the status is "ok".
        id: The id of the system check that reports the same; None without one.
        facts: The measured values, for programs.
    """

    subject: str
    status: Status
    seen: str
    advice: str = ""
    id: str | None = None
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def ok(subject: str, seen: str, **facts: Any) -> Finding:
    """Return a finding without a problem."""
    return Finding(subject, "ok", seen, facts=facts)


def warning(subject: str, seen: str, advice: str, **facts: Any) -> Finding:
    """Return a finding about something that works now but is risky."""
    return Finding(subject, "warning", seen, advice, facts=facts)


def error(subject: str, seen: str, advice: str, **facts: Any) -> Finding:
    """Return a finding about something that doesn't work."""
    return Finding(subject, "error", seen, advice, facts=facts)


def of_checks(subject: str, messages: Iterable[CheckMessage]) -> Iterator[Finding]:
    """Yield the messages of system checks, except those that the project has silenced."""
    for message in messages:
        if message.is_silenced():
            continue
        status: Status = "error" if message.level >= ERROR else "warning"
        yield Finding(subject, status, message.msg, message.hint or "", message.id)


def one_line(problem: BaseException) -> str:
    """Return the description of an exception on one line."""
    text = " ".join(str(problem).split())
    return f"{type(problem).__name__}: {text}" if text else type(problem).__name__
