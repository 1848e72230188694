"""NetworkPolicies: the plan permits what a plain reading of the policies does, and its rules say the same."""

from __future__ import annotations

import ipaddress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from stablehand.machinery.types import Obj
from stablehand.network.policies import DnsServer, block_networks, concerns_policies, permits
from stablehand.network.policyrules import closed, skeleton
from stablehand.network.policystate import PolicyState, make_plan, make_state
from stablehand.network.table import Key, Part, Table

LABELS: list[Obj] = [{}, {"app": "a"}, {"app": "b"}, {"app": "a", "tier": "x"}]
SELECTORS: list[Obj] = [
    {},
    {"matchLabels": {"app": "a"}},
    {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]},
    {"matchExpressions": [{"key": "tier", "operator": "Exists"}]},
]
NAMESPACES: list[Obj] = [
    {"metadata": {"name": "n1", "labels": {"app": "a"}}},
    {"metadata": {"name": "n2", "labels": {"app": "b"}}},
]


def pod(name: str, address: str, labels: Obj, namespace: str = "n1", **spec: Any) -> Obj:
    ports = [{"name": "http", "containerPort": 80}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}]
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"containers": [{"name": "c", "ports": ports}], "nodeName": "n", **spec},
        "status": {"podIP": address, "phase": "Running"},
    }


def policy(name: str = "p", namespace: str = "n1", **spec: Any) -> Obj:
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"podSelector": {}, **spec}}


PODS = [
    *(pod(f"a{i}", f"10.0.1.{i}", labels) for i, labels in enumerate(LABELS)),
    *(pod(f"b{i}", f"10.0.2.{i}", labels, "n2") for i, labels in enumerate(LABELS)),
]
OUTSIDE = "192.0.2.9"


# -- a plain reading of the API's documentation, pod by pod


