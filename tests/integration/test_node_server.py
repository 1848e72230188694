"""The node's own HTTPS server on real containers: logs, exec, port-forward, stats, and who may ask."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from stablehand.node.server import KubeletServer
from tests.integration.test_node_containerd import WAIT, Running, folder, pytestmark
from tests.unit.node.fakeapi import FakeApi

__all__ = ["folder", "pytestmark"]


def make_certificates(place: Path) -> None:
    """ca.pem, node.pem/key, admin.pem/key (system:masters) and other.pem/key, below `place`."""
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
    now = datetime.datetime.now(datetime.UTC)

    def sign(subject: x509.Name, key: Any, ca: bool) -> x509.Certificate:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(authority).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
        builder = builder.not_valid_after(now + datetime.timedelta(hours=1))
        builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
        alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        return builder.add_extension(alternative, False).sign(authority_key, hashes.SHA256())

    def write(name: str, key: Any, certificate: x509.Certificate) -> None:
        (place / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        form = serialization.PrivateFormat.PKCS8
        data = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        (place / f"{name}.key").write_bytes(data)

    write("ca", authority_key, sign(authority, authority_key, True))
    for name, group in (("node", "nodes"), ("admin", "system:masters"), ("other", "nobody")):
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group), x509.NameAttribute(NameOID.COMMON_NAME, name)]
        write(name, key, sign(x509.Name(names), key, False))


class Served:
    task: asyncio.Task[None]

    def __init__(self, node: Running, place: Path) -> None:
        self.node = node
        self._place = place
        self.url = f"https://127.0.0.1:{node.config.port}"

    def session(self, user: str | None = "admin") -> aiohttp.ClientSession:
        context = ssl.create_default_context(cafile=str(self._place / "ca.pem"))
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if user is not None:
            context.load_cert_chain(self._place / f"{user}.pem", self._place / f"{user}.key")
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))

    async def text(self, path: str) -> str:
        async with self.session() as session, session.get(self.url + path) as answer:
            return await answer.text()


@pytest.fixture
async def served(folder: Path) -> AsyncIterator[Served]:
    make_certificates(folder)
    certificates = {
        "tls_cert": folder / "node.pem",
        "tls_key": folder / "node.key",
        "client_ca": folder / "ca.pem",
        "listen": ("127.0.0.1",),
    }
    node = await Running(folder, FakeApi(), **certificates).start()
    task = asyncio.create_task(KubeletServer(node.agent).run())
    served = Served(node, folder)
    served.task = task
    async with served.session() as session:
        for _ in range(100):
            try:
                async with session.get(served.url + "/healthz"):
                    break
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.02)
    yield served
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await node.stop()


async def test_logs(served: Served) -> None:
    node = served.node
    node.create(
        "talk", {"command": ["sh", "-c", "for i in 1 2 3; do echo line $i; done; echo oops >&2; exec sleep 100"]}
    )
    node.create(
        "quit", {"command": ["sh", "-c", "for i in 1 2 3 4 5 6; do echo n$i; sleep 0.1; done"]}, restartPolicy="Never"
    )
    await asyncio.gather(node.ready("talk"), node.ready("quit"))
    path = "/containerLogs/default/talk/c"
    for _ in range(50):
        if "oops" in await served.text(path):
            break
        await asyncio.sleep(0.02)
    assert sorted((await served.text(path)).splitlines()) == ["line 1", "line 2", "line 3", "oops"]
    assert len((await served.text(path + "?tailLines=2")).splitlines()) == 2
    assert (await served.text(path + "?timestamps=true&tailLines=1"))[:2] == "20"
    assert len(await served.text(path + "?limitBytes=6")) == 6
    assert await served.text("/containerLogs/default/quit/c?follow=true") == "n1\nn2\nn3\nn4\nn5\nn6\n"
    assert "previous terminated container" in await served.text(path + "?previous=true")
    assert "not found" in await served.text("/containerLogs/default/none/c")
    node.api.delete_pod("/api/v1/namespaces/default/pods/talk", 0)
    await asyncio.gather(node.remove("talk"), node.remove("quit"))


async def test_exec_attach_and_port_forward(served: Served) -> None:
    node = served.node
    node.create("web", {"command": ["perl", "/httpd.pl", "8080"], "readinessProbe": {"tcpSocket": {"port": 8080}}})
    node.create("wait", {"command": WAIT})
    await asyncio.gather(node.ready("web"), node.ready("wait"))
    async with served.session() as session:
        url = f"{served.url}/exec/default/wait/c?command=sh&command=-c&command=echo+out;echo+err+>%262;exit+3"
        protocols = ("v4.channel.k8s.io",)
        seen: dict[int, bytes] = {}
        async with session.ws_connect(url + "&output=1&error=1", protocols=protocols) as socket:
            assert socket.protocol == "v4.channel.k8s.io"
            async for message in socket:
                if message.type == aiohttp.WSMsgType.BINARY and message.data:
                    seen[message.data[0]] = seen.get(message.data[0], b"") + message.data[1:]
        assert seen[1] == b"out\n" and seen[2] == b"err\n" and b'"3"' in seen[3]
        url = f"{served.url}/exec/default/wait/c?command=cat&input=1&output=1"
        async with session.ws_connect(url, protocols=protocols) as socket:
            await socket.send_bytes(b"\x00hello\n")
            while True:
                message = await socket.receive(5)
                if message.data[1:]:
                    assert message.data == b"\x01hello\n"
                    break
        url = f"{served.url}/portForward/default/web?port=8080"
        async with session.ws_connect(url, protocols=("v4.channel.k8s.io",)) as socket:
            await socket.send_bytes(b"\x00GET / HTTP/1.0\r\n\r\n")
            data = b""
            while b"hello" not in data:
                message = await socket.receive(5)
                if message.data[0] == 0:
                    data += message.data[1:]
            assert b"200 OK" in data
        async with session.get(f"{served.url}/exec/default/wait/c?command=true") as answer:
            assert answer.status == 400
        async with session.post(f"{served.url}/run/default/wait/c?cmd=hostname") as answer:
            assert (await answer.text()).strip() == "wait"
    await asyncio.gather(node.remove("web"), node.remove("wait"))


async def test_open_streams_do_not_hold_back_the_end(served: Served) -> None:
    """Stablehand is told to stop while somebody follows a log: it does not wait for them."""
    node = served.node
    node.create("talk", {"command": ["sh", "-c", "echo begun; exec sleep 100"]})
    await node.ready("talk")
    url = served.url + "/containerLogs/default/talk/c?follow=true"
    async with served.session() as session, session.get(url) as answer:
        assert await answer.content.readline() == b"begun\n"
        began = asyncio.get_running_loop().time()
        served.task.cancel()
        await asyncio.wait([served.task])
        assert asyncio.get_running_loop().time() - began < 0.5
    node.api.delete_pod("/api/v1/namespaces/default/pods/talk", 0)
    await node.remove("talk")


async def test_stats_and_access(served: Served) -> None:
    node = served.node
    node.create("one")
    await node.ready("one")
    assert 'pod="one"' in await served.text("/metrics/resource")
    assert '"name":"one"' in await served.text("/stats/summary")
    assert 'container_memory_working_set_bytes{container="' in await served.text("/metrics/cadvisor")
    assert "kubelet_running_pods 1" in await served.text("/metrics")
    assert (await served.text("/metrics/probes")) == ""  # the pod has none
    assert '"kind":"PodList"' in await served.text("/pods")
    for user, code in ((None, 401), ("other", 503)):
        async with served.session(user) as session, session.get(served.url + "/pods") as answer:
            assert answer.status == code, await answer.text()
    await node.remove("one")
