"""Batches in which a message that fails keeps the later ones from being sent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from tests.apps.chat.events import Said
from tests.support.waiting import aeventually
from wsrt import BackplaneUnavailable
from wsrt.addresses import Audience, Room
from wsrt.cluster import sending
from wsrt.cluster.outgoing import Outgoing, prepare
from wsrt.cluster.pipeline import Answers
from wsrt.cluster.pubsub import PubSubLayer
from wsrt.cluster.sending import Outcome, TooSlow, _fail_behind_failure, _keep, _pipeline, _send_one_by_one
from wsrt.metrics import counters
from wsrt.protocol.envelope import Encoded
from wsrt.types import Publication

LOBBY = Room("lobby")


class Posting(PubSubLayer):
    """A pub/sub layer whose answers a test gives."""

    def __init__(self) -> None:
        self.windows: list[Answers] = []
        self.refused_from = 1000

    def post_all(self, posts: Sequence[tuple[str, dict[str, Any]]], *, in_order: bool = False) -> Answers:
        answers = Answers(len(posts), in_order=in_order)
        for number in range(self.refused_from, len(posts)):
            answers.settle(number, ConnectionError("the layer was closed"))
        self.windows.append(answers)
        return answers


def batch(audience: Audience = LOBBY) -> list[tuple[int, Outgoing]]:
    return [(index, prepare(audience, Said(text=str(index)), "chat", None)) for index in range(4)]


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
    [answers] = layer.windows
    answers.settle(0)
    answers.settle(1, ConnectionError("lost"))
    assert [answers.is_settled(number) for number in range(4)] == [True, True, in_order, in_order]
    for number in (2, 3):
        answers.settle(number)
    await sends
    assert failed(outcomes) == ([1, 2, 3] if in_order else [1])
    assert "lost" in str(outcomes[1])


@pytest.mark.parametrize("in_order", [True, False])
async def test_not_posted(layer: Posting, in_order: bool) -> None:
    """A message that isn't accepted for sending fails, and those that were accepted don't."""
    layer.refused_from = 2
    outcomes: list[Outcome] = [None] * 4
    sends = asyncio.create_task(_pipeline("default", batch(), outcomes, in_order=in_order))
    await asyncio.sleep(0)  # let the task post
    for number in range(2):
        layer.windows[0].settle(number)
    await sends
    assert failed(outcomes) == [2, 3]


@pytest.mark.parametrize("in_order", [True, False])
async def test_windows(layer: Posting, monkeypatch: pytest.MonkeyPatch, in_order: bool) -> None:
    """A window isn't posted before the one ahead of it is answered, nor in order if a message there has failed."""
    monkeypatch.setattr(sending, "WINDOW", 2)
    outcomes: list[Outcome] = [None] * 4
    sends = asyncio.create_task(_pipeline("default", batch(), outcomes, in_order=in_order))
    await asyncio.sleep(0)  # let the task post
    assert len(layer.windows) == 1
    layer.windows[0].settle(1, ConnectionError("lost"))
    layer.windows[0].settle(0)
    if not in_order:
        await aeventually(lambda: len(layer.windows) == 2)
        for number in range(2):
            layer.windows[1].settle(number)
    await sends
    assert len(layer.windows) == (1 if in_order else 2)
    assert failed(outcomes) == ([1, 2, 3] if in_order else [1])


async def test_no_answer(layer: Posting, monkeypatch: pytest.MonkeyPatch) -> None:
    """If Redis doesn't answer in time, the later windows aren't posted, and what isn't written never will be."""
    monkeypatch.setattr(sending, "WINDOW", 2)
    monkeypatch.setattr(sending, "LAYER_SECONDS", 0.05)
    outcomes: list[Outcome] = [None] * 4
    before = counters["publications_failed"]
    await _pipeline("default", batch(), outcomes, in_order=False)
    assert len(layer.windows) == 1
    assert all(layer.windows[0].is_settled(number) for number in range(2))
    assert failed(outcomes) == [0, 1, 2, 3]
    assert [isinstance(outcome, TooSlow) for outcome in outcomes] == [False, False, True, True]
    assert counters["publications_failed"] == before + 4


async def test_no_frames(layer: Posting, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that only recipients need isn't built by a publisher whose messages go through the layer."""
    frames = 0
    build = Encoded.frame

    def counting(encoded: Encoded, **more: Any) -> Any:
        nonlocal frames
        frames += 1
        return build(encoded, **more)

    monkeypatch.setattr(Encoded, "frame", counting)
    messages = batch()
    outcomes: list[Outcome] = [None] * 4
    sends = asyncio.create_task(_pipeline("default", messages, outcomes, in_order=False))
    await asyncio.sleep(0)  # let the task post
    layer.windows[0].withdraw(ConnectionError("lost"))
    await sends
    assert frames == 0
    # It is built once, for all recipients.
    item: Any = messages[0][1].item
    assert item.frame is item.frame
    assert frames == 1


async def test_no_history(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch without history doesn't reach the store."""

    def fail() -> None:
        raise AssertionError

    monkeypatch.setattr(sending, "store_of_loop", fail)
    assert await _keep([outgoing for _, outgoing in batch()]) == [None] * 4


async def test_several_groups(layer: Posting) -> None:
    """A message to several groups fails once, whichever of them failed."""
    outcomes: list[Outcome] = [None] * 4
    before = counters["publications_failed"]
    sends = asyncio.create_task(_pipeline("default", batch(LOBBY | Room("b")), outcomes, in_order=False))
    await asyncio.sleep(0)  # let the task post
    for number in range(8):
        layer.windows[0].settle(number, ConnectionError("lost") if number in (2, 3, 5) else None)
    await sends
    assert failed(outcomes) == [1, 2]
    assert counters["publications_failed"] == before + 2


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
