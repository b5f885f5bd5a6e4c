"""The ids of publications: each is given out once, by any thread and process."""

from __future__ import annotations

import concurrent.futures
import os
import re

from wsrt.cluster import publication_ids
from wsrt.cluster.publication_ids import MADE, new_id


def test_ids() -> None:
    """An id is 16 hexadecimal digits, and no two are the same."""
    ids = [new_id() for _ in range(3 * MADE)]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch("[0-9a-f]{16}", one) for one in ids)


def test_threads() -> None:
    """Threads don't get the same ids."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: new_id(), range(2000)))
    assert len(set(ids)) == len(ids)


def test_fork() -> None:
    """A forked child makes ids of its own."""
    while not publication_ids._ids:
        new_id()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writer, " ".join(new_id() for _ in range(MADE)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as pipe:
        theirs = pipe.read().split()
    assert len(theirs) == MADE
    assert not {new_id() for _ in range(MADE)} & {*theirs}
