"""The store in one SQLite file: WAL mode, its own thread, group commit.

Revisions are given out on the event loop, in the order of the calls; the thread writes whatever has gathered in one
transaction and one fsync, and only then is anything acknowledged or shown to watchers. One process writes a file.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import threading
from collections import deque
from pathlib import Path

from stablehand.store.contract import (
    Change,
    Encode,
    OnChange,
    RevisionMismatch,
    Snapshot,
    StoreCorrupt,
    StoreTooNew,
    WriteFailed,
)

log = logging.getLogger("stablehand.store")

FORMAT = 1
# kv has row ids: without them, values over 1 KB spill into pages of their own, and a write costs twice as much.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS kv (key TEXT PRIMARY KEY, revision INTEGER NOT NULL, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""
_Pending = tuple[Change, int, "asyncio.Future[int]"]


class SqliteBackend:
    """`path` is the database file; its folder must exist."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._revision = 1
        self._revisions: dict[str, int] = {}
        self._on_change: OnChange = lambda changes: None
        self._pending: deque[_Pending] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop

    async def open(self, on_change: OnChange) -> Snapshot:
        self._loop = asyncio.get_running_loop()
        self._on_change = on_change
        try:
            db, snapshot = self._read()
        except sqlite3.DatabaseError as e:
            raise StoreCorrupt(
                f"{self._path} cannot be read as Stablehand's database ({e}); it is left as it is: "
                "move it away or restore a copy, then start again"
            ) from e
        self._revision = snapshot.revision
        self._revisions = {key: revision for key, _, revision in snapshot.items}
        self._thread = threading.Thread(target=self._run, args=(db,), name="store", daemon=True)
        self._thread.start()
        return snapshot

    def _read(self) -> tuple[sqlite3.Connection, Snapshot]:
        fresh = not self._path.exists()
        try:
            if fresh:
                os.close(os.open(self._path, os.O_CREAT | os.O_WRONLY, 0o600))
            db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.OperationalError) as e:
            raise WriteFailed(f"{self._path} cannot be opened: {e}") from e
        try:
            if not fresh:
                bad = db.execute("PRAGMA quick_check(1)").fetchone()[0]
                if bad != "ok":
                    raise sqlite3.DatabaseError(bad)
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            db.execute("PRAGMA cache_size=-512")
            db.execute("PRAGMA wal_autocheckpoint=2000")
            db.executescript(_SCHEMA)
            meta = dict(db.execute("SELECT name, value FROM meta"))
            if meta.get("format", FORMAT) > FORMAT:
                raise StoreTooNew(
                    f"{self._path} has format {meta['format']}, this version of Stablehand reads up to {FORMAT}: "
                    "use the newer Stablehand, or another --data-dir"
                )
            if "format" not in meta:
                db.execute("INSERT INTO meta VALUES ('format', ?), ('revision', 1)", (FORMAT,))
            items = [(k, v, r) for k, v, r in db.execute("SELECT key, value, revision FROM kv")]
        except BaseException:
            db.close()
            raise
        newest = max([meta.get("revision", 1), *(r for _, _, r in items)])
        return db, Snapshot(newest, items)

    # -- on the event loop

    def _write(self, key: str, expect: int, encode: Encode | None) -> asyncio.Future[int]:
        actual = self._revisions.get(key, 0)
        if actual != expect:
            raise RevisionMismatch(key, actual)
        if self._closing:
            raise WriteFailed("the store is closing")
        revision = self._revision + 1
        value = encode(revision) if encode is not None else None
        self._revision = revision
        if value is None:
            del self._revisions[key]
        else:
            self._revisions[key] = revision
        future: asyncio.Future[int] = self._loop.create_future()
        self._pending.append((Change(revision, key, value), expect, future))
        self._wake.set()
        return future

    def put(self, key: str, encode: Encode, expect: int) -> asyncio.Future[int]:
        return self._write(key, expect, encode)

    def delete(self, key: str, expect: int) -> asyncio.Future[int]:
        return self._write(key, expect, None)

    def _committed(self, batch: list[_Pending]) -> None:
        self._on_change([change for change, _, _ in batch])
        for change, _, future in batch:
            if not future.done():
                future.set_result(change.revision)

    def _failed(self, batch: list[_Pending], error: str) -> None:
        # What was queued behind the failed batch was built on it: all of it fails, newest first, so that every
        # key ends at the revision that is truly stored.
        rest = list(self._pending)
        self._pending.clear()
        for change, expect, future in reversed(batch + rest):
            if expect:
                self._revisions[change.key] = expect
            else:
                self._revisions.pop(change.key, None)
            if not future.done():
                future.set_exception(WriteFailed(f"the store could not write: {error}"))

    # -- on the store's own thread

    def _run(self, db: sqlite3.Connection) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._pending:
                batch: list[_Pending] = []
                while self._pending and len(batch) < 1024:
                    batch.append(self._pending.popleft())
                try:
                    self._commit(db, batch)
                except sqlite3.Error as e:
                    log.error("commit of %s writes failed: %s", len(batch), e)
                    self._report_failure(batch, str(e))
                else:
                    self._loop.call_soon_threadsafe(self._committed, batch)
            if self._closing:
                db.close()
                return

    def _report_failure(self, batch: list[_Pending], error: str) -> None:
        # The loop must undo before this thread takes more, or a later write could land on top of a lost one.
        undone = threading.Event()

        def undo() -> None:
            self._failed(batch, error)
            undone.set()

        self._loop.call_soon_threadsafe(undo)
        undone.wait()

    @staticmethod
    def _commit(db: sqlite3.Connection, batch: list[_Pending]) -> None:
        db.execute("BEGIN IMMEDIATE")
        try:
            for change, _, _ in batch:
                if change.value is None:
                    db.execute("DELETE FROM kv WHERE key = ?", (change.key,))
                else:
                    db.execute(
                        "INSERT INTO kv VALUES (?, ?, ?) ON CONFLICT (key) "
                        "DO UPDATE SET revision = excluded.revision, value = excluded.value",
                        (change.key, change.revision, change.value),
                    )
            db.execute("UPDATE meta SET value = ? WHERE name = 'revision'", (batch[-1][0].revision,))
            db.execute("COMMIT")
        except sqlite3.Error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    async def close(self) -> None:
        """Writes what is queued and closes the file."""
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
            self._thread = None
