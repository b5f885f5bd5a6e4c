from __future__ import annotations

from typing import Literal

from pydantic import Field

from wsrt import Event


class Ask(Event, name="answer.ask"):
    """Sent by a client to ask a question."""

    prompt: str = Field(min_length=1, max_length=2000)


class Stop(Event, name="answer.stop"):
    """Sent by a client to stop the answer. After the reply to this request, no token follows."""


class Token(Event, name="answer.token"):
    """The next part of the answer."""

    text: str


class AnswerEnded(Event, name="answer.ended"):
    """The answer ended by itself. One that was stopped doesn't send this."""

    result: Literal["complete", "failed"]
