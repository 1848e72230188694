"""Runs controllers against the fake server inside a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from stablehand.client import Client
from stablehand.runtime import Informers
from tests.unit.controllers.fakes import FakeServer, Kubelet


@asynccontextmanager
async def running(
    server: FakeServer, *makers: Callable[[Client, Informers], Any], kubelet: Kubelet | None = None
) -> AsyncIterator[list[Any]]:
    client = server.client()
    informers = Informers(client)
    controllers = [make(client, informers) for make in makers]
    tasks = [asyncio.create_task(informers.run())]
    tasks += [asyncio.create_task(c.run()) for c in controllers]
    if kubelet is not None:
        tasks.append(asyncio.create_task(kubelet.run()))
    try:
        yield controllers
    finally:
        for task in reversed(tasks):
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result
