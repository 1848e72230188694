"""What Services and EndpointSlices mean in nftables: pure text and data, applied by network.nft.

A Service becomes a Part of the table: chains (one per port, one per endpoint where clients stick, one in front where
clients are told apart), sets, and elements of the table's maps.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from stablehand.machinery.meta import key as key_of
from stablehand.machinery.meta import labels
from stablehand.machinery.types import Obj
from stablehand.network.table import Part, digest

_STICKY_SECONDS = 10800
# Whose Services are somebody else's, or nobody's, although they have a virtual address.
_NOT_OURS = {"service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"}
End = tuple[str, int]


def skeleton(table: str, node_ips: tuple[str, ...] = (), pod_cidr: str = "") -> str:
    """An empty table in place of whatever table of that name there was."""
    # Two Stablehands on a machine may have the same virtual addresses: pods come to their own before anybody else's.
    own = f"type nat hook prerouting priority dstnat - 1; policy accept; ip saddr {pod_cidr} jump translate;"
    own = f"chain own_pods {{ {own} }}" if pod_cidr else ""
    local = f"ip daddr {{ {', '.join([*node_ips, '127.0.0.0/8'])} }}" if node_ips else "fib daddr type local"
    # A packet of a pod that belongs to no connection as the kernel sees it is not translated back: its client would
    # know nothing of who sends it, and reset the connection (kubernetes/kubernetes#74839).
    odd = f"ip saddr {pod_cidr} ct state invalid drop" if pod_cidr else ""
    # To TCP by a reset: the kernel sends only so many ICMP messages a second, and a client without one waits.
    refused = ("ip daddr @virtual", "ip daddr . meta l4proto . th dport @refused")
    kinds = ("meta l4proto tcp", "reject with tcp reset"), ("", "reject")
    refuse = "\n    ".join(f"{which} {proto} {verdict}" for which in refused for proto, verdict in kinds)
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
  {own}
  chain prerouting {{ type nat hook prerouting priority dstnat; policy accept; jump translate; }}
  chain output {{ type nat hook output priority -100; policy accept; jump translate; }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ct status dnat ip saddr . ip daddr @hairpin masquerade
  }}
  chain refuse_input {{ type filter hook input priority filter; policy accept; ct state new jump refuse; }}
  chain refuse_forward {{
    type filter hook forward priority filter; policy accept;
    {odd}
    ct state new jump refuse
  }}
  chain refuse_output {{ type filter hook output priority filter; policy accept; ct state new jump refuse; }}
}}
"""


def is_ipv4(address: str) -> bool:
    try:
        ipaddress.IPv4Address(address)
    except ValueError:
        return False
    return True


def _networks(texts: Iterable[str]) -> tuple[str, ...]:
    """The IPv4 ones of some CIDRs, without overlaps."""
    found = []
    for text in texts:
        try:
            found.append(ipaddress.IPv4Network(text.strip(), strict=False))
        except ValueError:
            continue
    return tuple(str(n) for n in ipaddress.collapse_addresses(found))


@dataclass(frozen=True, slots=True)
class _Behind:
    """The endpoints of one port, each with whether it is on this node."""

    ready: frozenset[tuple[End, bool]]
    ending: frozenset[tuple[End, bool]]

    def choose(self, *, local: bool) -> list[End]:
        """Ready ones; when there are none, those that still serve while they end (KEP-1669)."""
        for some in (self.ready, self.ending):
            if found := sorted({end for end, here in some if here or not local}):
                return found
        return []


def _behind(slices: Iterable[Obj], port_name: str, protocol: str, node_name: str) -> _Behind:
    ready: set[tuple[End, bool]] = set()
    ending: set[tuple[End, bool]] = set()
    for piece in slices:
        if piece.get("addressType", "IPv4") != "IPv4":
            continue
        for port in piece.get("ports") or ():
            if (port.get("name") or "") != port_name or (port.get("protocol") or "TCP") != protocol:
                continue
            if not port.get("port"):
                continue
            for endpoint in piece.get("endpoints") or ():
                conditions = endpoint.get("conditions") or {}
                here = not node_name or endpoint.get("nodeName") == node_name
                found = {((a, port["port"]), here) for a in (endpoint.get("addresses") or ())[:1] if is_ipv4(a)}
                if conditions.get("ready") is not False:
                    ready |= found
                elif conditions.get("serving") and conditions.get("terminating"):
                    ending |= found
    return _Behind(frozenset(ready), frozenset(ending))


def local_endpoints(slices: Iterable[Obj], node_name: str) -> int:
    """How many ready endpoints are on this node: what a Service's health check port tells."""
    found: set[str] = set()
    for piece in slices:
        for endpoint in piece.get("endpoints") or ():
            if (endpoint.get("conditions") or {}).get("ready") is not False:
                if not node_name or endpoint.get("nodeName") == node_name:
                    found.update((endpoint.get("addresses") or ())[:1])
    return len(found)


def _balanced(service: Obj) -> Iterator[str]:
    """The addresses a load balancer gave the Service and whose packets come here unchanged (ipMode VIP)."""
    for ingress in ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ():
        if is_ipv4(ingress.get("ip") or "") and ingress.get("ipMode") != "Proxy":
            yield ingress["ip"]


