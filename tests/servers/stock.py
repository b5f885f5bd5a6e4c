"""
Measurements of the servers' own behaviour, which are reported but not asserted, as it may change.

``python -m tests.servers.stock`` writes the table of docs/explanation/servers.md.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import re
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.apps.plain import MOST
from tests.support.processes import ROOT, Server
from tests.support.raw import CLOSE, PING, RawFrame, connect

PAGE = ROOT / "docs/explanation/servers.md"
BEGIN, END = "<!-- measured by tests/servers/stock.py -->\n", "<!-- end -->\n"

SERVERS = {"daphne": "Daphne", "uvicorn": "uvicorn", "hypercorn": "hypercorn", "granian": "granian"}
"""The commands that are measured, and their names."""

PATIENCE = 2.0
"""How long something that should come at once is waited for, in seconds."""

PINGS = 25.0
"""How long a ping is waited for: the intervals of those that ping by default are 20 s."""

Question = Callable[[Server], Awaitable[str]]


async def close_codes(server: Server) -> str:
    """Send the protocol's own code of a policy."""
    code, _ = await _closed(server, 1013)
    return "yes" if code == 1013 else f"no ({code})"


async def close_reasons(server: Server) -> str:
    """Send a reason with a code that every server takes."""
    return "yes" if (await _closed(server, 4000))[1] == "why" else "no"


async def close_in_time(server: Server) -> str:
    """Close while the application waits for the next frame."""
    async with await connect(server.port, "/") as client:
        client.send("close 4000 why")
        try:
            await client.until(CLOSE, PATIENCE)
        except TimeoutError:
            client.send("")
            await client.until(CLOSE, PATIENCE)
            return "with the client's next frame"
    return "yes"


async def back_pressure(server: Server) -> str:
    """Send more than all buffers take to a client that reads nothing."""
    async with await connect(server.port, "/", buffer=1024) as client:
        client.writer.transport.pause_reading()
        client.send("flood")
        seen = -1
        while (now := json.loads(await asyncio.to_thread(server.get, "/"))["sent"]) != seen:
            seen = now
            await asyncio.sleep(PATIENCE / 2)
    return "no" if seen == MOST else "yes"


async def denial(server: Server) -> str:
    """Refuse a handshake with a status of the application's own."""
    try:
        await connect(server.port, "/refused")
    except ConnectionError as error:
        status = re.findall(r" (\d{3}) ", str(error))
        return "yes" if status == ["503"] else f"no ({', '.join(status)})"
    return "no (101)"


async def pings(server: Server) -> str:
    """Wait in silence for a ping."""
    async with await connect(server.port, "/") as client:
        try:
            await client.until(PING, PINGS)
        except TimeoutError:
            return "no"
    return "yes"


async def bad_text(server: Server) -> str:
    """Send text that is not UTF-8."""
    async with await connect(server.port, "/") as client:
        client.send(b"\xff")
        return await _ending(client.until(CLOSE, PATIENCE))


async def shutdown(server: Server) -> str:
    """End the server: the last question to it."""
    async with await connect(server.port, "/") as client:
        client.send("")
        await asyncio.sleep(0.2)
        server.signal(signal.SIGTERM)
        return await _ending(client.until(CLOSE, 15))


QUESTIONS: dict[str, Question] = {
    "close codes 1001, 1007-1013": close_codes,
    "close reasons": close_reasons,
    "a close frame is sent at once": close_in_time,
    "back-pressure on sends": back_pressure,
    "a handshake refused with 503": denial,
    "WebSocket pings by default": pings,
    "the close after text that is not UTF-8": bad_text,
    "the close at shutdown": shutdown,
}
"""The rows of the table, and what answers them."""


async def _closed(server: Server, code: int) -> tuple[int, str]:
    async with await connect(server.port, "/") as client:
        client.send(f"close {code} why")
        try:
            return (await client.until(CLOSE, PATIENCE)).close
        except TimeoutError:
            # It may be held back until the client sends.
            client.send("")
            return (await client.until(CLOSE, PATIENCE)).close
        except (ConnectionError, OSError):
            return 1006, ""


async def _ending(closing: Awaitable[RawFrame]) -> str:
    try:
        code, _ = (await closing).close
    except (ConnectionError, OSError):
        return "hangs up"
    except TimeoutError:
        return "none"
    return "without a code" if code == 1005 else str(code)


async def measure(kind: str) -> dict[str, str]:
    """Return the answers of one server; where a question fails, the error is the answer."""
    with Server(kind, application="tests.apps.plain:application") as server:
        waiting = asyncio.create_task(pings(server))
        answers = {}
        for row, ask in QUESTIONS.items():
            try:
                answers[row] = await (waiting if ask is pings else ask(server))
            except Exception as error:
                answers[row] = f"not answered ({type(error).__name__})"
        return answers


async def measure_all() -> dict[str, dict[str, str]]:
    """Return by the name of each server what it answers."""
    answers = await asyncio.gather(*map(measure, SERVERS))
    return dict(zip(SERVERS.values(), answers, strict=True))


def table(measured: dict[str, dict[str, str]]) -> str:
    """Return the measurements in the form of the documentation."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in measured]
    rows = [["", *versions], *[["---"] * (len(versions) + 1)]]
    rows += [[row, *(answers[row] for answers in measured.values())] for row in QUESTIONS]
    return "".join(f"| {' | '.join(row)} |\n".replace("|  |", "| |") for row in rows)


def documented(page: Path = PAGE) -> str:
    """Return the table as the documentation has it."""
    return page.read_text().partition(BEGIN)[2].partition(END)[0]


def differences(measured: dict[str, dict[str, str]], text: str) -> list[str]:
    """Return a line for each answer that a table does not have."""
    rows = [line.strip("|\n ").split(" | ") for line in text.splitlines()[2:]]
    told = {row[0]: dict(zip(SERVERS.values(), row[1:], strict=False)) for row in rows}
    lines = []
    for name, answers in measured.items():
        for row, answer in answers.items():
            expected = told.get(row, {}).get(name, "nothing")
            if answer != expected:
                lines.append(f"{name} {importlib.metadata.version(name)}, {row}: {answer} (documented: {expected})")
    return lines


if __name__ == "__main__":
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + BEGIN + table(asyncio.run(measure_all())) + END + rest.partition(END)[2])
    sys.stdout.write(documented())
