"""Commands that are sent together over a pipelined connection."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.waiting import aeventually
from wsrt.cluster import pipeline
from wsrt.cluster.pipeline import Answers, BacklogFull, Pipeline


class Feed:
    """The answers of Redis, as a test gives them."""

    def __init__(self) -> None:
        self.reader = asyncio.StreamReader()

    def put_nowait(self, answer: int | bytes | Exception) -> None:
        if isinstance(answer, Exception):
            self.reader.set_exception(answer)
        else:
            self.reader.feed_data(b":%d\r\n" % answer if isinstance(answer, int) else b"+%b\r\n" % answer)


class Connection:
    """A connection that blocks after each write until a test opens the gate, and gives the answers of the test."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.gate = asyncio.Event()
        self.answers = Feed()
        self._reader = self.answers.reader
        self.retry: object = None
        self.socket_timeout: object = None

    async def connect(self) -> None:
        pass

    async def disconnect(self, nowait: bool = False) -> None:
        pass

    async def send_packed_command(self, batch: list[bytes], check_health: bool = True) -> None:
        self.written += batch
        await self.gate.wait()


class Pool:
    def __init__(self) -> None:
        self.connections: list[Connection] = []

    def make_connection(self) -> Connection:
        self.connections.append(Connection())
        return self.connections[-1]


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Pool:
    # Each command is written by itself.
    monkeypatch.setattr(pipeline, "WRITE_BYTES", 1)
    return Pool()


@pytest.mark.parametrize("in_order", [True, False])
async def test_connection_that_breaks(pool: Pool, in_order: bool) -> None:
    """What wasn't written goes over the next connection, unless it must not overtake what has failed."""
    pipe, answers = Pipeline(pool), Answers(4, in_order=in_order)
    assert pipe.request_all([b"0", b"1", b"2", b"3"], [0, 1, 2, 3], answers) == 0
    await aeventually(lambda: pool.connections and pool.connections[0].written == [b"0"])
    pool.connections[0].gate.set()
    await aeventually(lambda: len(pool.connections[0].written) == 4)
    pool.connections[0].answers.put_nowait(1)
    await aeventually(lambda: answers.is_settled(0))
    more = Answers(2, in_order=in_order)
    pool.connections[0].gate.clear()
    pipe.request_all([b"4", b"5"], [0, 1], more)
    await aeventually(lambda: pool.connections[0].written[-1] == b"4")
    pool.connections[0].answers.put_nowait(ConnectionError("lost"))
    await answers.done
    assert sorted(answers.errors) == [1, 2, 3]
    await aeventually(lambda: more.is_settled(0))
    if in_order:
        await more.done
        assert sorted(more.errors) == [0, 1]
        assert "earlier one failed" in str(more.errors[1])
    else:
        await aeventually(lambda: len(pool.connections) == 2 and pool.connections[1].written == [b"5"])
        pool.connections[1].answers.put_nowait(1)
        await more.done
        assert sorted(more.errors) == [0]
    # A later command isn't held up, and what was withdrawn isn't ahead of it.
    later = pipe.request("PING")
    await aeventually(lambda: len(pool.connections) == 2)
    pool.connections[1].gate.set()
    await aeventually(lambda: any(b"PING" in written for written in pool.connections[1].written))
    assert len(pool.connections[1].written) == (1 if in_order else 2)
    pool.connections[1].answers.put_nowait(b"PONG")
    assert await later == b"PONG"
    await pipe.close()


async def test_given_up(pool: Pool) -> None:
    """Commands that their sender has given up before they were written are never written, and leave space."""
    pipe, answers = Pipeline(pool), Answers(3)
    pipe.request_all([b"0", b"1", b"2"], [0, 1, 2], answers)
    await aeventually(lambda: pool.connections and pool.connections[0].written == [b"0"])
    answers.withdraw(TimeoutError())
    assert sorted(answers.errors) == [0, 1, 2]
    after = Answers(1)
    pipe.request_all([b"3"], [0], after)
    pool.connections[0].gate.set()
    await aeventually(lambda: pool.connections[0].written == [b"0", b"3"])
    for _ in range(2):
        pool.connections[0].answers.put_nowait(1)
    await after.done
    assert not after.errors
    assert (pipe._waiting, pipe._bytes) == (0, 0)
    await pipe.close()


@pytest.mark.parametrize("limit", ["BACKLOG_COMMANDS", "BACKLOG_BYTES"])
async def test_backlog(pool: Pool, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """What exceeds the backlog is refused; all of the space is free again once the rest is answered."""
    monkeypatch.setattr(pipeline, limit, 3)
    monkeypatch.setattr(pipeline, "WRITE_BYTES", 2)
    pipe = Pipeline(pool)
    for _ in range(2):
        answers = Answers(5)
        assert pipe.request_all([b"0", b"1", b"2", b"3", b"4"], [0, 1, 2, 3, 4], answers) == 2
        assert sorted(answers.errors) == [3, 4]
        assert isinstance(answers.errors[3], BacklogFull)
        await aeventually(lambda: bool(pool.connections))
        pool.connections[0].gate.set()
        for _ in range(3):
            pool.connections[0].answers.put_nowait(1)
        await answers.done
        assert sorted(answers.errors) == [3, 4]
    assert (pipe._waiting, pipe._bytes) == (0, 0)
    await pipe.close()


async def test_closed(pool: Pool) -> None:
    """Commands that wait when the pipeline is closed fail, and so do later ones."""
    pipe, answers = Pipeline(pool), Answers(2)
    pipe.request_all([b"0", b"1"], [0, 1], answers)
    await aeventually(lambda: pool.connections and pool.connections[0].written == [b"0"])
    await pipe.close()
    await answers.done
    assert sorted(answers.errors) == [0, 1]
    later = Answers(1)
    pipe.request_all([b"2"], [0], later)
    await later.done
    assert "closed" in str(later.errors[0])


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
async def test_answers_in_pieces(pool: Pool, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Answers are read however they are cut into pieces. An error is the answer to one command only."""
    monkeypatch.setattr(pipeline, "READ_BYTES", size)
    pipe, answers = Pipeline(pool), Answers(4)
    pipe.request_all([b"0", b"1", b"2", b"3"], [0, 1, 2, 3], answers)
    ping = pipe.request("PING")
    await aeventually(lambda: bool(pool.connections))
    [connection] = pool.connections
    connection.gate.set()
    await aeventually(lambda: len(connection.written) == 5)
    connection._reader.feed_data(b":0\r\n:12345\r\n-NOPERM no \xff permissions\r\n:1\r\n+PO")
    await answers.done
    assert list(answers.errors) == [2]
    assert str(answers.errors[2]) == "NOPERM no \ufffd permissions"
    assert not ping.done()
    connection._reader.feed_data(b"NG\r\n")
    assert await ping == b"PONG"
    await pipe.close()


async def test_connection_that_is_closed(pool: Pool) -> None:
    """If Redis closes the connection, commands that it hasn't answered fail, and the next one gets a new connection."""
    pipe = Pipeline(pool)
    first = pipe.request("PING")
    await aeventually(lambda: bool(pool.connections))
    pool.connections[0].gate.set()
    pool.connections[0]._reader.feed_eof()
    with pytest.raises(ConnectionError, match="Redis has closed the connection"):
        await first
    second = pipe.request("PING")
    await aeventually(lambda: len(pool.connections) == 2)
    pool.connections[1].gate.set()
    pool.connections[1].answers.put_nowait(b"PONG")
    assert await second == b"PONG"
    await pipe.close()


async def test_no_commands() -> None:
    """Nothing to wait for is done."""
    await Answers(0).done
