"""
The sending of publications, control commands and presence changes, from asynchronous and synchronous code.

With a local layer, they go straight to the nodes of this process, otherwise through the channel layer. What is kept in
the history of a room gets its position before.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from asgiref.sync import SyncToAsync

from ..delivery.mailbox import Taken
from ..exceptions import BackplaneUnavailable, StoreUnavailable, WrongContext
from ..history.backends import store_of_loop
from ..metrics import counters
from ..stores.batches import batches
from ..types import Publication
from . import background_loop
from .layers import LAYER_SECONDS, ask, drop_layer_soon, is_local, layer_of_loop
from .messages import CommandMessage, Kept, PublishMessage
from .node import Item, Node, nodes
from .outgoing import Outgoing, layer_aliases
from .pubsub import PubSubLayer

ACT_SECONDS = 5.0
"""How long a call waits for the event loops of other threads of this process, in seconds."""

SHARE_SECONDS = 0.5
"""How long each message of a batch may take before it counts against the time of the batch, in seconds."""

WINDOW = 1000
"""The number of messages of a batch that wait for the layer's answers at a time."""

TOO_SLOW = "the channel layer was too slow for earlier publications of the same batch"

Outcome = Publication | BackplaneUnavailable | None
"""What becomes of a message of a batch: its position in a history, None without one, or the error."""


class TooSlow(BackplaneUnavailable):
    """Raised for messages that aren't sent because the layer was too slow for earlier ones of the same batch."""


observers: list[Callable[[Outgoing], None]] = []
"""Called with everything that is sent. While there is an observer, nothing leaves this process (see wsrt.testing)."""


async def send(outgoing: Outgoing) -> Publication | None:
    """
    Send immediately, from a running loop. The nodes of this process have carried out a command when this returns.

    Returns:
        The position of a publication that is kept in history; None for anything else.

    Raises:
        BackplaneUnavailable: The layer did not accept the message, or another event loop of this process is blocked.
        StoreUnavailable: The history didn't keep the publication, which was not sent.
    """
    publication = None if outgoing.append is None else _settled((await _keep([outgoing]))[0])
    if _stays_in_process(outgoing):
        await _send_in_process(outgoing)
    else:
        await _act_here(outgoing)
        await _send_through_layer(outgoing)
    return publication


async def send_all(outgoings: Sequence[Outgoing]) -> list[Outcome]:
    """
    Send messages as one batch, from a running loop. Those to one room arrive in the order of the list.

    Returns:
        The outcome of each, in the same order. One that fails doesn't keep the others from being sent.
    """
    outcomes = await _keep(outgoings)
    for index, outgoing in _acting_here(outgoings, outcomes):
        try:
            if _stays_in_process(outgoing):
                await _send_in_process(outgoing)
            else:
                await _act_here(outgoing)
        except BackplaneUnavailable as error:
            outcomes[index] = error
    await _send_through_layers(outgoings, outcomes)
    return outcomes


def send_from_sync(outgoing: Outgoing) -> Publication | None:
    """
    Send immediately, from a thread without a running loop.

    Returns:
        The position of a publication that is kept in history; None for anything else.

    Raises:
        BackplaneUnavailable, StoreUnavailable: As for send().
    """
    publication = None if outgoing.append is None else _settled(background_loop.run(_keep([outgoing]))[0])
    _send_here_from_sync(outgoing)
    if not _stays_in_process(outgoing):
        background_loop.run(_send_through_layer(outgoing))
    return publication


