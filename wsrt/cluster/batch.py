"""
The sending of batches: the messages of one commit, of one call of publish_many, or of a durable worker.

What goes through a channel layer is sent in parts, in the order of the messages. While a part is sent, the history
keeps the publications of the next ones, so that this process and Redis work at the same time.
"""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from ..exceptions import BackplaneUnavailable, StoreUnavailable
from ..metrics import counters
from ..stores.batches import batches
from ..types import Publication
from . import background_loop
from .in_process import carry_out_here, send_here, send_here_from_sync, stays_in_process
from .keeping import keep_parts
from .layers import LAYER_SECONDS, layer_of_loop
from .outgoing import Outgoing
from .pubsub import PubSubLayer
from .sending import drop_dead, send_through_layer

PART = 1000
"""The number of messages that are kept at a time, and that wait for the layer's answers at a time."""

SHARE_SECONDS = 0.5
"""How long each message of a batch may take before it counts against the time of the batch, in seconds."""

TOO_SLOW = "the channel layer was too slow for earlier publications of the same batch"

Outcome = Publication | BackplaneUnavailable | None
"""What becomes of a message of a batch: its position in a history, None without one, or the error."""

Part = Sequence[int]
"""The indexes of messages of a batch, in ascending order."""


class TooSlow(BackplaneUnavailable):
    """Raised for messages that aren't sent because the layer was too slow for earlier ones of the same batch."""


async def send_all(outgoings: Sequence[Outgoing]) -> list[Outcome]:
    """
    Send messages as one batch, from a running loop. Those to one room arrive in the order of the list.

    Returns:
        The outcome of each, in the same order. One that fails doesn't keep the others from being sent.
    """
    outcomes: list[Outcome] = [None] * len(outgoings)
    local, through_layers = _divide(outgoings, outcomes, in_order=False)
    await local.send()
    for share in through_layers:
        await share.send()
    return outcomes


def send_all_from_sync(outgoings: Sequence[Outgoing], *, in_order: bool = False) -> list[Outcome]:
    """
    Send messages as one batch, from a thread without a running loop. See send_all().

    Args:
        outgoings: The messages.
        in_order: Whether a message that fails keeps the later ones that go through the same layer from being sent, so
            that they don't overtake it when the caller sends it again.
    """
    outcomes: list[Outcome] = [None] * len(outgoings)
    local, through_layers = _divide(outgoings, outcomes, in_order=in_order)
    local.send_from_sync()
    for share in through_layers:
        background_loop.run(share.send())
    return outcomes


def _divide(
    outgoings: Sequence[Outgoing], outcomes: list[Outcome], *, in_order: bool
) -> tuple[_LocalShare, Collection[_LayerShare]]:
    """Return the messages of a batch that stay in this process, and those that go through each layer."""
    local: list[int] = []
    through: dict[str, list[int]] = {}
    # By alias: the list to which its messages belong.
    known: dict[str, list[int]] = {}
    for index, outgoing in enumerate(outgoings):
        part = known.get(outgoing.alias)
        if part is None:
            part = local if stays_in_process(outgoing) else through.setdefault(outgoing.alias, [])
            known[outgoing.alias] = part
        part.append(index)
    shares = [_LayerShare(alias, outgoings, part, outcomes, in_order=in_order) for alias, part in through.items()]
    return _LocalShare(outgoings, local, outcomes, in_order=in_order), shares


class _Share:
    """
    The messages of a batch that go the same way.

    Args:
        outgoings: All messages of the batch.
        indexes: The indexes of these messages.
        outcomes: The outcomes of all messages of the batch.
        in_order: Whether a message that fails keeps the later ones from being sent.
    """

    def __init__(
        self, outgoings: Sequence[Outgoing], indexes: Part, outcomes: list[Outcome], *, in_order: bool
    ) -> None:
        self._outgoings = outgoings
        self._indexes = indexes
        self._outcomes = outcomes
        self._in_order = in_order
        # The first error among the messages whose turn to be sent has come.
        self._failure: BackplaneUnavailable | None = None

    async def _keep(self, parts: Sequence[Part], on_kept: Callable[[Part], None]) -> None:
        """
        Keep the publications of parts in the histories of their rooms.

        Args:
            parts: The parts.
            on_kept: Called with each part in order, as soon as its outcomes are known.
        """
        waiting = collections.deque(parts)

        def take(positions: Sequence[Publication | None]) -> None:
            part = waiting.popleft()
            for index, position in zip(part, positions, strict=True):
                self._outcomes[index] = position
            on_kept(part)

        try:
            await keep_parts([[self._outgoings[index] for index in part] for part in parts], take)
        except StoreUnavailable as error:
            for part in waiting:
                failed = [index for index in part if self._outgoings[index].append is not None]
                for index in failed:
                    self._outcomes[index] = error
                counters.count("publications_failed", times=len(failed))
                on_kept(part)

    def _pending(self, part: Part) -> Iterator[int]:
        """Yield the messages that are to be sent; let those fail that must not overtake an earlier one."""
        for index in part:
            outcome = self._outcomes[index]
            if isinstance(outcome, BackplaneUnavailable):
                self._failure = self._failure or outcome
            elif self._in_order and self._failure is not None:
                counters.count("publications_failed")
                self._outcomes[index] = self._failure
            else:
                yield index

    def _fail(self, index: int, error: BackplaneUnavailable) -> None:
        """Note that a message wasn't sent."""
        self._failure = self._failure or error
        self._outcomes[index] = error


