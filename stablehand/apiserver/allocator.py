"""Gives Services their cluster IPs and node ports. What is in use is read from the stored Services.

Allocation happens between validation and the write; the caller releases it when the write fails.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable

from stablehand.apiserver import errors
from stablehand.apiserver.core import Core
from stablehand.machinery.resources import Resource, resource
from stablehand.machinery.types import Obj

_SERVICES = resource("services")
# The first addresses are for those who ask by number (KEP-3070): DNS at .10, the API server at .1.
_RESERVED = 16


class ServiceAllocator:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._network = ipaddress.ip_network(core.config.service_cidr)
        self._ips: dict[str, str] = {}
        self._ports: dict[tuple[int, str], str] = {}
        for _, entry in core.storage.collection(_SERVICES).ordered():
            self._take(entry.obj)

    def _take(self, service: Obj) -> None:
        owner, spec = service["metadata"]["uid"], service.get("spec") or {}
        for ip in spec.get("clusterIPs") or ():
            if ip != "None":
                self._ips[ip] = owner
        for port in spec.get("ports") or ():
            if port.get("nodePort"):
                self._ports[(port["nodePort"], port.get("protocol", "TCP"))] = owner

    def release(self, row: Resource, service: Obj) -> None:
        """Frees what a deleted Service held."""
        if row.key != "services":
            return
        owner = service["metadata"]["uid"]
        self._ips = {ip: o for ip, o in self._ips.items() if o != owner}
        self._ports = {p: o for p, o in self._ports.items() if o != owner}

    def allocate(self, row: Resource, obj: Obj, old: Obj | None, dry_run: bool) -> Callable[[], None] | None:
        """Fills in clusterIP(s) and nodePorts of a Service; the answer undoes it. Raises StatusError 422."""
        if row.key != "services":
            return None
        ips, ports = dict(self._ips), dict(self._ports)
        owner = obj["metadata"]["uid"]
        try:
            self._ips = {ip: o for ip, o in self._ips.items() if o != owner}
            self._ports = {p: o for p, o in self._ports.items() if o != owner}
            self._cluster_ip(obj, old)
            self._node_ports(obj, old)
        except BaseException:
            self._ips, self._ports = ips, ports
            raise

        def undo() -> None:
            self._ips, self._ports = ips, ports

        if dry_run:
            undo()
        return undo

    def _cluster_ip(self, service: Obj, old: Obj | None) -> None:
        spec = service["spec"]
        owner = service["metadata"]["uid"]
        if spec.get("type") == "ExternalName":
            for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
                spec.pop(field, None)
            return
        spec.setdefault("ipFamilies", ["IPv4"])
        spec.setdefault("ipFamilyPolicy", "SingleStack")
        asked = spec.get("clusterIP") or (spec.get("clusterIPs") or [""])[0]
        if not asked and old is not None and old["spec"].get("clusterIP"):
            asked = old["spec"]["clusterIP"]
        if asked == "None":
            spec["clusterIP"], spec["clusterIPs"] = "None", ["None"]
            return
        if asked:
            self._check(service, asked)
        else:
            asked = self._free(service)
        self._ips[asked] = owner
        spec["clusterIP"], spec["clusterIPs"] = asked, [asked]

    def _check(self, service: Obj, ip: str) -> None:
        try:
            inside = ipaddress.ip_address(ip) in self._network
        except ValueError:
            inside = False
        why = ""
        if not inside:
            why = f"failed to allocate IP {ip}: the provided network does not match the current range"
        elif ip in self._ips:
            why = f"failed to allocate IP {ip}: provided IP is already allocated"
        if why:
            self._refuse(service, "spec.clusterIPs", f'["{ip}"]', why)

    def _refuse(self, service: Obj, field: str, value: str, why: str) -> None:
        name = service["metadata"]["name"]
        message = f"Invalid value: {value}: {why}"
        raise errors.invalid(
            "",
            "Service",
            name,
            f'Service "{name}" is invalid: {field}: {message}',
            [{"reason": "FieldValueInvalid", "message": message, "field": field}],
        )

    def _free(self, service: Obj) -> str:
        size = self._network.num_addresses
        base = int(self._network.network_address)
        first = min(_RESERVED, max(1, size // 16))
        for _ in range(64):
            ip = str(ipaddress.ip_address(base + random.randrange(first, size - 1)))
            if ip not in self._ips:
                return ip
        for offset in range(1, size - 1):
            ip = str(ipaddress.ip_address(base + offset))
            if ip not in self._ips:
                return ip
        raise errors.internal("failed to allocate a serviceIP: range is full")

    def _node_ports(self, service: Obj, old: Obj | None) -> None:
        spec = service["spec"]
        owner = service["metadata"]["uid"]
        wants = spec.get("type") == "NodePort" or (
            spec.get("type") == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not False
        )
        before = {
            (p.get("port"), p.get("protocol", "TCP")): p.get("nodePort")
            for p in ((old or {}).get("spec") or {}).get("ports") or ()
        }
        low, high = self._core.config.node_ports
        for index, port in enumerate(spec.get("ports") or ()):
            protocol = port.get("protocol", "TCP")
            if not wants:
                if spec.get("type") != "LoadBalancer":
                    port.pop("nodePort", None)
                if not port.get("nodePort"):
                    continue
            number = port.get("nodePort") or before.get((port.get("port"), protocol))
            if number:
                holder = self._ports.get((number, protocol))
                if not low <= number <= high:
                    why = f"provided port is not in the valid range. The range of valid ports is {low}-{high}"
                    self._refuse(service, f"spec.ports[{index}].nodePort", str(number), why)
                if holder is not None and holder != owner:
                    self._refuse(
                        service, f"spec.ports[{index}].nodePort", str(number), "provided port is already allocated"
                    )
            else:
                number = self._free_port(protocol)
            self._ports[(number, protocol)] = owner
            port["nodePort"] = number

    def _free_port(self, protocol: str) -> int:
        low, high = self._core.config.node_ports
        for _ in range(64):
            number = random.randint(low, high)
            if (number, protocol) not in self._ports:
                return number
        for number in range(low, high + 1):
            if (number, protocol) not in self._ports:
                return number
        raise errors.internal("failed to allocate a nodePort: range is full")
