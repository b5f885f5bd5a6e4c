"""
Private instances of the channel layers, one for each event loop and alias.

The layers of Channels belong to one loop at a time and share their connections with every consumer of the process. A
private instance can be discarded and replaced when its connections have died silently.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from channels.layers import InMemoryChannelLayer, channel_layers, get_channel_layer
from django.utils.module_loading import import_string

from ..exceptions import BackplaneUnavailable
from .per_loop import PerLoop
from .pubsub import PubSubLayer, is_pubsub, pipelined

LAYER_SECONDS = 5.0
"""The time limit of every call of the layer except ``receive``, in seconds."""


class Layer(Protocol):
    """The part of a channel layer's interface that wsrt uses."""

    async def new_channel(self, prefix: str = ...) -> str: ...
    async def receive(self, channel: str) -> dict[str, Any]: ...
    async def send(self, channel: str, message: dict[str, Any]) -> None: ...
    async def group_add(self, group: str, channel: str) -> None: ...
    async def group_discard(self, group: str, channel: str) -> None: ...
    async def group_send(self, group: str, message: dict[str, Any]) -> None: ...


# By alias: our instance, and the one of Channels that it was made from. When Channels has another one, the settings
# have changed.
_layers: PerLoop[dict[str, tuple[Layer, Layer]]] = PerLoop(dict)


# Tasks that close layers. A loop only keeps weak references to its tasks.
_closing: set[asyncio.Task[None]] = set()


# The consumer classes, with the alias of their layer, whose use of a local layer was logged.
_used_by_hand: set[tuple[str, str]] = set()

logger = logging.getLogger("wsrt")


def is_local(alias: str) -> bool:
    """Return whether the layer reaches this process only, because none is configured or it is the in-memory layer."""
    layer = get_channel_layer(alias)
    return layer is None or isinstance(layer, InMemoryChannelLayer)


def note_use_by_hand(owner: str, alias: str) -> None:
    """
    Log, once for each consumer class that uses an in-memory layer directly, that other processes don't reach it.

    Args:
        owner: The name of the consumer class.
        alias: The alias of the layer.
    """
    if (owner, alias) in _used_by_hand or not is_local(alias):
        return
    _used_by_hand.add((owner, alias))
    logger.warning(
        "%s uses the channel layer %r directly, and the layer is in-memory: messages from other processes, such as "
        "workers and shells, don't arrive. If there are any, use channels_redis.pubsub.RedisPubSubChannelLayer",
        owner,
        alias,
    )


def layer_of_loop(alias: str) -> Layer:
    """Return the running loop's private instance of a layer, created if necessary. The layer must not be local."""
    instances = _layers.get()
    shared: Any = get_channel_layer(alias)
    own, source = instances.get(alias, (None, None))
    if own is None or source is not shared:
        own = _make(alias, shared)
        instances[alias] = own, shared
    return own


async def drop_layer(alias: str, layer: Layer | None) -> None:
    """
    Forget an instance of the running loop and close its connections, even if they are dead.

    Args:
        alias: The alias of the layer.
        layer: The instance. A newer instance of the same alias is kept.
    """
    if layer is not None and forget_layer(alias, layer):
        await close_layer(layer)


def forget_layer(alias: str, layer: Layer) -> bool:
    """Make the next layer_of_loop() create a new instance; return whether the caller must close this one."""
    instances = _layers.get()
    own, shared = instances.get(alias, (None, None))
    if own is not layer or own is shared:
        return False
    del instances[alias]
    return True


async def close_layer(layer: Layer) -> None:
    """Close the connections of a forgotten instance, if it has a method for that."""
    close = _close_of(layer)
    if close is not None:
        with contextlib.suppress(Exception):  # the connections are discarded anyway, often because they are broken
            async with asyncio.timeout(LAYER_SECONDS):
                await close()
    _unwrap_loop(layer.layer if isinstance(layer, PubSubLayer) else layer)


def _unwrap_loop(layer: object) -> None:
    """
    Remove the layer's wrapper from the loop's ``close`` method.

    The layers of channels_redis wrap ``loop.close`` at first use and never unwrap it. During an outage of an hour,
    thousands of instances are created and discarded. Each would stay in memory, and closing the loop would raise
    RecursionError.
    """
    loop: Any = asyncio.get_running_loop()
    function = getattr(loop.close, "__func__", None)
    if inspect.isfunction(function):
        wrapped = inspect.getclosurevars(function).nonlocals
        if wrapped.get("proxy") is layer and "original_impl" in wrapped:
            loop.close = wrapped["original_impl"]


def drop_layer_soon(alias: str, layer: Layer) -> None:
    """Forget an instance of the running loop, and close its connections in the background."""
    if forget_layer(alias, layer):
        task = asyncio.get_running_loop().create_task(close_layer(layer))
        _closing.add(task)
        task.add_done_callback(_closing.discard)


def is_closable(layer: Layer) -> bool:
    """Return whether the connections of a layer can be closed. If not, each discarded instance may leak connections."""
    return _close_of(layer) is not None


def _close_of(layer: Layer) -> Callable[[], Awaitable[object]] | None:
    # In the pub/sub layer, flush() only closes connections. In other layers it deletes all their data in Redis.
    names = ("flush",) if is_pubsub(layer) else ("close_pools", "aclose", "close")
    found = (getattr(layer, name, None) for name in names)
    return next((close for close in found if inspect.iscoroutinefunction(close) or is_pubsub(layer)), None)


async def ask(what: str, call: Any, seconds: float | None = None) -> Any:
    """
    Await a call of a layer, and return its result.

    Args:
        what: What the layer was asked to do, for the message of the error: "the channel layer did not ...".
        call: The awaitable.
        seconds: The time limit; None for LAYER_SECONDS.

    Raises:
        BackplaneUnavailable: The call failed or timed out.
    """
    try:
        async with asyncio.timeout(LAYER_SECONDS if seconds is None else seconds):
            return await call
    except Exception as error:
        raise BackplaneUnavailable(f"the channel layer did not {what}: {type(error).__name__}: {error}") from error


def _make(alias: str, shared: Layer) -> Layer:
    config = channel_layers.configs.get(alias)
    if config is None or type(shared) is not import_string(config["BACKEND"]):
        return shared  # installed with channel_layers.set(), so there is no configuration to create another one from
    return pipelined(channel_layers.make_backend(alias))  # type: ignore[no-any-return]
