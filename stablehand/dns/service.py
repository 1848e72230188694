"""The Service kube-system/kube-dns, by which pods reach our DNS server at a fixed virtual address."""

from __future__ import annotations

import contextlib

from stablehand.client import AlreadyExists, Client, Conflict, NotFound
from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj, copy_object

_NAMESPACE, _NAME = "kube-system", "kube-dns"
_TRIES = 5


def dns_service(ip: str) -> Obj:
    ports = [("dns", "UDP"), ("dns-tcp", "TCP")]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": _NAME, "namespace": _NAMESPACE, "labels": {"k8s-app": "kube-dns"}},
        "spec": {
            "clusterIP": ip,
            "ports": [{"name": n, "protocol": p, "port": 53, "targetPort": 53} for n, p in ports],
        },
    }


def dns_slice(target_ip: str, port: int) -> Obj:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{_NAME}-stablehand",
            "namespace": _NAMESPACE,
            "labels": {
                "kubernetes.io/service-name": _NAME,
                "endpointslice.kubernetes.io/managed-by": "stablehand.dev",
            },
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [target_ip], "conditions": {"ready": True, "serving": True, "terminating": False}}],
        "ports": [
            {"name": "dns", "protocol": "UDP", "port": port},
            {"name": "dns-tcp", "protocol": "TCP", "port": port},
        ],
    }


def _ports(piece: Obj) -> set[tuple[str, str, int]]:
    return {(p.get("name") or "", p.get("protocol") or "TCP", p.get("port") or 0) for p in piece.get("ports") or ()}


def _same(have: Obj, want: Obj) -> bool:
    addresses = [e.get("addresses") for e in have.get("endpoints") or ()]
    return addresses == [e["addresses"] for e in want["endpoints"]] and _ports(have) == _ports(want)


async def ensure_dns_service(client: Client, ip: str, target_ip: str, port: int) -> None:
    """Makes the Service at `ip` and the EndpointSlice that leads it to target_ip:port, or mends the slice."""
    services, slices = resource("services"), resource("endpointslices.discovery.k8s.io")
    wanted = dns_service(ip)
    try:
        # Asked for first: creating it again would be refused for its address before its name (as upstream does).
        await client.get(services, wanted["metadata"]["name"], _NAMESPACE)
    except NotFound:
        with contextlib.suppress(AlreadyExists):
            await client.create(services, wanted)
    want = dns_slice(target_ip, port)
    for attempt in range(_TRIES):
        try:
            have = await client.get(slices, want["metadata"]["name"], _NAMESPACE)
            if _same(have, want):
                return
            changed = copy_object(have)
            changed["endpoints"], changed["ports"] = want["endpoints"], want["ports"]
            await client.update(slices, changed)
            return
        except NotFound:
            try:
                await client.create(slices, want)
                return
            except AlreadyExists:
                continue
        except Conflict:
            if attempt == _TRIES - 1:
                raise
