"""The API server's door to the store: one collection per stored resource, one sequence of revisions.

Objects are encoded once, when they are written: the same bytes go to the store, to every get and to every watcher.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import orjson

from stablehand.apiserver.storage.collection import HISTORY_SECONDS, Collection, Key
from stablehand.apiserver.storage.watchers import Entry
from stablehand.machinery.resources import Resource
from stablehand.machinery.types import Obj
from stablehand.store.contract import Backend, Change, RevisionMismatch, StoreCorrupt

log = logging.getLogger("stablehand.storage")

_NO_OBJECT = (ValueError, LookupError, TypeError)  # what decoding something else raises

CATCH_UP = 1.0  # seconds a lost write waits for the winning one to become visible


class Storage:
    """Call `open` first. Writes raise the store's RevisionMismatch, by then the object that won is what `get`
    answers (or its deletion), so a caller may try again at once; and WriteFailed."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._collections: dict[str, Collection] = {}
        # Encoded but not yet durable: revision -> object, so that the change's bytes need not be decoded again.
        self._pending: dict[int, tuple[Obj, bytes]] = {}
        self._listeners: list[Callable[[str], None]] = []
        self._turn: asyncio.Future[None] | None = None  # done at the next change, or at the next write that fails
        self._failures = 0
        self.revision = 1

    async def open(self) -> None:
        snapshot = await self._backend.open(self._on_change)
        self.revision = max(snapshot.revision, self.revision)
        for store_key, value, revision in snapshot.items:
            try:
                prefix, key = _split(store_key)
                obj = _decode(value)
            except _NO_OBJECT as e:
                await self._backend.close()
                raise StoreCorrupt(
                    f"the store's {store_key} is no object of Stablehand's ({e}); everything is left as it is: mend or "
                    "remove that key, or give another --store"
                ) from e
            raw = value
            if obj["metadata"].get("resourceVersion") != str(revision):
                obj["metadata"]["resourceVersion"] = str(revision)
                raw = orjson.dumps(obj)
            self._by_prefix(prefix).load(key, Entry(obj, raw, revision))

    async def close(self) -> None:
        for collection in self._collections.values():
            collection.close_watchers()
        await self._backend.close()

    def forget_history(self) -> None:
        """Drops what watches and pages need no more, in all collections."""
        before = time.monotonic() - HISTORY_SECONDS
        for collection in self._collections.values():
            collection.forget(before)

    def collection(self, res: Resource) -> Collection:
        group = res.storage_gv[0]
        return self._by_prefix(f"{group or 'core'}/{res.plural}/")

    def _by_prefix(self, prefix: str) -> Collection:
        collection = self._collections.get(prefix)
        if collection is None:
            collection = self._collections[prefix] = Collection(prefix, self.revision)
        return collection

    def on_change(self, listener: Callable[[str], None]) -> None:
        """Calls listener(prefix) after a change of any object under that prefix became visible."""
        self._listeners.append(listener)

    async def put(self, collection: Collection, key: Key, obj: Obj, expect: int) -> Entry:
        """Writes an object (resourceVersion is filled in); `expect` is the revision it was made from, 0 for new."""

        def encode(revision: int) -> bytes:
            if not revision:
                obj["metadata"].pop("resourceVersion", None)
                return orjson.dumps(obj)
            obj["metadata"]["resourceVersion"] = str(revision)
            raw = orjson.dumps(obj)
            self._pending[revision] = (obj, raw)
            return raw

        try:
            revision = await self._backend.put(collection.store_key(key), encode, expect)
        except RevisionMismatch:
            await self._catch_up(collection, key, expect)
            raise
        except BaseException:
            self._forget(obj)
            self._failures += 1
            self._next_turn()
            raise
        entry = collection.get(key)
        if entry is None or entry.revision != revision:
            # Overtaken already by a later write: what we wrote is still what the caller is told.
            obj["metadata"]["resourceVersion"] = str(revision)
            return Entry(obj, orjson.dumps(obj), revision)
        return entry

    async def delete(self, collection: Collection, key: Key, expect: int) -> int:
        try:
            return await self._backend.delete(collection.store_key(key), expect)
        except RevisionMismatch:
            await self._catch_up(collection, key, expect)
            raise
        except BaseException:
            self._failures += 1
            self._next_turn()
            raise

    async def _catch_up(self, collection: Collection, key: Key, expect: int) -> None:
        """Waits while the copy still holds what lost: the winning write may not be durable yet, and who tries again
        in this process without letting the loop run would keep it from ever getting there."""
        failures = self._failures
        deadline = asyncio.get_running_loop().time() + CATCH_UP
        while collection.revision(key) == expect and self._failures == failures:
            if self._turn is None:
                self._turn = asyncio.get_running_loop().create_future()
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0 or not (await asyncio.wait([self._turn], timeout=left))[0]:
                return

    async def changed(self) -> None:
        """Waits for the next change to become visible (or the next write to fail)."""
        if self._turn is None:
            self._turn = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._turn)

    def _next_turn(self) -> None:
        if self._turn is not None:
            if not self._turn.done():
                self._turn.set_result(None)
            self._turn = None

    def _forget(self, obj: Obj) -> None:
        for revision in [r for r, (o, _) in self._pending.items() if o is obj]:
            del self._pending[revision]

    def _on_change(self, changes: list[Change]) -> None:
        prefixes = set()
        for change in changes:
            self.revision = change.revision
            try:
                prefix, key = _split(change.key)
                decoded = None if change.value is None or change.revision in self._pending else _decode(change.value)
            except _NO_OBJECT as e:  # somebody else writes to a shared store
                log.error(
                    "the store's %s at revision %s is no object (%s): passed over", change.key, change.revision, e
                )
                continue
            collection = self._by_prefix(prefix)
            if change.value is None:
                last = collection.get(key)
                if last is None:
                    continue
                obj = {**last.obj, "metadata": {**last.obj["metadata"], "resourceVersion": str(change.revision)}}
                collection.apply("DELETE", key, Entry(obj, orjson.dumps(obj), change.revision))
            else:
                pending = self._pending.pop(change.revision, None)
                if pending is not None:
                    obj, raw = pending
                else:
                    assert decoded is not None
                    obj = decoded
                    obj["metadata"]["resourceVersion"] = str(change.revision)
                    raw = orjson.dumps(obj)
                collection.apply("PUT", key, Entry(obj, raw, change.revision))
            prefixes.add(prefix)
        self._next_turn()
        for listener in self._listeners:
            for prefix in prefixes:
                listener(prefix)


def _decode(value: bytes) -> Obj:
    obj: Obj = orjson.loads(value)
    obj["metadata"]["name"]
    return obj


def _split(store_key: str) -> tuple[str, Key]:
    group, plural, *rest = store_key.split("/")
    key = (rest[0], rest[1]) if len(rest) == 2 else ("", rest[0])
    return f"{group}/{plural}/", key
