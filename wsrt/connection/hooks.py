"""Hooks: what a connection asks of its consumer, and how hooks and handlers are called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from asgiref.sync import iscoroutinefunction
from pydantic import BaseModel

from ..close_codes import Closed
from ..handlers import Handler
from ..protocol.catalog import Catalog
from ..protocol.events import Event
from ..types import Scope
from .db import database_care
from .threads import run_in_thread


class Hooks(Protocol):
    """A consumer, as its connection sees it. Hooks may be ``def`` or ``async def``: see call()."""

    scope: Scope

    # What the class declares.
    @property
    def namespace(self) -> str: ...
    @property
    def catalog(self) -> Catalog: ...
    @property
    def handlers(self) -> Mapping[type[Event], Handler]: ...
    @property
    def layer_handlers(self) -> Mapping[str, Callable[..., Any]]: ...
    @property
    def subprotocols(self) -> Iterable[str]: ...
    @property
    def presence(self) -> bool | type[BaseModel]: ...
    @property
    def check_origin(self) -> bool: ...
    @property
    def channel_layer(self) -> Any: ...
    @property
    def overridden_hooks(self) -> frozenset[str]: ...

    # What the application overrides.
    def tenant(self) -> Any: ...
    def authorize(self) -> Any: ...
    def identity(self) -> Any: ...
    def reload_user(self) -> Any: ...
    def authorize_room(self, room: str, /) -> Any: ...
    def refusal_for(self, error: Exception, /) -> Exception | None: ...
    def on_connect(self) -> Any: ...
    def on_disconnect(self, closed: Closed, /) -> Any: ...
    def on_removed(self, room: str, /) -> Any: ...
    def member(self, room: str, /) -> Any: ...
    def on_presence_join(self, user: str | None, room: str, /) -> Any: ...
    def on_presence_leave(self, user: str | None, room: str, /) -> Any: ...


async def call(function: Callable[..., Any], *args: Any) -> Any:
    """Call a hook or handler: an ``async def`` one in this task, a ``def`` one in a thread."""
    try:
        if iscoroutinefunction(function):
            return await function(*args)
        result = await run_in_thread(function, *args)
        # A decorator may hide that a hook is async. Its coroutine is truthy: unawaited, it would pass for a yes.
        return await result if inspect.isawaitable(result) else result
    except Exception:
        database_care.mark()
        raise
