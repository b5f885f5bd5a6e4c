"""python-socketio with one room, as benchmarks.applications.kept. Its server keeps no messages for absent clients."""

from __future__ import annotations

import os
from typing import Any

import socketio

redis = socketio.AsyncRedisManager(os.environ["BENCHMARK_REDIS"])
server = socketio.AsyncServer(async_mode="asgi", client_manager=redis, ping_interval=3600)
application = socketio.ASGIApp(server)


@server.event  # type: ignore[untyped-decorator]
async def connect(sid: str, environ: dict[str, Any], auth: Any) -> None:
    await server.enter_room(sid, "all")


@server.event  # type: ignore[untyped-decorator]
async def number(sid: str, data: dict[str, Any]) -> None:
    await server.emit("numbered", data, room="all")
