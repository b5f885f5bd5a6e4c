from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator
from unittest import mock

from django.contrib.auth.models import User
from django.test import SimpleTestCase, override_settings

from wsrt import close_codes
from wsrt.testing import Client, RequestRefused, connect
from wsrt.types import Message, Receive, Scope, Send

from . import sources
from .consumers import AnswersConsumer
from .events import AnswerEnded, Ask, Stop, Token

yielded: list[int] = []
"""What endless() has yielded."""

closed: list[str] = []
"""The prompts of the answers for which endless() was closed."""


async def three_words(prompt: str) -> AsyncGenerator[str, None]:
    for word in ("one", "two", prompt):
        yield word


async def endless(prompt: str) -> AsyncGenerator[str, None]:
    try:
        for number in itertools.count():
            await asyncio.sleep(0)
            yielded.append(number)
            yield str(number)
    finally:
        closed.append(prompt)


async def broken(prompt: str) -> AsyncGenerator[str, None]:
    yield "one"
    raise OSError("the provider is down")


def source(name: str) -> override_settings:
    return override_settings(TOKEN_SOURCE=f"{__name__}.{name}")


class SlowNetwork:
    """The consumer behind a network that transports nothing to the client until ``is_read`` is set."""

    def __init__(self) -> None:
        self.is_read = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_slowly(message: Message) -> None:
            if message["type"] == "websocket.send":
                await self.is_read.wait()
            await send(message)

        await AnswersConsumer()(scope, receive, send_slowly)


class TokenStreamTests(SimpleTestCase):
    ada = User(pk=1, username="ada")

    def setUp(self) -> None:
        yielded.clear()
        closed.clear()

    def page(self) -> Client:
        return connect(AnswersConsumer, user=self.ada)

    @source("three_words")
    async def test_answers(self) -> None:
        async with self.page() as page:
            for last in ("three", "3"):
                await page.request(Ask(prompt=last))
                texts = [(await page.receive(Token)).text for _ in range(3)]
                self.assertEqual(texts, ["one", "two", last])
                self.assertEqual(await page.receive(AnswerEnded), AnswerEnded(result="complete"))

    @source("endless")
    async def test_stop(self) -> None:
        """Stop acts while tokens flow, no token follows its answer, and the next question is answered."""
        async with self.page() as page:
            for prompt in ("first", "second"):
                await page.request(Ask(prompt=prompt))
                self.assertEqual((await page.receive(Token)).text, "0")
                with self.assertRaises(RequestRefused) as refused:
                    await page.request(Ask(prompt="too early"))
                self.assertEqual(refused.exception.code, "busy")
                await page.send(Stop(), ref="stop")
                while (await page.receive_json()).get("ref") != "stop":
                    pass
                self.assertEqual(closed[-1], prompt)
                await page.assert_silent()

    @source("endless")
    async def test_slow_client(self) -> None:
        """The source waits for a client that doesn't read, and goes on when it does."""
        network = SlowNetwork()
        async with connect(network, user=self.ada) as page:
            await page.send(Ask(prompt="hello"))
            for _ in range(1000):  # turns of the event loop, in each of which the source could yield
                await asyncio.sleep(0)
            self.assertLess(len(yielded), AnswersConsumer.outbox_frames)
            network.is_read.set()
            for number in range(200):
                self.assertEqual((await page.receive(Token)).text, str(number))

    @source("endless")
    async def test_page_is_closed(self) -> None:
        async with self.page() as page:
            await page.request(Ask(prompt="never mind"))
            await page.receive(Token)
        self.assertEqual(closed, ["never mind"])

    @source("broken")
    async def test_provider_fails(self) -> None:
        with self.assertLogs("wsrt", "ERROR"):
            async with self.page() as page:
                await page.request(Ask(prompt="hello"))
                await page.receive(Token)
                self.assertEqual(await page.receive(AnswerEnded), AnswerEnded(result="failed"))

    @mock.patch.object(sources, "WORD_SECONDS", 0)
    async def test_demo(self) -> None:
        words = [word async for word in sources.demo("Why now?")]
        self.assertGreater(len(words), 10)
        self.assertIn("You asked: Why now?", "".join(words))

    async def test_guests_are_refused(self) -> None:
        async with connect(AnswersConsumer) as guest:
            await guest.assert_closed(close_codes.UNAUTHENTICATED)
