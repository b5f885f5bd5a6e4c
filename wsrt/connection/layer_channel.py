"""The channel that one connection has in the channel layer, for messages that other code sends to it."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from ..cluster.layers import ask
from ..cluster.node import Node
from ..metrics import counters
from .dispatcher import Submit

STOP = "wsrt.stop"
"""The type of the message that ends the reader. Cancelling a receive could lose another consumer's message."""

STOP_SECONDS = 1.0
"""How long the reader may take to receive it."""

RETRY_SECONDS = 1.0
"""The pause after an error of the channel layer."""

logger = logging.getLogger("wsrt")


class LayerChannel:
    """
    The channel of one connection, and its reader.

    Args:
        layer: The channel layer of Channels, shared with the rest of the process.
        handlers: The handlers by message type. Messages of other types are counted and dropped. The type is never
            looked up as a method name.
        owner: The name of the consumer, for the log.
        submit: Runs a handler in its turn, see Submit.
        on_failed: Called when a handler raised. It must close the connection.

    Attributes:
        name: The name of the channel. Empty until open() returns.
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
        """Get a channel from the layer and start the reader. Raises BackplaneUnavailable."""
        self.name = await ask("open a channel", self._layer.new_channel())
        self._reader = node.spawn(self._read())

    async def close(self) -> None:
        """End the reader. Does not raise."""
        if self._reader is None:
            return
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._layer.send(self.name, {"type": STOP})
                await asyncio.shield(self._reader)
        except Exception:
            # The layer is down or slow. Without an answer from it, cancelling is the only way left.
            self._reader.cancel()

    async def _read(self) -> None:
        while True:
            try:
                # Raises anything that the layer raises, for example when Redis restarts.
                message = await self._layer.receive(self.name)
            except Exception as error:
                counters.count(
                    "channel_errors", "failed to receive from the channel of a connection, retrying: %r", error
                )
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
                # One message at a time. The following ones wait in the channel layer, within its own limits. A handler
                # that is dropped, because the connection was closed, never sets this; close() then cancels the reader.
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
