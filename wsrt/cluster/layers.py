"""
Channel layers as wsrt uses them: a private instance for each event loop and alias.

The layers of Channels belong to one loop at a time and share their connections with every consumer of the process. An
instance of our own can be thrown away and made anew when its connections have died without a word.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from channels.layers import InMemoryChannelLayer, channel_layers, get_channel_layer
from django.utils.module_loading import import_string

from ..exceptions import BackplaneUnavailable
from .per_loop import PerLoop
from .pubsub import PubSubLayer, driven, is_pubsub

LAYER_SECONDS = 5.0
"""How long the layer may take for anything but receiving."""


class Layer(Protocol):
    """What of a channel layer is used here."""

    async def new_channel(self, prefix: str = ...) -> str: ...
    async def receive(self, channel: str) -> dict[str, Any]: ...
    async def send(self, channel: str, message: dict[str, Any]) -> None: ...
    async def group_add(self, group: str, channel: str) -> None: ...
    async def group_discard(self, group: str, channel: str) -> None: ...
    async def group_send(self, group: str, message: dict[str, Any]) -> None: ...


# By alias: our instance, and the one of Channels that it was made from. When Channels has another one, the settings
# have changed.
_layers: PerLoop[dict[str, tuple[Layer, Layer]]] = PerLoop(dict)


# Held here: a loop does not keep its tasks alive.
_closing: set[asyncio.Task[None]] = set()


def is_local(alias: str) -> bool:
    """Return whether the layer reaches this process only: none is configured, or the in-memory one."""
    layer = get_channel_layer(alias)
    return layer is None or isinstance(layer, InMemoryChannelLayer)


def layer_of_loop(alias: str) -> Layer:
    """Return this loop's own instance of a layer that is not local; made at first use."""
    instances = _layers.get()
    shared: Any = get_channel_layer(alias)
    own, source = instances.get(alias, (None, None))
    if own is None or source is not shared:
        own = _make(alias, shared)
        instances[alias] = own, shared
    return own


async def drop_layer(alias: str, layer: Layer | None) -> None:
    """
    Forget an instance of this loop and close its connections, however dead they are.

    Args:
        layer: which one; a newer one of the same alias stays.
    """
    if layer is not None and forget_layer(alias, layer):
        await close_layer(layer)


def forget_layer(alias: str, layer: Layer) -> bool:
    """Have the next layer_of_loop() make a new instance; return whether this one is ours to close."""
    instances = _layers.get()
    own, shared = instances.get(alias, (None, None))
    if own is not layer or own is shared:
        return False
    del instances[alias]
    return True


async def close_layer(layer: Layer) -> None:
    """Close the connections of an instance that was forgotten, where it has a way to do so."""
    close = _close_of(layer)
    if close is not None:
        with contextlib.suppress(Exception):  # its connections are what is to be got rid of
            async with asyncio.timeout(LAYER_SECONDS):
                await close()
    _unwrap_loop(layer.layer if isinstance(layer, PubSubLayer) else layer)


def _unwrap_loop(layer: object) -> None:
    """
    Take the layer's wrapper off the loop's close().

    The layers of channels_redis wrap it at first use, and never undo that. During an outage of an hour thousands of
    instances are made and given up: each would stay in memory, and closing the loop would exceed the depth of calls.
    """
    loop: Any = asyncio.get_running_loop()
    function = getattr(loop.close, "__func__", None)
    if inspect.isfunction(function):
        wrapped = inspect.getclosurevars(function).nonlocals
        if wrapped.get("proxy") is layer and "original_impl" in wrapped:
            loop.close = wrapped["original_impl"]


def drop_layer_soon(alias: str, layer: Layer) -> None:
    """Forget an instance of this loop, and close its connections in the background."""
    if forget_layer(alias, layer):
        task = asyncio.get_running_loop().create_task(close_layer(layer))
        _closing.add(task)
        task.add_done_callback(_closing.discard)


def is_closable(layer: Layer) -> bool:
    """Return whether the connections of a layer can be closed; else each instance that is given up may leak some."""
    return _close_of(layer) is not None


def _close_of(layer: Layer) -> Callable[[], Awaitable[object]] | None:
    # flush() of other layers deletes everything that they keep in Redis; that of the pub/sub layer just closes.
    names = ("flush",) if is_pubsub(layer) else ("close_pools", "aclose", "close")
    found = (getattr(layer, name, None) for name in names)
    return next((close for close in found if inspect.iscoroutinefunction(close) or is_pubsub(layer)), None)


async def ask(what: str, call: Any, seconds: float | None = None) -> Any:
    """
    Await a call of a layer.

    Args:
        what: for the error: what the layer did not do.
        seconds: how long it may take; None for LAYER_SECONDS.

    Raises:
        BackplaneUnavailable: it failed, or took longer.
    """
    try:
        async with asyncio.timeout(LAYER_SECONDS if seconds is None else seconds):
            return await call
    except Exception as error:
        raise BackplaneUnavailable(f"the channel layer did not {what}: {type(error).__name__}: {error}") from error


def _make(alias: str, shared: Layer) -> Layer:
    config = channel_layers.configs.get(alias)
    if config is None or type(shared) is not import_string(config["BACKEND"]):
        return shared  # put there by hand (channel_layers.set): the only one there is
    return driven(channel_layers.make_backend(alias))  # type: ignore[no-any-return]
