"""The contract every store backend keeps (store/contract.py)."""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stablehand.store.contract import Change, RevisionMismatch, StoreCorrupt, StoreTooNew
from stablehand.store.etcd import EtcdBackend, EtcdConfig
from stablehand.store.memory import MemoryBackend
from stablehand.store.sqlite import SqliteBackend
from tests.etcd import Etcd


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """One member for all tests of the session; each takes a prefix of its own."""
    member = Etcd(tmp_path_factory.mktemp("etcd"))
    yield member
    member.end()


Make = Callable[[], Any]


@pytest.fixture(params=["sqlite", "etcd"])
def durable(request: Any, tmp_path: Path) -> Make:
    """Makes a backend on what the one before it has stored."""
    if request.param == "sqlite":
        return lambda: SqliteBackend(tmp_path / "state.db")
    member, prefix = request.getfixturevalue("etcd"), f"/{uuid.uuid4()}"
    return lambda: EtcdBackend(EtcdConfig((f"127.0.0.1:{member.port}",), prefix=prefix))


@pytest.fixture(params=["memory", "sqlite", "etcd"])
async def backend(request: Any, tmp_path: Path) -> AsyncIterator[Any]:
    if request.param == "memory":
        made: Any = MemoryBackend()
    elif request.param == "sqlite":
        made = SqliteBackend(tmp_path / "state.db")
    else:
        member = request.getfixturevalue("etcd")
        made = EtcdBackend(EtcdConfig((f"127.0.0.1:{member.port}",), prefix=f"/{uuid.uuid4()}"))
    yield made
    await made.close()


def known(revision: int) -> bytes:
    """A value that says which revision it was encoded for; 0 where the backend learns it only afterwards."""
    return str(revision).encode()


async def test_revisions_rise_and_changes_come_in_order(backend: Any) -> None:
    seen: list[Change] = []
    await backend.open(seen.extend)
    first = await backend.put("a/x", known, 0)
    second = await backend.put("a/y", known, 0)
    third = await backend.put("a/x", known, first)
    fourth = await backend.delete("a/y", second)
    assert first < second < third < fourth
    assert [c.revision for c in seen] == [first, second, third, fourth]
    assert seen[2].value in (known(third), known(0))
    assert seen[3].value is None


async def test_a_write_from_an_old_revision_is_refused(backend: Any) -> None:
    await backend.open(lambda changes: None)
    first = await backend.put("a/x", lambda r: b"1", 0)
    for expect in (0, first + 7):
        with pytest.raises(RevisionMismatch) as e:
            await backend.put("a/x", lambda r: b"2", expect)
        assert e.value.actual == first


async def test_a_deletion_from_an_old_revision_is_refused(backend: Any) -> None:
    await backend.open(lambda changes: None)
    first = await backend.put("a/x", lambda r: b"1", 0)
    second = await backend.put("a/x", lambda r: b"2", first)
    for expect in (0, first, second + 7):
        with pytest.raises(RevisionMismatch):
            await backend.delete("a/x", expect)
    await backend.delete("a/x", second)
    with pytest.raises(RevisionMismatch) as e:
        await backend.delete("a/x", second)
    assert e.value.actual == 0


async def test_a_write_is_shown_before_it_is_acknowledged(backend: Any) -> None:
    seen: list[int] = []
    await backend.open(lambda changes: seen.extend(c.revision for c in changes))
    writes = [backend.put(f"a/{i}", lambda r: b"x", 0) for i in range(50)]
    for write in asyncio.as_completed(writes):
        assert await write in seen
    assert seen == sorted(set(seen))
    assert len(seen) == 50


async def test_of_many_writers_from_one_revision_one_wins(backend: Any) -> None:
    await backend.open(lambda changes: None)
    first = await backend.put("a/x", lambda r: b"0", 0)

    async def write(text: bytes) -> int:
        return await backend.put("a/x", lambda r: text, first)

    done = await asyncio.gather(*(write(str(i).encode()) for i in range(10)), return_exceptions=True)
    assert sum(isinstance(d, int) for d in done) == 1
    assert sum(isinstance(d, RevisionMismatch) for d in done) == 9


async def test_what_was_acknowledged_is_there_after_a_restart(durable: Make) -> None:
    one = durable()
    await one.open(lambda changes: None)
    kept = await one.put("a/x", lambda r: b"kept", 0)
    gone = await one.put("a/y", lambda r: b"gone", 0)
    last = await one.delete("a/y", gone)
    await one.close()
    two = durable()
    snapshot = await two.open(lambda changes: None)
    assert snapshot.items == [("a/x", b"kept", kept)]
    assert snapshot.revision >= last
    assert await two.put("a/y", lambda r: b"new", 0) > last
    await two.close()


async def test_a_corrupt_file_is_named_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreCorrupt, match="cannot be read"):
        await SqliteBackend(path).open(lambda changes: None)
    assert path.read_bytes().startswith(b"this is no database")


async def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    one = SqliteBackend(path)
    await one.open(lambda changes: None)
    await one.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE meta SET value = 99 WHERE name = 'format'")
    with pytest.raises(StoreTooNew):
        await SqliteBackend(path).open(lambda changes: None)


async def test_a_database_is_little_larger_than_what_is_in_it(tmp_path: Path) -> None:
    path, count, size = tmp_path / "state.db", 400, 1200  # bytes of an Event, about
    one = SqliteBackend(path)
    await one.open(lambda changes: None)
    await asyncio.gather(*(one.put(f"core/events/{uuid.uuid4()}", lambda _: b"x" * size, 0) for _ in range(count)))
    await one.close()
    assert path.stat().st_size < 2 * count * size
