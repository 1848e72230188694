"""The contract every store backend keeps (store/contract.py)."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from stablehand.store.contract import Change, RevisionMismatch, StoreCorrupt, StoreTooNew
from stablehand.store.memory import MemoryBackend
from stablehand.store.sqlite import SqliteBackend


@pytest.fixture(params=["memory", "sqlite"])
async def backend(request: Any, tmp_path: Path) -> AsyncIterator[Any]:
    made = MemoryBackend() if request.param == "memory" else SqliteBackend(tmp_path / "state.db")
    yield made
    await made.close()


async def test_revisions_rise_and_changes_come_in_order(backend: Any) -> None:
    seen: list[Change] = []
    await backend.open(seen.extend)
    first = await backend.put("a/x", lambda r: str(r).encode(), 0)
    second = await backend.put("a/y", lambda r: str(r).encode(), 0)
    third = await backend.put("a/x", lambda r: str(r).encode(), first)
    fourth = await backend.delete("a/y", second)
    assert first < second < third < fourth
    assert [c.revision for c in seen] == [first, second, third, fourth]
    assert seen[2].value == str(third).encode()
    assert seen[3].value is None


async def test_a_write_from_an_old_revision_is_refused(backend: Any) -> None:
    await backend.open(lambda changes: None)
    first = await backend.put("a/x", lambda r: b"1", 0)
    for expect in (0, first + 7):
        with pytest.raises(RevisionMismatch) as e:
            await backend.put("a/x", lambda r: b"2", expect)
        assert e.value.actual == first


async def test_what_was_acknowledged_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    one = SqliteBackend(path)
    await one.open(lambda changes: None)
    kept = await one.put("a/x", lambda r: b"kept", 0)
    gone = await one.put("a/y", lambda r: b"gone", 0)
    last = await one.delete("a/y", gone)
    await one.close()
    two = SqliteBackend(path)
    snapshot = await two.open(lambda changes: None)
    assert snapshot.items == [("a/x", b"kept", kept)]
    assert snapshot.revision == last
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
