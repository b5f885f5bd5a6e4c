"""A source of tokens for the servers of the tests, which records how many it has yielded."""

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
