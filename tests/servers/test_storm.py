"""Storms: clients whose sockets break all the time get everything, although processes and subscriptions die."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.storm import Outcome, Weather, run_wsrt

pytestmark = pytest.mark.servers


async def storm(weather: Weather) -> Outcome:
    outcome = await asyncio.to_thread(run_wsrt, weather)
    assert outcome.resets > weather.clients / 4
    assert len(outcome.replays) > weather.clients / 4
    assert outcome.not_recovered == 0
    # Every message, once and in order.
    assert (outcome.delivered, outcome.whole) == (outcome.expected, weather.clients)
    # The last one before a silence too, whether it is lost with the subscriptions or silently.
    assert outcome.delay_cut is not None
    assert outcome.delay_silent is not None
    return outcome


async def test_storm() -> None:
    """40 clients miss nothing while one of two processes is killed and the other one loses its subscriptions."""
    await storm(Weather(clients=40, messages=25, every=0.2, stay=2.0, away=0.4))


@pytest.mark.slow
async def test_storm_of_a_thousand_clients() -> None:
    """The same with 1,000 clients, whose sockets break about every 15 seconds, and 2 messages a second."""
    await storm(Weather())
