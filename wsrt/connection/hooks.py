"""The hooks of a consumer, as its connection sees them, and the call of a hook or handler."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from asgiref.sync import iscoroutinefunction
from pydantic import BaseModel

from ..close_codes import Closed
from ..handlers import Handler
from ..protocol.catalog import Catalog
from ..protocol.events import Event
from ..types import Scope
from .db import database_care
from .room_patterns import RoomPattern
from .threads import run_in_thread


class Hooks(Protocol):
    """A consumer as its connection sees it. Hooks may be ``def`` or ``async def``, see call()."""

    scope: Scope

    # The attributes of the class.
    @property
    def namespace(self) -> str: ...
    @property
    def catalog(self) -> Catalog: ...
    @property
    def handlers(self) -> Mapping[type[Event], Handler]: ...
    @property
    def unmarked_handlers(self) -> Mapping[str, str]: ...
    @property
    def layer_handlers(self) -> Mapping[str, Callable[..., Any]]: ...
    @property
    def subprotocols(self) -> Iterable[str]: ...
    @property
    def presence(self) -> bool | type[BaseModel]: ...
    @property
    def requires_ticket(self) -> bool: ...
    @property
    def room_patterns(self) -> Sequence[RoomPattern]: ...
    @property
    def check_origin(self) -> bool: ...
    @property
    def revalidate(self) -> float | None: ...
    @property
    def overridden_hooks(self) -> frozenset[str]: ...

    # The hooks that the application may override.
    def authenticate(self, event: Any, /) -> Any: ...
    def tenant(self) -> Any: ...
    def authorize(self) -> Any: ...
    def expires_at(self) -> Any: ...
    def identity(self) -> Any: ...
    def reload_user(self) -> Any: ...
    def authorize_room(self, room: str, /) -> Any: ...
    def refusal_for(self, error: Exception, /) -> Exception | None: ...
    def on_connect(self) -> Any: ...
    def on_disconnect(self, closed: Closed, /) -> Any: ...
    def on_removed(self, room: str, /) -> Any: ...
    def room_presence(self, room: str, /) -> Any: ...
    def member(self, room: str, /) -> Any: ...
    def on_presence_join(self, user: str | None, room: str, /) -> Any: ...
    def on_presence_leave(self, user: str | None, room: str, /) -> Any: ...


async def call(function: Callable[..., Any], *args: Any) -> Any:
    """
    Call a hook or handler: an ``async def`` in this task, a ``def`` in a thread.

    Raises anything that the function raises. A cancellation of this task reaches an ``async def`` at its ``await``; a
    thread can't be interrupted and runs to its end.
    """
    try:
        if iscoroutinefunction(function):
            return await function(*args)
        result = await run_in_thread(function, *args)
        # A decorator may hide that a hook is async. Its coroutine is truthy: without this await, it would count as
        # True.
        return await result if inspect.isawaitable(result) else result
    except Exception:
        # The exception may be due to a broken database connection.
        database_care.mark()
        raise


async def allows(hook: Callable[..., Any], *args: Any) -> bool:
    """
    Call a hook that gives permission, such as ``authorize``, and return whether it does. See call().

    Raises:
        TypeError: It returned None. That is a forgotten ``return``, which must neither allow nor silently refuse.
    """
    answer = await call(hook, *args)
    if answer is None:
        name = getattr(hook, "__name__", "the hook")
        raise TypeError(f"{name}() returned None: return True to allow access, False to refuse it")
    return bool(answer)
