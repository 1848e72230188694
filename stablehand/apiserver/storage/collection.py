"""All objects of one resource: read from memory, written through the store, watched.

Writes are optimistic: a changed object names the revision it was made from. History for watches and consistent
list pages is what happened in the last minutes; who asks for older is told Expired and lists again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from itertools import islice

from stablehand.apiserver.contract import StatusError
from stablehand.apiserver.errors import too_old
from stablehand.apiserver.storage.watchers import Entry, Event, Match, Watcher

Key = tuple[str, str]
HISTORY = 4096  # events at most
HISTORY_SECONDS = 300.0  # upstream compacts as often
_HISTORY_LEAST = 128  # events, however old


class Collection:
    """`prefix` is the store key's beginning, "<group>/<plural>/"; `base` the revision from which history is complete."""

    def __init__(self, prefix: str, base: int) -> None:
        self.prefix = prefix
        self.entries: dict[Key, Entry] = {}
        self.namespaces: dict[str, dict[str, Entry]] = {}
        self.version = 0  # grows with every change; what caches derived from this collection compare
        self._sorted: list[tuple[Key, Entry]] | None = None
        self._history: deque[Event] = deque()
        self._base = base
        self._watchers: set[Watcher] = set()

    def store_key(self, key: Key) -> str:
        return f"{self.prefix}{key[0]}/{key[1]}" if key[0] else f"{self.prefix}{key[1]}"

    def get(self, key: Key) -> Entry | None:
        return self.entries.get(key)

    def revision(self, key: Key) -> int:
        """The object's revision, 0 when there is none: what a write of it must expect."""
        entry = self.entries.get(key)
        return entry.revision if entry is not None else 0

    def ordered(self, namespace: str = "") -> list[tuple[Key, Entry]]:
        """(key, entry) by namespace and name: the order of every list."""
        if namespace:
            return [((namespace, n), e) for n, e in sorted(self.namespaces.get(namespace, {}).items())]
        if self._sorted is None:
            self._sorted = sorted(self.entries.items(), key=lambda item: item[0])
        return self._sorted

    def apply(self, kind: str, key: Key, entry: Entry) -> None:
        """Takes in one durable change (kind "PUT" or "DELETE") and tells the watchers."""
        prev = self.entries.get(key)
        if kind == "DELETE":
            if prev is None:
                return
            del self.entries[key]
            inside = self.namespaces[key[0]]
            del inside[key[1]]
            if not inside:
                del self.namespaces[key[0]]
            event = Event("DELETED", key, entry, prev)
            self._sorted = None
        else:
            self.entries[key] = entry
            self.namespaces.setdefault(key[0], {})[key[1]] = entry
            event = Event("ADDED" if prev is None else "MODIFIED", key, entry, prev)
            self._sorted = None
        self.version += 1
        self._history.append(event)
        if len(self._history) > HISTORY:
            self._base = self._history.popleft().revision
        for watcher in tuple(self._watchers):
            watcher.offer(event)

    def forget(self, before: float) -> None:
        """Drops history from before a moment of time.monotonic: each event holds two states of an object."""
        while len(self._history) > _HISTORY_LEAST and self._history[0].at < before:
            self._base = self._history.popleft().revision

    def load(self, key: Key, entry: Entry) -> None:
        """Puts in what was stored before the start; no events."""
        self.entries[key] = entry
        self.namespaces.setdefault(key[0], {})[key[1]] = entry

    def reread(self, key: Key, entry: Entry) -> None:
        """Another reading of what is stored, at the same revision: nobody is told."""
        self.entries[key] = self.namespaces[key[0]][key[1]] = entry
        self.version += 1
        self._sorted = None

    # -- watches

    def watch(self, namespace: str, match: Match | None, since: int, current: int) -> Watcher:
        """Events after revision `since`. Where history does not reach back that far, one that has failed as Expired:
        a watch that was well asked for is refused within its stream, which is where clients look for a 410."""
        watcher = Watcher(namespace, match, self._watchers, since)
        try:
            for event in self._since(since, current):
                watcher.offer(event)
        except StatusError as e:
            watcher.fail(e)
            return watcher
        self._watchers.add(watcher)
        return watcher

    def watch_with_state(self, namespace: str, match: Match | None) -> Watcher:
        """A watch that begins with every present object as ADDED."""
        watcher = Watcher(namespace, match, self._watchers)
        for key, entry in self.ordered(namespace):
            if match is None or match(entry.obj):
                watcher.push("ADDED", Event("ADDED", key, entry, None))
        self._watchers.add(watcher)
        return watcher

    def close_watchers(self) -> None:
        for watcher in tuple(self._watchers):
            watcher.close()

    def _since(self, revision: int, current: int) -> Iterator[Event]:
        if revision < self._base:
            raise too_old(revision, current)
        start = bisect_right(self._history, revision, key=lambda event: event.revision)
        return islice(self._history, start, None)

    def at(self, revision: int, namespace: str, current: int) -> list[tuple[Key, Entry]]:
        """The ordered content as it was at a revision. Raises StatusError Expired."""
        later = list(self._since(revision, current))
        if not later:
            return self.ordered(namespace)
        then = dict(self.entries)
        for event in reversed(later):
            if event.prev is None:
                then.pop(event.key, None)
            else:
                then[event.key] = event.prev
        return sorted(((k, e) for k, e in then.items() if not namespace or k[0] == namespace), key=lambda item: item[0])
