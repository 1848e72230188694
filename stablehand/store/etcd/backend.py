"""The store's contract on etcd: writes are transactions on the key's mod revision, changes come by one watch.

The store's revision is etcd's. A write is acknowledged once the watch has shown it, which keeps changes of all writers
(other API servers on the same etcd too) in one order. A write whose answer is lost is tried again: its comparison lets
it through at most once, and the key's first change after the expected revision tells whether it was ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass

from stablehand.aiokit.backoff import Backoff
from stablehand.store.contract import Change, Encode, OnChange, RevisionMismatch, Snapshot, StoreTooNew, WriteFailed
from stablehand.store.etcd.connection import Compacted, Connection, EtcdConfig, Lost, Refused
from stablehand.store.etcdpb import rpc_pb2 as pb

log = logging.getLogger("stablehand.store")

FORMAT = 1
_PAGE = 2000
_OPEN_SECONDS = 10.0  # etcd may be starting at the same time
_CALL_SECONDS = 5.0
_WRITE_SECONDS = 15.0  # a leader's election takes one or two


@dataclass(slots=True)
class _Write:
    """A write that is under way. `first` becomes the key's first change after `expect`; `shown` is done once the watch
    has come to revision `written`."""

    key: str
    expect: int
    value: bytes | None
    first: asyncio.Future[Change]
    written: int = 0  # the revision that etcd gave it, once `shown` is there
    shown: asyncio.Future[None] | None = None


class EtcdBackend:
    def __init__(self, config: EtcdConfig) -> None:
        self._config = config
        self._prefix = config.prefix.rstrip("/") + "/"
        self._connection: Connection
        self._on_change: OnChange = lambda changes: None
        self._revisions: dict[str, int] = {}
        self._position = 0  # everything up to this revision was given to on_change
        self._writes: dict[str, list[_Write]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._watcher: asyncio.Task[None] | None = None
        self._compactor: asyncio.Task[None] | None = None
        self._closing = False

    # -- opening

    async def open(self, on_change: OnChange) -> Snapshot:
        self._on_change = on_change
        self._connection = Connection(self._config)
        deadline = asyncio.get_running_loop().time() + _OPEN_SECONDS
        backoff = Backoff(0.05, 1.0)
        while True:
            try:
                await self._check_format()
                revision, kvs = await self._read_all()
                break
            except (Lost, Compacted) as e:
                if asyncio.get_running_loop().time() > deadline:
                    await self._connection.close()
                    raise WriteFailed(f"{self._config} does not answer ({e}): start it, or mend --store") from None
                await self._connection.next_endpoint()
                await asyncio.sleep(backoff.next())
            except (Refused, StoreTooNew) as e:
                await self._connection.close()
                if isinstance(e, StoreTooNew):
                    raise
                raise WriteFailed(f"{self._config} refuses: {e}") from None
        self._position = revision
        self._revisions = {self._key(kv): kv.mod_revision for kv in kvs}
        self._watcher = asyncio.create_task(self._follow(), name="store/watch")
        self._watcher.add_done_callback(_report)
        if self._config.compact_seconds:
            self._compactor = asyncio.create_task(self._compact(), name="store/compact")
        return Snapshot(revision, [(self._key(kv), kv.value, kv.mod_revision) for kv in kvs])

    async def _check_format(self) -> None:
        """The key beside the objects' that says in which format they are; made where it is missing."""
        mark = self._prefix.rstrip("/").encode() or b"/"
        look = pb.RangeRequest(key=mark)
        found = (await self._connection.call("Range", look, _CALL_SECONDS)).kvs  # no write: etcd may be full
        if not found:
            absent = pb.Compare(result=pb.Compare.EQUAL, target=pb.Compare.MOD, key=mark, mod_revision=0)
            put = pb.RequestOp(request_put=pb.PutRequest(key=mark, value=str(FORMAT).encode()))
            request = pb.TxnRequest(compare=[absent], success=[put])
            await self._connection.call("Txn", request, _CALL_SECONDS)
            found = (await self._connection.call("Range", look, _CALL_SECONDS)).kvs
        value = found[0].value if found else b""
        if not value.isdigit() or int(value) > FORMAT:
            raise StoreTooNew(
                f"{self._config} has objects of format {value.decode(errors='replace')} under {self._config.prefix}, "
                f"this version of Stablehand reads up to {FORMAT}: use the newer Stablehand, or another ?prefix="
            )

    async def _read_all(self) -> tuple[int, list[pb.KeyValue]]:
        """Every key at one revision, page by page. Raises Compacted when that takes too long."""
        start = self._prefix.encode()
        request = pb.RangeRequest(key=start, range_end=_after(start), limit=_PAGE)
        kvs: list[pb.KeyValue] = []
        while True:
            answer = await self._connection.call("Range", request, _CALL_SECONDS)
            kvs += answer.kvs
            request.revision = request.revision or answer.header.revision
            if not answer.more:
                return request.revision, kvs
            request.key = answer.kvs[-1].key + b"\0"

    def _key(self, kv: pb.KeyValue) -> str:
        return kv.key.decode(errors="replace").removeprefix(self._prefix)

    # -- changes

    async def _follow(self) -> None:
        """Gives every change to on_change, in order, through breaks of the connection, until cancelled."""
        backoff = Backoff(0.05, 1.0)
        quiet = True
        while True:
            try:
                start = self._prefix.encode()
                create = pb.WatchCreateRequest(
                    key=start, range_end=_after(start), start_revision=self._position + 1, progress_notify=True
                )
                async for answer in self._connection.watch(create):
                    if not quiet:
                        log.warning("%s answers again", self._config)
                        quiet = True
                    backoff.reset()
                    self._take(answer)
            except Compacted as e:
                log.warning("%s: %s; reading everything again", self._config, e)
                with contextlib.suppress(Lost, Refused, Compacted):
                    await self._reload()
                    continue
                await asyncio.sleep(backoff.next())
            except (Lost, Refused) as e:
                if quiet:
                    log.warning("%s does not answer: %s; trying again", self._config, e)
                    quiet = False
                await self._connection.next_endpoint()
                await asyncio.sleep(backoff.next())

    def _take(self, answer: pb.WatchResponse) -> None:
        if answer.events:
            self._show(
                [
                    Change(e.kv.mod_revision, self._key(e.kv), e.kv.value if e.type == pb.Event.PUT else None)
                    for e in answer.events
                    if e.kv.mod_revision > self._position
                ]
            )
        elif not answer.created:  # progress: nothing of ours up to here
            self._pass(answer.header.revision)

    async def _reload(self) -> None:
        """Catches up with a history that is gone: what changed is shown as it is now, what is missing as deleted."""
        revision, kvs = await self._read_all()
        now = {self._key(kv): kv for kv in kvs}
        # (revision, 0 for a deletion, change): what was deleted and made again meanwhile is shown as both.
        found: list[tuple[int, int, Change]] = []
        for key, known in self._revisions.items():
            kv = now.get(key)
            if kv is None or kv.create_revision > known:
                gone = revision if kv is None else kv.create_revision - 1
                found.append((gone, 0, Change(gone, key, None)))
        for key, kv in now.items():
            if kv.mod_revision != self._revisions.get(key):
                found.append((kv.mod_revision, 1, Change(kv.mod_revision, key, kv.value)))
        self._show([change for _, _, change in sorted(found, key=lambda f: f[:2])])
        self._pass(revision)

    def _pass(self, revision: int) -> None:
        """All up to this revision was shown, though perhaps not one by one."""
        self._position = max(self._position, revision)
        for writes in self._writes.values():
            for write in writes:
                if write.shown is not None and write.written <= self._position and not write.shown.done():
                    write.shown.set_result(None)

    def _show(self, changes: list[Change]) -> None:
        if not changes:
            return
        self._on_change(changes)
        for change in changes:
            if change.value is None:
                self._revisions.pop(change.key, None)
            else:
                self._revisions[change.key] = change.revision
            for write in self._writes.get(change.key, ()):
                if not write.first.done() and change.revision > write.expect:
                    write.first.set_result(change)
                if write.shown is not None and write.written <= change.revision and not write.shown.done():
                    write.shown.set_result(None)
        self._position = changes[-1].revision

    async def _compact(self) -> None:
        """Lets etcd forget what is older than `compact_seconds`, as Kubernetes' API server does: nobody else would."""
        old = self._position
        while True:
            await asyncio.sleep(self._config.compact_seconds)
            now = self._position
            if now > old:
                # Refused or Compacted: another API server on the same etcd was first.
                with contextlib.suppress(Lost, Refused, Compacted):
                    await self._connection.call("Compact", pb.CompactionRequest(revision=old), _CALL_SECONDS)
            old = now

    # -- writing

    def put(self, key: str, encode: Encode, expect: int) -> asyncio.Future[int]:
        return self._start(key, encode(0), expect)

    def delete(self, key: str, expect: int) -> asyncio.Future[int]:
        return self._start(key, None, expect)

    def _start(self, key: str, value: bytes | None, expect: int) -> asyncio.Future[int]:
        """A write goes on to its end also when the caller no longer waits for it."""
        if self._closing:
            raise WriteFailed("the store is closing")
        known = self._revisions.get(key, 0)
        if known != expect and expect <= self._position:
            raise RevisionMismatch(key, known)  # what was shown already cannot be undone
        loop = asyncio.get_running_loop()
        done: asyncio.Future[int] = loop.create_future()
        write = _Write(key, expect, value, loop.create_future())
        self._writes.setdefault(key, []).append(write)

        async def run() -> None:
            try:
                revision = await self._write(write)
            except Exception as e:
                if not done.done():
                    done.set_exception(e)
            except asyncio.CancelledError:
                if not done.done():
                    done.set_exception(WriteFailed("the store was closed before etcd answered"))
                raise
            else:
                if not done.done():
                    done.set_result(revision)
            finally:
                writes = self._writes[key]
                writes.remove(write)
                if not writes:
                    del self._writes[key]

        task = asyncio.create_task(run(), name="store/write")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return done

    async def _write(self, write: _Write) -> int:
        request = self._transaction(write)
        deadline = asyncio.get_running_loop().time() + _WRITE_SECONDS
        backoff = Backoff(0.05, 1.0)
        unsure = ""
        while True:
            try:
                answer = await self._connection.call("Txn", request, _CALL_SECONDS)
                break
            except Refused as e:
                raise WriteFailed(f"{self._config} refuses: {e}") from None
            except Lost as e:
                unsure = str(e)
            if asyncio.get_running_loop().time() > deadline:
                raise WriteFailed(f"{self._config} does not answer ({unsure}): whether it was written is not known")
            # The change itself may come before the next try does: then nothing is left to ask.
            await asyncio.wait([write.first], timeout=backoff.next())
            if write.first.done():
                return self._settled(write)
        if answer.succeeded:
            revision = int(answer.header.revision)
            await self._visible(write, revision)
            return revision
        kvs = answer.responses[0].response_range.kvs
        actual = int(kvs[0].mod_revision) if kvs else 0
        if unsure:  # an earlier try of ours may have been the one that got through
            await asyncio.wait([write.first], timeout=_WRITE_SECONDS)
            if write.first.done():
                return self._settled(write)
        raise RevisionMismatch(write.key, actual)

    def _transaction(self, write: _Write) -> pb.TxnRequest:
        key = (self._prefix + write.key).encode()
        same = pb.Compare(result=pb.Compare.EQUAL, target=pb.Compare.MOD, key=key, mod_revision=write.expect)
        if write.value is None:
            act = pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key))
        else:
            act = pb.RequestOp(request_put=pb.PutRequest(key=key, value=write.value))
        look = pb.RequestOp(request_range=pb.RangeRequest(key=key, keys_only=True))
        return pb.TxnRequest(compare=[same], success=[act], failure=[look])

    async def _visible(self, write: _Write, revision: int) -> None:
        """Returns once the watch has shown the write, or what came after it."""
        if self._position < revision:
            write.written, write.shown = revision, asyncio.get_running_loop().create_future()
            await write.shown

    def _settled(self, write: _Write) -> int:
        change = write.first.result()
        if change.value == write.value:
            return change.revision
        raise RevisionMismatch(write.key, self._revisions.get(write.key, 0))

    async def close(self) -> None:
        """Waits for writes that are under way, for a moment."""
        self._closing = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2)
        tasks = [*self._tasks, *(t for t in (self._watcher, self._compactor) if t is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._watcher is not None:
            await self._connection.close()


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.critical("the watch on etcd has ended; writes will hang", exc_info=task.exception())


def _after(prefix: bytes) -> bytes:
    """The end of the range of all keys that begin with `prefix`, which ends with "/"."""
    return prefix[:-1] + bytes([prefix[-1] + 1])
