"""Cluster addresses of Services. Each that is in use is an IPAddress object, and making that object is the lock:
API servers that share a store cannot give out one address twice (KEP-1880). The ranges are the ServiceCIDRs.
"""

from __future__ import annotations

import ipaddress
import random
import uuid

from stablehand.apiserver import errors
from stablehand.apiserver.core import Core
from stablehand.machinery.conditions import get_condition
from stablehand.machinery.resources import resource
from stablehand.machinery.times import format_time, parse_time
from stablehand.machinery.types import Obj
from stablehand.store.contract import RevisionMismatch

SERVICES = resource("services")
ADDRESSES = resource("ipaddresses.networking.k8s.io")
CIDRS = resource("servicecidrs.networking.k8s.io")
MANAGED_BY, MANAGER = "ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io"
# The first addresses of a range are for those who ask by number (KEP-3070): the API server at .1, DNS at .10.
_RESERVED = 16
_TRIES = 64
_YOUNG = 60.0  # seconds


class Refused(Exception):
    """The address asked for cannot be had; the text says why, as upstream words it."""


def held(service: Obj) -> list[str]:
    """The addresses a Service has (or asks for)."""
    spec = service.get("spec") or {}
    return [ip for ip in spec.get("clusterIPs") or () if ip and ip != "None"]


class ClusterAddresses:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._services = core.storage.collection(SERVICES)
        self._addresses = core.storage.collection(ADDRESSES)
        self._cidrs = core.storage.collection(CIDRS)
        self._default = ipaddress.ip_network(core.config.service_cidr)

    def networks(self) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        """The ranges to take from: those of ServiceCIDRs that are not going away, the first one first."""
        found = [self._default]
        for _, entry in self._cidrs.ordered():
            ready = get_condition(entry.obj.get("status"), "Ready")
            if entry.obj["metadata"].get("deletionTimestamp") or (ready is not None and ready["status"] != "True"):
                continue
            for text in entry.obj["spec"].get("cidrs") or ():
                network = ipaddress.ip_network(text, strict=False)
                if network.version == self._default.version and network not in found:
                    found.append(network)
        return found

    async def repair(self) -> None:
        """Brings IPAddress objects in line with the stored Services: what a crash between two writes left."""
        wanted = {ip: entry.obj for _, entry in self._services.ordered() for ip in held(entry.obj)}
        for ip, service in wanted.items():
            if self._addresses.get(("", ip)) is None:
                await self._put(ip, service)
        for (_, ip), entry in list(self._addresses.entries.items()):
            if ip not in wanted and (entry.obj["metadata"].get("labels") or {}).get(MANAGED_BY) == MANAGER:
                await self.give_back(ip, entry.obj["spec"]["parentRef"])

    async def take(self, service: Obj, ip: str) -> None:
        """Takes one address for a Service. Raises Refused."""
        try:
            address = ipaddress.ip_address(ip)
        except ValueError:
            raise Refused(f"failed to allocate IP {ip}: the provided IP is not valid") from None
        if not any(address in network for network in self.networks()):
            raise Refused(f"failed to allocate IP {ip}: the provided network does not match the current range")
        if await self._put(ip, service):
            return
        if (left := self._left_behind(ip)) is not None:
            await self.give_back(ip, left)
            if await self._put(ip, service):
                return
        raise Refused(f"failed to allocate IP {ip}: provided IP is already allocated")

    def _left_behind(self, ip: str) -> Obj | None:
        """The parentRef of an address whose Service is no more; not of a young one: its Service may be on the way."""
        entry = self._addresses.get(("", ip))
        if entry is None or self._core.clock() - parse_time(entry.obj["metadata"]["creationTimestamp"]) < _YOUNG:
            return None
        parent: Obj = (entry.obj.get("spec") or {}).get("parentRef") or {}
        holder = self._services.get((parent.get("namespace", ""), parent.get("name", "")))
        return None if holder is not None and ip in held(holder.obj) else parent

    async def take_any(self, service: Obj) -> str:
        """Takes a free address. Raises StatusError when there is none."""
        for network in self.networks():
            size, base = network.num_addresses, int(network.network_address)
            first = min(_RESERVED, max(1, size // 16))
            tried = [
                str(ipaddress.ip_address(base + random.randrange(first, max(first + 1, size - 1))))
                for _ in range(_TRIES)
            ]
            rest = (str(ipaddress.ip_address(base + offset)) for offset in range(1, size - 1))
            for ip in (*tried, *rest) if size <= 4096 else tried:
                if self._addresses.get(("", ip)) is None and await self._put(ip, service):
                    return ip
        raise errors.internal("failed to allocate a serviceIP: range is full")

    async def give_back(self, ip: str, parent: Obj) -> None:
        """Frees an address that a Service (its parentRef) held."""
        entry = self._addresses.get(("", ip))
        if entry is None or (entry.obj["spec"].get("parentRef") or {}) != parent:
            return
        try:
            await self._core.storage.delete(self._addresses, ("", ip), entry.revision)
        except RevisionMismatch:
            pass  # somebody else did

    async def _put(self, ip: str, service: Obj) -> bool:
        family = "IPv6" if ":" in ip else "IPv4"
        obj: Obj = {
            "kind": "IPAddress",
            "apiVersion": ADDRESSES.api_version,
            "metadata": {
                "name": ip,
                "uid": str(uuid.uuid4()),
                "creationTimestamp": format_time(self._core.clock()),
                "labels": {"ipaddress.kubernetes.io/ip-family": family, MANAGED_BY: MANAGER},
            },
            "spec": {"parentRef": parent_of(service)},
        }
        try:
            await self._core.storage.put(self._addresses, ("", ip), obj, 0)
        except RevisionMismatch:
            return False
        return True


def _key(service: Obj) -> tuple[str, str]:
    meta = service["metadata"]
    return meta["namespace"], meta["name"]


def parent_of(service: Obj) -> Obj:
    """The parentRef of a Service's addresses."""
    namespace, name = _key(service)
    return {"resource": "services", "namespace": namespace, "name": name}
