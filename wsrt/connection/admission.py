"""The limits of a process: how many connections it takes, how many of them are in their set-up, and how fast."""

from __future__ import annotations

from ..cluster.per_loop import PerLoop
from ..conf import conf
from ..metrics import counters
from ..protocol.rate import TokenBucket, parse_event_rate


class Admission:
    """
    Admits connections to one event loop, up to the limits of the settings.

    Attributes:
        connections: The number of connections that were admitted and haven't ended.
        setups: The number of them that are in their set-up.
    """

    def __init__(self) -> None:
        self.connections = 0
        self.setups = 0
        # The handshakes that may come, and the setting for which they were computed.
        self._bucket: TokenBucket | None = None
        self._rate: str | None = None

    def admit(self, now: float) -> Seat | None:
        """
        Return the seat of a new connection; None if a limit is reached. The refusal is counted.

        Args:
            now: The time in seconds.
        """
        most, setups = conf.max_connections, conf.max_setups
        if most is not None and self.connections >= most:
            counters.count(
                "connections_refused_per_process",
                "refused a connection, because MAX_CONNECTIONS (%s) was reached",
                most,
            )
            return None
        if setups is not None and self.setups >= setups:
            counters.count("setups_refused", "refused a connection, because MAX_SETUPS (%s) was reached", setups)
            return None
        if not self._is_within_rate(now):
            counters.count(
                "handshakes_refused", "refused a connection, because HANDSHAKE_RATE (%s) was reached", self._rate
            )
            return None
        return Seat(self)

    def _is_within_rate(self, now: float) -> bool:
        if conf.handshake_rate != self._rate:
            self._rate = conf.handshake_rate
            self._bucket = None if self._rate is None else TokenBucket(*parse_event_rate(self._rate), now)
        return self._bucket is None or self._bucket.take(now)


class Seat:
    """The share of one connection in the limits of its process."""

    __slots__ = ("_admission", "_is_in_setup", "_is_taken")

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._is_taken = self._is_in_setup = True
        admission.connections += 1
        admission.setups += 1

    def end_setup(self) -> None:
        """Note that the set-up is done."""
        self._admission.setups -= self._is_in_setup
        self._is_in_setup = False

    def release(self) -> None:
        """Note that the connection has ended."""
        self.end_setup()
        self._admission.connections -= self._is_taken
        self._is_taken = False


_admissions = PerLoop(Admission)


def admission_of_loop() -> Admission:
    """Return the running loop's admission, created at first use."""
    return _admissions.get()
