"""The renewal of the token over the open connection, before it expires."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from .credentials import Credentials, within
from .errors import ClientError, RequestError, RequestTimeout, Unauthorized
from .frame import Frame
from .listeners import Report
from .options import Timings

TEMPORARY = frozenset({"rate_limited", "unavailable"})
"""The codes of errors that say nothing about the token."""


class Renewal:
    """
    Requests another token before the present one expires, and sends it to the server.

    If it fails, the server closes the connection with 4401 when the token expires, and the client reconnects.

    Args:
        credentials: The token, and the function that provides it.
        request: Sends a token to the server, and returns the answer.
        timings: The time limits, in seconds.
        report: Receives errors.
        random: Returns a number from 0 to 1.
    """

    def __init__(
        self,
        credentials: Credentials,
        request: Callable[[str], Coroutine[Any, Any, Frame]],
        timings: Timings,
        report: Report,
        random: Callable[[], float],
    ) -> None:
        self._credentials = credentials
        self._request = request
        self._timings = timings
        self._report = report
        self._random = random

    async def run(self, expires_in: float) -> None:
        """
        Renew the token again and again, while the connection lasts and tokens expire.

        Args:
            expires_in: The seconds until the present token expires.

        Raises:
            Unauthorized: ``get_token`` says that the user isn't signed in any more.
        """
        left: Any = expires_in
        while isinstance(left, int | float):
            # Spread over a window, so that clients whose tokens were made together don't renew them together.
            margin = min(self._timings.renew, left / 4)
            await asyncio.sleep(max(self._timings.minimum, left - margin * (1 + self._random())))
            left = await self._renew()

    async def _renew(self) -> Any:
        """Renew the token once; return the seconds until the new one expires, or None if the server refuses it."""
        while True:
            try:
                token = await within(self._timings.connect, self._credentials.renew)
                answer = await self._request(token or "")
                return answer.data["expires_in"]
            except Unauthorized:
                raise
            except RequestError as error:
                self._report(error)
                if error.code not in TEMPORARY:
                    self._credentials.expire()
                    return None
            except RequestTimeout as error:
                self._report(error)
            except ClientError:
                # The connection ended. Its task is about to end this one.
                return None
            except Exception as error:
                self._report(error)
            await asyncio.sleep(self._timings.later * (1 + self._random()))
