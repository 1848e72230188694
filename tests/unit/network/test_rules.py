"""Rules of Services as text: who is translated, who is refused, and that a change touches only what changed."""

from __future__ import annotations

from typing import Any

from stablehand.machinery.types import Obj
from stablehand.network.rules import local_endpoints, service_part, skeleton
from stablehand.network.table import Part, Table


def service(name: str = "web", **spec: Any) -> Obj:
    base = {"clusterIP": "10.96.0.7", "ports": [{"port": 80, "name": "http"}]}
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {**base, **spec}}


def piece(*addresses: str, ready: bool = True, **conditions: bool) -> Obj:
    ends = [{"addresses": [a], "conditions": {"ready": ready, **conditions}} for a in addresses]
    return {
        "metadata": {},
        "addressType": "IPv4",
        "endpoints": ends,
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
    }


def test_cluster_ip_is_spread_over_ready_endpoints() -> None:
    part = service_part(service(), [piece("10.244.0.5", "10.244.0.6"), piece("10.244.0.9", ready=False)])
    (rules,) = part.chains.values()
    assert rules == (
        "meta l4proto tcp dnat ip addr . port to numgen random mod 2 map "
        "{ 0 : 10.244.0.5 . 8080, 1 : 10.244.0.6 . 8080 }",
    )
    assert ("services", "10.96.0.7 . tcp . 80") in part.elements
    assert ("hairpin", "10.244.0.5 . 10.244.0.5") in part.elements


def test_without_endpoints_everything_is_refused() -> None:
    part = service_part(service(externalIPs=["192.0.2.1"]), [])
    assert part == Part(elements={("virtual", "10.96.0.7"): "", ("refused", "192.0.2.1 . tcp . 80"): ""})


def test_ending_endpoints_serve_when_there_are_no_others() -> None:
    part = service_part(service(), [piece("10.244.0.5", ready=False, serving=True, terminating=True)])
    assert list(part.chains.values()) == [("meta l4proto tcp dnat to 10.244.0.5:8080",)]


def test_headless_and_external_names_have_no_rules() -> None:
    assert service_part(service(clusterIP="None"), [piece("10.244.0.5")]) == Part()
    assert service_part(service(type="ExternalName"), []) == Part()


def test_services_of_others_have_no_rules() -> None:
    for label in ("service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"):
        found = service()
        found["metadata"]["labels"] = {label: ""}
        assert service_part(found, [piece("10.244.0.5")]) == Part()


def test_endpoint_change_rewrites_one_chain_only() -> None:
    table = Table("t")
    a, b = service("a"), service("b", clusterIP="10.96.0.8")
    key = ("default", "a")
    table.change(
        {key: service_part(a, [piece("10.244.0.5")]), ("default", "b"): service_part(b, [piece("10.244.0.5")])}
    )
    text = table.change({key: service_part(a, [piece("10.244.0.6")])})
    assert text.count("flush chain") == 1 and "add chain" not in text
    assert "10.96.0" not in text
    # b still has 10.244.0.5, so its hairpin element stays
    assert "delete element" not in text
    assert table.change({key: service_part(a, [piece("10.244.0.6")])}) == ""
    assert "10.244.0.5 . 10.244.0.5" in table.change({("default", "b"): Part()})


def near(address: str, node: str = "n", **more: bool) -> Obj:
    found = piece(address, **more)
    found["endpoints"][0]["nodeName"] = node
    return found


def balancer(*addresses: str, mode: str = "VIP", **spec: Any) -> Obj:
    ingress = [{"ip": a, "ipMode": mode} for a in addresses]
    return {**service(type="LoadBalancer", **spec), "status": {"loadBalancer": {"ingress": ingress}}}


def verdict(part: Part, address: str) -> tuple[str, ...]:
    """What the rules do with a connection to the address's port 80: its chain, or the bare verdict."""
    found = part.elements["services", f"{address} . tcp . 80"]
    return part.chains[found.removeprefix("goto ")] if found.startswith("goto ") else (found,)


def test_traffic_policies() -> None:
    ends = [near("10.244.0.5"), near("10.244.1.5", "far")]
    inside = service_part(service(internalTrafficPolicy="Local"), ends, "n")
    assert verdict(inside, "10.96.0.7") == ("meta l4proto tcp dnat to 10.244.0.5:8080",)
    nobody = service_part(service(internalTrafficPolicy="Local"), ends[1:], "n")
    assert verdict(nobody, "10.96.0.7") == ("drop",)
    spec = {"externalTrafficPolicy": "Local", "externalIPs": ["192.0.2.1"]}
    outside = service_part(service(**spec), ends, "n", "10.244.0.0/24")
    rules = verdict(outside, "192.0.2.1")
    everyone = outside.elements["services", "10.96.0.7 . tcp . 80"]
    assert rules[:2] == (f"ip saddr 10.244.0.0/24 {everyone}", f"fib saddr type local {everyone}")
    assert outside.chains[rules[2].removeprefix("goto ")] == ("meta l4proto tcp dnat to 10.244.0.5:8080",)
    assert verdict(service_part(service(**spec), ends[1:], "n"), "192.0.2.1")[-1] == "drop"
    assert verdict(service_part(service(**spec), ends[:1], "n"), "192.0.2.1")[-1].startswith("meta l4proto")


def test_load_balancers_addresses() -> None:
    ranges = {"loadBalancerSourceRanges": ["10.0.0.0/8", " 10.1.0.0/16", "fd00::/8"]}
    part = service_part(balancer("203.0.113.7", **ranges), [near("10.244.0.5")])
    guard = verdict(part, "203.0.113.7")
    assert guard[0].startswith("ip saddr { 10.0.0.0/8 } goto port_") and guard[1] == "drop"
    assert verdict(part, "10.96.0.7") == ("meta l4proto tcp dnat to 10.244.0.5:8080",)
    everyone = service_part(balancer("203.0.113.7", loadBalancerSourceRanges=["0.0.0.0/0"]), [near("10.244.0.5")])
    assert verdict(everyone, "203.0.113.7") == verdict(part, "10.96.0.7")
    assert verdict(
        service_part(balancer("203.0.113.7", loadBalancerSourceRanges=["fd00::/8"]), [near("1.1.1.1")]), "203.0.113.7"
    ) == ("drop",)
    proxied = service_part(balancer("203.0.113.7", mode="Proxy"), [near("10.244.0.5")])
    assert ("services", "203.0.113.7 . tcp . 80") not in proxied.elements
    assert ("refused", "203.0.113.7 . tcp . 80") in service_part(balancer("203.0.113.7"), []).elements


def test_local_endpoints_are_counted() -> None:
    ends = [near("10.244.0.5"), near("10.244.0.6", ready=False), near("10.244.1.5", "far")]
    assert local_endpoints(ends, "n") == 1 and local_endpoints([*ends, *ends], "") == 2


def test_packets_of_no_connection_do_not_leave_pods() -> None:
    """They are not translated back, and a client that gets them resets its connection."""
    assert "ip saddr 10.244.0.0/24 ct state invalid drop" in skeleton("t", ("10.0.0.1",), "10.244.0.0/24")
    assert "invalid" not in skeleton("t")
