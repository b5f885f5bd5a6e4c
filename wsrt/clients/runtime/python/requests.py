"""The requests that wait for an answer."""

from __future__ import annotations

import asyncio
import itertools
import secrets

from .errors import RequestError
from .frame import Frame


class Requests:
    """
    Pending requests, by their ``ref``.

    Refs are unique across all connections of a client and across clients, so that an answer never completes another
    request.
    """

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(6)
        self._numbers = itertools.count(1)
        self._pending: dict[str, asyncio.Future[Frame]] = {}
        # The requests that were written to the current connection. Only it can deliver their answers.
        self._sent: set[str] = set()

    def __len__(self) -> int:
        return len(self._pending)

    def open(self) -> tuple[str, asyncio.Future[Frame]]:
        """Return the ref of a new request and a future for its answer. Call ``forget()`` when done."""
        ref = f"{self._prefix}-{next(self._numbers)}"
        future = self._pending[ref] = asyncio.get_running_loop().create_future()
        return ref, future

    def forget(self, ref: str) -> None:
        """Remove a request. A later answer is ignored."""
        self._sent.discard(ref)
        future = self._pending.pop(ref, None)
        if future is not None and not future.cancel() and not future.cancelled():
            future.exception()  # mark it as retrieved, so that asyncio doesn't log it

    def answer(self, frame: Frame) -> None:
        """Complete the request that a frame answers."""
        future = self._pending.get(frame.ref) if isinstance(frame.ref, str) else None
        if future is None or future.done():
            return
        if frame.event == "wsrt.error":
            future.set_exception(RequestError.of(frame.data))
        else:
            future.set_result(frame)

    def fail(self, ref: str, error: Exception) -> None:
        """Fail one request."""
        future = self._pending.get(ref)
        if future is not None and not future.done():
            future.set_exception(error)

    def note_sent(self, ref: str) -> None:
        """Record that a request was written to the socket."""
        self._sent.add(ref)

    def fail_sent(self, error: Exception) -> None:
        """Fail every request that was sent. Its connection is lost, and the answer with it."""
        for ref in list(self._sent):
            self.fail(ref, error)
        self._sent.clear()
