"""Where tokens come from: a function that takes a prompt and yields the parts of the answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from django.conf import settings
from django.utils.module_loading import import_string

TokenSource = Callable[[str], AsyncGenerator[str, None]]

ANSWER = (
    "You asked: {prompt} This is not a language model, but it streams like one. Each word is an event of its own. "
    "Press Stop while it writes, and the source stops at once. Close the page, and it stops as well. If your browser "
    "reads slowly, the source waits for it, so no memory fills up on the way. "
)

WORD_SECONDS = 0.06
"""The pause before each word."""


def token_source() -> TokenSource:
    """Return the source that the setting TOKEN_SOURCE names."""
    source: TokenSource = import_string(settings.TOKEN_SOURCE)
    return source


async def demo(prompt: str) -> AsyncGenerator[str, None]:
    """Answer slowly, with the same text each time."""
    for word in ANSWER.format(prompt=prompt).split():
        await asyncio.sleep(WORD_SECONDS)
        yield f"{word} "
