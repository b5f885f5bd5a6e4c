"""Commands to Redis: a time limit for each round trip, and errors as StoreUnavailable."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import importlib.resources
import itertools
import math
from collections.abc import AsyncIterator, Callable, Container, Iterable, Iterator, Sequence
from typing import Any

from redis.exceptions import (
    DataError,
    MasterDownError,
    NoScriptError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
)

from ...exceptions import StoreUnavailable
from ..batches import batches
from . import stream, target
from .packing import pack
from .target import RedisTarget

CONNECTIONS = 16
"""The maximum number of connections to Redis. Callers wait while all of them are in use."""

FIELDS = 250
"""The maximum number of fields that one command reads."""

BULK = 1000
"""The maximum number of names that one command scans, and of commands in a pipeline."""


@dataclasses.dataclass(frozen=True, slots=True)
class Script:
    """
    A Lua script.

    Attributes:
        name: The name of its file.
        text: The source code.
        sha: The SHA-1 digest by which Redis identifies it.
    """

    name: str
    text: str
    sha: str


Call = tuple[Sequence[str], Sequence[Any]]
"""The keys and arguments of a call of a script."""


class Calls(Sequence[Call]):
    """
    Calls that are made when they are sent, while Redis executes earlier ones.

    Args:
        count: The number of calls.
        call: Returns the call with a number.
    """

    def __init__(self, count: int, call: Callable[[int], Call]) -> None:
        self._count = count
        self._call = call

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Call]:
        return map(self._call, range(self._count))

    def __getitem__(self, number: Any) -> Any:
        return self._call(number)


def load_script(package: str, *names: str) -> Script:
    """Return a script that consists of several files in the folder ``lua`` of a package. It has the last one's name."""
    folder = importlib.resources.files(package) / "lua"
    text = "\n".join((folder / f"{name}.lua").read_text("utf-8") for name in names)
    return Script(names[-1], text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


class RedisLink:
    """
    The connections of one event loop to Redis.

    Args:
        target: The location of Redis.
        timeout: The number of seconds that a round trip may take, including connecting and waiting for a connection.
        retries: How often a command is sent again if the connection breaks; 0 if commands aren't idempotent.
    """

    def __init__(self, target: RedisTarget, timeout: float, retries: int = 1) -> None:
        self._target = target
        self._timeout = timeout
        self._retries = retries
        # Created at first use, in the loop that uses it.
        self._opened_client: Any = None
        self._free = asyncio.Semaphore(CONNECTIONS)

    @property
    def _client(self) -> Any:
        if self._opened_client is None:
            self._opened_client = self._target.connect(retries=self._retries)
        return self._opened_client

    async def close(self) -> None:
        """Close the connections. The next command opens a new one."""
        client, self._opened_client = self._opened_client, None
        if client is not None:
            await target.close(client)

    @contextlib.asynccontextmanager
    async def _round_trip(self, *, trips: int = 1) -> AsyncIterator[Any]:
        """
        Yield the client for one round trip.

        Args:
            trips: How many times the time limit it may take, because many commands are sent.

        Raises:
            DataError: redis-py rejected an argument. Nothing was sent.
            StoreUnavailable: Redis didn't answer in time, or answered with an error. The command may have been
                executed.
        """
        try:
            async with asyncio.timeout(trips * self._timeout), self._free:
                yield self._client
        except DataError:
            raise  # redis-py rejected an argument before it sent anything: a bug of ours
        except ResponseError as error:
            # If a script is refused, Redis 6 wraps the error in one of its own.
            if isinstance(error, ReadOnlyError | MasterDownError) or "-READONLY" in str(error):
                await self._drop_connections()
            raise StoreUnavailable(f"Redis refused a command: {type(error).__name__}: {error}") from error
        except (RedisError, RedisClusterException, OSError) as error:
            raise StoreUnavailable(f"Redis did not answer: {type(error).__name__}: {error}") from error

    async def _drop_connections(self) -> None:
        """
        Close the idle connections, which lead to a server that has become a replica.

        The next command resolves the address again. Connections in use are closed here when their own command is
        refused. A cluster's client has no such pool; it follows redirections instead.
        """
        pool = getattr(self._opened_client, "connection_pool", None)
        if pool is not None:
            await pool.disconnect(inuse_connections=False)

    async def _execute(self, *command: Any) -> Any:
        async with self._round_trip() as client:
            return await client.execute_command(*command)

    async def _execute_all(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Execute commands in one round trip, or one for each BULK of them. Return their results in order."""
        if len(commands) == 1:
            return [await self._execute(*commands[0])]
        answers: list[Any] = []
        for batch in batches(commands, BULK):
            async with self._round_trip() as client:
                pipeline = client.pipeline(transaction=False)
                for command in batch:
                    pipeline.execute_command(*command)
                answers += await pipeline.execute()
        return answers

    async def _execute_each(self, commands: Sequence[tuple[Any, ...]], accept: Callable[[Any], bool]) -> list[Any]:
        """
        Execute commands in order, in one round trip. Return their results.

        Args:
            commands: The commands.
            accept: Whether a ResponseError is returned in place of a result. It raises StoreUnavailable otherwise.
        """
        async with self._round_trip() as client:
            if len(commands) == 1:
                try:
                    return [await client.execute_command(*commands[0])]
                except ResponseError as error:
                    answers: list[Any] = [error]
            else:
                answers = await self._pipeline(client, commands)
            for answer in answers:
                if isinstance(answer, Exception) and not (isinstance(answer, ResponseError) and accept(answer)):
                    raise answer
        return answers

    async def _fields(self, key: str, fields: Sequence[str]) -> list[str | None]:
        found = await self._execute_all([("HMGET", key, *batch) for batch in batches(fields, FIELDS)])
        return list(itertools.chain.from_iterable(found))

    async def _scan(self, key: str) -> AsyncIterator[dict[str, str]]:
        """Yield a hash in pages. A field that stays in the hash is on at least one of them."""
        cursor = None
        while cursor != 0:
            cursor, page = await self._execute("HSCAN", key, cursor or 0, "COUNT", BULK)
            yield page

    async def _run(self, script: Script, keys: Sequence[str], arguments: Sequence[Any] = ()) -> Any:
        async with self._round_trip() as client:
            try:
                return await client.execute_command("EVALSHA", script.sha, len(keys), *keys, *arguments)
            except NoScriptError:
                return await client.execute_command("EVAL", script.text, len(keys), *keys, *arguments)

    async def _run_all(self, script: Script, calls: Sequence[Call], *, in_order: bool = False) -> list[Any]:
        """
        Run a script several times. Return the results in order.

        In a cluster, each BULK of calls is one round trip. Otherwise all of them are, and the next calls are sent while
        results are read.

        Args:
            script: The script.
            calls: The keys and arguments of each call.
            in_order: Whether calls with keys in one hash slot are executed in order.
        """
        if not calls:
            return []
        if len(calls) == 1:
            return [await self._run(script, *calls[0])]
        if not self._target.is_cluster:
            return await self._run_batch(script, calls, range(1) if in_order else ())
        answers: list[Any] = []
        for batch in batches(list(calls), BULK):
            answers += await self._run_batch(script, batch, _firsts(batch) if in_order else ())
        return answers

    async def _run_stream(
        self, script: Script, calls: Iterable[Call], on_answer: Callable[[Any], None], *, trips: int
    ) -> None:
        """
        Run a script several times, in order, on one server.

        Args:
            script: The script.
            calls: The keys and arguments of each call. They are taken as they are sent, while Redis executes earlier
                ones.
            on_answer: Called with the result of each call as soon as it arrives.
            trips: How many times the time limit it may take.
        """

        def take(answer: Any) -> None:
            if isinstance(answer, Exception):
                raise answer
            on_answer(answer)

        # The first call has the text of the script, which the server then knows.
        begins = itertools.chain([("EVAL", script.text)], itertools.repeat(("EVALSHA", script.sha)))
        packed = (
            pack(*begin, len(keys), *keys, *arguments) for begin, (keys, arguments) in zip(begins, calls, strict=False)
        )
        async with self._round_trip(trips=trips) as client:
            await stream.execute(client, packed, take, seconds=self._timeout)

    async def _run_batch(self, script: Script, calls: Sequence[Call], in_full: Container[int]) -> list[Any]:
        # If a server doesn't know the script, a call with the digest alone isn't executed and has to be repeated, when
        # later ones may have been executed. So where the order counts, the first call has the text.
        async with self._round_trip(trips=math.ceil(len(calls) / BULK)) as client:
            answers = await self._pipeline(client, _commands(script, calls, in_full))
            missing = [number for number, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
            if missing:
                again = [calls[number] for number in missing]
                # In a cluster, each of them may reach another server.
                in_full = range(len(again) if self._target.is_cluster else 1)
                repeated = await self._pipeline(client, _commands(script, again, in_full))
                for number, answer in zip(missing, repeated, strict=True):
                    answers[number] = answer
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
        return answers

    async def _pipeline(self, client: Any, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
        """Send commands together. Return results and errors."""
        if not self._target.is_cluster:
            results: list[Any] = []
            packed = (pack(*command) for command in commands)
            await stream.execute(client, packed, results.append, seconds=self._timeout)
            return results
        pipeline = client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers


def _commands(script: Script, calls: Sequence[Call], in_full: Container[int]) -> Iterator[tuple[Any, ...]]:
    """Yield the commands that call a script; those whose numbers are in ``in_full`` have its text."""
    for number, (keys, arguments) in enumerate(calls):
        begin = ("EVAL", script.text) if number in in_full else ("EVALSHA", script.sha)
        yield *begin, len(keys), *keys, *arguments


def _firsts(calls: Sequence[Call]) -> Container[int]:
    """Return the number of the first call of each hash slot to which several calls go."""
    firsts: dict[str, int] = {}
    repeated: set[int] = set()
    for number, (keys, _) in enumerate(calls):
        # All keys of a call have the same hash tag.
        first = firsts.setdefault(keys[0].partition("}")[0], number)
        if first != number:
            repeated.add(first)
    return repeated


def tuples(flat: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Yield the tuples of a list that a script has returned flat."""
    for start in range(0, len(flat), size):
        yield flat[start : start + size]
