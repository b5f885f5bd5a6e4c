"""Transports of the running loop that a helper must not leave open."""

from __future__ import annotations

import asyncio
from typing import Any


async def close_accepted(port: int) -> None:
    """
    Close the connections that this process has accepted on a port.

    Closing a server is not enough: a connection that is just being accepted has no handler yet that would close it.
    On a busy machine it would stay open until the garbage collector warns of it, in another test.
    """
    loop: Any = asyncio.get_running_loop()
    for transport in list(loop._transports.values()):
        if (transport.get_extra_info("sockname") or ("", 0))[1] == port:
            transport.abort()
    # The sockets are closed in the next turn of the loop.
    await asyncio.sleep(0)
    await asyncio.sleep(0)