class _LocalShare(_Share):
    """Messages for the nodes of this process."""

    async def send(self) -> None:
        """Send from a running loop."""
        await self._keep([self._indexes], lambda part: None)
        for index in self._pending(self._indexes):
            try:
                await send_here(self._outgoings[index])
            except BackplaneUnavailable as error:
                self._fail(index, error)

    def send_from_sync(self) -> None:
        """Send from a thread without a running loop."""
        if any(self._outgoings[index].append is not None for index in self._indexes):
            background_loop.run(self._keep([self._indexes], lambda part: None))
        for index in self._pending(self._indexes):
            try:
                send_here_from_sync(self._outgoings[index])
            except BackplaneUnavailable as error:
                self._fail(index, error)


class _LayerShare(_Share):
    """
    Messages that go through one channel layer.

    Args:
        alias: The alias of the layer.

    The other arguments are those of _Share.
    """

    def __init__(
        self,
        alias: str,
        outgoings: Sequence[Outgoing],
        indexes: Part,
        outcomes: list[Outcome],
        *,
        in_order: bool,
    ) -> None:
        super().__init__(outgoings, indexes, outcomes, in_order=in_order)
        self._alias = alias
        # The time that remains for messages that take longer than their share, in seconds.
        self._left = LAYER_SECONDS

    async def send(self) -> None:
        """Send in parts, of which each is sent while the history keeps the next ones."""
        kept: asyncio.Queue[Part | None] = asyncio.Queue()
        keeping = self._keep_all(kept)
        # With return_exceptions, both have ended before an exception leaves this method.
        for error in await asyncio.gather(keeping, self._send_kept(kept), return_exceptions=True):
            if error is not None:
                raise error

    async def _keep_all(self, kept: asyncio.Queue[Part | None]) -> None:
        try:
            await self._keep([*batches(self._indexes, PART)], kept.put_nowait)
        finally:
            kept.put_nowait(None)

    async def _send_kept(self, kept: asyncio.Queue[Part | None]) -> None:
        while (part := await kept.get()) is not None:
            await self._send(part)

    async def _send(self, part: Part) -> None:
        if isinstance(layer_of_loop(self._alias), PubSubLayer):
            await self._send_together([*self._pending(part)])
        else:
            await self._send_one_by_one(part)

    async def _send_one_by_one(self, part: Part) -> None:
        """Send through a layer whose concurrent calls may overtake each other."""
        for index in self._pending(part):
            outgoing = self._outgoings[index]
            await carry_out_here(outgoing)
            started = time.monotonic()
            try:
                if self._left <= 0:
                    raise _too_slow(1)
                await send_through_layer(outgoing, min(LAYER_SECONDS, SHARE_SECONDS + self._left))
            except BackplaneUnavailable as error:
                self._fail(index, error)
            self._left -= max(0.0, time.monotonic() - started - SHARE_SECONDS)

    async def _send_together(self, part: Part) -> None:
        """Send through the pub/sub layer, and wait for the answers to all messages."""
        posts: list[tuple[str, dict[str, Any]]] = []
        # By post: the index of its message. A message to several groups has several.
        indexes: list[int] = []
        for index in part:
            outgoing = self._outgoings[index]
            await carry_out_here(outgoing)
            message = outgoing.item.to_message()
            for group in outgoing.groups:
                posts.append((group, message))
                indexes.append(index)
        layer = layer_of_loop(self._alias)
        if self._left <= 0 or not isinstance(layer, PubSubLayer):
            error = _too_slow(len(part))
            for index in part:
                self._fail(index, error)
            return
        answers = layer.post_all(posts, in_order=self._in_order)
        await asyncio.wait([answers.done], timeout=LAYER_SECONDS)
        if not answers.done.done():
            answers.withdraw(TimeoutError())
            self._left = 0.0
            drop_dead(self._alias, layer)
        for number in sorted(answers.errors):
            self._fail(indexes[number], _refusal(answers.errors[number]))
        counters.count("publications_failed", times=len({indexes[number] for number in answers.errors}))


def _too_slow(times: int) -> TooSlow:
    counters.count("publications_failed", times=times)
    return TooSlow(TOO_SLOW)


def _refusal(error: BaseException) -> BackplaneUnavailable:
    refusal = BackplaneUnavailable(f"the channel layer did not accept a publication: {type(error).__name__}: {error}")
    refusal.__cause__ = error
    return refusal
