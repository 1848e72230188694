"""Cells of services, endpoints, ingresses and policies."""

from __future__ import annotations

from typing import Any

from stablehand.apiserver.tables.columns import printer
from stablehand.apiserver.tables.format import NONE, UNSET, age, label_selector, labels, some
from stablehand.machinery.types import Obj


def _name(obj: Obj) -> str:
    name: str = obj["metadata"].get("name", "")
    return name


def _load_balancer(obj: Obj) -> str:
    ingress = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    found = {one.get("ip") or one.get("hostname") or "" for one in ingress} - {""}
    return ",".join(sorted(found))


def _external(obj: Obj, spec: Obj) -> str:
    kind = spec.get("type") or "ClusterIP"
    ips = spec.get("externalIPs") or []
    if kind == "ExternalName":
        return spec.get("externalName") or NONE
    if kind == "LoadBalancer":
        balanced = _load_balancer(obj)
        shown = ",".join([*([balanced] if balanced else []), *ips])
        return shown or "<pending>"
    return ",".join(ips) or NONE


def _service(obj: Obj, now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    ports = []
    for port in spec.get("ports") or ():
        node = f":{port['nodePort']}" if port.get("nodePort") else ""
        ports.append(f"{port.get('port')}{node}/{port.get('protocol') or 'TCP'}")
    return [
        _name(obj),
        spec.get("type") or "ClusterIP",
        spec.get("clusterIP") or NONE,
        _external(obj, spec),
        ",".join(ports) or NONE,
        age(obj, now),
        labels(spec.get("selector")),
    ]


def _endpoints(obj: Obj, now: float) -> list[Any]:
    found: list[str] = []
    for subset in obj.get("subsets") or ():
        ips = [address.get("ip", "") for address in subset.get("addresses") or ()]
        ports = subset.get("ports") or ()
        if not ports:
            found.extend(ips)
        for port in ports:
            found.extend(f"[{ip}]:{port.get('port')}" if ":" in ip else f"{ip}:{port.get('port')}" for ip in ips)
    return [_name(obj), some(found, 3) or NONE, age(obj, now)]


def _slice(obj: Obj, now: float) -> list[Any]:
    ports = [str(p["port"]) if p.get("port") is not None else "*" for p in obj.get("ports") or ()]
    addresses = [a for e in obj.get("endpoints") or () for a in e.get("addresses") or ()]
    return [
        _name(obj),
        obj.get("addressType") or "",
        some(ports, 3) or UNSET,
        some(addresses, 3) or UNSET,
        age(obj, now),
    ]


def _ingress(obj: Obj, now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    hosts = [rule["host"] for rule in spec.get("rules") or () if rule.get("host")]
    return [
        _name(obj),
        spec.get("ingressClassName") or NONE,
        some(hosts, 3) or "*",
        _load_balancer(obj),
        "80, 443" if spec.get("tls") else "80",
        age(obj, now),
    ]


def _ingress_class(obj: Obj, now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    parameters = spec.get("parameters")
    shown = NONE
    if parameters:
        shown = parameters.get("kind", "")
        if parameters.get("apiGroup"):
            shown += "." + parameters["apiGroup"]
        shown += "/" + parameters.get("name", "")
    return [_name(obj), spec.get("controller") or "", shown, age(obj, now)]


def _policy(obj: Obj, now: float) -> list[Any]:
    return [_name(obj), label_selector((obj.get("spec") or {}).get("podSelector")), age(obj, now)]


def _cidr(obj: Obj, now: float) -> list[Any]:
    return [_name(obj), ",".join((obj.get("spec") or {}).get("cidrs") or ()), age(obj, now)]


def _ip_address(obj: Obj, now: float) -> list[Any]:
    ref = (obj.get("spec") or {}).get("parentRef") or {}
    resource = ref.get("resource", "")
    if ref.get("group"):
        resource += "." + ref["group"]
    parts = [resource, *([ref["namespace"]] if ref.get("namespace") else []), ref.get("name", "")]
    return [_name(obj), "/".join(parts) if ref else NONE, age(obj, now)]


PRINTERS = {
    "services": printer("Name,Type,Cluster-IP,External-IP,Port(s),Age,*Selector", _service),
    "endpoints": printer("Name,Endpoints,Age", _endpoints),
    "endpointslices.discovery.k8s.io": printer("Name,AddressType,Ports,Endpoints,Age", _slice),
    "ingresses.networking.k8s.io": printer("Name,Class,Hosts,Address,Ports,Age", _ingress),
    "ingressclasses.networking.k8s.io": printer("Name,Controller,Parameters,Age", _ingress_class),
    "networkpolicies.networking.k8s.io": printer("Name,Pod-Selector,Age", _policy),
    "servicecidrs.networking.k8s.io": printer("Name,CIDRs,Age", _cidr),
    "ipaddresses.networking.k8s.io": printer("Name,ParentRef,Age", _ip_address),
}
