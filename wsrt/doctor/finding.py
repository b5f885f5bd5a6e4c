"""What the doctor finds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from django.core.checks import ERROR, CheckMessage

Status = Literal["ok", "warning", "error"]


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """
    What was looked at, and what was seen.

    Attributes:
        advice: what to do; empty where all is well.
        id: of the system check that says the same, if there is one.
        facts: the figures, for programs.
    """

    subject: str
    status: Status
    seen: str
    advice: str = ""
    id: str | None = None
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def ok(subject: str, seen: str, **facts: Any) -> Finding:
    """Return that all is well."""
    return Finding(subject, "ok", seen, facts=facts)


def warning(subject: str, seen: str, advice: str, **facts: Any) -> Finding:
    """Return what will go wrong some day."""
    return Finding(subject, "warning", seen, advice, facts=facts)


def error(subject: str, seen: str, advice: str, **facts: Any) -> Finding:
    """Return what does not work."""
    return Finding(subject, "error", seen, advice, facts=facts)


def of_checks(subject: str, messages: Iterable[CheckMessage]) -> Iterator[Finding]:
    """Yield the messages of system checks, except those that the project has silenced."""
    for message in messages:
        if message.is_silenced():
            continue
        status: Status = "error" if message.level >= ERROR else "warning"
        yield Finding(subject, status, message.msg, message.hint or "", message.id)


def told(problem: BaseException) -> str:
    """Return an exception in one line."""
    text = " ".join(str(problem).split())
    return f"{type(problem).__name__}: {text}" if text else type(problem).__name__
