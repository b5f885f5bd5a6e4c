from __future__ import annotations

import asyncio
import contextlib

from wsrt import Refused, TypedEventConsumer, on

from .events import AnswerEnded, Ask, Stop, Token
from .sources import token_source


class AnswersConsumer(TypedEventConsumer):
    """A page that asks questions. It has one answer at a time, which ends with the page."""

    namespace = "token_stream"
    path = "ws/answers/"
    out_events = (Token, AnswerEnded)
    # Back-pressure: send() waits while more than half of these frames wait for the client.
    outbox_frames = 64

    answer: asyncio.Task[None] | None = None

    async def authorize(self) -> bool:
        return bool(self.user.is_authenticated)

    @on
    async def ask(self, event: Ask) -> None:
        if self.answer is not None and not self.answer.done():
            raise Refused("busy", "Stop the current answer first.")
        # Handlers run one at a time. A handler that wrote the answer would keep Stop waiting until it is complete.
        self.answer = self.create_task(self.write_answer(event.prompt))

    @on
    async def stop(self, event: Stop) -> None:
        if self.answer is not None:
            self.answer.cancel()
            await asyncio.wait([self.answer])

    async def write_answer(self, prompt: str) -> None:
        try:
            # aclosing() ends the request to the provider, however the loop ends.
            async with contextlib.aclosing(token_source()(prompt)) as tokens:
                async for text in tokens:
                    # While this waits for the client, no token is taken from the source.
                    await self.send(Token(text=text))
        except Exception:
            await self.send(AnswerEnded(result="failed"))
            raise  # wsrt logs it
        else:
            await self.send(AnswerEnded(result="complete"))
