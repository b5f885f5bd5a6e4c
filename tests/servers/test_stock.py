"""What servers do by themselves is measured and told: a release of theirs that does otherwise breaks no test."""

from __future__ import annotations

import pytest

from tests.servers import stock
from tests.support.report import note


@pytest.mark.servers
@pytest.mark.slow
async def test_stock_servers() -> None:
    """What servers do is printed, and where the documentation says otherwise."""
    measured = await stock.measure_all()
    for line in stock.table(measured).splitlines():
        note("What stock servers do", line)
    for line in stock.differences(measured, stock.documented()):
        note("Stock servers that do other than docs/explanation/servers.md says", line)
    assert [list(answers) for answers in measured.values()] == [list(stock.QUESTIONS)] * len(stock.SERVERS)


def test_documented_table() -> None:
    """The documentation has an answer of each server to each question."""
    rows = [line.strip("|\n ").split(" | ") for line in stock.documented().splitlines()]
    assert [row[0] for row in rows[2:]] == list(stock.QUESTIONS)
    assert [cell.partition(" ")[0] for cell in rows[0]] == list(stock.SERVERS.values())
    assert all(cell.strip() for row in rows for cell in row)
    assert {len(row) for row in rows[2:]} == {len(stock.SERVERS) + 1}


def test_differences() -> None:
    """A server that answers otherwise than a table says, or a question that it does not have, is a line."""
    text = "| | Daphne 1 |\n| --- | --- |\n| close reasons | no |\n"
    assert stock.differences({"Daphne": {"close reasons": "no"}}, text) == []
    (changed,) = stock.differences({"Daphne": {"close reasons": "yes"}}, text)
    assert "close reasons: yes (documented: no)" in changed
    (added,) = stock.differences({"Daphne": {"colours": "many"}}, text)
    assert "colours: many (documented: nothing)" in added
