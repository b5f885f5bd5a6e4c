"""A channel of a connection's own, for code that still sends through the layer by hand."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from ..cluster.layers import ask
from ..cluster.node import Node
from ..metrics import counters

STOP = "wsrt.stop"
"""A message to one's own channel that ends its reader: cancelling a receive can lose another consumer's message."""

STOP_SECONDS = 1.0
"""How long the reader may take to see it."""

RETRY_SECONDS = 1.0
"""The pause after an error of the layer."""

logger = logging.getLogger("wsrt")

Submit = Callable[[Callable[[], Coroutine[Any, Any, None]]], bool]
"""Runs something in the order of the connection's handlers; returns whether it will be."""


class LayerChannel:
    """
    The channel of one connection, and its reader.

    Args:
        layer: of Channels, as the rest of the process uses it.
        handlers: by message type; anything else is counted and dropped, never looked up as a method.
        owner: named in the log.
        submit: see Submit.
        on_failed: called when a handler raised; must close.
    """

    def __init__(
        self,
        layer: Any,
        handlers: Mapping[str, Callable[..., Coroutine[Any, Any, Any]]],
        *,
        owner: str,
        submit: Submit,
        on_failed: Callable[[], None],
    ) -> None:
        self.name = ""
        self._layer = layer
        self._handlers = handlers
        self._owner = owner
        self._submit = submit
        self._on_failed = on_failed
        self._reader: asyncio.Task[None] | None = None

    async def open(self, node: Node) -> None:
        """Get a name from the layer and begin to read. Raises BackplaneUnavailable."""
        self.name = await ask("open a channel", self._layer.new_channel())
        self._reader = node.spawn(self._read())

    async def close(self) -> None:
        """End the reader, without taking a message that another consumer waits for."""
        if self._reader is None:
            return
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._layer.send(self.name, {"type": STOP})
                await asyncio.shield(self._reader)
        except Exception:
            self._reader.cancel()

    async def _read(self) -> None:
        while True:
            try:
                message = await self._layer.receive(self.name)
            except Exception as error:
                counters.count("channel_errors", "the channel of a consumer failed: %r", error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            kind = message.get("type")
            if kind == STOP:
                return
            handler = self._handlers.get(kind)
            if handler is None:
                counters.count(
                    "layer_messages_unknown", "%s has no @on_layer method for messages of type %r", self._owner, kind
                )
                continue
            done = asyncio.Event()
            if self._submit(functools.partial(self._handle, handler, message, done)):
                # One at a time: what follows waits in the layer, with the layer's own limits.
                await done.wait()

    async def _handle(
        self, handler: Callable[..., Coroutine[Any, Any, Any]], message: dict[str, Any], done: asyncio.Event
    ) -> None:
        try:
            await handler(message)
        except Exception:
            counters.count("handlers_failed")
            logger.exception("%s failed to handle a layer message of type %r", self._owner, message.get("type"))
            self._on_failed()
        finally:
            done.set()
