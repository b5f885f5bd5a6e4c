"""How Redis is asked: a limit for the time of each round trip, and what goes wrong as StoreUnavailable."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import importlib.resources
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from redis.exceptions import (
    DataError,
    MasterDownError,
    NoScriptError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
)

from ..base import StoreUnavailable
from ..helpers import batches
from . import target
from .target import RedisTarget

T = TypeVar("T")

CONNECTIONS = 16
"""Connections to Redis; callers that find all of them busy wait."""

FIELDS = 250
"""Fields whose values a command reads."""

BULK = 1000
"""Names that a command looks through, and commands a pipeline."""


@dataclasses.dataclass(frozen=True, slots=True)
class Script:
    """A script, its name, and that under which Redis keeps it."""

    name: str
    text: str
    sha: str


def _script(*names: str) -> Script:
    """Return the script that some files make, one after the other; it is named after the last one."""
    folder = importlib.resources.files(__package__) / "lua"
    text = "\n".join((folder / f"{name}.lua").read_text("utf-8") for name in names)
    return Script(names[-1], text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


APPLY = _script("room", "apply")
PURGE = _script("room", "purge")
BEAT, INDEX, CLAIM, NODES = map(_script, ("beat", "index", "claim", "nodes"))
SNAPSHOT, ROOMS, FIND = map(_script, ("snapshot", "rooms", "find"))

SCRIPTS = (APPLY, PURGE, BEAT, INDEX, CLAIM, NODES, SNAPSHOT, ROOMS, FIND)
"""All of them."""


class RedisLink:
    """
    The commands of one event loop to one Redis.

    Args:
        timeout: seconds that an answer may take, connecting included.
    """

    def __init__(self, target: RedisTarget, timeout: float) -> None:
        self._target = target
        self._timeout = timeout
        # Made at first use, in the loop that uses it.
        self._known_client: Any = None
        self._free = asyncio.Semaphore(CONNECTIONS)

    @property
    def _client(self) -> Any:
        if self._known_client is None:
            self._known_client = self._target.connect()
        return self._known_client

    async def close(self) -> None:
        """Close the connections; the next command opens one again."""
        client, self._known_client = self._known_client, None
        if client is not None:
            await target.close(client)

    @contextlib.asynccontextmanager
    async def _answer(self) -> AsyncIterator[Any]:
        """Yield the client, for one round trip; what goes wrong is StoreUnavailable."""
        try:
            async with asyncio.timeout(self._timeout), self._free:
                yield self._client
        except DataError:
            raise  # Redis has not been asked: this can't be a command
        except ResponseError as error:
            # A script of Redis 6 wraps the refusal in an error of its own.
            if isinstance(error, ReadOnlyError | MasterDownError) or "-READONLY" in str(error):
                await self._let_connections_go()
            raise StoreUnavailable(f"Redis refused a command: {type(error).__name__}: {error}") from error
        except (RedisError, RedisClusterException, OSError) as error:
            raise StoreUnavailable(f"Redis did not answer: {type(error).__name__}: {error}") from error

    async def _let_connections_go(self) -> None:
        """
        Close the idle connections: they lead to a server that has become a replica.

        The next command resolves the address again. Connections in use are closed here when they are refused in turn.
        A client of a cluster follows redirections instead.
        """
        pool = getattr(self._known_client, "connection_pool", None)
        if pool is not None:
            await pool.disconnect(inuse_connections=False)

    async def _ask(self, *command: Any) -> Any:
        async with self._answer() as client:
            return await client.execute_command(*command)

    async def _ask_all(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Ask in one round trip, or one for each thousand."""
        if len(commands) == 1:
            return [await self._ask(*commands[0])]
        answers: list[Any] = []
        for batch in batches(commands, BULK):
            async with self._answer() as client:
                pipeline = client.pipeline(transaction=False)
                for command in batch:
                    pipeline.execute_command(*command)
                answers += await pipeline.execute()
        return answers

    async def _fields(self, key: str, fields: Sequence[str]) -> list[str | None]:
        found = await self._ask_all([("HMGET", key, *batch) for batch in batches(fields, FIELDS)])
        return list(itertools.chain.from_iterable(found))

    async def _scan(self, key: str) -> AsyncIterator[dict[str, str]]:
        """Yield a hash in pages; what stays is in one of them at least."""
        cursor = None
        while cursor != 0:
            cursor, page = await self._ask("HSCAN", key, cursor or 0, "COUNT", BULK)
            yield page

    async def _run(self, script: Script, keys: Sequence[str], arguments: Sequence[Any] = ()) -> Any:
        async with self._answer() as client:
            try:
                return await client.execute_command("EVALSHA", script.sha, len(keys), *keys, *arguments)
            except NoScriptError:
                return await client.execute_command("EVAL", script.text, len(keys), *keys, *arguments)


def tuples(flat: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Yield what a script returns as one list, in tuples."""
    for start in range(0, len(flat), size):
        yield flat[start : start + size]


def by_part(items: Iterable[T], part_of: Callable[[T], int]) -> dict[int, list[T]]:
    """Return items by the partition that they are of, in their order."""
    parts: dict[int, list[T]] = {}
    for item in items:
        parts.setdefault(part_of(item), []).append(item)
    return parts
