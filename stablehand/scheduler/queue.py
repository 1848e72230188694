"""Pods that want a node: the most important and longest waiting first; those that found none wait for a change.

Upstream's active, backoff and unschedulable queues in one.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable

from stablehand.machinery.types import Obj

# The first change retries at once (a claim just bound, a node just ready); who fails again and again waits longer.
_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.01, 10.0

Key = tuple[str, str]


class PodQueue:
    def __init__(self, woken: Callable[[], None]) -> None:
        self._woken = woken
        self._heap: list[tuple[int, str, int, Key]] = []
        self._active: set[Key] = set()
        self._parked: dict[Key, float] = {}  # unschedulable: when it may be tried again
        self._attempts: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._pods: dict[Key, Obj] = {}
        self._order = itertools.count()
        self._moves = 0

    def put(self, key: Key, pod: Obj) -> None:
        """A pod that is new, or has changed in a way that may help it."""
        self._pods[key] = pod
        self._parked.pop(key, None)
        self._activate(key)

    def refresh(self, key: Key, pod: Obj) -> None:
        """A newer version of a pod that waits."""
        if key in self._pods:
            self._pods[key] = pod

    def drop(self, key: Key) -> None:
        """The pod is gone, or bound."""
        self._pods.pop(key, None)
        self._parked.pop(key, None)
        self._attempts.pop(key, None)
        self._active.discard(key)
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    def pop(self) -> tuple[Key, Obj, int] | None:
        """The next pod, and the count of changes seen so far (for `park`)."""
        while self._heap:
            key = heapq.heappop(self._heap)[3]
            if key in self._active:
                self._active.discard(key)
                return key, self._pods[key], self._moves
        return None

    def park(self, key: Key, moves: int) -> None:
        """The pod found no node. It waits for a change, at least as long as its back-off; at once where something
        has changed since it was popped."""
        if key not in self._pods:
            return
        attempts = self._attempts[key] = self._attempts.get(key, 0) + 1
        delay = 0.0 if attempts == 1 else min(_LONGEST_BACKOFF, _FIRST_BACKOFF * 2.0 ** (attempts - 2))
        self._parked[key] = asyncio.get_running_loop().time() + delay
        if moves != self._moves:
            self._release(key)

    def retry(self, key: Key) -> None:
        """Trying failed for a reason outside the cluster's state: again after the back-off, which is not nothing."""
        self._attempts[key] = max(1, self._attempts.get(key, 0))
        self.park(key, -1)

    def is_parked(self, key: Key) -> bool:
        return key in self._parked

    def move_all(self) -> None:
        """Something changed that may help any pod."""
        self._moves += 1
        for key in list(self._parked):
            self._release(key)

    def _release(self, key: Key) -> None:
        when = self._parked.pop(key, None)
        if when is None:
            return
        loop = asyncio.get_running_loop()
        if when <= loop.time():
            self._activate(key)
        elif key not in self._timers:
            self._timers[key] = loop.call_at(when, self._fire, key)

    def _fire(self, key: Key) -> None:
        self._timers.pop(key, None)
        self._activate(key)

    def _activate(self, key: Key) -> None:
        pod = self._pods.get(key)
        if pod is None or key in self._active:
            return
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        self._active.add(key)
        priority = int(pod["spec"].get("priority") or 0)
        created = pod["metadata"].get("creationTimestamp") or ""
        heapq.heappush(self._heap, (-priority, created, next(self._order), key))
        self._woken()

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