def send_all_from_sync(outgoings: Sequence[Outgoing], *, in_order: bool = False) -> list[Outcome]:
    """
    Send messages as one batch, from a thread without a running loop. See send_all().

    Args:
        outgoings: The messages.
        in_order: Whether a message that fails keeps the later ones from being sent, so that they don't overtake it when
            the caller sends it again.
    """
    is_kept = any(outgoing.append is not None for outgoing in outgoings)
    outcomes: list[Outcome] = background_loop.run(_keep(outgoings)) if is_kept else [None] * len(outgoings)
    if in_order:
        _fail_behind_failure(outcomes)
    for index, outgoing in _acting_here(outgoings, outcomes):
        try:
            _send_here_from_sync(outgoing)
        except BackplaneUnavailable as error:
            outcomes[index] = error
    if not all(map(_stays_in_process, _one_of_each_alias(outgoings))):
        background_loop.run(_send_through_layers(outgoings, outcomes, in_order=in_order))
    return outcomes


def _fail_behind_failure(outcomes: list[Outcome]) -> None:
    """Let the messages behind one that failed fail too."""
    first = next((index for index, outcome in enumerate(outcomes) if isinstance(outcome, BackplaneUnavailable)), None)
    if first is not None:
        outcomes[first:] = [outcomes[first]] * (len(outcomes) - first)


def _pending(outgoings: Sequence[Outgoing], outcomes: list[Outcome]) -> Iterator[tuple[int, Outgoing]]:
    """Yield the messages that haven't failed, with their indexes."""
    for index, outgoing in enumerate(outgoings):
        if not isinstance(outcomes[index], BackplaneUnavailable):
            yield index, outgoing


def _acting_here(outgoings: Sequence[Outgoing], outcomes: list[Outcome]) -> Iterator[tuple[int, Outgoing]]:
    """Yield the messages that haven't failed and that act in this process: commands, and all of local layers."""
    local = {outgoing.alias for outgoing in _one_of_each_alias(outgoings) if _stays_in_process(outgoing)}
    for index, outgoing in _pending(outgoings, outcomes):
        if outgoing.alias in local or isinstance(outgoing.item, CommandMessage):
            yield index, outgoing


def _one_of_each_alias(outgoings: Sequence[Outgoing]) -> Collection[Outgoing]:
    return {outgoing.alias: outgoing for outgoing in outgoings}.values()


def _settled(outcome: Outcome) -> Publication | None:
    """Return the position. Raises the error."""
    if isinstance(outcome, BackplaneUnavailable):
        raise outcome
    return outcome


async def _keep(outgoings: Sequence[Outgoing]) -> list[Outcome]:
    """Keep publications in the histories of their rooms, from which they get their positions."""
    outcomes: list[Outcome] = [None] * len(outgoings)
    kept = [(index, outgoing) for index, outgoing in enumerate(outgoings) if outgoing.append is not None]
    if not kept:
        return outcomes
    try:
        results = await store_of_loop().append([outgoing.append for _, outgoing in kept if outgoing.append is not None])
    except StoreUnavailable as error:
        counters.count("publications_failed", times=len(kept))
        for index, _ in kept:
            outcomes[index] = error
        return outcomes
    for (index, outgoing), appended in zip(kept, results, strict=True):
        message = outgoing.item
        if isinstance(message, PublishMessage) and outgoing.append is not None:
            message.keep(Kept(appended.position, appended.id, outgoing.append.key))
        outcomes[index] = Publication(appended.position.epoch, appended.position.offset)
    return outcomes


async def _send_in_process(outgoing: Outgoing) -> None:
    """Send to the nodes of this process, if the layer is local."""
    await _wait_for(outgoing, send_locally(outgoing))
    node = _node_of_running_loop()
    if node is not None:
        await node.hub.checkpoint()


async def _act_here(outgoing: Outgoing) -> None:
    """
    Carry out a command in this process before it is sent through the layer, so that it is done when the call returns.

    The nodes recognise the copy from the layer by its id, and drop it.
    """
    if isinstance(outgoing.item, CommandMessage):
        await _wait_for(outgoing, _post(outgoing.item))


async def _wait_for(outgoing: Outgoing, waits_for: list[Taken]) -> None:
    if waits_for:
        await asyncio.wait([asyncio.wrap_future(taken) for taken in waits_for], timeout=ACT_SECONDS)
        _require_taken(outgoing, waits_for)


