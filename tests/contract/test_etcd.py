"""What only the etcd store must bear: other writers, lost connections and answers, compaction, TLS, a full server."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stablehand.launch.pki import Pki
from stablehand.store.contract import Change, RevisionMismatch, StoreTooNew, WriteFailed
from stablehand.store.etcd import EtcdBackend, EtcdConfig, backend
from stablehand.store.etcd.connection import Compacted, Connection
from stablehand.store.etcdpb import rpc_pb2 as pb
from tests.etcd import Etcd, free_ports


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    member = Etcd(tmp_path)
    yield member
    member.end(signal.SIGKILL)


class Link:
    """A TCP relay to etcd that can be cut; with `swallow`, requests get through and answers do not."""

    def __init__(self, port: int) -> None:
        self.target, self.open, self.swallow = port, True, False
        self.writers: set[asyncio.StreamWriter] = set()
        self.carried = asyncio.Event()

    async def start(self) -> None:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.open:
            writer.close()
            return
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        self.writers |= {writer, back}
        with contextlib.suppress(OSError):
            await asyncio.gather(self._carry(reader, back, False), self._carry(there, writer, True))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: bool) -> None:
        while data := await reader.read(65536):
            if answers and self.swallow:
                self.carried.set()
                continue
            writer.write(data)
        writer.close()

    def cut(self) -> None:
        self.open = False
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()

    async def close(self) -> None:
        self.cut()
        self.server.close()


class Seen(list[Change]):
    """The changes of one backend, and waiting for one of them."""

    async def until(self, condition: Callable[[Change], bool], seconds: float = 10) -> Change:
        async with asyncio.timeout(seconds):
            while True:
                for change in self:
                    if condition(change):
                        return change
                await asyncio.sleep(0.01)


@pytest.fixture
async def two(etcd: Etcd) -> AsyncIterator[tuple[EtcdBackend, Seen, EtcdBackend, Seen, Link]]:
    """Two backends on one etcd; the second's connection goes over a link that can be cut."""
    link = Link(etcd.port)
    await link.start()
    one = EtcdBackend(EtcdConfig((f"127.0.0.1:{etcd.port}",)))
    other = EtcdBackend(EtcdConfig((f"127.0.0.1:{link.port}",)))
    seen_one, seen_other = Seen(), Seen()
    await one.open(seen_one.extend)
    await other.open(seen_other.extend)
    yield one, seen_one, other, seen_other, link
    await one.close()
    await other.close()
    await link.close()


async def test_another_servers_writes_are_seen_in_order(two: Any) -> None:
    one, seen_one, other, seen_other, _ = two
    first = await one.put("a/x", lambda r: b"1", 0)
    await seen_other.until(lambda c: c.revision == first)
    second = await other.put("a/x", lambda r: b"2", first)
    with pytest.raises(RevisionMismatch) as e:
        await one.put("a/x", lambda r: b"3", first)
    assert e.value.actual == second
    third = await other.delete("a/x", second)
    await seen_one.until(lambda c: c.revision == third)
    assert seen_one == seen_other == [
        Change(first, "a/x", b"1"), Change(second, "a/x", b"2"), Change(third, "a/x", None),
    ]  # fmt: skip


async def test_a_watch_that_breaks_goes_on_where_it_was(two: Any) -> None:
    one, _, _, seen_other, link = two
    first = await one.put("a/x", lambda r: b"1", 0)
    await seen_other.until(lambda c: c.revision == first)
    link.cut()
    revisions = [first]
    for i in range(20):
        revisions.append(await one.put(f"a/{i}", lambda r: b"2", 0))
    link.open = True
    await seen_other.until(lambda c: c.revision == revisions[-1])
    assert [c.revision for c in seen_other] == revisions


async def test_compacted_while_away(two: Any, etcd: Etcd) -> None:
    """What was deleted meanwhile is shown as deleted, what was made anew as deleted and made."""
    one, _, _, seen_other, link = two
    kept = await one.put("a/kept", lambda r: b"1", 0)
    gone = await one.put("a/gone", lambda r: b"1", 0)
    anew = await one.put("a/anew", lambda r: b"1", 0)
    await seen_other.until(lambda c: c.revision == anew)
    link.cut()
    del seen_other[:]
    kept = await one.put("a/kept", lambda r: b"2", kept)
    await one.delete("a/gone", gone)
    await one.delete("a/anew", anew)
    anew = await one.put("a/anew", lambda r: b"2", 0)
    last = await one.put("a/new", lambda r: b"1", 0)
    await compact(etcd, last)
    link.open = True
    await seen_other.until(lambda c: c.key == "a/new")
    assert [(c.key, c.value) for c in seen_other if c.key in ("a/kept", "a/new")] == [("a/kept", b"2"), ("a/new", b"1")]
    assert [c.value for c in seen_other if c.key == "a/anew"] == [None, b"2"]
    gone_change = await seen_other.until(lambda c: c.key == "a/gone")
    assert gone_change.value is None
    revisions = [c.revision for c in seen_other]
    assert revisions == sorted(revisions)
    assert await one.put("a/new", lambda r: b"2", last) > last
    await seen_other.until(lambda c: c.key == "a/new" and c.value == b"2")