def selected(selector: Obj | None, labels: Obj) -> bool:
    for key, value in ((selector or {}).get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for each in (selector or {}).get("matchExpressions") or ():
        if each["operator"] == "Exists" and each["key"] not in labels:
            return False
        if each["operator"] == "NotIn" and labels.get(each["key"]) in each["values"]:
            return False
    return True


def find(address: str) -> Obj | None:
    return next((p for p in PODS if p["status"]["podIP"] == address), None)


def is_peer(peer: Obj, namespace: str, address: str) -> bool:
    if "ipBlock" in peer:
        block, ip = peer["ipBlock"], ipaddress.ip_address(address)
        holes = [ipaddress.ip_network(e) for e in block.get("except") or ()]
        return ip in ipaddress.ip_network(block["cidr"]) and not any(ip in hole for hole in holes)
    far = find(address)
    if far is None:
        return False
    where = far["metadata"]["namespace"]
    if "namespaceSelector" in peer:
        labels = next(n["metadata"]["labels"] for n in NAMESPACES if n["metadata"]["name"] == where)
        if not selected(peer["namespaceSelector"], labels):
            return False
    elif where != namespace:
        return False
    return selected(peer.get("podSelector"), far["metadata"]["labels"])


def is_port(entry: Obj, target: str, protocol: str, port: int) -> bool:
    if entry.get("protocol", "TCP").lower() != protocol:
        return False
    wanted = entry.get("port")
    if isinstance(wanted, str):
        offered = find(target)["spec"]["containers"][0]["ports"] if find(target) else ()  # type: ignore[index]
        return any(
            o["name"] == wanted and o["containerPort"] == port and o.get("protocol", "TCP").lower() == protocol
            for o in offered
        )
    return wanted is None or int(wanted) <= port <= entry.get("endPort", int(wanted))


def allowed(policies: list[Obj], source: str, target: str, protocol: str, port: int) -> bool:
    if source == target:
        return True
    for kind, own, far, peers in (("Egress", source, target, "to"), ("Ingress", target, source, "from")):
        mine = find(own)
        if mine is None:
            continue
        about = [
            p
            for p in policies
            if p["metadata"]["namespace"] == mine["metadata"]["namespace"]
            and kind in p["spec"]["policyTypes"]
            and selected(p["spec"]["podSelector"], mine["metadata"]["labels"])
        ]
        rules = [(p, r) for p in about for r in p["spec"].get(kind.lower()) or ()]
        if about and not any(
            (not r.get(peers) or any(is_peer(e, p["metadata"]["namespace"], far) for e in r[peers]))
            and (not r.get("ports") or any(is_port(e, target, protocol, port) for e in r["ports"]))
            for p, r in rules
        ):
            return False
    return True


selectors = st.sampled_from(SELECTORS)
blocks = st.sampled_from(
    [
        {"cidr": "10.0.0.0/8", "except": ["10.0.1.0/30", "10.0.2.2/32"]},
        {"cidr": "192.0.2.0/24"},
        {"cidr": "0.0.0.0/0"},
        {"cidr": "10.0.1.0/24", "except": ["10.0.1.0/24"]},
    ]
)
a_peer = st.one_of(
    st.fixed_dictionaries({"ipBlock": blocks}),
    st.fixed_dictionaries({"podSelector": selectors}),
    st.fixed_dictionaries({"namespaceSelector": selectors}),
    st.fixed_dictionaries({"namespaceSelector": selectors, "podSelector": selectors}),
)
a_port = st.sampled_from(
    [
        {"port": 80},
        {"port": 50, "endPort": 60, "protocol": "UDP"},
        {"port": "http"},
        {"port": "dns", "protocol": "UDP"},
        {"port": "none"},
        {"protocol": "SCTP"},
    ]
)


def rules_of(peers: str) -> st.SearchStrategy[list[Obj]]:
    parts = {peers: st.lists(a_peer, max_size=2), "ports": st.lists(a_port, max_size=2)}
    return st.lists(st.fixed_dictionaries(parts), max_size=2)


a_spec = st.fixed_dictionaries(
    {
        "podSelector": selectors,
        "policyTypes": st.sampled_from([["Ingress"], ["Egress"], ["Ingress", "Egress"]]),
        "ingress": rules_of("from"),
        "egress": rules_of("to"),
    }
)
some_policies = st.lists(st.tuples(st.sampled_from(["n1", "n2"]), a_spec), max_size=3).map(
    lambda found: [policy(f"p{i}", namespace, **spec) for i, (namespace, spec) in enumerate(found)]
)
an_address = st.sampled_from([*(p["status"]["podIP"] for p in PODS), OUTSIDE])


@settings(max_examples=60, deadline=None)
@given(some_policies, st.lists(st.tuples(an_address, an_address), min_size=1, max_size=8))
def test_plan_is_a_plain_reading(policies: list[Obj], pairs: list[tuple[str, str]]) -> None:
    plan = make_plan(policies, PODS, NAMESPACES)
    for source, target in pairs:
        for protocol, port in (("tcp", 80), ("tcp", 81), ("udp", 53), ("udp", 61), ("sctp", 5)):
            expected = allowed(policies, source, target, protocol, port)
            assert permits(plan, source, target, protocol, port) == expected, (source, target, protocol, port)


def check_references(parts: dict[Key, Part]) -> None:
    """Whatever a rule or an element names is there, in a part that comes no later."""
    sets: set[str] = {"known", "own", "ingress", "egress"}
    chains: set[str] = set()
    for part in parts.values():
        sets |= part.sets.keys()
        chains |= part.chains.keys()
        words = " ".join(line for lines in part.chains.values() for line in lines).split()
        assert {w[1:] for w in words if w.startswith("@")} <= sets
        assert {words[i + 1] for i, w in enumerate(words) if w in ("jump", "goto")} <= chains
        assert all(v.removeprefix("goto ") in chains for v in part.elements.values() if v)
        assert {where for where, _ in part.elements} <= sets


@settings(max_examples=40, deadline=None)
@given(st.lists(some_policies, min_size=1, max_size=4))
def test_every_reference_in_the_rules_exists(history: list[list[Obj]]) -> None:
    for policies in history:
        table, parts = Table("t"), make_state(policies, PODS, NAMESPACES).everything()
        check_references(parts)
        table.change(parts)
        assert table.change(parts) == ""


a_change = st.one_of(
    st.tuples(st.just("policy"), st.sampled_from(["p0", "p1"]), st.sampled_from(["n1", "n2"]), st.none() | a_spec),
    st.tuples(st.just("pod"), st.sampled_from(PODS), st.none() | st.sampled_from(LABELS), st.booleans()),
    st.tuples(st.just("namespace"), st.sampled_from(["n1", "n2"]), st.none() | st.sampled_from(LABELS)),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(a_change, max_size=12))
def test_changes_one_by_one_come_to_the_same_as_all_at_once(history: list[Any]) -> None:
    state, table = PolicyState("n", ("10.0.0.254",)), Table("t")
    policies: dict[Key, Obj] = {}
    pods: dict[Key, Obj] = {}
    namespaces: dict[str, Obj] = {}
    for kind, which, *rest in history:
        if kind == "policy":
            found = policy(which, rest[0], **(rest[1] or {}))
            key = (rest[0], which)
            if rest[1] is None:
                policies.pop(key, None)
                state.remove_policy(key)
            else:
                policies[key] = found
                state.set_policy(found)
        elif kind == "pod":
            meta = which["metadata"]
            key = (meta["namespace"], meta["name"])
            if rest[0] is None:
                pods.pop(key, None)
                state.remove_pod(key)
            else:
                node = "n" if rest[1] else "other"
                changed = {
                    **which,
                    "metadata": {**meta, "labels": rest[0]},
                    "spec": {**which["spec"], "nodeName": node},
                }
                pods[key] = changed
                state.set_pod(changed)
        elif rest[0] is None:
            namespaces.pop(which, None)
            state.remove_namespace(which)
        else:
            namespaces[which] = {"metadata": {"name": which, "labels": rest[0]}}
            state.set_namespace(namespaces[which])
        table.change(state.changes())
    table.change(state.changes())
    fresh = make_state(policies.values(), pods.values(), namespaces.values(), "n", node_ips=("10.0.0.254",))
    assert state.plan() == fresh.plan()
    parts = {key: part for key, part in fresh.everything().items() if part.has_rules()}
    assert table.parts == parts and state.everything().keys() == fresh.everything().keys()


def test_a_pod_among_many_costs_its_own_elements_only() -> None:
    rule = {"from": [{"namespaceSelector": {}}], "ports": [{"port": "http"}]}
    policies = [policy(f"p{i}", ingress=[rule]) for i in range(20)]
    pods = [pod(f"a{i}", f"10.0.1.{i}", {"app": "a"}) for i in range(50)]
    state = make_state(policies, pods, NAMESPACES)
    state.everything()
    state.set_pod(pod("a7", "10.0.1.7", {"app": "b"}))
    assert list(state.changes()) == [("pod", "n1/a7")]
    state.set_pod(pod("new", "10.0.1.99", {"app": "b"}))
    assert list(state.changes()) == [("pod", "n1/new")]


def test_a_refused_policy_is_closed() -> None:
    parts = make_state([policy(ingress=[{}])], PODS[:1], NAMESPACES).everything()
    (part,) = [part for key, part in parts.items() if key[0] == "policy"]
    assert all(part.chains.values()) and not any(closed(part).chains.values())
    assert closed(part).chains.keys() == part.chains.keys()


def test_own_node_only_and_pods_without_a_network_of_their_own() -> None:
    pods = [
        pod("here", "10.0.0.1", {}),
        pod("there", "10.0.0.2", {}, nodeName="other"),
        pod("host", "10.0.0.3", {}, hostNetwork=True),
        {**pod("over", "10.0.0.4", {}), "status": {"podIP": "10.0.0.4", "phase": "Succeeded"}},
    ]
    plan = make_plan([policy()], pods, NAMESPACES, "n")
    assert list(plan.isolated) == [("ingress", "10.0.0.1")]
    assert not permits(plan, "10.0.0.2", "10.0.0.1", "tcp", 80) and permits(plan, "10.0.0.1", "10.0.0.2", "tcp", 80)
    assert make_plan([policy(namespace="n2")], pods, NAMESPACES, "n").isolated == {}
    assert make_state([], [], NAMESPACES).everything() == {("node", ""): Part()}


def test_pods_are_known_by_their_addresses() -> None:
    pods = [pod("here", "10.0.0.1", {}), pod("there", "10.0.0.2", {}, nodeName="other")]
    parts = make_state([], pods, NAMESPACES, "n", node_ips=("10.0.0.254",)).everything()
    told = {element for part in parts.values() for element in part.elements}
    assert told == {("known", "10.0.0.1"), ("known", "10.0.0.254")}
    assert "ip saddr 10.0.0.0/24 ip saddr != @known drop" in skeleton("t", "10.0.0.0/24")
    assert "!= @known" not in skeleton("t")


def test_policy_types_default_as_documented() -> None:
    pods = [pod("a", "10.0.0.1", {})]
    assert {d for d, _ in make_plan([policy(egress=[{}])], pods, NAMESPACES).isolated} == {"ingress", "egress"}
    assert {d for d, _ in make_plan([policy(ingress=[{}])], pods, NAMESPACES).isolated} == {"ingress"}
    assert {d for d, _ in make_plan([policy(policyTypes=["Egress"])], pods, NAMESPACES).isolated} == {"egress"}


def test_cluster_dns_counts_as_the_pod_that_manifests_select() -> None:
    namespaces = [*NAMESPACES, {"metadata": {"name": "kube-system", "labels": {"k": "v"}}}]
    pods, dns = [pod("a", "10.0.0.1", {})], (DnsServer("10.0.0.254", 53),)
    peer = {"namespaceSelector": {"matchLabels": {"k": "v"}}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}

    def asks(rule: Obj) -> list[bool]:
        plan = make_plan([policy(egress=[rule])], pods, namespaces, dns=dns)
        return [permits(plan, "10.0.0.1", "10.0.0.254", *end) for end in (("udp", 53), ("tcp", 53), ("tcp", 22))]

    assert asks({"to": [peer]}) == [True, True, False]
    assert asks({"to": [peer], "ports": [{"port": 53, "protocol": "UDP"}]}) == [True, False, False]
    assert asks({"to": [peer], "ports": [{"port": "dns-tcp"}]}) == [False, True, False]
    assert asks({"ports": [{"port": "dns", "protocol": "UDP"}]}) == [True, False, False]
    assert asks({"to": [{"podSelector": {}}]}) == [False, False, False]
    assert asks({"to": [{"namespaceSelector": {}}]}) == [True, True, False]


def test_blocks() -> None:
    assert block_networks({"cidr": "10.0.0.0/30", "except": ["10.0.0.1/32"]}) == ("10.0.0.0/32", "10.0.0.2/31")
    assert block_networks({"cidr": "10.0.0.0/30", "except": ["10.0.0.0/8"]}) == ()
    assert block_networks({"cidr": "fd00::/8"}) == () and block_networks({"cidr": "10.0.0.7/24"}) == ("10.0.0.0/24",)


def test_a_pod_that_comes_is_one_element_and_its_status_alone_is_nothing() -> None:
    rule = {"from": [{"podSelector": {"matchLabels": {"app": "b"}}}], "ports": [{"port": 80}]}
    policies = [policy(podSelector={"matchLabels": {"app": "a"}}, ingress=[rule])]
    table, pods = Table("t"), PODS[:2]
    state = make_state(policies, pods, NAMESPACES)
    table.change(state.everything())
    state.set_pod(PODS[2])
    text = table.change(state.changes())
    assert sorted(line.split()[4][:6] for line in text.splitlines()) == ["group_", "known"]
    assert text.count("add element") == 2 == text.count("{ 10.0.1.2 }")
    assert not concerns_policies(PODS[0], {**PODS[0], "status": {**PODS[0]["status"], "message": "x"}})
    assert concerns_policies(PODS[0], PODS[1])


def test_rules_as_text() -> None:
    ports = [{"port": 80}, {"port": 81, "endPort": 90}, {"port": 53, "protocol": "UDP"}, {"protocol": "SCTP"}]
    peers = [{"ipBlock": {"cidr": "10.0.0.0/8"}}, {"ipBlock": {"cidr": "0.0.0.0/0"}}]
    parts = make_state([policy(ingress=[{"from": peers, "ports": ports}])], PODS[:1], NAMESPACES).everything()
    chains = {name: lines for part in parts.values() for name, lines in part.chains.items()}
    (lines,) = [c for name, c in chains.items() if name.startswith("policy_")]
    tails = ("meta l4proto sctp accept", "tcp dport { 80-90 } accept", "udp dport { 53 } accept")
    assert lines == (*(f"ip saddr {{ 10.0.0.0/8 }} {tail}" for tail in tails), *tails)
