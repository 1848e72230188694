"""What Services and EndpointSlices mean in nftables: pure text and data, applied by network.apply.

A Service becomes a Part: chains (one per port, one per endpoint where clients stick), sets, and elements of the
table's maps. `Table` merges the parts and writes the smallest transaction from one state to the next.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field

from stablehand.machinery.meta import key as key_of
from stablehand.machinery.meta import labels
from stablehand.machinery.types import Obj

Key = tuple[str, str]
# (map or set of the table, element)
Element = tuple[str, str]
_STICKY_SECONDS = 10800


@dataclass(slots=True)
class Part:
    """The rules of one Service. An element's value is its verdict, or "" in a set."""

    chains: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sets: dict[str, str] = field(default_factory=dict)
    elements: dict[Element, str] = field(default_factory=dict)


def skeleton(table: str, node_ips: tuple[str, ...] = ()) -> str:
    """An empty table in place of whatever table of that name there was."""
    local = f"ip daddr {{ {', '.join([*node_ips, '127.0.0.0/8'])} }}" if node_ips else "fib daddr type local"
    refuse = "ip daddr @virtual reject\n    ip daddr . meta l4proto . th dport @refused reject"
    return f"""add table ip {table}
delete table ip {table}
table ip {table} {{
  map services {{ type ipv4_addr . inet_proto . inet_service : verdict; }}
  map nodeports {{ type inet_proto . inet_service : verdict; }}
  set virtual {{ type ipv4_addr; }}
  set refused {{ type ipv4_addr . inet_proto . inet_service; }}
  set hairpin {{ type ipv4_addr . ipv4_addr; }}
  chain translate {{
    ip daddr . meta l4proto . th dport vmap @services
    {local} meta l4proto . th dport vmap @nodeports
  }}
  chain refuse {{
    {refuse}
  }}
  chain prerouting {{ type nat hook prerouting priority dstnat; policy accept; jump translate; }}
  chain output {{ type nat hook output priority -100; policy accept; jump translate; }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ct status dnat ip saddr . ip daddr @hairpin masquerade
  }}
  chain refuse_input {{ type filter hook input priority filter; policy accept; ct state new jump refuse; }}
  chain refuse_forward {{ type filter hook forward priority filter; policy accept; ct state new jump refuse; }}
  chain refuse_output {{ type filter hook output priority filter; policy accept; ct state new jump refuse; }}
}}
"""


def is_ipv4(address: str) -> bool:
    try:
        ipaddress.IPv4Address(address)
    except ValueError:
        return False
    return True


def _endpoints(slices: Iterable[Obj], port_name: str, protocol: str, node_name: str) -> list[tuple[str, int]]:
    """Ready endpoints of a port; when there are none, those that still serve while they end."""
    ready, ending = set(), set()
    for piece in slices:
        if piece.get("addressType", "IPv4") != "IPv4":
            continue
        for port in piece.get("ports") or ():
            if (port.get("name") or "") != port_name or (port.get("protocol") or "TCP") != protocol:
                continue
            if not port.get("port"):
                continue
            for endpoint in piece.get("endpoints") or ():
                if node_name and endpoint.get("nodeName") not in (None, node_name):
                    continue
                conditions = endpoint.get("conditions") or {}
                found = {(a, port["port"]) for a in (endpoint.get("addresses") or ())[:1] if is_ipv4(a)}
                if conditions.get("ready") is not False:
                    ready |= found
                elif conditions.get("serving") and conditions.get("terminating"):
                    ending |= found
    return sorted(ready or ending)


def _digest(*words: object) -> str:
    return hashlib.sha256("/".join(map(str, words)).encode()).hexdigest()[:16]


def service_part(service: Obj, slices: Iterable[Obj], node_name: str = "") -> Part:
    """All rules of one Service."""
    part = Part()
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName" or "service.kubernetes.io/service-proxy-name" in labels(service):
        return part
    pieces = list(slices)
    own = spec.get("clusterIPs") or [spec.get("clusterIP") or ""]
    virtual = [a for a in own if is_ipv4(a)]
    if not virtual:
        return part
    balanced = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    external = [a for a in [*(spec.get("externalIPs") or ()), *(i.get("ip") or "" for i in balanced)] if is_ipv4(a)]
    for address in virtual:
        part.elements["virtual", address] = ""
    local_only = node_name if spec.get("internalTrafficPolicy") == "Local" else ""
    for port in spec.get("ports") or ():
        protocol = port.get("protocol") or "TCP"
        proto = protocol.lower()
        endpoints = _endpoints(pieces, port.get("name") or "", protocol, local_only)
        if not endpoints:
            # A virtual address needs no element: what is left untranslated is refused.
            for address in external:
                part.elements["refused", f"{address} . {proto} . {port['port']}"] = ""
            continue
        chain = "port_" + _digest(*key_of(service), proto, port["port"])
        if spec.get("sessionAffinity") == "ClientIP":
            _sticky(part, chain, proto, endpoints, spec)
        else:
            part.chains[chain] = (_translation(proto, endpoints),)
        for address, _ in endpoints:
            part.elements["hairpin", f"{address} . {address}"] = ""
        for address in [*virtual, *external]:
            part.elements["services", f"{address} . {proto} . {port['port']}"] = f"goto {chain}"
        if port.get("nodePort"):
            part.elements["nodeports", f"{proto} . {port['nodePort']}"] = f"goto {chain}"
    return part


