"""Clearing UDP connections that lead to endpoints which are gone: raw ctnetlink, a dump and a delete for each.

The kernel translates a UDP flow as its first packet was, for as long as packets come: a client that keeps its port
would talk to a dead endpoint for ever. TCP clients notice by themselves.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_NETLINK_NETFILTER = 12
_CTNETLINK = 1 << 8
_NEW, _GET, _DELETE = 0, 1, 2
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_ERROR, _DONE = 2, 3
_TUPLE_ORIG, _TUPLE_REPLY, _ID, _ZONE = 1, 2, 12, 18
_TYPE_MASK = 0x3FFF  # without the flags "nested" and "network byte order"

Wanted = Mapping[tuple[str, int], frozenset[tuple[str, int]]]


@dataclass(frozen=True, slots=True)
class Flow:
    """One tracked connection: where the client sends, who answers, and the attributes by which it is deleted."""

    destination: tuple[str, int]
    answers: tuple[str, int]
    identity: bytes = b""


def is_stale(flow: Flow, wanted: Wanted) -> bool:
    """Whether the flow goes to a known (address, port) but is answered by none of its ends. Address "": any."""
    ends = wanted.get(flow.destination)
    if ends is None:
        ends = wanted.get(("", flow.destination[1]))
    return ends is not None and flow.answers not in ends


def clear_udp(wanted: Wanted) -> int:
    """Deletes the stale UDP flows of this network namespace; their number. Blocks. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as sock:
        sock.bind((0, 0))
        stale = [flow for flow in _dump(sock) if is_stale(flow, wanted)]
        for flow in stale:
            sock.send(_message(_DELETE, _REQUEST | _ACK, flow.identity))
            for kind, payload in _messages(sock.recv(1 << 16)):
                # Gone meanwhile is as good.
                if kind == _ERROR and (code := -struct.unpack_from("=i", payload)[0]) not in (0, errno.ENOENT):
                    raise OSError(code, os.strerror(code))
    return len(stale)


def _message(kind: int, flags: int, payload: bytes = b"") -> bytes:
    body = struct.pack("=BBH", socket.AF_INET, 0, 0) + payload
    return struct.pack("=IHHII", 16 + len(body), _CTNETLINK | kind, flags, 1, 0) + body


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 16 <= len(data):
        size, kind = struct.unpack_from("=IH", data, at)
        if size < 16:
            return
        yield kind, data[at + 16 : at + size]
        at += (size + 3) & ~3


def _dump(sock: socket.socket) -> Iterator[Flow]:
    sock.send(_message(_GET, _REQUEST | _DUMP))
    while True:
        for kind, payload in _messages(sock.recv(1 << 18)):
            if kind == _DONE:
                return
            if kind == _ERROR:
                code = -struct.unpack_from("=i", payload)[0]
                raise OSError(code, os.strerror(code))
            if kind == _CTNETLINK | _NEW and (flow := parse_flow(payload[4:])) is not None:
                yield flow


def _attributes(data: bytes) -> dict[int, tuple[bytes, bytes]]:
    """type -> (value, the attribute as it came)."""
    found, at = {}, 0
    while at + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, at)
        if size < 4:
            break
        found[kind & _TYPE_MASK] = (data[at + 4 : at + size], data[at : at + size] + b"\0" * (-size % 4))
        at += (size + 3) & ~3
    return found


def _tuple(data: bytes) -> tuple[tuple[str, int], tuple[str, int]] | None:
    """(source, destination) of an IPv4 UDP tuple."""
    outer = _attributes(data)
    if 1 not in outer or 2 not in outer:
        return None
    addresses, protocol = _attributes(outer[1][0]), _attributes(outer[2][0])
    if protocol.get(1, (b"", b""))[0] != bytes([socket.IPPROTO_UDP]):
        return None
    if not ({1, 2} <= addresses.keys() and {2, 3} <= protocol.keys()):
        return None
    ends = [(socket.inet_ntoa(addresses[i][0]), int.from_bytes(protocol[i + 1][0], "big")) for i in (1, 2)]
    return ends[0], ends[1]


def parse_flow(data: bytes) -> Flow | None:
    """The flow a dump's attributes tell of; None for what is not UDP over IPv4."""
    found = _attributes(data)
    if _TUPLE_ORIG not in found or _TUPLE_REPLY not in found:
        return None
    there, back = _tuple(found[_TUPLE_ORIG][0]), _tuple(found[_TUPLE_REPLY][0])
    if there is None or back is None:
        return None
    identity = b"".join(found[each][1] for each in (_TUPLE_ORIG, _ID, _ZONE) if each in found)
    return Flow(there[1], back[0], identity)
