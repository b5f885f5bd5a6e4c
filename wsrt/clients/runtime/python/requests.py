"""Requests that wait for their answer."""

from __future__ import annotations

import asyncio
import itertools
import secrets

from .errors import RequestError
from .frame import Frame


class Requests:
    """
    Open requests by their ref.

    Refs are unique over all connections of a client, and over clients: an answer meets its own request or none.
    """

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(6)
        self._numbers = itertools.count(1)
        self._pending: dict[str, asyncio.Future[Frame]] = {}
        # Those whose answer can only come over the current connection.
        self._sent: set[str] = set()

    def __len__(self) -> int:
        return len(self._pending)

    def open(self) -> tuple[str, asyncio.Future[Frame]]:
        """Return the ref of a new request, and its answer; call ``forget()`` in the end."""
        ref = f"{self._prefix}-{next(self._numbers)}"
        future = self._pending[ref] = asyncio.get_running_loop().create_future()
        return ref, future

    def forget(self, ref: str) -> None:
        """Take a request out; an answer that comes yet is ignored."""
        self._sent.discard(ref)
        future = self._pending.pop(ref, None)
        if future is not None and not future.cancel() and not future.cancelled():
            future.exception()  # was retrieved, or nobody waits for it any more

    def answer(self, frame: Frame) -> None:
        """Hand an answer to its request."""
        future = self._pending.get(frame.ref) if isinstance(frame.ref, str) else None
        if future is None or future.done():
            return
        if frame.event == "wsrt.error":
            future.set_exception(RequestError.of(frame.data))
        else:
            future.set_result(frame)

    def fail(self, ref: str, error: Exception) -> None:
        """End one request with an error."""
        future = self._pending.get(ref)
        if future is not None and not future.done():
            future.set_exception(error)

    def note_sent(self, ref: str) -> None:
        """Note that a request is handed to the socket."""
        self._sent.add(ref)

    def fail_sent(self, error: Exception) -> None:
        """End every request that was sent: its answer went to a connection that is gone."""
        for ref in list(self._sent):
            self.fail(ref, error)
        self._sent.clear()
