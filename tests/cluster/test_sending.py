"""Batches in which a message that fails keeps the later ones from being sent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.apps.chat.events import Said
from wsrt import BackplaneUnavailable
from wsrt.addresses import Room
from wsrt.cluster import sending
from wsrt.cluster.outgoing import Outgoing, prepare
from wsrt.cluster.pubsub import PubSubLayer
from wsrt.cluster.sending import Outcome, _fail_behind_failure, _pipeline, _send_one_by_one
from wsrt.types import Publication


class Posting(PubSubLayer):
    """A pub/sub layer whose answers a test gives."""

    def __init__(self) -> None:
        self.answers: list[asyncio.Future[Any]] = []
        self.refused_from = 1000

    def post(self, group: str, message: dict[str, Any]) -> asyncio.Future[Any]:
        if len(self.answers) >= self.refused_from:
            raise ConnectionError("the layer was closed")
        self.answers.append(asyncio.get_running_loop().create_future())
        return self.answers[-1]


def batch() -> list[tuple[int, Outgoing]]:
    return [(index, prepare(Room("lobby"), Said(text=str(index)), "chat", None)) for index in range(4)]


def failed(outcomes: list[Outcome]) -> list[int]:
    return [index for index, outcome in enumerate(outcomes) if isinstance(outcome, BackplaneUnavailable)]


@pytest.fixture
def layer(monkeypatch: pytest.MonkeyPatch) -> Posting:
    layer = Posting()
    monkeypatch.setattr(sending, "layer_of_loop", lambda alias: layer)
    return layer


@pytest.mark.parametrize("in_order", [True, False])
async def test_connection_lost(layer: Posting, in_order: bool) -> None:
    """What was queued behind a message that fails is withdrawn before it could be sent over the next connection."""
    outcomes: list[Outcome] = [None] * 4
    sends = asyncio.create_task(_pipeline("default", batch(), outcomes, in_order=in_order))
    await asyncio.sleep(0)  # let the task post
    layer.answers[0].set_result(1)
    layer.answers[1].set_exception(ConnectionError("lost"))
    await asyncio.sleep(0)  # let the callbacks run
    assert [answer.cancelled() for answer in layer.answers] == [False, False, in_order, in_order]
    for answer in layer.answers[2:]:
        answer.cancelled() or answer.set_result(1)
    await sends
    assert failed(outcomes) == ([1, 2, 3] if in_order else [1])


@pytest.mark.parametrize("in_order", [True, False])
async def test_not_posted(layer: Posting, in_order: bool) -> None:
    """A message that isn't accepted for sending keeps the later ones back too."""
    layer.refused_from = 2
    outcomes: list[Outcome] = [None] * 4
    sends = asyncio.create_task(_pipeline("default", batch(), outcomes, in_order=in_order))
    await asyncio.sleep(0)  # let the task post
    for answer in layer.answers:
        answer.set_result(1)
    await sends
    assert failed(outcomes) == [2, 3]
    assert (outcomes[2] is outcomes[3]) == in_order


@pytest.mark.parametrize("in_order", [True, False])
async def test_one_by_one(monkeypatch: pytest.MonkeyPatch, in_order: bool) -> None:
    """So it is with layers whose calls aren't pipelined."""
    sent: list[Outgoing] = []
    messages = batch()

    async def send(outgoing: Outgoing, seconds: float | None = None) -> None:
        if outgoing is messages[1][1]:
            raise BackplaneUnavailable("lost")
        sent.append(outgoing)

    monkeypatch.setattr(sending, "_send_through_layer", send)
    outcomes: list[Outcome] = [None] * 4
    await _send_one_by_one(messages, outcomes, in_order=in_order)
    assert failed(outcomes) == ([1, 2, 3] if in_order else [1])
    assert len(sent) == (1 if in_order else 3)


def test_not_kept() -> None:
    """A message that the history didn't keep holds back those without history too."""
    error = BackplaneUnavailable("lost")
    outcomes: list[Outcome] = [Publication("e", 1), error, None, Publication("e", 2)]
    _fail_behind_failure(outcomes)
    assert outcomes == [Publication("e", 1), error, error, error]
    outcomes = [None, None]
    _fail_behind_failure(outcomes)
    assert outcomes == [None, None]
