"""The reconcile loop: workers take names from a queue; one place turns outcomes into retries.

A controller says which informers wake it and what one name needs (`reconcile`). It never sees the event.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stablehand.client import ApiError, Conflict, Unavailable
from stablehand.runtime.informer import Informer
from stablehand.runtime.queue import WorkQueue

log = logging.getLogger("stablehand.controller")

Key = tuple[str, str]
GATHER_FROM = 64


@dataclass(frozen=True, slots=True)
class Result:
    """What a reconcile wants next: nothing, or to be called again `after` so many seconds."""

    after: float | None = None


class Terminal(Exception):
    """An error that trying again will not mend; it is logged, and the name waits for its next change."""


class Controller:
    """Subclass: set `name`, ask for informers, call `enqueue` from their handlers, write `reconcile`."""

    name = "controller"

    def __init__(self, *, workers: int = 1) -> None:
        self.queue: WorkQueue[Any] = WorkQueue()
        self.wait_for: list[Informer] = []
        self._workers = workers

    def enqueue(self, key: Any) -> None:
        self.queue.add(key)

    def enqueue_after(self, key: Any, seconds: float) -> None:
        self.queue.add_after(key, seconds)

    def enqueue_gathered(self, key: Any, size: int, each: float) -> None:
        """Enqueues a name that changes once for each of `size` things: of many it is looked at once for many changes,
        `each` seconds later for every thing it has."""
        if size > GATHER_FROM:
            self.enqueue_after(key, size * each)
        else:
            self.enqueue(key)

    async def reconcile(self, key: Any) -> Result | None:
        """Brings one name a step nearer to its spec. Raise to be tried again with back-off."""
        raise NotImplementedError

    async def run(self) -> None:
        """Waits for the informers in `wait_for`, then works until cancelled."""
        informers: Sequence[Informer] = self.wait_for
        for informer in informers:
            await informer.synced()
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._workers):
                    group.create_task(self._work())
        finally:
            self.queue.close()

    async def _work(self) -> None:
        queue = self.queue
        while True:
            key = await queue.get()
            try:
                result = await self.reconcile(key)
            except Terminal as e:
                log.warning("%s %s: %s", self.name, key, e)
                queue.forget(key)
            except (Conflict, Unavailable) as e:
                log.debug("%s %s: will try again: %s", self.name, key, e)
                queue.retry(key)
            except ApiError as e:
                log.info("%s %s: will try again: %s", self.name, key, e)
                queue.retry(key)
            except Exception:
                log.exception("%s %s: reconcile failed", self.name, key)
                queue.retry(key)
            else:
                queue.forget(key)
                if result is not None and result.after is not None:
                    queue.add_after(key, result.after)
            finally:
                queue.done(key)
