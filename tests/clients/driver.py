"""The driver of the Python client: see DRIVER.md. The runtime is loaded as generated code has it, without wsrt."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any

from pydantic import BaseModel, RootModel

RUNTIME = Path(__file__).resolve().parents[2] / "wsrt/clients/runtime/python"


def load_runtime() -> types.ModuleType:
    """Import the runtime as a package of its own."""
    spec = importlib.util.spec_from_file_location(
        "client_runtime", RUNTIME / "__init__.py", submodule_search_locations=[str(RUNTIME)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["client_runtime"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


runtime = load_runtime()


class Anything(runtime.Incoming, RootModel[Any]):  # type: ignore[misc]
    """Whatever an event holds."""


class Replies(dict[str, type[BaseModel]]):
    """Every event may answer."""

    def get(self, key: Any, default: Any = None) -> Any:
        return Anything


@functools.cache
def model_of(event: str) -> Any:
    """Return a model that an event of any data is sent with."""
    model = types.new_class(f"Outgoing_{event}", (RootModel[Any], runtime.Outgoing))
    DriverClient.sends[model] = runtime.Sends(event, Replies())
    return model


class DriverClient(runtime.Client):  # type: ignore[misc]
    """A client of no consumer in particular."""

    sends: dict[Any, Any] = {}


NAMES = {
    "RequestTimeout": "TimeoutError",
    "ConnectionLost": "ConnectionError",
    "Disconnected": "ConnectionError",
    "QueueFull": "QueueFullError",
    "QueueExpired": "QueueExpiredError",
    "PayloadTooLarge": "PayloadTooLargeError",
}

TIMINGS = {
    "base_ms": "base",
    "cap_ms": "cap",
    "min_ms": "minimum",
    "jump_ms": "jump",
    "later_ms": "later",
    "spread_ms": "spread",
    "stable_ms": "stable",
    "connect_timeout_ms": "connect",
    "hello_timeout_ms": "hello",
    "dead_after_ms": "dead_after",
    "idle_ms": "idle",
    "probe_ms": "probe",
    "renew_ms": "renew",
}


def say(kind: str, **values: Any) -> None:
    sys.stdout.write(json.dumps({"kind": kind, **values}) + "\n")
    sys.stdout.flush()


def type_of(error: BaseException) -> str:
    name = type(error).__name__
    return NAMES.get(name, name)


def say_error(error: BaseException) -> None:
    say("error", type=type_of(error), message=str(error))


class Driver:
    """One client, and the commands to it."""

    def __init__(self) -> None:
        self.client: Any = None
        self.tokens: asyncio.Queue[str | None] = asyncio.Queue()
        self.tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        say("ready")
        loop = asyncio.get_running_loop()
        lines = asyncio.StreamReader()
        stdin, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        try:
            while line := await lines.readline():
                try:
                    command = json.loads(line)
                    if command["op"] == "exit":
                        return
                    self.do(command)
                except Exception as error:
                    say_error(error)
        finally:
            if self.client is not None:
                await self.client.close()
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)
            stdin.close()
            # Whatever is left over is a leak of the client's.
            left = asyncio.all_tasks() - {asyncio.current_task()}
            if left:
                say("error", type="LeakedTasks", message=repr(left))

    def do(self, command: dict[str, Any]) -> None:
        match command["op"]:
            case "connect":
                if "url" in command:
                    self.client = self.make(command["url"], command.get("options", {}))
                self.spawn(self.connect())
            case "send":
                self.spawn(self.send(command))
            case "request":
                self.spawn(self.request(command))
            case "close":
                self.spawn(self.client.close())
            case "token":
                self.tokens.put_nowait(command["value"])
            case "rooms":
                rooms = self.client.rooms.items()
                say("rooms", rooms={n: {"joined": r.joined, "epoch": r.epoch, "offset": r.offset} for n, r in rooms})
            case "page" as op:
                say("unsupported", op=op)
            case op:
                raise ValueError(f"no such op: {op}")

    def spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def make(self, url: str, options: dict[str, Any]) -> Any:
        seconds = {name: options[key] / 1000 for key, name in TIMINGS.items() if key in options}
        limits: dict[str, Any] = {
            key: options[key] for key in ("queue_items", "queue_bytes", "buffer_bytes") if key in options
        }
        if "queue_age_ms" in options:
            limits["queue_age"] = options["queue_age_ms"] / 1000
        if "request_timeout_ms" in options:
            limits["request_timeout"] = options["request_timeout_ms"] / 1000
        more: dict[str, Any] = {}
        if "random" in options:
            more["random"] = lambda: options["random"]
        kind = type("ChatClient", (DriverClient,), {k: options.get(k) for k in ("schema_hash", "login_event")})
        client = kind(
            url,
            token=options.get("token"),
            get_token=self.get_token if options.get("get_token") else None,
            ticket_url=options.get("ticket_url"),
            ticket_headers=lambda: options.get("ticket_headers", {}),
            bearer=options.get("bearer", "subprotocol"),
            subprotocols=options.get("protocols", []),
            timings=runtime.Timings(**seconds),
            limits=runtime.Limits(**limits),
            on_error=say_error,
            history=runtime.history_from(options["history_url"]) if "history_url" in options else None,
            **more,
        )
        for room, position in options.get("positions", {}).items():
            client.set_position(room, runtime.Position(*position))
        client.on_state(self.on_state)
        client.on_retry(lambda attempt, delay: say("dial", attempt=attempt, delay_ms=delay * 1000))
        client.on_any(lambda at, data: say("event", data=data, **dataclasses.asdict(at)))
        client.on_recovered(lambda recovery: say("recovered", **dataclasses.asdict(recovery)))
        client.on_forgotten(lambda forgotten: say("forgotten", **dataclasses.asdict(forgotten)))
        client.on_room(self.on_room)
        return client

    async def connect(self) -> None:
        with contextlib.suppress(runtime.Disconnected):  # the state says so
            await self.client.connect()

    async def get_token(self) -> str:
        say("token")
        value = await self.tokens.get()
        if value is None:
            raise runtime.Unauthorized("no user is signed in")
        return value

    def on_state(self, status: Any) -> None:
        reason = None
        if status.reason is not None:
            reason = {"kind": status.reason.kind, "code": status.reason.code, "text": status.reason.text}
        say("state", state=status.state.value, reason=reason, outdated=status.outdated)

    def on_room(self, change: Any) -> None:
        room = self.client.rooms.get(change.room)
        if change.kind == "presence":
            members = None
            if room.members is not None:
                members = [
                    {"user_id": each.user_id, "connections": each.connections, "data": each.data}
                    for each in sorted(room.members.values(), key=lambda each: (each.user_id is not None, each.user_id))
                ]
            say("presence", room=change.room, members=members, count=room.count)
            return
        say(
            "room",
            room=change.room,
            joined=change.kind == "joined",
            recovered=change.recovered,
            reason=change.why,
            values_missing=change.values_missing,
            epoch=room and room.epoch,
            offset=room and room.offset,
        )

    async def send(self, command: dict[str, Any]) -> None:
        options = command.get("options", {})
        event = model_of(command["event"])(command.get("data", {}))
        try:
            result = await self.client.send(event, queue=options.get("queue", False), volatile=options.get("volatile"))
        except runtime.ClientError as error:
            say_error(error)
            return
        say("sent", event=command["event"], result=result)

    async def request(self, command: dict[str, Any]) -> None:
        options = command.get("options", {})
        event = model_of(command["event"])(command.get("data", {}))
        timeout = options["timeout_ms"] / 1000 if "timeout_ms" in options else None
        try:
            reply = await self.client.request(event, timeout=timeout, queue=options.get("queue", False))
        except runtime.ClientError as error:
            code = getattr(error, "code", None)
            message = getattr(error, "message", str(error))
            say("reply", id=command["id"], error={"type": type_of(error), "code": code, "message": message})
            return
        say("reply", id=command["id"], data=None if reply is None else reply.root)


if __name__ == "__main__":
    asyncio.run(Driver().run())