def _translation(proto: str, endpoints: list[tuple[str, int]]) -> str:
    if len(endpoints) == 1:
        return f"meta l4proto {proto} dnat to {endpoints[0][0]}:{endpoints[0][1]}"
    choices = ", ".join(f"{i} : {address} . {port}" for i, (address, port) in enumerate(endpoints))
    return f"meta l4proto {proto} dnat ip addr . port to numgen random mod {len(endpoints)} map {{ {choices} }}"


def _sticky(part: Part, chain: str, proto: str, endpoints: list[tuple[str, int]], spec: Obj) -> None:
    """A set of clients per endpoint: a client goes where it went before."""
    client_ip = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
    seconds = client_ip.get("timeoutSeconds") or _STICKY_SECONDS
    rules, ends = [], []
    for address, port in endpoints:
        mark = _digest(chain, address, port, seconds)
        end, clients = f"end_{mark}", f"clients_{mark}"
        part.sets[clients] = f"type ipv4_addr; flags dynamic,timeout; timeout {seconds}s; size 65535;"
        part.chains[end] = (f"update @{clients} {{ ip saddr }}", _translation(proto, [(address, port)]))
        rules.append(f"ip saddr @{clients} goto {end}")
        ends.append(end)
    choices = ", ".join(f"{i} : goto {end}" for i, end in enumerate(ends))
    part.chains[chain] = (*rules, f"numgen random mod {len(ends)} vmap {{ {choices} }}")


class Table:
    """What the kernel has (as far as we wrote it), and the transactions that lead on from there."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.parts: dict[Key, Part] = {}
        # Two Services may bring one element (an endpoint's hairpin, a doubled external address): the first has it.
        self._claims: dict[Element, dict[Key, str]] = {}

    def change(self, parts: dict[Key, Part]) -> str:
        """Takes in new parts (an empty one removes a Service); the nft commands for the difference."""
        before: dict[Element, str | None] = {}
        old_chains: dict[str, tuple[str, ...]] = {}
        old_sets: dict[str, str] = {}
        new_chains: dict[str, tuple[str, ...]] = {}
        new_sets: dict[str, str] = {}
        for key, part in parts.items():
            old = self.parts.pop(key, None) or Part()
            if old == part:
                if part.elements:
                    self.parts[key] = part
                continue
            if part.elements:
                self.parts[key] = part
            old_chains |= old.chains
            old_sets |= old.sets
            new_chains |= part.chains
            new_sets |= part.sets
            for element in old.elements.keys() | part.elements.keys():
                before.setdefault(element, self._value(element))
                claims = self._claims.setdefault(element, {})
                if element in part.elements:
                    claims[key] = part.elements[element]
                else:
                    claims.pop(key, None)
                if not claims:
                    del self._claims[element]
        gone: dict[str, list[str]] = {}
        come: dict[str, list[str]] = {}
        for element in sorted(before):
            was, now = before[element], self._value(element)
            if was != now:
                if was is not None:
                    gone.setdefault(element[0], []).append(element[1])
                if now is not None:
                    come.setdefault(element[0], []).append(f"{element[1]} : {now}" if now else element[1])
        return self._commands(gone, come, (old_chains, new_chains), (old_sets, new_sets))

    def _value(self, element: Element) -> str | None:
        return next(iter(self._claims.get(element, {}).values()), None)

    def _commands(
        self,
        gone: dict[str, list[str]],
        come: dict[str, list[str]],
        chains: tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]],
        sets: tuple[dict[str, str], dict[str, str]],
    ) -> str:
        table = f"ip {self.name}"
        (old_chains, new_chains), (old_sets, new_sets) = chains, sets
        changed = [c for c in new_chains if old_chains.get(c) != new_chains[c]]
        removed = [c for c in old_chains if c not in new_chains]
        out = [f"delete element {table} {where} {{ {', '.join(each)} }}" for where, each in gone.items()]
        out += [f"add set {table} {s} {{ {text} }}" for s, text in new_sets.items() if s not in old_sets]
        out += [f"add chain {table} {c}" for c in changed if c not in old_chains]
        out += [f"flush chain {table} {c}" for c in [*(c for c in changed if c in old_chains), *removed]]
        out += [f"add rule {table} {c} {rule}" for c in changed for rule in new_chains[c]]
        out += [f"delete chain {table} {c}" for c in removed]
        out += [f"delete set {table} {s}" for s in old_sets if s not in new_sets]
        out += [f"add element {table} {where} {{ {', '.join(each)} }}" for where, each in come.items()]
        return "".join(f"{line}\n" for line in out)
