"""Rules of Services as text: who is translated, who is refused, and that a change touches only what changed."""

from __future__ import annotations

from stablehand.machinery.types import Obj
from stablehand.network.rules import Part, Table, service_part


def service(name: str = "web", **spec: object) -> Obj:
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
