"""Sources of tokens for the servers of the tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

TOKENS = 5000
CHARACTERS = 16_384


async def flood(prompt: str) -> AsyncGenerator[str, None]:
    """Yield large tokens as fast as they are taken. The file ``prompt`` gets a dot for each, then "closed"."""
    with Path(prompt).open("ab", buffering=0) as record:
        try:
            for number in range(1, TOKENS + 1):
                record.write(b".")
                await asyncio.sleep(0)
                yield f"{number} ".ljust(CHARACTERS)
        finally:
            record.write(b"closed")


async def talk(prompt: str) -> AsyncGenerator[str, None]:
    """Repeat the prompt once, or until the answer is stopped if the prompt asks for that."""
    yield f"You asked: {prompt} "
    while prompt == "Go on":
        await asyncio.sleep(0.02)
        yield "and on "
    yield "That is all."
