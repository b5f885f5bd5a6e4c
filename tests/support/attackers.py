"""
Clients that send frames which fail, or harmless ones, in a process of their own.

    python -m tests.support.attackers PORT KIND CLIENTS FRAMES SECONDS

KIND is failing or harmless. Each client sends FRAMES frames at once. With 0 it sends as many a second as its rate lets
through, for SECONDS, and comes back when it is closed. The process prints a line when it is ready and begins at a line
from the test; then it prints the numbers of frames sent, of answers and of closed connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sys
import time

from tests.support.raw import CLOSE, TEXT, RawClient, connect

SIZE = 65_000
INTERVAL = 0.3
"""Seconds between frames of one client: four times their bytes, for which they are charged, are below 1 MB a second."""


def frame(data: str) -> bytes:
    text = f'{{"event":"draw","ref":1,"data":{data}}}'
    assert len(text) <= SIZE + 500
    return text.encode()


def array(item: str, times: int) -> str:
    return f"[{','.join([item] * times)}]"


FRAMES = [
    frame(f'{{"shapes":{array("{}", 21_600)}}}'),
    frame(f'{{"shapes":{array("{}     ", 8_100)}}}'),
    frame(f'{{"named":{{{",".join(f"{chr(34)}{number:x}{chr(34)}:{{}}" for number in range(6_900))}}}}}'),
    frame('{"tree":' + '{"kids":[' * 14 + '{"branch":"","twig":""}' + "]}" * 14 + "}"),
    frame(f'{{"form":{{"x":{array("[]   ", 9_900)}}}}}'),
]
"""Frames that fail in different ways, each of which is dear where nothing bounds it."""

HARMLESS = [frame(f'{{"ignored":"{"x" * 64_000}"}}')]
"""What it takes to serve such clients at all."""


async def attack(port: int, kinds: list[bytes], frames: int, until: float, counts: dict[str, int]) -> None:
    while True:
        with contextlib.suppress(OSError, TimeoutError):
            client = await connect(port, "/chat/", subprotocol="wsrt.v1")
            reading = asyncio.create_task(read(client, frames, counts))
            try:
                for number in itertools.count():
                    if reading.done() or (number == frames if frames else time.monotonic() > until):
                        break
                    client.send(kinds[number % len(kinds)])
                    await client.writer.drain()
                    counts["sent"] += 1
                    if not frames:
                        await asyncio.sleep(INTERVAL)
                if frames:
                    await asyncio.wait([reading], timeout=max(1.0, until - time.monotonic()))
            finally:
                reading.cancel()
                client.writer.transport.abort()
        if frames or time.monotonic() > until:
            return


async def read(client: RawClient, frames: int, counts: dict[str, int]) -> None:
    answers = 0
    with contextlib.suppress(OSError, TimeoutError):
        while not frames or answers < frames:
            received = await client.receive(60)
            if received.opcode == CLOSE:
                counts["closed"] += 1
                return
            if received.opcode == TEXT and b"ref" in received.payload:
                answers += 1
                counts["answers"] += 1


async def main(port: int, kinds: list[bytes], clients: int, frames: int, seconds: float) -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    counts = {"sent": 0, "answers": 0, "closed": 0}
    until = time.monotonic() + seconds
    await asyncio.gather(*(attack(port, kinds, frames, until, counts) for _ in range(clients)))
    sys.stdout.write(f"{counts}\n")


if __name__ == "__main__":
    port, kind, clients, frames, seconds = sys.argv[1:]
    # They stand for other machines: what they compute shall not delay the client beside them that is measured.
    os.nice(19)
    asyncio.run(main(int(port), FRAMES if kind == "failing" else HARMLESS, int(clients), int(frames), float(seconds)))
