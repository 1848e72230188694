"""The store in memory: nothing survives. For tests and for throw-away control planes."""

from __future__ import annotations

import asyncio

from stablehand.store.contract import Change, Encode, OnChange, RevisionMismatch, Snapshot


class MemoryBackend:
    """Durable as soon as it is called; the first revision is 2, so that lists never answer "0" or "1"."""

    def __init__(self) -> None:
        self._revision = 1
        self._revisions: dict[str, int] = {}
        self._on_change: OnChange = lambda changes: None

    async def open(self, on_change: OnChange) -> Snapshot:
        self._on_change = on_change
        return Snapshot(self._revision, [])

    def _write(self, key: str, expect: int, encode: Encode | None) -> asyncio.Future[int]:
        actual = self._revisions.get(key, 0)
        if actual != expect:
            raise RevisionMismatch(key, actual)
        revision = self._revision + 1
        value = encode(revision) if encode is not None else None
        self._revision = revision
        if value is None:
            del self._revisions[key]
        else:
            self._revisions[key] = revision
        self._on_change([Change(revision, key, value)])
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        future.set_result(revision)
        return future

    def put(self, key: str, encode: Encode, expect: int) -> asyncio.Future[int]:
        return self._write(key, expect, encode)

    def delete(self, key: str, expect: int) -> asyncio.Future[int]:
        return self._write(key, expect, None)

    async def close(self) -> None:
        return None
