"""What NetworkPolicies mean for the pods of one node: the words of a policy, and a Plan of who may reach whom. Pure.

A pod that a policy selects for a direction is isolated in it: only what one of its policies allows goes through.
`permits` is the meaning of a Plan, which policystate makes; policyrules says the same in nftables. Traffic of the node
itself, host-network pods and packets of known connections never come here.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from stablehand.machinery import meta
from stablehand.machinery.endpoints import address as address_of
from stablehand.machinery.pods import is_over
from stablehand.machinery.selectors import Selector, SelectorError, from_label_selector
from stablehand.machinery.types import Obj

INGRESS, EGRESS = "ingress", "egress"
_LAST_PORT = 65535


@dataclass(frozen=True, slots=True, order=True)
class Ports:
    """A range of ports, ends included, of a protocol ("tcp", "udp", "sctp")."""

    protocol: str
    low: int = 0
    high: int = _LAST_PORT

    def __contains__(self, wanted: tuple[str, int]) -> bool:
        return wanted[0] == self.protocol and self.low <= wanted[1] <= self.high


@dataclass(frozen=True, slots=True)
class Allow:
    """One way through: all that is set must match. `group` names addresses of the far end, `networks` lists them
    (neither: anyone); `ports` lists ports, `named` names (address, protocol, port) of the destination (neither: all).
    """

    group: str = ""
    networks: tuple[str, ...] = ()
    ports: tuple[Ports, ...] = ()
    named: str = ""


@dataclass(slots=True)
class Plan:
    """`isolated`: the ids of the rules of each isolated pod, by direction and address. `known`: the addresses of all
    of the node's pods."""

    groups: dict[str, frozenset[str]] = field(default_factory=dict)
    named: dict[str, frozenset[tuple[str, str, int]]] = field(default_factory=dict)
    rules: dict[str, tuple[Allow, ...]] = field(default_factory=dict)
    isolated: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    known: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class DnsServer:
    """Cluster DNS that is no pod: counts as a pod labelled k8s-app=kube-dns in kube-system, on its port alone."""

    address: str
    port: int


def permits(plan: Plan, source: str, destination: str, protocol: str, port: int) -> bool:
    """Whether a new connection between two addresses (as after translation) gets through."""
    if source == destination:
        return True
    for direction, own, far in ((EGRESS, source, destination), (INGRESS, destination, source)):
        ids = plan.isolated.get((direction, own))
        if ids is None:
            continue
        allows = (allow for each in ids for allow in plan.rules[each])
        if not any(_matches(plan, allow, far, destination, protocol, port) for allow in allows):
            return False
    return True


def _matches(plan: Plan, allow: Allow, far: str, destination: str, protocol: str, port: int) -> bool:
    if allow.group and far not in plan.groups[allow.group]:
        return False
    if allow.networks and not any(ipaddress.ip_address(far) in ipaddress.ip_network(n) for n in allow.networks):
        return False
    if allow.named:
        return (destination, protocol, port) in plan.named[allow.named]
    return not allow.ports or any((protocol, port) in each for each in allow.ports)


def pod_address(pod: Obj) -> str:
    """The IPv4 address that is this pod's alone; "" where it has none (yet, any more, or the host's)."""
    if is_over(pod) or pod["spec"].get("hostNetwork"):
        return ""
    return address_of(pod, "IPv4") or ""


def concerns_policies(old: Obj | None, new: Obj) -> bool:
    """Whether a changed pod may change a Plan."""
    return (
        old is None
        or pod_address(old) != pod_address(new)
        or meta.labels(old) != meta.labels(new)
        or old["spec"].get("nodeName") != new["spec"].get("nodeName")
    )


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Selector:
    return from_label_selector(json.loads(text))


def parse_selector(selector: Obj | None) -> Selector:
    """{} or none given selects all, as both do in a policy."""
    try:
        return _parsed(json.dumps(selector or {}, sort_keys=True))
    except SelectorError:
        return Selector(nothing=True)


def policy_types(policy: Obj) -> tuple[str, ...]:
    """The directions a policy is about."""
    spec = policy.get("spec") or {}
    given = spec.get("policyTypes") or (["Ingress", "Egress"] if spec.get("egress") else ["Ingress"])
    return tuple(d for d, name in ((INGRESS, "Ingress"), (EGRESS, "Egress")) if name in given)


def block_networks(block: Obj) -> tuple[str, ...]:
    """The IPv4 networks of an ipBlock, what it excepts cut out; disjoint, in order."""
    try:
        whole = ipaddress.IPv4Network(block["cidr"], strict=False)
        holes = [ipaddress.ip_network(e, strict=False) for e in block.get("except") or ()]
    except ValueError:
        return ()
    left = [whole]
    for hole in holes:
        if not isinstance(hole, ipaddress.IPv4Network):
            continue
        kept: list[ipaddress.IPv4Network] = []
        for each in left:
            if each.subnet_of(hole):
                continue
            kept.extend(each.address_exclude(hole) if hole.subnet_of(each) else [each])
        left = kept
    return tuple(str(n) for n in sorted(ipaddress.collapse_addresses(left)))


def split_ports(ports: Iterable[Obj]) -> tuple[tuple[Ports, ...], list[tuple[str, str]]]:
    """(numeric ranges, (protocol, name) of named ports)."""
    numbers: list[Ports] = []
    names: list[tuple[str, str]] = []
    for each in ports:
        protocol, port = (each.get("protocol") or "TCP").lower(), each.get("port")
        if port is None:
            numbers.append(Ports(protocol))
        elif isinstance(port, int):
            numbers.append(Ports(protocol, port, each.get("endPort") or port))
        else:
            names.append((protocol, str(port)))
    return tuple(sorted(set(numbers))), names
