"""NetworkPolicies kept current as pods, namespaces and policies change: what a change costs depends on what it touches.

A `PolicyState` is told of objects one by one and gives the Parts of the table that became different: one for each pod
(its address in every set it belongs to, and the way to the chain of its policies), one for each policy (its chain),
each set, and each combination of policies. What they mean is policies', their text policyrules'. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from stablehand.machinery import meta
from stablehand.machinery.endpoints import named_ports
from stablehand.machinery.selectors import Selector
from stablehand.machinery.types import Obj
from stablehand.network.policies import (
    EGRESS,
    INGRESS,
    Allow,
    DnsServer,
    Plan,
    Ports,
    block_networks,
    parse_selector,
    pod_address,
    policy_types,
    split_ports,
)
from stablehand.network.policyrules import chain_of, node_part, pod_elements, pods_part, policy_part, set_part
from stablehand.network.table import Key, Part, digest

_DNS_NAMESPACE, _DNS_LABELS = "kube-system", {"k8s-app": "kube-dns"}
_ORDER = ("node", "set", "policy", "chain", "pod")  # what the later ones refer to comes first
Isolation = tuple[tuple[str, tuple[str, ...]], ...]  # (direction, ids of the policies' rules)


@dataclass(frozen=True, slots=True)
class _Scope:
    """Which pods: of one namespace or of those selected (neither: of all), by their labels; `own`: on this node only."""

    namespace: str = ""
    namespaces: Selector | None = None
    pods: Selector = field(default_factory=lambda: parse_selector(None))
    own: bool = False


@dataclass(slots=True)
class _Set:
    """A set of the table: the addresses of a scope's pods, or their ports of a (protocol, name)."""

    scope: _Scope
    port: tuple[str, str] | None
    users: int = 0


@dataclass(slots=True)
class _Pod:
    obj: Obj
    address: str
    namespace: str
    labels: dict[str, str]
    own: bool
    sets: dict[str, tuple[str, ...]] = field(default_factory=dict)
    isolation: Isolation = ()


@dataclass(slots=True)
class _Policy:
    obj: Obj
    scope: _Scope
    rules: dict[str, tuple[str, tuple[Allow, ...]]]  # direction -> (id, ways through)
    sets: dict[str, _Set]


