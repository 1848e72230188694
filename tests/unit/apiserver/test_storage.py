"""The API server's copy of the store: what a caller sees who lost a write, and watchers that come and go."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from stablehand.apiserver.storage.storage import Storage
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj
from stablehand.store.contract import RevisionMismatch
from stablehand.store.sqlite import SqliteBackend

KEY = ("default", "a")


def thing(value: int) -> Obj:
    return {"metadata": {"name": "a", "namespace": "default"}, "data": {"v": str(value)}}


async def opened(path: Path) -> Storage:
    storage = Storage(SqliteBackend(path / "state.db"))
    await storage.open()
    return storage


async def test_who_lost_a_write_reads_the_winner_at_once(tmp_path: Path) -> None:
    """A caller in this process that tries again without waiting must not starve the write it lost to."""
    storage = await opened(tmp_path)
    collection = storage.collection(resource("configmaps"))
    first = await storage.put(collection, KEY, thing(0), 0)
    winning = asyncio.ensure_future(storage.put(collection, KEY, thing(1), first.revision))
    await asyncio.sleep(0)
    tries = 0
    while True:
        tries += 1
        assert tries <= 2
        entry = collection.get(KEY)
        assert entry is not None
        try:
            await storage.put(collection, KEY, thing(2), entry.revision)
            break
        except RevisionMismatch:
            continue
    assert (await winning).obj["data"] == {"v": "1"}
    last = collection.get(KEY)
    assert last is not None and last.obj["data"] == {"v": "2"}
    await storage.close()


async def test_who_lost_to_a_deletion_sees_it_gone(tmp_path: Path) -> None:
    storage = await opened(tmp_path)
    collection = storage.collection(resource("configmaps"))
    first = await storage.put(collection, KEY, thing(0), 0)
    deletion = asyncio.ensure_future(storage.delete(collection, KEY, first.revision))
    await asyncio.sleep(0)
    with pytest.raises(RevisionMismatch):
        await storage.put(collection, KEY, thing(1), first.revision)
    assert collection.get(KEY) is None
    await deletion
    with pytest.raises(RevisionMismatch):
        await storage.delete(collection, KEY, first.revision)
    await storage.close()


async def test_who_lost_a_creation_sees_the_object(tmp_path: Path) -> None:
    storage = await opened(tmp_path)
    collection = storage.collection(resource("configmaps"))
    creation = asyncio.ensure_future(storage.put(collection, KEY, thing(0), 0))
    await asyncio.sleep(0)
    with pytest.raises(RevisionMismatch):
        await storage.put(collection, KEY, thing(1), 0)
    assert collection.get(KEY) is not None
    await creation
    await storage.close()


async def test_a_closed_watcher_is_forgotten(tmp_path: Path) -> None:
    storage = await opened(tmp_path)
    collection = storage.collection(resource("configmaps"))
    watcher = collection.watch("", None, storage.revision, storage.revision)
    await storage.put(collection, KEY, thing(0), 0)
    assert [kind for kind, _ in await watcher.next()] == ["ADDED"]
    watcher.close()
    await storage.put(collection, ("default", "b"), {"metadata": {"name": "b", "namespace": "default"}}, 0)
    assert await watcher.next() == []
    await storage.close()


async def test_a_watch_from_too_old_a_revision_is_refused_within_its_stream(tmp_path: Path) -> None:
    """As the real API server does: kopf, for one, ends itself when the request itself is answered with 410."""
    storage = await opened(tmp_path)
    collection = storage.collection(resource("configmaps"))
    await storage.put(collection, KEY, thing(0), 0)
    await storage.close()
    storage = await opened(tmp_path)
    collection = storage.collection(resource("configmaps"))
    watcher = collection.watch("", None, 0, storage.revision)
    assert await watcher.next() == []
    assert watcher.failure is not None and watcher.failure.code == 410
    assert watcher.failure.message.startswith("too old resource version: 0 (")
    await storage.close()


async def test_history_is_forgotten_by_age(tmp_path: Path) -> None:
    storage = await opened(tmp_path)
    collection = storage.collection(resource("configmaps"))
    first = await storage.put(collection, KEY, thing(0), 0)
    for value in range(200):
        await storage.put(collection, KEY, thing(value), collection.revision(KEY))
    storage.forget_history()
    assert collection.watch("", None, first.revision, storage.revision).failure is None
    collection.forget(time.monotonic())
    assert collection.watch("", None, first.revision, storage.revision).failure is not None
    # What happened last is kept, however old.
    assert collection.watch("", None, storage.revision - 100, storage.revision).failure is None
    await storage.close()
