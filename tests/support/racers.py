"""Two processes that take the same tickets at the same moments."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.synchronize import Barrier
from typing import Any

SECONDS = 300.0


def race(caches: dict[str, Any], races: int, database: dict[str, Any] | None = None) -> list[list[bool]]:
    """
    Return for each of two processes which tickets it got.

    Args:
        caches: the setting CACHES of both.
        races: the number of tickets; the first process issues them.
        database: the entry of DATABASES that both use, where the cache is in it.
    """
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(2)
    pipes, racers = [], []
    for number in range(2):
        here, there = spawn.Pipe()
        arguments = (barrier, there, caches, database, races if number == 0 else 0)
        racers.append(spawn.Process(target=_run, args=arguments, daemon=True))
        pipes.append(here)
    try:
        for racer in racers:
            racer.start()
        tickets = _receive(pipes[0])
        for pipe in pipes:
            pipe.send(tickets)
        return [_receive(pipe) for pipe in pipes]
    finally:
        for racer in racers:
            racer.kill()
            racer.join()


def _receive(pipe: Any) -> Any:
    assert pipe.poll(SECONDS), "a process that races is slow"
    return pipe.recv()


def _run(barrier: Barrier, pipe: Any, caches: dict[str, Any], database: dict[str, Any] | None, races: int) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    from django.conf import settings

    settings.CACHES = caches
    settings.WSRT = {"TICKET_SECONDS": 600}
    if database is not None:
        settings.DATABASES = {"default": database}
    import django

    django.setup()
    from django.contrib.auth.models import User
    from django.core.management import call_command

    from wsrt.tickets import issue_ticket, take_ticket

    if races:
        call_command("createcachetable", verbosity=0)
        pipe.send([issue_ticket(User(pk=7), "/ws/", tenant=None) for _ in range(races)])
    won = []
    for ticket in pipe.recv():
        barrier.wait(SECONDS)
        won.append(take_ticket(ticket) is not None)
    pipe.send(won)