class PolicyState:
    """The policies for the pods of `node_name` ("": of all nodes). `changes` gives what is new since it was last asked,
    `everything` all Parts; both in an order in which one may be written after the other."""

    def __init__(self, node_name: str = "", node_ips: tuple[str, ...] = ()) -> None:
        self._node_name, self._node_ips = node_name, node_ips
        self._dns: tuple[DnsServer, ...] = ()
        self._namespaces: dict[str, dict[str, str]] = {}
        self._pods: dict[Key, _Pod] = {}
        self._policies: dict[Key, _Policy] = {}
        self._sets: dict[str, _Set] = {}
        self._users: dict[str, set[Key]] = {}  # chain of a combination of policies -> its pods
        self._combined: dict[str, tuple[str, ...]] = {}
        self._dirty: set[Key] = {("node", "")}

    # -- changes

    def set_pod(self, pod: Obj) -> None:
        key, address = meta.key(pod), pod_address(pod)
        if not address:
            self.remove_pod(key)
            return
        own = not self._node_name or pod["spec"].get("nodeName") == self._node_name
        self._place(key, _Pod(pod, address, key[0], meta.labels(pod), own))

    def remove_pod(self, key: Key) -> None:
        if key in self._pods:
            self._combine(key, self._pods[key].isolation, ())
            del self._pods[key]
            self._mark("pod", key)

    def set_namespace(self, namespace: Obj) -> None:
        self._relabel(meta.name(namespace), meta.labels(namespace))

    def remove_namespace(self, name: str) -> None:
        self._relabel(name, None)

    def _relabel(self, name: str, labels: dict[str, str] | None) -> None:
        if self._namespaces.get(name) == labels:
            return
        if labels is None:
            del self._namespaces[name]
        else:
            self._namespaces[name] = labels
        for key, pod in list(self._pods.items()):
            if pod.namespace == name:
                self._place(key, pod)
        if name == _DNS_NAMESPACE:
            self._recompile()

    def set_dns(self, servers: Iterable[DnsServer]) -> None:
        """Cluster DNS, as far as it is no pods."""
        found = tuple(servers)
        if found != self._dns:
            self._dns = found
            self._recompile()

    def _recompile(self) -> None:
        for policy in list(self._policies.values()):
            self.set_policy(policy.obj)

    def set_policy(self, policy: Obj) -> None:
        key = meta.key(policy)
        old, new = self._policies.get(key), _compile(policy, self._dns, self._namespaces)
        self._policies[key] = new
        self._mark("policy", key)
        self._use(new.sets, old.sets if old is not None else {})
        if old is None or old.scope != new.scope or old.rules.keys() != new.rules.keys():
            self._isolate(key[0])

    def remove_policy(self, key: Key) -> None:
        old = self._policies.pop(key, None)
        if old is not None:
            self._mark("policy", key)
            self._use({}, old.sets)
            self._isolate(key[0])

    def _use(self, new: dict[str, _Set], old: dict[str, _Set]) -> None:
        """Counts who uses a set; fills new ones and empties those that nobody uses any more."""
        fresh, gone = [], []
        for name, wanted in new.items():
            have = self._sets.get(name)
            if have is None:
                have = self._sets[name] = wanted
                fresh.append(name)
            have.users += 1
        for name in old:
            have = self._sets[name]
            have.users -= 1
            if not have.users:
                del self._sets[name]
                gone.append(name)
        self._dirty.update(("set", name) for name in (*fresh, *gone))
        if not fresh and not gone:
            return
        for key, pod in self._pods.items():
            before = pod.sets
            pod.sets = {name: each for name, each in before.items() if name in self._sets}
            for name in fresh:
                if found := self._members(self._sets[name], pod):
                    pod.sets[name] = found
            if pod.sets != before:
                self._mark("pod", key)

    def _isolate(self, namespace: str) -> None:
        for key, pod in self._pods.items():
            if pod.namespace == namespace and pod.own:
                isolation = self._isolation(pod)
                if isolation != pod.isolation:
                    self._combine(key, pod.isolation, isolation)
                    pod.isolation = isolation
                    self._mark("pod", key)

    def _place(self, key: Key, pod: _Pod) -> None:
        old = self._pods.get(key)
        before = old.isolation if old is not None else ()
        pod.sets = {name: found for name, each in self._sets.items() if (found := self._members(each, pod))}
        pod.isolation = self._isolation(pod)
        self._combine(key, before, pod.isolation)
        self._pods[key] = pod
        self._mark("pod", key)

    def _combine(self, key: Key, old: Isolation, new: Isolation) -> None:
        """Counts the pods of each combination of policies."""
        before = {chain_of(direction, ids): ids for direction, ids in old}
        now = {chain_of(direction, ids): ids for direction, ids in new}
        for chain in before.keys() - now.keys():
            self._users[chain].discard(key)
            if not self._users[chain]:
                del self._users[chain], self._combined[chain]
                self._dirty.add(("chain", chain))
        for chain, ids in now.items():
            if chain not in self._users:
                self._users[chain], self._combined[chain] = set(), ids
                self._dirty.add(("chain", chain))
            self._users[chain].add(key)

    def _mark(self, kind: str, key: Key) -> None:
        self._dirty.add((kind, "/".join(key)))

    # -- who belongs where

    def _holds(self, scope: _Scope, pod: _Pod) -> bool:
        if scope.own and not pod.own:
            return False
        if scope.namespace and scope.namespace != pod.namespace:
            return False
        if scope.namespaces is not None:
            labels = self._namespaces.get(pod.namespace)
            if labels is None or not scope.namespaces.matches(labels):
                return False
        return scope.pods.matches(pod.labels)

    def _members(self, wanted: _Set, pod: _Pod) -> tuple[str, ...]:
        """The pod's elements of a set."""
        if not self._holds(wanted.scope, pod):
            return ()
        if wanted.port is None:
            return (pod.address,)
        protocol, name = wanted.port
        numbers = named_ports(pod.obj, name, protocol.upper())
        return tuple(dict.fromkeys(f"{pod.address} . {protocol} . {number}" for number in numbers))

    def _isolation(self, pod: _Pod) -> Isolation:
        if not pod.own:
            return ()
        found: dict[str, list[str]] = {}
        for (namespace, _), policy in self._policies.items():
            if namespace == pod.namespace and self._holds(policy.scope, pod):
                for direction, (which, _) in policy.rules.items():
                    found.setdefault(direction, []).append(which)
        return tuple((direction, tuple(sorted(ids))) for direction, ids in sorted(found.items()))

    # -- what comes of it

    def changes(self) -> dict[Key, Part]:
        dirty, self._dirty = self._dirty, set()
        return {key: self._part(*key) for key in sorted(dirty, key=lambda k: (_ORDER.index(k[0]), k[1]))}

    def everything(self) -> dict[Key, Part]:
        self._dirty.clear()
        out = {("node", ""): node_part(self._node_ips)}
        names: list[tuple[str, Iterable[str]]] = [
            ("set", self._sets),
            ("policy", map("/".join, self._policies)),
            ("chain", self._combined),
            ("pod", map("/".join, self._pods)),
        ]
        for kind, each in names:
            out |= {(kind, name): self._part(kind, name) for name in each}
        return out

    def _part(self, kind: str, name: str) -> Part:
        namespace, _, rest = name.partition("/")
        if kind == "node":
            return node_part(self._node_ips)
        if kind == "set":
            found = self._sets.get(name)
            return Part() if found is None else set_part(name, found.port is not None)
        if kind == "policy":
            policy = self._policies.get((namespace, rest))
            return Part() if policy is None else policy_part(policy.rules)
        if kind == "chain":
            return pods_part(name, self._combined[name]) if name in self._combined else Part()
        pod = self._pods.get((namespace, rest))
        return Part() if pod is None else Part(elements=pod_elements(pod.address, pod.own, pod.sets, pod.isolation))

    def plan(self) -> Plan:
        """What all of it means."""
        plan = Plan()
        for name, wanted in self._sets.items():
            members = frozenset(e for pod in self._pods.values() for e in pod.sets.get(name, ()))
            if wanted.port is None:
                plan.groups[name] = members
            else:
                ends = (e.split(" . ") for e in members)
                plan.named[name] = frozenset((address, protocol, int(port)) for address, protocol, port in ends)
        for policy in self._policies.values():
            plan.rules |= dict(policy.rules.values())
        for pod in self._pods.values():
            plan.isolated |= {(direction, pod.address): ids for direction, ids in pod.isolation}
        plan.known = frozenset(pod.address for pod in self._pods.values() if pod.own)
        return plan