def service_part(service: Obj, slices: Iterable[Obj], node_name: str = "", pod_cidr: str = "") -> Part:
    """All rules of one Service. `pod_cidr` holds the addresses of this node's pods."""
    part = Part()
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName" or _NOT_OURS & labels(service).keys():
        return part
    pieces = list(slices)
    own = spec.get("clusterIPs") or [spec.get("clusterIP") or ""]
    virtual = [a for a in own if is_ipv4(a)]
    if not virtual:
        return part
    for address in virtual:
        part.elements["virtual", address] = ""
    for port in spec.get("ports") or ():
        behind = _behind(pieces, port.get("name") or "", port.get("protocol") or "TCP", node_name)
        _Port(part, service, port, behind, pod_cidr).write(virtual)
    return part


class _Port:
    """The rules of one port of a Service, written into its Part."""

    def __init__(self, part: Part, service: Obj, port: Obj, behind: _Behind, pod_cidr: str) -> None:
        self._part, self._service, self._port, self._behind, self._cidr = part, service, port, behind, pod_cidr
        self._spec = service["spec"]
        self._proto = (port.get("protocol") or "TCP").lower()

    def write(self, virtual: list[str]) -> None:
        spec, number = self._spec, self._port["port"]
        balanced = list(_balanced(self._service))
        external = [a for a in spec.get("externalIPs") or () if is_ipv4(a)]
        everyone = self._behind.choose(local=False)
        if not everyone:
            # A virtual address needs no element: what is left untranslated is refused.
            for address in [*external, *balanced]:
                self._part.elements["refused", f"{address} . {self._proto} . {number}"] = ""
            self._flows([*virtual, *external, *balanced], ())
            return
        inside = self._target(local=spec.get("internalTrafficPolicy") == "Local")
        outside = self._outside()
        for address in virtual:
            self._answer(address, inside)
        for address in external:
            self._answer(address, outside)
        guarded = self._guard(outside)
        for address in balanced:
            self._answer(address, guarded)
        if self._port.get("nodePort"):
            self._part.elements["nodeports", f"{self._proto} . {self._port['nodePort']}"] = outside
        for address, _ in everyone:
            self._part.elements["hairpin", f"{address} . {address}"] = ""
        self._flows([*virtual, *external, *balanced], everyone)

    def _answer(self, address: str, verdict: str) -> None:
        self._part.elements["services", f"{address} . {self._proto} . {self._port['port']}"] = verdict

    def _flows(self, addresses: list[str], ends: Iterable[End]) -> None:
        if self._proto != "udp":
            return
        for address in addresses:
            self._part.flows[address, self._port["port"]] = frozenset(ends)
        if self._port.get("nodePort"):
            self._part.flows["", self._port["nodePort"]] = frozenset(ends)

    def _name(self, kind: str) -> str:
        return f"{kind}_" + digest(*key_of(self._service), self._proto, self._port["port"])

    def _target(self, *, local: bool) -> str:
        """The verdict that spreads over the endpoints; `local`: over this node's, and a drop where there are none."""
        ends = self._behind.choose(local=local)
        if not ends:
            return "drop"
        chain = self._name("port" if ends == self._behind.choose(local=False) else "local")
        if chain not in self._part.chains:
            if self._spec.get("sessionAffinity") == "ClientIP":
                _sticky(self._part, chain, self._proto, ends, self._spec)
            else:
                self._part.chains[chain] = (_translation(self._proto, ends),)
        return f"goto {chain}"

    def _outside(self) -> str:
        """For clients outside the cluster; this node and its pods reach all endpoints under policy Local too."""
        everyone = self._target(local=False)
        if self._spec.get("externalTrafficPolicy") != "Local":
            return everyone
        near = self._target(local=True)
        if near == everyone:
            return everyone
        chain = self._name("outside")
        rules = [f"ip saddr {self._cidr} {everyone}"] if self._cidr else []
        self._part.chains[chain] = (*rules, f"fib saddr type local {everyone}", near)
        return f"goto {chain}"

    def _guard(self, verdict: str) -> str:
        """loadBalancerSourceRanges: others are dropped."""
        given = self._spec.get("loadBalancerSourceRanges")
        if not given:
            return verdict
        ranges = _networks(given)
        chain = self._name("guard")
        if "0.0.0.0/0" in ranges:
            return verdict
        rules = [f"ip saddr {{ {', '.join(ranges)} }} {verdict}"] if ranges else []
        self._part.chains[chain] = (*rules, "drop")
        return f"goto {chain}"


def _translation(proto: str, endpoints: list[End]) -> str:
    if len(endpoints) == 1:
        return f"meta l4proto {proto} dnat to {endpoints[0][0]}:{endpoints[0][1]}"
    choices = ", ".join(f"{i} : {address} . {port}" for i, (address, port) in enumerate(endpoints))
    return f"meta l4proto {proto} dnat ip addr . port to numgen random mod {len(endpoints)} map {{ {choices} }}"


def _sticky(part: Part, chain: str, proto: str, endpoints: list[End], spec: Obj) -> None:
    """A set of clients per endpoint: a client goes where it went before."""
    client_ip = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
    seconds = client_ip.get("timeoutSeconds") or _STICKY_SECONDS
    rules, ends = [], []
    for address, port in endpoints:
        mark = digest(chain, address, port, seconds)
        end, clients = f"end_{mark}", f"clients_{mark}"
        part.sets[clients] = f"type ipv4_addr; flags dynamic,timeout; timeout {seconds}s; size 65535;"
        part.chains[end] = (f"update @{clients} {{ ip saddr }}", _translation(proto, [(address, port)]))
        rules.append(f"ip saddr @{clients} goto {end}")
        ends.append(end)
    choices = ", ".join(f"{i} : goto {end}" for i, end in enumerate(ends))
    part.chains[chain] = (*rules, f"numgen random mod {len(ends)} vmap {{ {choices} }}")
