"""The zone's answers, and that any order of changes leaves the zone that the last state alone makes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stablehand.dns.zone import NOERROR, NXDOMAIN, Zone
from stablehand.machinery.types import Obj


def service(name: str = "db", **spec: object) -> Obj:
    return {"metadata": {"name": name, "namespace": "ns"}, "spec": {"clusterIP": "None", **spec}}


def piece(*endpoints: tuple[str, str, bool]) -> Obj:
    return {
        "metadata": {},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [a], "hostname": h, "conditions": {"ready": r}} for a, h, r in endpoints],
        "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
    }


def headless(**spec: object) -> Zone:
    zone = Zone(cluster_cidrs=("10.244.0.0/16",))
    zone.set_service(service(**spec), [piece(("10.244.0.5", "db-0", True), ("10.244.0.6", "", False))])
    return zone


def test_headless() -> None:
    zone = headless()
    assert zone.lookup("DB.ns.svc.Cluster.Local.", "A").records == [("DB.ns.svc.Cluster.Local", "A", "10.244.0.5")]
    assert zone.lookup("db-0.db.ns.svc.cluster.local", "A").records[0][2] == "10.244.0.5"
    srv = zone.lookup("_sql._tcp.db.ns.svc.cluster.local", "SRV")
    assert srv.records[0][2] == (0, 100, 5432, "db-0.db.ns.svc.cluster.local")
    assert srv.additional == [("db-0.db.ns.svc.cluster.local", "A", "10.244.0.5")]
    assert zone.lookup("5.0.244.10.in-addr.arpa", "PTR").records[0][2] == "db-0.db.ns.svc.cluster.local"
    unready = zone.lookup("10-244-0-6.db.ns.svc.cluster.local", "A")
    assert (unready.rcode, unready.soa) == (NXDOMAIN, "cluster.local")
    assert zone.lookup("6.0.244.10.in-addr.arpa", "PTR").rcode == NXDOMAIN
    published = headless(publishNotReadyAddresses=True)
    assert len(published.lookup("db.ns.svc.cluster.local", "A").records) == 2
    assert published.lookup("10-244-0-6.db.ns.svc.cluster.local", "A").records


def test_nodata_and_empty_names() -> None:
    zone = headless()
    for name in ("db.ns.svc.cluster.local", "ns.svc.cluster.local", "_tcp.db.ns.svc.cluster.local", "cluster.local"):
        answer = zone.lookup(name, "AAAA")
        assert (answer.rcode, answer.records, answer.soa) == (NOERROR, [], "cluster.local")
    zone.remove_service(("ns", "db"))
    assert zone.lookup("ns.svc.cluster.local", "A").rcode == NXDOMAIN
    assert zone.lookup("dns-version.cluster.local", "TXT").records[0][2] == "1.1.0"
    assert zone.lookup("10-1-2-3.ns.pod.cluster.local", "A").records[0][2] == "10.1.2.3"
    assert not zone.covers("example.com") and zone.covers("9.0.244.10.in-addr.arpa")
    assert not zone.covers("9.0.168.192.in-addr.arpa")


def test_cluster_ip_and_external_name() -> None:
    zone = Zone()
    zone.set_service(service("web", clusterIP="10.96.0.7", ports=[{"name": "http", "port": 80}]), [])
    zone.set_service(service("alias", type="ExternalName", externalName="web.ns.svc.cluster.local"), [])
    zone.set_service(service("out", type="ExternalName", externalName="example.com"), [])
    assert zone.lookup("_http._tcp.web.ns.svc.cluster.local", "SRV").records[0][2][2:] == (
        80,
        "web.ns.svc.cluster.local",
    )
    # All ports by the Service's own name, as CoreDNS has it.
    zone.set_service(service("two", clusterIP="10.96.0.8", ports=[{"name": "a", "port": 1}, {"port": 2}]), [])
    assert [r[2][2] for r in zone.lookup("two.ns.svc.cluster.local", "SRV").records] == [1, 2]
    assert [r[2][2] for r in headless().lookup("db.ns.svc.cluster.local", "SRV").records] == [5432]
    assert [r[1] for r in zone.lookup("alias.ns.svc.cluster.local", "A").records] == ["CNAME", "A"]
    assert zone.lookup("out.ns.svc.cluster.local", "A").dangling == "example.com"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.lists(st.integers(1, 9), max_size=4)), max_size=12))
def test_updates_equal_a_fresh_zone(changes: list[tuple[str, list[int]]]) -> None:
    zone, last = Zone(), {}
    for name, hosts in changes:
        last[name] = hosts
        zone.set_service(service(name), [piece(*((f"10.244.0.{h}", f"h{h}", True) for h in hosts))])
    fresh = Zone()
    for name, hosts in last.items():
        fresh.set_service(service(name), [piece(*((f"10.244.0.{h}", f"h{h}", True) for h in hosts))])
    assert (zone._names, zone._parents) == (fresh._names, fresh._parents)