def make_plan(
    policies: Iterable[Obj],
    pods: Iterable[Obj],
    namespaces: Iterable[Obj],
    node_name: str = "",
    dns: tuple[DnsServer, ...] = (),
) -> Plan:
    """The Plan for the pods of `node_name` ("": of all nodes). `pods` and `namespaces` are the whole cluster's."""
    return make_state(policies, pods, namespaces, node_name, dns).plan()


def make_state(
    policies: Iterable[Obj],
    pods: Iterable[Obj],
    namespaces: Iterable[Obj],
    node_name: str = "",
    dns: tuple[DnsServer, ...] = (),
    node_ips: tuple[str, ...] = (),
) -> PolicyState:
    """A state that was told of all of these."""
    state = PolicyState(node_name, node_ips)
    state.set_dns(dns)
    for namespace in namespaces:
        state.set_namespace(namespace)
    for policy in policies:
        state.set_policy(policy)
    for pod in pods:
        state.set_pod(pod)
    return state


# -- a policy's rules


def _compile(policy: Obj, dns: tuple[DnsServer, ...], namespaces: dict[str, dict[str, str]]) -> _Policy:
    namespace, spec = meta.namespace(policy), policy.get("spec") or {}
    scope = _Scope(namespace, None, parse_selector(spec.get("podSelector")), own=True)
    owner = digest(namespace, json.dumps(spec.get("podSelector"), sort_keys=True))
    compiler = _Compiler(namespace, scope, owner, dns, namespaces)
    rules: dict[str, tuple[str, tuple[Allow, ...]]] = {}
    for direction in policy_types(policy):
        which = digest(direction, namespace, meta.name(policy))
        allows = [a for rule in spec.get(direction) or () for a in compiler.rule(direction, rule)]
        rules[direction] = which, tuple(dict.fromkeys(allows))
    return _Policy(policy, scope, rules, compiler.sets)


