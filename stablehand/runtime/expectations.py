"""Counts of writes whose events have not come back yet (client-go's ControllerExpectations).

For controllers that make objects with random names and so cannot see in the cache what they have made.
"""

from __future__ import annotations

import time
from collections.abc import Hashable

TIMEOUT = 300.0


class Expectations:
    """Per key: uids whose deletion, and a number of creations, still to be seen."""

    def __init__(self) -> None:
        self._adds: dict[Hashable, int] = {}
        self._deletes: dict[Hashable, set[str]] = {}
        self._since: dict[Hashable, float] = {}

    def expect_creations(self, key: Hashable, count: int) -> None:
        self._adds[key] = self._adds.get(key, 0) + count
        self._since[key] = time.monotonic()

    def expect_deletions(self, key: Hashable, uids: list[str]) -> None:
        self._deletes.setdefault(key, set()).update(uids)
        self._since[key] = time.monotonic()

    def creation_observed(self, key: Hashable) -> None:
        if self._adds.get(key, 0) > 0:
            self._adds[key] -= 1

    def deletion_observed(self, key: Hashable, uid: str) -> None:
        self._deletes.get(key, set()).discard(uid)

    def satisfied(self, key: Hashable) -> bool:
        """Nothing outstanding, or so old that the event must have been lost."""
        if self._adds.get(key, 0) <= 0 and not self._deletes.get(key):
            return True
        return time.monotonic() - self._since.get(key, 0.0) > TIMEOUT

    def forget(self, key: Hashable) -> None:
        for table in (self._adds, self._deletes, self._since):
            table.pop(key, None)
