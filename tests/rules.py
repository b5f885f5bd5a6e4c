"""
The rules of the runtime, and the tests that hold them.

Each rule is named, by its number, in the docstring of a test: ``(S17)``. ``python -m tests.rules`` writes the table
RULES.md from them.
"""

from __future__ import annotations

import ast
import functools
import re
import sys
from pathlib import Path

from tests.support.syntax import parse

TESTS = Path(__file__).parent
TABLE = TESTS / "RULES.md"

RULES: dict[str, str] = {
    "S5": "a frame is {event, data}; other keys are ignored; the empty name is a name",
    "S6": "missing data stands for {} where the event needs no field, and is invalid elsewhere",
    "S7": "outgoing data is the model's own dump",
    "S8": "binary frames are UTF-8 text; what is not UTF-8 closes 1007 and is never altered",
    "S9": "a connection has an id of its own, and defaults",
    "S10": "a registration that fails leaves nothing behind",
    "S11": "names that objects have by themselves are unknown events",
    "S12": "a socket that is gone before it is served is cleaned up",
    "S13": "frames are handled one at a time, in the order of arrival",
    "S14": "rate, size, envelope, event: in this order",
    "S15": "a frame of exactly max_payload bytes passes, one more closes 1009",
    "S16": "any frame counts as life",
    "S17": "unknown event before invalid data; the client can be told which field",
    "S18": "a handler that raises closes 1011 and is logged; nothing runs after a close",
    "S19": "handlers are fixed when the class is made",
    "S20": "the inbox is bounded",
    "S21": "a slow handler stops neither heartbeat nor disconnect, and ends after its client",
    "S22": "frames that came before the client left are handled",
    "S23": "frames that come during set-up wait in the inbox, within its limits",
    "S24": "they are validated once",
    "S25": "they are handled in the order of arrival, also behind those that came later",
    "S26": "an event has one handler",
    "S27": "requests are answered",
    "S28": "frames that wait are dropped with their connection, and counted",
    "S29": "send raises for a wrong event, also on a closed connection, and then does nothing",
    "S30": "a burst to a client that reads does not close it; the outbox is bounded in frames and bytes",
    "S31": "a send starts at once, or is finished by one task",
    "S32": "frames leave in order; a client that does not read is found by time; a send that raises closes 1011",
    "S33": "the first close wins",
    "S34": "a code that cannot be sent raises at the call",
    "S35": "a reason is cut at 123 bytes between code points",
    "S36": "cleaning up happens once, in one order",
    "S37": "what was sent before a close arrives before it",
    "S38": "a close waits for the peer's answer, within a limit",
    "S39": "on_disconnect learns how the connection ended; its errors are logged and isolated",
    "S40": "wait_for_close answers also after the end",
    "S41": "rooms and user are readable in on_disconnect",
    "S42": "any number of tasks can wait for the close",
    "S43": "a clean-up step that fails does not stop the others",
    "S44": "a peer's close and a server's error end the connection alike",
    "S45": "the heartbeat can be switched off; impossible values are refused",
    "S46": "a ping is sent after silence; an unanswered one closes 1001",
    "S47": "any received frame answers a ping",
    "S48": "a dead peer is found within interval and time-out; first pings are spread",
    "S49": "a dead peer is not waited for",
    "S50": "rooms and users of a connection that is gone are left alone",
    "S51": "a connection has one user at a time",
    "S52": "a connection is visible only once it is set up",
    "S53": "rooms and users belong to a namespace, and none reaches another",
    "A1": "addresses are values: room, user, connection, everyone, and what is built from them",
    "A2": "the namespace is never left out by accident",
    "A3": "each node evaluates the expression against its own connections",
    "A4": "a union delivers once",
    "R1": "the hub adds, finds and removes connections",
    "R2": "all publishing functions build an address and go one way",
    "R3": "counts and members can be asked",
    "R4": "an audience is selected without copies and without those that are gone",
    "R5": "the hub knows an outbox and a handler of a connection, nothing else",
    "R6": "a change to a connection that is gone does nothing",
    "R7": "rooms of a connection are limited, and their names are checked",
    "R8": "closing many goes on, whatever goes wrong with one",
    "C1": "a node hears of others through one backplane, or there is none",
    "C2": "a message is one frame for one audience; copies are dropped by their id",
    "C3": "a node is in a group while it has a member, without anything to configure",
    "C4": "publisher's node and others receive alike",
    "C5": "a message that is not ours is refused, and calls nothing by a name",
    "C6": "an error of the layer or of a message stops nothing",
    "D1": "a publication goes the way through the hub of each node",
    "D2": "a burst gives the loop turns, and keeps its order",
    "D3": "who is in the room at delivery receives",
    "D4": "an event is validated and encoded once, at the call",
    "D5": "a wrong event raises at the publisher and closes no connection",
    "D6": "direct sends keep their order with publications in one process; through a layer they may overtake",
    "D7": "nothing queues without bounds",
    "D8": "the hub tells how many it reached",
    "D9": "one connection's failure does not stop a delivery",
    "H1": "a connection that is refused was never visible",
    "H2": "hooks that refuse are awaited",
    "H3": "a refused client can read why; its frames are not handled",
    "H4": "each way to fail in set-up has its code",
    "H5": "a connection stays open when on_connect returns",
    "H6": "scope, user, query and URL are at hand",
    "H7": "context variables of set-up are there in handlers",
    "H8": "foreign pages are refused; permissions can be asked again; the rate is limited",
}
"""Every rule that applies, in our words."""


@functools.cache
def named_in_tests() -> dict[str, list[str]]:
    """Return by rule the tests whose docstring names it."""
    found: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                where = f"{path.relative_to(TESTS)}::{node.name}"
                for rule in _rules_in(ast.get_docstring(node) or ""):
                    found.setdefault(rule, []).append(where)
    return found


def table() -> str:
    """Return the table of rules and tests in Markdown."""
    tests = named_in_tests()
    lines = [
        "# Rules and their tests",
        "",
        "Each rule of the runtime is named in the docstring of the tests that hold it. "
        "Written by `python -m tests.rules`.",
        "",
        "| rule | what holds | tests |",
        "| --- | --- | --- |",
    ]
    for rule, words in RULES.items():
        named = "<br>".join(f"`{test}`" for test in tests.get(rule, []))
        lines.append(f"| {rule} | {words.replace('|', chr(92) + '|')} | {named} |")
    return "\n".join(lines) + "\n"


def _rules_in(text: str) -> list[str]:
    rules: list[str] = []
    for letter, first, last in re.findall(r"\b([SARCDH])(\d{1,2})(?:-[SARCDH]?(\d{1,2}))?\b", text):
        rules += [f"{letter}{number}" for number in range(int(first), int(last or first) + 1)]
    return list(dict.fromkeys(rules))


if __name__ == "__main__":
    TABLE.write_text(table())
    missing = [rule for rule in RULES if rule not in named_in_tests()]
    sys.stdout.write(f"{TABLE} written{', without a test: ' + ', '.join(missing) if missing else ''}\n")
