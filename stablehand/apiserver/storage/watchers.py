"""Hands each change to the watchers of a collection.

An event's line is encoded once and shared. A watcher that falls too far behind is cut off, never made to skip:
it resumes from its last revision, or relists.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from stablehand.apiserver.contract import StatusError
from stablehand.apiserver.errors import expired
from stablehand.machinery.types import Obj

LIMIT = 20_000  # events a watcher may lag behind

Match = Callable[[Obj], bool]


@dataclass(slots=True)
class Entry:
    """One stored object: the dict (shared, immutable by convention), its JSON, its revision; and, where a webhook
    converts it, what it is in other versions, by apiVersion."""

    obj: Obj
    raw: bytes
    revision: int
    forms: dict[str, Obj] | None = None


class Event:
    """A change of one object: `entry` is the new state (for DELETED the last one), `prev` the one before; `at` is when
    it was told, by time.monotonic."""

    __slots__ = ("_leaving", "_lines", "at", "entry", "key", "prev", "revision", "type")

    def __init__(self, kind: str, key: tuple[str, str], entry: Entry, prev: Entry | None) -> None:
        self.type, self.key, self.entry, self.prev = kind, key, entry, prev
        self.revision = entry.revision
        self.at = time.monotonic()
        self._lines: dict[str, bytes] = {}
        self._leaving: Event | None = None

    def leaving(self) -> Event:
        """The event as one who selects the state before, but not the new one, is told it: the object as it was, with
        the revision of the change. Made once for all of them."""
        if self._leaving is None:
            before = self.prev
            assert before is not None
            meta = {**before.obj["metadata"], "resourceVersion": str(self.revision)}
            obj = {**before.obj, "metadata": meta}
            entry = Entry(obj, orjson.dumps(obj), self.revision)
            self._leaving = Event("DELETED", self.key, entry, before)
        return self._leaving

    def line(self, kind: str) -> bytes:
        """The event as one line of a watch, told as ADDED, MODIFIED or DELETED."""
        line = self._lines.get(kind)
        if line is None:
            line = b'{"type":"%b","object":%b}\n' % (kind.encode(), self.entry.raw)
            self._lines[kind] = line
        return line


class Watcher:
    """One watch, of the ones in `among` until it is closed. Items are (type, event) pairs; `failure` says why it
    was cut off, or could not begin: the watch's last word to its client, an ERROR event."""

    __slots__ = ("_after", "_among", "_match", "_queue", "_waiter", "closed", "failure", "namespace")

    def __init__(self, namespace: str, match: Match | None, among: set[Watcher], after: int = 0) -> None:
        self._after = after  # a watch from a revision that is yet to come passes over all that comes before it
        self.namespace = namespace
        self._among = among
        self._match = match
        self._queue: deque[tuple[str, Event]] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self.closed = False
        self.failure: StatusError | None = None

    def classify(self, event: Event) -> str | None:
        """What the event is to this watcher: objects entering its selection are ADDED, leaving it DELETED."""
        if self.namespace and event.key[0] != self.namespace:
            return None
        match = self._match
        if match is None:
            return event.type
        now = event.type != "DELETED" and match(event.entry.obj)
        before = event.prev is not None and match(event.prev.obj)
        if now:
            return "MODIFIED" if before else "ADDED"
        return "DELETED" if before else None

    def offer(self, event: Event) -> None:
        kind = self.classify(event)
        if kind is None or self.closed or event.revision <= self._after:
            return
        if kind == "DELETED" and event.type != "DELETED":
            event = event.leaving()
        self._queue.append((kind, event))
        if len(self._queue) > LIMIT:
            self.fail(expired("too old resource version: the watcher fell behind"))
        self._wake()

    def push(self, kind: str, event: Event) -> None:
        self._queue.append((kind, event))
        self._wake()

    def fail(self, why: StatusError) -> None:
        self.failure = why
        self.close()

    def close(self) -> None:
        self.closed = True
        self._among.discard(self)
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def next(self) -> list[tuple[str, Event]]:
        """All events that have gathered; waits for one. Empty: the watch is closed."""
        while not self._queue:
            if self.closed:
                return []
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        batch = list(self._queue)
        self._queue.clear()
        return batch