async def compact(etcd: Etcd, revision: int) -> None:
    """Drops etcd's history, as its operator's compaction does every few minutes."""
    import grpc.aio

    async with grpc.aio.insecure_channel(f"127.0.0.1:{etcd.port}") as channel:
        call = channel.unary_unary(
            "/etcdserverpb.KV/Compact",
            request_serializer=pb.CompactionRequest.SerializeToString,
            response_deserializer=pb.CompactionResponse.FromString,
        )
        await call(pb.CompactionRequest(revision=revision, physical=True))


async def test_history_is_compacted_behind_the_watch(etcd: Etcd) -> None:
    store = EtcdBackend(EtcdConfig((f"127.0.0.1:{etcd.port}",), compact_seconds=0.05))
    await store.open(lambda changes: None)
    first = revision = await store.put("a/x", lambda r: b"x", 0)

    async def forgotten() -> bool:
        nonlocal revision
        revision = await store.put("a/x", lambda r: b"x", revision)
        look = pb.RangeRequest(key=b"/stablehand/a/x", revision=first)
        try:
            await store._connection.call("Range", look, 5)
        except Compacted:
            return True
        return False

    async with asyncio.timeout(10):
        while not await forgotten():
            pass
    await store.close()


@pytest.mark.parametrize("deletes", [False, True])
async def test_a_write_whose_answer_is_lost_happens_once(two: Any, deletes: bool) -> None:
    one, seen_one, other, _, link = two
    first = await one.put("a/x", lambda r: b"1", 0)
    mine = await other.put("a/y", lambda r: b"1", 0)  # and its connection is up
    link.swallow = True
    link.carried.clear()
    write = other.delete("a/y", mine) if deletes else other.put("a/x", lambda r: b"2", first)
    got_through = await seen_one.until(lambda c: c.revision > mine)
    await asyncio.wait_for(link.carried.wait(), 5)
    link.cut()
    link.swallow, link.open = False, True
    assert await asyncio.wait_for(write, 20) == got_through.revision
    assert len([c for c in seen_one if c.revision > mine]) == 1


async def test_a_write_that_lost_its_answer_and_its_race(two: Any) -> None:
    one, seen_one, other, _, link = two
    first = await one.put("a/x", lambda r: b"1", 0)
    await other.put("a/y", lambda r: b"1", 0)
    link.cut()
    write = asyncio.ensure_future(other.put("a/x", lambda r: b"theirs", first))
    second = await one.put("a/x", lambda r: b"ours", first)
    link.open = True
    with pytest.raises(RevisionMismatch) as e:
        await asyncio.wait_for(write, 20)
    assert e.value.actual == second
    assert [c.value for c in seen_one if c.key == "a/x"] == [b"1", b"ours"]


async def test_killed_and_started_again_nothing_is_lost(two: Any, etcd: Etcd) -> None:
    one, seen_one, other, _, _ = two
    acknowledged = {f"a/{i}": await one.put(f"a/{i}", lambda r: b"x", 0) for i in range(50)}
    etcd.end(signal.SIGKILL)
    late = asyncio.ensure_future(one.put("a/late", lambda r: b"x", 0))
    await asyncio.sleep(0)
    etcd.start()
    acknowledged["a/late"] = await asyncio.wait_for(late, 20)
    acknowledged["a/other"] = await other.put("a/other", lambda r: b"x", 0)
    await seen_one.until(lambda c: c.key == "a/other")
    assert {c.key: c.revision for c in seen_one} == acknowledged
    third = EtcdBackend(EtcdConfig((f"127.0.0.1:{etcd.port}",)))
    snapshot = await third.open(lambda changes: None)
    assert {key: revision for key, _, revision in snapshot.items} == acknowledged
    await third.close()


async def test_a_server_that_is_away_too_long(two: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "_WRITE_SECONDS", 0.3)
    _, _, other, _, link = two
    link.cut()
    with pytest.raises(WriteFailed, match="not known"):
        await other.put("a/x", lambda r: b"1", 0)
    link.open = True
    with pytest.raises(WriteFailed, match="does not answer"):
        monkeypatch.setattr(backend, "_OPEN_SECONDS", 0.2)
        await EtcdBackend(EtcdConfig((f"127.0.0.1:{free_ports(1)[0]}",))).open(lambda changes: None)


