"""Which pods stand behind a Service, at which addresses and ports. Pure; Endpoints and EndpointSlices build on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from stablehand.machinery import meta
from stablehand.machinery.conditions import is_pod_ready
from stablehand.machinery.pods import is_over
from stablehand.machinery.types import Obj

HEADLESS_LABEL = "service.kubernetes.io/headless"


@dataclass(frozen=True, slots=True)
class Port:
    """One resolved port of a Service, as a given pod offers it."""

    name: str
    port: int
    protocol: str
    app_protocol: str | None

    def as_object(self, *, named: bool) -> Obj:
        """`named` writes the name even when it is empty (EndpointSlices do)."""
        out: Obj = {"port": self.port, "protocol": self.protocol}
        if self.name or named:
            out["name"] = self.name
        if self.app_protocol:
            out["appProtocol"] = self.app_protocol
        return out


def selects(service: Obj, labels: dict[str, str]) -> bool:
    """Does the Service's (non-empty) selector match?"""
    selector = service["spec"].get("selector")
    return bool(selector) and all(labels.get(k) == v for k, v in selector.items())


def has_endpoints(service: Obj) -> bool:
    """Is it a Service for whose endpoints a controller cares?"""
    return bool(service["spec"].get("selector")) and service["spec"].get("type") != "ExternalName"


def publishes_unready(service: Obj) -> bool:
    return bool(service["spec"].get("publishNotReadyAddresses"))


def is_headless(service: Obj) -> bool:
    return service["spec"].get("clusterIP") in (None, "", "None")


def address(pod: Obj, family: str) -> str | None:
    """The pod's address of a family ("IPv4" or "IPv6")."""
    status = pod.get("status") or {}
    for entry in [*(status.get("podIPs") or ()), {"ip": status.get("podIP")}]:
        ip = entry.get("ip")
        if ip and (":" in ip) == (family == "IPv6"):
            return str(ip)
    return None


def is_candidate(pod: Obj, *, terminating: bool) -> bool:
    """Has the pod an address, and does it still run?"""
    if is_over(pod) or not (pod.get("status") or {}).get("podIP"):
        return False
    return terminating or not meta.deletion_timestamp(pod)


def is_ready(service: Obj, pod: Obj) -> bool:
    return publishes_unready(service) or (is_pod_ready(pod) and not meta.deletion_timestamp(pod))


def hostname(service: Obj, pod: Obj) -> str | None:
    """The pod's own name under the Service: only where its subdomain is the Service's name."""
    spec = pod["spec"]
    if spec.get("hostname") and spec.get("subdomain") == meta.name(service):
        if meta.namespace(pod) == meta.namespace(service):
            return str(spec["hostname"])
    return None


def ports(service: Obj, pod: Obj) -> tuple[Port, ...] | None:
    """The Service's ports on this pod; those that the pod does not have are left out. () for a headless Service
    without ports; None where ports are wanted and the pod has none of them."""
    wanted = service["spec"].get("ports") or ()
    if not wanted:
        return () if is_headless(service) else None
    found = []
    for port in wanted:
        number = _number(port, pod)
        if number is not None:
            protocol = port.get("protocol") or "TCP"
            found.append(Port(port.get("name") or "", number, protocol, port.get("appProtocol")))
    return tuple(found) or None


def _number(port: Obj, pod: Obj) -> int | None:
    target = port.get("targetPort") or port.get("port")
    if isinstance(target, int):
        return target
    if str(target).isdigit():
        return int(str(target))
    spec = pod["spec"]
    sidecars = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    for container in [*(spec.get("containers") or ()), *sidecars]:
        for offered in container.get("ports") or ():
            same = (offered.get("protocol") or "TCP") == (port.get("protocol") or "TCP")
            if offered.get("name") == target and same:
                return int(offered["containerPort"])
    return None


def target_reference(pod: Obj) -> Obj:
    return {"kind": "Pod", "namespace": meta.namespace(pod), "name": meta.name(pod), "uid": meta.uid(pod)}


def affected(services: Iterable[Obj], event: str, old: Obj | None, pod: Obj) -> list[Obj]:
    """The Services (of the pod's namespace) whose endpoints a change of the pod may concern."""
    if event == "MODIFIED" and old is not None and not change_matters(old, pod):
        return []
    if event == "ADDED" and not (pod.get("status") or {}).get("podIP"):
        return []
    now, before = meta.labels(pod), meta.labels(old) if old is not None else None
    return [s for s in services if selects(s, now) or (before is not None and selects(s, before))]


def change_matters(old: Obj, new: Obj) -> bool:
    """Does the change of a pod concern the Services that select it?"""
    before, after = old["metadata"], new["metadata"]
    if before.get("labels") != after.get("labels"):
        return True
    if before.get("deletionTimestamp") != after.get("deletionTimestamp"):
        return True
    was, is_ = old.get("status") or {}, new.get("status") or {}
    if was.get("podIP") != is_.get("podIP") or was.get("podIPs") != is_.get("podIPs"):
        return True
    if is_over(old) != is_over(new) or is_pod_ready(old) != is_pod_ready(new):
        return True
    return bool(old["spec"].get("nodeName") != new["spec"].get("nodeName") and is_.get("podIP"))