def _send_here_from_sync(outgoing: Outgoing) -> None:
    """Send to the nodes of this process what doesn't reach them through the layer, or has to be done at once."""
    if _stays_in_process(outgoing):
        waits_for = send_locally(outgoing)
    else:
        waits_for = _post(outgoing.item) if isinstance(outgoing.item, CommandMessage) else []
    if waits_for:
        concurrent.futures.wait(waits_for, timeout=ACT_SECONDS)
        _require_taken(outgoing, waits_for)


async def _send_through_layer(outgoing: Outgoing, seconds: float | None = None) -> None:
    """
    Send through the layer.

    Args:
        outgoing: The message.
        seconds: The time limit for each group, in seconds; None for LAYER_SECONDS.
    """
    message = outgoing.item.to_message()
    for group in outgoing.groups:
        # Looked up for each group: a node that rebuilds its backplane replaces the layer during the awaits.
        layer = layer_of_loop(outgoing.alias)
        try:
            await ask("accept a publication", layer.group_send(group, message), seconds)
        except BackplaneUnavailable as error:
            counters.count("publications_failed")
            if isinstance(error.__cause__, TimeoutError):
                _drop_dead(outgoing.alias, layer)
            raise


async def _send_through_layers(
    outgoings: Sequence[Outgoing], outcomes: list[Outcome], *, in_order: bool = False
) -> None:
    """Send the messages of a batch that don't stay in this process, and put errors into ``outcomes``."""
    by_alias: dict[str, list[tuple[int, Outgoing]]] = {
        outgoing.alias: [] for outgoing in _one_of_each_alias(outgoings) if not _stays_in_process(outgoing)
    }
    for index, outgoing in _pending(outgoings, outcomes):
        if outgoing.alias in by_alias:
            by_alias[outgoing.alias].append((index, outgoing))
    for alias, messages in by_alias.items():
        if isinstance(layer_of_loop(alias), PubSubLayer):
            await _pipeline(alias, messages, outcomes, in_order=in_order)
        else:
            await _send_one_by_one(messages, outcomes, in_order=in_order)


async def _send_one_by_one(messages: list[tuple[int, Outgoing]], outcomes: list[Outcome], *, in_order: bool) -> None:
    """Send the messages of a batch through a layer whose concurrent calls may overtake each other."""
    # The time that remains for messages that take longer than their share.
    left = LAYER_SECONDS
    failure: BackplaneUnavailable | None = None
    for index, outgoing in messages:
        if in_order and failure is not None:
            outcomes[index] = failure
            continue
        started = time.monotonic()
        try:
            if left <= 0:
                raise TooSlow(TOO_SLOW)
            await _send_through_layer(outgoing, min(LAYER_SECONDS, SHARE_SECONDS + left))
        except BackplaneUnavailable as error:
            outcomes[index] = failure = error
        left -= max(0.0, time.monotonic() - started - SHARE_SECONDS)


async def _pipeline(
    alias: str, messages: list[tuple[int, Outgoing]], outcomes: list[Outcome], *, in_order: bool
) -> None:
    """Send the messages of a batch through the pub/sub layer, a window at a time."""
    is_slow = False
    failure: BackplaneUnavailable | None = None
    for window in batches(messages, WINDOW):
        layer = layer_of_loop(alias)
        if is_slow or not isinstance(layer, PubSubLayer):
            _fail_all(window, outcomes, TooSlow(TOO_SLOW))
            continue
        if in_order and failure is not None:
            _fail_all(window, outcomes, failure)
            continue
        posts: list[tuple[str, dict[str, Any]]] = []
        # By post: the index of its message. A message to several groups has several.
        indexes: list[int] = []
        for index, outgoing in window:
            message = outgoing.item.to_message()
            for group in outgoing.groups:
                posts.append((group, message))
                indexes.append(index)
        answers = layer.post_all(posts, in_order=in_order)
        await asyncio.wait([answers.done], timeout=LAYER_SECONDS)
        if not answers.done.done():
            answers.withdraw(TimeoutError())
            is_slow = True
            _drop_dead(alias, layer)
        for number in sorted(answers.errors):
            refusal = _refusal(answers.errors[number])
            failure = failure or refusal
            outcomes[indexes[number]] = refusal
        counters.count("publications_failed", times=len({indexes[number] for number in answers.errors}))