async def test_pages_prefixes_and_a_dead_endpoint(etcd: Etcd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "_PAGE", 3)
    endpoints = (f"127.0.0.1:{free_ports(1)[0]}", f"127.0.0.1:{etcd.port}")
    stores = [EtcdBackend(EtcdConfig(endpoints, prefix=prefix)) for prefix in ("/reg", "/registry/")]
    for store in stores:
        assert (await store.open(lambda changes: None)).items == []
        await asyncio.gather(*(store.put(f"a/{i}", lambda r: b"x", 0) for i in range(8)))
        await store.close()
    again = EtcdBackend(EtcdConfig(endpoints, prefix="/reg"))
    snapshot = await again.open(lambda changes: None)
    assert sorted(key for key, _, _ in snapshot.items) == [f"a/{i}" for i in range(8)]
    await again.close()


async def test_a_newer_format_is_refused(etcd: Etcd) -> None:
    config = EtcdConfig((f"127.0.0.1:{etcd.port}",))
    connection = Connection(config)
    put = pb.RequestOp(request_put=pb.PutRequest(key=b"/stablehand", value=b"99"))
    await connection.call("Txn", pb.TxnRequest(success=[put]), 5)
    await connection.close()
    with pytest.raises(StoreTooNew, match="format 99"):
        await EtcdBackend(config).open(lambda changes: None)


async def test_a_full_server_refuses_and_keeps_what_it_has(tmp_path: Path) -> None:
    member = Etcd(tmp_path, "--quota-backend-bytes", str(256 * 1024))
    store = EtcdBackend(EtcdConfig((f"127.0.0.1:{member.port}",)))
    try:
        await store.open(lambda changes: None)
        kept: list[int] = []
        with pytest.raises(WriteFailed, match="space exceeded"):
            for i in range(500):  # sizes are counted at commits, every 0.1 s
                kept.append(await store.put(f"a/{i}", lambda r: b"x" * 20000, 0))
        await store.close()
        again = EtcdBackend(EtcdConfig((f"127.0.0.1:{member.port}",)))
        snapshot = await again.open(lambda changes: None)
        assert sorted(revision for _, _, revision in snapshot.items) == kept
        await again.close()
    finally:
        member.end(signal.SIGKILL)


async def test_tls_and_client_certificates(tmp_path: Path) -> None:
    pki = Pki(tmp_path / "pki")
    crt, key = pki.certificate("server", "etcd", hosts=("127.0.0.1",), server=True)
    mine, my_key = pki.certificate("client", "stablehand")
    flags = (
        "--cert-file",
        str(crt),
        "--key-file",
        str(key),
        "--client-cert-auth",
        "--trusted-ca-file",
        str(pki.ca_file),
    )
    member = Etcd(tmp_path, *flags, scheme="https")
    endpoints = (f"127.0.0.1:{member.port}",)
    try:
        store = EtcdBackend(
            EtcdConfig(endpoints, "/x", True, pki.ca_file.read_bytes(), mine.read_bytes(), my_key.read_bytes())
        )
        seen = Seen()
        await store.open(seen.extend)
        revision = await store.put("a/x", lambda r: b"1", 0)
        assert seen[0].revision == revision
        await store.close()
    finally:
        member.end(signal.SIGKILL)


async def test_users_and_tokens_that_run_out(etcd: Etcd) -> None:
    """etcd forgets its tokens when it restarts: the store logs in again by itself."""
    import grpc.aio

    async with grpc.aio.insecure_channel(f"127.0.0.1:{etcd.port}") as channel:
        for method, message in (
            ("UserAdd", b"\x0a\x04root\x12\x02pw"),  # name, password
            ("RoleAdd", b"\x0a\x04root"),
            ("UserGrantRole", b"\x0a\x04root\x12\x04root"),
            ("AuthEnable", b""),
        ):
            await channel.unary_unary(f"/etcdserverpb.Auth/{method}")(message)
    endpoints = (f"127.0.0.1:{etcd.port}",)
    for config in (EtcdConfig(endpoints), EtcdConfig(endpoints, user="root", password="wrong")):
        with pytest.raises(WriteFailed, match="refuses"):
            await EtcdBackend(config).open(lambda changes: None)
    seen = Seen()
    store = EtcdBackend(EtcdConfig(endpoints, user="root", password="pw"))
    await store.open(seen.extend)
    first = await store.put("a/x", lambda r: b"1", 0)
    etcd.end(signal.SIGKILL)
    etcd.start()
    second = await asyncio.wait_for(store.put("a/x", lambda r: b"2", first), 20)
    assert [c.revision for c in seen] == [first, second]
    await store.close()
