"""The DNS server: packets over UDP and TCP, cluster names from the zone, all others from upstream resolvers."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import dnslib

from stablehand.aiokit.sockets import open_socket
from stablehand.aiokit.tasks import TaskSet
from stablehand.dns.zone import Answer, Record, Zone

log = logging.getLogger("stablehand.dns")

TTL = 5
_UPSTREAM_TIMEOUT = 2.0
_PLAIN_UDP, _EDNS_UDP = 512, 4096  # bytes of an answer over UDP, without and with EDNS
_TRUNCATED = 0x02  # in the third byte
_ADDRESSES = (dnslib.QTYPE.A, dnslib.QTYPE.AAAA)
_TCP_IDLE = 30.0
_RDATA: dict[str, Callable[[Any], Any]] = {
    "A": dnslib.A,
    "AAAA": dnslib.AAAA,
    "CNAME": dnslib.CNAME,
    "PTR": dnslib.PTR,
    "NS": dnslib.NS,
    "TXT": dnslib.TXT,
    "SRV": lambda v: dnslib.SRV(*v),
}


def split_upstream(upstream: str) -> tuple[str, int]:
    """ "1.2.3.4", "1.2.3.4:5353", "fe80::1" or "[fe80::1]:5353"."""
    if upstream.startswith("["):
        host, _, port = upstream[1:].partition("]")
        return host, int(port[1:] or 53)
    if upstream.count(":") == 1:
        host, _, port = upstream.partition(":")
        return host, int(port)
    return upstream, 53


def read_resolv_conf(text: str) -> tuple[str, ...]:
    words = (line.split() for line in text.splitlines())
    return tuple(w[1].partition("%")[0] for w in words if len(w) > 1 and w[0] == "nameserver")


class _Exchange(asyncio.DatagramProtocol):
    """One question to one upstream resolver."""

    def __init__(self, question: bytes) -> None:
        self.question = question
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if data[:2] == self.question[:2] and not self.answer.done():
            self.answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer, tasks: TaskSet) -> None:
        self._server, self._tasks = server, tasks
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        work = self._server.respond(data, tcp=False)
        if isinstance(work, bytes):
            self._send(work, addr)
        elif work is not None:
            self._tasks.spawn(self._later(work, addr))

    async def _later(self, work: Awaitable[bytes], addr: Any) -> None:
        self._send(await work, addr)

    def _send(self, data: bytes, addr: Any) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(data, addr)


class DnsServer:
    """Answers from `zone` (once `ready`), forwards the rest. `listen` opens sockets, `close` shuts them."""

    def __init__(self, zone: Zone, upstreams: tuple[str, ...], timeout: float = _UPSTREAM_TIMEOUT) -> None:
        self.zone, self.ready = zone, False
        self._upstreams = [split_upstream(u) for u in upstreams]
        self._timeout = timeout
        self._tasks = TaskSet("dns")
        self._udp: list[asyncio.BaseTransport] = []
        self._tcp: list[asyncio.Server] = []

    async def listen(self, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        udp = open_socket(socket.SOCK_DGRAM, host, port, "DNS")
        try:
            tcp = open_socket(socket.SOCK_STREAM, host, port, "DNS")
        except OSError:
            udp.close()
            raise
        transport, _ = await loop.create_datagram_endpoint(lambda: _Udp(self, self._tasks), sock=udp)
        self._udp.append(transport)
        self._tcp.append(await asyncio.start_server(self._connection, sock=tcp))

    async def close(self) -> None:
        for transport in self._udp:
            transport.close()
        for server in self._tcp:
            server.close()
        await self._tasks.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._tasks.spawn(self._serve(reader, writer), "tcp")
        await asyncio.wait([task])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                async with asyncio.timeout(_TCP_IDLE):
                    data = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
                work = self.respond(data, tcp=True)
                if work is None:
                    return
                answer = work if isinstance(work, bytes) else await work
                writer.write(len(answer).to_bytes(2, "big") + answer)
                await writer.drain()
        except (OSError, EOFError, TimeoutError):
            pass
        finally:
            writer.close()

    # -- answering

    def respond(self, data: bytes, *, tcp: bool) -> bytes | Awaitable[bytes] | None:
        """The answer's bytes, or what to await for them, or None to stay silent."""
        try:
            query = dnslib.DNSRecord.parse(data)
        except Exception:  # dnslib raises many kinds for a malformed packet
            return None
        if query.header.qr:
            return None
        if query.header.opcode != 0 or len(query.questions) != 1:
            return self._failure(query, dnslib.RCODE.NOTIMP if query.header.opcode else dnslib.RCODE.FORMERR)
        name = str(query.q.qname).rstrip(".")
        if not self.zone.covers(name.lower()):
            return self._forward_or_fail(query, data, tcp)
        if not self.ready:
            return self._failure(query, dnslib.RCODE.SERVFAIL)
        answer = self.zone.lookup(name, str(dnslib.QTYPE.get(query.q.qtype)))
        if answer.dangling and self._upstreams:
            return self._chase(query, answer, tcp)
        return self._pack(query, answer, tcp)

    def _failure(self, query: Any, rcode: int) -> bytes:
        reply = query.reply(ra=1, aa=0)
        reply.header.rcode = rcode
        return bytes(reply.pack())

    def _pack(self, query: Any, answer: Answer, tcp: bool, more: Sequence[Any] = ()) -> bytes:
        limit, edns = 65535 if tcp else _PLAIN_UDP, []
        for option in query.ar:
            if option.rtype == dnslib.QTYPE.OPT:
                limit = limit if tcp else max(_PLAIN_UDP, min(option.edns_len, _EDNS_UDP))
                edns = [dnslib.EDNS0(udp_len=_EDNS_UDP)]
        records = [*(self._resource(record) for record in answer.records), *more]
        if len(records) > 1 and all(r.rtype in _ADDRESSES for r in records):
            random.shuffle(records)  # clients take the first; CoreDNS's loadbalance does the same

        def packed(count: int, extra: Sequence[Record] = ()) -> bytes:
            reply = query.reply(ra=1, aa=1)
            reply.header.rcode, reply.header.tc = answer.rcode, int(count < len(records))
            for record in records[:count]:
                reply.add_answer(record)
            if answer.soa:
                reply.add_auth(self._soa(answer.soa))
            for additional in (*edns, *(self._resource(record) for record in extra)):
                reply.add_ar(additional)
            return bytes(reply.pack())

        if answer.additional and len(whole := packed(len(records), answer.additional)) <= limit:
            return whole
        if len(whole := packed(len(records))) <= limit:
            return whole
        # As many as fit, marked as cut off: resolvers ask again over TCP, simple ones make do with these.
        fits, beyond = 0, len(records)
        while beyond - fits > 1:
            middle = (fits + beyond) // 2
            fits, beyond = (middle, beyond) if len(packed(middle)) <= limit else (fits, middle)
        return packed(fits)

    def _resource(self, record: Record) -> Any:
        name, kind, value = record
        if kind == "SOA":
            return self._soa(name)
        return dnslib.RR(name, getattr(dnslib.QTYPE, kind), rdata=_RDATA[kind](value), ttl=TTL)

    def _soa(self, name: str) -> Any:
        domain = self.zone.domain
        times = (self.zone.serial & 0xFFFFFFFF, 7200, 1800, 86400, TTL)
        data = dnslib.SOA(f"ns.dns.{domain}", f"hostmaster.{domain}", times)
        return dnslib.RR(name, dnslib.QTYPE.SOA, rdata=data, ttl=TTL)

    # -- upstream

    async def _chase(self, query: Any, answer: Answer, tcp: bool) -> bytes:
        """An ExternalName's target is looked up too, as resolvers of the C library expect."""
        question = dnslib.DNSRecord(q=dnslib.DNSQuestion(answer.dangling, query.q.qtype))
        wire = bytes(question.pack())
        data = await self._forward(wire, tcp=False)
        if data is not None and data[2] & _TRUNCATED:
            data = await self._forward(wire, tcp=True)
        try:
            found = dnslib.DNSRecord.parse(data).rr if data is not None else []
        except Exception:  # as above
            found = []
        return self._pack(query, answer, tcp, found)

    async def _forward_or_fail(self, query: Any, data: bytes, tcp: bool) -> bytes:
        answer = await self._forward(data, tcp)
        return answer if answer is not None else self._failure(query, dnslib.RCODE.SERVFAIL)

    async def _forward(self, data: bytes, tcp: bool) -> bytes | None:
        for host, port in self._upstreams:
            try:
                async with asyncio.timeout(self._timeout):
                    return await (self._ask_tcp if tcp else self._ask_udp)(data, host, port)
            except (OSError, EOFError, TimeoutError) as e:
                log.debug("upstream resolver %s port %s: %r", host, port, e)
        return None

    async def _ask_udp(self, data: bytes, host: str, port: int) -> bytes:
        loop = asyncio.get_running_loop()
        transport, exchange = await loop.create_datagram_endpoint(lambda: _Exchange(data), remote_addr=(host, port))
        try:
            transport.sendto(data)
            return await exchange.answer
        finally:
            transport.close()

    async def _ask_tcp(self, data: bytes, host: str, port: int) -> bytes:
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(len(data).to_bytes(2, "big") + data)
            return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        finally:
            writer.close()