def _fail_all(messages: Sequence[tuple[int, Outgoing]], outcomes: list[Outcome], failure: BackplaneUnavailable) -> None:
    for index, _ in messages:
        outcomes[index] = failure
    counters.count("publications_failed", times=len(messages))


def _refusal(error: BaseException | None) -> BackplaneUnavailable:
    refusal = BackplaneUnavailable(f"the channel layer did not accept a publication: {type(error).__name__}: {error}")
    refusal.__cause__ = error
    return refusal


def _drop_dead(alias: str, layer: object) -> None:
    """Replace a layer that doesn't answer, in a loop without a node, whose probes would do so."""
    if _node_of_running_loop() is None:
        drop_layer_soon(alias, layer)  # type: ignore[arg-type]  # any layer


def require_no_loop(twin: str) -> None:
    """
    Check that no event loop runs in this thread, which a synchronous call would block.

    Args:
        twin: The name of the asynchronous function, for the message of the error.

    Raises:
        WrongContext: An event loop runs in this thread.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise WrongContext(f"an event loop runs in this thread, which this call would block: await {twin}(...) instead")


def _require_taken(outgoing: Outgoing, waits_for: list[Taken]) -> None:
    """Raise BackplaneUnavailable for a publication that a loop of this process hasn't taken yet."""
    if isinstance(outgoing.item, PublishMessage) and not all(taken.done() for taken in waits_for):
        counters.count("publications_failed")
        problem = f"an event loop of this process did not accept a publication within {ACT_SECONDS:g} s"
        raise BackplaneUnavailable(problem) from TimeoutError()


def send_locally(outgoing: Outgoing) -> list[Taken]:
    """
    Pass a message to the nodes of this process.

    Returns:
        Futures that the caller has to wait for. When they are done, the nodes of other threads have carried out the
        command, or have accepted a publication that was held up by too many others.
    """
    for observer in observers:
        observer(outgoing)
    if not nodes() and not observers and not is_below_a_server():
        counters.count(
            "publications_unheard",
            "publication discarded: this process holds no connections, and the channel layer %r doesn't reach other "
            "processes. Configure channels_redis.pubsub.RedisPubSubChannelLayer in CHANNEL_LAYERS",
            outgoing.alias,
        )
    return _post(outgoing.item)


def _post(item: Item) -> list[Taken]:
    """Post a message to every node of this process; return the futures that the caller has to wait for."""
    return [taken for node in nodes() if (taken := node.post(item)) is not None]


def unreachable_layer(namespace: str | None) -> str | None:
    """
    Return the alias of a channel layer if nothing that is sent to a namespace can reach a connection, otherwise None.

    That is so if the layers are local and this process holds no connections.

    Args:
        namespace: The namespace, or None for all namespaces.

    Raises:
        UnknownNamespace: No consumer has the namespace.
    """
    aliases = layer_aliases(namespace)
    if nodes() or observers or is_below_a_server() or not all(map(is_local, aliases)):
        return None
    return min(aliases)


def is_below_a_server() -> bool:
    """Return whether this code runs in or under the event loop of an ASGI server, which may get connections."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        # A synchronous view runs in a thread for which the server's loop waits.
        loop = getattr(SyncToAsync.threadlocal, "main_event_loop", None)
        return loop is not None and loop.is_running()
    return True


def _stays_in_process(outgoing: Outgoing) -> bool:
    return bool(observers) or is_local(outgoing.alias)


def _node_of_running_loop() -> Node | None:
    loop = asyncio.get_running_loop()
    return next((node for node in nodes() if node.loop is loop), None)
