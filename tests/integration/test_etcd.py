"""Two API servers on one real etcd: each sees the other's writes; etcd may be killed and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from stablehand.client import ApiError, Client, Unavailable, connect
from stablehand.machinery.resources import resource
from stablehand.store.etcd import EtcdConfig
from stablehand.store.etcd.connection import Connection
from stablehand.store.etcdpb import rpc_pb2 as pb
from tests.etcd import Etcd
from tests.integration.conftest import free_port
from tests.integration.test_parts_apart import Process

CONFIGMAPS = resource("configmaps")


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    member = Etcd(tmp_path)
    yield member
    member.end(signal.SIGKILL)


class Server:
    """`stablehand apiserver` on etcd."""

    def __init__(self, folder: Path, name: str, store: str) -> None:
        self.data = folder / name
        listen = f"127.0.0.1:{free_port()}"
        flags = ("--data-dir", str(self.data), "--listen", listen, "--store", store)
        self.process = Process(folder, name, "apiserver", *flags)

    async def client(self) -> Client:
        async with asyncio.timeout(20):
            while "ready; kubeconfig:" not in self.process.text:
                assert self.process.process.poll() is None, self.process.text
                await asyncio.sleep(0.05)
        return await connect(str(self.data / "kubeconfig.yaml"))


@pytest.fixture
async def two(tmp_path: Path, etcd: Etcd) -> AsyncIterator[tuple[Client, Client, list[Server]]]:
    """Started at the same time, on an empty etcd, with one authority: both make what every cluster has."""
    from stablehand.launch.pki import Pki

    Pki(tmp_path / "pki").signing_key()
    servers = []
    for name in ("one", "two"):
        shutil.copytree(tmp_path / "pki", tmp_path / name / "pki")
        servers.append(Server(tmp_path, name, etcd.url))
    clients = [await server.client() for server in servers]
    try:
        yield clients[0], clients[1], servers
    finally:
        for client in clients:
            await client.close()
        for server in servers:
            server.process.end()


def config_map(name: str, text: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default"},
        "data": {"text": text},
    }


async def test_a_write_on_one_is_seen_by_a_watch_on_the_other(two: tuple[Client, Client, list[Server]]) -> None:
    one, other, _ = two
    start = (await other.list(CONFIGMAPS, "default"))["metadata"]["resourceVersion"]
    made = await one.create(CONFIGMAPS, config_map("a", "1"))
    changed = await one.patch(CONFIGMAPS, "a", {"data": {"text": "2"}}, "default")
    await one.delete(CONFIGMAPS, "a", "default")
    seen = []
    async with asyncio.timeout(10):
        async for event in other.watch(CONFIGMAPS, "default", resource_version=start):
            if event.object["metadata"].get("name") == "a":
                seen.append((event.type, event.object["data"]["text"], event.object["metadata"]["resourceVersion"]))
            if event.type == "DELETED":
                break
    assert [kind for kind, _, _ in seen] == ["ADDED", "MODIFIED", "DELETED"]
    assert seen[0][2] == made["metadata"]["resourceVersion"]
    assert seen[1][1:] == ("2", changed["metadata"]["resourceVersion"])
    assert int(seen[2][2]) > int(seen[1][2])
    # What one holds, the other holds: bootstrapped by two at once, of each there is one.
    for res in (resource("namespaces"), resource("services"), resource("clusterroles.rbac.authorization.k8s.io")):
        names = [
            sorted((o["metadata"]["name"], o["metadata"]["uid"]) for o in (await client.list(res))["items"])
            for client in (one, other)
        ]
        assert names[0] == names[1]
        assert names[0]


async def test_writers_on_both_lose_no_update(two: tuple[Client, Client, list[Server]]) -> None:
    """Compare and swap from both sides: every acknowledged increment is there."""
    await two[0].create(CONFIGMAPS, config_map("count", "0"))

    async def add(client: Client, times: int) -> None:
        done = 0
        while done < times:
            try:
                have = await client.get(CONFIGMAPS, "count", "default")
                await client.update(CONFIGMAPS, {**have, "data": {"text": str(int(have["data"]["text"]) + 1)}})
                done += 1
            except ApiError as e:
                assert e.code in (404, 409), e
                await asyncio.sleep(0)

    await asyncio.gather(add(two[0], 20), add(two[1], 20), add(two[1], 20))
    for client in two[:2]:
        async with asyncio.timeout(5):
            while (await client.get(CONFIGMAPS, "count", "default"))["data"]["text"] != "60":
                await asyncio.sleep(0.02)


async def test_etcd_killed_and_started_again(two: tuple[Client, Client, list[Server]], etcd: Etcd) -> None:
    one, other, servers = two
    acknowledged: list[str] = []

    async def write() -> None:
        for i in range(10_000):
            with contextlib.suppress(ApiError, Unavailable):
                await one.create(CONFIGMAPS, config_map(f"c{i}", "x"))
                acknowledged.append(f"c{i}")

    writer = asyncio.create_task(write())

    async def more_than(count: int) -> None:
        async with asyncio.timeout(30):
            while len(acknowledged) <= count:
                await asyncio.sleep(0.01)

    await more_than(100)
    etcd.end(signal.SIGKILL)
    before = len(acknowledged)
    assert (await other.list(CONFIGMAPS, "default"))["items"]  # reads are from memory
    etcd.start()
    await more_than(before + 100)
    writer.cancel()
    await asyncio.gather(writer, return_exceptions=True)
    for client in (one, other):
        async with asyncio.timeout(10):
            while True:
                names = {o["metadata"]["name"] for o in (await client.list(CONFIGMAPS, "default"))["items"]}
                if names.issuperset(acknowledged):
                    break
                await asyncio.sleep(0.02)
    assert all(server.process.process.poll() is None for server in servers)
    assert not any("Traceback" in server.process.text for server in servers), servers[0].process.text


async def test_what_others_put_there_harms_nobody(
    two: tuple[Client, Client, list[Server]], etcd: Etcd, tmp_path: Path
) -> None:
    one, other, servers = two
    connection = Connection(EtcdConfig((f"127.0.0.1:{etcd.port}",)))
    for key in (b"/stablehand/core/configmaps/default/odd", b"/stablehand/odd", b"/stablehand/\xff"):
        put = pb.RequestOp(request_put=pb.PutRequest(key=key, value=b"k8s\x00"))
        await connection.call("Txn", pb.TxnRequest(success=[put]), 5)
    await connection.close()
    await one.create(CONFIGMAPS, config_map("after", "x"))
    async with asyncio.timeout(5):
        while not [o for o in (await other.list(CONFIGMAPS, "default"))["items"] if o["metadata"]["name"] == "after"]:
            await asyncio.sleep(0.02)
    assert "is no object" in servers[0].process.text
    third = Server(tmp_path, "third", etcd.url)
    assert await asyncio.to_thread(third.process.process.wait, 30) == 1
    assert "is no object of Stablehand's" in third.process.text
    assert "Traceback" not in third.process.text


async def test_without_etcd_it_says_so(tmp_path: Path) -> None:
    nowhere = f"etcd://127.0.0.1:{free_port()}"
    server, stopped = Server(tmp_path, "alone", nowhere), Server(tmp_path, "stopped", nowhere)
    async with asyncio.timeout(20):
        while not (stopped.data / "pki" / "sa.key").exists():
            await asyncio.sleep(0.05)
    began = asyncio.get_running_loop().time()
    await asyncio.to_thread(stopped.process.end)  # while it waits for etcd
    assert asyncio.get_running_loop().time() - began < 5
    assert stopped.process.process.returncode == 0
    assert await asyncio.to_thread(server.process.process.wait, 30) == 1
    assert "does not answer" in server.process.text
    assert "Traceback" not in server.process.text
