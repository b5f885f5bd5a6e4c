"""A process that is a node: python -m tests.support.node_process SETTINGS NAMESPACE USER..."""

from __future__ import annotations

import asyncio
import json
import os
import sys

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

import django
from django.conf import settings


async def run(store_settings: dict[str, object], namespace: str, users: list[str]) -> None:
    from wsrt.presence.backends import make_store
    from wsrt.presence.base import Join, NodeFacts

    store = make_store(store_settings)
    node = NodeFacts(f"node-{os.getpid()}", {"pid": os.getpid()})
    await store.begin(node)
    await store.apply(node.id, [Join(namespace, "r", number, user) for number, user in enumerate(users)])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        await asyncio.sleep(store.lease / 3)
        await store.beat(node)


if __name__ == "__main__":
    configuration = json.loads(sys.argv[1])
    django.setup()
    settings.CACHES = configuration["CACHES"]
    settings.DATABASES["default"]["NAME"] = configuration["DATABASE"]
    asyncio.run(run(configuration["PRESENCE"], sys.argv[2], sys.argv[3:]))
