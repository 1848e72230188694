"""Gives a Service its cluster address and node ports between its validation and its write, and takes them back."""

from __future__ import annotations

from stablehand.apiserver import errors
from stablehand.apiserver.allocation import addresses, ports
from stablehand.apiserver.contract import StatusError
from stablehand.apiserver.core import Core
from stablehand.machinery.resources import Resource
from stablehand.machinery.types import Obj


class Allocation:
    """What one write of a Service was given. Exactly one of `keep` and `undo` is called."""

    def __init__(self, allocator: ServiceAllocator, service: Obj, old: Obj | None) -> None:
        self._allocator, self._service, self._old = allocator, service, old
        self.taken: list[str] = []

    async def keep(self) -> None:
        """The write is through: what the Service no longer has is free."""
        self._allocator.ports.settle(self._service["metadata"]["uid"])
        if self._old is not None:
            for ip in set(addresses.held(self._old)) - set(addresses.held(self._service)):
                await self._allocator.addresses.give_back(ip, addresses.parent_of(self._old))

    async def undo(self) -> None:
        self._allocator.ports.settle(self._service["metadata"]["uid"])
        for ip in self.taken:
            await self._allocator.addresses.give_back(ip, addresses.parent_of(self._service))


class ServiceAllocator:
    def __init__(self, core: Core) -> None:
        self.addresses = addresses.ClusterAddresses(core)
        self.ports = ports.NodePorts(core)

    async def release(self, row: Resource, service: Obj) -> None:
        """Frees what a deleted Service held."""
        if row.key == "services":
            for ip in addresses.held(service):
                await self.addresses.give_back(ip, addresses.parent_of(service))

    async def allocate(self, row: Resource, service: Obj, old: Obj | None, dry_run: bool) -> Allocation | None:
        """Fills in clusterIP(s), nodePorts and healthCheckNodePort. None for other kinds, and for a dry run, which
        holds nothing. Raises StatusError 422."""
        if row.key != "services":
            return None
        allocation = Allocation(self, service, old)
        try:
            self._node_ports(service, old)
            await self._cluster_ip(allocation, service, old)
        except BaseException:
            await allocation.undo()
            raise
        if dry_run:
            await allocation.undo()
            return None
        return allocation

    async def _cluster_ip(self, allocation: Allocation, service: Obj, old: Obj | None) -> None:
        spec = service["spec"]
        if spec.get("type") == "ExternalName":
            for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
                spec.pop(field, None)
            return
        spec.setdefault("ipFamilies", ["IPv4"])
        spec.setdefault("ipFamilyPolicy", "SingleStack")
        before = addresses.held(old) if old is not None else []
        asked = spec.get("clusterIP") or (spec.get("clusterIPs") or [""])[0] or (before[0] if before else "")
        if asked == "None":
            spec["clusterIP"], spec["clusterIPs"] = "None", ["None"]
            return
        if asked not in before:
            if asked:
                try:
                    await self.addresses.take(service, asked)
                except addresses.Refused as e:
                    raise _invalid(service, "spec.clusterIPs", f'["{asked}"]', str(e)) from None
            else:
                asked = await self.addresses.take_any(service)
            allocation.taken.append(asked)
        spec["clusterIP"], spec["clusterIPs"] = asked, [asked]

    def _node_ports(self, service: Obj, old: Obj | None) -> None:
        spec, owner = service["spec"], service["metadata"]["uid"]
        balancer = spec.get("type") == "LoadBalancer"
        wants = spec.get("type") == "NodePort" or (balancer and spec.get("allocateLoadBalancerNodePorts") is not False)
        before = {
            (p.get("port"), p.get("protocol") or "TCP"): p.get("nodePort")
            for p in ((old or {}).get("spec") or {}).get("ports") or ()
        }
        for index, port in enumerate(spec.get("ports") or ()):
            protocol = port.get("protocol") or "TCP"
            if not wants:
                if not balancer:
                    port.pop("nodePort", None)
                if not port.get("nodePort"):
                    continue
            number = port.get("nodePort") or before.get((port.get("port"), protocol))
            # Two ports of one Service may share a number, if they differ in protocol; in a new Service, those of one
            # port number do (TCP and UDP of one server).
            if not number and old is None:
                number = self._shared(spec["ports"], port)
            if number:
                self._take(service, number, protocol, f"spec.ports[{index}].nodePort")
            else:
                number = self.ports.take_any(protocol, owner)
            port["nodePort"] = number
        if balancer and spec.get("externalTrafficPolicy") == "Local":
            if spec.get("healthCheckNodePort"):
                self._take(service, spec["healthCheckNodePort"], "TCP", "spec.healthCheckNodePort")
            else:
                spec["healthCheckNodePort"] = self.ports.take_any("TCP", owner)

    def _shared(self, ports_: list[Obj], port: Obj) -> int:
        """The node port that another protocol has for the same port number, if it can be had for this one too."""
        protocol = port.get("protocol") or "TCP"
        for other in ports_:
            number = other.get("nodePort") or 0
            if number and other.get("port") == port.get("port") and (other.get("protocol") or "TCP") != protocol:
                if self.ports.is_free(number, protocol):
                    return int(number)
        return 0

    def _take(self, service: Obj, number: int, protocol: str, field: str) -> None:
        try:
            self.ports.take(number, protocol, service["metadata"]["uid"])
        except ports.Refused as e:
            raise _invalid(service, field, str(number), str(e)) from None


def _invalid(service: Obj, field: str, value: str, why: str) -> StatusError:
    name = service["metadata"]["name"]
    message = f"Invalid value: {value}: {why}"
    cause = {"reason": "FieldValueInvalid", "message": message, "field": field}
    return errors.invalid("", "Service", name, f'Service "{name}" is invalid: {field}: {message}', [cause])
