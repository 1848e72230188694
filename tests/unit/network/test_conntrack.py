"""Which UDP connections are cleared, and the wire format in which the kernel tells of them."""

from __future__ import annotations

import socket
import struct

from stablehand.aiokit.conntrack import Flow, is_stale, parse_flow
from stablehand.network.main import changed_flows
from stablehand.network.rules import service_part
from stablehand.network.table import Part
from tests.unit.network.test_rules import piece, service

VIP = "10.96.0.7"
DNS = [{"name": "http", "port": 53, "protocol": "UDP", "nodePort": 30053}]


def attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


def one_way(source: str, port: int, target: str, target_port: int, protocol: int = socket.IPPROTO_UDP) -> bytes:
    addresses = attribute(1, socket.inet_aton(source)) + attribute(2, socket.inet_aton(target))
    ports = attribute(2, port.to_bytes(2, "big")) + attribute(3, target_port.to_bytes(2, "big"))
    return attribute(0x8001, addresses) + attribute(0x8002, attribute(1, bytes([protocol])) + ports)


def test_a_flow_on_the_wire() -> None:
    there, back = one_way("10.0.0.9", 4711, VIP, 53), one_way("10.0.0.5", 8053, "10.0.0.9", 4711)
    number, mark = attribute(12, b"\1\2\3\4"), attribute(8, b"\0\0\0\7")
    data = attribute(0x8001, there) + attribute(0x8002, back) + mark + number
    flow = parse_flow(data)
    assert flow == Flow((VIP, 53), ("10.0.0.5", 8053), attribute(0x8001, there) + number)
    assert parse_flow(data[:20]) is None and parse_flow(b"") is None
    tcp = attribute(0x8001, one_way("10.0.0.9", 1, VIP, 2, 6)) + attribute(0x8002, back)
    assert parse_flow(tcp) is None


def test_stale() -> None:
    wanted = {(VIP, 53): frozenset({("10.0.0.5", 8053)}), ("", 30053): frozenset({("10.0.0.6", 53)})}
    assert not is_stale(Flow((VIP, 53), ("10.0.0.5", 8053)), wanted)
    assert is_stale(Flow((VIP, 53), ("10.0.0.4", 8053)), wanted)
    assert is_stale(Flow(("10.244.0.1", 30053), ("10.244.0.1", 30053)), wanted)  # went nowhere, has a place now
    assert not is_stale(Flow(("10.244.0.1", 30053), ("10.0.0.6", 53)), wanted)
    assert not is_stale(Flow(("192.0.2.1", 53), ("192.0.2.1", 53)), wanted)


def test_what_changed() -> None:
    udp = [{**p, "protocol": "UDP"} for p in piece("a")["ports"]]

    def part(*addresses: str) -> Part:
        return service_part(service(ports=DNS), [{**piece(*addresses), "ports": udp}])

    one, both, none = part("10.0.0.5"), part("10.0.0.5", "10.0.0.6"), part()
    ends = {("10.0.0.5", 8080)}
    assert changed_flows(both, one) == {(VIP, 53): ends, ("", 30053): ends} == changed_flows(none, one)
    assert changed_flows(one, both) == {} == changed_flows(one, one)
    assert changed_flows(one, Part()) == {(VIP, 53): frozenset(), ("", 30053): frozenset()}
    assert service_part(service(), [piece("10.0.0.5")]).flows == {}  # TCP
