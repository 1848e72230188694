"""Growing delays with jitter, for reconnects and retries. Who waits is the caller's business."""

from __future__ import annotations

import random


class Backoff:
    """Doubles from `start` to `top` seconds; `reset` after a success."""

    def __init__(self, start: float = 0.05, top: float = 10.0, jitter: float = 0.2) -> None:
        self._start, self._top, self._jitter = start, top, jitter
        self._next = start

    def next(self) -> float:
        """The next delay in seconds."""
        delay = self._next
        self._next = min(self._top, self._next * 2)
        return delay * (1 + random.random() * self._jitter)

    def reset(self) -> None:
        self._next = self._start
