"""NetworkPolicies in nftables' words: pure text and data, put together by policystate, applied by network.nft.

Each direction has a base chain of its own, so that an `accept` for one end leaves the other end's say: a packet
passes when both let it. A pod's address leads (by a map) to the chain of its policies, which ends in `drop`; pods with
the same policies share it. Peers are sets, so that a pod that comes or goes is one element.

A pod must be isolated from its first packet on, but its address is known only once the API tells it: an address of the
pod network that is no known pod's is cut off. The node agent tells a pod's address before it makes the containers, so a
pod hardly ever waits for this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from stablehand.network.policies import EGRESS, INGRESS, Allow, Ports
from stablehand.network.table import Element, Part, digest

_ALL = (0, 65535)


def skeleton(table: str, pod_cidr: str = "") -> str:
    """An empty table in place of whatever table of that name there was. `pod_cidr` holds the node's pods."""
    known = "ct state established,related accept\n    ip saddr . ip daddr @own accept"
    new_from = f"ip saddr {pod_cidr} ip saddr != @known drop" if pod_cidr else ""
    new_to = f"ip daddr {pod_cidr} ip daddr != @known drop" if pod_cidr else ""
    return f"""add table ip {table}
delete table ip {table}
table ip {table} {{
  map {INGRESS} {{ type ipv4_addr : verdict; }}
  map {EGRESS} {{ type ipv4_addr : verdict; }}
  set known {{ type ipv4_addr; }}
  set own {{ type ipv4_addr . ipv4_addr; }}
  chain from_pods {{
    type filter hook forward priority filter; policy accept;
    {known}
    {new_from}
    ip saddr vmap @{EGRESS}
  }}
  chain to_pods {{
    type filter hook forward priority filter + 1; policy accept;
    {known}
    {new_to}
    ip daddr vmap @{INGRESS}
  }}
  chain to_node {{
    type filter hook input priority filter; policy accept;
    ct state established,related accept
    {new_from}
    ip saddr vmap @{EGRESS}
  }}
}}
"""


def node_part(node_ips: tuple[str, ...]) -> Part:
    """The node's own addresses, which may lie in the pod network."""
    return Part(elements={("known", address): "" for address in node_ips})


def set_part(name: str, of_ports: bool) -> Part:
    """A set that rules refer to, empty."""
    return Part(sets={name: "type ipv4_addr . inet_proto . inet_service;" if of_ports else "type ipv4_addr;"})


def policy_part(rules: Mapping[str, tuple[str, tuple[Allow, ...]]]) -> Part:
    """A policy's rules: direction -> (id, ways through)."""
    return Part(
        chains={
            f"policy_{which}": tuple(line for allow in allows for line in _lines(allow, direction))
            for direction, (which, allows) in rules.items()
        }
    )


def closed(part: Part) -> Part:
    """A policy that isolates its pods and lets nothing through: what is left of one whose rules nft refuses."""
    return Part(chains=dict.fromkeys(part.chains, ()))


def chain_of(direction: str, ids: tuple[str, ...]) -> str:
    """The name of the chain of the pods that have these policies."""
    return f"pods_{digest(direction, *ids)}"


def pods_part(chain: str, ids: tuple[str, ...]) -> Part:
    return Part(chains={chain: (*(f"jump policy_{which}" for which in ids), "drop")})


def pod_elements(
    address: str,
    own: bool,
    sets: Mapping[str, tuple[str, ...]],
    isolation: Iterable[tuple[str, tuple[str, ...]]],
) -> dict[Element, str]:
    """A pod's address wherever it is told. `own`: it is on this node; `sets`: its elements in rules' sets;
    `isolation`: the ids of its policies in each direction."""
    out: dict[Element, str] = {("known", address): ""} if own else {}
    for direction, ids in isolation:
        out[direction, address] = f"goto {chain_of(direction, ids)}"
        # A pod always reaches itself, through a Service too.
        out["own", f"{address} . {address}"] = ""
    return out | {(name, element): "" for name, elements in sets.items() for element in elements}


def _lines(allow: Allow, direction: str) -> Iterator[str]:
    side = "saddr" if direction == INGRESS else "daddr"
    words = []
    if allow.group:
        words.append(f"ip {side} @{allow.group}")
    elif allow.networks and allow.networks != ("0.0.0.0/0",):
        words.append(f"ip {side} {{ {', '.join(allow.networks)} }}")
    if allow.named:
        yield " ".join([*words, f"ip daddr . meta l4proto . th dport @{allow.named}", "accept"])
    elif not allow.ports:
        yield " ".join([*words, "accept"])
    else:
        for protocol in sorted({p.protocol for p in allow.ports}):
            yield " ".join([*words, _ports(protocol, allow.ports), "accept"])


def _ports(protocol: str, ports: tuple[Ports, ...]) -> str:
    ranges: list[tuple[int, int]] = []
    for low, high in sorted((p.low, p.high) for p in ports if p.protocol == protocol):
        if ranges and low <= ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], max(high, ranges[-1][1]))
        else:
            ranges.append((low, high))
    if ranges == [_ALL]:
        return f"meta l4proto {protocol}"
    return f"{protocol} dport {{ {', '.join(f'{a}-{b}' if a != b else str(a) for a, b in ranges)} }}"
