"""Events live for an hour after they were last written (kube-apiserver's --event-ttl), and then go; the history of watches
lives for some minutes.

Upstream hands that to etcd's leases and compaction; here the server looks for what is due.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

from stablehand.apiserver.core import Core
from stablehand.machinery.resources import resource
from stablehand.machinery.times import format_time, parse_time
from stablehand.machinery.types import Obj
from stablehand.store.contract import RevisionMismatch, StoreError

log = logging.getLogger("stablehand.apiserver")

TTL = 3600.0
_LEAST_WAIT = 60.0  # so that those due close together go together
_AT_ONCE = 500  # deletions that share a commit


_HISTORY_PERIOD = 60.0


class HistoryExpiry:
    """Call `start` once the store is open; it ends with the server."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._core.stopping.append(self._stop)

    def _stop(self) -> None:
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_HISTORY_PERIOD)
            self._core.storage.forget_history()


class EventExpiry:
    """Call `start` once the store is open; it ends with the server."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._events = core.storage.collection(resource("events"))
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._core.stopping.append(self._stop)

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while True:
            try:
                wait = await self.sweep()
            except StoreError as e:
                log.warning("old events cannot be deleted: %s", e)
                wait = _LEAST_WAIT
            await asyncio.sleep(max(wait, _LEAST_WAIT))

    async def sweep(self) -> float:
        """Deletes what is due; the seconds until the next one is. Raises the store's errors."""
        now = self._core.clock()
        limit = format_time(now - TTL)
        due, oldest = [], format_time(now)
        for key, entry in self._events.entries.items():
            last = last_written(entry.obj)
            if last <= limit:
                due.append((key, entry.revision))
            else:
                oldest = min(oldest, last)
        for start in range(0, len(due), _AT_ONCE):
            chunk = due[start : start + _AT_ONCE]
            deletions = (self._core.storage.delete(self._events, key, revision) for key, revision in chunk)
            for failure in await asyncio.gather(*deletions, return_exceptions=True):
                # Written meanwhile: it lives on.
                if isinstance(failure, BaseException) and not isinstance(failure, RevisionMismatch):
                    raise failure
        return parse_time(oldest) + TTL - now


def last_written(event: Obj) -> str:
    """When an event was last written, as far as it tells: RFC 3339 in UTC, to be compared as text."""
    return max(_times(event), default="")


def _times(event: Obj) -> Iterator[str]:
    meta = event["metadata"]
    moments = [event.get("lastTimestamp"), event.get("eventTime"), (event.get("series") or {}).get("lastObservedTime")]
    moments += [meta.get("creationTimestamp"), *(f.get("time") for f in meta.get("managedFields") or ())]
    return (moment for moment in moments if moment)