class _Compiler:
    """The ways through of one policy, and the sets that they name."""

    def __init__(
        self,
        namespace: str,
        mine: _Scope,
        owner: str,
        dns: tuple[DnsServer, ...],
        namespaces: dict[str, dict[str, str]],
    ) -> None:
        self._namespace, self._mine, self._owner = namespace, mine, owner
        self._dns, self._namespaces = dns, namespaces
        self.sets: dict[str, _Set] = {}

    def rule(self, direction: str, rule: Obj) -> Iterator[Allow]:
        peers: list[Obj] = rule.get("from" if direction == INGRESS else "to") or [{}]
        numbers, names = split_ports(rule.get("ports") or ())
        every = not rule.get("ports")
        for peer in peers:
            scope = _Scope()
            if peer and "ipBlock" in peer:
                networks = block_networks(peer["ipBlock"])
                if not networks:
                    continue
                far = Allow(networks=networks)
            elif peer:
                selected = peer.get("namespaceSelector")
                scope = _Scope(
                    "" if selected is not None else self._namespace,
                    None if selected is None else parse_selector(selected),
                    parse_selector(peer.get("podSelector")),
                )
                group = "group_" + digest(scope.namespace, json.dumps(peer, sort_keys=True))
                self.sets[group] = _Set(scope, None)
                far = Allow(group=group)
                if direction == EGRESS:
                    yield from self._dns_allows(scope, rule)
            else:
                far = Allow()
                if direction == EGRESS and names:
                    yield from self._dns_allows(scope, rule)
            if every or numbers:
                yield Allow(far.group, far.networks, numbers)
            for protocol, name in names:
                if direction == INGRESS:
                    yield Allow(far.group, far.networks, named=self._named(self._mine, protocol, name, self._owner))
                else:
                    # Of a selector's peers, the set has the addresses already.
                    yield Allow(networks=far.networks, named=self._named(scope, protocol, name, far.group))

    def _named(self, scope: _Scope, protocol: str, name: str, owner: str) -> str:
        where = "named_" + digest(owner, protocol, name)
        self.sets[where] = _Set(scope, (protocol, name))
        return where

    def _dns_allows(self, scope: _Scope, rule: Obj) -> Iterator[Allow]:
        if scope.namespace not in ("", _DNS_NAMESPACE) or not scope.pods.matches(_DNS_LABELS):
            return
        if scope.namespaces is not None:
            labels = self._namespaces.get(_DNS_NAMESPACE)
            if labels is None or not scope.namespaces.matches(labels):
                return
        for server in self._dns:
            numbers, names = split_ports(rule.get("ports") or ())
            for protocol, name in (("udp", "dns"), ("tcp", "dns-tcp")):
                open_ = not rule.get("ports") or (protocol, name) in names
                if open_ or any((protocol, server.port) in each for each in numbers):
                    ports = (Ports(protocol, server.port, server.port),)
                    yield Allow(networks=(f"{server.address}/32",), ports=ports)
