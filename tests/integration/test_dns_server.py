"""The DNS server on loopback, with a fake API and an upstream resolver of our own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

import dnslib

from stablehand.client import Request
from stablehand.dns import DnsConfig, ensure_dns_service, run
from stablehand.machinery.types import Obj
from tests.unit.node.fakeapi import FakeApi

SLICES = "/apis/discovery.k8s.io/v1/namespaces/ns/endpointslices/"


class Api(FakeApi):
    """With endpoint slices and replacing."""

    @staticmethod
    def _is_collection(path: str) -> bool:
        return path.endswith(("/services", "/endpointslices"))

    async def send(self, request: Request) -> Obj:
        if request.method != "PUT":
            return await super().send(request)
        self.writes.append((request.method, request.path, request.body))
        return self.put(request.path, request.body)


given: set[int] = set()


def free_port() -> int:
    """Free for UDP and TCP, and not given before."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            udp.bind(("127.0.0.1", 0))
            port = int(udp.getsockname()[1])
            with contextlib.suppress(OSError):
                tcp.bind(("127.0.0.1", port))
                if port not in given:
                    given.add(port)
                    return port


class Upstream(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        query = dnslib.DNSRecord.parse(data)
        reply = query.reply()
        reply.add_answer(dnslib.RR(query.q.qname, dnslib.QTYPE.A, rdata=dnslib.A("192.0.2.7"), ttl=60))
        self.transport.sendto(reply.pack(), addr)


async def ask(port: int, name: str, kind: str = "A", tcp: bool = False, edns: int = 0, timeout: float = 5) -> Any:
    query = dnslib.DNSRecord.question(name, kind)
    if edns:
        query.add_ar(dnslib.EDNS0(udp_len=edns))
    data = await asyncio.to_thread(query.send, "127.0.0.1", port, tcp=tcp, timeout=timeout)
    return dnslib.DNSRecord.parse(data)


async def becomes(port: int, name: str, condition: Callable[[Any], bool], kind: str = "A") -> Any:
    """Asks until the answer is as wanted; also until there is somebody who answers."""
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(OSError):
                answer = await ask(port, name, kind, timeout=0.2)
                if condition(answer):
                    return answer
            await asyncio.sleep(0.01)


async def test_answers_changes_and_forwarding() -> None:
    api, loop = Api(), asyncio.get_running_loop()
    api.put("/api/v1/namespaces/ns/services/db", {"spec": {"clusterIP": "None"}})
    api.put("/api/v1/namespaces/ns/services/out", {"spec": {"type": "ExternalName", "externalName": "example.com"}})
    piece = {
        "metadata": {"labels": {"kubernetes.io/service-name": "db"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [f"10.244.1.{i}"], "conditions": {"ready": True}} for i in range(1, 90)],
    }
    api.put(SLICES + "db-1", piece)
    port, up, dead = free_port(), free_port(), free_port()
    transport, _ = await loop.create_datagram_endpoint(Upstream, local_addr=("127.0.0.1", up))
    listen = (("127.0.0.1", port), ("198.51.100.77", port))  # the second is no address of this machine
    config = DnsConfig(api.client(), listen=listen, upstreams=(f"127.0.0.1:{dead}", f"127.0.0.1:{up}"))
    task = asyncio.create_task(run(config))
    try:
        await becomes(port, "db.ns.svc.cluster.local", lambda a: a.header.rcode == 0)
        # Too many for a packet: as many as fit, marked; with EDNS all of them.
        short = await ask(port, "db.ns.svc.cluster.local")
        assert short.header.tc and 20 < len(short.rr) < 89 and str(short.q.qname) == "db.ns.svc.cluster.local."
        assert len(short.pack()) <= 512
        wide = await ask(port, "db.ns.svc.cluster.local", edns=4096)
        assert not wide.header.tc and len(wide.rr) == 89 and wide.ar[0].rtype == dnslib.QTYPE.OPT
        assert {str(r.rdata) for r in wide.rr} == {f"10.244.1.{i}" for i in range(1, 90)}
        assert [str(r.rdata) for r in wide.rr] != [
            str(r.rdata) for r in (await ask(port, "DB.NS.svc.cluster.local")).rr
        ]
        whole = await ask(port, "db.ns.svc.cluster.local", tcp=True)
        assert len(whole.rr) == 89 and whole.header.aa and whole.rr[0].ttl == 5
        missing = await ask(port, "no.ns.svc.cluster.local")
        assert missing.header.rcode == dnslib.RCODE.NXDOMAIN and missing.auth[0].rtype == dnslib.QTYPE.SOA
        assert str((await ask(port, "example.com")).rr[0].rdata) == "192.0.2.7"
        assert [str(r.rdata) for r in (await ask(port, "out.ns.svc.cluster.local")).rr] == ["example.com.", "192.0.2.7"]
        api.put(SLICES + "db-1", {**piece, "endpoints": piece["endpoints"][:1]})  # type: ignore[index]
        await becomes(port, "DB.ns.svc.cluster.local", lambda a: [str(r.rdata) for r in a.rr] == ["10.244.1.1"])
        transport.close()
        await becomes(port, "example.com", lambda a: a.header.rcode == dnslib.RCODE.SERVFAIL)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        transport.close()


async def test_dns_service_is_made_once_and_mended() -> None:
    api = Api()
    for port in (53, 53, 10053):
        await ensure_dns_service(api.client(), "10.96.0.10", "10.244.0.1", port)
    (found,) = [o for p, o in api.objects.items() if "endpointslices" in p]
    assert [p["port"] for p in found["ports"]] == [10053, 10053]
    assert [m for m, p, _ in api.writes if "endpointslices" in p] == ["POST", "PUT"]


class Cutting(asyncio.DatagramProtocol):
    """An upstream resolver whose answers over UDP are all cut off."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        reply = dnslib.DNSRecord.parse(data).reply()
        reply.header.tc = 1
        self.transport.sendto(reply.pack(), addr)


async def whole(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    query = dnslib.DNSRecord.parse(await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big")))
    reply = query.reply()
    for i in range(1, 60):
        reply.add_answer(dnslib.RR(query.q.qname, dnslib.QTYPE.A, rdata=dnslib.A(f"192.0.2.{i}"), ttl=60))
    data = reply.pack()
    writer.write(len(data).to_bytes(2, "big") + data)
    writer.close()


async def test_upstream_over_tcp() -> None:
    """An external name's cut answer is asked for again over TCP; a client's own TCP question goes on as such."""
    api, loop = Api(), asyncio.get_running_loop()
    api.put("/api/v1/namespaces/ns/services/out", {"spec": {"type": "ExternalName", "externalName": "example.com"}})
    port, up = free_port(), free_port()
    transport, _ = await loop.create_datagram_endpoint(Cutting, local_addr=("127.0.0.1", up))
    server = await asyncio.start_server(whole, "127.0.0.1", up)
    task = asyncio.create_task(
        run(DnsConfig(api.client(), listen=(("127.0.0.1", port),), upstreams=(f"127.0.0.1:{up}",)))
    )
    try:
        await becomes(port, "example.com", lambda a: bool(a.header.tc))
        assert len((await ask(port, "example.com", tcp=True)).rr) == 59
        await becomes(port, "out.ns.svc.cluster.local", lambda a: a.header.rcode == 0)
        answer = await ask(port, "out.ns.svc.cluster.local", edns=4096)
        assert len(answer.rr) == 60 and answer.rr[0].rtype == dnslib.QTYPE.CNAME and not answer.header.tc
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        transport.close()
        server.close()
